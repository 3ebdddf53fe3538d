/* Matrix fragments: a warp's lanes meet for each load, product and store. */
#include "emu.h"
#include "mma.h"

namespace emu {

static constexpr unsigned all_lanes = 0xffffffffu;

/* The place, in row order, of element `e` of a lane that holds n. */
static int place_of(unsigned lane, int e, int n) {
    return (int)lane * n + (e * 5 + (int)lane) % n; /* 5 has no divisor in common with n, 4 or 8 */
}

static void finish_same_matrix(Gathered &lanes) {
    for (int i = 1; i < 32; i++)
        if (lanes.pointer[i] != lanes.pointer[0] || lanes.value[i] != lanes.value[0])
            fail("the lanes of a warp give different matrices to load_matrix_sync or "
                 "store_matrix_sync");
}

static void check_matrix(const char *what, const void *p, size_t element_bytes, unsigned ld) {
    if ((uintptr_t)p % 32 != 0) fail("%s: %p is not a multiple of 32", what, p);
    if (ld * element_bytes % 16 != 0)
        fail("%s: a leading dimension of %u elements is not a multiple of 16 bytes", what, ld);
    (void)meet(what, all_lanes, ld, p, finish_same_matrix);
}

static size_t offset_of(int place, int columns, bool by_row, unsigned ld) {
    size_t row = (size_t)(place / columns), column = (size_t)(place % columns);
    return by_row ? row * ld + column : column * ld + row;
}

void load_fragment(void *x, Element type, int rows, int columns, bool by_row, const void *from,
                   unsigned ld) {
    const size_t bytes = type == Element::bf16 ? 2 : 4;
    const int n = rows * columns / 32;
    check_matrix("load_matrix_sync", from, bytes, ld);
    for (int e = 0; e < n; e++) {
        const unsigned char *at = (const unsigned char *)from +
                                  offset_of(place_of(lane(), e, n), columns, by_row, ld) * bytes;
        check(at, bytes, Access::read, bytes);
        store((unsigned char *)x + (size_t)e * bytes, bytes, load(at, bytes));
    }
}

void store_fragment(const float *x, int rows, int columns, bool by_row, float *to, unsigned ld) {
    const int n = rows * columns / 32;
    check_matrix("store_matrix_sync", to, sizeof *to, ld);
    for (int e = 0; e < n; e++) {
        float *at = to + offset_of(place_of(lane(), e, n), columns, by_row, ld);
        check(at, sizeof *at, Access::write, sizeof *at);
        *at = x[e];
    }
}

namespace {

/* One lane's operands. */
struct Product {
    float *d;
    const void *a, *b;
    const float *c;
    Element type;
    int k;
};

} // namespace

/* The tensor cores drop the bits that tf32 has not. */
static float element(const void *x, int e, Element type) {
    if (type == Element::bf16) return (float)((const __nv_bfloat16 *)x)[e];
    return __uint_as_float(__float_as_uint(((const float *)x)[e]) & ~0x1fffu);
}

static void finish_product(Gathered &lanes) {
    const Product &first = *(const Product *)lanes.pointer[0];
    const int k = first.k, inputs = 16 * k / 32, sums = 8;
    float a[16 * 16], b[16 * 16], d[16 * 16];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Product &p = *(const Product *)lanes.pointer[lane];
        for (int e = 0; e < inputs; e++) {
            a[place_of(lane, e, inputs)] = element(p.a, e, p.type);
            b[place_of(lane, e, inputs)] = element(p.b, e, p.type);
        }
        for (int e = 0; e < sums; e++)
            d[place_of(lane, e, sums)] = p.c[e];
    }
    for (int row = 0; row < 16; row++)
        for (int i = 0; i < k; i++)
            for (int column = 0; column < 16; column++)
                d[row * 16 + column] += a[row * k + i] * b[i * 16 + column];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Product &p = *(const Product *)lanes.pointer[lane];
        for (int e = 0; e < sums; e++)
            p.d[e] = d[place_of(lane, e, sums)];
    }
}

void multiply_fragments(float *d, const void *a, const void *b, const float *c, Element type,
                        int k) {
    const Product mine = {d, a, b, c, type, k};
    (void)meet("mma_sync", all_lanes, 0, &mine, finish_product);
}

} // namespace emu
