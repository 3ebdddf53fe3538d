#include "app/plan_model.h"

#include <stdlib.h>

int lks_cluster_neighbours(const lks_cluster *cluster, int ranks) {
    return ranks < cluster->ranks_per_node ? ranks : cluster->ranks_per_node;
}

/* NCCL, which needs no core: within the nodes first and last, and between them every rank with its
 * like on the other nodes, each with its share of the bytes. */
static lks_plan_cost collective_of_devices(const lks_cluster *cluster, lks_collective kind,
                                           int ranks, double bytes) {
    const int per_node = lks_cluster_neighbours(cluster, ranks);
    const int nodes = (ranks - 1) / per_node + 1;
    const lks_link *node = &cluster->node;
    double seconds = lks_link_seconds(&cluster->network, kind, nodes, bytes / per_node);
    if (kind == LKS_ALL_REDUCE && nodes > 1)
        seconds += lks_link_seconds(node, LKS_REDUCE_SCATTER, per_node, bytes) +
                   lks_link_seconds(node, LKS_ALL_GATHER, per_node, bytes);
    else
        seconds += lks_link_seconds(node, kind, per_node, bytes);
    return (lks_plan_cost){.seconds = seconds};
}

/* Within a node shared memory, which the cores do; between nodes MPI, with which every rank
 * exchanges its part with every other one directly. Of its p - 1 peers g - 1 are on its own node:
 * what it exchanges with them does not go over the network. */
static lks_plan_cost collective_of_hosts(const lks_cluster *cluster, lks_collective kind, int ranks,
                                         double bytes) {
    const int per_node = lks_cluster_neighbours(cluster, ranks);
    const double inside = (per_node - 1) / (double)(ranks - 1);
    const double within =
        inside > 0 ? lks_link_seconds(&cluster->node, kind, ranks, inside * bytes) : 0;
    const double between =
        inside < 1 ? lks_link_seconds(&cluster->network, kind, ranks, (1 - inside) * bytes) : 0;
    return (lks_plan_cost){.seconds = within + between,
                           .busy = within + cluster->network.kinds[kind].busy * between};
}

lks_plan_cost lks_plan_collective(const lks_cluster *cluster, lks_collective kind, int ranks,
                                  double bytes) {
    if (ranks < 2) return (lks_plan_cost){0};
    return cluster->on_device ? collective_of_devices(cluster, kind, ranks, bytes)
                              : collective_of_hosts(cluster, kind, ranks, bytes);
}

/* Two clocks: computing goes on at `now`, communication at `free`. */
typedef struct timeline {
    const lks_cluster *cluster;
    int ranks;
    double *gathered; /* [bucket_count] when each bucket's parameters will be on every rank */
    int gathering;    /* so many of the first buckets, which forward needs last, may not be */
    double slow;      /* how much longer computing takes where threads share cores */
    double now, free;
    double computing, communication;
} timeline;

static void compute(timeline *t, double seconds) {
    t->now += t->slow * seconds;
    t->computing += t->slow * seconds;
}

/* Behind what is under way; as far as it needs no core, computing goes on beside it. */
static void transfer(timeline *t, lks_collective kind, double bytes) {
    const lks_plan_cost cost = lks_plan_collective(t->cluster, kind, t->ranks, bytes);
    t->free = (t->now > t->free ? t->now : t->free) + cost.seconds;
    t->now += cost.busy;
    t->communication += cost.seconds;
}

static void wait_until(timeline *t, double time) {
    if (time > t->now) t->now = time;
}

static void wait(timeline *t) {
    wait_until(t, t->free);
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
    const int neighbours = lks_cluster_neighbours(cluster, ranks);
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

/* part: of the step's samples. A layer waits for the buckets that hold its parameters. */
static void run_forward(timeline *t, const plan *p, double part) {
    for (int layer = 0; layer < p->pace->layer_count; layer++) {
        for (; t->gathering > 0 && p->outline->buckets[t->gathering - 1].layer <= layer;
             t->gathering--)
            wait_until(t, t->gathered[t->gathering - 1]);
        compute(t, part * lks_line_at(&p->pace->forward[layer], p->rows));
    }
    run_statistics(t, p);
    compute(t, part * lks_line_at(&p->pace->loss, p->rows));
}

static void run_backward(timeline *t, const plan *p, double part, bool sums) {
    const lks_collective kind = p->zero_stage == 2 ? LKS_REDUCE_SCATTER : LKS_ALL_REDUCE;
    const lks_outline *outline = p->outline;
    const int count = sums ? outline->bucket_count : 0;
    int bucket = 0;
    run_statistics(t, p);
    for (int layer = p->pace->layer_count - 1; layer >= 0; layer--) {
        compute(t, part * lks_line_at(&p->pace->backward[layer], p->rows));
        if (!outline->overlap && layer > 0) continue;
        for (; bucket < count && outline->buckets[bucket].layer >= layer; bucket++)
            transfer(t, kind, (double)outline->buckets[bucket].grad_bytes);
    }
    wait(t);
}

static void run_micro_batches(timeline *t, const plan *p) {
    const int64_t count = p->outline->micro_batches;
    for (int64_t i = 1; i <= count; i++) {
        run_forward(t, p, 1 / (double)count);
        if (i == count) transfer_small(t); /* the step's sums: while backward runs */
        run_backward(t, p, 1 / (double)count, i == count || p->outline->sums_each);
    }
}

/* The last bucket first, because forward needs it first. */
static void run_update(timeline *t, const plan *p) {
    const lks_outline *outline = p->outline;
    const double seconds = lks_line_at(&p->pace->optimizer, (double)outline->updated);
    double bytes = 0;
    for (int b = 0; b < outline->bucket_count; b++)
        bytes += (double)outline->buckets[b].param_bytes;
    for (int b = outline->bucket_count - 1; b >= 0; b--) {
        const double part = (double)outline->buckets[b].param_bytes;
        compute(t, seconds * part / bytes);
        if (p->zero_stage > 0) transfer(t, LKS_ALL_GATHER, part);
        t->gathered[b] = t->free;
    }
    t->gathering = outline->bucket_count;
    if (!outline->gathers_ahead) wait(t);
}

static void run_step(timeline *t, const plan *p) {
    compute(t, p->pace->other + lks_line_at(&p->pace->input, p->rows));
    run_micro_batches(t, p);
    transfer_small(t); /* the norm */
    wait(t);
    run_update(t, p);
}

/* The second of two steps: the first one leaves it parameters that are still being gathered. */
lks_status lks_plan_step(const lks_pace *pace, const lks_cluster *cluster,
                         const lks_outline *outline, int ranks, int zero_stage, lks_forecast *out) {
    timeline t = {.cluster = cluster,
                  .ranks = ranks,
                  .gathered = calloc((size_t)outline->bucket_count + 1, sizeof *t.gathered),
                  .slow = slow_down(pace, cluster, outline, ranks)};
    const plan p = {pace, outline, zero_stage, (double)outline->rows};
    *out = (lks_forecast){0};
    if (!t.gathered)
        return lks_fail(LKS_ENOMEM, "out of memory for %d buckets", outline->bucket_count);
    run_step(&t, &p);
    const timeline first = t;
    run_step(&t, &p);
    out->step = t.now - first.now;
    out->computing = t.computing - first.computing;
    out->communication = t.communication - first.communication;
    out->exposed = out->step - out->computing;
    free(t.gathered);
    return LKS_OK;
}
