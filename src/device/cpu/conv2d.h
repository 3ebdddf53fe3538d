/* The ways to compute a convolution, and what they share. Included by src/device/cpu alone. */
#ifndef LKS_DEVICE_CPU_CONV2D_H
#define LKS_DEVICE_CPU_CONV2D_H

#include "device/cpu/cpu.h"

/* conv2d.c checks the description, then takes the first that fits. */
extern const lks_op_type lks_cpu_conv2d_winograd, lks_cpu_conv2d_direct;

/* Can Winograd's method compute this, and is it the faster one? */
bool lks_conv2d_winograd_fits(lks_dtype type, const lks_conv2d_desc *desc, int64_t max_batch);

/* The gradient of the bias, and the ReLU's mask on dy. type: of y and dy; scratch:
 * lks_cpu_bias_scratch_bytes. */
void lks_conv2d_bias_backward(const lks_device *device, lks_dtype type, const lks_conv2d_desc *desc,
                              const lks_op_args *args, void *scratch);

/* What backward of an empty batch does. */
void lks_conv2d_clear_gradients(const lks_conv2d_desc *desc, const lks_op_args *args);

#endif
