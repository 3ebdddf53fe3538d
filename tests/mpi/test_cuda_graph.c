/* A step's work is queued without a wait, and so can be recorded: steps that are replayed give the
 * bits of steps that are queued one by one. Skipped, but for what is refused, where there is no
 * GPU, real or emulated, or ranks share one. */
#include <unistd.h>

#include "device/backend.h"
#include "mpi/resume_case.h"

/* Everything that counts: dropout, and running statistics that are means over all batches so far.
 */
static const lks_layer_spec layers[] = {
    {.type = "conv2d", .name = "conv", .options = "out_channels=4 kernel_size=3"},
    {.type = "batch_norm", .name = "norm", .options = "momentum=-1"},
    {.type = "relu"},
    {.type = "flatten"},
    {.type = "dropout", .options = "p=0.3"},
    {.type = "linear", .name = "fc", .options = "out_features=5"},
    {0},
};

/* An epoch has 5 steps of 30 samples and one of 13; two whole batches warm up. */
enum { EPOCHS = 2, WHOLE_STEPS = 5, WARM_UP = 2 };

/* Can steps be recorded: on one rank with a GPU, or several with one each? The same on every rank.
 */
static bool can_record(void) {
    const lks_context_config config = {.device = "cuda", .threads = 1};
    lks_context *context = NULL;
    const lks_status status = lks_context_create(MPI_COMM_WORLD, &config, &context);
    const bool can =
        status == LKS_OK && (mpi_check_size() == 1 || lks_comm_is_on_device(context->comm));
    lks_context_destroy(context);
    return can;
}

static lks_train_config graph_config(bool cuda_graph) {
    lks_train_config config = case_config();
    config.epochs = EPOCHS;
    config.cuda_graph = cuda_graph;
    return config;
}

static lks_status open_on(train_case *run, const char *device, const lks_train_config *config) {
    return case_open_on(run, MPI_COMM_WORLD, device, layers, config);
}

/* ---- a device whose recordings are watched ---- */

static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
    const lks_device_backend *good;
    int recorded, replayed;
    bool recording_fails;
    int failing_replay; /* of the last rank; 0: none */
} watched;

static lks_status end_recording(lks_stream *stream, lks_recording **out) {
    lks_status status = watched.good->streams->recording_end(stream, out);
    watched.recorded++;
    if (status != LKS_OK || !watched.recording_fails) return status;
    watched.good->streams->recording_destroy(*out);
    *out = NULL;
    return lks_fail(LKS_EDEVICE, "the recorder jammed");
}

static lks_status replay(lks_recording *recording, lks_stream *stream) {
    if (++watched.replayed == watched.failing_replay && mpi_check_rank() == mpi_check_size() - 1)
        return lks_fail(LKS_EDEVICE, "the replay broke");
    return watched.good->streams->recording_replay(recording, stream);
}

static void watch(lks_device *device) {
    watched.good = device->backend;
    watched.backend = *watched.good;
    watched.streams = *watched.good->streams;
    watched.backend.streams = &watched.streams;
    watched.streams.recording_end = end_recording;
    watched.streams.recording_replay = replay;
    watched.recorded = watched.replayed = watched.failing_replay = 0;
    watched.recording_fails = false;
    device->backend = &watched.backend;
}

static void unwatch(lks_device *device) {
    device->backend = watched.good;
}

/* ---- what the host waits for ---- */

/* The calls of a run in their order: (L)osses, (U)pdates, and (W)aits of the host for the device.
 */
static struct {
    lks_device_backend backend;
    lks_stream_ops streams;
    lks_math_ops math;
    const lks_device_backend *good;
    char calls[4096];
    int count;
} seen;

static void see(char call) {
    if (seen.count < (int)sizeof seen.calls - 1) seen.calls[seen.count++] = call;
}

static lks_status see_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                           int64_t batch, const float *logits, const void *targets, float *dlogits,
                           double *sums) {
    see('L');
    return seen.good->math->loss(device, stream, desc, batch, logits, targets, dlogits, sums);
}

static lks_status see_update(lks_device *device, lks_stream *stream, const lks_update *update,
                             const lks_sgd_update *sgd) {
    see('U');
    return seen.good->math->sgd(device, stream, update, sgd);
}

static lks_status see_stream_wait(lks_stream *stream) {
    see('W');
    return seen.good->streams->stream_synchronize(stream);
}

