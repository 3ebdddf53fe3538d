/* Saving: the whole state into one file, and which files are written when, and kept. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/state.h"

/* The numbers and texts that decide the next step. `sums` outlives the list. */
static void list_attributes(lks_trainer *t, const double *sums, lks_state_list *list) {
    lks_state_list_add_text(list, "/optimizer", "name", lks_optimizer_name(t->optimizer));
    lks_state_list_add_text(list, "/optimizer", "hyper_parameters",
                            lks_optimizer_hyper(t->optimizer));
    lks_state_list_add_i64(list, "/optimizer", "step", lks_optimizer_steps(t->optimizer));
    lks_state_list_add_text(list, "/scheduler", "name", lks_rates_name(t->rates));
    lks_rates_get_state(t->rates, t->rates_state);
    lks_state_list_add_f64(list, "/scheduler", "state", t->rates_state,
                           lks_rates_state_count(t->rates));
    lks_state_list_add_f64(list, "/early_stopping", "best", &t->stopping.best, 1);
    lks_state_list_add_i64(list, "/early_stopping", "bad_epochs", t->stopping.bad_epochs);
    lks_state_list_add_i64(list, "/early_stopping", "best_epoch", t->stopping.best_epoch);
    lks_state_list_add_i64(list, "/early_stopping", "stopped", t->stopping.stopped);
    lks_state_list_add_i64(list, "/sampler", "epoch", t->position.epoch);
    lks_state_list_add_i64(list, "/sampler", "step", t->position.step);
    lks_state_list_add_i64(list, "/sampler", "global_step", t->position.global_step);
    lks_state_list_add_i64(list, "/sampler", "batch_size", t->config.batch_size);
    lks_state_list_add_i64(list, "/sampler", "sample_count", lks_dataset_count(t->train_data));
    lks_state_list_add_f64(list, "/sampler", "epoch_sums", sums, LKS_LOSS_SUM_COUNT);
    lks_state_list_add_f64(list, "/sampler", "epoch_lr", &t->epoch_lr, 1);
    lks_state_list_add_i64(list, "/sampler", "skipped", t->skipped);
    lks_state_list_add_i64(list, "/sampler", "skipped_in_row", t->skipped_in_row);
    lks_state_list_add_i64(list, "/rng", "seed", (int64_t)t->config.seed);
    lks_state_list_add_f64(list, "/best", "value", &t->best_value, 1);
    lks_state_list_add_i64(list, "/best", "epoch", t->best_epoch);
    lks_state_list_add_i64(list, "/history", "epochs", t->history_count);
    if (t->config.run_file != NULL)
        lks_state_list_add_text(list, "/", "config", t->config.run_file);
}

