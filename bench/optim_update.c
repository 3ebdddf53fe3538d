/* Times one optimizer's update against copying memory, by turns, with the same threads.
 *
 *     bench_optim_update TYPE OPTIONS PARAMETERS THREADS TURNS [DEVICE]
 *
 * Prints one JSON object: the bytes that an update and a copy read and write, and the seconds that
 * each took in every turn. DEVICE: cpu (default) or cuda. bench/optim and bench/gpu call it. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "optim/optim.h"

typedef struct bench {
    lks_device *device;
    lks_shard_plan *plan;
    lks_optimizer *optimizer;
    float *params, *grads, *copy; /* [count] */
    double *divisor;              /* 1, in device memory */
    int64_t count;
    int threads;
} bench;

static lks_status allocate(bench *b, float **out) {
    void *memory = NULL;
    lks_status status =
        lks_device_alloc(b->device, (size_t)b->plan->padded_count * sizeof(float), &memory);
    *out = memory;
    return status;
}

static lks_stream *compute_stream(const bench *b) {
    return lks_device_stream(b->device, LKS_STREAM_COMPUTE);
}

/* Numbers around zero to all of an array; which, depends on `period`. */
static lks_status fill(bench *b, float *array, int period, float scale) {
    enum { CHUNK = 1 << 20 };
    float *values = malloc(CHUNK * sizeof *values);
    if (!values) return lks_fail(LKS_ENOMEM, "out of memory for %d numbers", CHUNK);
    for (int i = 0; i < CHUNK; i++)
        values[i] = (float)(i % period - period / 2) / scale;
    lks_status status = LKS_OK;
    for (int64_t at = 0; !status && at < b->plan->padded_count; at += CHUNK) {
        const int64_t rest = b->plan->padded_count - at, count = rest < CHUNK ? rest : CHUNK;
        status = lks_device_copy(b->device, compute_stream(b), array + at, values,
                                 (size_t)count * sizeof *values, LKS_COPY_TO_DEVICE);
    }
    if (!status) status = lks_stream_synchronize(compute_stream(b));
    free(values);
    return status;
}

static lks_status set_divisor(bench *b) {
    const double one = 1;
    void *memory = NULL;
    lks_status status = lks_device_alloc(b->device, sizeof one, &memory);
    b->divisor = memory;
    if (!status)
        status = lks_device_copy(b->device, compute_stream(b), memory, &one, sizeof one,
                                 LKS_COPY_TO_DEVICE);
    return status ? status : lks_stream_synchronize(compute_stream(b));
}

static lks_status open_bench(bench *b, const char *kind, const char *type, const char *options) {
    const lks_device_config config = {.kind = kind, .threads = b->threads, .local_size = 1};
    const lks_optimizer_groups groups = {.spec = {type, options, NULL}, .group_count = 1};
    const int64_t bytes = b->count * (int64_t)sizeof(float); /* one bucket */
    lks_status status = lks_device_create(&config, &b->device);
    if (!status) status = lks_shard_plan_create(b->count, bytes, bytes, 1, 0, 1, &b->plan);
    if (!status) status = lks_optimizer_create(b->device, &groups, b->plan, &b->optimizer);
    if (!status) status = allocate(b, &b->params);
    if (!status) status = allocate(b, &b->grads);
    if (!status) status = allocate(b, &b->copy);
    if (!status) status = set_divisor(b);
    if (!status) status = fill(b, b->params, 1009, 500);
    return status ? status : fill(b, b->grads, 997, 5000);
}

static void close_bench(bench *b) {
    if (!b->device) return;
    lks_device_free(b->device, b->divisor);
    lks_device_free(b->device, b->params);
    lks_device_free(b->device, b->grads);
    lks_device_free(b->device, b->copy);
    lks_optimizer_destroy(b->optimizer);
    lks_shard_plan_destroy(b->plan);
    lks_device_destroy(b->device);
}

/* Copies past the caches, as memcpy does what is larger than they are. The C library may think them
 * larger than a virtual machine's share; then memcpy would read what it is about to overwrite. */
