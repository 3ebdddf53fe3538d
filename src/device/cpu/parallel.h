/* Splitting a loop over the device's threads, and compiling it for several instruction sets. */
#ifndef LKS_DEVICE_CPU_PARALLEL_H
#define LKS_DEVICE_CPU_PARALLEL_H

#include "device/backend.h"

/* Put in front of a serial function with a hot loop: the compiler makes a version for the baseline
 * instruction set and one each for AVX2 and AVX-512, and the loader picks the best that the machine
 * has. A binary for any x86-64 thus runs at full width. It does not reach into the bodies of OpenMP
 * regions, which the compiler moves into functions of their own, nor into called functions that are
 * not inlined; hence lks_cpu_parallel over serial functions and LKS_CPU_INLINE. Loaders choose
 * before the address and thread sanitizers are set up, so there the baseline alone is compiled; so
 * it is with clang, which (14) gives the versions of file-private functions global names that
 * collide.
 *
 * The files of this folder are compiled without contraction to fused multiply-adds (see
 * CMakeLists.txt) and sum in a fixed number of lanes: every version gives the same bits. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LKS_CPU_CLONES
#elif defined(__clang__)
#define LKS_CPU_CLONES
#endif
#if !defined(LKS_CPU_CLONES) && defined(__x86_64__) && defined(__gnu_linux__) && \
    defined(__has_attribute)
#if __has_attribute(target_clones) && __GNUC__ >= 12
#define LKS_CPU_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#elif __has_attribute(target_clones)
#define LKS_CPU_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif
#ifndef LKS_CPU_CLONES
#define LKS_CPU_CLONES
#endif

#define LKS_CPU_INLINE static inline __attribute__((always_inline))

enum {
    LKS_CPU_LINE_FLOATS = 16, /* of a cache line */
    LKS_CPU_LANES = 16,       /* partial sums of a reduction: one AVX-512 register of float32 */
    /* Elements below which a second thread costs more than it saves: waking and joining threads
     * takes about 2 us, in which one core streams about 30 KB. */
    LKS_CPU_GRAIN = 8192,
    LKS_CPU_EXP_GRAIN = 2048 /* the same where an element takes an exponential */
};

/* Units [begin, end) of a job. */
typedef void (*lks_cpu_part)(const void *job, int64_t begin, int64_t end);

/* Calls `part` for disjoint ranges that cover [0, count), one on each of at most device->threads
 * threads. Ranges begin at multiples of `align`; each has at least about `grain` units, so that a
 * small job runs on the calling thread alone. Returns when all are done. */
void lks_cpu_parallel(const lks_device *device, int64_t count, int64_t align, int64_t grain,
                      lks_cpu_part part, const void *job);

/* Copies with the device's threads; the memory does not overlap. */
void lks_cpu_copy_bytes(const lks_device *device, size_t bytes, const void *from, void *to);

/* Copies `count` numbers with the device's threads; nothing where from == to. */
void lks_cpu_copy(const lks_device *device, lks_dtype type, int64_t count, const void *from,
                  void *to);

#endif
