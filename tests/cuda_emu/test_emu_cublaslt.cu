/* Products of the look-alike against plain loops, and the calls that cuBLASLt refuses. */
#include "test_emu.h"

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <math.h>

#define assert_blas(call) assert_int_equal(call, CUBLAS_STATUS_SUCCESS)

/* Sizes that differ, so that a mistaken order shows. Matrices are stored by columns. */
enum { M = 8, N = 7, K = 12, AUX_LD = 128 };

struct Problem {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
    cudaStream_t stream;
    bool transpose_a, transpose_b;
};

template <typename T>
static void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a, T v) {
    assert_blas(cublasLtMatmulDescSetAttribute(d, a, &v, sizeof v));
}

static Problem make_problem(bool ta, bool tb, cudaDataType_t in, cudaDataType_t out,
                            cublasComputeType_t compute, int epilogue) {
    Problem p = {};
    const uint32_t alignment = 4;
    p.transpose_a = ta;
    p.transpose_b = tb;
    p.stream = make_stream();
    assert_blas(cublasLtCreate(&p.handle));
    assert_blas(cublasLtMatmulDescCreate(&p.desc, compute, CUDA_R_32F));
    set(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, ta ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(p.desc, CUBLASLT_MATMUL_DESC_TRANSB, tb ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, (cublasLtEpilogue_t)epilogue);
    assert_blas(cublasLtMatrixLayoutCreate(&p.a, in, ta ? K : M, ta ? M : K, ta ? K : M));
    assert_blas(cublasLtMatrixLayoutCreate(&p.b, in, tb ? N : K, tb ? K : N, tb ? N : K));
    assert_blas(cublasLtMatrixLayoutCreate(&p.d, out, M, N, M));
    assert_blas(cublasLtMatmulPreferenceCreate(&p.preference));
    for (int i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
         i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; i++)
        assert_blas(cublasLtMatmulPreferenceSetAttribute(
            p.preference, (cublasLtMatmulPreferenceAttributes_t)i, &alignment, sizeof alignment));
    return p;
}

static void free_problem(Problem *p) {
    assert_blas(cublasLtMatmulPreferenceDestroy(p->preference));
    assert_blas(cublasLtMatrixLayoutDestroy(p->a));
    assert_blas(cublasLtMatrixLayoutDestroy(p->b));
    assert_blas(cublasLtMatrixLayoutDestroy(p->d));
    assert_blas(cublasLtMatmulDescDestroy(p->desc));
    assert_blas(cublasLtDestroy(p->handle));
    assert_cuda(cudaStreamDestroy(p->stream));
}

static cublasStatus_t choose(const Problem &p, cublasLtMatmulHeuristicResult_t *best) {
    int found = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(p.handle, p.desc, p.a, p.b, p.d, p.d,
                                                           p.preference, 1, best, &found);
    if (status == CUBLAS_STATUS_SUCCESS) assert_int_equal(found, 1);
    return status;
}

template <typename T> static T *device_copy(const T *from, size_t count) {
    T *p = make_device<T>(count);
    upload(p, from, count);
    return p;
}

/* Small integers: every sum is exact, in bf16 too. */
static float element(int i, int salt) {
    return (float)((i * 7 + salt) % 5 - 2);
}

struct Operands {
    float a[M * K], b[K * N], c[M * N], bias[M], product[M * N];
};

/* product = op(a) op(b) */
static Operands make_operands(const Problem &p) {
    Operands o;
    for (int i = 0; i < M * K; i++)
        o.a[i] = element(i, 1);
    for (int i = 0; i < K * N; i++)
        o.b[i] = element(i, 3);
    for (int i = 0; i < M * N; i++)
        o.c[i] = element(i, 2);
    for (int i = 0; i < M; i++)
        o.bias[i] = element(i, 0);
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) {
            float sum = 0;
            for (int k = 0; k < K; k++)
                sum += o.a[p.transpose_a ? m * K + k : k * M + m] *
                       o.b[p.transpose_b ? k * N + n : n * K + k];
            o.product[n * M + m] = sum;
        }
    return o;
}

/* d = alpha product + beta c, through the epilogue of the problem. */
static void multiply(const Problem &p, const Operands &o, float alpha, float beta, float *d) {
    cublasLtMatmulHeuristicResult_t best;
    assert_blas(choose(p, &best));
    float *a = device_copy(o.a, M * K), *b = device_copy(o.b, K * N), *c = device_copy(o.c, M * N);
    assert_blas(cublasLtMatmul(p.handle, p.desc, &alpha, a, p.a, b, p.b, &beta, c, p.d, c, p.d,
                               &best.algo, nullptr, 0, p.stream));
    download(d, c, M * N);
    assert_cuda(cudaFree(a));
    assert_cuda(cudaFree(b));
    assert_cuda(cudaFree(c));
}

