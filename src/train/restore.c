/* Restoring the whole state. Everything is read and checked beside the run before any of it
 * changes, so that a file which turns out to be broken leaves the trainer as it is. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/compare.h"
#include "train/record.h"
#include "train/saver.h"

/* What a checkpoint says beside the arrays. */
typedef struct restored {
    lks_position position;
    lks_early_stopping stopping;
    bool stopping_is_ours; /* it watched the same series */
    bool lacks_best;       /* it has watched, but kept no best model, and this run wants one */
    double epoch_lr, epoch_sums[LKS_LOSS_SUM_COUNT];
    double epoch_seconds[2]; /* of the epoch, and of its training alone */
    int64_t skipped, skipped_in_row, optimizer_steps, created_ns;
    double *rates_state; /* [lks_rates_state_count] */
    lks_epoch_result *history;
    bool *epoch_lost; /* none is, as far as a file can say */
    int64_t history_count;
} restored;

/* ---- the numbers ---- */

static lks_status read_f64(lks_checkpoint *file, const char *group, const char *name, double *out,
                           int count) {
    int found;
    lks_status status = lks_checkpoint_get_f64(file, group, name, out, count, &found);
    if (status == LKS_OK && found != count)
        status = lks_fail(LKS_ECHECKPOINT, "%s: the attribute %s has %d numbers, expected %d",
                          group, name, found, count);
    return status;
}

typedef struct whole_number {
    const char *group, *name;
    int64_t *out;
    int64_t least;
} whole_number;

static lks_status read_whole_numbers(lks_checkpoint *file, const whole_number *numbers, int count) {
    lks_status status = LKS_OK;
    for (int i = 0; i < count && status == LKS_OK; i++) {
        const whole_number *n = &numbers[i];
        status = lks_checkpoint_get_i64(file, n->group, n->name, n->out);
        if (status == LKS_OK && *n->out < n->least)
            status =
                lks_fail(LKS_ECHECKPOINT, "%s: the attribute %s is %lld, expected %lld or more",
                         n->group, n->name, (long long)*n->out, (long long)n->least);
    }
    return status;
}

static lks_status visit_array(void *found, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)dtype;
    (void)shape;
    if (strncmp(path, "/best_model/", strlen("/best_model/")) == 0) *(bool *)found = true;
    return LKS_OK;
}

/* A run that did not restore its best epoch has saved no best model. */
static lks_status look_for_best(const lks_trainer *t, lks_checkpoint *file, restored *out) {
    bool found = false;
    if (t->best_params == NULL || out->stopping.best_epoch <= 0) return LKS_OK;
    lks_status status = lks_checkpoint_visit(file, visit_array, &found);
    out->lacks_best = !found;
    return status;
}

static lks_status read_stopping(const lks_trainer *t, lks_checkpoint *file, restored *out) {
    int64_t stopped = 0;
    char *monitor = NULL;
    const whole_number numbers[] = {
        {"/early_stopping", "bad_epochs", &out->stopping.bad_epochs, 0},
        {"/early_stopping", "best_epoch", &out->stopping.best_epoch, -1},
        {"/early_stopping", "stopped", &stopped, 0},
    };
    lks_status status = read_whole_numbers(file, numbers, 3);
    if (status == LKS_OK)
        status = read_f64(file, "/early_stopping", "best", &out->stopping.best, 1);
    if (status == LKS_OK)
        status = lks_checkpoint_get_text(file, "/early_stopping", "monitor", &monitor);
    out->stopping.stopped = stopped != 0;
    out->stopping_is_ours =
        status == LKS_OK && strcmp(monitor, lks_monitor_names[t->stopping_config.monitor]) == 0;
    free(monitor);
    return status == LKS_OK ? look_for_best(t, file, out) : status;
}

/* One series of the history into every epoch's entry. */
static lks_status read_series(lks_checkpoint *file, const lks_history_series *series,
                              double *column, restored *out) {
    int64_t count = out->history_count;
    const lks_piece piece = {.first = 0, .count = count, .data = column};
    char path[64];
    snprintf(path, sizeof(path), "/history/%s", series->name);
    lks_status status =
        lks_checkpoint_read(file, &(lks_checkpoint_array){.path = path,
                                                          .dtype = LKS_F64,
                                                          .shape = {.rank = 1, .dim = {count}},
                                                          .pieces = &piece,
                                                          .piece_count = 1});
    for (int64_t e = 0; e < count && status == LKS_OK; e++) {
        char *at = (char *)&out->history[e] + series->offset;
        if (series->is_flag)
            *(bool *)at = column[e] != 0;
        else
            *(double *)at = column[e];
        out->history[e].epoch = e + 1;
    }
    return status;
}

