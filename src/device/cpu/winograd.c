#include "device/cpu/winograd.h"

#include <string.h>

#include "device/cpu/cast.h"

enum { OUTPUTS = LKS_WINOGRAD_OUTPUTS, INPUTS = LKS_WINOGRAD_INPUTS, LANES = LKS_WINOGRAD_LANES };

/* Neighbouring channels, which go through a transform together. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t bits __attribute__((vector_size(LANES * sizeof(float))));

/* The points a and b, their powers, and the factors of the filter's transform: 1 over the product
 * of a point's differences to the others. */
static const float A = 0.625f, A2 = 0.390625f, A3 = 0.244140625f;
static const float B = 1.5f, B2 = 2.25f, B3 = 3.375f;
static const float A2_B2 = 0.87890625f, A2_PLUS_B2 = 2.640625f;
static const float SCALE_0 = 1.0f / 0.87890625f;                           /* 1 / (a^2 b^2) */
static const float SCALE_A = 1.0f / (2 * 0.390625f * (0.390625f - 2.25f)); /* 1 / 2a^2(a^2-b^2) */
static const float SCALE_B = 1.0f / (2 * 2.25f * (2.25f - 0.390625f));

LKS_CPU_INLINE void load(const float *from, lanes *value) {
    memcpy(value, from, sizeof *value);
}

LKS_CPU_INLINE void store(const lanes *value, float *to) {
    memcpy(to, value, sizeof *value);
}

/* The same for images of either type, `to` and `from` at their first channel. */
LKS_CPU_INLINE void load_pixel(lks_dtype type, const void *from, lanes *value) {
    if (type == LKS_F32)
        memcpy(value, from, sizeof *value);
    else
        for (int l = 0; l < LANES; l++)
            (*value)[l] = lks_cpu_load(type, from, l);
}

LKS_CPU_INLINE void store_pixel(lks_dtype type, const lanes *value, void *to) {
    if (type == LKS_F32)
        memcpy(to, value, sizeof *value);
    else
        for (int l = 0; l < LANES; l++)
            lks_cpu_store(type, to, l, (*value)[l]);
}

LKS_CPU_INLINE int64_t element_bytes(lks_dtype type) {
    return type == LKS_F32 ? 4 : 2;
}

/* ---- one axis ---- */

/* Six inputs, `step` apart. */
LKS_CPU_INLINE void input_axis(const lanes *x, int step, lanes *v) {
    const lanes x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step],
                x5 = x[5 * step];
    const lanes even_a = x4 - B2 * x2, odd_a = A * (x3 - B2 * x1);
    const lanes even_b = x4 - A2 * x2, odd_b = B * (x3 - A2 * x1);
    v[0] = A2_B2 * x0 - A2_PLUS_B2 * x2 + x4;
    v[step] = even_a + odd_a;
    v[2 * step] = even_a - odd_a;
    v[3 * step] = even_b + odd_b;
    v[4 * step] = even_b - odd_b;
    v[5 * step] = A2_B2 * x1 - A2_PLUS_B2 * x3 + x5;
}

/* Six products, `step` apart, to four outputs. */
LKS_CPU_INLINE void output_axis(const lanes *m, int step, lanes *y) {
    const lanes even_a = m[step] + m[2 * step], odd_a = m[step] - m[2 * step];
    const lanes even_b = m[3 * step] + m[4 * step], odd_b = m[3 * step] - m[4 * step];
    y[0] = m[0] + even_a + even_b;
    y[step] = A * odd_a + B * odd_b;
    y[2 * step] = A2 * even_a + B2 * even_b;
    y[3 * step] = A3 * odd_a + B3 * odd_b + m[5 * step];
}

/* Four gradients of outputs, `step` apart: they take the filter's part. */
LKS_CPU_INLINE void gradient_axis(const lanes *dy, int step, lanes *z) {
    const lanes y0 = dy[0], y1 = dy[step], y2 = dy[2 * step], y3 = dy[3 * step];
    const lanes even_a = SCALE_A * (y0 + A2 * y2), odd_a = SCALE_A * (A * y1 + A3 * y3);
    const lanes even_b = SCALE_B * (y0 + B2 * y2), odd_b = SCALE_B * (B * y1 + B3 * y3);
    z[0] = SCALE_0 * y0;
    z[step] = even_a + odd_a;
    z[2 * step] = even_a - odd_a;
    z[3 * step] = even_b + odd_b;
    z[4 * step] = even_b - odd_b;
    z[5 * step] = y3;
}