static void test_products_in_every_order(void **) {
    for (int i = 0; i < 4; i++) {
        Problem p = make_problem(i & 1, i & 2, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F,
                                 CUBLASLT_EPILOGUE_DEFAULT);
        const Operands o = make_operands(p);
        float d[M * N];
        multiply(p, o, 2, 3, d);
        for (int k = 0; k < M * N; k++)
            assert_true(d[k] == 2 * o.product[k] + 3 * o.c[k]);
        free_problem(&p);
    }
}

static float gelu(float x) {
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static void test_epilogues_forward(void **) {
    const int epilogues[] = {CUBLASLT_EPILOGUE_BIAS,          CUBLASLT_EPILOGUE_RELU,
                             CUBLASLT_EPILOGUE_RELU_BIAS,     CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
                             CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_GELU};
    for (int epilogue : epilogues) {
        Problem p = make_problem(true, false, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, epilogue);
        const Operands o = make_operands(p);
        const bool has_bias = epilogue & 4, relu = epilogue & 2, with_aux = epilogue & 128;
        float *bias = device_copy(o.bias, M), *aux = make_device<float>(AUX_LD * N), d[M * N];
        static float seen[AUX_LD * N];
        assert_cuda(cudaMemset(aux, 0, sizeof seen));
        set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
        set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)AUX_LD);
        multiply(p, o, 1, 0, d);
        download(seen, aux, AUX_LD * N);
        for (int n = 0; n < N; n++)
            for (int m = 0; m < M; m++) {
                const float before = o.product[n * M + m] + (has_bias ? o.bias[m] : 0);
                const float want = relu ? fmaxf(before, 0) : epilogue & 32 ? gelu(before) : before;
                assert_true(fabsf(d[n * M + m] - want) <= 1e-6f * fabsf(want));
                if (with_aux && relu) {
                    const unsigned char *bits = (const unsigned char *)seen + n * AUX_LD / 8;
                    assert_int_equal(bits[m / 8] >> m % 8 & 1, before > 0);
                } else if (with_aux) {
                    assert_true(seen[n * AUX_LD + m] == before);
                }
            }
        assert_cuda(cudaFree(bias));
        assert_cuda(cudaFree(aux));
        free_problem(&p);
    }
}

static void test_epilogues_backward(void **) {
    const int epilogues[] = {CUBLASLT_EPILOGUE_DRELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,
                             CUBLASLT_EPILOGUE_BGRADB};
    for (int epilogue : epilogues) {
        Problem p =
            make_problem(false, false, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, epilogue);
        const Operands o = make_operands(p);
        const bool relu = epilogue & 8;
        const int count = epilogue == CUBLASLT_EPILOGUE_BGRADB ? N : M;
        unsigned char mask[AUX_LD / 8 * N];
        for (size_t i = 0; i < sizeof mask; i++)
            mask[i] = (unsigned char)(i * 37);
        float *bias = make_device<float>((size_t)count), d[M * N], got[M], want[M] = {};
        unsigned char *aux = device_copy(mask, sizeof mask);
        set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
        set(p.desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)AUX_LD);
        multiply(p, o, 1, 0, d);
        download(got, bias, (size_t)count);
        for (int n = 0; n < N; n++)
            for (int m = 0; m < M; m++) {
                const bool on = !relu || (mask[n * AUX_LD / 8 + m / 8] >> m % 8 & 1);
                const float v = on ? o.product[n * M + m] : 0;
                assert_true(d[n * M + m] == v);
                if (relu) want[m] += v;
            }
        for (int k = 0; k < K; k++) {
            for (int m = 0; m < M && epilogue == CUBLASLT_EPILOGUE_BGRADA; m++)
                want[m] += o.a[k * M + m];
            for (int n = 0; n < N && epilogue == CUBLASLT_EPILOGUE_BGRADB; n++)
                want[n] += o.b[n * K + k];
        }
        for (int i = 0; i < count; i++)
            assert_true(got[i] == want[i]);
        assert_cuda(cudaFree(bias));
        assert_cuda(cudaFree(aux));
        free_problem(&p);
    }
}

