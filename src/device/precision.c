#include <string.h>

#include "device/device.h"

const char *const lks_precision_names[] = {"fp32", "tf32", "bf16", NULL};

lks_status lks_precision_by_name(const char *name, lks_precision *out) {
    *out = LKS_PRECISION_FP32;
    if (name == NULL) return LKS_OK;
    for (int i = 0; lks_precision_names[i]; i++) {
        if (strcmp(name, lks_precision_names[i]) != 0) continue;
        *out = (lks_precision)i;
        return LKS_OK;
    }
    return lks_fail(LKS_EINVAL, "precision \"%s\" is unknown: expected fp32, tf32 or bf16", name);
}
