/* Collectives on the memory of GPUs: where every rank has one of its own, through NCCL. Skipped
 * where there is no GPU, real or emulated. */
#include <math.h>

#include "comm/watch.h"
#include "mpi/comm_data.h"

static lks_device *device;
static lks_comm *comm;

/* ---- device memory ---- */

static lks_stream *compute(void) {
    return lks_device_stream(device, LKS_STREAM_COMPUTE);
}

static void *allocate_on_device(size_t bytes) {
    void *memory = NULL;
    MPI_REQUIRE(lks_device_alloc(device, bytes + 1, &memory) == LKS_OK);
    return memory;
}

static void upload(void *to, const void *from, size_t bytes) {
    MPI_CHECK(lks_device_copy(device, compute(), to, from, bytes, LKS_COPY_TO_DEVICE) == LKS_OK);
}

static void download(void *to, const void *from, size_t bytes) {
    MPI_CHECK(lks_device_copy(device, compute(), to, from, bytes, LKS_COPY_TO_HOST) == LKS_OK);
    MPI_CHECK(lks_stream_synchronize(compute()) == LKS_OK);
}

/* Around the chunks of the emulated NCCL (65536 float32, less where a reduce-scatter divides it),
 * and less than one element per rank. */
static const int64_t device_sizes[] = {0, 1, 5, 1025, 70003};
enum { DEVICE_SIZES = sizeof device_sizes / sizeof *device_sizes };

/* ---- every collective, in every type ---- */

static void check_device_all_reduce(int64_t count, lks_dtype dtype, lks_reduce_op op) {
    const size_t bytes = (size_t)count * lks_dtype_bytes(dtype);
    const int size = lks_comm_size(comm);
    void *host = allocate(bytes), *data = allocate_on_device(bytes);
    fill(host, count, dtype, lks_comm_rank(comm));
    upload(data, host, bytes);
    MPI_CHECK(lks_comm_all_reduce(comm, data, count, dtype, op) == LKS_OK);
    download(host, data, bytes);
    bool good = true;
    for (int64_t i = 0; i < count && good; i++)
        good = holds(host, i, dtype,
                     op == LKS_REDUCE_SUM ? expected_sum(size, i) : expected_max(size, i));
    MPI_CHECK(good);
    lks_device_free(device, data);
    free(host);
}

static void all_reduce_of_device_memory(void **state) {
    (void)state;
    for (int t = 0; t < REDUCED_TYPES; t++)
        for (int s = 0; s < DEVICE_SIZES; s++) {
            check_device_all_reduce(device_sizes[s], reduced_types[t], LKS_REDUCE_SUM);
            check_device_all_reduce(device_sizes[s], reduced_types[t], LKS_REDUCE_MAX);
        }
    mpi_verdict();
}

static void check_parts(int64_t count, lks_dtype dtype, int pattern, bool gather) {
    const size_t element = lks_dtype_bytes(dtype), bytes = (size_t)count * element;
    const int size = lks_comm_size(comm), rank = lks_comm_rank(comm);
    int64_t *counts = allocate((size_t)size * sizeof *counts);
    void *host = allocate(bytes), *data = allocate_on_device(bytes);
    cut(counts, size, count, pattern);
    const int64_t first = begin_of(counts, rank), own = counts[rank];
    fill(host, count, dtype, gather ? 1 : rank);
    if (gather) { /* the other ranks' parts are anything */
        memset(host, 0x55, (size_t)first * element);
        memset((char *)host + (size_t)(first + own) * element, 0x55,
               (size_t)(count - first - own) * element);
    }
    upload(data, host, bytes);
    if (gather)
        MPI_CHECK(lks_comm_all_gather(comm, data, counts, dtype) == LKS_OK);
    else
        MPI_CHECK(reduce_scatter(comm, data, counts, dtype, LKS_REDUCE_SUM) == LKS_OK);
    download(host, data, bytes);
    bool good = true;
    const int64_t begin = gather ? 0 : first, end = gather ? count : first + own;
    for (int64_t i = begin; i < end && good; i++)
        good = holds(host, i, dtype, gather ? input(1, i) : expected_sum(size, i));
    MPI_CHECK(good);
    lks_device_free(device, data);
    free(host);
    free(counts);
}

