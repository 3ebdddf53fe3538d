/* What every kernel file uses: launching, element types, 16-byte accesses, reductions. Included by
 * the .cu files of src/device/cuda alone.
 *
 * Kernels use one-dimensional blocks of a multiple of 32 threads. Shared memory of a fixed size is
 * `static __shared__ T name[...]`; memory whose size the launch gives is `extern __shared__
 * unsigned char lks_shared[]`, under that one name. No float atomics: every sum has a fixed order,
 * so the same run gives the same bits. The types of a file stand in an unnamed namespace; those
 * that a kernel is made for have names that no other file uses, so that errors name the kernel. */
#ifndef LKS_DEVICE_CUDA_KERNEL_CUH
#define LKS_DEVICE_CUDA_KERNEL_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "device/cuda/cuda.h"

enum { LKS_CUDA_WARP = 32, LKS_CUDA_BLOCK = 256, LKS_CUDA_ALL_LANES = -1 };

/* ---- launching ---- */

template <typename T> struct lks_cuda_same { typedef T type; };

/* Queues `kernel` on `stream`; an empty grid is nothing to do. shared_bytes: dynamic shared memory.
 * Arguments are converted to the kernel's parameter types. `what` names the work in errors. */
template <typename... Params>
lks_status lks_cuda_launch(lks_stream *stream, const char *what, void (*kernel)(Params...),
                           dim3 grid, dim3 block, size_t shared_bytes,
                           typename lks_cuda_same<Params>::type... args) {
    enum { STATIC_LIMIT_BYTES = 48 << 10 }; /* more must be asked for */
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return LKS_OK;
    lks_status status = lks_cuda_use(stream->device);
    if (status != LKS_OK) return status;
    if (shared_bytes > STATIC_LIMIT_BYTES) {
        const cudaError_t error = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (error != cudaSuccess) return lks_cuda_check(stream->device, error, what);
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = lks_cuda_handle(stream);
    return lks_cuda_check(stream->device, cudaLaunchKernelEx(&config, kernel, args...), what);
}

/* How many blocks to launch for `items` when each takes `per_block` of them in turn, a loop over
 * the grid doing the rest: enough to fill the device several times, never more than there is. */
static inline unsigned lks_cuda_blocks(const lks_stream *stream, int64_t items, int64_t per_block) {
    const int64_t wanted = (items + per_block - 1) / per_block;
    const int64_t full = (int64_t)lks_cuda_device_of(stream)->multiprocessors * 16;
    return (unsigned)(wanted < full ? wanted : full);
}

/* Calls work(T()) with the element type that stands for LKS_F32 or LKS_BF16. */
template <typename Work> lks_status lks_cuda_of_type(lks_dtype type, Work &&work) {
    return type == LKS_BF16 ? work(__nv_bfloat16()) : work(float());
}

/* The same with what the device computes in. */
template <typename Work> lks_status lks_cuda_typed(const lks_device *device, Work &&work) {
    return lks_cuda_of_type(lks_device_dtype(device), work);
}

/* The place of this thread in the grid, and how many threads it has: the loop over items is
 * for (i = lks_thread(); i < count; i += lks_threads()). */
static __device__ inline int64_t lks_thread() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ inline int64_t lks_threads() {
    return (int64_t)gridDim.x * blockDim.x;
}

/* ---- element types: arithmetic is float32 ---- */

static __device__ inline float lks_to_float(float x) {
    return x;
}

static __device__ inline float lks_to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

static __device__ inline void lks_set(float *to, float x) {
    *to = x;
}

static __device__ inline void lks_set(__nv_bfloat16 *to, float x) {
    *to = __float2bfloat16_rn(x);
}

/* ---- 16-byte accesses ---- */

/* N elements side by side, as one access: N * sizeof(T) is 2, 4, 8 or 16. */
template <typename T, int N> struct alignas(N * sizeof(T)) lks_elements { T value[N]; };

/* The elements of a 16-byte access. */
template <typename T> struct lks_pack {
    enum { COUNT = 16 / (int)sizeof(T) };
};

/* The largest access that N elements take: one of all, or several of 16 bytes. */
template <typename T, int N> struct lks_access {
    enum { COUNT = N < (int)lks_pack<T>::COUNT ? N : (int)lks_pack<T>::COUNT };
};

/* from, to: aligned to N * sizeof(T), or to 16 bytes where that is more. */
template <typename T, int N> static __device__ inline void lks_load(const T *from, float *out) {
    enum { PART = lks_access<T, N>::COUNT };
    typedef lks_elements<T, PART> part;
    for (int at = 0; at < N; at += PART) {
        const part elements = *reinterpret_cast<const part *>(from + at);
        for (int i = 0; i < PART; i++)
            out[at + i] = lks_to_float(elements.value[i]);
    }
}

template <typename T, int N> static __device__ inline void lks_store(T *to, const float *values) {
    enum { PART = lks_access<T, N>::COUNT };
    typedef lks_elements<T, PART> part;
    for (int at = 0; at < N; at += PART) {
        part elements;
        for (int i = 0; i < PART; i++)
            lks_set(&elements.value[i], values[at + i]);
        *reinterpret_cast<part *>(to + at) = elements;
    }
}

/* May arrays be read and written in packs? Those given must all be 16-byte aligned (NULL is). */
static inline bool lks_cuda_aligned(const void *a, const void *b = nullptr, const void *c = nullptr,
                                    const void *d = nullptr) {
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) & 15) == 0;
}

/* A number with which a generic lambda is called, known when that is compiled. */
template <int N> struct lks_number {
    __host__ __device__ constexpr operator int() const {
        return N;
    }
};

/* Calls work(n) with a compile-time number of elements to an access: those of a pack, or else of
 * half a pack, where rows of `width` have whole ones and their arrays are aligned; else 1. */
template <typename T, typename Work>
lks_status lks_cuda_in_packs(int64_t width, bool aligned, Work &&work) {
    enum { PACK = lks_pack<T>::COUNT, HALF = PACK / 2 };
    if (!aligned || width % HALF != 0) return work(lks_number<1>());
    return width % PACK == 0 ? work(lks_number<PACK>()) : work(lks_number<HALF>());
}

/* ---- reductions: every thread of the warp or block takes part and gets the result ---- */

struct lks_plus {
    template <typename V> __device__ V operator()(V a, V b) const {
        return a + b;
    }
};

/* The larger one; NaN if either is. */
struct lks_larger {
    template <typename V> __device__ V operator()(V a, V b) const {
        return a > b || a != a ? a : b;
    }
};

template <typename V, typename Combine>
static __device__ inline V lks_warp_reduce(V value, Combine combine) {
    for (int distance = LKS_CUDA_WARP / 2; distance > 0; distance /= 2)
        value = combine(value, __shfl_xor_sync((unsigned)LKS_CUDA_ALL_LANES, value, distance));
    return value;
}

/* Over a block of any multiple of 32 threads. Ends with a barrier, so calls may follow each other.
 */
template <typename V, typename Combine>
static __device__ inline V lks_block_reduce(V value, V identity, Combine combine) {
    static __shared__ V partial[LKS_CUDA_WARP];
    const int lane = threadIdx.x % LKS_CUDA_WARP, warp = threadIdx.x / LKS_CUDA_WARP;
    value = lks_warp_reduce(value, combine);
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    value = lane < (int)blockDim.x / LKS_CUDA_WARP ? partial[lane] : identity;
    value = lks_warp_reduce(value, combine);
    __syncthreads();
    return value;
}

template <typename V> static __device__ inline V lks_block_sum(V value) {
    return lks_block_reduce(value, V(0), lks_plus());
}

#endif
