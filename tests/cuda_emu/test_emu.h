/* What the emulator's own tests share. */
#ifndef LKS_TEST_EMU_H
#define LKS_TEST_EMU_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <cuda_runtime.h>

#define assert_cuda(call) assert_int_equal(call, cudaSuccess)

template <typename... Params, typename... Args>
static cudaError_t launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, Args... args) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, args...);
}

static inline cudaStream_t make_stream(void) {
    cudaStream_t stream;
    assert_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

template <typename T> static T *make_device(size_t count) {
    T *p;
    assert_cuda(cudaMalloc(&p, count * sizeof(T)));
    return p;
}

/* Pinned memory, all zero. */
template <typename T> static T *make_pinned(size_t count) {
    T *p;
    assert_cuda(cudaHostAlloc(&p, count * sizeof(T), cudaHostAllocDefault));
    for (size_t i = 0; i < count; i++)
        p[i] = T();
    return p;
}

template <typename T> static void upload(T *to, const T *from, size_t count) {
    assert_cuda(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice));
}

template <typename T> static void download(T *to, const T *from, size_t count) {
    assert_cuda(cudaDeviceSynchronize());
    assert_cuda(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyDeviceToHost));
}

#endif