static lks_status see_event_wait(lks_event *event) {
    see('W');
    return seen.good->streams->event_synchronize(event);
}

static lks_status see_stream_query(lks_stream *stream, bool *out) {
    see('W');
    return seen.good->streams->stream_query(stream, out);
}

static lks_status see_event_query(lks_event *event, bool *out) {
    see('W');
    return seen.good->streams->event_query(event, out);
}

static void see_calls(lks_device *device) {
    seen.good = device->backend;
    seen.backend = *seen.good;
    seen.streams = *seen.good->streams;
    seen.math = *seen.good->math;
    seen.streams.stream_synchronize = see_stream_wait;
    seen.streams.event_synchronize = see_event_wait;
    seen.streams.stream_query = see_stream_query;
    seen.streams.event_query = see_event_query;
    seen.math.loss = see_loss;
    seen.math.sgd = see_update;
    seen.backend.streams = &seen.streams;
    seen.backend.math = &seen.math;
    seen.count = 0;
    device->backend = &seen.backend;
}

static void no_wait_before_the_last_update(void **state) {
    (void)state;
    if (!can_record()) skip();
    static train_case run;
    lks_train_config config = graph_config(false);
    config.gradients = "clip_norm=0.1 norm_type=inf on_nonfinite=skip";
    REQUIRE_OK(open_on(&run, "cuda", &config));
    see_calls(run.context->device);
    for (int step = 0; step < 3; step++) {
        bool done;
        REQUIRE_OK(lks_step(run.trainer, &done));
    }
    run.context->device->backend = seen.good;
    bool waited = false;
    int updates = 0;
    for (int i = 0; i < seen.count; i++) {
        if (seen.calls[i] == 'L') waited = false;
        if (seen.calls[i] == 'W') waited = true;
        if (seen.calls[i] != 'U') continue;
        updates++;
        MPI_CHECK(!waited);
    }
    MPI_CHECK(updates > 3 && waited); /* several buckets */
    case_close(&run);
    mpi_verdict();
}

/* ---- the same bits ---- */

static void compare_runs(const lks_train_config *config) {
    static train_case one, other;
    lks_train_config recorded = *config;
    recorded.cuda_graph = true;
    REQUIRE_OK(open_on(&one, "cuda", &recorded));
    REQUIRE_OK(open_on(&other, "cuda", config));
    watch(one.context->device);
    REQUIRE_OK(lks_fit(one.trainer));
    unwatch(one.context->device);
    REQUIRE_OK(lks_fit(other.trainer));
    MPI_CHECK(watched.recorded == 1 && watched.replayed == EPOCHS * WHOLE_STEPS - WARM_UP);
    MPI_CHECK(case_same_params(one.trainer, other.trainer));
    MPI_CHECK(same_history(one.trainer, other.trainer));
    case_close(&one);
    case_close(&other);
}

static void replays_give_the_same_bits(void **state) {
    (void)state;
    if (!can_record()) skip();
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
    if (mpi_check_size() == 1 || !can_record()) skip();
    static train_case run;
    lks_train_config config = graph_config(true);
    config.batch_size = mpi_check_size();
    REQUIRE_OK(case_open_on(&run, MPI_COMM_WORLD, "cuda", synchronised, &config));
    watch(run.context->device);
    for (int step = 0; step < WARM_UP + 2; step++) {
        bool done;
        REQUIRE_OK(lks_step(run.trainer, &done));
    }
    MPI_CHECK(watched.recorded == 1 && watched.replayed == 2);
    unwatch(run.context->device);
    case_close(&run);
    mpi_verdict();
}

/* Steps 4, a replay, and 6, a short batch, are not finite. */
static void run_with_skips(train_case *run, bool cuda_graph) {
    static const float spoilt[CASE_CLASSES] = {NAN};
    lks_train_config config = graph_config(cuda_graph);
    config.gradients = "on_nonfinite=skip";
    REQUIRE_OK(open_on(run, "cuda", &config));
    for (int step = 1; step <= WHOLE_STEPS + 1; step++) {
        float bias[CASE_CLASSES];
        bool done;
        const bool spoil = step == 4 || step == 6;
        REQUIRE_OK(lks_trainer_get_param(run->trainer, "fc.bias", NULL, bias));
        if (spoil) REQUIRE_OK(lks_trainer_set_param(run->trainer, "fc.bias", spoilt));
        REQUIRE_OK(lks_step(run->trainer, &done));
        if (spoil) REQUIRE_OK(lks_trainer_set_param(run->trainer, "fc.bias", bias));
    }
    MPI_CHECK(run->trainer->skipped == 2 && lks_optimizer_steps(run->trainer->optimizer) == 4);
}

