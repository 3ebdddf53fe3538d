/* Device memory: one range of addresses that only kernels and copies may touch, with the state of
 * every byte beside it. */
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "emu.h"

namespace emu {
namespace arena {

static constexpr size_t large_page = (size_t)2 << 20;
static constexpr size_t alignment = 256; /* what CUDA promises of an allocation */
static constexpr size_t gap = 4096;      /* unmapped in effect: its bytes are absent */

const size_t span = (size_t)64 << 30; /* of addresses; memory is taken as it is used */

static unsigned char *reserve() {
    void *p = mmap(nullptr, 2 * span + large_page, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("cuda_emu: no room for the addresses of device memory");
        abort();
    }
    return (unsigned char *)(((uintptr_t)p + large_page - 1) / large_page * large_page);
}

unsigned char *const base = reserve();
unsigned char *const shadow_base = base + span;

namespace {

struct State {
    std::map<unsigned char *, Allocation> live;
    std::map<unsigned char *, size_t> freed; /* for messages alone */
    size_t cursor = gap;                     /* where the search for room goes on */
    size_t high = 0;                         /* end of the part that was ever used */
    bool is_open = false;
};

} // namespace

static State &state() {
    static State *s = new State;
    return *s;
}

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

/* Addresses [start, start + bytes) between the living allocations, from the cursor on. */
static unsigned char *find_room(State &s, size_t bytes) {
    for (int turn = 0; turn < 2; turn++) {
        size_t at = s.cursor;
        for (auto next = s.live.lower_bound(base + at);; ++next) {
            size_t limit = next == s.live.end() ? span : (size_t)(next->first - base);
            if (at + bytes + gap <= limit) {
                s.cursor = round_up(at + bytes + gap, alignment);
                return base + at;
            }
            if (next == s.live.end()) break;
            at = round_up((size_t)(next->first - base) + next->second.bytes + gap, alignment);
        }
        s.cursor = gap;
    }
    return nullptr;
}

static void use_up_to(State &s, size_t end) {
    end = round_up(end, large_page);
    if (end <= s.high) return;
    unsigned char *from = base + s.high;
    size_t bytes = end - s.high;
    madvise(from, bytes, MADV_HUGEPAGE); /* opening and closing takes time by the page */
    if (mprotect(shadow_base + s.high, bytes, PROT_READ | PROT_WRITE) != 0 ||
        (s.is_open && mprotect(from, bytes, PROT_READ | PROT_WRITE) != 0))
        fail("the host has no memory for %zu bytes of device memory", bytes);
    s.high = end;
}

void *take(size_t bytes, int device, bool usable) {
    State &s = state();
    unsigned char *start = find_room(s, bytes ? bytes : 1);
    if (!start) return nullptr;
    use_up_to(s, (size_t)(start - base) + bytes + gap);
    s.live[start] = Allocation{start, bytes, device, false};
    if (usable) set_usable(start);
    return start;
}

void set_usable(void *memory) {
    Allocation &a = state().live.at((unsigned char *)memory);
    a.usable = true;
    memset(shadow(a.start), allocated, a.bytes);
    bool was_open = state().is_open;
    open();
    memset(a.start, 0xff, a.bytes); /* NaN, in every floating-point type */
    if (!was_open) close();
}

void release(void *memory) {
    State &s = state();
    auto it = s.live.find((unsigned char *)memory);
    memset(shadow(it->first), absent, it->second.bytes);
    s.freed[it->first] = it->second.bytes;
    s.live.erase(it);
}

const Allocation *find(const void *p) {
    State &s = state();
    auto next = s.live.upper_bound((unsigned char *)p);
    if (next == s.live.begin()) return nullptr;
    --next;
    size_t size = next->second.bytes ? next->second.bytes : 1;
    return (size_t)((const unsigned char *)p - next->first) < size ? &next->second : nullptr;
}

std::string describe(const void *p) {
    State &s = state();
    const unsigned char *at = (const unsigned char *)p;
    char text[160];
    if (const Allocation *a = find(p)) {
        snprintf(text, sizeof text, "byte %zu of an allocation of %zu bytes%s",
                 (size_t)(at - a->start), a->bytes,
                 a->usable ? "" : ", which its stream has not made yet");
        return text;
    }
    auto freed = s.freed.upper_bound((unsigned char *)p);
    if (freed != s.freed.begin() && at < (--freed)->first + freed->second) {
        snprintf(text, sizeof text, "byte %zu of an allocation of %zu bytes that was freed",
                 (size_t)(at - freed->first), freed->second);
        return text;
    }
    auto next = s.live.upper_bound((unsigned char *)p);
    if (next != s.live.begin()) {
        const Allocation &a = std::prev(next)->second;
        if (at < a.start + a.bytes + gap) {
            snprintf(text, sizeof text, "%zu bytes behind the end of an allocation of %zu bytes",
                     (size_t)(at - a.start - a.bytes), a.bytes);
            return text;
        }
    }
    if (next != s.live.end() && at + gap >= next->first) {
        snprintf(text, sizeof text, "%zu bytes before an allocation of %zu bytes",
                 (size_t)(next->first - at), next->second.bytes);
        return text;
    }
    return "in no allocation";
}

static void protect(State &s, int protection) {
    if (s.high > 0 && mprotect(base, s.high, protection) != 0)
        fail("cannot change the protection of device memory");
}

void open() {
    State &s = state();
    if (s.is_open) return;
    protect(s, PROT_READ | PROT_WRITE);
    s.is_open = true;
}

void close() {
    State &s = state();
    if (!s.is_open) return;
    protect(s, PROT_NONE);
    s.is_open = false;
}

void check(const char *who, const void *p, size_t bytes, Access access) {
    if (bytes == 0) return;
    if (!contains(p) || !contains((const unsigned char *)p + bytes - 1))
        fail("%s: %p is not device memory", who, p);
    unsigned char *state = shadow(p);
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char *at = (const unsigned char *)p + i;
        if (state[i] == absent)
            fail("%s: access outside an allocation: %s", who, describe(at).c_str());
        if (access == Access::read && state[i] != written)
            fail("%s: reads device memory that nothing wrote: %s", who, describe(at).c_str());
    }
    if (access != Access::read) memset(state, written, bytes);
}

} // namespace arena
} // namespace emu
