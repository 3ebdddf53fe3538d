/* The interface of cuBLASLt: descriptions, and the checks that the real one makes of a call. */
#include <cstring>

#include "product.h"
#include "queue.h"

struct cublasLtContext {
    int device;
};

struct lks_emu_matmul_preference {
    uint64_t max_workspace;
    uint32_t alignment[4]; /* of A, B, C, D */
};

using namespace emu;

/* What an algorithm's opaque words hold here. */
namespace {
enum {
    WORD_MAGIC,
    WORD_WORKSPACE,
    WORD_ALIGNMENT_A,
    WORD_ALIGNMENT_B,
    WORD_ALIGNMENT_C,
    WORD_ALIGNMENT_D,
    WORD_SHAPE
};
constexpr uint64_t magic = 0x6c6b73656d750001u;
constexpr size_t wanted_workspace = 4096; /* where the caller allows so much */
} // namespace

static uint64_t shape_of(const Product &p) {
    uint64_t h = (uint64_t)p.m() * 1000003u + (uint64_t)p.n();
    h = h * 1000003u + (uint64_t)p.k();
    return h * 1024u + (uint64_t)p.desc.epilogue;
}

static bool is_supported_type(cudaDataType_t type) {
    return type == CUDA_R_32F || type == CUDA_R_16BF;
}

static bool has_room(const lks_emu_matrix_layout &l) {
    uint64_t length = l.order == CUBLASLT_ORDER_COL ? l.rows : l.columns;
    return l.rows > 0 && l.columns > 0 && l.ld > 0 && (uint64_t)l.ld >= length && l.batch > 0;
}

static bool shapes_agree(const Product &p) {
    bool ta = p.desc.transpose_a != CUBLAS_OP_N, tb = p.desc.transpose_b != CUBLAS_OP_N;
    uint64_t m = ta ? p.a_layout.columns : p.a_layout.rows;
    uint64_t k = ta ? p.a_layout.rows : p.a_layout.columns;
    uint64_t kb = tb ? p.b_layout.columns : p.b_layout.rows;
    uint64_t n = tb ? p.b_layout.rows : p.b_layout.columns;
    bool batches = p.a_layout.batch == p.d_layout.batch && p.b_layout.batch == p.d_layout.batch &&
                   p.c_layout.batch == p.d_layout.batch;
    return k == kb && p.c_layout.rows == m && p.c_layout.columns == n && p.d_layout.rows == m &&
           p.d_layout.columns == n && batches;
}

/* The combinations of types that a product of real numbers has: A and B alike, C and D alike; two
 * bytes in, two or four bytes out, or all of four bytes. */
static bool types_agree(const Product &p) {
    if (p.a_layout.type != p.b_layout.type || p.c_layout.type != p.d_layout.type) return false;
    if (!is_supported_type(p.a_layout.type) || !is_supported_type(p.d_layout.type)) return false;
    if (p.a_layout.type == CUDA_R_32F) return p.d_layout.type == CUDA_R_32F;
    return p.desc.compute == CUBLAS_COMPUTE_32F || p.desc.compute == CUBLAS_COMPUTE_32F_PEDANTIC;
}

static bool epilogue_is_known(const Product &p) {
    switch (p.desc.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_AUX:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_RELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
        return true;
    }
    return false;
}

/* An auxiliary matrix: 128 bits, or 8 numbers, is the unit of its leading dimension. */
static bool aux_fits(const Product &p) {
    int e = p.desc.epilogue;
    if (!(e & EPILOGUE_AUX)) return true;
    int64_t unit = e & (EPILOGUE_RELU | EPILOGUE_DRELU) ? 128 : 8;
    return p.desc.aux_ld >= p.m() && p.desc.aux_ld % unit == 0;
}

