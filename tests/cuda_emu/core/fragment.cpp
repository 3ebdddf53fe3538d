/* Matrix fragments: a warp's lanes meet for each load, product and store. */
#include "emu.h"
#include "mma.h"

namespace emu {

static constexpr unsigned all_lanes = 0xffffffffu;

/* A lane holds n elements that lie side by side in memory, in an order of its own: element `e` is
 * the matrix's element of this number, counted along its rows or columns. */
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

/* Where the elements of a lane begin. */
static size_t offset_of(int place, int rows, int columns, bool by_row, unsigned ld) {
    const int length = by_row ? columns : rows;
    return (size_t)(place / length) * ld + (size_t)(place % length);
}

void load_fragment(void *x, Element type, int rows, int columns, bool by_row, const void *from,
                   unsigned ld) {
    const size_t bytes = type == Element::bf16 ? 2 : 4;
    const int n = rows * columns / 32, first = (int)lane() * n;
    check_matrix("load_matrix_sync", from, bytes, ld);
    const unsigned char *mine =
        (const unsigned char *)from + offset_of(first, rows, columns, by_row, ld) * bytes;
    check(mine, (size_t)n * bytes, Access::read, bytes);
    for (int e = 0; e < n; e++)
        store((unsigned char *)x + (size_t)e * bytes, bytes,
              load(mine + (size_t)(place_of(lane(), e, n) - first) * bytes, bytes));
}

/* Sums are counted along their rows, however they lie in memory. */
static size_t offset_of_sum(int place, bool by_row, unsigned ld) {
    const size_t row = (size_t)place / 16, column = (size_t)place % 16;
    return by_row ? row * ld + column : column * ld + row;
}

void load_sums(float *x, bool by_row, const float *from, unsigned ld) {
    check_matrix("load_matrix_sync", from, sizeof *from, ld);
    for (int e = 0; e < 8; e++) {
        const float *at = from + offset_of_sum(place_of(lane(), e, 8), by_row, ld);
        check(at, sizeof *at, Access::read, sizeof *at);
        x[e] = *at;
    }
}

void store_sums(const float *x, bool by_row, float *to, unsigned ld) {
    check_matrix("store_matrix_sync", to, sizeof *to, ld);
    for (int e = 0; e < 8; e++) {
        float *at = to + offset_of_sum(place_of(lane(), e, 8), by_row, ld);
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
    bool a_by_row, b_by_row;
};

} // namespace

/* The tensor cores drop the bits that tf32 has not. */
static float element(const void *x, int e, Element type) {
    if (type == Element::bf16) return (float)((const __nv_bfloat16 *)x)[e];
    return __uint_as_float(__float_as_uint(((const float *)x)[e]) & ~0x1fffu);
}

/* Where an element of that number lies in row order. */
static int in_row_order(int place, int rows, int columns, bool by_row) {
    return by_row ? place : place % rows * columns + place / rows;
}

static void finish_product(Gathered &lanes) {
    const int k = ((const Product *)lanes.pointer[0])->k, inputs = 16 * k / 32, sums = 8;
    float a[16 * 16], b[16 * 16], d[16 * 16];
    for (unsigned lane = 0; lane < 32; lane++) {
        const Product &p = *(const Product *)lanes.pointer[lane];
        for (int e = 0; e < inputs; e++) {
            const int place = place_of(lane, e, inputs);
            a[in_row_order(place, 16, k, p.a_by_row)] = element(p.a, e, p.type);
            b[in_row_order(place, k, 16, p.b_by_row)] = element(p.b, e, p.type);
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

void multiply_fragments(float *d, const void *a, bool a_by_row, const void *b, bool b_by_row,
                        const float *c, Element type, int k) {
    const Product mine = {d, a, b, c, type, k, a_by_row, b_by_row};
    (void)meet("mma_sync", all_lanes, 0, &mine, finish_product);
}

} // namespace emu
