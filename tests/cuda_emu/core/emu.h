/* Inside the emulator: what its parts know of each other. */
#ifndef LKS_CUDA_EMU_CORE_H
#define LKS_CUDA_EMU_CORE_H

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda_runtime_api.h"
#include "emu_device.h"
#include "emu_launch.h"

namespace emu {

/* ---- settings of the test tool, read once from the environment (README.md) ---- */

struct Settings {
    uint64_t seed;
    int devices;
    size_t memory_bytes; /* of each device */
};
const Settings &settings();

/* ---- failures ---- */

/* Ends the program: prints the message, which kernel, block and thread it happened in, and the
 * seed. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- random choices, the same for the same seed ---- */

class Random {
  public:
    explicit Random(uint64_t seed) : state(seed) {
    }
    uint64_t next();
    size_t below(size_t n); /* n > 0 */

  private:
    uint64_t state;
};

/* The numbers 0 .. n - 1 in some order. */
class Permutation {
  public:
    Permutation(uint64_t count, Random &random);
    uint64_t operator[](uint64_t i) const {
        return (i * factor + shift) % count;
    }

  private:
    uint64_t count, factor, shift;
};

/* ---- symbols of this program ---- */

/* "softmax_forward(float const*, float*, long)"; the address in hexadecimal where it has no name.
 */
std::string symbol_name(const void *function);

struct SharedVariable {
    std::string name;
    size_t offset, bytes; /* from the start of the program's thread-local storage */
    bool dynamic;
    bool index;         /* threadIdx and its like: no shared memory, but in the same place */
    const void *kernel; /* whose own it is; NULL: of a function that any kernel may call */
};
/* The shared variables of all kernels; ended by the first call's count. */
const SharedVariable *shared_variables(size_t *count);
/* This host thread's thread-local storage of the program. */
unsigned char *thread_storage(size_t *bytes);

/* ---- device memory ---- */

namespace arena {

/* The state of a byte. */
enum : unsigned char { absent = 0, allocated = 1, written = 3 };

extern unsigned char *const base;
extern const size_t span;
extern unsigned char *const shadow_base;

inline bool contains(const void *p) {
    return (size_t)((const unsigned char *)p - base) < span;
}
inline unsigned char *shadow(const void *p) {
    return shadow_base + ((const unsigned char *)p - base);
}

/* 256-byte aligned, with a gap on both sides, filled with 0xff. usable: at once, or from
 * set_usable on (memory ordered by a stream). NULL: no room. */
void *take(size_t bytes, int device, bool usable);
void set_usable(void *memory);
/* The address is not given out again soon. */
void release(void *memory);

struct Allocation {
    unsigned char *start;
    size_t bytes;
    int device;
    bool usable;
};
/* The allocation that holds `p`, or NULL. */
const Allocation *find(const void *p);
/* "16 bytes behind an allocation of 256 bytes" */
std::string describe(const void *p);

/* Device memory can be touched while it is open: in kernels and copies, never in host code. */
void open();
void close();

/* Where all bytes of an operand must be allocated, and written if they are read. `who` says it in
 * the failure. */
void check(const char *who, const void *p, size_t bytes, Access access);

} // namespace arena

/* ---- kernels ---- */

struct Launch {
    uint3 grid, block;
    size_t shared_bytes;
    const Call *call;
};
void run_grid(const Launch &launch, Random &random);

/* The kernel's thread that runs on this host thread; NULL while host code does. */
struct Place {
    unsigned thread; /* number in its block */
    const unsigned char *stack_low;
    size_t stack_bytes;
    const Call *call;
};
extern __thread const Place *place;

/* While one of these lives, the emulator itself works on behalf of a kernel's thread. */
class Quiet {
  public:
    Quiet() : before(active) {
        active = true;
    }
    ~Quiet() {
        active = before;
    }
    static __thread bool active;

  private:
    bool before;
};

/* "kernel k, block (0,0,0), thread (1,0,0)", or nothing. */
std::string where();

/* Host memory that kernels may touch. */
bool is_pinned(const void *p, size_t bytes);

} // namespace emu

#endif
