#include "device/cuda/matmul.h"

#include <stdlib.h>

/* cuBLAS stores matrices by columns: what is [rows, columns] to us is its [columns, rows]. So it is
 * asked for y^T = op(b)^T op(a)^T, with our b as its first factor. */

static lks_status check(const lks_cuda_device *device, cublasStatus_t status, const char *call) {
    if (status == CUBLAS_STATUS_SUCCESS) return LKS_OK;
    return lks_fail(status == CUBLAS_STATUS_ALLOC_FAILED    ? LKS_ENOMEM
                    : status == CUBLAS_STATUS_NOT_SUPPORTED ? LKS_EUNSUPPORTED
                                                            : LKS_EDEVICE,
                    "GPU %d (%s): cuBLASLt: %s: %s", device->ordinal, device->name, call,
                    device->blas->lt.GetStatusString(status));
}

lks_status lks_blas_open(lks_cuda_device *device) {
    device->blas = calloc(1, sizeof *device->blas);
    if (!device->blas) return lks_fail(LKS_ENOMEM, "cannot allocate what describes cuBLASLt");
    lks_status status = lks_cublaslt_open(&device->blas->lt);
    if (status != LKS_OK) return status;
    return check(device, device->blas->lt.Create(&device->blas->handle), "opening it");
}

void lks_blas_close(lks_cuda_device *device) {
    if (!device->blas) return;
    if (device->blas->handle) (void)device->blas->lt.Destroy(device->blas->handle);
    lks_cublaslt_close(&device->blas->lt);
    free(device->blas);
    device->blas = NULL;
}

static cudaDataType_t data_type(lks_dtype dtype) {
    return dtype == LKS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static lks_status set_attribute(const lks_cuda_device *device, cublasLtMatmulDesc_t product,
                                cublasLtMatmulDescAttributes_t attribute, const void *value,
                                size_t bytes) {
    return check(device, device->blas->lt.MatmulDescSetAttribute(product, attribute, value, bytes),
                 "describing a product");
}

/* ---- what is done to the sums before they are stored ---- */

static cublasLtEpilogue_t epilogue_of(const lks_matmul_desc *d) {
    if (d->sums_a) return CUBLASLT_EPILOGUE_BGRADB; /* our a is cuBLAS's second factor */
    if (d->y_slope != LKS_ACTIVATION_NONE)
        return d->y_slope == LKS_ACTIVATION_RELU ? CUBLASLT_EPILOGUE_DRELU
                                                 : CUBLASLT_EPILOGUE_DGELU;
    switch (d->activation) {
    case LKS_ACTIVATION_RELU:
        if (d->writes_aux)
            return d->bias ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS : CUBLASLT_EPILOGUE_RELU_AUX;
        return d->bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case LKS_ACTIVATION_GELU_TANH:
        if (d->writes_aux)
            return d->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
        return d->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
        return d->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
}

/* The activation that the auxiliary matrix belongs to; NONE: there is no such matrix. */
static lks_activation aux_activation(const lks_matmul_desc *d) {
    if (d->y_slope != LKS_ACTIVATION_NONE) return d->y_slope;
    return d->writes_aux ? d->activation : LKS_ACTIVATION_NONE;
}

/* From one row of ours to the next: bits, whose rows begin at multiples of 16 bytes, or numbers. */
static int64_t aux_stride(lks_activation activation, int64_t n) {
    enum { ROW_BITS = 128 };
    return activation == LKS_ACTIVATION_RELU ? (n + ROW_BITS - 1) / ROW_BITS * ROW_BITS : n;
}

size_t lks_matmul_aux_bytes(lks_activation activation, lks_dtype y_type, int64_t m, int64_t n) {
    const size_t count = (size_t)m * (size_t)aux_stride(activation, n);
    return activation == LKS_ACTIVATION_RELU ? count / 8 : count * lks_dtype_bytes(y_type);
}

static lks_status set_epilogue(const lks_cuda_device *device, const lks_matmul_desc *d,
                               cublasLtMatmulDesc_t product) {
    const cublasLtEpilogue_t epilogue = epilogue_of(d);
    /* An algorithm is chosen before it is known where the operands stand: somewhere, and aligned.
     */
    void *const somewhere = (void *)(uintptr_t)256;
    lks_status status =
        set_attribute(device, product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (status == LKS_OK && (d->bias || d->sums_a))
        status = set_attribute(device, product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &somewhere,
                               sizeof somewhere);
    if (status != LKS_OK || aux_activation(d) == LKS_ACTIVATION_NONE) return status;
    const int64_t stride = aux_stride(aux_activation(d), d->n);
    status = set_attribute(device, product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &stride,
                           sizeof stride);
    return status != LKS_OK
               ? status
               : set_attribute(device, product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                               &somewhere, sizeof somewhere);
}

/* ---- planning ---- */

static lks_status make_product(const lks_cuda_device *device, const lks_matmul_desc *d,
                               cublasLtMatmulDesc_t *out) {
    const cublasOperation_t plain = CUBLAS_OP_N, transposed = CUBLAS_OP_T;
    const cublasComputeType_t compute = device->base.precision == LKS_PRECISION_TF32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    lks_status status = check(device, device->blas->lt.MatmulDescCreate(out, compute, CUDA_R_32F),
                              "describing a product");
    if (status == LKS_OK)
        status = set_attribute(device, *out, CUBLASLT_MATMUL_DESC_TRANSA,
                               d->transpose_b ? &transposed : &plain, sizeof plain);
    if (status == LKS_OK)
        status = set_attribute(device, *out, CUBLASLT_MATMUL_DESC_TRANSB,
                               d->transpose_a ? &transposed : &plain, sizeof plain);
    return status == LKS_OK ? set_epilogue(device, d, *out) : status;
}

/* A row-major matrix [rows, columns], to cuBLAS one of so many rows as we have columns. */
static lks_status make_layout(const lks_cuda_device *device, lks_dtype dtype, int64_t rows,
                              int64_t columns, cublasLtMatrixLayout_t *out) {
    return check(device,
                 device->blas->lt.MatrixLayoutCreate(out, data_type(dtype), (uint64_t)columns,
                                                     (uint64_t)rows, columns),
                 "describing a matrix");
}

static lks_status make_layouts(const lks_cuda_device *device, const lks_matmul_desc *d,
                               lks_matmul *plan) {
    const lks_dtype dtype = lks_device_dtype(&device->base);
    lks_status status = make_layout(device, dtype, d->transpose_a ? d->k : d->m,
                                    d->transpose_a ? d->m : d->k, &plan->a);
    if (status == LKS_OK)
        status = make_layout(device, dtype, d->transpose_b ? d->n : d->k,
                             d->transpose_b ? d->k : d->n, &plan->b);
    if (status == LKS_OK) status = make_layout(device, d->y_type, d->m, d->n, &plan->y);
    return status;
}

static lks_status make_preference(const lks_cuda_device *device, const lks_matmul_desc *d,
                                  cublasLtMatmulPreference_t *out) {
    const uint32_t alignment = (uint32_t)d->alignment_bytes;
    const uint64_t scratch = d->max_scratch_bytes;
    /* Parts of a sum are added in a second pass, never in the order in which they happen to end. */
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch, sizeof scratch},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment, sizeof alignment},
    };
    lks_status status =
        check(device, device->blas->lt.MatmulPreferenceCreate(out), "choosing an algorithm");
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes && status == LKS_OK; i++)
        status = check(device,
                       device->blas->lt.MatmulPreferenceSetAttribute(
                           *out, attributes[i].attribute, attributes[i].value, attributes[i].bytes),
                       "choosing an algorithm");
    return status;
}

