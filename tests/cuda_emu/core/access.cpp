/* Sees every access to memory that a kernel makes: kernels are compiled with the instrumentation of
 * gcc's and clang's thread sanitizer, whose runtime library is replaced by these functions. */
#include <link.h>

#include <cstring>

#include "emu.h"
#include "shared.h"

namespace emu {

namespace {

/* Where the program and its libraries lie: constants, tables, functions. */
struct Images {
    uintptr_t low[256], high[256];
    int count;
};

} // namespace

static int note_image(struct dl_phdr_info *info, size_t, void *data) {
    Images *images = (Images *)data;
    for (int i = 0; i < info->dlpi_phnum && images->count < 256; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        if (part.p_type != PT_LOAD) continue;
        images->low[images->count] = info->dlpi_addr + part.p_vaddr;
        images->high[images->count++] = info->dlpi_addr + part.p_vaddr + part.p_memsz;
    }
    return 0;
}

static Images read_images() {
    Images images = {};
    dl_iterate_phdr(note_image, &images);
    return images;
}

static bool in_image(const void *p) {
    static const Images images = read_images();
    for (int i = 0; i < images.count; i++)
        if ((uintptr_t)p >= images.low[i] && (uintptr_t)p < images.high[i]) return true;
    return false;
}

static inline bool is_own(const void *p) {
    return (size_t)((const unsigned char *)p - place->stack_low) < place->stack_bytes;
}

/* Bytes of a thread's own stack, of the kernel's arguments, of constants, and of pinned host memory
 * are the rest that a kernel may touch. */
static void check_elsewhere(const void *p, size_t bytes, Access access) {
    const unsigned char *at = (const unsigned char *)p;
    if (is_own(p)) return;
    bool is_argument = (size_t)(at - (const unsigned char *)place->call) < place->call->bytes;
    if (is_argument && access == Access::read) return;
    if (in_image(p) || is_pinned(p, bytes)) return;
    fail("accesses %p, which is neither device memory, nor shared, nor this thread's own", p);
}

static void check_device(const void *p, size_t bytes, Access access) {
    unsigned char *state = arena::shadow(p);
    for (size_t i = 0; i < bytes; i++) {
        if (!(state[i] & arena::allocated))
            fail("%s of %zu bytes outside an allocation: %s",
                 access == Access::read ? "read" : "write", bytes,
                 arena::describe((const unsigned char *)p + i).c_str());
        if (access != Access::write && state[i] != arena::written)
            fail("reads device memory that nothing wrote: %s",
                 arena::describe((const unsigned char *)p + i).c_str());
    }
    if (access != Access::read) memset(state, arena::written, bytes);
}

void check(const void *p, size_t bytes, Access access, size_t alignment) {
    if (!place) return;
    Quiet quiet;
    if ((uintptr_t)p % alignment != 0)
        fail("%p is not a multiple of %zu, as an access of that width must be", p, alignment);
    if (arena::contains(p)) {
        check_device(p, bytes, access);
        return;
    }
    Shared &shared = shared_memory();
    if (shared.contains(p))
        shared.check(p, bytes, access, place->thread);
    else
        check_elsewhere(p, bytes, access);
}

uint64_t load(const void *from, size_t bytes) {
    uint64_t value = 0;
    Quiet quiet;
    memcpy(&value, from, bytes);
    return value;
}

void store(void *to, size_t bytes, uint64_t value) {
    Quiet quiet;
    memcpy(to, &value, bytes);
}

/* The usual cases in few instructions: the thread's own variables, and device memory whose bytes
 * are all in one state. */
template <typename Word> static inline void read_word(const void *p) {
    if (!place || is_own(p)) return;
    if (arena::contains(p) && (uintptr_t)p % sizeof(Word) == 0) {
        Word state;
        __builtin_memcpy(&state, arena::shadow(p), sizeof state);
        if (state == (Word)0x0303030303030303u) return;
    }
    check(p, sizeof(Word), Access::read, sizeof(Word));
}

template <typename Word> static inline void write_word(void *p) {
    if (!place || is_own(p)) return;
    if (arena::contains(p) && (uintptr_t)p % sizeof(Word) == 0) {
        Word state;
        __builtin_memcpy(&state, arena::shadow(p), sizeof state);
        if ((state & (Word)0x0101010101010101u) == (Word)0x0101010101010101u) {
            state = (Word)0x0303030303030303u;
            __builtin_memcpy(arena::shadow(p), &state, sizeof state);
            return;
        }
    }
    check(p, sizeof(Word), Access::write, sizeof(Word));
}

/* The compiler also says 16 of a structure of two words, aligned to 8, as arguments have them. */
static void check_16(const void *p, Access access) {
    if (!place || is_own(p)) return;
    const bool is_vector = arena::contains(p) || shared_memory().contains(p);
    check(p, 16, access, is_vector ? 16 : 8);
}

} // namespace emu

using emu::Access;

extern "C" {

void __tsan_init() {
}
void __tsan_func_entry(void *) {
}
void __tsan_func_exit() {
}

void __tsan_read1(void *p) {
    emu::read_word<uint8_t>(p);
}
void __tsan_read2(void *p) {
    emu::read_word<uint16_t>(p);
}
void __tsan_read4(void *p) {
    emu::read_word<uint32_t>(p);
}
void __tsan_read8(void *p) {
    emu::read_word<uint64_t>(p);
}
void __tsan_read16(void *p) {
    emu::check_16(p, Access::read);
}
void __tsan_write1(void *p) {
    emu::write_word<uint8_t>(p);
}
void __tsan_write2(void *p) {
    emu::write_word<uint16_t>(p);
}
void __tsan_write4(void *p) {
    emu::write_word<uint32_t>(p);
}
void __tsan_write8(void *p) {
    emu::write_word<uint64_t>(p);
}
void __tsan_write16(void *p) {
    emu::check_16(p, Access::write);
}
void __tsan_unaligned_read2(void *p) {
    emu::check(p, 2, Access::read, 1);
}
void __tsan_unaligned_read4(void *p) {
    emu::check(p, 4, Access::read, 1);
}
void __tsan_unaligned_read8(void *p) {
    emu::check(p, 8, Access::read, 1);
}
void __tsan_unaligned_read16(void *p) {
    emu::check(p, 16, Access::read, 1);
}
void __tsan_unaligned_write2(void *p) {
    emu::check(p, 2, Access::write, 1);
}
void __tsan_unaligned_write4(void *p) {
    emu::check(p, 4, Access::write, 1);
}
void __tsan_unaligned_write8(void *p) {
    emu::check(p, 8, Access::write, 1);
}
void __tsan_unaligned_write16(void *p) {
    emu::check(p, 16, Access::write, 1);
}
void __tsan_read_range(void *p, size_t bytes) {
    if (bytes) emu::check(p, bytes, Access::read, 1);
}
void __tsan_write_range(void *p, size_t bytes) {
    if (bytes) emu::check(p, bytes, Access::write, 1);
}
void __tsan_vptr_read(void **) {
}
void __tsan_vptr_update(void **, void *) {
}

/* Copies that a compiler leaves to the C library: clang copies vector types so. */
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__real_memset(void *to, int value, size_t bytes);

void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
    if (bytes && emu::place && !emu::Quiet::active) {
        emu::check(from, bytes, Access::read, 1);
        emu::check(to, bytes, Access::write, 1);
    }
    return __real_memcpy(to, from, bytes);
}

void *__wrap_memset(void *to, int value, size_t bytes) {
    if (bytes && emu::place && !emu::Quiet::active) emu::check(to, bytes, Access::write, 1);
    return __real_memset(to, value, bytes);
}

} // extern "C"
