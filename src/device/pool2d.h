/* The geometry of pooling, the same for every back end: tables that say which inputs an output
 * covers and which outputs cover an input. Made once, they also make adaptive windows, which differ
 * in size, nothing special. Included by src/device alone. */
#ifndef LKS_DEVICE_POOL2D_H
#define LKS_DEVICE_POOL2D_H

#include "device/op.h"

/* One axis of one output place: it covers inputs begin + k * step for k in [first, last), the taps
 * that fall inside the image. */
typedef struct lks_pool_window {
    int64_t begin, first, last;
    int64_t extent; /* inputs to divide by, along this axis */
} lks_pool_window;

/* The outputs [first, last) whose windows reach over an input place. */
typedef struct lks_pool_cover {
    int64_t first, last;
} lks_pool_cover;

typedef struct lks_pool_axis {
    int64_t in, out, step;
    lks_pool_window *window; /* [out] */
    lks_pool_cover *cover;   /* [in] */
} lks_pool_axis;

/* Axis 0 is the height, 1 the width. LKS_EINVAL where a window covers no input, LKS_ENOMEM; also
 * after an error lks_pool_axis_destroy ends *out. */
lks_status lks_pool_axis_create(const lks_pool2d_desc *desc, int axis, lks_pool_axis *out);
void lks_pool_axis_destroy(lks_pool_axis *axis);

#endif
