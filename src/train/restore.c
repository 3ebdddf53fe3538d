/* Restoring: the whole state, the weights alone, or the newest checkpoint of a run directory. */
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "train/state.h"

/* ---- is it a checkpoint of this run? Everything that differs is listed at once. ---- */

__attribute__((format(printf, 2, 3))) static void differ(lks_strbuf *differences,
                                                         const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    lks_strbuf_add(differences, "%s%s", differences->length > 0 ? "; " : "", text);
}

static lks_status compare_i64(lks_checkpoint *file, const char *group, const char *name,
                              int64_t mine, lks_strbuf *differences) {
    int64_t value;
    lks_status status = lks_checkpoint_get_i64(file, group, name, &value);
    if (status == LKS_OK && value != mine)
        differ(differences, "%s is %lld there, %lld here", name, (long long)value, (long long)mine);
    return status;
}

static lks_status compare_name(lks_checkpoint *file, const char *group, const char *what,
                               const char *mine, lks_strbuf *differences) {
    char *text;
    lks_status status = lks_checkpoint_get_text(file, group, "name", &text);
    if (status == LKS_OK && strcmp(text, mine) != 0)
        differ(differences, "the %s is %s there, %s here", what, text, mine);
    if (status == LKS_OK) free(text);
    return status;
}

static void compare_array(lks_checkpoint *file, const lks_checkpoint_array *array,
                          lks_strbuf *differences) {
    lks_shape shape;
    char there[LKS_SHAPE_TEXT_BYTES], here[LKS_SHAPE_TEXT_BYTES];
    if (lks_checkpoint_shape(file, array->path, &shape) != LKS_OK)
        differ(differences, "it has no %s", array->path);
    else if (!lks_shape_equal(&shape, &array->shape))
        differ(differences, "%s has the shape %s there, %s here", array->path,
               lks_shape_text(&shape, there), lks_shape_text(&array->shape, here));
}

typedef struct model_search {
    const lks_state_list *list;
    lks_strbuf *differences;
} model_search;

/* Model arrays that the file has and this run does not. */
static lks_status visit_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)dtype;
    (void)shape;
    model_search *search = data;
    if (strncmp(path, "/model/", 7) != 0) return LKS_OK;
    for (int i = 0; i < search->list->array_count; i++)
        if (strcmp(search->list->arrays[i].path, path) == 0) return LKS_OK;
    differ(search->differences, "it has %s, which this model does not", path);
    return LKS_OK;
}

static lks_status refuse_differences(const char *path, lks_strbuf *differences, lks_status status) {
    if (status == LKS_OK && differences->failed)
        status = lks_fail(LKS_ENOMEM, "%s: out of host memory", path);
    if (status == LKS_OK && differences->length > 0)
        status = lks_fail(LKS_ECHECKPOINT, "%s: not a checkpoint of this run: %s", path,
                          differences->text);
    lks_strbuf_free(differences);
    return status;
}

static lks_status compare_arrays(lks_checkpoint *file, const char *path,
                                 const lks_state_list *list) {
    lks_strbuf differences = {0};
    for (int i = 0; i < list->array_count; i++)
        compare_array(file, &list->arrays[i], &differences);
    model_search search = {list, &differences};
    lks_status status = lks_checkpoint_visit(file, visit_array, &search);
    return refuse_differences(path, &differences, status);
}

static lks_status compare_run(lks_trainer *t, lks_checkpoint *file, const char *path) {
    lks_strbuf differences = {0};
    lks_status status = compare_name(file, "/optimizer", "optimizer",
                                     lks_optimizer_name(t->optimizer), &differences);
    if (status == LKS_OK)
        status =
            compare_name(file, "/scheduler", "schedule", lks_rates_name(t->rates), &differences);
    if (status == LKS_OK)
        status = compare_i64(file, "/rng", "seed", (int64_t)t->config.seed, &differences);
    if (status == LKS_OK)
        status = compare_i64(file, "/sampler", "batch_size", t->config.batch_size, &differences);
    if (status == LKS_OK)
        status = compare_i64(file, "/sampler", "sample_count", lks_dataset_count(t->train_data),
                             &differences);
    return refuse_differences(path, &differences, status);
}

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

static lks_status read_stopping(lks_checkpoint *file, lks_early_stopping *out) {
    int64_t stopped = 0;
    lks_status status = read_f64(file, "/early_stopping", "best", &out->best, 1);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/early_stopping", "bad_epochs", &out->bad_epochs);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/early_stopping", "best_epoch", &out->best_epoch);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/early_stopping", "stopped", &stopped);
    out->stopped = stopped != 0;
    return status;
}

