#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/summary.h"
#include "h5/h5.h"

enum { MAX_NUMBERS = 64, MAX_TEXT_SHOWN = 160 };

typedef struct inspection {
    lks_h5_file *file;
    bool json;
    bool in_model;          /* show what stands in /model; else show the rest */
    int width;              /* of the longest name with its indentation */
    bool claims_checkpoint; /* the root has the attribute `format` */
    int attribute_count;    /* of the present object */
    int object_count;
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
        lks_strbuf_add(&in->out, "(a text of %zu bytes: --json shows it)", strlen(text));
    else
        lks_strbuf_add(&in->out, "%s", text);
}

/* An integer of 64 bits, such as a seed or a time, does not fit into a double. */
static bool is_whole(double number) {
    return number == floor(number) && fabs(number) < 0x1p63;
}

static lks_status visit_attribute(void *data, const char *path, const char *name) {
    inspection *in = data;
    char *text = NULL;
    double numbers[MAX_NUMBERS];
    int64_t whole;
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
    else if (!lks_h5_read_attr_f64(in->file, path, name, numbers, MAX_NUMBERS, &count) &&
             count == 1 && is_whole(numbers[0]) &&
             !lks_h5_read_attr_i64(in->file, path, name, &whole))
        lks_strbuf_add(&in->out, "%" PRId64, whole);
    else if (count > 0)
        print_numbers(in, numbers, count);
    else
        lks_strbuf_add(&in->out, in->json ? "null" : "(neither text nor a few numbers)");
    lks_strbuf_add(&in->out, in->json ? "" : "\n");
    free(text);
    return LKS_OK;
}

/* ---- objects ---- */

static int64_t array_bytes(const lks_h5_info *info) {
    int64_t count, bytes;
    return lks_shape_bytes(&info->shape, info->element_bytes, &count, &bytes) ? 0 : bytes;
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
    char shape[LKS_SHAPE_TEXT_BYTES], size[LKS_BYTES_TEXT_BYTES];
    int indent = 2 * depth_of(path);
    lks_strbuf_add(&in->out, "%*s", indent, "");
    if (is_group)
        lks_strbuf_add(&in->out, "%s/\n", last_part(path));
    else
        lks_strbuf_add(&in->out, "%-*s  %-8s %-20s %s\n", in->width - indent, last_part(path),
                       info->type_name, lks_shape_text(&info->shape, shape),
                       lks_bytes_text((size_t)array_bytes(info), size));
    return lks_h5_visit_attrs(in->file, path, visit_attribute, in);
}

static bool stands_in(const char *path, const char *group) {
    size_t length = strlen(group);
    return strncmp(path, group, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static lks_status measure_object(void *data, const char *path, bool is_group,
                                 const lks_h5_info *info) {
    (void)info;
    inspection *in = data;
    int width = 2 * depth_of(path) + (int)strlen(last_part(path));
    if (!is_group && !stands_in(path, "integrity") && width > in->width) in->width = width;
    return LKS_OK;
}

/* What is asked about first, the model, comes first; hashes say nothing to a reader. */
static lks_status visit_object(void *data, const char *path, bool is_group,
                               const lks_h5_info *info) {
    inspection *in = data;
    path += strspn(path, "/");
    if (stands_in(path, "model") != in->in_model || stands_in(path, "integrity")) return LKS_OK;
    return in->json ? print_json_object(in, path, is_group, info)
                    : print_text_object(in, path, is_group, info);
}

static lks_status print_tree(inspection *in) {
    lks_status status = in->json ? print_json_object(in, "/", true, NULL)
                                 : lks_h5_visit_attrs(in->file, "/", visit_attribute, in);
    if (!status) status = lks_h5_visit(in->file, "/", measure_object, in);
    in->in_model = true;
    if (!status) status = lks_h5_visit(in->file, "/", visit_object, in);
    in->in_model = false;
    return status ? status : lks_h5_visit(in->file, "/", visit_object, in);
}

static lks_status print_file(inspection *in, const char *path, const lks_summary *summary) {
    if (in->json) {
        lks_strbuf_add(&in->out, "{\"file\": ");
        lks_strbuf_add_json(&in->out, path);
        if (summary) {
            lks_strbuf_add(&in->out, ", \"checkpoint\": {");
            lks_summary_print_json(summary, &in->out);
            lks_strbuf_add(&in->out, "}");
        }
        lks_strbuf_add(&in->out, ", \"objects\": [");
    } else {
        lks_strbuf_add(&in->out, "%s\n", path);
        if (summary) lks_summary_print(summary, &in->out);
        lks_strbuf_add(&in->out, "%s", summary ? "\n/\n" : "");
    }
    lks_status status = print_tree(in);
    lks_strbuf_add(&in->out, in->json ? "\n]}\n" : "");
    return status;
}

/* ---- the file ---- */

static lks_status inspect_file(inspection *in, const char *path, const lks_summary *summary) {
    lks_status status = lks_h5_open(path, &in->file);
    if (status) return status;
    status = print_file(in, path, summary);
    lks_h5_close(in->file); /* opened for reading: nothing is lost where closing fails */
    if (!status && in->out.failed) status = lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    if (!status) fputs(in->out.text, stdout);
    lks_strbuf_free(&in->out);
    return status;
}

static lks_status inspect_checkpoint(lks_checkpoint *checkpoint, inspection *in, const char *path) {
    lks_summary summary;
    lks_status status = lks_summary_read(checkpoint, &summary);
    if (!status) status = inspect_file(in, path, &summary);
    lks_summary_free(&summary);
    return status;
}

/* Any HDF5 file may be looked at, but one that says it is a checkpoint must be a whole one. A
 * file that is known for one never comes to HDF5 with a damaged structure, which HDF5 might not
 * survive. */
lks_status lks_command_inspect(const lks_args *args) {
    const char *path = args->operands[0];
    inspection in = {.json = args->json};
    lks_checkpoint *checkpoint;
    bool is_checkpoint;
    lks_status status = lks_checkpoint_recognise(path, &is_checkpoint);
    if (status) return status;
    if (!is_checkpoint) {
        status = inspect_file(&in, path, NULL);
        if (status || !in.claims_checkpoint) return status;
    }
    status = lks_checkpoint_open(path, &checkpoint);
    if (status) return status;
    status = inspect_checkpoint(checkpoint, &in, path);
    lks_checkpoint_close(checkpoint);
    return status;
}
