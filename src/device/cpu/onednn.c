#include "device/cpu/onednn.h"

static const char *status_name(dnnl_status_t status) {
    switch (status) {
    case dnnl_success:
        return "success";
    case dnnl_out_of_memory:
        return "out of memory";
    case dnnl_invalid_arguments:
        return "invalid arguments";
    case dnnl_unimplemented:
        return "unimplemented";
    case dnnl_runtime_error:
        return "runtime error";
    case dnnl_not_required:
        return "not required";
    default:
        return "unknown status";
    }
}

lks_status lks_onednn_check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return LKS_OK;
    return lks_fail(status == dnnl_out_of_memory ? LKS_ENOMEM : LKS_EDEVICE,
                    "oneDNN: %s: %s (status %d)", what, status_name(status), (int)status);
}

lks_status lks_onednn_open(lks_onednn *onednn) {
    *onednn = (lks_onednn){0};
    lks_status status =
        lks_onednn_check(dnnl_engine_create(&onednn->engine, dnnl_cpu, 0), "CPU engine");
    if (status == LKS_OK)
        status = lks_onednn_check(
            dnnl_stream_create(&onednn->stream, onednn->engine, dnnl_stream_default_flags),
            "CPU stream");
    if (status != LKS_OK) lks_onednn_close(onednn);
    return status;
}

void lks_onednn_close(lks_onednn *onednn) {
    if (onednn->stream) dnnl_stream_destroy(onednn->stream);
    if (onednn->engine) dnnl_engine_destroy(onednn->engine);
    *onednn = (lks_onednn){0};
}