static lks_status read_position(lks_trainer *t, lks_checkpoint *file) {
    int64_t steps = 0;
    double sums[LKS_LOSS_SUM_COUNT];
    lks_status status = lks_checkpoint_get_i64(file, "/sampler", "epoch", &t->position.epoch);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/sampler", "step", &t->position.step);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/sampler", "global_step", &t->position.global_step);
    if (status == LKS_OK) status = read_f64(file, "/sampler", "epoch_lr", &t->epoch_lr, 1);
    if (status == LKS_OK)
        status = read_f64(file, "/sampler", "epoch_sums", sums, LKS_LOSS_SUM_COUNT);
    if (status == LKS_OK)
        status = lks_device_copy(t->context->device,
                                 lks_device_stream(t->context->device, LKS_STREAM_COMPUTE),
                                 t->epoch_sums, sums, sizeof(sums), LKS_COPY_TO_DEVICE);
    if (status == LKS_OK) status = lks_checkpoint_get_i64(file, "/sampler", "skipped", &t->skipped);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/sampler", "skipped_in_row", &t->skipped_in_row);
    if (status == LKS_OK) status = lks_checkpoint_get_i64(file, "/optimizer", "step", &steps);
    if (status == LKS_OK) lks_optimizer_set_steps(t->optimizer, steps);
    return status;
}

static lks_status read_schedule(lks_trainer *t, lks_checkpoint *file) {
    int count = lks_rates_state_count(t->rates);
    lks_status status = read_f64(file, "/scheduler", "state", t->rates_state, count);
    return status == LKS_OK ? lks_rates_set_state(t->rates, t->rates_state, count) : status;
}

static lks_status read_history(lks_trainer *t, lks_checkpoint *file) {
    int64_t count;
    lks_status status = lks_checkpoint_get_i64(file, "/history", "epochs", &count);
    if (status == LKS_OK && count < 0)
        status =
            lks_fail(LKS_ECHECKPOINT, "/history: the attribute epochs is %lld, expected 0 or more",
                     (long long)count);
    if (status != LKS_OK) return status;
    lks_epoch_result *history = calloc((size_t)count + 1, sizeof(*history));
    double *column = malloc(((size_t)count + 1) * sizeof(*column));
    if (history == NULL || column == NULL)
        status = lks_fail(LKS_ENOMEM, "the history of %lld epochs: out of host memory",
                          (long long)count);

    const lks_piece piece = {.first = 0, .count = count, .data = column};
    for (int s = 0; s < lks_history_table_count && count > 0 && status == LKS_OK; s++) {
        const lks_history_series *series = &lks_history_table[s];
        char path[64];
        snprintf(path, sizeof(path), "/history/%s", series->name);
        status =
            lks_checkpoint_read(file, &(lks_checkpoint_array){.path = path,
                                                              .dtype = LKS_F64,
                                                              .shape = {.rank = 1, .dim = {count}},
                                                              .pieces = &piece,
                                                              .piece_count = 1});
        for (int64_t e = 0; e < count && status == LKS_OK; e++) {
            char *at = (char *)&history[e] + series->offset;
            if (series->is_flag)
                *(bool *)at = column[e] != 0;
            else
                *(double *)at = column[e];
            history[e].epoch = e + 1;
        }
    }
    free(column);
    if (status != LKS_OK) {
        free(history);
        return status;
    }
    free(t->history);
    t->history = history;
    t->history_count = count;
    t->history_capacity = count + 1;
    return LKS_OK;
}

static lks_status read_numbers(lks_trainer *t, lks_checkpoint *file) {
    lks_status status = read_position(t, file);
    if (status == LKS_OK) status = read_schedule(t, file);
    if (status == LKS_OK) status = read_f64(file, "/best", "value", &t->best_value, 1);
    if (status == LKS_OK) status = lks_checkpoint_get_i64(file, "/best", "epoch", &t->best_epoch);
    if (status == LKS_OK) status = read_history(t, file);
    t->epoch_began = 0;
    t->failure = LKS_OK;
    return status;
}

/* ---- the arrays ---- */

static lks_status restore_local(lks_trainer *t, const char *path, bool weights_only) {
    lks_checkpoint *file = NULL;
    lks_state_list list = {0};
    lks_state_mirror mirror = {0};
    lks_status status = lks_checkpoint_open(path, &file);
    if (status == LKS_OK && !weights_only) status = compare_run(t, file, path);
    if (status == LKS_OK && !weights_only)
        status = read_stopping(file, &t->stopping); /* says whether the file has a best model */
    if (status == LKS_OK) status = lks_state_mirror_open(t, LKS_STATE_RESTORE, &mirror);
    if (status == LKS_OK) {
        lks_state_list_model(t, &mirror, LKS_STATE_RESTORE, &list);
        if (!weights_only) lks_state_list_training(t, &mirror, LKS_STATE_RESTORE, &list);
        status = list.status;
    }
    if (status == LKS_OK) status = compare_arrays(file, path, &list);
    for (int i = 0; i < list.array_count && status == LKS_OK; i++)
        status = lks_checkpoint_read(file, &list.arrays[i]);
    if (status == LKS_OK && !weights_only) status = read_numbers(t, file);
    if (status == LKS_OK) status = lks_state_mirror_apply(t, &mirror);

    lks_state_mirror_close(t, &mirror);
    lks_state_list_free(&list);
    lks_checkpoint_close(file);
    return status;
}