/* tf32 keeps 10 bits of mantissa of what goes in, bf16 rounds what comes out. */
static void test_precisions_of_inputs_and_outputs(void **) {
    Problem p = make_problem(false, false, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32,
                             CUBLASLT_EPILOGUE_DEFAULT);
    Operands o = make_operands(p);
    float d[M * N];
    for (float &v : o.a)
        v = 1 + 0x1p-12f;
    for (float &v : o.b)
        v = 1;
    multiply(p, o, 1, 0, d);
    assert_true(d[0] == K);
    free_problem(&p);

    p = make_problem(false, false, CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F,
                     CUBLASLT_EPILOGUE_DEFAULT);
    __nv_bfloat16 a[M * K], b[K * N], got[M * N];
    for (__nv_bfloat16 &v : a)
        v = 87.0f;
    for (__nv_bfloat16 &v : b)
        v = 1.0f;
    __nv_bfloat16 *da = device_copy(a, M * K), *db = device_copy(b, K * N),
                  *dd = make_device<__nv_bfloat16>(M * N);
    const float one = 1, zero = 0;
    assert_blas(cublasLtMatmul(p.handle, p.desc, &one, da, p.a, db, p.b, &zero, dd, p.d, dd, p.d,
                               nullptr, nullptr, 0, p.stream));
    download(got, dd, M * N);
    assert_true((float)got[0] == 1040); /* 1044, to 8 bits and to even */
    assert_cuda(cudaFree(da));
    assert_cuda(cudaFree(db));
    assert_cuda(cudaFree(dd));
    free_problem(&p);
}

static void test_calls_that_are_refused(void **) {
    Problem p = make_problem(false, false, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F,
                             CUBLASLT_EPILOGUE_BIAS);
    const Operands o = make_operands(p);
    const float one = 1, zero = 0;
    const uint64_t limit = 1 << 20;
    cublasLtMatmulHeuristicResult_t best;
    float *a = device_copy(o.a, M * K), *b = device_copy(o.b, K * N),
          *d = make_device<float>(M * N), *space = make_device<float>(2048);
    /* No bias given. */
    assert_blas(choose(p, &best));
    assert_int_equal(cublasLtMatmul(p.handle, p.desc, &one, a, p.a, b, p.b, &zero, d, p.d, d, p.d,
                                    &best.algo, nullptr, 0, p.stream),
                     CUBLAS_STATUS_INVALID_VALUE);
    set(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, a);
    assert_blas(cublasLtMatmulPreferenceSetAttribute(
        p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit));
    assert_blas(choose(p, &best));
    assert_true(best.workspaceSize > 0 && best.workspaceSize <= limit);
    /* Too little workspace, and one that is not aligned. */
    assert_int_equal(cublasLtMatmul(p.handle, p.desc, &one, a, p.a, b, p.b, &zero, d, p.d, d, p.d,
                                    &best.algo, space, best.workspaceSize - 1, p.stream),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasLtMatmul(p.handle, p.desc, &one, a, p.a, b, p.b, &zero, d, p.d, d, p.d,
                                    &best.algo, space + 32, best.workspaceSize, p.stream),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_blas(cublasLtMatmul(p.handle, p.desc, &one, a, p.a, b, p.b, &zero, d, p.d, d, p.d,
                               &best.algo, space, best.workspaceSize, p.stream));
    /* Sizes that do not agree. */
    assert_int_equal(cublasLtMatmul(p.handle, p.desc, &one, b, p.b, a, p.a, &zero, d, p.d, d, p.d,
                                    &best.algo, space, best.workspaceSize, p.stream),
                     CUBLAS_STATUS_INVALID_VALUE);
    const int64_t short_ld = M - 1;
    assert_blas(cublasLtMatrixLayoutSetAttribute(p.d, CUBLASLT_MATRIX_LAYOUT_LD, &short_ld,
                                                 sizeof short_ld));
    assert_int_equal(choose(p, &best), CUBLAS_STATUS_INVALID_VALUE);
    /* An epilogue that is not there for all sizes. */
    Problem odd = make_problem(false, false, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F,
                               CUBLASLT_EPILOGUE_BGRADB);
    assert_blas(choose(odd, &best));
    assert_blas(cublasLtMatrixLayoutDestroy(odd.a));
    assert_blas(cublasLtMatrixLayoutDestroy(odd.b));
    assert_blas(cublasLtMatrixLayoutCreate(&odd.a, CUDA_R_32F, M, K - 1, M));
    assert_blas(cublasLtMatrixLayoutCreate(&odd.b, CUDA_R_32F, K - 1, N, K - 1));
    assert_int_equal(choose(odd, &best), CUBLAS_STATUS_NOT_SUPPORTED);
    free_problem(&odd);
    /* An attribute of another size. */
    const char wrong = 0;
    assert_int_equal(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &wrong, 1),
                     CUBLAS_STATUS_INVALID_VALUE);
    assert_cuda(cudaDeviceSynchronize());
    assert_cuda(cudaFree(a));
    assert_cuda(cudaFree(b));
    assert_cuda(cudaFree(d));
    assert_cuda(cudaFree(space));
    free_problem(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_in_every_order),
        cmocka_unit_test(test_epilogues_forward),
        cmocka_unit_test(test_epilogues_backward),
        cmocka_unit_test(test_precisions_of_inputs_and_outputs),
        cmocka_unit_test(test_calls_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
