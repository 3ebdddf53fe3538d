/* Reading a safetensors file's header. The file may come from anybody: nothing in it is believed
 * before it is checked. */
#include "checkpoint/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format's own limit. */
static const int64_t MAX_HEADER_BYTES = 100000000;

static const struct {
    const char *name;
    size_t bytes;
} types[LKS_TENSOR_TYPE_COUNT] = {
    [LKS_TENSOR_F16] = {"F16", 2}, [LKS_TENSOR_BF16] = {"BF16", 2}, [LKS_TENSOR_F32] = {"F32", 4},
    [LKS_TENSOR_F64] = {"F64", 8}, [LKS_TENSOR_I64] = {"I64", 8},
};

size_t lks_tensor_type_bytes(lks_tensor_type type) {
    return types[type].bytes;
}

/* A file whose header is being read. */
typedef struct reader {
    const char *path;
    lks_safetensors *file;
    int64_t data_begin, data_bytes;
} reader;

/* ---- the header's text ---- */

/* What people take for a safetensors file most often; NULL: something else. */
static const char *guess_format(const char first[8]) {
    if (memcmp(first, "PK\3\4", 4) == 0)
        return "it looks like a file of torch.save; load it in Python, and write its state_dict "
               "with safetensors.torch.save_file";
    if (memcmp(first, "\211HDF\r\n\032\n", 8) == 0) return "it is an HDF5 file";
    return NULL;
}

static lks_status check_length(const reader *r, const char first[8], uint64_t length,
                               int64_t file_bytes) {
    const char *guess = guess_format(first);
    if (guess) return lks_fail(LKS_EDATA, "%s is no safetensors file: %s", r->path, guess);
    if (length > (uint64_t)(file_bytes - 8))
        return lks_fail(LKS_EDATA,
                        "%s is no safetensors file, or was cut off: it has %" PRId64
                        " bytes, and its header would need %" PRIu64,
                        r->path, file_bytes, length);
    if (length > (uint64_t)MAX_HEADER_BYTES)
        return lks_fail(LKS_EDATA,
                        "%s: its header has %" PRIu64 " bytes, the format allows %" PRId64, r->path,
                        length, MAX_HEADER_BYTES);
    return LKS_OK;
}

/* Opens the file and reads the header to *out_text, which the caller frees. */
static lks_status read_header(reader *r, char **out_text, size_t *out_bytes) {
    struct stat info;
    unsigned char first[8];
    lks_status status = lks_file_open(r->path, false, &r->file->descriptor);
    if (status) return status;
    int descriptor = r->file->descriptor;
    if (fstat(descriptor, &info) != 0)
        return lks_fail(LKS_EIO, "cannot see the size of %s: %s", r->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return lks_fail(LKS_EIO, "%s is %s, expected a file", r->path,
                        S_ISDIR(info.st_mode) ? "a folder" : "no plain file");
    int64_t file_bytes = info.st_size;
    if (file_bytes < (int64_t)sizeof first)
        return lks_fail(LKS_EDATA, "%s is no safetensors file: it has only %" PRId64 " bytes",
                        r->path, file_bytes);
    status = lks_file_read_at(descriptor, r->path, first, sizeof first, 0);
    if (status) return status;
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)first[i] << (8 * i);
    status = check_length(r, (const char *)first, length, file_bytes);
    if (status) return status;
    r->data_begin = 8 + (int64_t)length;
    r->data_bytes = file_bytes - r->data_begin;
    *out_bytes = (size_t)length;
    *out_text = malloc((size_t)length + 1);
    if (!*out_text) return lks_fail(LKS_ENOMEM, "%s: out of memory", r->path);
    return lks_file_read_at(descriptor, r->path, *out_text, *out_bytes, sizeof first);
}

/* ---- one tensor ---- */

/* Names go to terminals, in messages and in listings. */
static bool is_printable(const char *name) {
    for (const unsigned char *s = (const unsigned char *)name; *s; s++)
        if (*s < 0x20 || *s == 0x7F) return false;
    return *name != '\0';
}

static lks_status read_type(const reader *r, const json_t *value, lks_tensor *tensor) {
    const char *name = json_string_value(json_object_get(value, "dtype"));
    for (int i = 0; name && i < LKS_TENSOR_TYPE_COUNT; i++)
        if (strcmp(name, types[i].name) == 0) {
            tensor->type = (lks_tensor_type)i;
            return LKS_OK;
        }
    if (!name)
        return lks_fail(LKS_EDATA, "%s: tensor %s: its dtype is missing", r->path, tensor->name);
    return lks_fail(LKS_EDATA,
                    "%s: tensor %s has the dtype %.16s, expected F32, F16, BF16, F64 or I64",
                    r->path, tensor->name, is_printable(name) ? name : "?");
}

/* An array of at most `capacity` integers that are not negative; -1: it is none. */
static int read_integers(const json_t *array, int64_t *out, int capacity) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > (size_t)capacity) return -1;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0) return -1;
        out[i] = json_integer_value(item);
    }
    return (int)count;
}

static lks_status read_shape(const reader *r, const json_t *value, lks_tensor *tensor) {
    tensor->shape.rank =
        read_integers(json_object_get(value, "shape"), tensor->shape.dim, LKS_MAX_DIMS);
    if (tensor->shape.rank < 0)
        return lks_fail(LKS_EDATA,
                        "%s: tensor %s: its shape is no list of at most %d integers >= 0", r->path,
                        tensor->name, LKS_MAX_DIMS);
    if (lks_shape_bytes(&tensor->shape, types[tensor->type].bytes, &tensor->count, &tensor->bytes))
        return lks_fail(LKS_EDATA, "%s: tensor %s: its shape has more elements than can be counted",
                        r->path, tensor->name);
    return LKS_OK;
}

