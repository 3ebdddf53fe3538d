#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>

#include "app/commands.h"
#include "app/job.h"
#include "app/progress.h"
#include "app/signals.h"
#include "train/train.h"

typedef struct watcher {
    lks_display display;
    int64_t epochs;
    bool first; /* rank 0 */
} watcher;

static lks_action after_step(void *data, const lks_progress *progress) {
    watcher *w = data;
    if (w->first) lks_display_step(&w->display, progress);
    return LKS_CONTINUE;
}

static lks_action after_epoch(void *data, const lks_epoch_result *result) {
    watcher *w = data;
    if (w->first) {
        lks_strbuf line = {0};
        lks_epoch_print(result, w->epochs, &line);
        lks_display_clear(&w->display);
        if (!line.failed) puts(line.text);
        fflush(stdout);
        lks_strbuf_free(&line);
    }
    return LKS_CONTINUE;
}

static bool has_signal(void *data) {
    (void)data;
    return lks_signals_received() != NULL;
}

/* A run that begins anew where another one has been writes over what that one has left, which may
 * be a command typed once too often. */
static void warn_of_another_run(const lks_job *job) {
    const char *output = job->run.config.output;
    char path[PATH_MAX];
    struct stat latest;
    if (!output || !lks_job_is_first(job)) return;
    snprintf(path, sizeof path, "%s/checkpoints/latest.h5", output);
    if (stat(path, &latest) != 0) return;
    lks_log(lks_context_logger(job->context), LKS_LOG_WARNING,
            "%s has checkpoints of a run before this one, which begins anew and will replace them: "
            "`--resume auto` would go on with that run, `--output` keeps it",
            output);
}

/* The weights to begin with: those of the run itself, or else of another one. */
static lks_status resume(lks_job *job) {
    const char *which = job->args->resume;
    const lks_run *run = &job->run;
    bool resumed = false;
    lks_status status = which ? lks_trainer_resume(job->trainer, which, &resumed) : LKS_OK;
    if (status || resumed) return status;
    if (!which)
        warn_of_another_run(job);
    else
        lks_log(lks_context_logger(job->context), LKS_LOG_INFO,
                "no checkpoint in %s/checkpoints yet: beginning at the first epoch",
                run->config.output);
    return run->init_from ? lks_trainer_init_from(job->trainer, run->init_from, run->init_params,
                                                  run->init_exclude)
                          : LKS_OK;
}

static const lks_epoch_result *find_best(const lks_trainer *trainer) {
    int64_t count;
    const lks_epoch_result *history = lks_trainer_history(trainer, &count), *best = NULL;
    for (int64_t i = 0; i < count; i++)
        if (history[i].is_best) best = &history[i];
    return best;
}

/* `before`: epochs that were done when this command began. */
static void report(const lks_job *job, int64_t before, double seconds) {
    const lks_trainer *trainer = job->trainer;
    int64_t epochs = lks_trainer_epochs_done(trainer);
    if (lks_trainer_end(trainer) == LKS_END_EARLY_STOPPING)
        printf("Early stopping triggered after %" PRId64 " epochs!\n", epochs);
    const lks_epoch_result *best = find_best(trainer);
    if (best) {
        lks_strbuf line = {0};
        lks_epoch_print(best, job->run.config.epochs, &line);
        printf("Best: %s\n", line.failed ? "" : line.text);
        lks_strbuf_free(&line);
    }
    printf("%" PRId64 " epoch%s done", epochs, lks_plural(epochs));
    if (before > 0) printf(", %" PRId64 " of them", epochs - before);
    printf(" in %.1f s", seconds);
    if (job->run.config.output) printf("; results in %s", job->run.config.output);
    puts(".");
    if (before > 0 && epochs == before && lks_trainer_end(trainer) == LKS_END_EPOCHS)
        puts("Nothing was left to do: with a larger `epochs` the run goes on.");
    fflush(stdout);
}

/* Why the run was interrupted. Another rank than this one may have had the signal. */
static const char *cause(const lks_job *job, lks_strbuf *out) {
    if (lks_trainer_end(job->trainer) == LKS_END_TIME_LIMIT) {
        lks_strbuf_add(out, "time_limit ");
        lks_duration_print(job->run.config.time_limit, out);
    } else {
        const char *received = lks_signals_received();
        lks_strbuf_add(out, "%s", received ? received : "a signal to another rank");
    }
    return out->failed ? "a signal" : out->text;
}

static lks_status interrupted(const lks_job *job) {
    lks_strbuf text = {0};
    const char *by = cause(job, &text);
    lks_status status =
        job->run.config.output
            ? lks_fail(LKS_ESTOPPED,
                       "stopped by %s after %" PRId64
                       " whole epochs: continue with `--resume auto`",
                       by, lks_trainer_epochs_done(job->trainer))
            : lks_fail(LKS_ESTOPPED, "stopped by %s; nothing was saved: no `output`", by);
    lks_strbuf_free(&text);
    return status;
}

static lks_status train(lks_job *job, watcher *w) {
    lks_status status = lks_job_open_training(job);
    if (status) return status;
    w->first = lks_job_is_first(job);
    w->epochs = job->run.config.epochs;
    w->display = lks_display_open(stdout, job->args->verbosity == 0);
    lks_logger *logger = lks_context_logger(job->context);
    logger->before_line = lks_display_clear;
    logger->before_line_data = &w->display;
    job->run.config.callbacks = (lks_callbacks){after_step, after_epoch, has_signal, w};
    status = lks_job_build(job, job->train, job->train, job->validation);
    if (!status) status = resume(job);
    if (!status && job->args->profile_steps)
        status = lks_trainer_profile(job->trainer, job->args->profile_steps);
    if (status) return status;
    const int64_t before = lks_trainer_epochs_done(job->trainer);
    const double start = lks_clock_seconds();
    status = lks_fit(job->trainer);
    lks_display_clear(&w->display);
    if (status) return status;
    if (w->first) report(job, before, lks_clock_seconds() - start);
    lks_fit_end end = lks_trainer_end(job->trainer);
    return end == LKS_END_REQUEST || end == LKS_END_TIME_LIMIT ? interrupted(job) : LKS_OK;
}

lks_status lks_command_train(const lks_args *args) {
    lks_job job;
    watcher w = {0};
    lks_status status = lks_job_open(args, &job);
    if (!status) status = train(&job, &w);
    lks_job_close(&job, status);
    return status;
}
