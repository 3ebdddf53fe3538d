/* Batch norm over ranks: threads stand for them, each with a device of its own. What they compute
 * together must be what one device computes of all samples. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/ops_check.h"

/* Statistics are rounded from float64 once more than on one device. */
static const double TOLERANCE = 2e-6;

enum { RANKS = 3, MAX_EXCHANGE = 64 };

typedef struct meeting {
    pthread_barrier_t barrier;
    double values[RANKS][MAX_EXCHANGE];
} meeting;

typedef struct rank_run {
    const char *kind;
    meeting *meeting;
    lks_device *device;
    int rank;
    lks_op_args args; /* batch and pointers to this rank's part, in host memory */
    const lks_batch_norm_desc *desc;
    float *results; /* y, dx, dparam and buffers one behind the other */
    lks_status status;
} rank_run;

/* values: device memory. Every rank arrives, even one that has failed. */
static lks_status all_reduce(void *data, double *values, int64_t count, lks_stream *stream) {
    rank_run *run = data;
    const size_t bytes = (size_t)count * sizeof *values;
    double sum[MAX_EXCHANGE] = {0};
    lks_status status = lks_device_copy(run->device, stream, run->meeting->values[run->rank],
                                        values, bytes, LKS_COPY_TO_HOST);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    pthread_barrier_wait(&run->meeting->barrier);
    for (int r = 0; r < RANKS; r++)
        for (int64_t i = 0; i < count; i++)
            sum[i] += run->meeting->values[r][i];
    pthread_barrier_wait(&run->meeting->barrier);
    if (status == LKS_OK)
        status = lks_device_copy(run->device, stream, values, sum, bytes, LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    return status;
}

static size_t bytes_of(const rank_run *run) {
    return (size_t)(run->args.batch * run->desc->spatial * run->desc->channels) * sizeof(float);
}

/* Copies between host and device, in the order x, dy, weight, bias, running mean and variance. */
static lks_status upload(lks_device *device, void **to, const void *from, size_t bytes) {
    lks_status status = lks_device_alloc(device, bytes, to);
    if (status != LKS_OK || !from) return status;
    return lks_device_copy(device, lks_device_stream(device, LKS_STREAM_COMPUTE), *to, from, bytes,
                           LKS_COPY_TO_DEVICE);
}

static lks_status run_rank_on(lks_device *device, rank_run *run) {
    enum { X, DY, WEIGHT, BIAS, MEAN, VARIANCE, Y, DX, DWEIGHT, DBIAS, SAVED, SCRATCH, COUNT };
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const size_t big = bytes_of(run), small = (size_t)run->desc->channels * sizeof(float);
    const void *from[COUNT] = {run->args.x,         run->args.dy,         run->args.params[0],
                               run->args.params[1], run->args.buffers[0], run->args.buffers[1]};
    size_t bytes[COUNT] = {big, big, small, small, small, small, big, big, small, small};
    void *m[COUNT] = {0};
    lks_op *op = NULL;
    lks_status status = lks_op_create(device, LKS_OP_BATCH_NORM, run->desc, 8, &op);
    if (status != LKS_OK) return status;
    bytes[SAVED] = lks_op_get_needs(op)->saved_bytes;
    bytes[SCRATCH] = lks_op_get_needs(op)->scratch_bytes;
    for (int i = 0; i < COUNT && status == LKS_OK; i++)
        status = upload(device, &m[i], from[i], bytes[i]);
    lks_op_args args = run->args;
    args.x = m[X];
    args.y = m[Y];
    args.dy = m[DY];
    args.dx = m[DX];
    args.saved = m[SAVED];
    args.scratch = m[SCRATCH];
    args.params = (const void *const[]){m[WEIGHT], m[BIAS]};
    args.dparams = (void *const[]){m[DWEIGHT], m[DBIAS]};
    args.buffers = (void *const[]){m[MEAN], m[VARIANCE]};
    args.all_reduce = all_reduce;
    args.all_reduce_data = run;
    if (status == LKS_OK) status = lks_op_forward(op, stream, &args);
    if (status == LKS_OK) status = lks_op_backward(op, stream, &args);
    const int wanted[] = {Y, DX, DWEIGHT, DBIAS, MEAN, VARIANCE};
    float *to = run->results;
    for (int i = 0; i < 6 && status == LKS_OK; i++) {
        status =
            lks_device_copy(device, stream, to, m[wanted[i]], bytes[wanted[i]], LKS_COPY_TO_HOST);
        to += bytes[wanted[i]] / sizeof(float);
    }
    if (status == LKS_OK) status = lks_stream_synchronize(stream);
    for (int i = 0; i < COUNT; i++)
        lks_device_free(device, m[i]);
    lks_op_destroy(op);
    return status;
}

static void *run_rank(void *data) {
    rank_run *run = data;
    const lks_device_config config = {.kind = run->kind, .threads = 1, .local_size = 1};
    run->status = lks_device_create(&config, &run->device);
    if (run->status == LKS_OK) run->status = run_rank_on(run->device, run);
    lks_device_destroy(run->device);
    return NULL;
}

static double *as_double(const float *values, int64_t count) {
    double *wide = check_zeros(count);
    for (int64_t i = 0; i < count; i++)
        wide[i] = (double)values[i];
    return wide;
}

static void compare(const char *what, const float *got, const float *want, int64_t count) {
    double *wide = as_double(want, count);
    check_close(what, got, wide, count, TOLERANCE);
    free(wide);
}

enum { SAMPLES = 7, CHANNELS = 6, SPATIAL = 5, SAMPLE = CHANNELS * SPATIAL };

static const lks_batch_norm_desc desc = {.channels = CHANNELS,
                                         .spatial = SPATIAL,
                                         .layout = LKS_LAYOUT_CHANNELS_LAST,
                                         .eps = 1e-5,
                                         .momentum = 0.1,
                                         .affine = true,
                                         .track_running_stats = true,
                                         .activation = LKS_ACTIVATION_RELU};

static check_call make_whole(int64_t batch) {
    check_call whole = {.kind = LKS_OP_BATCH_NORM,
                        .desc = &desc,
                        .max_batch = SAMPLES,
                        .batch = batch,
                        .x_count = SAMPLE,
                        .y_count = SAMPLE,
                        .params = 2,
                        .param_count = {CHANNELS, CHANNELS},
                        .buffers = 2,
                        .buffer_count = {CHANNELS, CHANNELS},
                        .training = true};
    check_call_fill(&whole, 8);
    return whole;
}

/* Runs the ranks with their parts of `whole`; results are [RANKS], freed by the caller. */
static void run_ranks(lks_device *device, const check_call *whole, const lks_batch_norm_desc *d,
                      const int64_t *batch, rank_run *run) {
    meeting meet;
    pthread_t thread[RANKS];
    int64_t first = 0;
    assert_int_equal(pthread_barrier_init(&meet.barrier, NULL, RANKS), 0);
    for (int r = 0; r < RANKS; r++) {
        run[r] = (rank_run){.kind = lks_device_kind(device),
                            .meeting = &meet,
                            .rank = r,
                            .desc = d,
                            .results = calloc(2 * SAMPLES * SAMPLE + 4 * CHANNELS, sizeof(float))};
        run[r].args = (lks_op_args){.batch = batch[r],
                                    .training = true,
                                    .x = whole->x + first * SAMPLE,
                                    .dy = whole->dy + first * SAMPLE,
                                    .params = (const void *const *)whole->param,
                                    .buffers = (void *const *)whole->buffer};
        first += batch[r];
        assert_non_null(run[r].results);
        assert_int_equal(pthread_create(&thread[r], NULL, run_rank, &run[r]), 0);
    }
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(pthread_join(thread[r], NULL), 0);
    pthread_barrier_destroy(&meet.barrier);
}

/* Three ranks with 3, 0 and 4 samples see the statistics and gradients of 7. */
static void ranks_share_statistics(void **state) {
    const int64_t batch[RANKS] = {3, 0, 4};
    check_call whole = make_whole(SAMPLES);
    rank_run run[RANKS];
    float y[SAMPLES * SAMPLE], dx[SAMPLES * SAMPLE], dparam[2 * CHANNELS] = {0};
    int64_t first = 0;
    run_ranks(*state, &whole, &desc, batch, run);
    check_ok(check_call_run(*state, &whole));
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(run[r].status, LKS_OK);
        const int64_t count = batch[r] * SAMPLE;
        const float *after = run[r].results + 2 * count;
        memcpy(y + first * SAMPLE, run[r].results, (size_t)count * sizeof *y);
        memcpy(dx + first * SAMPLE, run[r].results + count, (size_t)count * sizeof *dx);
        for (int i = 0; i < 2 * CHANNELS; i++) /* the ranks' gradients are parts of a sum */
            dparam[i] += after[i];
        compare("running_mean", after + 2 * CHANNELS, whole.buffer[0], CHANNELS);
        compare("running_var", after + 3 * CHANNELS, whole.buffer[1], CHANNELS);
        first += batch[r];
        free(run[r].results);
    }
    compare("y", y, whole.y, SAMPLES * SAMPLE);
    compare("dx", dx, whole.dx, SAMPLES * SAMPLE);
    compare("dweight", dparam, whole.dparam[0], CHANNELS);
    compare("dbias", dparam + CHANNELS, whole.dparam[1], CHANNELS);
    check_call_free(&whole);
}

/* One value on one rank is too few for all of them, and none at all is nothing to do. */
static void ranks_agree_on_too_few_values(void **state) {
    lks_batch_norm_desc one = desc;
    one.spatial = 1;
    const int64_t batch[2][RANKS] = {{0, 1, 0}, {0, 0, 0}};
    for (int i = 0; i < 2; i++) {
        check_call whole = make_whole(SAMPLES);
        rank_run run[RANKS];
        run_ranks(*state, &whole, &one, batch[i], run);
        for (int r = 0; r < RANKS; r++) {
            assert_int_equal(run[r].status, i == 0 ? LKS_EINVAL : LKS_OK);
            free(run[r].results);
        }
        check_call_free(&whole);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_share_statistics),
        cmocka_unit_test(ranks_agree_on_too_few_values),
    };
    return check_on_every_device(argc, argv, tests, sizeof tests / sizeof *tests);
}