lks_status lks_trainer_restore(lks_trainer *t, const char *path) {
    if (t->optimizer == NULL)
        return lks_fail(LKS_EINVAL, "lks_trainer_restore: this trainer has no training state");
    lks_status status = lks_comm_agree(t->context->comm, restore_local(t, path, false));
    if (status == LKS_OK && t->run_dir != NULL)
        lks_run_dir_resume(t->run_dir, path, t->position.epoch, t->position.step);
    return status;
}

lks_status lks_trainer_load_weights(lks_trainer *t, const char *path) {
    return lks_comm_agree(t->context->comm, restore_local(t, path, true));
}

/* ---- the newest one ---- */

typedef struct candidate {
    char *path;
    int64_t global_step;
} candidate;

static int compare_candidates(const void *a, const void *b) {
    int64_t first = ((const candidate *)a)->global_step,
            second = ((const candidate *)b)->global_step;
    return first > second ? -1 : first < second;
}

/* Opens one file and notes how far its run was; false where it is no readable checkpoint. */
static bool probe(const lks_logger *logger, char *path, candidate *out) {
    lks_checkpoint *file = NULL;
    *out = (candidate){.path = path};
    lks_status status = lks_checkpoint_open(path, &file);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/sampler", "global_step", &out->global_step);
    lks_checkpoint_close(file);
    if (status != LKS_OK)
        lks_log(logger, LKS_LOG_WARNING, "%s is skipped: %s", path, lks_last_error());
    return status == LKS_OK;
}

/* The checkpoints of the run directory, the one that is farthest first; best.h5 only counts when it
 * is farther than the others. */
static int list_candidates(const lks_trainer *t, candidate **out) {
    char *folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    DIR *dir = folder == NULL ? NULL : opendir(folder);
    candidate *list = NULL;
    int count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (!lks_glob_match("*.h5", entry->d_name)) continue;
        char *path = lks_strdup_printf("%s/%s", folder, entry->d_name);
        candidate *grown = realloc(list, (size_t)(count + 1) * sizeof(*list));
        if (grown != NULL) list = grown;
        if (path != NULL && grown != NULL && probe(&t->context->logger, path, &list[count]))
            count++;
        else
            free(path);
    }
    if (dir != NULL) closedir(dir);
    free(folder);
    if (count > 0) qsort(list, (size_t)count, sizeof(*list), compare_candidates);
    *out = list;
    return count;
}

enum { PATH_BYTES = 4096 };

/* Rank 0 names the candidates one after the other; a file that turns out to be broken is reported,
 * and the next one is tried. */
static lks_status resume_newest(lks_trainer *t, bool *resumed) {
    lks_comm *comm = t->context->comm;
    candidate *list = NULL;
    int count = lks_comm_rank(comm) == 0 ? list_candidates(t, &list) : 0;
    lks_status status = LKS_OK, refusal = LKS_OK;
    char path[PATH_BYTES];
    for (int i = 0; status == LKS_OK && !*resumed; i++) {
        snprintf(path, sizeof(path), "%s", i < count ? list[i].path : "");
        status = lks_comm_broadcast(comm, path, sizeof(path), 0);
        if (status != LKS_OK || path[0] == '\0') break;
        refusal = lks_trainer_restore(t, path);
        if (refusal == LKS_OK)
            *resumed = true;
        else if (refusal == LKS_ECOMM)
            status = refusal;
        else
            lks_log(&t->context->logger, LKS_LOG_WARNING, "%s is skipped: %s", path,
                    lks_last_error());
    }
    for (int i = 0; i < count; i++)
        free(list[i].path);
    free(list);
    /* checkpoints that all are refused must not lead to a silent start from the beginning */
    if (status == LKS_OK && !*resumed && refusal != LKS_OK) status = refusal;
    return status;
}

lks_status lks_trainer_resume(lks_trainer *t, const char *which, bool *resumed) {
    *resumed = false;
    if (strcmp(which, "auto") == 0) {
        if (t->config.output == NULL)
            return lks_fail(
                LKS_ECONFIG,
                "resume auto: the run has no `output` folder to look for checkpoints in");
        return resume_newest(t, resumed);
    }
    lks_status status = lks_trainer_restore(t, which);
    *resumed = status == LKS_OK;
    return status;
}
