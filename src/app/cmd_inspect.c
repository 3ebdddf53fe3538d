#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "checkpoint/checkpoint.h"
#include "h5/h5.h"

enum { MAX_NUMBERS = 64, MAX_TEXT_SHOWN = 72 };

typedef struct inspection {
    lks_h5_file *file;
    bool json;
    bool claims_checkpoint; /* the root has the attribute `format` */
    int attribute_count;    /* of the present object */
    int object_count;
    int64_t array_count, bytes;
    lks_strbuf out;
} inspection;

static int depth_of(const char *path) {
    int depth = 0;
    for (const char *s = path; *s; s++)
        depth += *s == '/';
    return depth;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- attributes ---- */

static void print_numbers(inspection *in, const double *values, int count) {
    if (count != 1) lks_strbuf_add(&in->out, "[");
    for (int i = 0; i < count; i++) {
        lks_strbuf_add(&in->out, "%s", i ? ", " : "");
        if (in->json)
            lks_strbuf_add_json_number(&in->out, values[i]);
        else
            lks_strbuf_add(&in->out, "%.10g", values[i]);
    }
    if (count != 1) lks_strbuf_add(&in->out, "]");
}

static void print_text(inspection *in, const char *text) {
    if (in->json)
        lks_strbuf_add_json(&in->out, text);
    else if (strlen(text) > MAX_TEXT_SHOWN || strchr(text, '\n'))
        lks_strbuf_add(&in->out, "(a text of %zu bytes)", strlen(text));
    else
        lks_strbuf_add(&in->out, "%s", text);
}

static lks_status visit_attribute(void *data, const char *path, const char *name) {
    inspection *in = data;
    char *text = NULL;
    double numbers[MAX_NUMBERS];
    int count = 0;
    in->claims_checkpoint =
        in->claims_checkpoint || (strcmp(path, "/") == 0 && strcmp(name, "format") == 0);
    if (in->json) {
        lks_strbuf_add(&in->out, "%s", in->attribute_count++ ? ", " : "");
        lks_strbuf_add_json(&in->out, name);
        lks_strbuf_add(&in->out, ": ");
    } else {
        int depth = strcmp(path, "/") == 0 ? 0 : depth_of(path) + 1;
        lks_strbuf_add(&in->out, "%*s%s: ", 2 * depth + 2, "", name);
    }
    if (!lks_h5_read_attr_text(in->file, path, name, &text))
        print_text(in, text);
    else if (!lks_h5_read_attr_f64(in->file, path, name, numbers, MAX_NUMBERS, &count))
        print_numbers(in, numbers, count);
    else
        lks_strbuf_add(&in->out, in->json ? "null" : "(neither text nor a few numbers)");
    lks_strbuf_add(&in->out, in->json ? "" : "\n");
    free(text);
    return LKS_OK;
}

/* ---- objects ---- */

static int64_t array_bytes(const lks_h5_info *info) {
    int64_t count;
    return lks_shape_count(&info->shape, &count) ? 0 : count * (int64_t)info->element_bytes;
}

static lks_status print_json_object(inspection *in, const char *path, bool is_group,
                                    const lks_h5_info *info) {
    char shape[LKS_SHAPE_TEXT_BYTES];
    lks_strbuf_add(&in->out, "%s\n  {\"path\": ", in->object_count++ ? "," : "");
    lks_strbuf_add_json(&in->out, path);
    if (is_group)
        lks_strbuf_add(&in->out, ", \"kind\": \"group\"");
    else
        lks_strbuf_add(
            &in->out,
            ", \"kind\": \"array\", \"dtype\": \"%s\", \"shape\": %s, \"bytes\": %" PRId64,
            info->type_name, lks_shape_text(&info->shape, shape), array_bytes(info));
    lks_strbuf_add(&in->out, ", \"attributes\": {");
    in->attribute_count = 0;
    lks_status status = lks_h5_visit_attrs(in->file, path, visit_attribute, in);
    lks_strbuf_add(&in->out, "}}");
    return status;
}

static lks_status print_text_object(inspection *in, const char *path, bool is_group,
                                    const lks_h5_info *info) {
    char shape[LKS_SHAPE_TEXT_BYTES], bytes[LKS_BYTES_TEXT_BYTES];
    int indent = 2 * depth_of(path);
    lks_strbuf_add(&in->out, "%*s", indent, "");
    if (is_group) {
        lks_strbuf_add(&in->out, "%s/\n", last_part(path));
    } else {
        int width = 40 - indent > 0 ? 40 - indent : 0;
        lks_strbuf_add(&in->out, "%-*s %-8s %-20s %s\n", width, last_part(path), info->type_name,
                       lks_shape_text(&info->shape, shape),
                       lks_bytes_text((size_t)array_bytes(info), bytes));
    }
    return lks_h5_visit_attrs(in->file, path, visit_attribute, in);
}

static lks_status visit_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    inspection *in = data;
    if (in->json) return print_json_object(in, path, is_group, info);
    /* The check sums say nothing to a reader. */
    if (strncmp(path + strspn(path, "/"), "integrity", strlen("integrity")) == 0) return LKS_OK;
    in->array_count += !is_group;
    in->bytes += is_group ? 0 : array_bytes(info);
    return print_text_object(in, path, is_group, info);
}

static lks_status inspect_text(inspection *in, const char *path) {
    char bytes[LKS_BYTES_TEXT_BYTES];
    lks_strbuf_add(&in->out, "%s\n", path);
    lks_status status = lks_h5_visit_attrs(in->file, "/", visit_attribute, in);
    if (!status) status = lks_h5_visit(in->file, "/", visit_object, in);
    lks_strbuf_add(&in->out, "%" PRId64 " arrays, %s\n", in->array_count,
                   lks_bytes_text((size_t)in->bytes, bytes));
    return status;
}

static lks_status inspect_json(inspection *in, const char *path) {
    lks_strbuf_add(&in->out, "{\"file\": ");
    lks_strbuf_add_json(&in->out, path);
    lks_strbuf_add(&in->out, ", \"objects\": [");
    lks_status status = print_json_object(in, "/", true, NULL);
    if (!status) status = lks_h5_visit(in->file, "/", visit_object, in);
    lks_strbuf_add(&in->out, "\n]}\n");
    return status;
}

/* A file that says it is a checkpoint must be a whole one. */
static lks_status check_whole(const inspection *in, const char *path) {
    lks_checkpoint *checkpoint;
    if (!in->claims_checkpoint) return LKS_OK;
    lks_status status = lks_checkpoint_open(path, &checkpoint);
    if (!status) lks_checkpoint_close(checkpoint);
    return status;
}

lks_status lks_command_inspect(const lks_args *args) {
    const char *path = args->operands[0];
    inspection in = {.json = args->json};
    lks_status status = lks_h5_open(path, &in.file);
    if (status) return status;
    status = in.json ? inspect_json(&in, path) : inspect_text(&in, path);
    lks_h5_close(in.file); /* opened for reading: nothing is lost where closing fails */
    if (!status && in.out.failed) status = lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    if (!status) fputs(in.out.text, stdout);
    if (!status) status = check_whole(&in, path);
    lks_strbuf_free(&in.out);
    return status;
}