static lks_status choose_algorithm(const lks_cuda_device *device, const lks_matmul_desc *d,
                                   lks_matmul *plan) {
    const lks_cublaslt *lt = &device->blas->lt;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t best = {0};
    int found = 0;
    lks_status status = make_preference(device, d, &preference);
    if (status == LKS_OK)
        status =
            check(device,
                  lt->MatmulAlgoGetHeuristic(device->blas->handle, plan->product, plan->b, plan->a,
                                             plan->y, plan->y, preference, 1, &best, &found),
                  "choosing an algorithm");
    if (status == LKS_OK && found == 0)
        status = lks_fail(LKS_EUNSUPPORTED,
                          "GPU %d (%s): cuBLASLt has no algorithm for a product of %lld x %lld and "
                          "%lld x %lld",
                          device->ordinal, device->name, (long long)d->m, (long long)d->k,
                          (long long)d->k, (long long)d->n);
    plan->algorithm = best.algo;
    plan->scratch_bytes = best.workspaceSize;
    if (preference) (void)lt->MatmulPreferenceDestroy(preference);
    return status;
}

lks_status lks_matmul_create(lks_cuda_device *device, const lks_matmul_desc *desc,
                             lks_matmul *out) {
    *out = (lks_matmul){0};
    lks_status status = make_product(device, desc, &out->product);
    if (status == LKS_OK) status = make_layouts(device, desc, out);
    if (status == LKS_OK) status = choose_algorithm(device, desc, out);
    if (status != LKS_OK) lks_matmul_destroy(device, out);
    return status;
}

void lks_matmul_destroy(const lks_cuda_device *device, lks_matmul *plan) {
    const lks_cublaslt *lt = &device->blas->lt;
    if (plan->product) (void)lt->MatmulDescDestroy(plan->product);
    if (plan->a) (void)lt->MatrixLayoutDestroy(plan->a);
    if (plan->b) (void)lt->MatrixLayoutDestroy(plan->b);
    if (plan->y) (void)lt->MatrixLayoutDestroy(plan->y);
    *plan = (lks_matmul){0};
}

/* Where the epilogue's operands stand this time. */
static lks_status set_pointers(const lks_cuda_device *device, const lks_matmul *plan,
                               const lks_matmul_operands *o) {
    const void *vector = o->a_sums ? o->a_sums : o->bias;
    const void *matrix = o->aux ? o->aux : o->y_aux;
    lks_status status = LKS_OK;
    if (vector)
        status = set_attribute(device, plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
                               sizeof vector);
    if (status == LKS_OK && matrix)
        status = set_attribute(device, plan->product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                               &matrix, sizeof matrix);
    return status;
}

lks_status lks_matmul_run(const lks_matmul *plan, lks_stream *stream,
                          const lks_matmul_operands *o) {
    const lks_cuda_device *device = lks_cuda_device_of(stream);
    const float one = 1, beta = o->accumulate ? 1 : 0;
    lks_status status = lks_cuda_use(&device->base);
    if (status == LKS_OK) status = set_pointers(device, plan, o);
    if (status != LKS_OK) return status;
    return check(device,
                 device->blas->lt.Matmul(device->blas->handle, plan->product, &one, o->b, plan->b,
                                         o->a, plan->a, &beta, o->y, plan->y, o->y, plan->y,
                                         &plan->algorithm, o->scratch, plan->scratch_bytes,
                                         lks_cuda_handle(stream)),
                 "a matrix product");
}

int lks_matmul_alignment(const lks_matmul_operands *o) {
    const uintptr_t bits = (uintptr_t)o->a | (uintptr_t)o->b | (uintptr_t)o->y | 16;
    return (int)(bits & -bits);
}
