/* What `lockstep plan` computes, against numbers worked out by hand, and the files that it reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/plan_files.h"
#include "app/plan_model.h"
#include "unit/temp_folder.h"

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-9 * fabs(want) + 1e-15)) fail_msg("%.15g is not %.15g", got, want);
}

/* ---- links ---- */

static double seconds_of(const lks_cluster *cluster, lks_collective kind, int ranks, double bytes) {
    return lks_plan_collective(cluster, kind, ranks, bytes).seconds;
}

/* Of 4 neighbours: two rounds and 3/4 of the bytes for a gather or a scatter, twice that for an
 * all-reduce. Of 3, two rounds as well. */
static void collectives_of_one_node(void **state) {
    (void)state;
    const lks_cluster cluster = {.ranks_per_node = INT_MAX, .node = lks_link_even(1e-6, 1e-9)};
    near(seconds_of(&cluster, LKS_ALL_GATHER, 4, 8000), 2e-6 + 6e-6);
    near(seconds_of(&cluster, LKS_REDUCE_SCATTER, 4, 8000), 2e-6 + 6e-6);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 4, 8000), 4e-6 + 12e-6);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 3, 3000), 4e-6 + 4e-6);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 1, 8000), 0);
}

/* 2 nodes of 4: within a node as above; between nodes each rank a quarter of the bytes: one round,
 * half of them. */
static void collectives_of_two_levels(void **state) {
    (void)state;
    lks_cluster cluster = {.ranks_per_node = 4,
                           .on_device = true,
                           .node = lks_link_even(1e-6, 1e-9),
                           .network = lks_link_even(1e-5, 1e-8)};
    const double within = 2e-6 + 6e-6;
    near(seconds_of(&cluster, LKS_ALL_GATHER, 8, 8000), within + 1e-5 + 1e-5);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 8, 8000), 2 * within + 2e-5 + 2e-5);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 4, 8000), 2 * within);
    /* Through MPI each rank has 3 of its 7 peers beside it: of the 14/8 of the bytes that pass it,
     * as many sevenths. */
    cluster.on_device = false;
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 8, 8000), 6e-5 + 8e-5 + 6e-6 + 6e-6);
    near(seconds_of(&cluster, LKS_ALL_REDUCE, 4, 8000), 2 * within);
    /* a rank on each node */
    const lks_cluster spread = {.ranks_per_node = 1, .network = lks_link_even(1e-5, 1e-8)};
    near(seconds_of(&spread, LKS_ALL_GATHER, 2, 8000), 1e-5 + 4e-5);
}

enum { LINK_RANKS = 4, LINK_SIZES = 3 };

static void fill_samples(const double seconds[LINK_SIZES], lks_comm_sample *samples) {
    for (int i = 0; i < LKS_COMM_BENCH_KINDS * LINK_SIZES; i++)
        samples[i] = (lks_comm_sample){.kind = (lks_collective)(i / LINK_SIZES),
                                       .bytes = 1000 << i % LINK_SIZES,
                                       .seconds = seconds[i % LINK_SIZES]};
}

/* 1000, 2000 and 4000 bytes among 4 ranks: a gather passes 3/4 of them in 2 rounds, an all-reduce
 * 3/2 in 4. From end to end a message of 1000 bytes takes 1 us and each further one 1 us more, so 1
 * us of the first one's 2 us is its bytes', and the other one its rounds'. */