static lks_status read_history(lks_checkpoint *file, restored *out) {
    size_t room = (size_t)out->history_count + 1;
    double *column = malloc(room * sizeof(*column));
    out->history = calloc(room, sizeof(*out->history));
    out->epoch_lost = calloc(room, sizeof(*out->epoch_lost));
    lks_status status = LKS_OK;
    if (out->history == NULL || out->epoch_lost == NULL || column == NULL)
        status = lks_fail(LKS_ENOMEM, "the history of %lld epochs: out of host memory",
                          (long long)out->history_count);
    for (int s = 0; s < lks_history_table_count && out->history_count > 0 && status == LKS_OK; s++)
        status = read_series(file, &lks_history_table[s], column, out);
    free(column);
    return status;
}

static lks_status read_numbers(const lks_trainer *t, lks_checkpoint *file, restored *out) {
    const whole_number numbers[] = {
        {"/", "created_ns", &out->created_ns, 0},
        {"/sampler", "epoch", &out->position.epoch, 0},
        {"/sampler", "step", &out->position.step, 0},
        {"/sampler", "global_step", &out->position.global_step, 0},
        {"/sampler", "skipped", &out->skipped, 0},
        {"/sampler", "skipped_in_row", &out->skipped_in_row, 0},
        {"/optimizer", "step", &out->optimizer_steps, 0},
        {"/history", "epochs", &out->history_count, 0},
    };
    int rates = lks_rates_state_count(t->rates);
    out->rates_state = calloc((size_t)rates + 1, sizeof(*out->rates_state));
    lks_status status = out->rates_state == NULL
                            ? lks_fail(LKS_ENOMEM, "the schedule's state: out of host memory")
                            : LKS_OK;
    if (status == LKS_OK)
        status = read_whole_numbers(file, numbers, sizeof(numbers) / sizeof(numbers[0]));
    if (status == LKS_OK && out->history_count != out->position.epoch)
        status = lks_fail(LKS_ECHECKPOINT, "/history: it has %lld epochs, but %lld are finished",
                          (long long)out->history_count, (long long)out->position.epoch);
    if (status == LKS_OK) status = read_f64(file, "/scheduler", "state", out->rates_state, rates);
    if (status == LKS_OK) status = read_f64(file, "/sampler", "epoch_lr", &out->epoch_lr, 1);
    if (status == LKS_OK)
        status = read_f64(file, "/sampler", "epoch_sums", out->epoch_sums, LKS_LOSS_SUM_COUNT);
    if (status == LKS_OK)
        status = read_f64(file, "/sampler", "epoch_seconds", out->epoch_seconds, 2);
    return status == LKS_OK ? read_history(file, out) : status;
}

static void free_restored(restored *r) {
    free(r->rates_state);
    free(r->history);
    free(r->epoch_lost);
}

/* ---- reading: local, and nothing of the run changes ---- */

/* The best model of another series than is watched now is of no use. */
static bool restores_best(const lks_trainer *t, const restored *numbers) {
    return t->best_params != NULL && numbers->stopping_is_ours && !numbers->lacks_best &&
           numbers->stopping.best_epoch > 0;
}

static lks_status read_file(lks_trainer *t, const char *path, lks_snapshot *snapshot,
                            restored *out) {
    lks_checkpoint *file = NULL;
    lks_state_list list = {0};
    lks_status status = lks_checkpoint_open(path, &file);
    if (status == LKS_OK) status = read_stopping(t, file, out);
    if (status == LKS_OK) status = lks_snapshot_open(t, true, snapshot);
    if (status == LKS_OK) status = lks_snapshot_take(t, snapshot); /* what stands between arrays */
    if (status == LKS_OK) {
        lks_snapshot_list_model(t, snapshot, &list);
        lks_snapshot_list_training(t, snapshot, restores_best(t, out), &list);
        status = list.status;
    }
    if (status == LKS_OK && lks_comm_rank(t->context->comm) == 0)
        status = lks_compare_with_run(t, file, path, &list);
    if (status == LKS_OK) status = read_numbers(t, file, out);
    if (status == LKS_OK) status = lks_checkpoint_read_all(file, list.arrays, list.array_count);
    lks_state_list_free(&list);
    lks_checkpoint_close(file);
    return status;
}

/* ---- taking over ---- */

