#include "train/compare.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- lists of differences ---- */

void lks_differ(lks_strbuf *differences, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    lks_strbuf_add(differences, "%s%s", differences->length > 0 ? "; " : "", text);
}

void lks_differ_array(lks_checkpoint *file, const lks_checkpoint_array *array,
                      lks_strbuf *differences) {
    lks_shape shape;
    char there[LKS_SHAPE_TEXT_BYTES], here[LKS_SHAPE_TEXT_BYTES];
    if (lks_checkpoint_shape(file, array->path, &shape) != LKS_OK)
        lks_differ(differences, "it has no %s", array->path);
    else if (!lks_shape_equal(&shape, &array->shape))
        lks_differ(differences, "%s has the shape %s there, %s here", array->path,
                   lks_shape_text(&shape, there), lks_shape_text(&array->shape, here));
}

typedef struct model_search {
    const lks_state_list *list;
    lks_strbuf *differences;
} model_search;

static lks_status visit_array(void *data, const char *path, lks_dtype dtype,
                              const lks_shape *shape) {
    (void)dtype;
    (void)shape;
    model_search *search = data;
    if (strncmp(path, "/model/", 7) != 0) return LKS_OK;
    for (int i = 0; i < search->list->array_count; i++)
        if (strcmp(search->list->arrays[i].path, path) == 0) return LKS_OK;
    lks_differ(search->differences, "it has %s, which this model does not", path);
    return LKS_OK;
}

lks_status lks_differ_unknown(lks_checkpoint *file, const lks_state_list *list,
                              lks_strbuf *differences) {
    model_search search = {list, differences};
    return lks_checkpoint_visit(file, visit_array, &search);
}

lks_status lks_refuse_differences(const char *path, const char *what, lks_strbuf *differences,
                                  lks_status status) {
    if (status == LKS_OK && differences->failed)
        status = lks_fail(LKS_ENOMEM, "%s: out of host memory", path);
    if (status == LKS_OK && differences->length > 0)
        status = lks_fail(LKS_ECHECKPOINT, "%s: %s: %s", path, what, differences->text);
    lks_strbuf_free(differences);
    return status;
}

/* ---- the data set ---- */

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static lks_status hash_sample(lks_dataset *dataset, int64_t index, float *inputs,
                              int64_t input_count, float *targets, int64_t target_count,
                              uint64_t *hash) {
    lks_status status = lks_dataset_read(dataset, &index, 1, inputs, targets);
    if (status != LKS_OK) return status;
    *hash = hash_bytes(*hash, inputs, (size_t)input_count * sizeof(float));
    *hash = hash_bytes(*hash, targets, (size_t)target_count * sizeof(float));
    return LKS_OK;
}

lks_status lks_sample_hash(lks_dataset *dataset, int64_t *out) {
    enum { SAMPLES = 8 };
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    int64_t count = lks_dataset_count(dataset), input_count, target_count = 1;
    lks_status status = lks_shape_count(lks_dataset_input_shape(dataset), &input_count);
    /* labels are one int32 each, as large as a float32 */
    if (status == LKS_OK && lks_dataset_target_kind(dataset) == LKS_TARGET_VALUES)
        status = lks_shape_count(lks_dataset_target_shape(dataset), &target_count);
    if (status != LKS_OK) return status;
    float *inputs = malloc((size_t)input_count * sizeof(float));
    float *targets = malloc((size_t)target_count * sizeof(float));
    if (inputs == NULL || targets == NULL)
        status = lks_fail(LKS_ENOMEM, "a sample of %s: out of host memory",
                          lks_dataset_describe(dataset));
    for (int i = 0; i < SAMPLES && count > 0 && status == LKS_OK; i++)
        status = hash_sample(dataset, (count - 1) * i / (SAMPLES - 1), inputs, input_count, targets,
                             target_count, &hash);
    free(inputs);
    free(targets);
    *out = (int64_t)hash;
    return status;
}

/* ---- the run ---- */

/* A comparison under way: what refuses the file, and what is only said. */
typedef struct comparison {
    lks_checkpoint *file;
    lks_strbuf differences, warnings;
    lks_status status;
} comparison;

static char *get_text(comparison *c, const char *group, const char *name) {
    char *text = NULL;
    if (c->status == LKS_OK) c->status = lks_checkpoint_get_text(c->file, group, name, &text);
    return c->status == LKS_OK ? text : NULL;
}

static void compare_i64(comparison *c, const char *group, const char *name, int64_t mine) {
    int64_t value;
    if (c->status == LKS_OK) c->status = lks_checkpoint_get_i64(c->file, group, name, &value);
    if (c->status == LKS_OK && value != mine)
        lks_differ(&c->differences, "%s is %lld there, %lld here", name, (long long)value,
                   (long long)mine);
}

static void compare_flag(comparison *c, const char *group, const char *name, bool mine) {
    int64_t value;
    if (c->status == LKS_OK) c->status = lks_checkpoint_get_i64(c->file, group, name, &value);
    if (c->status == LKS_OK && (value != 0) != mine)
        lks_differ(&c->differences, "%s is %s there, %s here", name, value ? "true" : "false",
                   mine ? "true" : "false");
}