/* Three weights, `step` apart. */
LKS_CPU_INLINE void weight_axis(const lanes *w, int step, lanes *u) {
    const lanes w0 = w[0], w1 = w[step], w2 = w[2 * step];
    const lanes even_a = SCALE_A * (w0 + A2 * w2), odd_a = SCALE_A * A * w1;
    const lanes even_b = SCALE_B * (w0 + B2 * w2), odd_b = SCALE_B * B * w1;
    u[0] = SCALE_0 * w0;
    u[step] = even_a + odd_a;
    u[2 * step] = even_a - odd_a;
    u[3 * step] = even_b + odd_b;
    u[4 * step] = even_b - odd_b;
    u[5 * step] = w2;
}

/* Six sums of products, `step` apart, to three gradients of weights. */
LKS_CPU_INLINE void weight_gradient_axis(const lanes *m, int step, lanes *dw) {
    const lanes even_a = m[step] + m[2 * step], odd_a = m[step] - m[2 * step];
    const lanes even_b = m[3 * step] + m[4 * step], odd_b = m[3 * step] - m[4 * step];
    dw[0] = m[0] + even_a + even_b;
    dw[step] = A * odd_a + B * odd_b;
    dw[2 * step] = A2 * even_a + B2 * even_b + m[5 * step];
}

/* ---- tiles ---- */

/* The top left corner of a tile, and its image. */
LKS_CPU_INLINE void find_tile(const lks_winograd_images *images, int64_t tile, int64_t *image,
                              int64_t *row, int64_t *column) {
    const int64_t across = tile / images->tiles_wide;
    *column = tile % images->tiles_wide * OUTPUTS + images->offset[1];
    *row = across % images->tiles_high * OUTPUTS + images->offset[0];
    *image = across / images->tiles_high;
}

/* Pointers to the pixels of a side x side square of a tile; those outside point to zeros and have
 * `inside` 0, the others -1: channels c and following stand (c & inside) elements behind. */
typedef struct square {
    const char *pixel[INPUTS * INPUTS];
    int64_t inside[INPUTS * INPUTS];
} square;

LKS_CPU_INLINE void find_square(lks_dtype type, const lks_winograd_images *images, const void *from,
                                int64_t tile, int side, square *out) {
    const int64_t pixel_bytes = images->channels * element_bytes(type);
    static const float zeros[LANES];
    int64_t image, top, left;
    find_tile(images, tile, &image, &top, &left);
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const int64_t row = top + i, column = left + j;
            const bool inside =
                row >= 0 && row < images->height && column >= 0 && column < images->width;
            const int64_t place = (image * images->height + row) * images->width + column;
            out->pixel[i * side + j] =
                inside ? (const char *)from + place * pixel_bytes : (const char *)zeros;
            out->inside[i * side + j] = inside ? -1 : 0;
        }
}

/* Asks for the channels of the next square while this one is computed: the pixels of a tile are too
 * far apart for the hardware to see them coming. */
LKS_CPU_INLINE void prefetch(lks_dtype type, const square *next, int pixels, int64_t c) {
    for (int i = 0; i < pixels; i++)
        __builtin_prefetch(next->pixel[i] + (c & next->inside[i]) * element_bytes(type));
}

LKS_CPU_INLINE void load_square(lks_dtype type, const square *s, int pixels, int64_t c, lanes *d) {
    for (int i = 0; i < pixels; i++)
        load_pixel(type, s->pixel[i] + (c & s->inside[i]) * element_bytes(type), &d[i]);
}

LKS_CPU_INLINE void inputs(lks_dtype type, const lks_winograd_images *x, const void *from,
                           int64_t first, int64_t count, int64_t stride, float *v) {
    lanes d[INPUTS * INPUTS];
    square s, next;
    find_square(type, x, from, first, INPUTS, &next);
    for (int64_t t = 0; t < count; t++) {
        s = next;
        if (t + 1 < count) find_square(type, x, from, first + t + 1, INPUTS, &next);
        for (int64_t c = 0; c < x->channels; c += LANES) {
            prefetch(type, &next, INPUTS * INPUTS, c);
            load_square(type, &s, INPUTS * INPUTS, c, d);
            for (int j = 0; j < INPUTS; j++)
                input_axis(d + j, INPUTS, d + j);
            for (int i = 0; i < INPUTS; i++)
                input_axis(d + i * INPUTS, 1, d + i * INPUTS);
            for (int i = 0; i < INPUTS * INPUTS; i++)
                store(&d[i], v + i * stride + t * x->channels + c);
        }
    }
}

