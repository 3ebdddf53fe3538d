#include "comm/quota.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

/* A control group's own limit in cores; infinite where it has none. */
static double limit_of(const char *folder) {
    char text[128], period_text[64];
    double quota = 0, period = 0;
    if (lks_cgroup_read(folder, "cpu.max", text, sizeof text)) {
        /* version 2: "QUOTA PERIOD", or "max PERIOD" */
        if (sscanf(text, "%lf %lf", &quota, &period) != 2) return INFINITY;
    } else if (lks_cgroup_read(folder, "cpu.cfs_quota_us", text, sizeof text) &&
               lks_cgroup_read(folder, "cpu.cfs_period_us", period_text, sizeof period_text)) {
        /* version 1: -1 is no limit */
        quota = strtod(text, NULL);
        period = strtod(period_text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : INFINITY;
}

/* FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo) */
static uint64_t hash(const char *text) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h;
}

static void keep_lowest(void *data, const char *folder) {
    lks_cpu_quota *lowest = data;
    double cores = limit_of(folder);
    if (cores < lowest->cores) *lowest = (lks_cpu_quota){cores, hash(folder)};
}

lks_cpu_quota lks_cpu_quota_find(const char *root, const char *membership) {
    lks_cpu_quota lowest = {.cores = INFINITY};
    lks_cgroup_visit(root, membership, "cpu", keep_lowest, &lowest);
    return lowest;
}

lks_cpu_quota lks_cpu_quota_own(void) {
    lks_cpu_quota lowest = {.cores = INFINITY};
    lks_cgroup_visit_own("cpu", keep_lowest, &lowest);
    return lowest;
}
