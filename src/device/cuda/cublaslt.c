#include "device/cuda/cublaslt.h"

#include <stdio.h>

lks_status lks_cublaslt_open(lks_cublaslt *out) {
    *out = (lks_cublaslt){0};
    const lks_library_function functions[] = {
        {"cublasLtCreate", &out->Create},
        {"cublasLtDestroy", &out->Destroy},
        {"cublasLtGetStatusString", &out->GetStatusString},
        {"cublasLtMatmulDescCreate", &out->MatmulDescCreate},
        {"cublasLtMatmulDescDestroy", &out->MatmulDescDestroy},
        {"cublasLtMatmulDescSetAttribute", &out->MatmulDescSetAttribute},
        {"cublasLtMatrixLayoutCreate", &out->MatrixLayoutCreate},
        {"cublasLtMatrixLayoutDestroy", &out->MatrixLayoutDestroy},
        {"cublasLtMatmulPreferenceCreate", &out->MatmulPreferenceCreate},
        {"cublasLtMatmulPreferenceDestroy", &out->MatmulPreferenceDestroy},
        {"cublasLtMatmulPreferenceSetAttribute", &out->MatmulPreferenceSetAttribute},
        {"cublasLtMatmulAlgoGetHeuristic", &out->MatmulAlgoGetHeuristic},
        {"cublasLtMatmul", &out->Matmul},
    };
    char file[32];
    snprintf(file, sizeof file, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    if (lks_library_open(file, LKS_CUDA_LIBRARY_DIR, functions,
                         sizeof functions / sizeof *functions, &out->library) == LKS_OK)
        return LKS_OK;
    return lks_fail(LKS_EDEVICE,
                    "training on a GPU needs cuBLASLt: %s. Install CUDA %d's libraries on this "
                    "machine, or name their folder in LD_LIBRARY_PATH",
                    lks_last_error(), CUBLAS_VER_MAJOR);
}

void lks_cublaslt_close(lks_cublaslt *lt) {
    lks_library_close(lt->library);
    *lt = (lks_cublaslt){0};
}
