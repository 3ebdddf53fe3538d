/* Parameters and buffers alone, of a whole model or of a part of it. */
#include <stdlib.h>
#include <string.h>

#include "train/compare.h"
#include "train/saver.h"

static const char model_group[] = "/model/";
enum { MODEL_GROUP_LENGTH = sizeof(model_group) - 1 };

/* What of a checkpoint is wanted, and what came of it. */
typedef struct weights {
    const char *path;
    const char *params, *exclude; /* patterns with blanks between them; NULL: all, none */
    bool strict;                  /* the file's model is this one, no more and no less */
    lks_snapshot snapshot;
    lks_state_list list;
    bool *taken; /* [list.array_count] */
} weights;

/* Does any of the patterns match? Names are short: longer patterns match nothing. */
static bool matches(const char *patterns, const char *name) {
    char pattern[256];
    for (const char *p = patterns; *p != '\0';) {
        size_t length = strcspn(p, " \t\n");
        if (length > 0 && length < sizeof(pattern)) {
            memcpy(pattern, p, length);
            pattern[length] = '\0';
            if (lks_glob_match(pattern, name)) return true;
        }
        p += length;
        p += strspn(p, " \t\n");
    }
    return false;
}

static const char *name_of(const weights *w, int i) {
    return w->list.arrays[i].path + MODEL_GROUP_LENGTH;
}

/* Every pattern has to match something of this model: a misspelt one would leave weights out
 * without a word. */
static lks_status check_patterns(const weights *w, const char *patterns, const char *what) {
    const char **names = calloc((size_t)w->list.array_count + 1, sizeof(*names));
    char *copy = lks_strdup(patterns), *rest = copy;
    lks_status status = names == NULL || copy == NULL
                            ? lks_fail(LKS_ENOMEM, "init_from: out of host memory")
                            : LKS_OK;
    for (int i = 0; status == LKS_OK && i < w->list.array_count; i++)
        names[i] = name_of(w, i);
    for (char *word; status == LKS_OK && (word = strsep(&rest, " \t\n")) != NULL;) {
        bool found = *word == '\0';
        for (int i = 0; i < w->list.array_count && !found; i++)
            found = lks_glob_match(word, names[i]);
        if (!found)
            status =
                lks_fail_in(lks_fail_unknown("parameter", word, names, (size_t)w->list.array_count),
                            "init_from: %s", what);
    }
    free(copy);
    free(names);
    return status;
}

static lks_status choose(weights *w) {
    w->taken = calloc((size_t)w->list.array_count + 1, sizeof(*w->taken));
    if (w->taken == NULL) return lks_fail(LKS_ENOMEM, "init_from: out of host memory");
    lks_status status = LKS_OK;
    if (w->params != NULL) status = check_patterns(w, w->params, "params");
    if (status == LKS_OK && w->exclude != NULL) status = check_patterns(w, w->exclude, "exclude");
    for (int i = 0; i < w->list.array_count; i++)
        w->taken[i] = (w->params == NULL || matches(w->params, name_of(w, i))) &&
                      (w->exclude == NULL || !matches(w->exclude, name_of(w, i)));
    return status;
}

/* Not every file has batch norm's counts, which older programs do not write. */
static bool may_be_missing(const lks_checkpoint_array *array) {
    return array->dtype == LKS_I64;
}

static lks_status compare(weights *w, lks_checkpoint *file) {
    lks_strbuf differences = {0};
    lks_shape shape;
    lks_status status = LKS_OK;
    for (int i = 0; i < w->list.array_count; i++) {
        const lks_checkpoint_array *array = &w->list.arrays[i];
        if (w->taken[i] && may_be_missing(array) &&
            lks_checkpoint_shape(file, array->path, &shape) != LKS_OK)
            w->taken[i] = false;
        if (w->taken[i]) lks_differ_array(file, array, &differences);
    }
    if (w->strict) status = lks_differ_unknown(file, &w->list, &differences);
    return lks_refuse_differences(w->path, "its model is another one", &differences, status);
}

/* ---- what was taken and what was left ---- */

