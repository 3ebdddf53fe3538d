/* Importing: a safetensors file becomes a checkpoint that holds weights alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/exchange.h"
#include "checkpoint/format.h"
#include "checkpoint/safetensors.h"

typedef struct importing {
    const char *path; /* of the safetensors file */
    lks_safetensors file;
    lks_checkpoint_array *arrays; /* [file.tensor_count], with their paths */
    lks_piece *pieces;            /* [file.tensor_count], with their data, on rank 0 */
} importing;

/* ---- numbers. Each returns false where a finite number is too large for float32. ---- */

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754's binary16: one bit of sign, 5 of exponent (biased by 15), 10 of fraction. */
static float float_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F, fraction = half & 0x3FF;
    if (exponent == 0) return copysignf((float)fraction * 0x1p-24f, float_from_bits(sign));
    uint32_t wide = exponent == 0x1F ? 0xFF : exponent + 127 - 15;
    return float_from_bits(sign | wide << 23 | fraction << 13);
}

static bool convert_float16(const void *from, int64_t count, float *to) {
    const uint16_t *halves = from;
    for (int64_t i = 0; i < count; i++)
        to[i] = float_from_half(halves[i]);
    return true;
}

static bool convert_bfloat16(const void *from, int64_t count, float *to) {
    const uint16_t *halves = from;
    for (int64_t i = 0; i < count; i++)
        to[i] = lks_bf16_to_float(halves[i]);
    return true;
}

static bool convert_float64(const void *from, int64_t count, float *to) {
    const double *doubles = from;
    bool fits = true;
    for (int64_t i = 0; i < count; i++) {
        to[i] = (float)doubles[i];
        fits = fits && (isfinite(to[i]) || !isfinite(doubles[i]));
    }
    return fits;
}

/* NULL: kept as it is. */
static bool (*const converters[LKS_TENSOR_TYPE_COUNT])(const void *from, int64_t count,
                                                       float *to) = {
    [LKS_TENSOR_F16] = convert_float16,
    [LKS_TENSOR_BF16] = convert_bfloat16,
    [LKS_TENSOR_F64] = convert_float64,
};

/* ---- which arrays ---- */

/* A batch norm's counter, the one array of a model that is not float32. */
static bool is_counter(const char *name) {
    static const char counter[] = "num_batches_tracked";
    const char *dot = strrchr(name, '.');
    return strcmp(dot ? dot + 1 : name, counter) == 0;
}

static lks_status check_tensor(const importing *in, const lks_tensor *tensor) {
    if (strchr(tensor->name, '/') || strcmp(tensor->name, ".") == 0)
        return lks_fail(LKS_EDATA,
                        "%s: tensor %s: a parameter of a checkpoint cannot have this name",
                        in->path, tensor->name);
    bool is_integer = tensor->type == LKS_TENSOR_I64;
    if (is_integer == is_counter(tensor->name)) return LKS_OK;
    return lks_fail(LKS_EDATA, "%s: tensor %s is %s: %s", in->path, tensor->name,
                    is_integer ? "int64" : "not int64",
                    is_integer ? "of a model's arrays only num_batches_tracked is"
                               : "a batch norm counts in int64");
}

/* The arrays, without data. */
static lks_status list_arrays(importing *in, const char *group) {
    size_t count = (size_t)in->file.tensor_count + 1; /* calloc of nothing may give NULL */
    in->arrays = calloc(count, sizeof *in->arrays);
    in->pieces = calloc(count, sizeof *in->pieces);
    if (!in->arrays || !in->pieces) return lks_fail(LKS_ENOMEM, "%s: out of memory", in->path);
    for (int i = 0; i < in->file.tensor_count; i++) {
        const lks_tensor *tensor = &in->file.tensors[i];
        lks_status status = check_tensor(in, tensor);
        if (status) return status;
        in->arrays[i] = (lks_checkpoint_array){
            .path = lks_join_path(group, tensor->name),
            .dtype = tensor->type == LKS_TENSOR_I64 ? LKS_I64 : LKS_F32,
            .shape = tensor->shape,
            .pieces = &in->pieces[i],
        };
        if (!in->arrays[i].path) return lks_fail(LKS_ENOMEM, "%s: out of memory", in->path);
    }
    return LKS_OK;
}

static lks_status open_file(importing *in, const char *group) {
    lks_status status = lks_safetensors_open(in->path, &in->file);
    if (!status && in->file.tensor_count == 0)
        status = lks_fail(LKS_EDATA, "%s holds no tensors", in->path);
    return status ? status : list_arrays(in, group);
}

