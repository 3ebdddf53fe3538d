#include "app/plan_model.h"

/* Within the nodes first and last, and between them every rank with its like on the other nodes,
 * each with its share of the bytes. */
double lks_plan_collective(const lks_cluster *cluster, lks_collective kind, int ranks,
                           double bytes) {
    const int per_node = ranks < cluster->ranks_per_node ? ranks : cluster->ranks_per_node;
    const int nodes = (ranks + per_node - 1) / per_node;
    const double share = bytes / per_node;
    if (nodes == 1) return lks_link_seconds(&cluster->node, kind, ranks, bytes);
    double seconds = lks_link_seconds(&cluster->network, kind, nodes, share);
    if (kind == LKS_ALL_REDUCE)
        return seconds + lks_link_seconds(&cluster->node, LKS_REDUCE_SCATTER, per_node, bytes) +
               lks_link_seconds(&cluster->node, LKS_ALL_GATHER, per_node, bytes);
    return seconds + lks_link_seconds(&cluster->node, kind, per_node, bytes);
}

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

/* The cores of a node cannot do the work of its ranks, computing and reading samples, in less time
 * than all of them together take for it. */
static double slow_down(const lks_pace *pace, const lks_cluster *cluster,
                        const lks_outline *outline, int ranks) {
    const double rows = (double)outline->rows;
    const int neighbours = ranks < cluster->ranks_per_node ? ranks : cluster->ranks_per_node;
    const double alone = lks_pace_seconds(pace, rows, (double)outline->updated);
    const double work = neighbours * (cluster->threads * alone + lks_line_at(&pace->loader, rows));
    return cluster->cores > 0 && work > cluster->cores * alone ? work / (cluster->cores * alone)
                                                               : 1;
}

/* What the timeline goes through, of one rank. */
typedef struct plan {
    const lks_pace *pace;
    const lks_outline *outline;
    int zero_stage;
    double rows; /* of a step */
} plan;

/* Batch norm's sums, which everybody waits for. */
static void run_statistics(timeline *t, const plan *p) {
    for (int i = 0; i < p->outline->synchronized_count; i++) {
        transfer_small(t);
        wait(t);
    }
}

/* part: of the step's samples. */
static void run_backward(timeline *t, const plan *p, double part, bool sums) {
    const lks_collective kind = p->zero_stage == 2 ? LKS_REDUCE_SCATTER : LKS_ALL_REDUCE;
    const lks_outline *outline = p->outline;
    int bucket = 0;
    compute(t, part * lks_line_at(&p->pace->loss, p->rows));
    run_statistics(t, p);
    for (int layer = p->pace->layer_count - 1; layer >= 0; layer--) {
        compute(t, part * lks_line_at(&p->pace->backward[layer], p->rows));
        for (; sums && bucket < outline->bucket_count && outline->buckets[bucket].layer >= layer;
             bucket++)
            transfer(t, kind, (double)outline->buckets[bucket].grad_bytes);
    }
    wait(t);
}

static void run_micro_batches(timeline *t, const plan *p) {
    const int64_t count = p->outline->micro_batches;
    for (int64_t i = 1; i <= count; i++) {
        const double part = 1 / (double)count;
        compute(t, part * lks_line_at(&p->pace->forward, p->rows));
        run_statistics(t, p);
        if (i == count) transfer_small(t); /* the step's sums: while backward runs */
        run_backward(t, p, part, i == count || p->outline->sums_each);
    }
}

static void run_update(timeline *t, const plan *p) {
    const lks_outline *outline = p->outline;
    const double seconds = lks_line_at(&p->pace->optimizer, (double)outline->updated);
    double bytes = 0;
    for (int b = 0; b < outline->bucket_count; b++)
        bytes += (double)outline->buckets[b].param_bytes;
    for (int b = 0; b < outline->bucket_count; b++) {
        const double part = (double)outline->buckets[b].param_bytes;
        compute(t, seconds * part / bytes);
        if (p->zero_stage > 0) transfer(t, LKS_ALL_GATHER, part);
    }
    wait(t);
}

lks_forecast lks_plan_step(const lks_pace *pace, const lks_cluster *cluster,
                           const lks_outline *outline, int ranks, int zero_stage) {
    timeline t = {
        .cluster = cluster, .ranks = ranks, .slow = slow_down(pace, cluster, outline, ranks)};
    const plan p = {pace, outline, zero_stage, (double)outline->rows};
    compute(&t, pace->other + lks_line_at(&pace->input, p.rows));
    run_micro_batches(&t, &p);
    transfer_small(&t); /* the norm */
    wait(&t);
    run_update(&t, &p);
    return (lks_forecast){.step = t.now,
                          .computing = t.computing,
                          .communication = t.communication,
                          .exposed = t.now - t.computing};
}
