#include "comm/quota.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_file(const char *folder, const char *name, char *text, size_t bytes) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return false;
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t length = fread(text, 1, bytes - 1, file);
    fclose(file);
    text[length] = '\0';
    return length > 0;
}

/* A control group's own limit in cores; infinite where it has none. */
static double limit_of(const char *folder) {
    char text[128], period_text[64];
    double quota = 0, period = 0;
    if (read_file(folder, "cpu.max", text, sizeof text)) {
        /* version 2: "QUOTA PERIOD", or "max PERIOD" */
        if (sscanf(text, "%lf %lf", &quota, &period) != 2) return INFINITY;
    } else if (read_file(folder, "cpu.cfs_quota_us", text, sizeof text) &&
               read_file(folder, "cpu.cfs_period_us", period_text, sizeof period_text)) {
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

/* Looks at the group at mount/group and at all its parents up to the mount. */
static void search_upwards(const char *mount, const char *group, lks_cpu_quota *lowest) {
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) return;
    size_t mount_length = strlen(mount);
    for (;;) {
        double cores = limit_of(folder);
        if (cores < lowest->cores) *lowest = (lks_cpu_quota){cores, hash(folder)};
        if (strlen(folder) <= mount_length) return;
        *strrchr(folder, '/') = '\0';
    }
}

/* Is "cpu" in a list such as "cpu,cpuacct"? */
static bool lists_cpu(const char *controllers) {
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0')) return true;
    }
    return false;
}

/* One line of /proc/PID/cgroup: "ID:CONTROLLERS:GROUP", CONTROLLERS empty in version 2. */
static void search_line(const char *root, char *line, lks_cpu_quota *lowest) {
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) return;
    *group++ = '\0';
    controllers++;
    char mount[PATH_MAX];
    if (strcmp(group, "/") == 0) group = "";
    if (controllers[0] == '\0') {
        search_upwards(root, group, lowest);
    } else if (lists_cpu(controllers) &&
               snprintf(mount, sizeof mount, "%s/cpu", root) < (int)sizeof mount) {
        search_upwards(mount, group, lowest);
    }
}

lks_cpu_quota lks_cpu_quota_find(const char *root, const char *membership) {
    lks_cpu_quota lowest = {.cores = INFINITY};
    char line[PATH_MAX];
    while (*membership) {
        size_t length = strcspn(membership, "\n");
        if (length < sizeof line) {
            memcpy(line, membership, length);
            line[length] = '\0';
            search_line(root, line, &lowest);
        }
        membership += length + (membership[length] == '\n');
    }
    return lowest;
}

lks_cpu_quota lks_cpu_quota_own(void) {
    char membership[8192];
    if (!read_file("/proc/self", "cgroup", membership, sizeof membership))
        return (lks_cpu_quota){.cores = INFINITY};
    return lks_cpu_quota_find("/sys/fs/cgroup", membership);
}