/* ---- their data. Rank 0 alone ---- */

static lks_status read_converted(const importing *in, const lks_tensor *tensor, float *to) {
    double buffer[8192]; /* aligned for every type */
    size_t bytes = lks_tensor_type_bytes(tensor->type);
    int64_t most = (int64_t)(sizeof buffer / bytes);
    for (int64_t first = 0; first < tensor->count; first += most) {
        int64_t left = tensor->count - first;
        int64_t count = left < most ? left : most;
        lks_status status =
            lks_file_read_at(in->file.descriptor, in->path, buffer, (size_t)count * bytes,
                             tensor->offset + first * (int64_t)bytes);
        if (status) return status;
        if (!converters[tensor->type](buffer, count, to + first))
            return lks_fail(LKS_EDATA,
                            "%s: tensor %s: a number among the elements %lld to %lld is too large "
                            "for float32",
                            in->path, tensor->name, (long long)first,
                            (long long)(first + count - 1));
    }
    return LKS_OK;
}

static lks_status read_tensor(importing *in, int index) {
    const lks_tensor *tensor = &in->file.tensors[index];
    size_t bytes;
    void *data = NULL;
    if (lks_size_mul((size_t)tensor->count, lks_dtype_bytes(in->arrays[index].dtype), &bytes))
        data = malloc(bytes + 1);
    if (!data)
        return lks_fail(LKS_ENOMEM, "%s: tensor %s: out of memory for its %lld elements", in->path,
                        tensor->name, (long long)tensor->count);
    in->pieces[index] = (lks_piece){.count = tensor->count, .data = data};
    in->arrays[index].piece_count = 1;
    if (converters[tensor->type]) return read_converted(in, tensor, data);
    return lks_file_read_at(in->file.descriptor, in->path, data, bytes, tensor->offset);
}

static lks_status read_data(importing *in) {
    lks_status status = LKS_OK;
    for (int i = 0; !status && i < in->file.tensor_count; i++)
        status = read_tensor(in, i);
    return status;
}

/* ---- all of it ---- */

static lks_status write_checkpoint(importing *in, lks_comm *comm, const char *path) {
    lks_checkpoint_attr attrs[] = {
        {.path = "/import", .name = "file", .kind = LKS_ATTR_TEXT, .text = in->path},
        {.path = "/import",
         .name = "metadata",
         .kind = LKS_ATTR_TEXT,
         .text = in->file.metadata ? in->file.metadata : "{}"},
    };
    lks_checkpoint_content content = {.arrays = in->arrays,
                                      .array_count = in->file.tensor_count,
                                      .attrs = attrs,
                                      .attr_count = sizeof attrs / sizeof *attrs};
    return lks_checkpoint_write(comm, path, &content, LKS_TRANSFER_INDEPENDENT);
}

static void summarise(const importing *in, lks_exchange_summary *out) {
    *out = (lks_exchange_summary){.array_count = in->file.tensor_count};
    for (int i = 0; i < in->file.tensor_count; i++) {
        const lks_tensor *tensor = &in->file.tensors[i];
        out->element_count += tensor->count;
        out->bytes += tensor->count * (int64_t)lks_dtype_bytes(in->arrays[i].dtype);
        out->from_float16 += tensor->type == LKS_TENSOR_F16;
        out->from_bfloat16 += tensor->type == LKS_TENSOR_BF16;
        out->from_float64 += tensor->type == LKS_TENSOR_F64;
    }
}

static void free_importing(importing *in) {
    for (int i = 0; i < in->file.tensor_count; i++) {
        if (in->arrays) free((char *)in->arrays[i].path);
        if (in->pieces) free(in->pieces[i].data);
    }
    free(in->arrays);
    free(in->pieces);
    lks_safetensors_close(&in->file);
}

lks_status lks_weights_import(lks_comm *comm, const char *from, const char *group, const char *path,
                              lks_exchange_summary *out) {
    importing in = {.path = from, .file = LKS_SAFETENSORS_NONE};
    lks_status status = open_file(&in, group);
    if (!status && lks_comm_rank(comm) == 0) status = read_data(&in);
    status = lks_comm_agree(comm, status);
    if (!status) status = write_checkpoint(&in, comm, path);
    if (!status) summarise(&in, out);
    free_importing(&in);
    return status;
}
