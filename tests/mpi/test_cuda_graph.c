/* A step's work is queued without a wait, and so can be recorded: steps that are replayed give the
 * bits of steps that are queued one by one. Skipped, but for what is refused, where there is no
 * GPU, real or emulated, or ranks share one. */
#include <unistd.h>

#include "device/backend.h"
#include "mpi/resume_case.h"

/* Everything that counts: dropout, and running statistics that are means over all batches so far.
 */
static const lks_layer_spec layers[] = {
    {.type = "flatten"},
    {.type = "linear", .name = "fc1", .options = "out_features=12"},
    {.type = "batch_norm", .name = "norm", .options = "momentum=-1"},
    {.type = "relu"},
    {.type = "dropout", .options = "p=0.3"},
    {.type = "linear", .name = "fc2", .options = "out_features=5"},
    {0},
};

/* An epoch has 5 steps of 30 samples and one of 13; two whole batches warm up. */
enum { EPOCHS = 2, WHOLE_STEPS = 5, WARM_UP = 2 };

/* On one rank with a GPU, or several with one each. */
static void skip_unless_steps_can_be_recorded(void) {
    const lks_context_config config = {.device = "cuda", .threads = 1};
    lks_context *context = NULL;
    const lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &context);
    const bool can =
        status == LKS_OK && (mpi_check_size() == 1 || lks_comm_is_on_device(context->comm));
    lks_context_destroy(context);
    if (!can) skip();
}

static lks_train_config graph_config(bool cuda_graph) {
    lks_train_config config = case_config();
    config.epochs = EPOCHS;
    config.cuda_graph = cuda_graph;
    return config;
}

static void open_run(train_case *run, const lks_train_config *config) {
    REQUIRE_OK(case_open_on(run, MPI_COMM_WORLD, "cuda", layers, config));
}

static void make_steps(train_case *run, int count) {
    for (int step = 0; step < count; step++) {
        bool done;
        REQUIRE_OK(lks_step(run->trainer, &done));
    }
}

static bool is_last_rank(void) {
    return mpi_check_rank() == mpi_check_size() - 1;
}

/* ---- a device that is spied on ---- */

static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
    lks_memory_ops memory;
    lks_math_ops math;
    const lks_device_backend *good;
    char calls[4096]; /* (L)osses, (U)pdates, and (W)aits of the host for the device */
    int call_count;
    int recorded, replayed, copied; /* copied: of batches, on the copy stream */
    bool recording_fails;
    int failing_replay, failing_copy; /* of the last rank; 0: none */
} spy;

static void see(char call) {
    if (spy.call_count < (int)sizeof spy.calls) spy.calls[spy.call_count++] = call;
}

static lks_status see_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                           int64_t batch, const float *logits, const void *targets, float *dlogits,
                           double *sums) {
    see('L');
    return spy.good->math->loss(device, stream, desc, batch, logits, targets, dlogits, sums);
}

static lks_status see_update(lks_device *device, lks_stream *stream, const lks_update *update,
                             const lks_sgd_update *sgd) {
    see('U');
    return spy.good->math->sgd(device, stream, update, sgd);
}

static lks_status see_stream_wait(lks_stream *stream) {
    see('W');
    return spy.good->streams->stream_synchronize(stream);
}

static lks_status see_event_wait(lks_event *event) {
    see('W');
    return spy.good->streams->event_synchronize(event);
}

static lks_status see_stream_query(lks_stream *stream, bool *out) {
    see('W');
    return spy.good->streams->stream_query(stream, out);
}

static lks_status see_event_query(lks_event *event, bool *out) {
    see('W');
    return spy.good->streams->event_query(event, out);
}

static lks_status end_recording(lks_stream *stream, lks_recording **out) {
    lks_status status = spy.good->streams->recording_end(stream, out);
    spy.recorded++;
    if (status != LKS_OK || !spy.recording_fails) return status;
    spy.good->streams->recording_destroy(*out);
    *out = NULL;
    return lks_fail(LKS_EDEVICE, "the recorder jammed");
}