/* Parts of different lengths go through the host. */
static void parts_of_device_memory(void **state) {
    (void)state;
    for (int pattern = 0; pattern < PATTERNS; pattern++)
        for (int s = 0; s < DEVICE_SIZES; s++) {
            const int64_t count = device_sizes[s] * (pattern == 0 ? lks_comm_size(comm) : 1);
            for (int t = 0; t < ALL_TYPES; t++)
                check_parts(count, all_types[t], pattern, true);
            for (int t = 0; t < REDUCED_TYPES; t++)
                check_parts(count, reduced_types[t], pattern, false);
        }
    mpi_verdict();
}

static void broadcast_of_device_memory(void **state) {
    (void)state;
    const int64_t bytes = 300001;
    uint8_t *host = allocate((size_t)bytes);
    void *data = allocate_on_device((size_t)bytes);
    for (int root = 0; root < lks_comm_size(comm); root++) {
        fill(host, bytes, LKS_U8, lks_comm_rank(comm));
        upload(data, host, (size_t)bytes);
        MPI_CHECK(lks_comm_broadcast(comm, data, bytes, root) == LKS_OK);
        download(host, data, (size_t)bytes);
        bool good = true;
        for (int64_t i = 0; i < bytes && good; i++)
            good = holds(host, i, LKS_U8, input(root, i));
        MPI_CHECK(good);
    }
    lks_device_free(device, data);
    free(host);
    mpi_verdict();
}

/* Which NCCL's own maximum would lose. */
static void a_maximum_keeps_a_nan(void **state) {
    (void)state;
    const int rank = lks_comm_rank(comm), last = lks_comm_size(comm) - 1;
    double x[] = {rank == 0 ? NAN : 1, rank == last ? NAN : 1, rank};
    void *data = allocate_on_device(sizeof x);
    upload(data, x, sizeof x);
    MPI_CHECK(lks_comm_all_reduce(comm, data, 3, LKS_F64, LKS_REDUCE_MAX) == LKS_OK);
    download(x, data, sizeof x);
    MPI_CHECK(isnan(x[0]) && isnan(x[1]) && x[2] == last);
    lks_device_free(device, data);
    mpi_verdict();
}

/* ---- between the streams ---- */

enum { ROUNDS = 20, BUCKETS = 4, BUCKET = 3000 };

/* As a step does: a bucket is written, its sum starts, the next is written; then all are used, and
 * collectives of host memory go on beside. Whatever starts too early or ends too late shows in the
 * numbers, or as memory that nothing wrote. */
static void work_waits_for_work(void **state) {
    (void)state;
    const int size = lks_comm_size(comm);
    float *buckets = allocate_on_device(BUCKETS * BUCKET * sizeof(float));
    float *sums = allocate_on_device(BUCKET * sizeof(float));
    float *host = allocate(BUCKET * sizeof *host);
    fill(host, BUCKET, LKS_F32, lks_comm_rank(comm));
    for (int round = 0; round < ROUNDS; round++) {
        lks_request *requests[BUCKETS] = {0};
        for (int b = 0; b < BUCKETS; b++) {
            float *bucket = buckets + b * BUCKET;
            upload(bucket, host, BUCKET * sizeof *host);
            lks_comm_set_label(comm, "bucket", b);
            MPI_CHECK(lks_comm_all_reduce_start(comm, bucket, BUCKET, LKS_F32, LKS_REDUCE_SUM,
                                                &requests[b]) == LKS_OK);
        }
        check_all_reduce(comm, 17, LKS_F64, LKS_REDUCE_SUM);
        MPI_CHECK(lks_device_zero(device, compute(), sums, BUCKET * sizeof(float)) == LKS_OK);
        for (int b = 0; b < BUCKETS; b++) {
            MPI_CHECK(lks_comm_wait(comm, requests[b]) == LKS_OK);
            MPI_CHECK(lks_device_add(device, compute(), BUCKET, LKS_F32, buckets + b * BUCKET,
                                     LKS_F32, sums) == LKS_OK);
        }
        float *out = allocate(BUCKET * sizeof *out);
        download(out, sums, BUCKET * sizeof *out);
        bool good = true;
        for (int64_t i = 0; i < BUCKET && good; i++)
            good = out[i] == (float)(BUCKETS * expected_sum(size, i));
        MPI_CHECK(good);
        free(out);
    }
    lks_device_free(device, buckets);
    lks_device_free(device, sums);
    free(host);
    mpi_verdict();
}

/* Nothing of the host's memory passes through the queue, and nothing of the device's through the
 * host where each rank has a GPU. */