static void links_bend_where_they_were_measured(void **state) {
    (void)state;
    const double seconds[LINK_SIZES] = {2e-6, 2.5e-6, 5e-6};
    lks_comm_sample samples[LKS_COMM_BENCH_KINDS * LINK_SIZES];
    lks_link found;
    fill_samples(seconds, samples);
    assert_int_equal(lks_link_fit(samples, LKS_COMM_BENCH_KINDS * LINK_SIZES, LINK_RANKS, &found),
                     LKS_OK);
    near(found.kinds[LKS_ALL_REDUCE].latency, 1e-6 / 4);
    near(found.kinds[LKS_ALL_GATHER].latency, 1e-6 / 2);
    for (int kind = 0; kind < LKS_COMM_BENCH_KINDS; kind++) {
        for (int i = 0; i < LINK_SIZES; i++)
            near(lks_link_seconds(&found, (lks_collective)kind, LINK_RANKS, 1000 << i), seconds[i]);
        near(lks_link_seconds(&found, (lks_collective)kind, LINK_RANKS, 0), 1e-6);
        near(lks_link_seconds(&found, (lks_collective)kind, LINK_RANKS, 500), 1.5e-6);
        near(lks_link_seconds(&found, (lks_collective)kind, LINK_RANKS, 3000), 3.75e-6);
        near(lks_link_seconds(&found, (lks_collective)kind, LINK_RANKS, 8000), 9e-6);
    }
    near(found.kinds[LKS_ALL_REDUCE].busy, 0);
    /* The longest message says how busy the ranks are; no more than all the time. */
    samples[LINK_SIZES - 1].busy = 2e-6;
    samples[2 * LINK_SIZES - 1].busy = 9e-6;
    assert_int_equal(lks_link_fit(samples, LKS_COMM_BENCH_KINDS * LINK_SIZES, LINK_RANKS, &found),
                     LKS_OK);
    near(found.kinds[LKS_ALL_REDUCE].busy, 0.4);
    near(found.kinds[LKS_REDUCE_SCATTER].busy, 1);
    /* Of 16 ranks twice the rounds, and of 1600 bytes as many pass as of 2000 among 4. */
    near(lks_link_seconds(&found, LKS_ALL_GATHER, 16, 1600), 2.5e-6 + 1e-6);
}

/* Noise: nothing gets cheaper by having more bytes. */
static void longer_messages_never_cost_less(void **state) {
    (void)state;
    const double seconds[LINK_SIZES] = {3e-6, 2e-6, 1e-6};
    lks_comm_sample samples[LKS_COMM_BENCH_KINDS * LINK_SIZES];
    lks_link found;
    fill_samples(seconds, samples);
    assert_int_equal(lks_link_fit(samples, LKS_COMM_BENCH_KINDS * LINK_SIZES, LINK_RANKS, &found),
                     LKS_OK);
    near(lks_link_seconds(&found, LKS_ALL_REDUCE, LINK_RANKS, 1e9), 3e-6);
    assert_int_equal(lks_link_fit(samples, 1, LINK_RANKS, &found), LKS_EDATA);
    samples[1].bytes = 500;
    assert_int_equal(lks_link_fit(samples, LKS_COMM_BENCH_KINDS * LINK_SIZES, LINK_RANKS, &found),
                     LKS_EDATA);
}

/* ---- computing ---- */

static void lines(void **state) {
    (void)state;
    const double x[] = {1, 3, 5}, y[] = {5, 9, 13}, steep[] = {0.5, 3.5, 6.5},
                 falling[] = {6, 4, 2};
    lks_line line = lks_line_fit(x, y, 3);
    near(line.fixed, 3);
    near(line.per_unit, 2);
    line = lks_line_fit(x, y, 1);
    near(line.fixed, 0);
    near(line.per_unit, 5);
    line = lks_line_fit(x, steep, 3); /* -1 at the origin */
    near(line.fixed, 0);
    near(line.per_unit, (0.5 + 10.5 + 32.5) / 35);
    line = lks_line_fit(x, falling, 3);
    near(line.fixed, 4);
    near(line.per_unit, 0);
}

static double layer_times[2][2] = {{3e-3, 1e-3}, {2e-3, 1e-3}};
static double forward_times[2][2] = {{2e-3, 3e-3}, {1e-3, 2e-3}};

static void paces(void **state) {
    (void)state;
    lks_plan_profile profiles[2] = {
        {.ranks = 1,
         .hosts = 1,
         .rows = 20,
         .updated = 1000,
         .input = 1e-4,
         .other = 4e-4,
         .optimizer = 2e-3,
         .forward = 5e-3,
         .backward = 4.5e-3,
         .layer_count = 2,
         .layer_forward = forward_times[0],
         .layer_backward = layer_times[0]},
        {.ranks = 1,
         .hosts = 1,
         .rows = 10,
         .updated = 500,
         .input = 1e-4,
         .other = 2e-4,
         .optimizer = 1e-3,
         .forward = 3e-3,
         .backward = 3.2e-3,
         .layer_count = 2,
         .layer_forward = forward_times[1],
         .layer_backward = layer_times[1]},
    };
    lks_pace pace, none[2];
    int count;
    assert_int_equal(lks_pace_fit(profiles, 2, &pace, &count), LKS_OK);
    assert_int_equal(count, 1);
    near(pace.other, 3e-4);
    near(pace.forward[0].per_unit, 1e-4);
    near(pace.forward[1].fixed, 1e-3);
    near(pace.forward[1].per_unit, 1e-4);
    near(pace.optimizer.per_unit, 2e-6);
    near(pace.backward[0].per_unit, 1e-4);
    near(pace.backward[1].fixed, 1e-3);
    near(pace.loss.per_unit, 2.4e-5); /* 0.5 ms and 0.2 ms: a line would begin below zero */
    lks_pace_free(&pace);
    profiles[1].layer_count = 1;
    assert_int_equal(lks_pace_fit(profiles, 2, none, &count), LKS_EDATA);
    profiles[1].ranks = 2; /* another number of ranks, and still another model */
    assert_int_equal(lks_pace_fit(profiles, 2, none, &count), LKS_EDATA);
    assert_int_equal(count, 0);
}

