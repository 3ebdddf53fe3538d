#include "app/plan_model.h"

#include <math.h>
#include <stdlib.h>

/* ---- communication ---- */

/* Rounds of messages, one after the other: halving and doubling take log2(p), an all-reduce is a
 * reduce-scatter and an all-gather (Thakur, Rabenseifner and Gropp 2005). */
static double rounds(lks_collective kind, int ranks) {
    return (kind == LKS_ALL_REDUCE ? 2 : 1) * ceil(log2(ranks));
}

static double flat(const lks_link *link, lks_collective kind, int ranks, double bytes) {
    if (ranks < 2) return 0;
    return rounds(kind, ranks) * link->latency[kind] +
           lks_collective_bus_factor(kind, ranks) * bytes * link->byte_seconds[kind];
}

/* Within the nodes first and last, and between them every rank with its like on the other nodes,
 * each with its share of the bytes. */
double lks_plan_collective(const lks_cluster *cluster, lks_collective kind, int ranks,
                           double bytes) {
    const int per_node = ranks < cluster->ranks_per_node ? ranks : cluster->ranks_per_node;
    const int nodes = (ranks + per_node - 1) / per_node;
    const double share = bytes / per_node;
    if (nodes == 1) return flat(&cluster->node, kind, ranks, bytes);
    double seconds = flat(&cluster->network, kind, nodes, share);
    if (kind == LKS_ALL_REDUCE)
        return seconds + flat(&cluster->node, LKS_REDUCE_SCATTER, per_node, bytes) +
               flat(&cluster->node, LKS_ALL_GATHER, per_node, bytes);
    return seconds + flat(&cluster->node, kind, per_node, bytes);
}

/* What rounds cost shows with the fewest bytes, and what bytes cost with the most: in between
 * caches and pipelines bend the line, and its ends are what short and long messages have. */
static lks_status fit_kind(const lks_comm_sample *samples, int count, int ranks,
                           lks_collective kind, lks_link *out) {
    const lks_comm_sample *small = NULL, *large = NULL;
    for (int i = 0; i < count; i++) {
        if (samples[i].kind != kind) continue;
        if (!small || samples[i].bytes < small->bytes) small = &samples[i];
        if (!large || samples[i].bytes > large->bytes) large = &samples[i];
    }
    if (!small || small->bytes == large->bytes)
        return lks_fail(LKS_EDATA, "%s: expected measurements of two sizes or more",
                        lks_collective_name(kind));
    const double passed = lks_collective_bus_factor(kind, ranks);
    double byte_seconds =
        (large->seconds - small->seconds) / (passed * (double)(large->bytes - small->bytes));
    if (byte_seconds < 0) byte_seconds = 0;
    const double latency =
        (small->seconds - passed * (double)small->bytes * byte_seconds) / rounds(kind, ranks);
    out->latency[kind] = latency < 0 ? 0 : latency;
    out->byte_seconds[kind] = byte_seconds;
    return LKS_OK;
}

lks_status lks_link_fit(const lks_comm_sample *samples, int count, int ranks, lks_link *out) {
    lks_status status = LKS_OK;
    for (int kind = 0; kind < LKS_COMM_BENCH_KINDS && !status; kind++)
        status = fit_kind(samples, count, ranks, (lks_collective)kind, out);
    return status;
}

/* ---- computing ---- */

void lks_plan_profile_free(lks_plan_profile *profile) {
    free(profile->layer_backward);
    profile->layer_backward = NULL;
}

lks_line lks_line_fit(const double *x, const double *y, int count) {
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < count; i++) {
        sx += x[i];
        sy += y[i];
        sxx += x[i] * x[i];
        sxy += x[i] * y[i];
    }
    const double determinant = count * sxx - sx * sx;
    const lks_line through_origin = {.per_unit = sxx > 0 ? sxy / sxx : 0};
    if (!(determinant > 1e-6 * count * sxx)) return through_origin;
    const lks_line line = {.fixed = (sy * sxx - sx * sxy) / determinant,
                           .per_unit = (count * sxy - sx * sy) / determinant};
    if (line.per_unit < 0) return (lks_line){.fixed = sy / count};
    return line.fixed < 0 ? through_origin : line;
}

static double at(const lks_line *line, double units) {
    return line->fixed + line->per_unit * units;
}

/* One quantity of every profile, found at the same offset in each. */
static lks_line fit_member(const lks_plan_profile *profiles, int count, size_t x_offset,
                           size_t y_offset, double *scratch) {
    for (int i = 0; i < count; i++) {
        scratch[i] = *(const double *)((const char *)&profiles[i] + x_offset);
        scratch[count + i] = *(const double *)((const char *)&profiles[i] + y_offset);
    }
    return lks_line_fit(scratch, scratch + count, count);
}

static lks_status check_layers(const lks_plan_profile *profiles, int count) {
    for (int i = 1; i < count; i++)
        if (profiles[i].layer_count != profiles[0].layer_count)
            return lks_fail(LKS_EDATA,
                            "the profiles have %d and %d layers: expected profiles of "
                            "one model",
                            profiles[0].layer_count, profiles[i].layer_count);
    return LKS_OK;
}

#define FIT(x_, y_)                                                                             \
    fit_member(profiles, count, offsetof(lks_plan_profile, x_), offsetof(lks_plan_profile, y_), \
               scratch)

