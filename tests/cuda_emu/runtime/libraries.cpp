/* Finds the look-alikes' functions by name, for code that opens a library: the linker puts these in
 * the places of dlopen and its like (CMakeLists.txt). */
#include <cstring>

#include "cublasLt.h"
#include "nccl.h"

namespace {

struct Function {
    const char *name;
    void *address;
};

struct Library {
    const char *prefix; /* of its file name */
    const Function *functions;
    size_t count;
};

#define FUNCTION(name) \
    { #name, (void *)name }
const Function cublaslt_functions[] = {
    FUNCTION(cublasLtCreate),
    FUNCTION(cublasLtDestroy),
    FUNCTION(cublasLtGetVersion),
    FUNCTION(cublasLtGetStatusName),
    FUNCTION(cublasLtGetStatusString),
    FUNCTION(cublasLtMatmulDescCreate),
    FUNCTION(cublasLtMatmulDescDestroy),
    FUNCTION(cublasLtMatmulDescSetAttribute),
    FUNCTION(cublasLtMatrixLayoutCreate),
    FUNCTION(cublasLtMatrixLayoutDestroy),
    FUNCTION(cublasLtMatrixLayoutSetAttribute),
    FUNCTION(cublasLtMatmulPreferenceCreate),
    FUNCTION(cublasLtMatmulPreferenceDestroy),
    FUNCTION(cublasLtMatmulPreferenceSetAttribute),
    FUNCTION(cublasLtMatmulAlgoGetHeuristic),
    FUNCTION(cublasLtMatmul),
};

const Function nccl_functions[] = {
    FUNCTION(ncclGetVersion),   FUNCTION(ncclGetErrorString),     FUNCTION(ncclGetLastError),
    FUNCTION(ncclGetUniqueId),  FUNCTION(ncclCommInitRankConfig), FUNCTION(ncclCommGetAsyncError),
    FUNCTION(ncclCommFinalize), FUNCTION(ncclCommDestroy),        FUNCTION(ncclCommAbort),
    FUNCTION(ncclAllReduce),    FUNCTION(ncclReduceScatter),      FUNCTION(ncclAllGather),
    FUNCTION(ncclBroadcast),
};

const Library libraries[] = {
    {"libcublasLt.so", cublaslt_functions, sizeof cublaslt_functions / sizeof *cublaslt_functions},
    {"libnccl.so", nccl_functions, sizeof nccl_functions / sizeof *nccl_functions},
};

} // namespace

static bool is_ours(const void *library) {
    for (const Library &l : libraries)
        if (library == &l) return true;
    return false;
}

extern "C" {

void *__real_dlsym(void *library, const char *name);
int __real_dlclose(void *library);
void *__real_dlopen(const char *file, int flags);

void *__wrap_dlopen(const char *file, int flags) {
    for (const Library &l : libraries)
        if (file && strncmp(file, l.prefix, strlen(l.prefix)) == 0) return (void *)&l;
    return __real_dlopen(file, flags);
}

void *__wrap_dlsym(void *library, const char *name) {
    if (!is_ours(library)) return __real_dlsym(library, name);
    const Library *l = (const Library *)library;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->functions[i].name, name) == 0) return l->functions[i].address;
    return nullptr;
}

int __wrap_dlclose(void *library) {
    return is_ours(library) ? 0 : __real_dlclose(library);
}

} // extern "C"
