/* Philox 4x32-10 on the device: the same words as base/philox.h. Included by the .cu files of
 * src/device/cuda alone. */
#ifndef LKS_DEVICE_CUDA_PHILOX_CUH
#define LKS_DEVICE_CUDA_PHILOX_CUH

#include "device/cuda/kernel.cuh"

static __device__ inline lks_philox_block lks_cuda_philox(lks_philox_key key, uint64_t counter,
                                                          uint64_t high) {
    uint32_t a = (uint32_t)counter, b = (uint32_t)(counter >> 32);
    uint32_t c = (uint32_t)high, d = (uint32_t)(high >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)a * 0xD2511F53u;
        const uint64_t product1 = (uint64_t)c * 0xCD9E8D57u;
        a = (uint32_t)(product1 >> 32) ^ b ^ key.word[0];
        b = (uint32_t)product1;
        c = (uint32_t)(product0 >> 32) ^ d ^ key.word[1];
        d = (uint32_t)product0;
        key.word[0] += 0x9E3779B9u;
        key.word[1] += 0xBB67AE85u;
    }
    return lks_philox_block{{a, b, c, d}};
}

#endif
