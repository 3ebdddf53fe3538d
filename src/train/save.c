/* Saving: everything that decides the next step, as a checkpoint's content. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "h5/h5.h"
#include "train/saver.h"

/* Nanoseconds since 1970, later than every checkpoint that this run has seen: a clock may be set
 * back, or be another host's than before. */
static int64_t creation_number(lks_trainer *t) {
    struct timespec now = {0};
    timespec_get(&now, TIME_UTC);
    int64_t number = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (number <= t->created_ns) number = t->created_ns + 1;
    t->created_ns = number;
    return number;
}

static void list_provenance(lks_trainer *t, lks_state_list *list) {
    char library[LKS_COMM_LIBRARY_BYTES], host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof(host) - 1);
    lks_state_list_add_i64(list, "/", "created_ns", creation_number(t));
    lks_state_list_add_i64(list, "/provenance", "hosts", lks_comm_host_count(t->context->comm));
    lks_state_list_add_text(list, "/provenance", "first_host", host);
    lks_state_list_add_text(list, "/provenance", "device",
                            lks_device_description(t->context->device));
    lks_state_list_add_text(list, "/provenance", "precision",
                            lks_precision_names[lks_device_precision(t->context->device)]);
    lks_state_list_add_text(list, "/provenance", "mpi", lks_comm_library(library));
    lks_state_list_add_text(list, "/provenance", "hdf5", lks_h5_version());
    lks_state_list_add_i64(list, "/provenance", "zero_stage", t->config.zero_stage);
    lks_state_list_add_i64(list, "/provenance", "bucket_bytes", t->config.bucket_bytes);
}

static void list_sampler(lks_trainer *t, const double *sums, lks_state_list *list) {
    const double seconds[] = {lks_trainer_epoch_seconds(t), t->train_seconds};
    lks_state_list_add_i64(list, "/sampler", "epoch", t->position.epoch);
    lks_state_list_add_i64(list, "/sampler", "step", t->position.step);
    lks_state_list_add_i64(list, "/sampler", "global_step", t->position.global_step);
    lks_state_list_add_i64(list, "/sampler", "batch_size", t->config.batch_size);
    lks_state_list_add_i64(list, "/sampler", "drop_last", t->data_settings.drop_last);
    lks_state_list_add_i64(list, "/sampler", "shuffle", t->data_settings.shuffle);
    lks_state_list_add_i64(list, "/sampler", "sample_count", lks_dataset_count(t->train_data));
    lks_state_list_add_i64(list, "/sampler", "sample_hash", t->sample_hash);
    lks_state_list_add_f64(list, "/sampler", "epoch_sums", sums, LKS_LOSS_SUM_COUNT);
    lks_state_list_add_f64(list, "/sampler", "epoch_lr", &t->epoch_lr, 1);
    lks_state_list_add_f64(list, "/sampler", "epoch_seconds", seconds, 2);
    lks_state_list_add_i64(list, "/sampler", "skipped", t->skipped);
    lks_state_list_add_i64(list, "/sampler", "skipped_in_row", t->skipped_in_row);
}

/* The numbers and texts that decide the next step. */
static void list_attributes(lks_trainer *t, const double *sums, lks_state_list *list) {
    lks_state_list_add_text(list, "/optimizer", "name", lks_optimizer_name(t->optimizer));
    lks_state_list_add_text(list, "/optimizer", "hyper_parameters",
                            lks_optimizer_hyper(t->optimizer));
    lks_state_list_add_i64(list, "/optimizer", "step", lks_optimizer_steps(t->optimizer));
    const char *options = t->config.schedule.options;
    lks_state_list_add_text(list, "/scheduler", "name", lks_rates_name(t->rates));
    lks_state_list_add_text(list, "/scheduler", "options", options == NULL ? "" : options);
    lks_rates_get_state(t->rates, t->rates_state);
    lks_state_list_add_f64(list, "/scheduler", "state", t->rates_state,
                           lks_rates_state_count(t->rates));
    lks_state_list_add_text(list, "/early_stopping", "monitor",
                            lks_monitor_names[t->stopping_config.monitor]);
    lks_state_list_add_f64(list, "/early_stopping", "best", &t->stopping.best, 1);
    lks_state_list_add_i64(list, "/early_stopping", "bad_epochs", t->stopping.bad_epochs);
    lks_state_list_add_i64(list, "/early_stopping", "best_epoch", t->stopping.best_epoch);
    lks_state_list_add_i64(list, "/early_stopping", "stopped", t->stopping.stopped);
    list_sampler(t, sums, list);
    lks_state_list_add_i64(list, "/rng", "seed", (int64_t)t->config.seed);
    lks_state_list_add_f64(list, "/best", "value", &t->best_value, 1);
    lks_state_list_add_i64(list, "/best", "epoch", t->best_epoch);
    lks_state_list_add_i64(list, "/history", "epochs", t->history_count);
    if (t->config.run_file != NULL)
        lks_state_list_add_text(list, "/", "config", t->config.run_file);
}

