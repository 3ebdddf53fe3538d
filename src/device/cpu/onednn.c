#include "device/cpu/onednn.h"

#include <string.h>

/* A memory descriptor to read from. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout_ref;
#else
typedef const dnnl_memory_desc_t *layout_ref;
#endif

static const char *status_name(dnnl_status_t status) {
    switch (status) {
    case dnnl_success:
        return "success";
    case dnnl_out_of_memory:
        return "out of memory";
    case dnnl_invalid_arguments:
        return "invalid arguments";
    case dnnl_unimplemented:
        return "unimplemented";
    case dnnl_runtime_error:
        return "runtime error";
    case dnnl_not_required:
        return "not required";
    default:
        return "unknown status";
    }
}

lks_status lks_onednn_check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return LKS_OK;
    const lks_status ours = status == dnnl_out_of_memory   ? LKS_ENOMEM
                            : status == dnnl_unimplemented ? LKS_EUNSUPPORTED
                                                           : LKS_EDEVICE;
    return lks_fail(ours, "oneDNN: %s: %s (status %d)", what, status_name(status), (int)status);
}

lks_status lks_onednn_open(lks_onednn *onednn) {
    *onednn = (lks_onednn){0};
    lks_status status =
        lks_onednn_check(dnnl_engine_create(&onednn->engine, dnnl_cpu, 0), "CPU engine");
    if (status == LKS_OK)
        status = lks_onednn_check(
            dnnl_stream_create(&onednn->stream, onednn->engine, dnnl_stream_default_flags),
            "CPU stream");
    if (status != LKS_OK) lks_onednn_close(onednn);
    return status;
}

void lks_onednn_close(lks_onednn *onednn) {
    if (onednn->stream) dnnl_stream_destroy(onednn->stream);
    if (onednn->engine) dnnl_engine_destroy(onednn->engine);
    *onednn = (lks_onednn){0};
}

/* ---- operands ---- */

lks_onednn_tensor lks_onednn_rows(lks_dtype type, int rank, const int64_t *size) {
    lks_onednn_tensor tensor = {.type = type, .rank = rank};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        tensor.size[i] = size[i];
        tensor.stride[i] = stride;
        stride *= size[i];
    }
    return tensor;
}

lks_onednn_tensor lks_onednn_transposed(lks_dtype type, int64_t rows, int64_t columns) {
    return (lks_onednn_tensor){
        .type = type, .rank = 2, .size = {rows, columns}, .stride = {1, rows}};
}

static layout_ref operand(const_dnnl_primitive_desc_t desc, int arg) {
    return dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, arg);
}

size_t lks_onednn_operand_bytes(const_dnnl_primitive_desc_t desc, int arg) {
    return dnnl_memory_desc_get_size(operand(desc, arg));
}

/* What the primitives here ask for beyond their operands: to add to what is there. NULL: nothing.
 */
static dnnl_status_t create_attributes(bool add, dnnl_primitive_attr_t *out) {
    dnnl_post_ops_t steps = NULL;
    *out = NULL;
    if (!add) return dnnl_success;
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (status == dnnl_success) status = dnnl_post_ops_create(&steps);
#if DNNL_VERSION_MAJOR >= 3
    if (status == dnnl_success)
        status = dnnl_post_ops_append_sum(steps, 1.0f, 0, dnnl_data_type_undef);
#else
    if (status == dnnl_success) status = dnnl_post_ops_append_sum(steps, 1.0f);
#endif
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*out, steps);
    if (steps) dnnl_post_ops_destroy(steps);
    if (status != dnnl_success && *out) {
        dnnl_primitive_attr_destroy(*out);
        *out = NULL;
    }
    return status;
}

static void destroy_attributes(dnnl_primitive_attr_t attributes) {
    if (attributes) dnnl_primitive_attr_destroy(attributes);
}

/* ---- primitive descriptors ---- */

enum { MAX_TENSORS = 4 };

/* oneDNN's descriptions of up to four tensors; NULL for those that do not exist. */
typedef struct layouts {
    layout_ref at[MAX_TENSORS];
    dnnl_memory_desc_t made[MAX_TENSORS];
} layouts;

static dnnl_status_t describe_one(const lks_onednn_tensor *tensor, dnnl_memory_desc_t *out) {
    const dnnl_data_type_t type = tensor->type == LKS_BF16 ? dnnl_bf16 : dnnl_f32;
#if DNNL_VERSION_MAJOR >= 3
    if (tensor->any)
        return dnnl_memory_desc_create_with_tag(out, tensor->rank, tensor->size, type,
                                                dnnl_format_tag_any);
    return dnnl_memory_desc_create_with_strides(out, tensor->rank, tensor->size, type,
                                                tensor->stride);
#else
    if (tensor->any)
        return dnnl_memory_desc_init_by_tag(out, tensor->rank, tensor->size, type,
                                            dnnl_format_tag_any);
    return dnnl_memory_desc_init_by_strides(out, tensor->rank, tensor->size, type, tensor->stride);
#endif
}

