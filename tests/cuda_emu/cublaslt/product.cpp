/* Computes a matrix product on the device memory that is open: float32 sums, inputs rounded as the
 * compute type says. Every element that is read must have been written, and nothing outside the
 * matrices is touched. */
#include "product.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "cuda_bf16.h"
#include "emu.h"

namespace emu {

size_t bytes_of(cudaDataType_t type) {
    return type == CUDA_R_16BF ? 2 : 4;
}

static float load(const void *p, int64_t i, cudaDataType_t type) {
    if (type == CUDA_R_16BF) return (float)((const __nv_bfloat16 *)p)[i];
    return ((const float *)p)[i];
}

static void store(void *p, int64_t i, cudaDataType_t type, float v) {
    if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)p)[i] = __nv_bfloat16(v);
    else
        ((float *)p)[i] = v;
}

/* A matrix of one batch in device memory. */
struct Matrix {
    unsigned char *start;
    const lks_emu_matrix_layout *layout;

    Matrix(const void *p, const lks_emu_matrix_layout &l, int64_t batch)
        : start((unsigned char *)p + (size_t)(batch * l.batch_stride) * bytes_of(l.type)),
          layout(&l) {
    }
    int64_t at(int64_t row, int64_t column) const {
        bool by_column = layout->order == CUBLASLT_ORDER_COL;
        return by_column ? row + column * layout->ld : row * layout->ld + column;
    }
    void check(const char *who, Access access) const {
        bool by_column = layout->order == CUBLASLT_ORDER_COL;
        uint64_t lines = by_column ? layout->columns : layout->rows;
        uint64_t length = by_column ? layout->rows : layout->columns;
        for (uint64_t i = 0; i < lines; i++)
            arena::check(who, start + i * (size_t)layout->ld * bytes_of(layout->type),
                         length * bytes_of(layout->type), access);
    }
};

/* To 10 bits of mantissa, nearest, ties away from zero. */
static float to_tf32(float v) {
    unsigned bits = __float_as_uint(v);
    if ((bits & 0x7f800000u) == 0x7f800000u) return v;
    return __uint_as_float((bits + 0x1000u) & ~0x1fffu);
}

static float rounded(float v, cublasComputeType_t compute) {
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32) return to_tf32(v);
    if (compute == CUBLAS_COMPUTE_32F_FAST_16BF) return (float)__nv_bfloat16(v);
    return v;
}

/* op(matrix) as [rows, columns] of float32, stored by columns. */
static std::vector<float> unpack(const Matrix &m, bool transpose, cublasComputeType_t compute) {
    int64_t rows = (int64_t)(transpose ? m.layout->columns : m.layout->rows);
    int64_t columns = (int64_t)(transpose ? m.layout->rows : m.layout->columns);
    std::vector<float> out((size_t)(rows * columns));
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = transpose ? m.at(c, r) : m.at(r, c);
            out[(size_t)(c * rows + r)] = rounded(load(m.start, i, m.layout->type), compute);
        }
    return out;
}

/* sum[m] of column j of the product */
static void multiply_column(const std::vector<float> &a, const float *b, int64_t m, int64_t k,
                            float *sum) {
    for (int64_t r = 0; r < m; r++)
        sum[r] = 0;
    for (int64_t p = 0; p < k; p++) {
        const float factor = b[p];
        const float *column = &a[(size_t)(p * m)];
        for (int64_t r = 0; r < m; r++)
            sum[r] += column[r] * factor;
    }
}