LKS_CPU_CLONES
static void inputs_f32(const lks_winograd_images *x, const void *from, int64_t first, int64_t count,
                       int64_t stride, float *v) {
    inputs(LKS_F32, x, from, first, count, stride, v);
}

LKS_CPU_CLONES
static void inputs_bf16(const lks_winograd_images *x, const void *from, int64_t first,
                        int64_t count, int64_t stride, float *v) {
    inputs(LKS_BF16, x, from, first, count, stride, v);
}

void lks_winograd_inputs(const lks_winograd_images *x, const void *from, int64_t first,
                         int64_t count, int64_t stride, float *v) {
    (x->type == LKS_F32 ? inputs_f32 : inputs_bf16)(x, from, first, count, stride, v);
}

LKS_CPU_INLINE void gradients(lks_dtype type, const lks_winograd_images *dy, const void *from,
                              int64_t first, int64_t count, int64_t stride, float *z) {
    lanes d[OUTPUTS * OUTPUTS], tall[INPUTS * OUTPUTS], out[INPUTS * INPUTS];
    square s, next;
    find_square(type, dy, from, first, OUTPUTS, &next);
    for (int64_t t = 0; t < count; t++) {
        s = next;
        if (t + 1 < count) find_square(type, dy, from, first + t + 1, OUTPUTS, &next);
        for (int64_t c = 0; c < dy->channels; c += LANES) {
            prefetch(type, &next, OUTPUTS * OUTPUTS, c);
            load_square(type, &s, OUTPUTS * OUTPUTS, c, d);
            for (int j = 0; j < OUTPUTS; j++)
                gradient_axis(d + j, OUTPUTS, tall + j);
            for (int i = 0; i < INPUTS; i++)
                gradient_axis(tall + i * OUTPUTS, 1, out + i * INPUTS);
            for (int i = 0; i < INPUTS * INPUTS; i++)
                store(&out[i], z + i * stride + t * dy->channels + c);
        }
    }
}

LKS_CPU_CLONES
static void gradients_f32(const lks_winograd_images *dy, const void *from, int64_t first,
                          int64_t count, int64_t stride, float *z) {
    gradients(LKS_F32, dy, from, first, count, stride, z);
}

LKS_CPU_CLONES
static void gradients_bf16(const lks_winograd_images *dy, const void *from, int64_t first,
                           int64_t count, int64_t stride, float *z) {
    gradients(LKS_BF16, dy, from, first, count, stride, z);
}

void lks_winograd_gradients(const lks_winograd_images *dy, const void *from, int64_t first,
                            int64_t count, int64_t stride, float *z) {
    (dy->type == LKS_F32 ? gradients_f32 : gradients_bf16)(dy, from, first, count, stride, z);
}

LKS_CPU_INLINE void outputs(lks_dtype type, const lks_winograd_images *y, const float *m,
                            int64_t first, int64_t count, int64_t stride, const float *bias,
                            bool relu, void *to) {
    const int64_t bytes = element_bytes(type);
    const lanes zero = {0};
    lanes in[INPUTS * INPUTS], flat[OUTPUTS * INPUTS], out[OUTPUTS * OUTPUTS];
    for (int64_t t = 0; t < count; t++) {
        int64_t image, top, left;
        find_tile(y, first + t, &image, &top, &left);
        const int64_t rows = y->height - top < OUTPUTS ? y->height - top : OUTPUTS;
        const int64_t columns = y->width - left < OUTPUTS ? y->width - left : OUTPUTS;
        const int64_t corner = ((image * y->height + top) * y->width + left) * y->channels;
        for (int64_t c = 0; c < y->channels; c += LANES) {
            for (int i = 0; i < INPUTS * INPUTS; i++)
                load(m + i * stride + t * y->channels + c, &in[i]);
            for (int j = 0; j < INPUTS; j++)
                output_axis(in + j, INPUTS, flat + j);
            for (int i = 0; i < OUTPUTS; i++)
                output_axis(flat + i * INPUTS, 1, out + i * OUTPUTS);
            lanes shift = {0};
            if (bias) load(bias + c, &shift);
            for (int i = 0; i < OUTPUTS * OUTPUTS; i++) {
                out[i] += shift;
                if (relu) out[i] = (lanes)((bits)out[i] & ~(out[i] <= zero)); /* keeps NaN */
            }
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++)
                    store_pixel(type, &out[i * OUTPUTS + j],
                                (char *)to +
                                    (corner + (i * y->width + j) * y->channels + c) * bytes);
        }
    }
}

