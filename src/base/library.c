#include "base/library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static lks_status open_anywhere(const char *file, const char *folder, void **out) {
    char path[512], why[256];
    *out = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (*out) return LKS_OK;
    snprintf(why, sizeof why, "%s", dlerror());
    if (folder) {
        snprintf(path, sizeof path, "%s/%s", folder, file);
        *out = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (*out) return LKS_OK;
    }
    return lks_fail(LKS_EUNSUPPORTED, "%s cannot be opened%s%s: %s", file,
                    folder ? ", here or in " : "", folder ? folder : "", why);
}

/* ISO C knows no conversion from what dlsym returns. */
static bool find(void *library, const lks_library_function *function) {
    void *address = dlsym(library, function->name);
    if (address) memcpy(function->pointer, &address, sizeof address);
    return address != NULL;
}

lks_status lks_library_open(const char *file, const char *folder,
                            const lks_library_function *functions, int count, void **out) {
    lks_status status = open_anywhere(file, folder, out);
    for (int i = 0; i < count && status == LKS_OK; i++)
        if (!find(*out, &functions[i]))
            status = lks_fail(LKS_EUNSUPPORTED, "%s has no function %s", file, functions[i].name);
    if (status != LKS_OK) {
        lks_library_close(*out);
        *out = NULL;
    }
    return status;
}

void lks_library_close(void *library) {
    if (library) dlclose(library);
}
