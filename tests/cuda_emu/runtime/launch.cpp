/* Launches of kernels, and what a kernel is allowed. */
#include <map>

#include "cuda_emu.h"
#include "queue.h"

namespace emu {

static constexpr size_t shared_default = 48 * 1024, shared_optin = 163 * 1024;

/* How much dynamic shared memory a kernel has asked to be allowed. */
static std::map<const void *, size_t> &allowances() {
    static auto *all = new std::map<const void *, size_t>;
    return *all;
}

static size_t allowed_shared(const void *kernel) {
    auto it = allowances().find(kernel);
    return it == allowances().end() ? shared_default : it->second;
}

/* Static shared memory of the kernel itself; what the functions that it calls declare is not seen.
 */
static size_t static_shared(const void *kernel) {
    size_t count, bytes = 0;
    const SharedVariable *all = shared_variables(&count);
    for (size_t i = 0; i < count; i++)
        if (all[i].kernel == kernel) bytes += all[i].bytes;
    return bytes;
}

static bool has_shape(const dim3 &d, unsigned x, unsigned y, unsigned z) {
    return d.x > 0 && d.y > 0 && d.z > 0 && d.x <= x && d.y <= y && d.z <= z;
}

static cudaError_t check_config(const cudaLaunchConfig_t &c, const void *kernel) {
    if (!has_shape(c.gridDim, 0x7fffffff, 65535, 65535) || !has_shape(c.blockDim, 1024, 1024, 64) ||
        (uint64_t)c.blockDim.x * c.blockDim.y * c.blockDim.z > 1024)
        return cudaErrorInvalidConfiguration;
    if (c.dynamicSmemBytes > allowed_shared(kernel)) return cudaErrorInvalidValue;
    if (c.dynamicSmemBytes + static_shared(kernel) > shared_optin) return cudaErrorInvalidValue;
    for (unsigned i = 0; i < c.numAttrs; i++) {
        const cudaLaunchAttribute &a = c.attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension &&
            (uint64_t)a.val.clusterDim.x * a.val.clusterDim.y * a.val.clusterDim.z > 1)
            return cudaErrorNotSupported;
        if (a.id == cudaLaunchAttributeCooperative && a.val.cooperative)
            return cudaErrorNotSupported;
    }
    return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t *config, Call *call) {
    std::shared_ptr<Call> owned(call);
    Api api;
    if (api.refused()) return cudaErrorNotPermitted;
    if (!config) return api.result(cudaErrorInvalidValue);
    cudaStream_t stream = config->stream;
    if (!stream || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        fail_default_stream(("launch of " + symbol_name(call->kernel)).c_str());
    if (!api.is_stream(stream)) return api.result(cudaErrorInvalidResourceHandle);
    cudaError_t error = check_config(*config, call->kernel);
    if (error) return api.result(error);
    if (api.runtime.failing_launch > 0 && --api.runtime.failing_launch == 0)
        return api.result(cudaErrorLaunchOutOfResources);
    uint3 grid = config->gridDim, block = config->blockDim;
    size_t shared_bytes = config->dynamicSmemBytes;
    api.runtime.count_launch("kernel", stream->device);
    Runtime *runtime = &api.runtime;
    return api.result(runtime->add(
        stream, Item{[=] {
                         run_grid(Launch{grid, block, shared_bytes, owned.get()}, runtime->random);
                     },
                     nullptr, false}));
}

class Hang : public Work {
  public:
    explicit Hang(const bool *o) : over(o) {
    }
    bool step() override {
        return *over;
    }

  private:
    const bool *over;
};

} // namespace emu

using namespace emu;

extern "C" {

void lks_cuda_emu_fail_launch(int number) {
    Api().runtime.failing_launch = number;
}

void lks_cuda_emu_hang(void *stream, const bool *over) {
    Item item{nullptr, nullptr, false};
    item.start = [=] { return std::make_shared<Hang>(over); };
    Api().runtime.add((cudaStream_t)stream, std::move(item));
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
    Api api;
    if (!kernel) return api.result(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value + static_shared(kernel) > shared_optin)
        return api.result(cudaErrorInvalidValue);
    allowances()[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *kernel) {
    Api api;
    if (!out || !kernel) return api.result(cudaErrorInvalidValue);
    *out = cudaFuncAttributes{};
    out->sharedSizeBytes = static_shared(kernel);
    out->maxThreadsPerBlock = 1024;
    out->numRegs = 32;
    out->ptxVersion = out->binaryVersion = 80;
    out->maxDynamicSharedSizeBytes = (int)allowed_shared(kernel);
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *out, const void *kernel,
                                                          int block_size, size_t dynamic_bytes) {
    Api api;
    if (!out || !kernel || block_size <= 0) return api.result(cudaErrorInvalidValue);
    if (block_size > 1024) return api.result(cudaErrorInvalidConfiguration);
    size_t blocks = 2048 / (size_t)((block_size + 31) / 32 * 32);
    size_t shared = static_shared(kernel) + dynamic_bytes + 1024;
    size_t by_shared = 164 * 1024 / shared;
    blocks = blocks < 32 ? blocks : 32;
    *out = (int)(blocks < by_shared ? blocks : by_shared);
    return cudaSuccess;
}

} // extern "C"