static lks_status read_place(const reader *r, const json_t *value, lks_tensor *tensor) {
    int64_t place[2];
    if (read_integers(json_object_get(value, "data_offsets"), place, 2) != 2)
        return lks_fail(LKS_EDATA, "%s: tensor %s: its data_offsets are not two integers >= 0",
                        r->path, tensor->name);
    if (place[0] > place[1] || place[1] > r->data_bytes)
        return lks_fail(LKS_EDATA,
                        "%s: tensor %s: its data_offsets [%" PRId64 ", %" PRId64
                        "] do not lie in the file's %" PRId64 " bytes of data",
                        r->path, tensor->name, place[0], place[1], r->data_bytes);
    char shape[LKS_SHAPE_TEXT_BYTES];
    if (place[1] - place[0] != tensor->bytes)
        return lks_fail(LKS_EDATA,
                        "%s: tensor %s: %s %s needs %" PRId64
                        " bytes, but its data_offsets span %" PRId64,
                        r->path, tensor->name, types[tensor->type].name,
                        lks_shape_text(&tensor->shape, shape), tensor->bytes, place[1] - place[0]);
    tensor->offset = r->data_begin + place[0];
    return LKS_OK;
}

static lks_status add_tensor(reader *r, const char *name, const json_t *value) {
    lks_safetensors *file = r->file;
    if (!is_printable(name))
        return lks_fail(LKS_EDATA, "%s: a tensor's name is empty or holds control characters",
                        r->path);
    lks_tensor *tensor = &file->tensors[file->tensor_count];
    tensor->name = lks_strdup(name);
    if (!tensor->name) return lks_fail(LKS_ENOMEM, "%s: out of memory", r->path);
    file->tensor_count++;
    lks_status status = read_type(r, value, tensor);
    if (!status) status = read_shape(r, value, tensor);
    return status ? status : read_place(r, value, tensor);
}

/* ---- all of them ---- */

static lks_status add_metadata(reader *r, json_t *value) {
    const char *key;
    json_t *text;
    bool sound = json_is_object(value);
    json_object_foreach(value, key, text) sound = sound && json_is_string(text);
    if (!sound)
        return lks_fail(LKS_EDATA, "%s: __metadata__ is no map from texts to texts", r->path);
    r->file->metadata = json_dumps(value, JSON_COMPACT);
    return r->file->metadata ? LKS_OK : lks_fail(LKS_ENOMEM, "%s: out of memory", r->path);
}

/* Those without bytes before the one that begins where they lie. */
static int compare_places(const void *a, const void *b) {
    const lks_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Every byte of the data belongs to one tensor. */
static lks_status check_places(reader *r) {
    lks_safetensors *file = r->file;
    int64_t at = r->data_begin;
    qsort(file->tensors, (size_t)file->tensor_count, sizeof *file->tensors, compare_places);
    for (int i = 0; i < file->tensor_count; i++) {
        const lks_tensor *tensor = &file->tensors[i];
        if (tensor->offset < at)
            return lks_fail(LKS_EDATA, "%s: the tensors %s and %s overlap", r->path,
                            file->tensors[i - 1].name, tensor->name);
        if (tensor->offset > at)
            return lks_fail(LKS_EDATA, "%s: there is a gap of %" PRId64 " bytes before tensor %s",
                            r->path, tensor->offset - at, tensor->name);
        at += tensor->bytes;
    }
    int64_t left = r->data_begin + r->data_bytes - at;
    if (left == 0) return LKS_OK;
    return lks_fail(LKS_EDATA, "%s: its last %" PRId64 " bytes belong to no tensor", r->path, left);
}

static lks_status read_tensors(reader *r, json_t *header) {
    const char *name;
    json_t *value;
    lks_status status = LKS_OK;
    r->file->tensors = calloc(json_object_size(header) + 1, sizeof *r->file->tensors);
    if (!r->file->tensors) return lks_fail(LKS_ENOMEM, "%s: out of memory", r->path);
    json_object_foreach(header, name, value) {
        if (status) break;
        status =
            strcmp(name, "__metadata__") == 0 ? add_metadata(r, value) : add_tensor(r, name, value);
    }
    return status ? status : check_places(r);
}

static lks_status parse_header(reader *r, const char *text, size_t bytes) {
    json_error_t error;
    if (bytes == 0 || text[0] != '{')
        return lks_fail(LKS_EDATA,
                        "%s is no safetensors file: its header does not begin with a brace",
                        r->path);
    json_t *header = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!header && json_error_code(&error) == json_error_out_of_memory)
        return lks_fail(LKS_ENOMEM, "%s: out of memory", r->path);
    if (!header)
        return lks_fail(LKS_EDATA, "%s: its header is no valid JSON: %s (byte %d)", r->path,
                        error.text, error.position);
    lks_status status = read_tensors(r, header);
    json_decref(header);
    return status;
}

lks_status lks_safetensors_open(const char *path, lks_safetensors *out) {
    *out = (lks_safetensors)LKS_SAFETENSORS_NONE;
    reader r = {.path = path, .file = out};
    char *text = NULL;
    size_t bytes = 0;
    lks_status status = read_header(&r, &text, &bytes);
    if (!status) status = parse_header(&r, text, bytes);
    free(text);
    return status;
}

void lks_safetensors_close(lks_safetensors *file) {
    if (file->descriptor >= 0) close(file->descriptor);
    for (int i = 0; i < file->tensor_count; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    free(file->metadata);
    *file = (lks_safetensors)LKS_SAFETENSORS_NONE;
}
