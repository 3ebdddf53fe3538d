/* Finds the look-alikes' functions by name, for code that opens a library. */
#include <cstring>

#include "cublasLt.h"

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

const Library libraries[] = {
    {"libcublasLt.so", cublaslt_functions, sizeof cublaslt_functions / sizeof *cublaslt_functions},
};

} // namespace

extern "C" void *lks_emu_dlopen(const char *file, int) {
    for (const Library &l : libraries)
        if (strncmp(file, l.prefix, strlen(l.prefix)) == 0) return (void *)&l;
    return nullptr;
}

extern "C" void *lks_emu_dlsym(void *library, const char *name) {
    const Library *l = (const Library *)library;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->functions[i].name, name) == 0) return l->functions[i].address;
    return nullptr;
}

extern "C" int lks_emu_dlclose(void *) {
    return 0;
}

extern "C" char *lks_emu_dlerror(void) {
    static char text[] = "the emulator has no look-alike of this library";
    return text;
}
