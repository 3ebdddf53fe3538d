#include "device/cuda/cuda.h"

lks_status lks_cuda_clear_gradients(lks_stream *stream, const lks_op_args *args,
                                    const int64_t *count, int params) {
    lks_status status = LKS_OK;
    for (int i = 0; i < params && status == LKS_OK && !args->accumulate; i++) {
        float *dparam = lks_op_dparam(args, i);
        if (dparam)
            status = lks_cuda_memory_ops.zero(stream->device, stream, dparam,
                                              (size_t)count[i] * sizeof(float));
    }
    return status;
}
