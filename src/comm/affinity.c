#include "comm/affinity.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- masks ---- */

void lks_cpu_mask_add(lks_cpu_mask *mask, int cpu) {
    mask->word[cpu / 64] |= UINT64_C(1) << cpu % 64;
}

bool lks_cpu_mask_has(const lks_cpu_mask *mask, int cpu) {
    return mask->word[cpu / 64] >> cpu % 64 & 1;
}

int lks_cpu_mask_count(const lks_cpu_mask *mask) {
    int count = 0;
    for (int w = 0; w < LKS_CPU_WORDS; w++)
        count += __builtin_popcountll(mask->word[w]);
    return count;
}

void lks_cpu_mask_unite(lks_cpu_mask *mask, const lks_cpu_mask *other) {
    for (int w = 0; w < LKS_CPU_WORDS; w++)
        mask->word[w] |= other->word[w];
}

bool lks_cpu_mask_equal(const lks_cpu_mask *a, const lks_cpu_mask *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

const char *lks_cpu_mask_text(const lks_cpu_mask *mask, char *text) {
    enum { RANGE_BYTES = 16 }; /* ",8190-8191" and the mark of omission */
    size_t length = 0;
    text[0] = '\0';
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        if (!lks_cpu_mask_has(mask, cpu)) continue;
        int last = cpu;
        while (last + 1 < LKS_CPU_COUNT && lks_cpu_mask_has(mask, last + 1))
            last++;
        const char *comma = length > 0 ? "," : "";
        if (length + RANGE_BYTES > LKS_CPU_TEXT_BYTES) {
            snprintf(text + length, LKS_CPU_TEXT_BYTES - length, "%s...", comma);
            break;
        }
        length += (size_t)snprintf(text + length, LKS_CPU_TEXT_BYTES - length,
                                   last > cpu ? "%s%d-%d" : "%s%d", comma, cpu, last);
        cpu = last;
    }
    return text;
}

/* ---- the operating system ---- */

void lks_cpu_mask_of_process(pid_t process, lks_cpu_mask *out) {
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(process, sizeof out->word, (cpu_set_t *)out->word) == 0) return;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    for (int cpu = 0; cpu < online && cpu < LKS_CPU_COUNT; cpu++)
        lks_cpu_mask_add(out, cpu);
}

bool lks_cpu_mask_apply(const lks_cpu_mask *mask) {
    return sched_setaffinity(0, sizeof mask->word, (const cpu_set_t *)mask->word) == 0;
}

/* The first number in a file that describes a CPU's place; `otherwise` where there is none. */
static int read_topology(int cpu, const char *name, int otherwise) {
    char path[96], line[64] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    FILE *file = fopen(path, "r");
    if (!file) return otherwise;
    char *end = line;
    long number = fgets(line, sizeof line, file) ? strtol(line, &end, 10) : 0;
    fclose(file);
    return end > line && number >= 0 && number < LKS_CPU_COUNT ? (int)number : otherwise;
}

void lks_cpu_places_read(const lks_cpu_mask *mask, lks_cpu_place *places) {
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        places[cpu] = (lks_cpu_place){.core = cpu};
        if (!lks_cpu_mask_has(mask, cpu)) continue;
        places[cpu].core = read_topology(cpu, "thread_siblings_list", cpu);
        places[cpu].package = read_topology(cpu, "physical_package_id", 0);
    }
}

/* ---- cores ---- */

void lks_cpu_mask_cores(const lks_cpu_mask *mask, const lks_cpu_place *places, lks_cpu_mask *out) {
    memset(out, 0, sizeof *out);
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        if (lks_cpu_mask_has(mask, cpu)) lks_cpu_mask_add(out, places[cpu].core);
    }
}

static int compare_places(const void *a, const void *b) {
    const lks_cpu_place *x = a, *y = b;
    if (x->package != y->package) return x->package < y->package ? -1 : 1;
    return (x->core > y->core) - (x->core < y->core);
}

lks_status lks_cpu_mask_share(const lks_cpu_mask *mask, const lks_cpu_place *places, int part,
                              int parts, lks_cpu_mask *out) {
    lks_cpu_mask cores;
    lks_cpu_mask_cores(mask, places, &cores);
    int count = lks_cpu_mask_count(&cores);
    if (count < parts) {
        *out = *mask;
        return LKS_OK;
    }
    lks_cpu_place *order = malloc((size_t)count * sizeof *order);
    if (!order) return lks_fail(LKS_ENOMEM, "out of memory for a list of %d cores", count);
    /* A core's lowest CPU need not be in the mask, so the package is asked of those that are. */
    int next = 0;
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        if (!lks_cpu_mask_has(mask, cpu) || !lks_cpu_mask_has(&cores, places[cpu].core)) continue;
        order[next++] = places[cpu];
        cores.word[places[cpu].core / 64] &= ~(UINT64_C(1) << places[cpu].core % 64);
    }
    qsort(order, (size_t)count, sizeof *order, compare_places);

    int64_t begin, end;
    lks_split(count, part, parts, &begin, &end);
    lks_cpu_mask chosen = {0};
    for (int64_t i = begin; i < end; i++)
        lks_cpu_mask_add(&chosen, order[i].core);
    free(order);
    memset(out, 0, sizeof *out);
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        if (lks_cpu_mask_has(mask, cpu) && lks_cpu_mask_has(&chosen, places[cpu].core))
            lks_cpu_mask_add(out, cpu);
    }
    return LKS_OK;
}
