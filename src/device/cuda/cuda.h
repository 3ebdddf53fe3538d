/* The CUDA back end. Host code is C where it launches no kernels; a .cu file holds kernels and the
 * operation or function that launches them, and includes kernel.cuh. Included by src/device/cuda
 * alone, from C11 and from CUDA C++17.
 *
 * Precision. The device computes in one element type (lks_device_dtype): float32, or bfloat16.
 * Activations (x, y and their gradients dx, dy) and parameters are of that type; gradients of
 * parameters (dparams), buffers, optimizer state and all sums are float32 or float64.
 */
#ifndef LKS_DEVICE_CUDA_H
#define LKS_DEVICE_CUDA_H

#ifdef __cplusplus
#include <cuda_runtime.h>
extern "C" {
#else
#include <cuda_runtime_api.h>
#endif

#include "device/backend.h"

enum {
    /* Blocks of a reduction over a whole array: a fixed number, so that the order in which partial
     * results are added depends on nothing. */
    LKS_CUDA_PARTIALS = 1024,
    /* Partial results (float64) for each of those blocks. */
    LKS_CUDA_PARTIAL_VALUES = 4
};

typedef struct lks_cuda_stream {
    lks_stream base;
    cudaStream_t handle;
    /* Device memory [LKS_CUDA_PARTIALS * LKS_CUDA_PARTIAL_VALUES] for one reduction at a time: the
     * stream keeps them apart. */
    double *partials;
} lks_cuda_stream;

typedef struct lks_cuda_event {
    lks_event base;
    cudaEvent_t handle;
} lks_cuda_event;

typedef struct lks_cuda_recording {
    lks_recording base;
    cudaGraphExec_t handle;
} lks_cuda_recording;

typedef struct lks_cuda_device {
    lks_device base;
    int ordinal; /* among the devices that this process sees */
    int multiprocessors;
    size_t total_bytes;
    char name[96];
    cudaMemPool_t pool;
    struct lks_blas *blas; /* matmul.h */
    lks_cuda_stream streams[LKS_STREAM_COUNT];
} lks_cuda_device;

extern const lks_device_backend lks_cuda_backend;

static inline lks_cuda_device *lks_cuda_device_of(const lks_stream *stream) {
    return (lks_cuda_device *)stream->device;
}

static inline cudaStream_t lks_cuda_handle(const lks_stream *stream) {
    return ((const lks_cuda_stream *)stream)->handle;
}

/* Translates the result of `call` ("softmax", "cudaMemcpyAsync"): the detail of an error names the
 * GPU, the call, CUDA's text, and what can be done. LKS_EDEVICE, LKS_ENOMEM. */
lks_status lks_cuda_check(const lks_device *device, cudaError_t error, const char *call);

/* Makes the device current for the calling thread, as launches and allocations need it. */
lks_status lks_cuda_use(const lks_device *device);

/* memory.c */
extern const lks_memory_ops lks_cuda_memory_ops;
lks_status lks_cuda_memory_open(lks_cuda_device *device);
void lks_cuda_memory_close(lks_cuda_device *device);

/* streams.c */
extern const lks_stream_ops lks_cuda_stream_ops;
lks_status lks_cuda_streams_open(lks_cuda_device *device);
void lks_cuda_streams_close(lks_cuda_device *device);

/* graph.c: recordings are CUDA graphs. */
lks_status lks_cuda_recording_begin(lks_stream *stream);
lks_status lks_cuda_recording_end(lks_stream *stream, lks_recording **out);
lks_status lks_cuda_recording_replay(lks_recording *recording, lks_stream *stream);
void lks_cuda_recording_destroy(lks_recording *recording);

/* gradients.c: what backward of an empty batch does: zeroes the gradients, float32 and `count`
 * each, unless they are accumulated or not wanted. */
lks_status lks_cuda_clear_gradients(lks_stream *stream, const lks_op_args *args,
                                    const int64_t *count, int params);

/* columns.cu: bytes of scratch memory for lks_cuda_bias_backward over at most max_rows rows. */
size_t lks_cuda_bias_scratch_bytes(int64_t max_rows, int64_t width);

/* The gradient of a bias, and of a ReLU behind it. dy, y: [rows, width]. y not NULL: dy is set to
 * zero where y <= 0. dbias not NULL: gets (accumulate: plus) the sums of dy over the rows. The
 * order of the sums depends on rows and width alone. rows >= 1. */
lks_status lks_cuda_bias_backward(lks_stream *stream, int64_t rows, int64_t width, const void *y,
                                  void *dy, float *dbias, bool accumulate, void *scratch);

/* ranges.c: NVTX, which costs next to nothing where no profiler watches. */
extern const lks_range_ops lks_cuda_range_ops;

/* eltwise.cu: y = act(x), and dx = dy * act'(...) where v is what lks_cuda_slope_from_y says.
 * alpha: leaky_relu's. count elements of the device's type; in place is legal. */
lks_status lks_cuda_activate(lks_stream *stream, lks_activation activation, float alpha,
                             int64_t count, const void *x, void *y);
lks_status lks_cuda_activate_backward(lks_stream *stream, lks_activation activation, float alpha,
                                      int64_t count, const void *v, const void *dy, void *dx);
/* Is the slope computed from y, or from x? */
bool lks_cuda_slope_from_y(lks_activation activation, float alpha);

/* linear.c: what lks_device_backend says of them. */
bool lks_cuda_fuses(const lks_device *device, lks_op_kind kind, const void *desc,
                    lks_activation activation);
bool lks_cuda_chain(const lks_device *device, lks_op_kind kind, void *first, void *second);

/* Operations; each in the file of its name. */
extern const lks_op_type lks_cuda_linear;
extern const lks_op_type lks_cuda_conv2d;
extern const lks_op_type lks_cuda_pool2d;
extern const lks_op_type lks_cuda_batch_norm;
extern const lks_op_type lks_cuda_layer_norm;
extern const lks_op_type lks_cuda_softmax;
extern const lks_op_type lks_cuda_eltwise;
extern const lks_op_type lks_cuda_dropout;
extern const lks_op_type lks_cuda_relayout;
extern const lks_op_type lks_cuda_add;
extern const lks_op_type lks_cuda_fork;

lks_loss_fn lks_cuda_loss;
lks_cast_fn lks_cuda_cast;
lks_add_fn lks_cuda_vector_add;
lks_norm_fn lks_cuda_norm;
lks_decide_fn lks_cuda_decide;
lks_sgd_fn lks_cuda_sgd;
lks_adam_fn lks_cuda_adam;
lks_rmsprop_fn lks_cuda_rmsprop;
lks_adagrad_fn lks_cuda_adagrad;

#ifdef __cplusplus
}
#endif
#endif
