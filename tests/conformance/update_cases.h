/* Optimizers' updates on a device, for the conformance tests: cases with all options, operands for
 * them, and how they are run. */
#ifndef LKS_TESTS_UPDATE_CASES_H
#define LKS_TESTS_UPDATE_CASES_H

#include "conformance/ops_check.h"

enum { STEPS = 3, MAX_STATES = 3, CASES = 15 };

typedef enum update_kind { SGD, ADAM, RMSPROP, ADAGRAD } update_kind;

/* The options of all optimizers; kind says which are meant. */
typedef struct update_case {
    update_kind kind;
    double lr, weight_decay;
    bool maximize;
    double momentum, dampening;
    bool nesterov;
    double beta1, beta2, eps;
    bool decoupled, amsgrad;
    double alpha;
    bool centered;
    double lr_decay, initial_accumulator_value;
    double grad_scale, divisor, clip_value;
} update_case;

extern const update_case cases[CASES];

/* In the order of PyTorch's state dictionaries; an array that a case does not have is left out. */
int state_count(const update_case *c);
/* SGD's first step must not read its state: there it is NaN. */
double initial_state(const update_case *c);

/* Host memory; the state is what a run leaves there. */
typedef struct arrays {
    float *param, *grad[STEPS], *state[MAX_STATES];
} arrays;

/* Gradients keep away from 0, around which Adam's step is a jump that magnifies any rounding. */
arrays make_arrays(int64_t count, uint64_t seed);
void free_arrays(arrays *a);

/* One update with device memory as its operands. */
lks_status update_once(lks_device *device, const update_case *c, const lks_update *update,
                       void *const s[MAX_STATES]);
/* STEPS steps over the first `count` elements of the arrays. on_device: rates, scale and step stand
 * in device memory. */
void run_updates(lks_device *device, const update_case *c, int64_t count, const arrays *a,
                 bool on_device);

#endif