/* Ranks beside others are slower: each number of them on a host has a pace of its own, and a plan
 * takes the one whose number is nearest. */
static void paces_of_occupied_hosts(void **state) {
    (void)state;
    double seconds[] = {1, 2, 3, 4};
    lks_plan_profile profiles[4];
    static const struct {
        int ranks, hosts, neighbours;
        double rows;
    } made[4] = {{16, 2, 8, 20}, {1, 1, 1, 10}, {15, 2, 8, 10}, {2, 1, 2, 10}};
    for (int i = 0; i < 4; i++) {
        profiles[i] = (lks_plan_profile){.ranks = made[i].ranks,
                                         .hosts = made[i].hosts,
                                         .rows = made[i].rows,
                                         .input = seconds[i],
                                         .layer_count = 1,
                                         .layer_forward = seconds,
                                         .layer_backward = seconds};
        assert_int_equal(lks_plan_profile_neighbours(&profiles[i]), made[i].neighbours);
    }
    lks_pace paces[4];
    int count;
    assert_int_equal(lks_pace_fit(profiles, 4, paces, &count), LKS_OK);
    assert_int_equal(count, 3);
    near(lks_line_at(&paces[0].input, 10), 2);
    near(lks_line_at(&paces[1].input, 10), 4);
    near(lks_line_at(&paces[2].input, 10), 2); /* 3 s of 10 samples and 1 s of 20: noise */
    static const int wanted[][2] = {{1, 1}, {2, 2}, {3, 2}, {5, 8}, {8, 8}, {64, 8}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_int_equal(lks_pace_nearest(paces, count, wanted[i][0])->neighbours, wanted[i][1]);
    for (int i = 0; i < count; i++)
        lks_pace_free(&paces[i]);
}

/* ---- a step ---- */

/* 10 ms of computing: 3 before backward, half of it in the layers, which take 4 and 2 ms in
 * backward, and an update of 1 ms. */
static lks_line step_forward[2] = {{.fixed = 0.5e-3}, {.fixed = 1e-3}};
static lks_line step_backward[2] = {{.fixed = 4e-3}, {.fixed = 2e-3}};
static const lks_pace step_pace = {.input = {.fixed = 1e-3},
                                   .other = 5e-4,
                                   .optimizer = {.fixed = 1e-3},
                                   .layer_count = 2,
                                   .forward = step_forward,
                                   .backward = step_backward};
/* The last layer fills one bucket, the first layer another one. */
static lks_outline_bucket step_buckets[2] = {
    {.grad_bytes = 1000000, .param_bytes = 1000000, .layer = 1},
    {.grad_bytes = 1000000, .param_bytes = 1000000, .layer = 0}};
static const lks_outline step_outline = {.rows = 8,
                                         .micro_batches = 1,
                                         .updated = 1,
                                         .overlap = true,
                                         .gathers_ahead = true,
                                         .layer_count = 2,
                                         .buckets = step_buckets,
                                         .bucket_count = 2};

/* On two ranks an all-reduce of a bucket takes 1 ms and a gather half of it; nothing has a latency,
 * and the small sums of 64 bytes take 64 ns each. */
static lks_cluster step_cluster(bool on_device) {
    return (lks_cluster){.ranks_per_node = INT_MAX,
                         .node = lks_link_even(0, 1e-9),
                         .on_device = on_device,
                         .threads = 1};
}

static lks_forecast forecast(const lks_pace *pace, const lks_cluster *cluster,
                             const lks_outline *outline, int ranks, int zero_stage) {
    lks_forecast found;
    assert_int_equal(lks_plan_step(pace, cluster, outline, ranks, zero_stage, &found), LKS_OK);
    return found;
}

static void steps(void **state) {
    (void)state;
    const double sums = 2 * 64e-9;
    lks_cluster cluster = step_cluster(false);
    lks_forecast f = forecast(&step_pace, &cluster, &step_outline, 1, 1);
    near(f.step, 10e-3);
    near(f.communication, 0);
    /* Host and transfers take turns. */
    f = forecast(&step_pace, &cluster, &step_outline, 2, 0);
    near(f.step, 10e-3 + 2e-3 + sums);
    near(f.exposed, 2e-3 + sums);
    f = forecast(&step_pace, &cluster, &step_outline, 2, 1);
    near(f.communication, 2e-3 + 1e-3 + sums);
    f = forecast(&step_pace, &cluster, &step_outline, 2, 2); /* scatters: half as much */
    near(f.communication, 1e-3 + 1e-3 + sums);
    /* The first bucket hides behind the first layer's 2 ms, the second one shows. The gathers hide
     * behind the update and what comes before forward. */
    cluster = step_cluster(true);
    f = forecast(&step_pace, &cluster, &step_outline, 2, 0);
    near(f.step, 10e-3 + 1e-3 + 64e-9);
    f = forecast(&step_pace, &cluster, &step_outline, 2, 1);
    near(f.step, 10e-3 + 1e-3 + 64e-9);
    near(f.communication, 3e-3 + sums);
    /* So it is with what MPI has given to a network. */
    lks_cluster hosts = step_cluster(false);
    hosts.ranks_per_node = 1;
    hosts.network = hosts.node;
    near(forecast(&step_pace, &hosts, &step_outline, 2, 1).step, f.step);
    /* What the cores do of it hides behind nothing: 0.2 of the 1 ms of each bucket, of which the
     * second one's part is in the time that shows anyway. */
    hosts.network.kinds[LKS_ALL_REDUCE].busy = 0.2;
    near(forecast(&step_pace, &hosts, &step_outline, 2, 0).step, f.step + 0.2e-3 + 0.2 * 64e-9);
    /* Where buckets wait for the end of backward, both show. */
    lks_outline outline = step_outline;
    outline.overlap = false;
    near(forecast(&step_pace, &cluster, &outline, 2, 1).step, f.step + 1e-3);
    outline.overlap = true;
    /* The gather of the bucket that is updated last hides behind nothing, where the next step waits
     * for it. */
    outline.gathers_ahead = false;
    near(forecast(&step_pace, &cluster, &outline, 2, 1).step, f.step + 0.5e-3);
    outline.gathers_ahead = true;
    /* Batch norm waits for its sums twice in a step, in backward behind those of the step. */
    outline.synchronized_count = 3;
    near(forecast(&step_pace, &cluster, &outline, 2, 1).step, f.step + 7 * 64e-9);
}

/* Gathers of 2 ms each begin 0.5 ms before the step ends, that of the first layer first: the first
 * layer has its parameters when input and the rest have taken their 1.5 ms, the second one waits
 * 1.5 ms more than the first one computes. */
static void forward_waits_for_parameters(void **state) {
    (void)state;
    lks_cluster cluster = step_cluster(true);
    const lks_forecast quick = forecast(&step_pace, &cluster, &step_outline, 2, 1);
    cluster.node.kinds[LKS_ALL_GATHER].seconds[0] *= 4;
    const lks_forecast slow = forecast(&step_pace, &cluster, &step_outline, 2, 1);
    near(slow.step, quick.step + 1.5e-3);
    near(slow.exposed, quick.exposed + 1.5e-3);
    near(slow.communication, quick.communication + 3e-3);
}

/* Two ranks of one core take turns, with each other and with the threads that read their samples;
 * one rank that has a second core does not wait for its reader. */
static void cores_are_shared(void **state) {
    (void)state;
    lks_pace pace = step_pace;
    pace.loader = (lks_line){.fixed = 2e-3};
    lks_cluster cluster = step_cluster(true);
    cluster.cores = 1;
    near(forecast(&step_pace, &cluster, &step_outline, 1, 1).computing, 10e-3);
    near(forecast(&step_pace, &cluster, &step_outline, 2, 0).computing, 20e-3);
    near(forecast(&pace, &cluster, &step_outline, 2, 0).computing, 24e-3);
    cluster.cores = 2;
    near(forecast(&pace, &cluster, &step_outline, 1, 0).computing, 10e-3);
    near(forecast(&pace, &cluster, &step_outline, 2, 0).computing, 12e-3);
}

/* Two micro-batches compute as much as one; where only shards of sums are kept, both are summed. */
static void micro_batches(void **state) {
    (void)state;
    const lks_cluster cluster = step_cluster(false);
    lks_outline outline = step_outline;
    const lks_forecast one = forecast(&step_pace, &cluster, &outline, 2, 2);
    outline.micro_batches = 2;
    near(forecast(&step_pace, &cluster, &outline, 2, 2).step, one.step);
    outline.sums_each = true;
    near(forecast(&step_pace, &cluster, &outline, 2, 2).step, one.step + 2 * 0.5e-3);
    outline.synchronized_count = 1; /* four times, where it would be twice */
    near(forecast(&step_pace, &cluster, &outline, 2, 2).step, one.step + 2 * 0.5e-3 + 4 * 64e-9);
}

/* ---- files ---- */

static const char good_profile[] =
    "{\"format\": \"lockstep profile 1\", \"on_device\": true, \"ranks\": 4, \"hosts\": 2,"
    " \"threads\": 3, \"samples\": 64, \"updated_parameters\": 10, \"loader\": 0.5,"
    " \"mean\": {\"input\": 1, \"other\": 2, \"forward\": 3, \"backward\": 4, \"optimizer\": 5},"
    " \"layers\": [{\"forward\": 2, \"backward\": 0.5}, {\"forward\": 1, \"backward\": 0.25}]}";

static void write_text(const char *path, const char *text) {
    assert_non_null(text);
    temp_write(path, text, strlen(text));
}

static void refused(lks_status status, lks_status expected, const char *message) {
    assert_int_equal(status, expected);
    if (!strstr(lks_last_error(), message))
        fail_msg("\"%s\" is not in \"%s\"", message, lks_last_error());
}

static void profiles(void **state) {
    (void)state;
    const char *path = temp_path("profile.json");
    lks_plan_profile profile;
    write_text(path, good_profile);
    assert_int_equal(lks_plan_read_profile(path, &profile), LKS_OK);
    assert_true(profile.on_device);
    assert_int_equal(profile.hosts, 2);
    near(profile.rows, 16);
    near(profile.optimizer, 5);
    near(profile.loader, 0.5);
    assert_int_equal(profile.layer_count, 2);
    near(profile.layer_forward[0], 2);
    near(profile.layer_backward[1], 0.25);
    assert_int_equal(profile.cores, 0);
    lks_plan_profile_free(&profile);

    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"profile 1", "profile 9", "expected \"lockstep profile 1\""},
        {"\"ranks\": 4", "\"ranks\": 0", "\"ranks\" is 0"},
        {"\"samples\"", "\"simples\"", "\"samples\" is missing"},
        {"\"other\": 2", "\"other\": -2", "\"other\" is missing, or no number >= 0"},
        {"\"layers\"", "\"players\"", "it has no layers"},
        {"0.25", "\"x\"", "\"backward\" is missing"},
        {"\"forward\": 1,", "", "\"forward\" is missing"},
        {"}", "", "profile.json:1: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(good_profile, cases[i].from);
        char *text = lks_strdup_printf("%.*s%s%s", (int)(at - good_profile), good_profile,
                                       cases[i].to, at + strlen(cases[i].from));
        write_text(path, text);
        refused(lks_plan_read_profile(path, &profile), LKS_EDATA, cases[i].message);
        free(text);
    }
    remove(path);
    refused(lks_plan_read_profile(path, &profile), LKS_EIO, "cannot read ");
}