static lks_status replay(lks_recording *recording, lks_stream *stream) {
    if (++spy.replayed == spy.failing_replay && is_last_rank())
        return lks_fail(LKS_EDEVICE, "the replay broke");
    return spy.good->streams->recording_replay(recording, stream);
}

static lks_status copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                       size_t bytes, lks_copy_kind kind) {
    const bool of_batch = stream == lks_device_stream(device, LKS_STREAM_COPY);
    if (of_batch && ++spy.copied == spy.failing_copy && is_last_rank())
        return lks_fail(LKS_EDEVICE, "the copy broke");
    return spy.good->memory->copy(device, stream, to, from, bytes, kind);
}

static void spy_on(train_case *run) {
    memset(&spy, 0, sizeof spy);
    spy.good = run->context->device->backend;
    spy.backend = *spy.good;
    spy.streams = *spy.good->streams;
    spy.memory = *spy.good->memory;
    spy.math = *spy.good->math;
    spy.streams.stream_synchronize = see_stream_wait;
    spy.streams.event_synchronize = see_event_wait;
    spy.streams.stream_query = see_stream_query;
    spy.streams.event_query = see_event_query;
    spy.streams.recording_end = end_recording;
    spy.streams.recording_replay = replay;
    spy.memory.copy = copy;
    spy.math.loss = see_loss;
    spy.math.sgd = see_update;
    spy.backend.streams = &spy.streams;
    spy.backend.memory = &spy.memory;
    spy.backend.math = &spy.math;
    run->context->device->backend = &spy.backend;
}

static void close_spied(train_case *run) {
    run->context->device->backend = spy.good;
    case_close(run);
}

/* ---- what the host waits for ---- */

static void no_wait_before_the_last_update(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case run;
    lks_train_config config = graph_config(false);
    config.gradients = "clip_norm=0.1 norm_type=inf on_nonfinite=skip";
    open_run(&run, &config);
    spy_on(&run);
    make_steps(&run, 3);
    bool waited = false;
    int updates = 0;
    for (int i = 0; i < spy.call_count; i++) {
        if (spy.calls[i] == 'L') waited = false;
        if (spy.calls[i] == 'W') waited = true;
        if (spy.calls[i] != 'U') continue;
        updates++;
        MPI_CHECK(!waited);
    }
    MPI_CHECK(updates > 3 && waited); /* several buckets */
    close_spied(&run);
    mpi_verdict();
}

/* ---- the same bits ---- */

static void compare_runs(const lks_train_config *config) {
    static train_case one, other;
    lks_train_config recorded = *config;
    recorded.cuda_graph = true;
    open_run(&one, &recorded);
    open_run(&other, config);
    spy_on(&one);
    REQUIRE_OK(lks_fit(one.trainer));
    REQUIRE_OK(lks_fit(other.trainer));
    MPI_CHECK(spy.recorded == 1 && spy.replayed == EPOCHS * WHOLE_STEPS - WARM_UP);
    MPI_CHECK(case_same_params(one.trainer, other.trainer));
    MPI_CHECK(same_history(one.trainer, other.trainer));
    close_spied(&one);
    case_close(&other);
}

static void replays_give_the_same_bits(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    lks_train_config config = graph_config(false);
    config.schedule =
        (lks_spec){.type = "one_cycle", .options = "max_lr=0.1 total_steps=12"}; /* every step */
    compare_runs(&config);
    config.optimizer = (lks_spec){.type = "adamw", .options = "lr=3e-3 amsgrad=true"};
    config.gradients = "clip_norm=0.5 clip_value=0.1";
    config.micro_batch_size = 8; /* the last of four has 6 */
    compare_runs(&config);
    mpi_verdict();
}

/* Of one value for each rank, a synchronised batch norm looks at how many all have, but not in what
 * is recorded. */
static void a_rank_may_have_one_value(void **state) {
    (void)state;
    static const lks_layer_spec synchronised[] = {
        {.type = "flatten"},
        {.type = "batch_norm", .options = "synchronize=true"},
        {.type = "linear", .name = "fc", .options = "out_features=5"},
        {0},
    };
    if (mpi_check_size() == 1) skip();
    skip_unless_steps_can_be_recorded();
    static train_case run;
    lks_train_config config = graph_config(true);
    config.batch_size = mpi_check_size();
    REQUIRE_OK(case_open_on(&run, MPI_COMM_WORLD, "cuda", synchronised, &config));
    spy_on(&run);
    make_steps(&run, WARM_UP + 2);
    MPI_CHECK(spy.recorded == 1 && spy.replayed == 2);
    close_spied(&run);
    mpi_verdict();
}

