/* cudaLaunchKernelEx, and what of the runtime's interface is C++. */
#ifndef LKS_CUDA_EMU_LAUNCH_H
#define LKS_CUDA_EMU_LAUNCH_H

#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

namespace emu {

/* A kernel with its arguments, copied at the launch as CUDA does. */
struct Call {
    const void *kernel = nullptr;
    size_t bytes = 0; /* of the object that holds the arguments */
    virtual ~Call() = default;
    virtual void run() const = 0; /* one thread */
};

template <typename... Params> struct KernelCall final : Call {
    void (*function)(Params...);
    std::tuple<std::remove_cv_t<Params>...> args;

    template <typename... Args>
    explicit KernelCall(void (*f)(Params...), Args &&...a)
        : function(f), args(static_cast<Params>(std::forward<Args>(a))...) {
        kernel = reinterpret_cast<const void *>(f);
        bytes = sizeof *this;
    }
    void run() const override {
        std::apply(function, args);
    }
};

/* Takes over `call`. */
cudaError_t launch(const cudaLaunchConfig_t *config, Call *call);

} // namespace emu

template <typename... Params, typename... Args>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Params...),
                                      Args &&...args) {
    static_assert(sizeof...(Params) == sizeof...(Args), "a kernel takes what it declares");
    return emu::launch(config, new emu::KernelCall<Params...>(kernel, std::forward<Args>(args)...));
}

template <typename... Params>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute attribute,
                                        int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <typename... Params>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, void (*kernel)(Params...)) {
    return cudaFuncGetAttributes(out, reinterpret_cast<const void *>(kernel));
}

template <typename... Params>
inline cudaError_t
cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *out, void (*kernel)(Params...), int block_size,
                                              size_t dynamic_bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        out, reinterpret_cast<const void *>(kernel), block_size, dynamic_bytes);
}

template <typename T> inline cudaError_t cudaMalloc(T **out, size_t bytes) {
    return cudaMalloc(reinterpret_cast<void **>(out), bytes);
}
template <typename T>
inline cudaError_t cudaMallocAsync(T **out, size_t bytes, cudaStream_t stream) {
    return cudaMallocAsync(reinterpret_cast<void **>(out), bytes, stream);
}
template <typename T> inline cudaError_t cudaHostAlloc(T **out, size_t bytes, unsigned flags) {
    return cudaHostAlloc(reinterpret_cast<void **>(out), bytes, flags);
}
template <typename T> inline cudaError_t cudaMallocHost(T **out, size_t bytes) {
    return cudaMallocHost(reinterpret_cast<void **>(out), bytes);
}
inline cudaError_t cudaEventCreate(cudaEvent_t *out, unsigned flags) {
    return cudaEventCreateWithFlags(out, flags);
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event) {
    return cudaStreamWaitEvent(stream, event, 0);
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph) {
    return cudaGraphInstantiate(out, graph, 0);
}
inline cudaError_t cudaEventRecord(cudaEvent_t event) {
    return cudaEventRecord(event, nullptr);
}

#endif