LKS_CPU_CLONES
static void outputs_f32(const lks_winograd_images *y, const float *m, int64_t first, int64_t count,
                        int64_t stride, const float *bias, bool relu, void *to) {
    outputs(LKS_F32, y, m, first, count, stride, bias, relu, to);
}

LKS_CPU_CLONES
static void outputs_bf16(const lks_winograd_images *y, const float *m, int64_t first, int64_t count,
                         int64_t stride, const float *bias, bool relu, void *to) {
    outputs(LKS_BF16, y, m, first, count, stride, bias, relu, to);
}

void lks_winograd_outputs(const lks_winograd_images *y, const float *m, int64_t first,
                          int64_t count, int64_t stride, const float *bias, bool relu, void *to) {
    (y->type == LKS_F32 ? outputs_f32 : outputs_bf16)(y, m, first, count, stride, bias, relu, to);
}

/* ---- weights ---- */

enum { TAPS = 9, SIDE = 3 };

LKS_CPU_INLINE void transform_weights(const lanes *w, lanes *u) {
    lanes tall[INPUTS * SIDE];
    for (int j = 0; j < SIDE; j++)
        weight_axis(w + j, SIDE, tall + j);
    for (int i = 0; i < INPUTS; i++)
        weight_axis(tall + i * SIDE, 1, u + i * INPUTS);
}

LKS_CPU_CLONES
void lks_winograd_weights(int64_t in, int64_t out, const float *weights, int64_t begin, int64_t end,
                          float *u) {
    lanes w[TAPS], all[INPUTS * INPUTS];
    for (int64_t o = begin; o < end; o += LANES)
        for (int64_t i = 0; i < in; i++) {
            for (int l = 0; l < LANES; l++)
                for (int tap = 0; tap < TAPS; tap++)
                    w[tap][l] = weights[((o + l) * in + i) * TAPS + tap];
            transform_weights(w, all);
            for (int k = 0; k < INPUTS * INPUTS; k++)
                store(&all[k], u + (k * in + i) * out + o);
        }
}

LKS_CPU_CLONES
void lks_winograd_turned_weights(int64_t in, int64_t out, const float *weights, int64_t begin,
                                 int64_t end, float *u) {
    lanes w[TAPS], all[INPUTS * INPUTS];
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = begin; i < end; i += LANES) {
            for (int l = 0; l < LANES; l++)
                for (int tap = 0; tap < TAPS; tap++)
                    w[TAPS - 1 - tap][l] = weights[(o * in + i + l) * TAPS + tap];
            transform_weights(w, all);
            for (int k = 0; k < INPUTS * INPUTS; k++)
                store(&all[k], u + (k * out + o) * in + i);
        }
}

LKS_CPU_CLONES
void lks_winograd_weights_gradient(int64_t in, int64_t out, const float *du, bool accumulate,
                                   int64_t begin, int64_t end, float *dweights) {
    lanes all[INPUTS * INPUTS], flat[SIDE * INPUTS], dw[TAPS];
    for (int64_t o = begin; o < end; o += LANES)
        for (int64_t i = 0; i < in; i++) {
            for (int k = 0; k < INPUTS * INPUTS; k++)
                load(du + (k * in + i) * out + o, &all[k]);
            for (int j = 0; j < INPUTS; j++)
                weight_gradient_axis(all + j, INPUTS, flat + j);
            for (int j = 0; j < SIDE; j++)
                weight_gradient_axis(flat + j * INPUTS, 1, dw + j * SIDE);
            for (int l = 0; l < LANES; l++)
                for (int tap = 0; tap < TAPS; tap++) {
                    float *to = &dweights[((o + l) * in + i) * TAPS + tap];
                    *to = accumulate ? *to + dw[tap][l] : dw[tap][l];
                }
        }
}
