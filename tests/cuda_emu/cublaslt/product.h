/* A matrix product as cublasLtMatmul is asked for it, ready to be computed later. */
#ifndef LKS_CUDA_EMU_PRODUCT_H
#define LKS_CUDA_EMU_PRODUCT_H

#include "cublasLt.h"

struct lks_emu_matrix_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
    cublasLtOrder_t order;
    int32_t batch;
    int64_t batch_stride;
};

struct lks_emu_matmul_desc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasLtPointerMode_t pointer_mode;
    cublasOperation_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    void *bias, *aux;
    int64_t bias_stride, aux_ld, aux_stride;
    int32_t bias_type, aux_type; /* -1: the type of D */
};

namespace emu {

struct Product {
    lks_emu_matmul_desc desc;
    lks_emu_matrix_layout a_layout, b_layout, c_layout, d_layout;
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;

    int64_t m() const {
        return (int64_t)d_layout.rows;
    }
    int64_t n() const {
        return (int64_t)d_layout.columns;
    }
    int64_t k() const {
        bool plain = desc.transpose_a == CUBLAS_OP_N;
        return (int64_t)(plain ? a_layout.columns : a_layout.rows);
    }
};

/* Flags of an epilogue. */
enum {
    EPILOGUE_RELU = 2,
    EPILOGUE_BIAS = 4,
    EPILOGUE_DRELU = 8,
    EPILOGUE_BGRAD = 16,
    EPILOGUE_GELU = 32,
    EPILOGUE_DGELU = 64,
    EPILOGUE_AUX = 128,
    EPILOGUE_BGRADA = 256,
    EPILOGUE_BGRADB = 512
};

size_t bytes_of(cudaDataType_t type);
void run_product(const Product &product);

} // namespace emu

#endif
