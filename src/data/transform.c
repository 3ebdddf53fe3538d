#include "data/transform.h"

#include <stdlib.h>

/* ---- settings ---- */

static lks_status check_list(const char *name, const lks_float_list *list, int64_t channels) {
    if (list->count <= 1 || list->count == channels) return LKS_OK;
    if (channels == 1)
        return lks_fail(LKS_ECONFIG, "data: %s has %d numbers: expected 1", name, list->count);
    return lks_fail(LKS_ECONFIG,
                    "data: %s has %d numbers: expected 1, or %lld, one for each channel", name,
                    list->count, (long long)channels);
}

static double element(const lks_float_list *list, int64_t channel, double otherwise) {
    return list->count == 0 ? otherwise : list->values[list->count == 1 ? 0 : channel];
}

static lks_status set_augmentation(const lks_shape *shape, const lks_data_settings *settings,
                                   lks_transform *out) {
    const char *name = settings->random_crop > 0   ? "random_crop"
                       : settings->horizontal_flip ? "horizontal_flip"
                                                   : NULL;
    char text[LKS_SHAPE_TEXT_BYTES];
    if (name != NULL && shape->rank != 3)
        return lks_fail(LKS_ECONFIG,
                        "data: %s needs images [channels, height, width], the inputs are %s", name,
                        lks_shape_text(shape, text));
    out->crop = settings->random_crop;
    out->flip = settings->horizontal_flip;
    return LKS_OK;
}

/* Numbers of one sample that share gain and offset stand together: a plane of an image. */
static void set_size(const lks_shape *shape, bool one_channel, lks_transform *out) {
    int64_t plane = 1;
    for (int i = 1; i < shape->rank; i++)
        plane *= shape->dim[i];
    out->channels = shape->dim[0];
    out->height = shape->rank == 3 ? shape->dim[1] : 1;
    out->width = plane / out->height;
    if (one_channel && shape->rank != 3) {
        out->width *= out->channels;
        out->channels = 1;
    }
}

lks_status lks_transform_create(const lks_shape *shape, lks_dtype dtype,
                                const lks_data_settings *settings, bool training, lks_layout layout,
                                lks_transform *out) {
    *out = (lks_transform){.from_bytes = dtype == LKS_U8};
    const lks_float_list *mean = &settings->mean, *std = &settings->std;
    lks_status status = check_list("mean", mean, shape->dim[0]);
    if (status == LKS_OK) status = check_list("std", std, shape->dim[0]);
    if (status == LKS_OK && training) status = set_augmentation(shape, settings, out);
    if (status != LKS_OK) return status;

    set_size(shape, mean->count <= 1 && std->count <= 1, out);
    out->channels_last =
        layout == LKS_LAYOUT_CHANNELS_LAST && shape->rank == 3 && out->channels > 1;
    out->gain = malloc((size_t)out->channels * sizeof *out->gain);
    out->offset = malloc((size_t)out->channels * sizeof *out->offset);
    if (out->gain == NULL || out->offset == NULL) {
        lks_transform_free(out);
        return lks_fail(LKS_ENOMEM, "out of memory for %lld channels", (long long)shape->dim[0]);
    }
    for (int64_t c = 0; c < out->channels; c++) {
        double divisor = element(std, c, 1);
        out->gain[c] = (float)(settings->scale / divisor);
        out->offset[c] = (float)((0 - element(mean, c, 0)) / divisor);
    }
    return LKS_OK;
}

void lks_transform_free(lks_transform *transform) {
    free(transform->gain);
    free(transform->offset);
    transform->gain = NULL;
    transform->offset = NULL;
}

/* ---- runs of numbers ---- */

/* n numbers of one channel, from `from` on with `step` (1, or -1 for a mirrored line), `apart`
 * floats from each other in `out`. The loops without strides are those that run as SIMD. */