/* What of backward belongs to no layer, and each layer's part. scratch: [3 * count]. */
static void fit_backward(const lks_plan_profile *profiles, int count, double *scratch,
                         lks_pace *out) {
    double *rows = scratch, *seconds = scratch + count, *rest = scratch + 2 * count;
    for (int i = 0; i < count; i++) {
        rows[i] = profiles[i].rows;
        rest[i] = profiles[i].backward;
    }
    for (int layer = 0; layer < out->layer_count; layer++) {
        for (int i = 0; i < count; i++) {
            seconds[i] = profiles[i].layer_backward[layer];
            rest[i] -= seconds[i];
        }
        out->backward[layer] = lks_line_fit(rows, seconds, count);
    }
    out->loss = lks_line_fit(rows, rest, count);
}

lks_status lks_pace_fit(const lks_plan_profile *profiles, int count, lks_pace *out) {
    *out = (lks_pace){.layer_count = profiles[0].layer_count};
    lks_status status = check_layers(profiles, count);
    if (status) return status;
    double *scratch = calloc(3 * (size_t)count, sizeof *scratch);
    out->backward = calloc((size_t)out->layer_count + 1, sizeof *out->backward);
    if (!scratch || !out->backward) {
        free(scratch);
        lks_pace_free(out);
        return lks_fail(LKS_ENOMEM, "out of memory");
    }
    out->input = FIT(rows, input);
    out->forward = FIT(rows, forward);
    out->optimizer = FIT(updated, optimizer);
    fit_backward(profiles, count, scratch, out);
    for (int i = 0; i < count; i++)
        out->other += profiles[i].other / count;
    free(scratch);
    return LKS_OK;
}

void lks_pace_free(lks_pace *pace) {
    free(pace->backward);
    pace->backward = NULL;
}

/* ---- a step ---- */

/* Two clocks: computing goes on at `now`, communication at `free`. */
typedef struct timeline {
    const lks_cluster *cluster;
    int ranks;
    double slow; /* how much longer computing takes where threads share cores */
    double now, free;
    double computing, communication;
} timeline;

static void compute(timeline *t, double seconds) {
    t->now += t->slow * seconds;
    t->computing += t->slow * seconds;
}

/* Behind what is under way; computing goes on beside it where it can. */
static void transfer(timeline *t, lks_collective kind, double bytes) {
    if (t->ranks < 2) return;
    const double seconds = lks_plan_collective(t->cluster, kind, t->ranks, bytes);
    t->free = (t->now > t->free ? t->now : t->free) + seconds;
    t->communication += seconds;
    if (!t->cluster->overlaps) t->now = t->free;
}

static void wait(timeline *t) {
    if (t->free > t->now) t->now = t->free;
}

/* The sum of a few numbers. */
static void transfer_small(timeline *t) {
    enum { BYTES = 64 };
    transfer(t, LKS_ALL_REDUCE, BYTES);
}

static double slow_down(const lks_cluster *cluster, int ranks) {
    const int neighbours = ranks < cluster->ranks_per_node ? ranks : cluster->ranks_per_node;
    const double wanted = (double)neighbours * cluster->threads;
    return cluster->cores > 0 && wanted > cluster->cores ? wanted / cluster->cores : 1;
}

static void run_backward(timeline *t, const lks_pace *pace, const lks_outline *outline,
                         int zero_stage) {
    const lks_collective kind = zero_stage == 2 ? LKS_REDUCE_SCATTER : LKS_ALL_REDUCE;
    const double rows = (double)outline->rows;
    int bucket = 0;
    compute(t, at(&pace->loss, rows));
    for (int layer = pace->layer_count - 1; layer >= 0; layer--) {
        compute(t, at(&pace->backward[layer], rows));
        for (; bucket < outline->bucket_count && outline->buckets[bucket].layer >= layer; bucket++)
            transfer(t, kind, (double)outline->buckets[bucket].bytes);
    }
    wait(t);
}

static void run_update(timeline *t, const lks_pace *pace, const lks_outline *outline,
                       int zero_stage) {
    const double seconds = at(&pace->optimizer, (double)outline->updated);
    double bytes = 0;
    for (int b = 0; b < outline->bucket_count; b++)
        bytes += (double)outline->buckets[b].bytes;
    for (int b = 0; b < outline->bucket_count; b++) {
        const double part = (double)outline->buckets[b].bytes;
        compute(t, seconds * part / bytes);
        if (zero_stage > 0) transfer(t, LKS_ALL_GATHER, part);
    }
    wait(t);
}

lks_forecast lks_plan_step(const lks_pace *pace, const lks_cluster *cluster,
                           const lks_outline *outline, int ranks, int zero_stage) {
    timeline t = {.cluster = cluster, .ranks = ranks, .slow = slow_down(cluster, ranks)};
    const double rows = (double)outline->rows;
    compute(&t, pace->other + at(&pace->input, rows) + at(&pace->forward, rows));
    for (int i = 0; i < 2 * outline->synchronized_count; i++) { /* forward and backward */
        transfer_small(&t);
        wait(&t);
    }
    transfer_small(&t); /* the step's sums: while backward runs */
    run_backward(&t, pace, outline, zero_stage);
    transfer_small(&t); /* the norm */
    wait(&t);
    run_update(&t, pace, outline, zero_stage);
    return (lks_forecast){.step = t.now,
                          .computing = t.computing,
                          .communication = t.communication,
                          .exposed = t.now - t.computing};
}
