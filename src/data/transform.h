/* From a stored row to the model's input: augmentation, normalisation, layout, in one pass. */
#ifndef LKS_DATA_TRANSFORM_H
#define LKS_DATA_TRANSFORM_H

#include "data/data.h"

typedef struct lks_transform {
    int64_t channels, height, width; /* inputs without channels: 1 channel, 1 line */
    bool channels_last;              /* layout written */
    bool from_bytes;                 /* rows are uint8, else float32 */
    float *gain, *offset; /* [channels]: y = x * gain + offset is (x * scale - mean) / std */
    int64_t crop;         /* pixels of padding; 0: none */
    bool flip;
} lks_transform;

/* dtype: of the rows, LKS_U8 or LKS_F32. training false: no augmentation. LKS_ECONFIG where mean or
 * std have neither one number nor one for each channel, or where augmentation needs images;
 * LKS_ENOMEM. */
lks_status lks_transform_create(const lks_shape *shape, lks_dtype dtype,
                                const lks_data_settings *settings, bool training, lks_layout layout,
                                lks_transform *out);
void lks_transform_free(lks_transform *transform);

/* One sample. random: 4 words for its augmentation: word 0 chooses the crop's first line, word 1
 * its first column (each lks_philox_below(word, 2 * crop + 1) - crop), the highest bit of word 2
 * the flip, which comes after the crop. */
void lks_transform_apply(const lks_transform *transform, const void *row, lks_philox_block random,
                         float *out);

#endif
