/* Saving: the whole state into one file, and which files are written when, and kept. */
#include <dirent.h>
#include <errno.h>
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
        status = lks_checkpoint_write(t->context->comm, path, &content);
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

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The epoch-NNNN.h5 of a folder in ascending order; the caller frees names and list. -1 when out of
 * memory or unreadable. */
static int list_epoch_files(const char *folder, char ***out) {
    DIR *dir = opendir(folder);
    char **names = NULL;
    int count = 0;
    *out = NULL;
    if (dir == NULL) return -1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!lks_glob_match("epoch-*.h5", entry->d_name)) continue;
        char **grown = realloc(names, (size_t)(count + 1) * sizeof(*names));
        if (grown == NULL) break;
        names = grown;
        if ((names[count] = lks_strdup(entry->d_name)) != NULL) count++;
    }
    closedir(dir);
    if (count > 0) qsort(names, (size_t)count, sizeof(*names), compare_names);
    *out = names;
    return count;
}

/* Rank 0: removes the oldest epoch files beyond keep_last. */
static void remove_old(const lks_trainer *t) {
    char *folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    char **names = NULL;
    int count = folder == NULL ? -1 : list_epoch_files(folder, &names);
    for (int i = 0; i < count; i++) {
        char *path = lks_strdup_printf("%s/%s", folder, names[i]);
        if (path != NULL && i < count - t->checkpoint_settings.keep_last && unlink(path) != 0)
            lks_log(&t->context->logger, LKS_LOG_WARNING, "cannot remove the old checkpoint %s: %s",
                    path, strerror(errno));
        free(path);
        free(names[i]);
    }
    free(names);
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

    char name[32];
    snprintf(name, sizeof(name), "epoch-%04lld", (long long)result->epoch);
    status = save_named(t, name);
    if (status == LKS_OK && settings->keep_last > 0 && lks_comm_rank(t->context->comm) == 0)
        remove_old(t);
    return status;
}

lks_status lks_trainer_save_final(lks_trainer *t) {
    if (t->config.output == NULL || !t->checkpoint_settings.final) return LKS_OK;
    return save_named(t, "final");
}