static void add_to_list(lks_strbuf *list, int *count, const char *name) {
    enum { MAX_LISTED = 24 };
    ++*count;
    if (*count <= MAX_LISTED)
        lks_strbuf_add(list, "%s%s", *count == 1 ? "" : ", ", name);
    else if (*count == MAX_LISTED + 1)
        lks_strbuf_add(list, " ...");
}

typedef struct leftovers {
    const weights *weights;
    lks_strbuf names;
    int count;
} leftovers;

static lks_status visit_leftover(void *data, const char *path, lks_dtype dtype,
                                 const lks_shape *shape) {
    (void)dtype;
    (void)shape;
    leftovers *left = data;
    const weights *w = left->weights;
    if (strncmp(path, model_group, MODEL_GROUP_LENGTH) != 0) return LKS_OK;
    for (int i = 0; i < w->list.array_count; i++)
        if (w->taken[i] && strcmp(w->list.arrays[i].path, path) == 0) return LKS_OK;
    add_to_list(&left->names, &left->count, path + MODEL_GROUP_LENGTH);
    return LKS_OK;
}

static void print_list(const lks_logger *logger, const char *what, const lks_strbuf *names,
                       int count) {
    if (count > 0 && !names->failed)
        lks_log(logger, LKS_LOG_INFO, "  %s %d: %s", what, count, names->text);
}

static void report(const lks_trainer *t, const weights *w, lks_checkpoint *file) {
    lks_strbuf taken = {0}, kept = {0};
    int taken_count = 0, kept_count = 0;
    leftovers left = {.weights = w};
    for (int i = 0; i < w->list.array_count; i++)
        if (w->taken[i])
            add_to_list(&taken, &taken_count, name_of(w, i));
        else
            add_to_list(&kept, &kept_count, name_of(w, i));
    (void)lks_checkpoint_visit(file, visit_leftover, &left);
    const lks_logger *logger = &t->context->logger;
    lks_log(logger, LKS_LOG_INFO, "initial weights from %s", w->path);
    print_list(logger, "taken,", &taken, taken_count);
    print_list(logger, "not taken, as initialised,", &kept, kept_count);
    print_list(logger, "left in the file,", &left.names, left.count);
    lks_strbuf_free(&taken);
    lks_strbuf_free(&kept);
    lks_strbuf_free(&left.names);
}

/* ---- reading ---- */

static lks_status read_file(lks_trainer *t, weights *w) {
    lks_checkpoint *file = NULL;
    lks_status status = lks_checkpoint_open(w->path, &file);
    if (status == LKS_OK) status = lks_snapshot_open(t, true, &w->snapshot);
    if (status == LKS_OK) status = lks_snapshot_take(t, &w->snapshot);
    if (status == LKS_OK) lks_snapshot_list_model(t, &w->snapshot, &w->list);
    if (status == LKS_OK) status = w->list.status;
    if (status == LKS_OK) status = choose(w);
    if (status == LKS_OK) status = compare(w, file);
    for (int i = 0; i < w->list.array_count && status == LKS_OK; i++)
        if (w->taken[i] && w->list.arrays[i].piece_count > 0)
            status = lks_checkpoint_read(file, &w->list.arrays[i]);
    if (status == LKS_OK && !w->strict) report(t, w, file);
    lks_checkpoint_close(file);
    return status;
}

static lks_status load(lks_trainer *t, weights *w) {
    lks_comm *comm = t->context->comm;
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_RESTORE);
    lks_status status = read_file(t, w);
    if (status == LKS_OK) status = lks_saver_hold(t);
    status = lks_comm_agree(comm, status);
    if (status == LKS_OK) status = lks_comm_agree(comm, lks_snapshot_give_back(t, &w->snapshot));
    if (status == LKS_OK) status = lks_snapshot_gather(t, &w->snapshot, false);
    lks_snapshot_close(t, &w->snapshot, false);
    lks_state_list_free(&w->list);
    free(w->taken);
    lks_guard_enter(t->context->guard, before);
    return status;
}

lks_status lks_trainer_load_weights(lks_trainer *t, const char *path) {
    return load(t, &(weights){.path = path, .strict = true});
}

lks_status lks_trainer_init_from(lks_trainer *t, const char *path, const char *params,
                                 const char *exclude) {
    return load(t, &(weights){.path = path, .params = params, .exclude = exclude});
}