/* Steps 4, a replay, and 6, a short batch, are not finite. */
static void run_with_skips(train_case *run, bool cuda_graph) {
    static const float spoilt[CASE_CLASSES] = {NAN};
    lks_train_config config = graph_config(cuda_graph);
    config.gradients = "on_nonfinite=skip";
    open_run(run, &config);
    for (int step = 1; step <= WHOLE_STEPS + 1; step++) {
        float bias[CASE_CLASSES];
        const bool spoil = step == 4 || step == 6;
        REQUIRE_OK(lks_trainer_get_param(run->trainer, "fc2.bias", NULL, bias));
        if (spoil) REQUIRE_OK(lks_trainer_set_param(run->trainer, "fc2.bias", spoilt));
        make_steps(run, 1);
        if (spoil) REQUIRE_OK(lks_trainer_set_param(run->trainer, "fc2.bias", bias));
    }
    MPI_CHECK(run->trainer->skipped == 2 && lks_optimizer_steps(run->trainer->optimizer) == 4);
}

static void replays_skip_what_is_not_finite(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case one, other;
    run_with_skips(&one, true);
    run_with_skips(&other, false);
    MPI_CHECK(case_same_params(one.trainer, other.trainer));
    case_close(&one);
    case_close(&other);
    mpi_verdict();
}

/* A run may change its mind with every session; the one that is left has copied a batch ahead. */
static void resumes_with_and_without(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case whole, first, second;
    const char *path = folder_of("cuda-graph"); /* a file */
    const lks_train_config config = graph_config(false);
    open_run(&whole, &config);
    REQUIRE_OK(lks_fit(whole.trainer));
    for (int graph_first = 0; graph_first < 2; graph_first++) {
        const lks_train_config before = graph_config(graph_first),
                               after = graph_config(!graph_first);
        open_run(&first, &before);
        make_steps(&first, 4);
        REQUIRE_OK(lks_trainer_save(first.trainer, path));
        case_close(&first);
        open_run(&second, &after);
        REQUIRE_OK(lks_trainer_restore(second.trainer, path));
        REQUIRE_OK(lks_fit(second.trainer));
        MPI_CHECK(case_same_params(whole.trainer, second.trainer));
        case_close(&second);
    }
    case_close(&whole);
    if (mpi_check_rank() == 0) unlink(path);
    mpi_verdict();
}

/* Restored in their own midst, steps are recorded anew, and what was copied ahead is forgotten. */
static void a_run_goes_back(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case run, straight;
    const char *path = folder_of("cuda-graph-back");
    const lks_train_config config = graph_config(true), plain = graph_config(false);
    open_run(&run, &config);
    make_steps(&run, 1);
    REQUIRE_OK(lks_trainer_save(run.trainer, path));
    make_steps(&run, 3);
    REQUIRE_OK(lks_trainer_restore(run.trainer, path));
    make_steps(&run, 4);
    open_run(&straight, &plain);
    make_steps(&straight, 5);
    MPI_CHECK(case_same_params(run.trainer, straight.trainer));
    case_close(&run);
    case_close(&straight);
    if (mpi_check_rank() == 0) unlink(path);
    mpi_verdict();
}

/* ---- failures ---- */

/* A whole run, which ends early. */
static lks_status fit_and_fail(train_case *run, bool recording, int replay, int copy) {
    const lks_train_config config = graph_config(true);
    open_run(run, &config);
    spy_on(run);
    spy.recording_fails = recording && is_last_rank();
    spy.failing_replay = replay;
    spy.failing_copy = copy;
    return lks_fit(run->trainer);
}

static void a_recording_that_fails_says_so(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case run;
    MPI_CHECK(fit_and_fail(&run, true, 0, 0) == LKS_EDEVICE);
    MPI_CHECK(strstr(lks_last_error(), "cuda_graph") && strstr(lks_last_error(), "jammed"));
    MPI_CHECK(run.trainer->position.step == WARM_UP && spy.replayed == 0);
    close_spied(&run);
    mpi_verdict();
}