/* The approximation by tanh, which is cuBLASLt's GELU, and its derivative. */
static float gelu(float x) {
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

static float gelu_slope(float x) {
    float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}

/* The epilogue's auxiliary matrix: bits for ReLU, numbers for GELU; stored by columns. */
struct Aux {
    unsigned char *start = nullptr;
    int64_t ld = 0;
    bool bits = false;
    cudaDataType_t type = CUDA_R_32F;

    void check(const char *who, int64_t m, int64_t n, Access access) const {
        for (int64_t c = 0; c < n; c++)
            if (bits)
                arena::check(who, start + c * ld / 8, (size_t)((m + 7) / 8), access);
            else
                arena::check(who, start + (size_t)(c * ld) * bytes_of(type),
                             (size_t)m * bytes_of(type), access);
    }
    bool bit(int64_t r, int64_t c) const {
        return start[c * ld / 8 + r / 8] >> (r % 8) & 1;
    }
    void set_bit(int64_t r, int64_t c, bool on) const {
        unsigned char &byte = start[c * ld / 8 + r / 8];
        byte = (unsigned char)(on ? byte | 1 << (r % 8) : byte & ~(1 << (r % 8)));
    }
};

static cudaDataType_t type_or(int32_t type, cudaDataType_t otherwise) {
    return type < 0 ? otherwise : (cudaDataType_t)type;
}

static float apply(const Product &p, const Aux &aux, float v, float bias, int64_t r, int64_t c) {
    const int e = p.desc.epilogue;
    if (e & EPILOGUE_BIAS) v += bias;
    if (e & EPILOGUE_RELU) {
        if (e & EPILOGUE_AUX) aux.set_bit(r, c, v > 0);
        return v < 0 ? 0 : v; /* NaN stays */
    }
    if (e & EPILOGUE_GELU) {
        if (e & EPILOGUE_AUX) store(aux.start, c * aux.ld + r, aux.type, v);
        return gelu(v);
    }
    if (e & EPILOGUE_DRELU) return aux.bit(r, c) ? v : 0;
    if (e & EPILOGUE_DGELU) return v * gelu_slope(load(aux.start, c * aux.ld + r, aux.type));
    return v;
}

static void store_bias(const Product &p, unsigned char *bias, cudaDataType_t type,
                       const std::vector<float> &sums) {
    (void)p;
    arena::check("cublasLtMatmul: bias gradient", bias, sums.size() * bytes_of(type),
                 Access::write);
    for (size_t i = 0; i < sums.size(); i++)
        store(bias, (int64_t)i, type, sums[i]);
}

/* Sums of the rows of `matrix`, [rows, columns] by columns. */
static std::vector<float> row_sums(const std::vector<float> &matrix, int64_t rows) {
    std::vector<float> sums((size_t)rows, 0.0f);
    for (size_t i = 0; i < matrix.size(); i++)
        sums[i % (size_t)rows] += matrix[i];
    return sums;
}

static std::vector<float> column_sums(const std::vector<float> &matrix, int64_t rows) {
    std::vector<float> sums(matrix.size() / (size_t)rows, 0.0f);
    for (size_t i = 0; i < matrix.size(); i++)
        sums[i / (size_t)rows] += matrix[i];
    return sums;
}

static void run_batch(const Product &p, int64_t batch) {
    const int e = p.desc.epilogue;
    const int64_t m = p.m(), n = p.n(), k = p.k();
    Matrix a(p.a, p.a_layout, batch), b(p.b, p.b_layout, batch), c(p.c, p.c_layout, batch),
        d(p.d, p.d_layout, batch);
    cudaDataType_t bias_type = type_or(p.desc.bias_type, p.d_layout.type);
    unsigned char *bias = (unsigned char *)p.desc.bias;
    if (bias) bias += (size_t)(batch * p.desc.bias_stride) * bytes_of(bias_type);

    a.check("cublasLtMatmul: A", Access::read);
    b.check("cublasLtMatmul: B", Access::read);
    if (p.beta != 0) c.check("cublasLtMatmul: C", Access::read);
    if (e & EPILOGUE_BIAS)
        arena::check("cublasLtMatmul: bias", bias, (size_t)m * bytes_of(bias_type), Access::read);
    Aux aux;
    if (e & EPILOGUE_AUX) {
        aux.bits = e & (EPILOGUE_RELU | EPILOGUE_DRELU);
        aux.type = type_or(p.desc.aux_type, p.d_layout.type);
        aux.ld = p.desc.aux_ld;
        size_t unit = aux.bits ? 1 : bytes_of(aux.type);
        int64_t stride = aux.bits ? p.desc.aux_stride / 8 : p.desc.aux_stride;
        aux.start = (unsigned char *)p.desc.aux + (size_t)(batch * stride) * unit;
        bool reads = e & (EPILOGUE_DRELU | EPILOGUE_DGELU);
        aux.check("cublasLtMatmul: auxiliary matrix", m, n, reads ? Access::read : Access::write);
    }

    std::vector<float> left = unpack(a, p.desc.transpose_a != CUBLAS_OP_N, p.desc.compute);
    std::vector<float> right = unpack(b, p.desc.transpose_b != CUBLAS_OP_N, p.desc.compute);
    std::vector<float> result((size_t)(m * n));
    for (int64_t j = 0; j < n; j++) {
        float *column = &result[(size_t)(j * m)];
        multiply_column(left, &right[(size_t)(j * k)], m, k, column);
        for (int64_t i = 0; i < m; i++) {
            float v = p.alpha * column[i];
            if (p.beta != 0) v += p.beta * load(c.start, c.at(i, j), c.layout->type);
            float add = e & EPILOGUE_BIAS ? load(bias, i, bias_type) : 0;
            column[i] = apply(p, aux, v, add, i, j);
        }
    }
    d.check("cublasLtMatmul: D", Access::write);
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            store(d.start, d.at(i, j), d.layout->type, result[(size_t)(j * m + i)]);
    if (e & EPILOGUE_BGRAD) store_bias(p, bias, bias_type, row_sums(result, m));
    if (e & EPILOGUE_BGRADA) store_bias(p, bias, bias_type, row_sums(left, m));
    if (e & EPILOGUE_BGRADB) store_bias(p, bias, bias_type, column_sums(right, k));
}

void run_product(const Product &p) {
    if (p.workspace_bytes > 0) { /* whatever the caller believed to be in it is gone */
        arena::check("cublasLtMatmul: workspace", p.workspace, p.workspace_bytes, Access::write);
        memset(p.workspace, 0xff, p.workspace_bytes);
    }
    for (int32_t i = 0; i < p.d_layout.batch; i++)
        run_batch(p, i);
}

} // namespace emu