static layout_ref refer(const dnnl_memory_desc_t *made) {
#if DNNL_VERSION_MAJOR >= 3
    return *made;
#else
    return made;
#endif
}

static dnnl_status_t describe(const lks_onednn_tensor *const *tensors, layouts *out) {
    dnnl_status_t status = dnnl_success;
    *out = (layouts){0};
    for (int i = 0; i < MAX_TENSORS && status == dnnl_success; i++) {
        if (tensors[i]->rank == 0) continue;
        status = describe_one(tensors[i], &out->made[i]);
        if (status == dnnl_success) out->at[i] = refer(&out->made[i]);
    }
    return status;
}

static void forget_one(dnnl_memory_desc_t *made) {
#if DNNL_VERSION_MAJOR >= 3
    if (*made) dnnl_memory_desc_destroy(*made);
#else
    (void)made;
#endif
}

static void forget(layouts *described) {
    for (int i = 0; i < MAX_TENSORS; i++)
        forget_one(&described->made[i]);
}

lks_status lks_onednn_matmul_desc(const lks_onednn *onednn, const lks_onednn_matmul *matmul,
                                  dnnl_primitive_desc_t *out) {
    const lks_onednn_tensor *const tensors[] = {&matmul->a, &matmul->b, &matmul->bias, &matmul->y};
    dnnl_primitive_attr_t attributes = NULL;
    layouts l;
    dnnl_status_t status = describe(tensors, &l);
    if (status == dnnl_success) status = create_attributes(matmul->add, &attributes);
#if DNNL_VERSION_MAJOR >= 3
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(out, onednn->engine, l.at[0], l.at[1], l.at[2],
                                                   l.at[3], attributes);
#else
    dnnl_matmul_desc_t op;
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&op, l.at[0], l.at[1], l.at[2], l.at[3]);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &op, attributes, onednn->engine, NULL);
#endif
    destroy_attributes(attributes);
    forget(&l);
    return lks_onednn_check(status, "planning a matrix product");
}

/* Of the three convolutions, told apart by `kind`. */
typedef enum conv_kind { CONV_FORWARD, CONV_DATA, CONV_WEIGHTS } conv_kind;

static dnnl_status_t conv_desc(const lks_onednn *onednn, const lks_onednn_conv *conv,
                               conv_kind kind, const layouts *l, const_dnnl_primitive_desc_t hint,
                               dnnl_primitive_desc_t *out) {
    const dnnl_alg_kind_t algorithm = dnnl_convolution_direct;
    const int64_t *padding = conv->padding;
    const dnnl_dims_t gaps = {conv->dilation[0] - 1, conv->dilation[1] - 1};
#if DNNL_VERSION_MAJOR >= 3
    if (kind == CONV_FORWARD)
        return dnnl_convolution_forward_primitive_desc_create(
            out, onednn->engine, dnnl_forward_training, algorithm, l->at[0], l->at[1], l->at[2],
            l->at[3], conv->stride, gaps, padding, padding, NULL);
    if (kind == CONV_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(
            out, onednn->engine, algorithm, l->at[0], l->at[1], l->at[3], conv->stride, gaps,
            padding, padding, hint, NULL);
    return dnnl_convolution_backward_weights_primitive_desc_create(
        out, onednn->engine, algorithm, l->at[0], l->at[1], NULL, l->at[3], conv->stride, gaps,
        padding, padding, hint, NULL);
#else
    dnnl_convolution_desc_t op;
    dnnl_status_t status;
    if (kind == CONV_FORWARD)
        status = dnnl_dilated_convolution_forward_desc_init(&op, dnnl_forward_training, algorithm,
                                                            l->at[0], l->at[1], l->at[2], l->at[3],
                                                            conv->stride, gaps, padding, padding);
    else if (kind == CONV_DATA)
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &op, algorithm, l->at[0], l->at[1], l->at[3], conv->stride, gaps, padding, padding);
    else
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &op, algorithm, l->at[0], l->at[1], NULL, l->at[3], conv->stride, gaps, padding,
            padding);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(out, &op, NULL, onednn->engine, hint);
#endif
}

static lks_status plan_conv(const lks_onednn *onednn, const lks_onednn_conv *conv, conv_kind kind,
                            const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out) {
    static const char *const what[] = {"planning a convolution",
                                       "planning the gradient of a convolution's input",
                                       "planning the gradient of a convolution's weights"};
    const lks_onednn_tensor *const tensors[] = {&conv->x, &conv->weights, &conv->bias, &conv->y};
    layouts l;
    dnnl_status_t status = describe(tensors, &l);
    if (status == dnnl_success) status = conv_desc(onednn, conv, kind, &l, hint, out);
    forget(&l);
    return lks_onednn_check(status, what[kind]);
}

