#include "device/cuda/cublaslt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* One function of the library; ISO C knows no conversion from what dlsym returns. */
static bool find(void *library, const char *name, void *function) {
    void *address = dlsym(library, name);
    if (address) memcpy(function, &address, sizeof address);
    return address != NULL;
}

static const char *find_missing(lks_cublaslt *lt) {
    const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"cublasLtCreate", &lt->Create},
        {"cublasLtDestroy", &lt->Destroy},
        {"cublasLtGetStatusString", &lt->GetStatusString},
        {"cublasLtMatmulDescCreate", &lt->MatmulDescCreate},
        {"cublasLtMatmulDescDestroy", &lt->MatmulDescDestroy},
        {"cublasLtMatmulDescSetAttribute", &lt->MatmulDescSetAttribute},
        {"cublasLtMatrixLayoutCreate", &lt->MatrixLayoutCreate},
        {"cublasLtMatrixLayoutDestroy", &lt->MatrixLayoutDestroy},
        {"cublasLtMatmulPreferenceCreate", &lt->MatmulPreferenceCreate},
        {"cublasLtMatmulPreferenceDestroy", &lt->MatmulPreferenceDestroy},
        {"cublasLtMatmulPreferenceSetAttribute", &lt->MatmulPreferenceSetAttribute},
        {"cublasLtMatmulAlgoGetHeuristic", &lt->MatmulAlgoGetHeuristic},
        {"cublasLtMatmul", &lt->Matmul},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!find(lt->library, functions[i].name, functions[i].function)) return functions[i].name;
    return NULL;
}

lks_status lks_cublaslt_open(lks_cublaslt *out) {
    char name[32], path[512], why[256];
    *out = (lks_cublaslt){0};
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    snprintf(path, sizeof path, "%s/%s", LKS_CUDA_LIBRARY_DIR, name);
    out->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!out->library) {
        snprintf(why, sizeof why, "%s", dlerror());
        out->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!out->library)
        return lks_fail(LKS_EDEVICE,
                        "training on a GPU needs cuBLASLt (%s), which cannot be opened, here or in "
                        "%s: %s. Install CUDA %d's libraries on this machine, or name their folder "
                        "in LD_LIBRARY_PATH",
                        name, LKS_CUDA_LIBRARY_DIR, why, CUBLAS_VER_MAJOR);
    const char *missing = find_missing(out);
    if (!missing) return LKS_OK;
    lks_cublaslt_close(out);
    return lks_fail(LKS_EDEVICE, "%s has no function %s", name, missing);
}

void lks_cublaslt_close(lks_cublaslt *lt) {
    if (lt->library) dlclose(lt->library);
    *lt = (lks_cublaslt){0};
}
