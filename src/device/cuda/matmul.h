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

/* y[m, n] = relu(op(a)[m, k] op(b)[k, n] + bias[n]), or y += ...; all row-major. op transposes what
 * is stored as [k, m] or [n, k]. a, b and bias are of the device's type (lks_cuda_dtype), sums are
 * float32. */
typedef struct lks_matmul_desc {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    bool bias, relu;
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

/* LKS_EDEVICE where cuBLASLt knows no way to compute it. */
lks_status lks_matmul_create(lks_cuda_device *device, const lks_matmul_desc *desc, lks_matmul *out);
void lks_matmul_destroy(const lks_cuda_device *device, lks_matmul *plan);

/* Queues the product. bias: NULL unless planned. accumulate: adds to y. scratch: 256-byte aligned,
 * scratch_bytes of it. */
lks_status lks_matmul_run(const lks_matmul *plan, lks_stream *stream, const void *a, const void *b,
                          const void *bias, bool accumulate, void *y, void *scratch);

/* The largest power of two up to 16 that divides all three addresses. */
int lks_matmul_alignment(const void *a, const void *b, const void *y);

#endif