/* The series as columns: *out is [series][epochs], the caller frees it. */
static void list_history(lks_trainer *t, double **out, lks_state_list *list) {
    int64_t count = t->history_count;
    double *columns = malloc((size_t)(count * lks_history_table_count + 1) * sizeof(double));
    *out = columns;
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

lks_status lks_trainer_save(lks_trainer *t, const char *path) {
    if (t->optimizer == NULL)
        return lks_fail(LKS_EINVAL, "lks_trainer_save: this trainer has no training state");
    lks_state_list list = {0};
    lks_state_mirror mirror = {0};
    double *history = NULL;
    double sums[LKS_LOSS_SUM_COUNT] = {0};

    lks_status status = lks_state_mirror_open(t, LKS_STATE_SAVE, &mirror);
    if (status == LKS_OK && t->position.step > 0)
        status = lks_trainer_read_sums(t, t->epoch_sums, LKS_LOSS_SUM_COUNT, sums);
    if (status == LKS_OK) {
        lks_state_list_model(t, &mirror, LKS_STATE_SAVE, &list);
        lks_state_list_training(t, &mirror, LKS_STATE_SAVE, &list);
        list_history(t, &history, &list);
        list_attributes(t, sums, &list);
        status = list.status;
    }
    status = lks_comm_agree(t->context->comm, status);
    if (status == LKS_OK) {
        const lks_checkpoint_content content = {list.arrays, list.array_count, list.attrs,
                                                list.attr_count};
        status = lks_checkpoint_write(t->context->comm, path, &content, LKS_TRANSFER_INDEPENDENT);
    }
    free(history);
    lks_state_list_free(&list);
    lks_state_mirror_close(t, &mirror);
    return status;
}

/* ---- when, and which are kept ---- */

/* A failed save is no reason to lose the training: it is reported, and the next save tries again.
 */
static lks_status save_named(lks_trainer *t, const char *name) {
    char *path = lks_strdup_printf("%s/checkpoints/%s.h5", t->config.output, name);
    lks_status status =
        path == NULL ? lks_fail(LKS_ENOMEM, "a checkpoint's path: out of host memory") : LKS_OK;
    status = lks_comm_agree(t->context->comm, status);
    if (status == LKS_OK) status = lks_trainer_save(t, path);
    free(path);
    if (status == LKS_OK || status == LKS_ECOMM) return status;
    lks_log(&t->context->logger, LKS_LOG_WARNING,
            "checkpoint %s was not saved, training goes on: %s", name, lks_last_error());
    return LKS_OK;
}

enum { EPOCH_NAME_BYTES = 32 };

static void name_of_epoch(int64_t epoch, char *out) {
    snprintf(out, EPOCH_NAME_BYTES, "epoch-%04" PRId64, epoch);
}

/* The epoch of a file that is called as name_of_epoch would, with .h5; 0 of any other. */
static int64_t epoch_of_file(const char *file) {
    char name[EPOCH_NAME_BYTES];
    if (strncmp(file, "epoch-", 6) != 0) return 0;
    int64_t epoch = strtoll(file + 6, NULL, 10);
    name_of_epoch(epoch, name);
    size_t length = strlen(name);
    bool same = strncmp(file, name, length) == 0 && strcmp(file + length, ".h5") == 0;
    return same && epoch > 0 ? epoch : 0;
}

static int compare_epochs(const void *a, const void *b) {
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

/* The epochs up to `last` of which the folder has a file, in ascending order; the caller frees
 * them. */
static int list_epochs(const char *folder, int64_t last, int64_t **out) {
    DIR *dir = opendir(folder);
    int64_t *epochs = NULL;
    int count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        int64_t epoch = epoch_of_file(entry->d_name);
        if (epoch == 0 || epoch > last) continue;
        int64_t *grown = realloc(epochs, (size_t)(count + 1) * sizeof(*epochs));
        if (grown == NULL) break;
        epochs = grown;
        epochs[count++] = epoch;
    }
    if (dir != NULL) closedir(dir);
    if (count > 0) qsort(epochs, (size_t)count, sizeof(*epochs), compare_epochs);
    *out = epochs;
    return count;
}

/* Rank 0: removes the oldest epoch files beyond keep_last. Files of later epochs are another run's,
 * or of before this one was taken back to an earlier epoch: they neither count nor go. */
static void remove_old(const lks_trainer *t, int64_t epoch) {
    char *folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    int64_t *epochs = NULL;
    int count = folder == NULL ? 0 : list_epochs(folder, epoch, &epochs);
    for (int i = 0; i < count - t->checkpoint_settings.keep_last; i++) {
        char name[EPOCH_NAME_BYTES];
        name_of_epoch(epochs[i], name);
        char *path = lks_strdup_printf("%s/%s.h5", folder, name);
        if (path != NULL && unlink(path) != 0)
            lks_log(&t->context->logger, LKS_LOG_WARNING, "cannot remove the old checkpoint %s: %s",
                    path, strerror(errno));
        free(path);
    }
    free(epochs);
    free(folder);
}

lks_status lks_trainer_save_epoch(lks_trainer *t, const lks_epoch_result *result) {
    const lks_checkpoint_settings *settings = &t->checkpoint_settings;
    if (t->config.output == NULL) return LKS_OK;
    lks_status status = LKS_OK;
    if (settings->best && result->is_best) status = save_named(t, "best");
    if (status != LKS_OK || settings->every_epochs == 0 ||
        result->epoch % settings->every_epochs != 0)
        return status;

    char name[EPOCH_NAME_BYTES];
    name_of_epoch(result->epoch, name);
    status = save_named(t, name);
    if (status == LKS_OK && settings->keep_last > 0 && lks_comm_rank(t->context->comm) == 0)
        remove_old(t, result->epoch);
    return status;
}

lks_status lks_trainer_save_final(lks_trainer *t) {
    if (t->config.output == NULL || !t->checkpoint_settings.final) return LKS_OK;
    return save_named(t, "final");
}