/* Returns whether they are the same. */
static bool compare_name(comparison *c, const char *group, const char *what, const char *mine) {
    char *theirs = get_text(c, group, "name");
    bool same = theirs != NULL && strcmp(theirs, mine) == 0;
    if (theirs != NULL && !same)
        lks_differ(&c->differences, "the %s is %s there, %s here", what, theirs, mine);
    free(theirs);
    return same;
}

static void compare_samples(comparison *c, const lks_trainer *t) {
    int64_t hash = 0;
    compare_i64(c, "/sampler", "sample_count", lks_dataset_count(t->train_data));
    if (c->status == LKS_OK)
        c->status = lks_checkpoint_get_i64(c->file, "/sampler", "sample_hash", &hash);
    if (c->status == LKS_OK && hash != t->sample_hash)
        lks_differ(&c->differences, "the training samples are other ones");
}

/* "group 0: lr=0.1 betas=[0.9,0.999]; group 1: ..." word by word. The learning rates are the
 * schedule's, whose state comes from the file. */
static void compare_hyper(comparison *c, const char *mine) {
    char *theirs = get_text(c, "/optimizer", "hyper_parameters");
    const char *a = theirs, *b = mine;
    while (a != NULL && (*a != '\0' || *b != '\0')) {
        size_t la = strcspn(a, " "), lb = strcspn(b, " "), key = strcspn(b, "=");
        if (strncmp(a, b, key < lb ? key : lb) != 0) {
            lks_differ(&c->differences, "the parameter groups are others");
            break;
        }
        if ((la != lb || strncmp(a, b, la) != 0) && key < lb)
            lks_differ(&c->warnings, "%.*s there, %.*s here (%s is used)", (int)la, a, (int)lb, b,
                       strncmp(b, "lr=", 3) == 0 ? "the checkpoint's" : "the run file's");
        a += la + (a[la] == ' ');
        b += lb + (b[lb] == ' ');
    }
    free(theirs);
}

static void compare_schedule(comparison *c, lks_trainer *t) {
    if (!compare_name(c, "/scheduler", "schedule", lks_rates_name(t->rates))) return;
    const char *mine = t->config.schedule.options == NULL ? "" : t->config.schedule.options;
    char *theirs = get_text(c, "/scheduler", "options");
    if (theirs != NULL && strcmp(theirs, mine) != 0)
        lks_differ(&c->warnings,
                   "the schedule's options are \"%s\" there, \"%s\" here (the run "
                   "file's are used)",
                   theirs, mine);
    free(theirs);
    int expected = lks_rates_state_count(t->rates), found = 0;
    if (lks_checkpoint_get_f64(c->file, "/scheduler", "state", t->rates_state, expected, &found) !=
            LKS_OK ||
        found != expected)
        lks_differ(&c->differences, "the schedule's state does not have %d numbers as here",
                   expected);
}

/* Files from before there was a choice do not say it. */
static void compare_precision(comparison *c, const lks_trainer *t) {
    const char *mine = lks_precision_names[lks_device_precision(t->context->device)];
    char *theirs = NULL;
    if (c->status != LKS_OK) return;
    if (lks_checkpoint_get_text(c->file, "/provenance", "precision", &theirs) != LKS_OK) return;
    if (strcmp(theirs, mine) != 0)
        lks_differ(&c->warnings, "precision is %s there, %s here (the run file's is used)", theirs,
                   mine);
    free(theirs);
}

lks_status lks_compare_with_run(lks_trainer *t, lks_checkpoint *file, const char *path,
                                const lks_state_list *list) {
    comparison c = {.file = file};
    if (compare_name(&c, "/optimizer", "optimizer", lks_optimizer_name(t->optimizer)))
        compare_hyper(&c, lks_optimizer_hyper(t->optimizer));
    compare_schedule(&c, t);
    compare_i64(&c, "/rng", "seed", (int64_t)t->config.seed);
    compare_i64(&c, "/sampler", "batch_size", t->config.batch_size);
    compare_flag(&c, "/sampler", "drop_last", t->data_settings.drop_last);
    compare_flag(&c, "/sampler", "shuffle", t->data_settings.shuffle);
    compare_samples(&c, t);
    compare_precision(&c, t);
    for (int i = 0; i < list->array_count; i++)
        lks_differ_array(file, &list->arrays[i], &c.differences);
    if (c.status == LKS_OK) c.status = lks_differ_unknown(file, list, &c.differences);
    lks_status status =
        lks_refuse_differences(path, "not a checkpoint of this run", &c.differences, c.status);
    if (status == LKS_OK && c.warnings.length > 0 && !c.warnings.failed)
        lks_log(&t->context->logger, LKS_LOG_WARNING, "%s: other settings: %s", path,
                c.warnings.text);
    lks_strbuf_free(&c.warnings);
    return status;
}