/* The series as columns. */
static void list_history(lks_trainer *t, lks_snapshot *snapshot, lks_state_list *list) {
    int64_t count = t->history_count;
    double *columns = malloc((size_t)(count * lks_history_table_count + 1) * sizeof(double));
    snapshot->history = columns;
    if (columns == NULL) {
        list->status = lks_fail(LKS_ENOMEM, "the history of %lld epochs: out of host memory",
                                (long long)count);
        return;
    }
    const lks_shape shape = {.rank = 1, .dim = {count}};
    for (int s = 0; s < lks_history_table_count && count > 0; s++, columns += count) {
        const lks_history_series *series = &lks_history_table[s];
        for (int64_t e = 0; e < count; e++) {
            const char *at = (const char *)&t->history[e] + series->offset;
            columns[e] = series->is_flag ? *(const bool *)at : *(const double *)at;
        }
        lks_state_list_add_whole(list, "/history", series->name, LKS_F64, &shape, columns,
                                 lks_comm_rank(t->context->comm) == 0);
    }
}

lks_status lks_trainer_list_state(lks_trainer *t, bool copied, lks_snapshot *snapshot,
                                  lks_state_list *list) {
    double sums[LKS_LOSS_SUM_COUNT] = {0};
    lks_status status = lks_snapshot_open(t, copied, snapshot);
    if (status == LKS_OK)
        status = copied ? lks_snapshot_start(t, snapshot) : lks_snapshot_take(t, snapshot);
    if (status == LKS_OK && t->position.step > 0)
        status = lks_trainer_read_sums(t, t->epoch_sums, LKS_LOSS_SUM_COUNT, sums);
    if (status != LKS_OK) return status;
    lks_snapshot_list_model(t, snapshot, list);
    lks_snapshot_list_training(t, snapshot, t->stopping.best_epoch > 0, list);
    list_history(t, snapshot, list);
    list_provenance(t, list);
    list_attributes(t, sums, list);
    return list->status;
}

lks_status lks_trainer_write_state(lks_trainer *t, const char *path) {
    lks_state_list list = {0};
    lks_snapshot snapshot = {0};
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_SAVE);
    lks_status status =
        lks_comm_agree(t->context->comm, lks_trainer_list_state(t, false, &snapshot, &list));
    if (status == LKS_OK) {
        const lks_checkpoint_content content = lks_state_list_content(&list);
        status = lks_checkpoint_write(t->context->comm, path, &content,
                                      (lks_transfer)t->checkpoint_settings.transfer);
    }
    lks_state_list_free(&list);
    lks_snapshot_close(t, &snapshot, false);
    lks_guard_enter(t->context->guard, before);
    return status;
}

lks_status lks_trainer_save(lks_trainer *t, const char *path) {
    if (t->optimizer == NULL)
        return lks_fail(LKS_EINVAL, "lks_trainer_save: this trainer has no training state");
    lks_status status = lks_comm_agree(t->context->comm, lks_failure_tell(&t->failure));
    if (status != LKS_OK) return lks_saver_after_failure(t, status);
    status = lks_saver_settle(t);
    return status == LKS_OK ? lks_trainer_write_state(t, path) : status;
}