static void replays_skip_what_is_not_finite(void **state) {
    (void)state;
    if (!can_record()) skip();
    static train_case one, other;
    run_with_skips(&one, true);
    run_with_skips(&other, false);
    MPI_CHECK(case_same_params(one.trainer, other.trainer));
    case_close(&one);
    case_close(&other);
    mpi_verdict();
}

/* A run may change its mind with every session. */
static void resumes_with_and_without(void **state) {
    (void)state;
    if (!can_record()) skip();
    static const bool graphs[][2] = {{true, false}, {false, true}};
    static train_case whole, first, second;
    const char *path = folder_of("cuda-graph"); /* a file */
    const lks_train_config config = graph_config(false);
    REQUIRE_OK(open_on(&whole, "cuda", &config));
    REQUIRE_OK(lks_fit(whole.trainer));
    for (size_t g = 0; g < sizeof graphs / sizeof *graphs; g++) {
        const lks_train_config before = graph_config(graphs[g][0]),
                               after = graph_config(graphs[g][1]);
        bool done;
        REQUIRE_OK(open_on(&first, "cuda", &before));
        for (int step = 0; step < 4; step++)
            REQUIRE_OK(lks_step(first.trainer, &done));
        REQUIRE_OK(lks_trainer_save(first.trainer, path));
        case_close(&first);
        REQUIRE_OK(open_on(&second, "cuda", &after));
        REQUIRE_OK(lks_trainer_restore(second.trainer, path));
        REQUIRE_OK(lks_fit(second.trainer));
        MPI_CHECK(case_same_params(whole.trainer, second.trainer));
        case_close(&second);
    }
    case_close(&whole);
    if (mpi_check_rank() == 0) unlink(path);
    mpi_verdict();
}

/* ---- failures ---- */

static void a_recording_that_fails_says_so(void **state) {
    (void)state;
    if (!can_record()) skip();
    static train_case run;
    const lks_train_config config = graph_config(true);
    REQUIRE_OK(open_on(&run, "cuda", &config));
    watch(run.context->device);
    watched.recording_fails = mpi_check_rank() == mpi_check_size() - 1;
    MPI_CHECK(lks_fit(run.trainer) == LKS_EDEVICE);
    MPI_CHECK(strstr(lks_last_error(), "cuda_graph") && strstr(lks_last_error(), "jammed"));
    MPI_CHECK(run.trainer->position.step == WARM_UP && watched.replayed == 0);
    unwatch(run.context->device);
    case_close(&run);
    mpi_verdict();
}

/* The others replay what the rank that has failed queues. */
static void a_failing_replay_ends_the_run_of_every_rank(void **state) {
    (void)state;
    if (!can_record()) skip();
    static train_case run;
    const lks_train_config config = graph_config(true);
    REQUIRE_OK(open_on(&run, "cuda", &config));
    watch(run.context->device);
    watched.failing_replay = 2;
    MPI_CHECK(lks_fit(run.trainer) == LKS_EDEVICE);
    MPI_CHECK(strstr(lks_last_error(), "the replay broke") != NULL);
    MPI_CHECK(run.trainer->position.step == WARM_UP + 1);
    unwatch(run.context->device);
    case_close(&run);
    mpi_verdict();
}

/* Ranks that share a GPU are refused a graph; the CPU has nothing to record. */
static void what_cannot_be_recorded(void **state) {
    (void)state;
    const bool can = can_record();
    static train_case run;
    const lks_train_config config = graph_config(true);
    const lks_status status = open_on(&run, "cuda", &config);
    if (!can && status != LKS_EUNSUPPORTED) {
        MPI_CHECK(status == LKS_ECONFIG);
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
        cmocka_unit_test(a_recording_that_fails_says_so),
        cmocka_unit_test(a_failing_replay_ends_the_run_of_every_rank),
        cmocka_unit_test(what_cannot_be_recorded),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
