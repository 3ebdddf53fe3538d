#include "fault/sample.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "h5/h5.h"

enum { MAX_NUMBERS = 64 };

lks_status sample_save(lks_comm *comm, const char *path) {
    static float weight[60];
    static double moments[5] = {1, -2, 3.5, 0, 1e300};
    static int64_t batches[1] = {12345678901};
    static int32_t order[6] = {5, 3, 1, 0, 2, 4};
    static uint8_t flags[3] = {1, 0, 255};
    const double rates[3] = {0.1, 0.2, 0.3};
    for (int i = 0; i < 60; i++)
        weight[i] = (float)i + 0.25f;

    const bool first = lks_comm_rank(comm) == 0;
    const lks_piece pieces[] = {
        {0, 60, weight}, {0, 5, moments}, {0, 1, batches}, {0, 6, order}, {0, 3, flags}};
    const lks_checkpoint_array arrays[] = {
        {"/model/fc.weight", LKS_F32, {2, {6, 10}}, &pieces[0], first},
        {"/model/fc.batches", LKS_I64, {0, {0}}, &pieces[2], first},
        {"/optimizer/sum/fc.weight", LKS_F64, {1, {5}}, &pieces[1], first},
        {"/sampler/order", LKS_I32, {3, {3, 1, 2}}, &pieces[3], first},
        {"/history/is_best", LKS_U8, {1, {3}}, &pieces[4], first},
        {"/history/none", LKS_F32, {1, {0}}, NULL, 0},
    };
    const lks_checkpoint_attr attrs[] = {
        {.path = "/", .name = "note", .kind = LKS_ATTR_TEXT, .text = "the note of this run"},
        {.path = "/optimizer", .name = "step", .kind = LKS_ATTR_I64, .i64 = 123456789},
        {.path = "/scheduler", .name = "state", .kind = LKS_ATTR_F64, .f64 = rates, .count = 3},
    };
    const lks_checkpoint_content content = {arrays, 6, attrs, 3};
    return lks_checkpoint_write(comm, path, &content, LKS_TRANSFER_INDEPENDENT);
}

/* FNV-1a: enough to tell what is the same from what is not. */
static void add(sample_content *out, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        out->digest = (out->digest ^ at[i]) * UINT64_C(0x100000001b3);
}

static void add_text(sample_content *out, const char *text) {
    add(out, text, strlen(text) + 1);
}

/* ---- as restoring does ---- */

typedef struct reading {
    lks_checkpoint *file;
    sample_content *out;
} reading;

static lks_status read_array(void *data, const char *path, lks_dtype dtype,
                             const lks_shape *shape) {
    reading *r = data;
    int64_t count;
    size_t bytes;
    lks_status status = lks_shape_count(shape, &count);
    if (status) return status;
    if (!lks_size_mul((size_t)count, lks_dtype_bytes(dtype), &bytes) || bytes > (1 << 20))
        return lks_fail(LKS_ECHECKPOINT, "%s is larger than any array of the sample", path);
    void *values = malloc(bytes + 1);
    if (!values) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    const lks_piece piece = {.count = count, .data = values};
    const lks_checkpoint_array wanted = {path, dtype, *shape, &piece, 1};
    status = lks_checkpoint_read(r->file, &wanted);
    if (!status) {
        r->out->arrays++;
        add_text(r->out, path);
        add(r->out, &dtype, sizeof dtype);
        add(r->out, shape->dim, (size_t)shape->rank * sizeof *shape->dim);
        add(r->out, values, bytes);
    }
    free(values);
    return status;
}

static lks_status read_text(reading *r, const char *name) {
    char *text;
    lks_status status = lks_checkpoint_get_text(r->file, "/", name, &text);
    if (status) return status;
    r->out->texts++;
    add_text(r->out, text);
    free(text);
    return LKS_OK;
}

static lks_status read_numbers(reading *r) {
    int64_t step;
    double state[3];
    int count;
    lks_status status = lks_checkpoint_get_i64(r->file, "/optimizer", "step", &step);
    if (!status) status = lks_checkpoint_get_f64(r->file, "/scheduler", "state", state, 3, &count);
    if (status) return status;
    add(r->out, &step, sizeof step);
    add(r->out, state, (size_t)count * sizeof *state);
    return LKS_OK;
}

lks_status sample_read(const char *path, sample_content *out) {
    *out = (sample_content){.digest = UINT64_C(0xcbf29ce484222325)};
    reading r = {.out = out};
    lks_status status = lks_checkpoint_open(path, &r.file);
    if (!status) status = lks_checkpoint_visit(r.file, read_array, &r);
    if (!status) status = read_text(&r, "note");
    if (!status) status = read_numbers(&r);
    lks_checkpoint_close(r.file);
    return status;
}

/* ---- as inspecting does ---- */

typedef struct listing {
    lks_h5_file *file;
    sample_content *out;
} listing;

static lks_status list_attribute(void *data, const char *path, const char *name) {
    listing *l = data;
    char *text;
    double numbers[MAX_NUMBERS];
    int count;
    add_text(l->out, name);
    if (!lks_h5_read_attr_text(l->file, path, name, &text)) {
        l->out->texts++;
        add_text(l->out, text);
        free(text);
    } else if (!lks_h5_read_attr_f64(l->file, path, name, numbers, MAX_NUMBERS, &count)) {
        add(l->out, numbers, (size_t)count * sizeof *numbers);
    }
    return LKS_OK;
}

static lks_status list_object(void *data, const char *path, bool is_group,
                              const lks_h5_info *info) {
    listing *l = data;
    add_text(l->out, path);
    if (!is_group) {
        l->out->arrays++;
        add_text(l->out, info->type_name);
        add(l->out, info->shape.dim, (size_t)info->shape.rank * sizeof *info->shape.dim);
    }
    return lks_h5_visit_attrs(l->file, path, list_attribute, l);
}

lks_status sample_list(const char *path, sample_content *out) {
    *out = (sample_content){.digest = UINT64_C(0xcbf29ce484222325)};
    listing l = {.out = out};
    lks_checkpoint *whole;
    lks_status status = lks_checkpoint_open(path, &whole);
    if (status) return status;
    lks_checkpoint_close(whole);
    status = lks_h5_open(path, &l.file);
    if (!status) status = lks_h5_visit_attrs(l.file, "/", list_attribute, &l);
    if (!status) status = lks_h5_visit(l.file, "/", list_object, &l);
    lks_h5_close(l.file);
    return status;
}