static void each_memory_has_its_path(void **state) {
    (void)state;
    if (lks_comm_size(comm) == 1) skip();
    MPI_CHECK(strcmp(lks_comm_backend_name(comm), "shared memory") == 0);
    const lks_rank_place *places = lks_watch_places(comm);
    bool own_gpus = true;
    for (int a = 0; a < lks_comm_size(comm); a++)
        for (int b = 0; b < a; b++)
            own_gpus = own_gpus && (strcmp(places[a].gpu, places[b].gpu) != 0 ||
                                    strcmp(places[a].host_id, places[b].host_id) != 0);
    const char *path = lks_comm_device_path(comm);
    MPI_CHECK(own_gpus == (strncmp(path, "NCCL 2.", 7) == 0));
    MPI_CHECK(own_gpus || strcmp(path, "shared memory") == 0);
    mpi_verdict();
}

/* ---- NCCL alone ---- */

static bool is_nccl_required; /* set once, from the program's arguments */

/* A communicator of one rank, for which Lockstep has no use: does the library open, meet, compute
 * and end? */
static void nccl_runs_on_one_rank(void **state) {
    (void)state;
    enum { COUNT = 70003 };
    const lks_comm_device_ops *ops = lks_comm_device_backends[0];
    if (lks_comm_size(comm) > 1 || (!ops && !is_nccl_required)) skip();
    MPI_REQUIRE(ops != NULL);
    const lks_status status = ops->open(comm);
    if (status == LKS_EUNSUPPORTED && !is_nccl_required) skip();
    if (status != LKS_OK) print_error("%s\n", lks_last_error());
    MPI_REQUIRE(status == LKS_OK);
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    float *host = allocate(COUNT * sizeof *host), *data = allocate_on_device(COUNT * sizeof *data);
    const int64_t counts[] = {COUNT};
    const lks_collective kinds[] = {LKS_ALL_REDUCE, LKS_REDUCE_SCATTER, LKS_ALL_GATHER,
                                    LKS_BROADCAST};
    fill(host, COUNT, LKS_F32, 0);
    upload(data, host, COUNT * sizeof *host);
    for (int k = 0; k < (int)(sizeof kinds / sizeof *kinds); k++) {
        const lks_comm_call call = {.kind = kinds[k],
                                    .data = data,
                                    .count = COUNT,
                                    .counts = counts,
                                    .dtype = LKS_F32,
                                    .op = LKS_REDUCE_SUM};
        MPI_CHECK(ops->takes(comm, &call) && ops->enqueue(comm, &call, stream) == LKS_OK);
    }
    download(host, data, COUNT * sizeof *host);
    bool elsewhere, good = ops->check(comm, &elsewhere) == LKS_OK;
    for (int64_t i = 0; i < COUNT && good; i++)
        good = holds(host, i, LKS_F32, input(0, i));
    MPI_CHECK(good);
    ops->close(comm);
    lks_device_free(device, data);
    free(host);
    mpi_verdict();
}

/* ---- the world ---- */

static int open_world(void **state) {
    (void)state;
    lks_status status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm);
    if (status != LKS_OK) return -1;
    const lks_device_config config = {.kind = "cuda",
                                      .local_rank = lks_comm_local_rank(comm),
                                      .local_size = lks_comm_local_size(comm)};
    status = lks_device_create(&config, &device);
    return status != LKS_OK || lks_comm_set_device(comm, device) != LKS_OK;
}

static int close_world(void **state) {
    (void)state;
    lks_comm_destroy(comm);
    lks_device_destroy(device);
    return 0;
}

static bool have_gpu(void) {
    const lks_device_config config = {.kind = "cuda", .local_size = 1};
    lks_device *found = NULL;
    const lks_status status = lks_device_create(&config, &found);
    lks_device_destroy(found);
    return status == LKS_OK;
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

static void there_is_no_gpu(void **state) {
    (void)state;
    skip();
}

int main(int argc, char **argv) {
    const struct CMUnitTest nothing[] = {cmocka_unit_test(there_is_no_gpu)};
    const struct CMUnitTest tests[] = {
        IN_WORLD(each_memory_has_its_path), IN_WORLD(all_reduce_of_device_memory),
        IN_WORLD(parts_of_device_memory),   IN_WORLD(broadcast_of_device_memory),
        IN_WORLD(a_maximum_keeps_a_nan),    IN_WORLD(work_waits_for_work),
        IN_WORLD(nccl_runs_on_one_rank),
    };
    is_nccl_required = argc > 2 && strcmp(argv[2], "nccl") == 0;
    return have_gpu() ? MPI_CHECK_RUN(&argc, &argv, tests) : MPI_CHECK_RUN(&argc, &argv, nothing);
}
