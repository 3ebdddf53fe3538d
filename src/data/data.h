/* Data sets, the sampler, and the prefetching loader. */
#ifndef LKS_DATA_H
#define LKS_DATA_H

#include "base/base.h"
#include "device/device.h"
#include "lockstep/data.h"

/* ---- data sets (lockstep/data.h has open, from_arrays, destroy, count, input_shape) ---- */

typedef enum lks_target_kind {
    LKS_TARGET_NONE,
    LKS_TARGET_CLASSES,
    LKS_TARGET_VALUES
} lks_target_kind;
lks_target_kind lks_dataset_target_kind(const lks_dataset *dataset);
const lks_shape *lks_dataset_target_shape(const lks_dataset *dataset); /* of VALUES, per sample */
const char *
lks_dataset_describe(const lks_dataset *dataset); /* "examples/digits/digits.h5 (train/inputs)" */

/* Bytes of memory that it holds of its own, or will when blocks have been read. */
int64_t lks_dataset_memory_bytes(const lks_dataset *dataset);

/* Reads samples by index (each in 0 .. count-1): inputs float32 [n, input shape] row-major as
 * stored (uint8 0..255 stays 0..255), targets int32 [n] or float32 [n, target shape]; either may be
 * NULL. LKS_EIO; LKS_EDATA for a value that is not finite, naming file, data-set path, index and
 * value. One thread at a time. */
lks_status lks_dataset_read(lks_dataset *dataset, const int64_t *indices, int64_t n, float *inputs,
                            void *targets);

/* Checks all labels: each in 0 .. classes-1, or equal to ignore_index. LKS_EDATA names file, path,
 * index and value. */
lks_status lks_dataset_check_labels(lks_dataset *dataset, int64_t classes, int64_t ignore_index);

/* The registry of formats, as in engine.h. */
const lks_option_table *lks_dataset_options(const char *type);
const char *lks_dataset_type(int index);

/* ---- the sampler: which samples are in which global batch. Pure functions; the same on every rank
 * and for every rank count ---- */

/* The permutation of 0 .. count-1 of an epoch, from (seed, epoch) alone. order: [count], count <=
 * 2^32. Fisher-Yates: order starts as 0 .. count-1; for i from count-1 down to 1, order[i] and
 * order[j] are exchanged, where j = floor(w * (i + 1) / 2^32) and w is word i % 4 of Philox block
 * i / 4 (upper 64 counter bits: epoch >> 32) under
 * lks_philox_key_make(seed, LKS_RANDOM_SHUFFLE, epoch mod 2^32). */
void lks_sampler_permutation(uint64_t seed, int64_t epoch, int64_t count, int64_t *order);

/* Global batch `step` of an epoch is order[begin, end); a rank's part of it is lks_split of that.
 */
int64_t lks_sampler_steps(int64_t count, int64_t batch_size, bool drop_last);
void lks_sampler_batch(int64_t count, int64_t batch_size, int64_t step, int64_t *begin,
                       int64_t *end);

/* ---- the loader ---- */

/* Settings of the run file's `data` section beside the data sets themselves; option table
 * lks_data_settings_options. */
typedef struct lks_data_settings {
    bool shuffle;         /* train only */
    bool drop_last;       /* train only */
    int64_t memory_bytes; /* budget of one data set in memory */
    int64_t prefetch;     /* batches read ahead by the loader's thread */
    double scale;         /* inputs are multiplied by it: 0.00392156862745098 for bytes */
    lks_float_list mean,
        std; /* then (x - mean[c]) / std[c]; one number for all channels or one each; empty: none */
    /* Augmentation comes first, on the stored numbers (padding is 0 before scale and mean), and is
     * drawn from (seed, epoch, sample): Philox block `sample` under
     * lks_philox_key_make(seed, LKS_RANDOM_AUGMENT, epoch mod 2^32). */
    int64_t random_crop;  /* train only: pixels of zero padding on each side before a random crop to
                             the size; 0: none */
    bool horizontal_flip; /* train only: flips half of the images */
} lks_data_settings;
extern const lks_option_table lks_data_settings_options;

typedef struct lks_loader lks_loader;

typedef struct lks_loader_config {
    uint64_t seed;
    int64_t batch_size; /* global */
    int rank, size;
    bool training;                     /* shuffle, drop_last and augmentation apply */
    const lks_data_settings *settings; /* borrowed */
    lks_layout layout;                 /* of the inputs it writes */
} lks_loader_config;

/* Starts the thread. dataset and device are borrowed. LKS_ECONFIG (mean of 2 numbers for 3
 * channels), LKS_ENOMEM. */
lks_status lks_loader_create(lks_dataset *dataset, lks_device *device,
                             const lks_loader_config *config, lks_loader **out);
void lks_loader_destroy(lks_loader *loader);

/* Largest part of a batch that this rank can get. */
int64_t lks_loader_max_rows(const lks_loader *loader);
int64_t lks_loader_steps(const lks_loader *loader);

/* Begins epoch `epoch` at its step `first_step` (0, or where a restored run stood); prefetching
 * starts. */
lks_status lks_loader_begin(lks_loader *loader, int64_t epoch, int64_t first_step);

/* A batch on the host, this rank's part. rows may be 0. Memory is the loader's until
 * lks_loader_release. */
typedef struct lks_host_batch {
    int64_t step;        /* of the epoch */
    int64_t rows;        /* of this rank */
    int64_t first_row;   /* place of the first in the global batch */
    int64_t global_rows; /* of all ranks */
    const float *inputs; /* [rows, input] in the configured layout, transformed */
    const void *targets; /* int32 [rows] or float32 [rows, target shape]; NULL without targets */
    int slot;
} lks_host_batch;

/* The next batch; waits for the thread. Reports the thread's errors with their detail. After the
 * last step: LKS_EINVAL. */
lks_status lks_loader_next(lks_loader *loader, lks_host_batch *out);
/* Gives the batch's memory back for reading ahead, once its copy to the device is done. */
void lks_loader_release(lks_loader *loader, const lks_host_batch *batch);
/* Seconds that lks_loader_next has waited since lks_loader_begin. */
double lks_loader_wait_seconds(const lks_loader *loader);
/* Seconds of processor time that its thread has taken since it was created; 0 where the system does
 * not tell. */
double lks_loader_thread_seconds(const lks_loader *loader);

#endif