/* Recorded collectives meet recorded ones: the rank that has failed replays with the others, and
 * all end by what the device was told of it. A batch is two copies. */
static void a_rank_that_fails_replays_with_the_others(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case run;
    const int failing = WARM_UP + 3;
    MPI_CHECK(fit_and_fail(&run, false, 0, 2 * failing - 1) == LKS_EDEVICE);
    MPI_CHECK(strstr(lks_last_error(), "the copy broke") != NULL);
    MPI_CHECK(run.trainer->position.step == failing - 1);
    MPI_CHECK(spy.replayed == failing - WARM_UP);
    close_spied(&run);
    mpi_verdict();
}

/* The others wait on their devices for what this rank does not replay: it tells them why. */
static void a_failing_replay_ends_the_run_of_every_rank(void **state) {
    (void)state;
    skip_unless_steps_can_be_recorded();
    static train_case run;
    char culprit[32] = "";
    const double began = lks_clock_seconds();
    const bool alone = mpi_check_size() == 1;
    MPI_CHECK(fit_and_fail(&run, false, 2, 0) == (alone ? LKS_EDEVICE : LKS_ECOMM));
    MPI_CHECK(lks_clock_seconds() - began < 10); /* and not stall_timeout */
    if (!alone) snprintf(culprit, sizeof culprit, "rank %d (", mpi_check_size() - 1);
    MPI_CHECK(strncmp(lks_last_error(), culprit, strlen(culprit)) == 0);
    MPI_CHECK(strstr(lks_last_error(), "cuda_graph: replaying step 4: the replay broke") != NULL);
    /* The others may hear of it while they wait for the step before. */
    MPI_CHECK(run.trainer->position.step == WARM_UP + 1 || !is_last_rank());
    close_spied(&run);
    mpi_verdict();
}

/* Ranks that share a GPU are refused a graph; the CPU has nothing to record. */
static void what_cannot_be_recorded(void **state) {
    (void)state;
    static train_case run;
    const lks_train_config config = graph_config(true);
    const lks_status status = case_open_on(&run, MPI_COMM_WORLD, "cuda", layers, &config);
    if (status != LKS_OK && status != LKS_EUNSUPPORTED) {
        MPI_CHECK(status == LKS_ECONFIG);
        MPI_CHECK(mpi_check_size() > 1 && !lks_comm_is_on_device(run.context->comm));
        MPI_CHECK(strstr(lks_last_error(), "cuda_graph: true takes one rank") != NULL);
    }
    case_close(&run);
    REQUIRE_OK(case_open_data(&run, MPI_COMM_WORLD, "cpu"));
    FILE *log = run.context->logger.also = tmpfile();
    MPI_REQUIRE(log != NULL);
    REQUIRE_OK(lks_trainer_create(run.context, layers, &case_input, run.train, run.validation,
                                  &config, &run.trainer));
    REQUIRE_OK(lks_epoch(run.trainer, NULL));
    run.context->logger.also = NULL;
    rewind(log);
    char text[256] = "";
    const size_t length = fread(text, 1, sizeof text - 1, log);
    fclose(log);
    MPI_CHECK(mpi_check_rank() == 0
                  ? strstr(text, "warning: cuda_graph: true changes nothing") != NULL &&
                        strchr(text, '\n') == text + length - 1
                  : length == 0);
    case_close(&run);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wait_before_the_last_update),
        cmocka_unit_test(replays_give_the_same_bits),
        cmocka_unit_test(a_rank_may_have_one_value),
        cmocka_unit_test(replays_skip_what_is_not_finite),
        cmocka_unit_test(resumes_with_and_without),
        cmocka_unit_test(a_run_goes_back),
        cmocka_unit_test(a_recording_that_fails_says_so),
        cmocka_unit_test(a_rank_that_fails_replays_with_the_others),
        cmocka_unit_test(a_failing_replay_ends_the_run_of_every_rank),
        cmocka_unit_test(what_cannot_be_recorded),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