/* Ranks that had a core for half of forward and a fifth of backward: what they waited for it is not
 * computing. More time on cores than the phase took is the clocks' noise. */
static void profiles_of_shared_cores(void **state) {
    (void)state;
    const char *path = temp_path("shared.json");
    lks_plan_profile profile;
    char *text = lks_strdup_printf(
        "%.*s, \"cores\": 2, \"processor\": {\"other\": 1, \"input\": 0.1, \"forward\": 1.5,"
        " \"backward\": 0.8, \"optimizer\": 5.01}}",
        (int)strlen(good_profile) - 1, good_profile);
    write_text(path, text);
    assert_int_equal(lks_plan_read_profile(path, &profile), LKS_OK);
    assert_int_equal(profile.cores, 2);
    near(profile.input, 1); /* waiting for samples, wherever they are read */
    near(profile.other, 1);
    near(profile.forward, 1.5);
    near(profile.backward, 0.8);
    near(profile.optimizer, 5);
    near(profile.layer_forward[0], 1);
    near(profile.layer_forward[1], 0.5);
    near(profile.layer_backward[0], 0.1);
    near(profile.layer_backward[1], 0.05);
    lks_plan_profile_free(&profile);
    memcpy(strstr(text, "0.8"), "-.8", 3);
    write_text(path, text);
    refused(lks_plan_read_profile(path, &profile), LKS_EDATA, "shared.json:1: ");
    free(text);
}

