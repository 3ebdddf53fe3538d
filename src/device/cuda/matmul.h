/* A matrix product, planned for one shape. Included by src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_MATMUL_H
#define LKS_DEVICE_CUDA_MATMUL_H

#include "device/cuda/cublaslt.h"
#include "device/cuda/cuda.h"

typedef struct lks_blas {
    lks_cublaslt lt;
    cublasLtHandle_t handle;
} lks_blas;

/* Opens cuBLASLt for the device, which keeps it as `blas`. LKS_EDEVICE, LKS_ENOMEM. */
lks_status lks_blas_open(lks_cuda_device *device);
void lks_blas_close(lks_cuda_device *device);

/* y[m, n] = act(op(a)[m, k] op(b)[k, n] + bias[n]), or y += ...; all row-major. op transposes what
 * is stored as [k, m] or [n, k]. a, b and bias are of the device's type (lks_device_dtype), sums
 * are float32.
 *
 * The slope of an activation is applied by another product: one with the same activation writes
 * `aux`, as many bytes as lks_matmul_aux_bytes says for its m and n, and where that is the other
 * one's y_aux, act'(...) is multiplied to its y. For ReLU only cuBLASLt knows how aux is laid out;
 * for GELU it is [m, n], what goes into the activation, of y's type. */
typedef struct lks_matmul_desc {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    bool bias;
    lks_activation activation; /* RELU, GELU_TANH (n a multiple of 8) */
    bool writes_aux;
    lks_activation y_slope; /* y is multiplied by its slope; then neither of those above */
    bool sums_a; /* instead of adding a bias: writes the sums of op(a)'s rows [m], of y's type */
    lks_dtype y_type;
    int alignment_bytes;      /* of a, b and y: a power of two up to 16 */
    size_t max_scratch_bytes; /* that a run of it may be given */
} lks_matmul_desc;

/* A plan; all zero: none. */
typedef struct lks_matmul {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, y;
    cublasLtMatmulAlgo_t algorithm;
    size_t scratch_bytes;
} lks_matmul;

/* LKS_EUNSUPPORTED where cuBLASLt knows no way to compute it. */
lks_status lks_matmul_create(lks_cuda_device *device, const lks_matmul_desc *desc, lks_matmul *out);
void lks_matmul_destroy(const lks_cuda_device *device, lks_matmul *plan);

size_t lks_matmul_aux_bytes(lks_activation activation, lks_dtype y_type, int64_t m, int64_t n);

/* What is not planned is NULL. */
typedef struct lks_matmul_operands {
    const void *a, *b;
    const void *bias;
    const void *y_aux; /* y_slope's */
    void *aux;         /* written */
    void *a_sums;
    bool accumulate; /* adds to y; a_sums are written all the same */
    void *y;
    void *scratch; /* 256-byte aligned, scratch_bytes of it */
} lks_matmul_operands;

/* Queues the product. */
lks_status lks_matmul_run(const lks_matmul *plan, lks_stream *stream,
                          const lks_matmul_operands *operands);

/* The largest power of two up to 16 that divides the addresses of a, b and y. */
int lks_matmul_alignment(const lks_matmul_operands *operands);

#endif