static void copy_streaming(float *to, const float *from, int64_t count) {
    int64_t i = 0;
#ifdef __SSE2__
    for (; i < count && (uintptr_t)(to + i) % 16; i++)
        to[i] = from[i];
    for (; i + 4 <= count; i += 4)
        _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    _mm_sfence();
#endif
    memcpy(to + i, from + i, (size_t)(count - i) * sizeof(float));
}

/* Every thread copies its part. */
static void copy_on_host(const bench *b) {
#pragma omp parallel num_threads(b->threads)
    {
        int64_t begin, end;
        lks_split(b->count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        copy_streaming(b->copy + begin, b->grads + begin, end - begin);
    }
}

/* What memory can do. */
static lks_status time_copy(const bench *b, double *seconds) {
    const double start = lks_clock_seconds();
    lks_status status = LKS_OK;
    if (lks_device_is_host(b->device))
        copy_on_host(b);
    else
        status = lks_device_copy(b->device, compute_stream(b), b->copy, b->grads,
                                 (size_t)b->count * sizeof(float), LKS_COPY_ON_DEVICE);
    if (!status) status = lks_stream_synchronize(compute_stream(b));
    *seconds = lks_clock_seconds() - start;
    return status;
}

static lks_status time_update(bench *b, double *seconds) {
    const double start = lks_clock_seconds();
    const lks_group_rates rates = {.lr = lks_optimizer_base_lr(b->optimizer, 0), .momentum = NAN};
    const lks_grad_scale scale = {.divisor = b->divisor, .scale = 1};
    lks_status status = lks_optimizer_step(b->optimizer, &rates, b->params, b->grads, &scale);
    if (!status) status = lks_stream_synchronize(compute_stream(b));
    *seconds = lks_clock_seconds() - start;
    return status;
}

static void print_list(const char *name, const double *values, int count) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++)
        printf("%s%.6f", i ? ", " : "", values[i]);
    printf("]");
}

static lks_status measure(bench *b, int turns) {
    double *seconds = calloc(2 * (size_t)turns, sizeof *seconds), unused;
    if (!seconds) return lks_fail(LKS_ENOMEM, "out of memory for %d turns", turns);
    double *copies = seconds, *updates = seconds + turns;
    lks_status status = time_copy(b, &unused); /* touches every page */
    if (!status) status = time_update(b, &unused);
    for (int t = 0; !status && t < turns; t++) {
        status = time_copy(b, &copies[t]);
        if (!status) status = time_update(b, &updates[t]);
    }
    if (!status) {
        /* Parameters and states are read and written, gradients are read. */
        const int64_t update_bytes =
            (12 + 8 * (int64_t)lks_optimizer_state_array_count(b->optimizer)) * b->count;
        printf("{\"update_bytes\": %" PRId64 ", \"copy_bytes\": %" PRId64 ", ", update_bytes,
               8 * b->count);
        print_list("update_s", updates, turns);
        printf(", ");
        print_list("copy_s", copies, turns);
        printf("}\n");
    }
    free(seconds);
    return status;
}

/* A whole number above zero. */
static int64_t read_count(const char *text) {
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    return errno || end == text || *end || value < 1 ? 0 : value;
}

int main(int argc, char **argv) {
    bench b = {0};
    const bool complete = argc == 6 || argc == 7;
    b.count = complete ? read_count(argv[3]) : 0;
    b.threads = complete ? (int)read_count(argv[4]) : 0;
    const int turns = complete ? (int)read_count(argv[5]) : 0;
    if (b.count < 1 || b.threads < 1 || turns < 1) {
        fprintf(stderr,
                "usage: bench_optim_update TYPE OPTIONS PARAMETERS THREADS TURNS [DEVICE]\n");
        return 2;
    }
    lks_status status = open_bench(&b, argc == 7 ? argv[6] : "cpu", argv[1], argv[2]);
    if (!status) status = measure(&b, turns);
    if (status)
        fprintf(stderr, "bench_optim_update: %s: %s\n", lks_status_text(status), lks_last_error());
    close_bench(&b);
    return status != LKS_OK;
}
