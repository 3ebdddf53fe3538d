#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"

/* The number behind a word at the begin of a line; -1 where there is none. */
static int64_t number_after(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, length) == 0) return strtoll(line + length, NULL, 10);
    }
    return -1;
}

static int64_t read_number(const char *folder, const char *name) {
    char text[64];
    if (!lks_cgroup_read(folder, name, text, sizeof text)) return -1;
    char *end;
    int64_t number = strtoll(text, &end, 10);
    return end == text ? -1 : number; /* "max" */
}

/* What a group's limit leaves; the file cache counts as used there, and goes when it must. */
static void keep_least(void *data, const char *folder) {
    static const struct {
        const char *limit, *used, *cache;
    } versions[] = {
        {"memory.max", "memory.current", "inactive_file "},
        {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
    };
    int64_t *least = data;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        char stat[8192] = "";
        int64_t limit = read_number(folder, versions[i].limit);
        int64_t used = read_number(folder, versions[i].used);
        if (limit < 0 || used < 0) continue;
        int64_t cache = lks_cgroup_read(folder, "memory.stat", stat, sizeof stat)
                            ? number_after(stat, versions[i].cache)
                            : 0;
        int64_t left = limit - used + (cache > 0 ? cache : 0);
        if (left < 0) left = 0;
        if (left < *least) *least = left;
    }
}

static int64_t available_of(const char *meminfo) {
    int64_t kib = number_after(meminfo, "MemAvailable:");
    return kib < 0 ? INT64_MAX : kib * 1024;
}

int64_t lks_memory_available_in(const char *meminfo, const char *root, const char *membership) {
    int64_t least = available_of(meminfo);
    lks_cgroup_visit(root, membership, "memory", keep_least, &least);
    return least;
}

int64_t lks_memory_available(void) {
    char meminfo[8192] = "";
    lks_cgroup_read("/proc", "meminfo", meminfo, sizeof meminfo);
    int64_t least = available_of(meminfo);
    lks_cgroup_visit_own("memory", keep_least, &least);
    return least;
}
