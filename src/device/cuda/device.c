/* Which GPU, its opening and closing, and the table of what it can do. */
#include <stdlib.h>
#include <string.h>

#include "device/cuda/matmul.h"

lks_status lks_cuda_use(const lks_device *device) {
    const lks_cuda_device *d = (const lks_cuda_device *)device;
    return lks_cuda_check(device, cudaSetDevice(d->ordinal), "cudaSetDevice");
}

/* ---- which GPU ---- */

/* How many GPUs this process sees: what CUDA_VISIBLE_DEVICES, which Slurm sets for a job or for
 * each of its tasks, leaves of the machine's. LKS_EUNSUPPORTED: none. */
static lks_status count_devices(const lks_logger *logger, int *out) {
    int driver = 0;
    *out = 0;
    const cudaError_t error = cudaGetDeviceCount(out);
    if (error == cudaSuccess && *out > 0) return LKS_OK;
    (void)cudaGetLastError();
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return lks_fail(LKS_EUNSUPPORTED, "no CUDA driver is installed on this machine");
    if (error == cudaErrorInsufficientDriver)
        lks_log(logger, LKS_LOG_WARNING,
                "the GPU driver knows CUDA %d.%d, and this build needs %d.%d: no GPU is used",
                driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                CUDART_VERSION % 1000 / 10);
    return lks_fail(LKS_EUNSUPPORTED, "no GPU can be used on this machine: %s",
                    error == cudaSuccess ? "none is visible to this process (CUDA_VISIBLE_DEVICES)"
                                         : cudaGetErrorString(error));
}

/* A launcher that binds each rank to a GPU of its own leaves it one to see; else the ranks of a
 * host take the visible ones in turn. */
static int choose(const lks_device_config *config, int count) {
    return config->local_rank % count;
}

/* ---- opening and closing ---- */

static void describe(lks_cuda_device *device) {
    char memory[LKS_BYTES_TEXT_BYTES];
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    snprintf(device->base.description, sizeof device->base.description,
             "GPU %d: %s, %s, CUDA %d.%d, driver for CUDA %d.%d", device->ordinal, device->name,
             lks_bytes_text(device->total_bytes, memory), CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, driver / 1000, driver % 1000 / 10);
}

static lks_status read_properties(lks_cuda_device *device) {
    struct cudaDeviceProp properties;
    lks_status status =
        lks_cuda_check(&device->base, cudaGetDeviceProperties(&properties, device->ordinal),
                       "cudaGetDeviceProperties");
    if (status != LKS_OK) return status;
    snprintf(device->name, sizeof device->name, "%.*s", (int)sizeof device->name - 1,
             properties.name);
    device->multiprocessors = properties.multiProcessorCount;
    device->total_bytes = properties.totalGlobalMem;
    return lks_cuda_check(
        &device->base,
        cudaDeviceGetPCIBusId(device->base.place, sizeof device->base.place, device->ordinal),
        "cudaDeviceGetPCIBusId");
}

static void destroy(lks_device *base) {
    lks_cuda_device *device = (lks_cuda_device *)base;
    lks_blas_close(device);
    lks_cuda_streams_close(device);
    lks_cuda_memory_close(device);
    free(device);
}

static lks_status create(const lks_device_config *config, lks_device **out) {
    int count;
    lks_status status = count_devices(config->logger, &count);
    if (status != LKS_OK) return status;
    lks_cuda_device *device = calloc(1, sizeof *device);
    if (!device) return lks_fail(LKS_ENOMEM, "cannot allocate the GPU's device");
    device->base.backend = &lks_cuda_backend;
    device->base.logger = config->logger;
    device->base.precision = config->precision;
    device->base.threads = config->threads ? config->threads : 1;
    device->ordinal = choose(config, count);
    status = lks_cuda_use(&device->base);
    if (status == LKS_OK) status = read_properties(device);
    if (status == LKS_OK) status = lks_cuda_memory_open(device);
    if (status == LKS_OK) status = lks_cuda_streams_open(device);
    if (status == LKS_OK) status = lks_blas_open(device);
    if (status != LKS_OK) {
        destroy(&device->base);
        return status;
    }
    describe(device);
    *out = &device->base;
    return LKS_OK;
}

/* ---- what it can do ---- */

static const lks_math_ops math_ops = {
    .loss = lks_cuda_loss,
    .cast = lks_cuda_cast,
    .add = lks_cuda_vector_add,
    .norm = lks_cuda_norm,
    .decide = lks_cuda_decide,
    .sgd = lks_cuda_sgd,
    .adam = lks_cuda_adam,
    .rmsprop = lks_cuda_rmsprop,
    .adagrad = lks_cuda_adagrad,
};

static const lks_op_type *const op_types[LKS_OP_KIND_COUNT] = {
    [LKS_OP_LINEAR] = &lks_cuda_linear,
    [LKS_OP_CONV2D] = &lks_cuda_conv2d,
    [LKS_OP_BATCH_NORM] = &lks_cuda_batch_norm,
    [LKS_OP_LAYER_NORM] = &lks_cuda_layer_norm,
    [LKS_OP_POOL2D] = &lks_cuda_pool2d,
    [LKS_OP_SOFTMAX] = &lks_cuda_softmax,
    [LKS_OP_ELTWISE] = &lks_cuda_eltwise,
    [LKS_OP_DROPOUT] = &lks_cuda_dropout,
    [LKS_OP_RELAYOUT] = &lks_cuda_relayout,
    [LKS_OP_ADD] = &lks_cuda_add,
    [LKS_OP_FORK] = &lks_cuda_fork,
    [LKS_OP_CAST] = &lks_op_cast,
};

const lks_device_backend lks_cuda_backend = {
    .kind = "cuda",
    .create = create,
    .destroy = destroy,
    .is_host = false,
    .memory = &lks_cuda_memory_ops,
    .streams = &lks_cuda_stream_ops,
    .ranges = &lks_cuda_range_ops,
    .math = &math_ops,
    .ops = op_types,
    .fuses = lks_cuda_fuses,
    .adds = true,
    .chain = lks_cuda_chain,
};
