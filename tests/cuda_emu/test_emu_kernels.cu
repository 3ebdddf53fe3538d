/* Kernels do on the emulator what CUDA says they do. */
#include "test_emu.h"

#include <cuda_bf16.h>
#include <mma.h>

#include <type_traits>

static __global__ void number_threads(unsigned *out) {
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
    out[i] = i * 3;
}

static void test_every_thread_of_every_block_runs_once(void **) {
    const dim3 grid(3, 2, 2), block(5, 3, 2);
    const unsigned count = 12 * 30;
    unsigned *device = make_device<unsigned>(count), host[count];
    cudaStream_t stream = make_stream();
    assert_cuda(launch(number_threads, grid, block, 0, stream, device));
    download(host, device, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(host[i], i * 3);
    assert_cuda(cudaFree(device));
    assert_cuda(cudaStreamDestroy(stream));
}

/* Each block reverses its part, through shared memory. */
template <typename T> static __global__ void reverse(T *x) {
    static __shared__ T part[256];
    const size_t first = (size_t)blockIdx.x * blockDim.x;
    part[threadIdx.x] = x[first + threadIdx.x];
    __syncthreads();
    x[first + threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}

template <typename T> static __global__ void reverse_dynamic(T *x) {
    extern __shared__ __align__(16) unsigned char lks_shared[];
    T *part = (T *)lks_shared;
    part[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}

static void test_barriers_and_shared_memory(void **) {
    const unsigned blocks = 7, threads = 256;
    double host[blocks * threads];
    double *device = make_device<double>(blocks * threads);
    cudaStream_t stream = make_stream();
    for (unsigned i = 0; i < blocks * threads; i++)
        host[i] = i;
    upload(device, host, blocks * threads);
    assert_cuda(launch(reverse<double>, blocks, threads, 0, stream, device));
    download(host, device, blocks * threads);
    for (unsigned i = 0; i < blocks * threads; i++)
        assert_true(host[i] == i / threads * threads + (threads - 1 - i % threads));
    assert_cuda(launch(reverse_dynamic<double>, 1, 100, 100 * sizeof(double), stream, device));
    download(host, device, 100);
    for (unsigned i = 0; i < 100; i++)
        assert_true(host[i] == 255 - (99 - i));
    assert_cuda(cudaFree(device));
    assert_cuda(cudaStreamDestroy(stream));
}

static __device__ float sum_of_warp(float v) {
    for (int by = 16; by > 0; by /= 2)
        v += __shfl_down_sync(0xffffffffu, v, by);
    return v;
}

static __global__ void sum_of_block(const float *x, float *sum) {
    static __shared__ float parts[32];
    float v = sum_of_warp(x[threadIdx.x]);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    v = sum_of_warp(threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0);
    if (threadIdx.x == 0) *sum = v;
}

static void test_reduction_by_shuffles(void **) {
    float host[1024], sum;
    float *device = make_device<float>(1024), *result = make_device<float>(1);
    cudaStream_t stream = make_stream();
    for (int i = 0; i < 1024; i++)
        host[i] = (float)i;
    upload(device, host, 1024);
    for (unsigned threads = 32; threads <= 1024; threads += 32) {
        assert_cuda(launch(sum_of_block, 1, threads, 0, stream, device, result));
        download(&sum, result, 1);
        assert_true(sum == (float)(threads * (threads - 1) / 2)); /* exact in float32 */
    }
    assert_cuda(cudaFree(device));
    assert_cuda(cudaFree(result));
    assert_cuda(cudaStreamDestroy(stream));
}

enum { WARP_RESULTS = 10 };

static __global__ void warp_operations(int *out) {
    const unsigned all = 0xffffffffu;
    const int lane = (int)threadIdx.x;
    int *mine = out + lane * WARP_RESULTS;
    mine[0] = __shfl_sync(all, lane * 10, 5);
    mine[1] = __shfl_sync(all, lane, 1, 8);
    mine[2] = __shfl_up_sync(all, lane, 3);
    mine[3] = __shfl_down_sync(all, lane, 3, 16);
    mine[4] = __shfl_xor_sync(all, lane, 9);
    mine[5] = (int)__ballot_sync(all, lane % 3 == 0);
    mine[6] = __any_sync(all, lane == 31) * 10 + __all_sync(all, lane < 32);
    mine[7] = __reduce_max_sync(all, 7 - lane);
    if (lane < 16)
        mine[8] = __shfl_sync(0x0000ffffu, lane, 15);
    else
        mine[8] = __shfl_sync(0xffff0000u, lane, 16);
    mine[9] = __reduce_add_sync(all, lane - 16);
}

static void test_operations_of_a_warp(void **) {
    int host[32 * WARP_RESULTS];
    int *device = make_device<int>(32 * WARP_RESULTS);
    cudaStream_t stream = make_stream();
    assert_cuda(launch(warp_operations, 1, 32, 0, stream, device));
    download(host, device, 32 * WARP_RESULTS);
    unsigned thirds = 0;
    for (int lane = 0; lane < 32; lane += 3)
        thirds |= 1u << lane;
    for (int lane = 0; lane < 32; lane++) {
        const int *mine = host + lane * WARP_RESULTS;
        assert_int_equal(mine[0], 50);
        assert_int_equal(mine[1], lane / 8 * 8 + 1);
        assert_int_equal(mine[2], lane < 3 ? lane : lane - 3);
        assert_int_equal(mine[3], lane % 16 + 3 > 15 ? lane : lane + 3);
        assert_int_equal(mine[4], lane ^ 9);
        assert_int_equal((unsigned)mine[5], thirds);
        assert_int_equal(mine[6], 11);
        assert_int_equal(mine[7], 7);
        assert_int_equal(mine[8], lane < 16 ? 15 : 16);
        assert_int_equal(mine[9], 31 * 16 - 32 * 16);
    }
    assert_cuda(cudaFree(device));
    assert_cuda(cudaStreamDestroy(stream));
}

/* Each warp sums in shared memory with the warp's own barrier between the steps. */
static __global__ void sum_by_warp_barrier(const int *x, int *sums) {
    static __shared__ int s[64];
    const unsigned t = threadIdx.x, lane = t % 32;
    s[t] = x[t];
    __syncwarp();
    for (unsigned by = 16; by > 0; by /= 2) {
        int other = lane < by ? s[t + by] : 0;
        __syncwarp();
        s[t] += other;
        __syncwarp();
    }
    if (lane == 0) sums[t / 32] = s[t];
}

static void test_barrier_of_a_warp(void **) {
    int host[64], sums[2];
    int *device = make_device<int>(64), *result = make_device<int>(2);
    cudaStream_t stream = make_stream();
    for (int i = 0; i < 64; i++)
        host[i] = i;
    upload(device, host, 64);
    assert_cuda(launch(sum_by_warp_barrier, 1, 64, 0, stream, device, result));
    download(sums, result, 2);
    assert_int_equal(sums[0], 31 * 16);
    assert_int_equal(sums[1], 31 * 16 + 32 * 32);
    assert_cuda(cudaFree(device));
    assert_cuda(cudaFree(result));
    assert_cuda(cudaStreamDestroy(stream));
}

/* The last block to finish adds up what the others left. */
static __global__ void count_blocks(unsigned *counter, unsigned *parts, unsigned *sum) {
    static __shared__ bool last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = blockIdx.x;
        __threadfence();
        last = atomicAdd(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    *sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++)
        *sum += parts[i];
}

static void test_integer_atomics(void **) {
    unsigned *counter = make_device<unsigned>(1), *parts = make_device<unsigned>(100),
             *sum = make_device<unsigned>(1), host;
    cudaStream_t stream = make_stream();
    assert_cuda(cudaMemsetAsync(counter, 0, sizeof *counter, stream));
    assert_cuda(launch(count_blocks, 100, 64, 0, stream, counter, parts, sum));
    download(&host, sum, 1);
    assert_int_equal(host, 99 * 50);
    assert_cuda(cudaFree(counter));
    assert_cuda(cudaFree(parts));
    assert_cuda(cudaFree(sum));
    assert_cuda(cudaStreamDestroy(stream));
}

static void test_bfloat16_rounds_to_nearest_even(void **) {
    /* 1 + 2^-8 lies between 1 and 1 + 2^-7: to the even one. */
    assert_true((float)__float2bfloat16_rn(1.0f + 0x1p-8f) == 1.0f);
    assert_true((float)__float2bfloat16_rn(1.0f + 0x1p-7f + 0x1p-8f) == 1.0f + 0x1p-6f);
    assert_true((float)__float2bfloat16_rn(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);
    assert_true((float)__float2bfloat16_rn(-1.0f - 0x1p-8f) == -1.0f);
    assert_true(isinf((float)__float2bfloat16_rn(3.4e38f)));
    assert_true(isnan((float)__float2bfloat16_rn(NAN)));
    assert_true((float)__double2bfloat16(1.0 + 0x1p-8 + 0x1p-40) == 1.0f + 0x1p-7f);
    assert_true((float)__double2bfloat16(1.0 + 0x1p-8 - 0x1p-40) == 1.0f);
    assert_int_equal(sizeof(__nv_bfloat162), 4);
}

/* Vectors of 16 bytes, and a struct by value. */
struct Numbers {
    float scale;
    float shift[3];
};

static __global__ void scale_vectors(float4 *x, Numbers n) {
    float4 v = x[threadIdx.x];
    v.x = v.x * n.scale + n.shift[0];
    v.y = v.y * n.scale + n.shift[1];
    v.z = v.z * n.scale + n.shift[2];
    x[threadIdx.x] = v;
}

static void test_vectors_and_struct_arguments(void **) {
    float4 host[4];
    float4 *device = make_device<float4>(4);
    cudaStream_t stream = make_stream();
    Numbers n = {2, {10, 20, 30}};
    for (int i = 0; i < 4; i++)
        host[i] = make_float4((float)i, 1, 2, 3);
    upload(device, host, 4);
    assert_cuda(launch(scale_vectors, 1, 4, 0, stream, device, n));
    n.scale = 1000; /* copied at the launch */
    download(host, device, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(host[i].x == 2.0f * (float)i + 10);
        assert_true(host[i].y == 22 && host[i].z == 34 && host[i].w == 3);
    }
    assert_cuda(cudaFree(device));
    assert_cuda(cudaStreamDestroy(stream));
}

/* c += a b for one piece, with a and b in either order of memory. */
template <typename T, typename In, int K, typename OrderA, typename OrderB>
static __global__ void multiply_piece(const T *a, const T *b, float *c, bool by_row) {
    using namespace nvcuda::wmma;
    const layout_t layout = by_row ? mem_row_major : mem_col_major;
    fragment<matrix_a, 16, 16, K, In, OrderA> x;
    fragment<matrix_b, 16, 16, K, In, OrderB> y;
    fragment<accumulator, 16, 16, K, float> sum;
    load_matrix_sync(x, a, std::is_same<OrderA, row_major>::value ? K : 16);
    load_matrix_sync(y, b, std::is_same<OrderB, row_major>::value ? 16 : K);
    load_matrix_sync(sum, c, 16, layout);
    mma_sync(sum, x, y, sum);
    store_matrix_sync(c, sum, 16, layout);
}

template <typename T, typename In, int K, typename OrderA, typename OrderB>
static void check_piece(bool by_row) {
    const bool a_by_row = std::is_same<OrderA, nvcuda::wmma::row_major>::value;
    const bool b_by_row = std::is_same<OrderB, nvcuda::wmma::row_major>::value;
    T a[16 * K], b[K * 16];
    float c[256], want[16][16];
    for (int i = 0; i < 16 * K; i++) { /* small integers: every sum is exact */
        a[i] = T((float)(i * 7 % 13 - 6));
        b[i] = T((float)(i * 5 % 11 - 5));
    }
    for (int i = 0; i < 256; i++)
        c[i] = (float)(i % 17);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 16; column++) {
            want[row][column] = c[by_row ? row * 16 + column : column * 16 + row];
            for (int k = 0; k < K; k++)
                want[row][column] += (float)a[a_by_row ? row * K + k : k * 16 + row] *
                                     (float)b[b_by_row ? k * 16 + column : column * K + k];
        }
    T *da = make_device<T>(16 * K), *db = make_device<T>(16 * K);
    float *dc = make_device<float>(256);
    cudaStream_t stream = make_stream();
    upload(da, a, 16 * K);
    upload(db, b, 16 * K);
    upload(dc, c, 256);
    assert_cuda(
        launch(multiply_piece<T, In, K, OrderA, OrderB>, 1, 32, 0, stream, da, db, dc, by_row));
    download(c, dc, 256);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 16; column++)
            assert_true(c[by_row ? row * 16 + column : column * 16 + row] == want[row][column]);
    assert_cuda(cudaFree(da));
    assert_cuda(cudaFree(db));
    assert_cuda(cudaFree(dc));
    assert_cuda(cudaStreamDestroy(stream));
}

template <typename T, typename In, int K> static void check_orders(void) {
    using namespace nvcuda::wmma;
    for (int by_row = 0; by_row < 2; by_row++) {
        check_piece<T, In, K, row_major, row_major>(by_row);
        check_piece<T, In, K, row_major, col_major>(by_row);
        check_piece<T, In, K, col_major, row_major>(by_row);
        check_piece<T, In, K, col_major, col_major>(by_row);
    }
}

static void test_matrix_fragments(void **) {
    check_orders<__nv_bfloat16, __nv_bfloat16, 16>();
    check_orders<float, nvcuda::wmma::precision::tf32, 8>();
}

static void test_launches_that_cuda_refuses(void **) {
    int *device = make_device<int>(32 * WARP_RESULTS);
    cudaStream_t stream = make_stream();
    assert_int_equal(launch(warp_operations, 1, 1025, 0, stream, device),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(launch(warp_operations, 0, 32, 0, stream, device),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(launch(warp_operations, dim3(1, 65536), 32, 0, stream, device),
                     cudaErrorInvalidConfiguration);
    /* More dynamic shared memory than 48 KiB must be asked for. */
    assert_int_equal(launch(warp_operations, 1, 32, 64 << 10, stream, device),
                     cudaErrorInvalidValue);
    assert_cuda(cudaFuncSetAttribute(warp_operations, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     64 << 10));
    assert_cuda(launch(warp_operations, 1, 32, 64 << 10, stream, device));
    assert_int_equal(cudaFuncSetAttribute(warp_operations,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10),
                     cudaErrorInvalidValue);
    assert_cuda(cudaDeviceSynchronize());
    assert_cuda(cudaFree(device));
    assert_cuda(cudaStreamDestroy(stream));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_thread_of_every_block_runs_once),
        cmocka_unit_test(test_barriers_and_shared_memory),
        cmocka_unit_test(test_reduction_by_shuffles),
        cmocka_unit_test(test_operations_of_a_warp),
        cmocka_unit_test(test_barrier_of_a_warp),
        cmocka_unit_test(test_integer_atomics),
        cmocka_unit_test(test_bfloat16_rounds_to_nearest_even),
        cmocka_unit_test(test_vectors_and_struct_arguments),
        cmocka_unit_test(test_matrix_fragments),
        cmocka_unit_test(test_launches_that_cuda_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