static cublasStatus_t check_problem(const Product &p) {
    if (!has_room(p.a_layout) || !has_room(p.b_layout) || !has_room(p.c_layout) ||
        !has_room(p.d_layout) || !shapes_agree(p) || !aux_fits(p))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_agree(p) || !epilogue_is_known(p) || p.desc.scale != CUDA_R_32F ||
        p.desc.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool by_row = p.a_layout.order == CUBLASLT_ORDER_ROW || p.d_layout.order == CUBLASLT_ORDER_ROW;
    if (by_row && p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* What reads or writes more than a vector beside the product, the library has for some shapes, and
 * does not say for which. Here: where columns of A and D are whole packs of four. */
static bool has_algorithm(const Product &p) {
    const int rare = EPILOGUE_AUX | EPILOGUE_BGRAD | EPILOGUE_BGRADA | EPILOGUE_BGRADB;
    return !(p.desc.epilogue & rare) || (p.m() % 4 == 0 && p.k() % 4 == 0);
}

static bool is_aligned(const void *p, uint64_t alignment) {
    return (uintptr_t)p % alignment == 0;
}

static cublasStatus_t check_operands(const Product &p, const cublasLtMatmulAlgo_t &algo) {
    const int e = p.desc.epilogue;
    if (!p.a || !p.b || !p.d || (!p.c && p.beta != 0)) return CUBLAS_STATUS_INVALID_VALUE;
    if ((e & (EPILOGUE_BIAS | EPILOGUE_BGRAD | EPILOGUE_BGRADA | EPILOGUE_BGRADB)) && !p.desc.bias)
        return CUBLAS_STATUS_INVALID_VALUE;
    if ((e & EPILOGUE_AUX) && !p.desc.aux) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.c == p.d && memcmp(&p.c_layout, &p.d_layout, sizeof p.c_layout) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (algo.data[WORD_MAGIC] != magic || algo.data[WORD_SHAPE] != shape_of(p))
        return CUBLAS_STATUS_INVALID_VALUE; /* made for another product */
    if (!is_aligned(p.a, algo.data[WORD_ALIGNMENT_A]) ||
        !is_aligned(p.b, algo.data[WORD_ALIGNMENT_B]) ||
        (p.beta != 0 && !is_aligned(p.c, algo.data[WORD_ALIGNMENT_C])) ||
        !is_aligned(p.d, algo.data[WORD_ALIGNMENT_D]))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (p.workspace_bytes < algo.data[WORD_WORKSPACE]) return CUBLAS_STATUS_INVALID_VALUE;
    if (p.workspace_bytes > 0 && (!p.workspace || !is_aligned(p.workspace, 256)))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

template <typename T> static cublasStatus_t set_value(T *to, const void *value, size_t bytes) {
    if (bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    Api api;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_device(current_device())) return CUBLAS_STATUS_NOT_INITIALIZED;
    *out = new cublasLtContext{current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "an unknown status";
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return cublasLtGetStatusName(status);
}

/* ---- the description of a product ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new lks_emu_matmul_desc{};
    (*out)->compute = compute;
    (*out)->scale = scale;
    (*out)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    (*out)->bias_type = (*out)->aux_type = -1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    if (!desc || !value) return CUBLAS_STATUS_INVALID_VALUE;
    int32_t ignored = 0;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return set_value(&desc->compute, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return set_value(&desc->scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return set_value(&desc->pointer_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set_value(&desc->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set_value(&desc->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSC:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set_value(&desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set_value(&desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
        return set_value(&desc->bias_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return set_value(&desc->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return set_value(&desc->aux_ld, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
        return set_value(&desc->aux_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return set_value(&desc->aux_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set_value(&desc->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
        return set_value(&ignored, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- matrices ---- */

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new lks_emu_matrix_layout{};
    (*out)->type = type;
    (*out)->rows = rows;
    (*out)->columns = columns;
    (*out)->ld = ld;
    (*out)->order = CUBLASLT_ORDER_COL;
    (*out)->batch = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes) {
    if (!layout || !value) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return set_value(&layout->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set_value(&layout->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return set_value(&layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return set_value(&layout->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return set_value(&layout->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set_value(&layout->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set_value(&layout->batch_stride, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- choosing an algorithm ---- */

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new lks_emu_matmul_preference{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    if (!preference || !value) return CUBLAS_STATUS_INVALID_VALUE;
    uint32_t ignored = 0;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set_value(&preference->max_workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set_value(
            &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
            bytes);
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set_value(&ignored, value, bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

/* Does an algorithm exist for operands so little aligned? Elements must be whole. */
static bool alignment_will_do(const Product &p, const uint32_t *alignment) {
    const size_t in = bytes_of(p.a_layout.type), out = bytes_of(p.d_layout.type);
    return alignment[0] >= in && alignment[1] >= in && alignment[2] >= out && alignment[3] >= out;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *found) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !a || !b || !c || !d || !preference || wanted <= 0 || !out || !found)
        return CUBLAS_STATUS_INVALID_VALUE;
    *found = 0;
    Product p = {};
    p.desc = *desc;
    p.a_layout = *a;
    p.b_layout = *b;
    p.c_layout = *c;
    p.d_layout = *d;
    cublasStatus_t status = check_problem(p);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!alignment_will_do(p, preference->alignment) || !has_algorithm(p))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = cublasLtMatmulHeuristicResult_t{};
    uint64_t workspace = preference->max_workspace >= wanted_workspace ? wanted_workspace : 0;
    out->algo.data[WORD_MAGIC] = magic;
    out->algo.data[WORD_WORKSPACE] = workspace;
    for (int i = 0; i < 4; i++)
        out->algo.data[WORD_ALIGNMENT_A + i] = preference->alignment[i];
    out->algo.data[WORD_SHAPE] = shape_of(p);
    out->workspaceSize = workspace;
    out->wavesCount = 1;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---- */

/* Without an algorithm the library chooses one, as the heuristic would. */
static cublasLtMatmulAlgo_t default_algorithm(const Product &p) {
    cublasLtMatmulAlgo_t algo = {};
    algo.data[WORD_MAGIC] = magic;
    algo.data[WORD_SHAPE] = shape_of(p);
    algo.data[WORD_ALIGNMENT_A] = algo.data[WORD_ALIGNMENT_B] = bytes_of(p.a_layout.type);
    algo.data[WORD_ALIGNMENT_C] = algo.data[WORD_ALIGNMENT_D] = bytes_of(p.d_layout.type);
    return algo;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    Api api;
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !alpha || !beta || !a_layout || !b_layout || !c_layout || !d_layout)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!stream || stream == cudaStreamLegacy) fail_default_stream("cublasLtMatmul");
    if (!api.is_stream(stream)) return CUBLAS_STATUS_EXECUTION_FAILED;
    Product p = {*desc,
                 *a_layout,
                 *b_layout,
                 *c_layout,
                 *d_layout,
                 *(const float *)alpha,
                 *(const float *)beta,
                 a,
                 b,
                 c,
                 d,
                 workspace,
                 workspace_bytes};
    cublasStatus_t status = check_problem(p);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_operands(p, algo ? *algo : default_algorithm(p));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    cudaError_t error = api.runtime.add(stream, Item{[p] { run_product(p); }, nullptr, false});
    return error ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
