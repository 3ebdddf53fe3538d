/* Runs device operations for the conformance tests. The same cases run on every kind of device that
 * this machine can open; a test computes what it expects with plain double-precision loops.
 *
 * A run is strict about what an operation promised: memory that it may not rely on is overwritten
 * with NaN between forward and backward, bytes behind saved and scratch are watched, and everything
 * is computed twice and in place where the operation allows it, which must give the same bits.
 */
#ifndef LKS_TESTS_OPS_CHECK_H
#define LKS_TESTS_OPS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/op.h"

/* Runs the tests once for each kind of device; a test gets its lks_device as *state. Arguments of
 * the program, PROGRAM [DEVICE [PRECISION]], ask for one kind, which must be there then, and for a
 * precision other than fp32. Returns the number of failed tests. */
int check_on_every_device(int argc, char **argv, const struct CMUnitTest *tests, size_t count);

/* In what the devices compute. */
lks_precision check_precision(void);
/* What a device may be wrong by in its elements, relative: `fp32`, and with bf16 the rounding of
 * the result, 2^-8 of itself at most, beside it. */
double check_tolerance(double fp32);
/* x as an element of the device holds it. */
float check_rounded(float x);

/* ---- numbers ---- */

/* `count` float32 numbers uniform in [low, high), the same for the same seed. The caller frees
 * them. */
float *check_random(uint64_t seed, int64_t count, double low, double high);

/* `count` zeros. The caller frees them. */
double *check_zeros(int64_t count);

/* Fails the test unless every |got - want| <= tolerance * max |want|, naming the worst place. */
void check_close(const char *what, const float *got, const double *want, int64_t count,
                 double tolerance);

/* The same for elements of the device, with bf16 rounded once: that is wrong by 2^-8 of each number
 * itself, while cutting off its digits would be by up to 2^-7. */
void check_close_elements(const char *what, const float *got, const double *want, int64_t count,
                          double fp32);

/* Fails the test unless the call succeeds, with its error message. */
void check_ok(lks_status status);

/* `count` numbers from or to device memory. */
void check_upload(lks_device *device, void *to, const void *from, size_t bytes);
void check_download(lks_device *device, void *to, const void *from, size_t bytes);
/* `count` elements of the device: float32 on the host, of lks_device_dtype there. The caller frees
 * what is downloaded. */
void *check_upload_elements(lks_device *device, const float *from, int64_t count);
float *check_download_elements(lks_device *device, const void *memory, int64_t count);
/* Device memory holding a copy of `bytes` of `from` (NULL: uninitialised); lks_device_free ends it.
 */
void *check_device_copy(lks_device *device, const void *from, size_t bytes);

/* ---- one operation, forward and backward ---- */

enum {
    CHECK_MAX_PARAMS = 2,
    /* Rows up to which every width is tried: those that accesses to memory may be as wide as. */
    CHECK_NARROW = 17
};

/* A test sets the first part, calls check_call_fill for random operands (or sets its own, from
 * malloc), then check_call_run, reads the results, and ends with check_call_free. */
typedef struct check_call {
    lks_op_kind kind;
    const void *desc;
    int64_t max_batch, batch;
    int64_t x_count, y_count; /* elements of a sample */
    int params;
    int64_t param_count[CHECK_MAX_PARAMS];
    int buffers;
    int64_t buffer_count[CHECK_MAX_PARAMS];
    bool has_x2;  /* a second input of x_count, and its gradient */
    bool has_dy2; /* a second gradient of y_count */
    bool training;
    bool accumulate;
    bool forward_only;
    bool without_dx, without_dx2;          /* dx NULL, dx2 NULL */
    bool without_dparams;                  /* dparams NULL */
    bool without_dparam[CHECK_MAX_PARAMS]; /* one of its entries NULL */
    int64_t step, first_row, batches_tracked;
    lks_all_reduce_fn all_reduce;
    void *all_reduce_data;

    /* operands, host memory */
    float *x, *x2, *dy, *dy2;
    float *param[CHECK_MAX_PARAMS];
    float *buffer[CHECK_MAX_PARAMS]; /* updated */

    /* results, host memory; dparam starts with what accumulate adds to */
    float *y, *dx, *dx2;
    float *dparam[CHECK_MAX_PARAMS];
} check_call;

/* Allocates operands and results; random numbers in [-1, 1), buffers in [0.5, 1.5). */
void check_call_fill(check_call *call, uint64_t seed);

/* Forward, then backward unless forward_only. Returns the first failure of the operation. */
lks_status check_call_run(lks_device *device, check_call *call);

/* A call without parameters and buffers that has been run: with 1 and 2 threads it must give the
 * bits in y and dx. The number of threads is the CPU's matter alone. */
void check_call_threads(const lks_device *device, const check_call *call);

void check_call_free(check_call *call);

#endif