/* The best epoch by what is monitored now. */
static void find_best(lks_trainer *t) {
    int monitor = t->checkpoint_settings.monitor;
    bool minimize = lks_monitor_minimizes(lks_monitor_names[monitor]);
    t->best_value = NAN;
    t->best_epoch = 0;
    for (int64_t e = 0; e < t->history_count; e++) {
        double value = lks_monitored(&t->history[e], monitor);
        if (!lks_is_better(value, t->best_value, minimize)) continue;
        t->best_value = value;
        t->best_epoch = e + 1;
    }
}

static void take_over_stopping(lks_trainer *t, const restored *numbers) {
    const lks_early_stopping start = lks_early_stopping_start(&t->stopping_config);
    t->stopping = start;
    if (!t->stopping_config.enabled) return; /* whoever takes it out wants to go on */
    if (numbers->stopping_is_ours && !numbers->lacks_best) {
        t->stopping = numbers->stopping;
        if (t->stopping.best_epoch <= 0) t->stopping.best = start.best;
    } else if (t->position.epoch > 0) {
        lks_log(&t->context->logger, LKS_LOG_WARNING,
                "early stopping begins anew: the checkpoint has %s %s",
                numbers->stopping_is_ours ? "no best model to restore, by" : "not watched",
                lks_monitor_names[t->stopping_config.monitor]);
    }
}

/* `numbers` gives its history away. */
static lks_status take_over(lks_trainer *t, restored *numbers) {
    lks_device *device = t->context->device;
    lks_status status =
        lks_rates_set_state(t->rates, numbers->rates_state, lks_rates_state_count(t->rates));
    if (status == LKS_OK)
        status =
            lks_device_copy(device, lks_device_stream(device, LKS_STREAM_COMPUTE), t->epoch_sums,
                            numbers->epoch_sums, sizeof(numbers->epoch_sums), LKS_COPY_TO_DEVICE);
    if (status != LKS_OK) return status;
    t->position = numbers->position;
    t->epoch_lr = numbers->epoch_lr;
    t->epoch_began = 0;
    t->epoch_seconds = numbers->epoch_seconds[0];
    t->train_seconds = numbers->epoch_seconds[1];
    t->skipped = numbers->skipped;
    t->skipped_in_row = numbers->skipped_in_row;
    if (numbers->created_ns > t->created_ns) t->created_ns = numbers->created_ns;
    lks_optimizer_set_steps(t->optimizer, numbers->optimizer_steps);
    free(t->history);
    free(t->epoch_lost);
    t->history = numbers->history;
    t->epoch_lost = numbers->epoch_lost;
    t->history_count = numbers->history_count;
    t->history_capacity = numbers->history_count + 1;
    numbers->history = NULL;
    numbers->epoch_lost = NULL;
    find_best(t);
    take_over_stopping(t, numbers);
    t->halt = LKS_END_EPOCHS;
    t->callback_stop = false;
    t->failure = (lks_failure){0};
    if (t->recorder != NULL) lks_step_recorder_reset(t->recorder);
    return LKS_OK;
}

lks_status lks_trainer_restore(lks_trainer *t, const char *path) {
    if (t->optimizer == NULL)
        return lks_fail(LKS_EINVAL, "lks_trainer_restore: this trainer has no training state");
    lks_comm *comm = t->context->comm;
    lks_snapshot snapshot = {0};
    restored numbers = {0};
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_RESTORE);
    lks_status status = lks_saver_settle(t);
    if (status == LKS_OK) status = lks_comm_agree(comm, read_file(t, path, &snapshot, &numbers));
    if (status == LKS_OK) {
        status = take_over(t, &numbers);
        if (status == LKS_OK) status = lks_snapshot_give_back(t, &snapshot);
        status = lks_comm_agree(comm, status);
    }
    if (status == LKS_OK) status = lks_snapshot_gather(t, &snapshot, true);
    lks_snapshot_close(t, &snapshot, false);
    free_restored(&numbers);
    lks_guard_enter(t->context->guard, before);
    lks_guard_step(t->context->guard, t->position.global_step);
    if (status != LKS_OK) return status;
    lks_log(&t->context->logger, LKS_LOG_INFO,
            "going on from %s: %" PRId64 " of %" PRId64 " epoch%s and %" PRId64
            " step%s in all are done",
            path, lks_trainer_epochs_done(t), t->config.epochs, lks_plural(t->config.epochs),
            t->position.global_step, lks_plural(t->position.global_step));
    if (t->run_dir != NULL)
        lks_run_dir_resume(t->run_dir, path, t->position.epoch, t->position.step);
    return LKS_OK;
}
