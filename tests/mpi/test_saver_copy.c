/* The copy of a background save goes on while the next step runs, and has ended before that step
 * changes the state: on the device that there is, a GPU, real or emulated, or the CPU. */
#include "device/backend.h"
#include "mpi/resume_case.h"
#include "train/saver.h"

enum { EPOCHS = 1 };

/* A device that is spied on: it knows of the copy when a loss is computed, and when the state
 * changes, by an update or a step that is replayed. On a CPU, too, the compute stream is told to
 * wait, and the host has waited by then. */
static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
    lks_math_ops math;
    const lks_device_backend *good;
    const lks_trainer *trainer;
    int beside;             /* losses computed while the copy was under way */
    int changes, too_early; /* of the state; before the copy was there */
    const lks_event *copy; /* recorded behind the device's copies; NULL: the compute stream waits */
} spy;

static lks_status see_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                           int64_t batch, const float *logits, const void *targets, float *dlogits,
                           double *sums) {
    spy.beside += lks_saver_copies(spy.trainer);
    return spy.good->math->loss(device, stream, desc, batch, logits, targets, dlogits, sums);
}

static void see_change(void) {
    spy.changes++;
    spy.too_early += lks_saver_copies(spy.trainer) || spy.copy != NULL;
}

static lks_status see_update(lks_device *device, lks_stream *stream, const lks_update *update,
                             const lks_sgd_update *sgd) {
    see_change();
    return spy.good->math->sgd(device, stream, update, sgd);
}

static lks_status see_replay(lks_recording *recording, lks_stream *stream) {
    see_change();
    return spy.good->streams->recording_replay(recording, stream);
}

static lks_status record_and_know(lks_event *event, lks_stream *stream) {
    if (stream == lks_device_stream(stream->device, LKS_STREAM_SAVE)) spy.copy = event;
    return spy.good->streams->event_record(event, stream);
}

static lks_status wait_and_know(lks_stream *stream, lks_event *event) {
    const bool computes = stream == lks_device_stream(stream->device, LKS_STREAM_COMPUTE);
    if (computes && event == spy.copy) spy.copy = NULL;
    return spy.good->streams->stream_wait(stream, event);
}

static void spy_on(train_case *run) {
    memset(&spy, 0, sizeof spy);
    spy.trainer = run->trainer;
    spy.good = run->context->device->backend;
    spy.backend = *spy.good;
    spy.streams = *spy.good->streams;
    spy.math = *spy.good->math;
    spy.streams.event_record = record_and_know;
    spy.streams.stream_wait = wait_and_know;
    if (spy.good->streams->recording_replay) spy.streams.recording_replay = see_replay;
    spy.math.loss = see_loss;
    spy.math.sgd = see_update;
    spy.backend.streams = &spy.streams;
    spy.backend.math = &spy.math;
    run->context->device->backend = &spy.backend;
}

/* The device that there is, the same on every rank; *out_records: can steps be recorded? */
static const char *find_device(bool *out_records) {
    const lks_context_config config = {.device = "cuda", .threads = 1};
    lks_context *context = NULL;
    const bool found = lks_context_create(MPI_COMM_WORLD, &config, &context) == LKS_OK;
    *out_records = found && (mpi_check_size() == 1 || lks_comm_is_on_device(context->comm));
    lks_context_destroy(context);
    return found ? "cuda" : "cpu";
}

/* Saves every step. */
static void train(const char *device, const char *folder, const char *checkpoint,
                  const lks_train_config *from) {
    static train_case run;
    lks_train_config config = *from;
    config.output = folder;
    config.checkpoint = checkpoint;
    config.epochs = EPOCHS;
    remove_folder(folder); /* of a test that failed */
    REQUIRE_OK(case_open_on(&run, MPI_COMM_WORLD, device, resume_layers, &config));
    spy_on(&run);
    REQUIRE_OK(lks_fit(run.trainer));
    run.context->device->backend = spy.good;
    case_close(&run);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* How many steps' files differ between a run that saves at once and one in the background. */
static int compare_saves(const char *device, const lks_train_config *config) {
    char folders[2][64], a[128], b[128];
    int process = getpid(); /* the tests of one kind of device run side by side */
    MPI_Bcast(&process, 1, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(folders[0], sizeof folders[0], "saver-copy-%d-at-once", process);
    snprintf(folders[1], sizeof folders[1], "saver-copy-%d", process);
    train(device, folders[0], "every.steps=1 keep_last=0 best=false", config);
    MPI_CHECK(spy.beside == 0 && spy.too_early == 0);
    train(device, folders[1], "every.steps=1 keep_last=0 best=false async=true", config);
    int different = 0;
    for (int step = 1; step < EPOCHS * RESUME_STEPS; step++) {
        snprintf(a, sizeof a, "%s/checkpoints/step-%08d.h5", folders[0], step);
        snprintf(b, sizeof b, "%s/checkpoints/step-%08d.h5", folders[1], step);
        different += !same_arrays(a, b);
    }
    remove_folder(folders[0]);
    remove_folder(folders[1]);
    return different;
}

static void check_saves(bool cuda_graph, int64_t micro_batch_size, int stage) {
    bool records;
    const char *device = find_device(&records);
    if (cuda_graph && !records) return;
    lks_train_config config = resume_config();
    config.cuda_graph = cuda_graph;
    config.micro_batch_size = micro_batch_size;
    config.zero_stage = stage;
    MPI_CHECK(compare_saves(device, &config) == 0);
    MPI_CHECK(spy.beside > 0 && spy.changes > 0 && spy.too_early == 0);
    mpi_verdict();
}

static void the_state_changes_when_the_copy_is_there(void **state) {
    (void)state;
    check_saves(false, 0, 1);
    check_saves(false, 5, 2); /* micro-batches, whose gradients add up */
}

static void so_it_does_when_steps_are_replayed(void **state) {
    (void)state;
    check_saves(true, 0, 1);
    check_saves(true, 5, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_state_changes_when_the_copy_is_there),
        cmocka_unit_test(so_it_does_when_steps_are_replayed),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