static void convert_bytes(const uint8_t *from, int64_t step, int64_t n, float gain, float offset,
                          float *out, int64_t apart) {
    if (step == 1 && apart == 1)
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)from[i] * gain + offset;
    else
        for (int64_t i = 0; i < n; i++)
            out[i * apart] = (float)from[i * step] * gain + offset;
}

static void convert_floats(const float *from, int64_t step, int64_t n, float gain, float offset,
                           float *out, int64_t apart) {
    if (step == 1 && apart == 1)
        for (int64_t i = 0; i < n; i++)
            out[i] = from[i] * gain + offset;
    else
        for (int64_t i = 0; i < n; i++)
            out[i * apart] = from[i * step] * gain + offset;
}

/* `first`: the element of the row to begin with. */
static void convert(const lks_transform *t, const void *row, int64_t first, int64_t step, int64_t n,
                    int64_t channel, float *out, int64_t apart) {
    if (t->from_bytes)
        convert_bytes((const uint8_t *)row + first, step, n, t->gain[channel], t->offset[channel],
                      out, apart);
    else
        convert_floats((const float *)row + first, step, n, t->gain[channel], t->offset[channel],
                       out, apart);
}

/* Padding is zero before normalisation. */
static void fill(const lks_transform *t, int64_t n, int64_t channel, float *out, int64_t apart) {
    for (int64_t i = 0; i < n; i++)
        out[i * apart] = t->offset[channel];
}

/* ---- samples ---- */

/* Where the cut-out begins in the image, and whether it is mirrored. */
typedef struct cut {
    int64_t line, column;
    bool mirrored;
} cut;

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Line `y` of one channel of the cut-out. Columns [left, right) of it lie in the image. */
static void convert_line(const lks_transform *t, const void *row, const cut *at, int64_t channel,
                         int64_t y, float *out, int64_t apart) {
    int64_t line = y + at->line;
    if (line < 0 || line >= t->height) {
        fill(t, t->width, channel, out, apart);
        return;
    }
    int64_t left = min64(max64(-at->column, 0), t->width);
    int64_t right = max64(min64(t->width - at->column, t->width), left);
    int64_t n = right - left;
    int64_t first = (channel * t->height + line) * t->width + left + at->column;
    int64_t before = left; /* padding in front of the pixels in `out` */
    if (at->mirrored) {
        first += n - 1;
        before = t->width - right;
    }
    fill(t, before, channel, out, apart);
    convert(t, row, first, at->mirrored ? -1 : 1, n, channel, out + before * apart, apart);
    fill(t, t->width - before - n, channel, out + (before + n) * apart, apart);
}

static void convert_cut(const lks_transform *t, const void *row, const cut *at, float *out) {
    int64_t apart = t->channels_last ? t->channels : 1;
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t y = 0; y < t->height; y++) {
            int64_t to =
                t->channels_last ? y * t->width * t->channels + c : (c * t->height + y) * t->width;
            convert_line(t, row, at, c, y, out + to, apart);
        }
}

static void convert_whole(const lks_transform *t, const void *row, float *out) {
    int64_t plane = t->height * t->width;
    int64_t apart = t->channels_last ? t->channels : 1;
    for (int64_t c = 0; c < t->channels; c++)
        convert(t, row, c * plane, 1, plane, c, out + (t->channels_last ? c : c * plane), apart);
}

void lks_transform_apply(const lks_transform *transform, const void *row, lks_philox_block random,
                         float *out) {
    if (transform->crop == 0 && !transform->flip) {
        convert_whole(transform, row, out);
        return;
    }
    uint64_t places = 2 * (uint64_t)transform->crop + 1;
    cut at = {
        .line = (int64_t)lks_philox_below(random.word[0], places) - transform->crop,
        .column = (int64_t)lks_philox_below(random.word[1], places) - transform->crop,
        .mirrored = transform->flip && random.word[2] >> 31 != 0,
    };
    convert_cut(transform, row, &at, out);
}