static void links(void **state) {
    (void)state;
    const char *path = temp_path("comm.json");
    lks_link link;
    assert_int_equal(lks_plan_read_link("latency=2e-6 bandwidth=4e9", true, &link), LKS_OK);
    near(lks_link_seconds(&link, LKS_ALL_GATHER, 2, 8000), 2e-6 + 1e-6);
    refused(lks_plan_read_link("latency=2e-6", true, &link), LKS_EUSAGE, "bandwidth");
    refused(lks_plan_read_link("bandwidth=0 latency=1e-6", false, &link), LKS_EUSAGE, "bandwidth");
    refused(lks_plan_read_link(path, true, &link), LKS_EIO, "cannot read ");

    static const char form[] =
        "{\"format\": \"lockstep bench comm 1\", \"ranks\": %d, \"hosts\": %d,"
        " \"samples\": [%s]}";
    static const char samples[] =
        "{\"collective\": \"all_reduce\", \"bytes\": 4096, \"seconds\": 1e-5, \"busy\": 0},"
        "{\"collective\": \"all_reduce\", \"bytes\": 8192, \"seconds\": 2e-5, \"busy\": 0},"
        "{\"collective\": \"reduce_scatter\", \"bytes\": 4096, \"seconds\": 1e-5, \"busy\": 0},"
        "{\"collective\": \"reduce_scatter\", \"bytes\": 8192, \"seconds\": 2e-5, \"busy\": 0},"
        "{\"collective\": \"all_gather\", \"bytes\": 4096, \"seconds\": 1e-5, \"busy\": 0},"
        "{\"collective\": \"all_gather\", \"bytes\": 8192, \"seconds\": 2e-5, \"busy\": 0}";
    static const struct {
        int ranks, hosts;
        bool within_node;
        const char *message; /* NULL: it is taken */
    } cases[] = {
        {2, 1, true, NULL},
        {2, 2, false, NULL},
        {1, 1, true, "with one rank"},
        {4, 2, true, "on 2 hosts: expected the ranks of one"},
        {4, 2, false, "expected one rank on each host"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = lks_strdup_printf(form, cases[i].ranks, cases[i].hosts, samples);
        write_text(path, text);
        lks_status status = lks_plan_read_link(path, cases[i].within_node, &link);
        if (cases[i].message)
            refused(status, LKS_EDATA, cases[i].message);
        else
            assert_int_equal(status, LKS_OK);
        free(text);
    }
    char *few = lks_strdup_printf(
        form, 2, 1,
        "{\"collective\": \"all_reduce\", \"bytes\": 4096, \"seconds\": 1e-5, \"busy\": 0}");
    write_text(path, few);
    refused(lks_plan_read_link(path, true, &link), LKS_EDATA, "measurements of two sizes or more");
    free(few);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_of_one_node),
        cmocka_unit_test(collectives_of_two_levels),
        cmocka_unit_test(links_bend_where_they_were_measured),
        cmocka_unit_test(longer_messages_never_cost_less),
        cmocka_unit_test(lines),
        cmocka_unit_test(paces),
        cmocka_unit_test(paces_of_occupied_hosts),
        cmocka_unit_test(steps),
        cmocka_unit_test(forward_waits_for_parameters),
        cmocka_unit_test(cores_are_shared),
        cmocka_unit_test(micro_batches),
        cmocka_unit_test(profiles),
        cmocka_unit_test(profiles_of_shared_cores),
        cmocka_unit_test(links),
    };
    return cmocka_run_group_tests(tests, temp_folder_setup, temp_folder_teardown);
}
