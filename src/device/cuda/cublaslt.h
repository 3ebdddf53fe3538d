/* Matrix products by cuBLASLt. The library is opened when a device is: it is large, and a program
 * that runs on the CPU needs none. Included by src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_CUBLASLT_H
#define LKS_DEVICE_CUDA_CUBLASLT_H

#include <cublasLt.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

/* What is called of cuBLASLt, each under its own name without the prefix. */
typedef struct lks_cublaslt {
    void *library;
    __typeof__(cublasLtCreate) *Create;
    __typeof__(cublasLtDestroy) *Destroy;
    __typeof__(cublasLtGetStatusString) *GetStatusString;
    __typeof__(cublasLtMatmulDescCreate) *MatmulDescCreate;
    __typeof__(cublasLtMatmulDescDestroy) *MatmulDescDestroy;
    __typeof__(cublasLtMatmulDescSetAttribute) *MatmulDescSetAttribute;
    __typeof__(cublasLtMatrixLayoutCreate) *MatrixLayoutCreate;
    __typeof__(cublasLtMatrixLayoutDestroy) *MatrixLayoutDestroy;
    __typeof__(cublasLtMatmulPreferenceCreate) *MatmulPreferenceCreate;
    __typeof__(cublasLtMatmulPreferenceDestroy) *MatmulPreferenceDestroy;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *MatmulPreferenceSetAttribute;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *MatmulAlgoGetHeuristic;
    __typeof__(cublasLtMatmul) *Matmul;
} lks_cublaslt;

/* Opens the library of the major version that this build was made with: as the dynamic linker finds
 * it, else in the folder of the toolkit that the build used. LKS_EDEVICE where there is none. */
lks_status lks_cublaslt_open(lks_cublaslt *out);
void lks_cublaslt_close(lks_cublaslt *lt);

#endif
