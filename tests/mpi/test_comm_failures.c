/* What ranks learn when collectives between GPUs fail. Where KIND is not behind, late or silent,
 * the emulated NCCL fails as LKS_CUDA_EMU_NCCL_FAULT=KIND:1:8 says (tests/cuda_emu/README.md).
 *
 * Usage: test_comm_failures async | call | stall | remote | init | behind | late | silent */
#include "comm/backend.h"
#include "cuda_emu.h"
#include "mpi/mpi_check.h"

enum { CULPRIT = 1, FAILING = 8, COLLECTIVES = 48, COUNT = 5000 };

static const char *kind;
static lks_device *device;
static lks_comm *comm;

static lks_status open_world(void) {
    lks_status status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm);
    if (status != LKS_OK) return status;
    const lks_device_config config = {.kind = "cuda",
                                      .local_rank = lks_comm_local_rank(comm),
                                      .local_size = lks_comm_local_size(comm)};
    status = lks_device_create(&config, &device);
    return status == LKS_OK ? lks_comm_set_device(comm, device) : status;
}

/* The culprit does not look at notices until the others have given up; where KIND is remote, these
 * have lost their connections to it. */
static bool is_silent(void) {
    return strcmp(kind, "silent") == 0 || strcmp(kind, "remote") == 0;
}

static bool hang_is_over;

/* Behind: in a collective that the others have not come to. Late: its GPU hangs in work that comes
 * before the collective. */
static lks_status stay_away(void) {
    double x = 1;
    if (strcmp(kind, "late") == 0)
        lks_cuda_emu_hang(lks_stream_handle(lks_device_stream(device, LKS_STREAM_COMPUTE)),
                          &hang_is_over);
    if (is_silent()) MPI_Barrier(MPI_COMM_WORLD);
    if (strcmp(kind, "behind") != 0) return LKS_OK;
    return lks_comm_all_reduce(comm, &x, 1, LKS_F64, LKS_REDUCE_SUM);
}

/* All-reduces, as a run would make them, until one fails or all are done: behind the failing one so
 * many that what is known of it could be overwritten. */
static lks_status use_collectives(float *data) {
    lks_stream *compute = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_status status = LKS_OK;
    for (int i = 0; i < COLLECTIVES && status == LKS_OK; i++) {
        lks_request *request;
        if (i == FAILING && mpi_check_rank() == CULPRIT) status = stay_away();
        if (status != LKS_OK) break;
        lks_comm_set_label(comm, "gradients of bucket", i);
        status = lks_device_zero(device, compute, data, COUNT * sizeof *data);
        if (status == LKS_OK)
            status =
                lks_comm_all_reduce_start(comm, data, COUNT, LKS_F32, LKS_REDUCE_SUM, &request);
        if (status == LKS_OK) status = lks_comm_wait(comm, request);
        if (status == LKS_OK && i < FAILING && i % 3 == 2) status = lks_stream_synchronize(compute);
    }
    return status == LKS_OK ? lks_stream_synchronize(compute) : status;
}

/* Whom, and what of its fate, the verdict names. Who was silent hears from the others that they
 * have given up, and not why. */
static void check_text(const char *text) {
    if (is_silent() && mpi_check_rank() == CULPRIT) return;
    static const struct {
        const char *kind, *says[3];
    } expected[] = {
        {"async", {"rank 1 (", "unhandled system error", "gradients of bucket 7"}},
        {"call", {"rank 1 (", "ncclAllReduce: internal error", "GPU 0000:"}},
        {"stall", {"for 0.5 s", "every rank has queued", "gradients of bucket 7"}},
        {"behind", {"rank 1 (", "is behind the others", "gradients of bucket 8, which it has"}},
        {"late", {"rank 1 (", "is behind the others", "of bucket 8, which its GPU has not"}},
        {"silent", {"rank 1 (", "did not answer", "gradients of bucket"}},
        {"remote", {"rank 1 (", "did not answer", "gradients of bucket"}},
    };
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++)
        for (int i = 0; i < 3 && strcmp(kind, expected[k].kind) == 0; i++)
            MPI_CHECK(strstr(text, expected[k].says[i]) != NULL);
}

/* In seconds, whatever the deadline. Afterwards nothing goes on, and nothing hangs. */
static void all_ranks_learn_of_a_failure(void **state) {
    (void)state;
    void *data = NULL;
    double x = 1;
    MPI_REQUIRE(open_world() == LKS_OK);
    MPI_REQUIRE(strncmp(lks_comm_device_path(comm), "NCCL", 4) == 0);
    MPI_REQUIRE(lks_device_alloc(device, COUNT * sizeof(float), &data) == LKS_OK);
    if (strcmp(kind, "async") != 0 && strcmp(kind, "call") != 0) lks_comm_set_deadline(comm, 0.5);
    const double began = lks_clock_seconds();
    MPI_CHECK(use_collectives(data) == LKS_ECOMM);
    MPI_CHECK(lks_clock_seconds() - began < 10);
    char text[LKS_ERROR_BYTES];
    snprintf(text, sizeof text, "%s", lks_last_error());
    if (mpi_check_rank() == 0) print_message("%s\n", text);
    check_text(text);
    MPI_CHECK(lks_comm_all_reduce(comm, &x, 1, LKS_F64, LKS_REDUCE_SUM) == LKS_ECOMM);
    MPI_CHECK(strcmp(lks_last_error(), text) == 0);
    MPI_CHECK(lks_comm_agree(comm, LKS_OK) == LKS_ECOMM);
    if (is_silent() && mpi_check_rank() != CULPRIT) MPI_Barrier(MPI_COMM_WORLD);
    hang_is_over = true;
    lks_device_free(device, data);
    lks_comm_destroy(comm);
    lks_device_destroy(device);
    mpi_verdict();
}

/* Where NCCL does not start, there is still the way through the host. */
static void nccl_that_does_not_start_is_done_without(void **state) {
    (void)state;
    void *data = NULL;
    MPI_REQUIRE(open_world() == LKS_OK);
    MPI_CHECK(strcmp(lks_comm_device_path(comm), "shared memory") == 0);
    MPI_REQUIRE(lks_device_alloc(device, COUNT * sizeof(float), &data) == LKS_OK);
    MPI_CHECK(use_collectives(data) == LKS_OK);
    lks_device_free(device, data);
    lks_comm_destroy(comm);
    lks_device_destroy(device);
    mpi_verdict();
}

int main(int argc, char **argv) {
    kind = argc > 1 ? argv[1] : "";
    const struct CMUnitTest failures[] = {cmocka_unit_test(all_ranks_learn_of_a_failure)};
    const struct CMUnitTest start[] = {cmocka_unit_test(nccl_that_does_not_start_is_done_without)};
    return strcmp(kind, "init") == 0 ? MPI_CHECK_RUN(&argc, &argv, start)
                                     : MPI_CHECK_RUN(&argc, &argv, failures);
}
