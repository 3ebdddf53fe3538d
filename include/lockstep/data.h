/* Data sets: from files by a spec, or from arrays in memory. */
#ifndef LOCKSTEP_DATA_H
#define LOCKSTEP_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "lockstep/spec.h"
#include "lockstep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lks_dataset lks_dataset;

/* Opens a data set of a registered format (docs/config.md: hdf5, idx, cifar10). Every rank that
 * reads opens its own handle; not collective. memory_bytes: read whole into memory if it fits this
 * budget, otherwise in blocks as needed. LKS_EIO, LKS_EDATA (naming file, data-set path, index and
 * value), LKS_ECONFIG, LKS_ENOMEM. */
lks_status lks_dataset_open(const lks_spec *spec, int64_t memory_bytes, lks_dataset **out);

/* A data set over arrays that the caller owns and keeps unchanged until lks_dataset_destroy.
 * inputs: float32 [count, input shape], row-major. Exactly one of labels (int64 [count]) and values
 * (float32 [count, value shape]) is given, or neither, for prediction only. The arrays hold the
 * *whole* data set on every rank (each rank uses its part of every batch). LKS_EINVAL, LKS_EDATA
 * for a value that is not finite, LKS_ENOMEM. */
lks_status lks_dataset_from_arrays(int64_t count, const lks_shape *input, const float *inputs,
                                   const int64_t *labels, const lks_shape *value,
                                   const float *values, lks_dataset **out);

/* NULL is legal. */
void lks_dataset_destroy(lks_dataset *dataset);

int64_t lks_dataset_count(const lks_dataset *dataset);
const lks_shape *lks_dataset_input_shape(const lks_dataset *dataset);

#ifdef __cplusplus
}
#endif
#endif
