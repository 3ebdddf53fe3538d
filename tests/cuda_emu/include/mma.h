/* Look-alike of nvcuda::wmma: fragments of 16x16 results, from bf16 (k = 16) and tf32 (k = 8), sums
 * in float32. Which lane holds which element is nobody's business, and differs from a GPU's. */
#ifndef LKS_CUDA_EMU_MMA_H
#define LKS_CUDA_EMU_MMA_H

#include <type_traits>

#include "cuda_bf16.h"
#include "cuda_runtime.h"

namespace emu {

enum class Element { tf32, bf16 };

/* One lane's part of each operation; all 32 lanes must come, with the same matrix. x: the lane's
 * elements of a [rows, columns] matrix. */
void load_fragment(void *x, Element type, int rows, int columns, bool by_row, const void *from,
                   unsigned ld);
void load_sums(float *x, bool by_row, const float *from, unsigned ld);
void store_sums(const float *x, bool by_row, float *to, unsigned ld);
/* d = a b + c, of 16 x k, k x 16 and 16 x 16; *_by_row: as the fragment was loaded. */
void multiply_fragments(float *d, const void *a, bool a_by_row, const void *b, bool b_by_row,
                        const float *c, Element type, int k);

} // namespace emu

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
} // namespace precision

template <typename T> struct element_of { typedef T type; };
template <> struct element_of<precision::tf32> { typedef float type; };

template <typename Use, int M, int N, int K, typename T, typename Layout = void> class fragment {
    static_assert(M == 16 && N == 16, "16 x 16 results");
    static constexpr int rows = std::is_same<Use, matrix_b>::value ? K : M;
    static constexpr int columns = std::is_same<Use, matrix_a>::value ? K : N;

  public:
    typedef typename element_of<T>::type element_type;
    typedef element_type storage_element_type;
    enum { num_elements = rows * columns / 32 };
    element_type x[num_elements];
};

template <typename T> constexpr emu::Element element_kind() {
    return std::is_same<T, __nv_bfloat16>::value ? emu::Element::bf16 : emu::Element::tf32;
}

template <typename Use, int M, int N, int K, typename T, typename L>
inline void fill_fragment(fragment<Use, M, N, K, T, L> &f,
                          typename element_of<T>::type const &value) {
    for (auto &x : f.x)
        x = value;
}

template <int M, int N, int K, typename T, typename L>
inline void load_matrix_sync(fragment<matrix_a, M, N, K, T, L> &f,
                             const typename element_of<T>::type *from, unsigned ld) {
    emu::load_fragment(f.x, element_kind<T>(), M, K, std::is_same<L, row_major>::value, from, ld);
}
template <int M, int N, int K, typename T, typename L>
inline void load_matrix_sync(fragment<matrix_b, M, N, K, T, L> &f,
                             const typename element_of<T>::type *from, unsigned ld) {
    emu::load_fragment(f.x, element_kind<T>(), K, N, std::is_same<L, row_major>::value, from, ld);
}
template <int M, int N, int K>
inline void load_matrix_sync(fragment<accumulator, M, N, K, float> &f, const float *from,
                             unsigned ld, layout_t layout) {
    emu::load_sums(f.x, layout == mem_row_major, from, ld);
}

template <int M, int N, int K>
inline void store_matrix_sync(float *to, const fragment<accumulator, M, N, K, float> &f,
                              unsigned ld, layout_t layout) {
    emu::store_sums(f.x, layout == mem_row_major, to, ld);
}

template <int M, int N, int K, typename T, typename LA, typename LB>
inline void mma_sync(fragment<accumulator, M, N, K, float> &d,
                     const fragment<matrix_a, M, N, K, T, LA> &a,
                     const fragment<matrix_b, M, N, K, T, LB> &b,
                     const fragment<accumulator, M, N, K, float> &c) {
    static_assert((std::is_same<T, __nv_bfloat16>::value && K == 16) ||
                      (std::is_same<T, precision::tf32>::value && K == 8),
                  "bf16 with k = 16 or tf32 with k = 8");
    emu::multiply_fragments(d.x, a.x, std::is_same<LA, row_major>::value, b.x,
                            std::is_same<LB, row_major>::value, c.x, element_kind<T>(), K);
}

/* Nearest, ties away from zero. */
inline float __float_to_tf32(float v) {
    unsigned bits = __float_as_uint(v);
    if ((bits & 0x7f800000u) == 0x7f800000u) return v;
    return __uint_as_float((bits + 0x1000u) & ~0x1fffu);
}

} // namespace wmma
} // namespace nvcuda

#endif
