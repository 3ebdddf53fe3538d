#include "app/plan_link.h"

#include <math.h>

/* Rounds of messages, one after the other: halving and doubling take log2(p), an all-reduce is a
 * reduce-scatter and an all-gather (Thakur, Rabenseifner and Gropp 2005). */
static double rounds(lks_collective kind, int ranks) {
    return (kind == LKS_ALL_REDUCE ? 2 : 1) * ceil(log2(ranks));
}

/* Seconds of so many bytes that pass a rank. */
static double bytes_cost(const lks_link_costs *costs, double bytes) {
    const int last = costs->count - 1;
    double from_bytes = 0, from_seconds = 0;
    int next = 0;
    if (bytes > costs->bytes[last]) return costs->seconds[last] * bytes / costs->bytes[last];
    for (; costs->bytes[next] < bytes; next++) {
        from_bytes = costs->bytes[next];
        from_seconds = costs->seconds[next];
    }
    return from_seconds + (bytes - from_bytes) * (costs->seconds[next] - from_seconds) /
                              (costs->bytes[next] - from_bytes);
}

double lks_link_seconds(const lks_link *link, lks_collective kind, int ranks, double bytes) {
    const lks_link_costs *costs = &link->kinds[kind];
    if (ranks < 2) return 0;
    return rounds(kind, ranks) * costs->latency +
           bytes_cost(costs, lks_collective_bus_factor(kind, ranks) * bytes);
}

/* Of a kind's samples, as points of bytes that pass a rank and seconds of all. */
static lks_status collect(const lks_comm_sample *samples, int count, int ranks, lks_collective kind,
                          lks_link_costs *out) {
    const double factor = lks_collective_bus_factor(kind, ranks);
    *out = (lks_link_costs){.count = 0};
    for (int i = 0; i < count; i++) {
        const double bytes = factor * (double)samples[i].bytes;
        if (samples[i].kind != kind) continue;
        if (out->count == LKS_LINK_POINTS || !(bytes > 0) ||
            (out->count > 0 && bytes <= out->bytes[out->count - 1]))
            return lks_fail(LKS_EDATA, "%s: expected measurements of %d sizes at most, ascending",
                            lks_collective_name(kind), LKS_LINK_POINTS);
        out->busy = samples[i].busy < samples[i].seconds ? samples[i].busy / samples[i].seconds : 1;
        out->bytes[out->count] = bytes;
        out->seconds[out->count++] = samples[i].seconds;
    }
    return out->count >= 2 ? LKS_OK
                           : lks_fail(LKS_EDATA, "%s: expected measurements of two sizes or more",
                                      lks_collective_name(kind));
}

/* The shortest message is nothing but rounds, less what its bytes would cost in the longest one.
 * In between caches and pipelines bend the line; more bytes never cost less. */
static void separate_rounds(lks_collective kind, int ranks, lks_link_costs *costs) {
    const int last = costs->count - 1;
    const double per_byte =
        (costs->seconds[last] - costs->seconds[0]) / (costs->bytes[last] - costs->bytes[0]);
    double fixed = costs->seconds[0] - (per_byte > 0 ? per_byte : 0) * costs->bytes[0];
    if (fixed < 0) fixed = 0;
    costs->latency = fixed / rounds(kind, ranks);
    double least = 0;
    for (int i = 0; i < costs->count; i++) {
        costs->seconds[i] -= fixed;
        if (costs->seconds[i] < least) costs->seconds[i] = least;
        least = costs->seconds[i];
    }
}

lks_status lks_link_fit(const lks_comm_sample *samples, int count, int ranks, lks_link *out) {
    lks_status status = LKS_OK;
    for (int kind = 0; kind < LKS_COMM_BENCH_KINDS && !status; kind++) {
        status = collect(samples, count, ranks, (lks_collective)kind, &out->kinds[kind]);
        if (!status) separate_rounds((lks_collective)kind, ranks, &out->kinds[kind]);
    }
    return status;
}

lks_link lks_link_even(double latency, double byte_seconds) {
    lks_link link;
    for (int kind = 0; kind < LKS_COMM_BENCH_KINDS; kind++)
        link.kinds[kind] = (lks_link_costs){
            .latency = latency, .count = 1, .bytes = {1}, .seconds = {byte_seconds}};
    return link;
}