lks_status lks_onednn_conv_forward_desc(const lks_onednn *onednn, const lks_onednn_conv *conv,
                                        dnnl_primitive_desc_t *out) {
    return plan_conv(onednn, conv, CONV_FORWARD, NULL, out);
}

lks_status lks_onednn_conv_backward_data_desc(const lks_onednn *onednn, const lks_onednn_conv *conv,
                                              const_dnnl_primitive_desc_t hint,
                                              dnnl_primitive_desc_t *out) {
    return plan_conv(onednn, conv, CONV_DATA, hint, out);
}

lks_status lks_onednn_conv_backward_weights_desc(const lks_onednn *onednn,
                                                 const lks_onednn_conv *conv,
                                                 const_dnnl_primitive_desc_t hint,
                                                 dnnl_primitive_desc_t *out) {
    return plan_conv(onednn, conv, CONV_WEIGHTS, hint, out);
}

/* ---- tasks ---- */

static dnnl_status_t add_operand(const lks_onednn *onednn, lks_onednn_task *task, int arg,
                                 layout_ref layout) {
    dnnl_memory_t memory = NULL;
    dnnl_status_t status = dnnl_memory_create(&memory, layout, onednn->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        task->operand[task->count++] = (dnnl_exec_arg_t){.arg = arg, .memory = memory};
    return status;
}

static bool is_reference(const_dnnl_primitive_desc_t desc) {
    const char *name = NULL;
    return dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strncmp(name, "ref", 3) == 0;
}

lks_status lks_onednn_task_create(const lks_onednn *onednn, const_dnnl_primitive_desc_t desc,
                                  const int *args, lks_onednn_task *out) {
    *out = (lks_onednn_task){.reference = is_reference(desc)};
    dnnl_status_t status = dnnl_primitive_create(&out->primitive, desc);
    for (int i = 0; args[i] && status == dnnl_success; i++)
        status = add_operand(onednn, out, args[i], operand(desc, args[i]));
    if (status != dnnl_success) lks_onednn_task_destroy(out);
    return lks_onednn_check(status, "making a primitive");
}

static dnnl_status_t make_reorder(const lks_onednn *onednn, layout_ref from, layout_ref to,
                                  bool add, lks_onednn_task *task) {
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = create_attributes(add, &attributes);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&desc, from, onednn->engine, to, onednn->engine,
                                                    attributes);
    if (status == dnnl_success) status = dnnl_primitive_create(&task->primitive, desc);
    if (status == dnnl_success) status = add_operand(onednn, task, DNNL_ARG_FROM, from);
    if (status == dnnl_success) status = add_operand(onednn, task, DNNL_ARG_TO, to);
    if (desc) dnnl_primitive_desc_destroy(desc);
    destroy_attributes(attributes);
    return status;
}

lks_status lks_onednn_reorder_create(const lks_onednn *onednn, const lks_onednn_tensor *plain,
                                     const_dnnl_primitive_desc_t desc, int arg, lks_onednn_way way,
                                     lks_onednn_task *out) {
    dnnl_memory_desc_t made = {0};
    *out = (lks_onednn_task){0};
    dnnl_status_t status = describe_one(plain, &made);
    if (status == dnnl_success) {
        layout_ref outside = refer(&made), inside = operand(desc, arg);
        if (way == LKS_ONEDNN_FROM_ADD || !dnnl_memory_desc_equal(outside, inside))
            status = make_reorder(onednn, way == LKS_ONEDNN_TO ? outside : inside,
                                  way == LKS_ONEDNN_TO ? inside : outside,
                                  way == LKS_ONEDNN_FROM_ADD, out);
        forget_one(&made);
    }
    if (status != dnnl_success) lks_onednn_task_destroy(out);
    return lks_onednn_check(status, "planning a change of layout");
}

void lks_onednn_task_destroy(lks_onednn_task *task) {
    for (int i = 0; i < task->count; i++)
        dnnl_memory_destroy(task->operand[i].memory);
    if (task->primitive) dnnl_primitive_destroy(task->primitive);
    *task = (lks_onednn_task){0};
}

lks_status lks_onednn_run(const lks_onednn *onednn, const lks_onednn_task *task,
                          const void *const *pointers, const char *what) {
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < task->count && status == dnnl_success; i++) /* const: oneDNN takes void * */
        status = dnnl_memory_set_data_handle(task->operand[i].memory, (void *)pointers[i]);
    if (status == dnnl_success)
        status =
            dnnl_primitive_execute(task->primitive, onednn->stream, task->count, task->operand);
    return lks_onednn_check(status, what);
}
