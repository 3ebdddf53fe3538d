/* Operations in which the lanes of a warp meet. */
#include "emu.h"
#include "shared.h"

namespace emu {

/* pointer: the lane to read from */
static void finish_shuffle(Gathered &lanes) {
    for (unsigned i = 0; i < 32; i++) {
        if (!(lanes.mask >> i & 1)) continue;
        uintptr_t from = (uintptr_t)lanes.pointer[i];
        if (!(lanes.mask >> from & 1))
            fail("a shuffle reads from lane %u, which is not in the mask %#x", (unsigned)from,
                 lanes.mask);
        lanes.result[i] = lanes.value[from];
    }
}

uint64_t shuffle(const char *what, unsigned mask, uint64_t value, int source) {
    return meet(what, mask, value, (const void *)(uintptr_t)(unsigned)source, finish_shuffle);
}

static void finish_ballot(Gathered &lanes) {
    uint64_t votes = 0;
    for (unsigned i = 0; i < 32; i++)
        if (lanes.mask >> i & 1) votes |= lanes.value[i] << i;
    for (uint64_t &r : lanes.result)
        r = votes;
}

static void finish_match(Gathered &lanes) {
    for (unsigned i = 0; i < 32; i++) {
        if (!(lanes.mask >> i & 1)) continue;
        lanes.result[i] = 0;
        for (unsigned k = 0; k < 32; k++)
            if ((lanes.mask >> k & 1) && lanes.value[k] == lanes.value[i])
                lanes.result[i] |= (uint64_t)1 << k;
    }
}

static void finish_sync(Gathered &lanes) {
    warp_synced(lanes.mask);
}

template <typename T, T (*combine)(T, T)> static void finish_reduce(Gathered &lanes) {
    bool any = false;
    T sum = 0;
    for (unsigned i = 0; i < 32; i++) {
        if (!(lanes.mask >> i & 1)) continue;
        T v = (T)lanes.value[i];
        sum = any ? combine(sum, v) : v;
        any = true;
    }
    for (uint64_t &r : lanes.result)
        r = (uint64_t)(unsigned)sum;
}

template <typename T> static T add(T a, T b) {
    return (T)((unsigned)a + (unsigned)b);
}
template <typename T> static T least(T a, T b) {
    return b < a ? b : a;
}
template <typename T> static T greatest(T a, T b) {
    return a < b ? b : a;
}
static unsigned bit_or(unsigned a, unsigned b) {
    return a | b;
}
static unsigned bit_and(unsigned a, unsigned b) {
    return a & b;
}

template <typename T, T (*combine)(T, T)>
static T reduce(const char *what, unsigned mask, T value) {
    return (T)meet(what, mask, (unsigned)value, nullptr, finish_reduce<T, combine>);
}

} // namespace emu

using namespace emu;

void __syncwarp(unsigned mask) {
    meet("__syncwarp", mask, 0, nullptr, finish_sync);
}

unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned)meet("__ballot_sync", mask, predicate != 0, nullptr, finish_ballot);
}

int __any_sync(unsigned mask, int predicate) {
    return meet("__any_sync", mask, predicate != 0, nullptr, finish_ballot) != 0;
}

int __all_sync(unsigned mask, int predicate) {
    return meet("__all_sync", mask, predicate != 0, nullptr, finish_ballot) == mask;
}

unsigned __match_any_sync(unsigned mask, unsigned value) {
    return (unsigned)meet("__match_any_sync", mask, value, nullptr, finish_match);
}

unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    return reduce<unsigned, add<unsigned>>("__reduce_add_sync", mask, value);
}
int __reduce_add_sync(unsigned mask, int value) {
    return reduce<int, add<int>>("__reduce_add_sync", mask, value);
}
unsigned __reduce_min_sync(unsigned mask, unsigned value) {
    return reduce<unsigned, least<unsigned>>("__reduce_min_sync", mask, value);
}
int __reduce_min_sync(unsigned mask, int value) {
    return reduce<int, least<int>>("__reduce_min_sync", mask, value);
}
unsigned __reduce_max_sync(unsigned mask, unsigned value) {
    return reduce<unsigned, greatest<unsigned>>("__reduce_max_sync", mask, value);
}
int __reduce_max_sync(unsigned mask, int value) {
    return reduce<int, greatest<int>>("__reduce_max_sync", mask, value);
}
unsigned __reduce_or_sync(unsigned mask, unsigned value) {
    return reduce<unsigned, bit_or>("__reduce_or_sync", mask, value);
}
unsigned __reduce_and_sync(unsigned mask, unsigned value) {
    return reduce<unsigned, bit_and>("__reduce_and_sync", mask, value);
}
