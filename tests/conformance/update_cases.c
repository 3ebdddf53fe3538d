#include "conformance/update_cases.h"

#include <math.h>
#include <stdlib.h>

const update_case cases[CASES] = {
    {.lr = 0.1},
    {.lr = 0.1, .weight_decay = 0.05, .maximize = true},
    {.lr = 0.1, .momentum = 0.9, .dampening = 0.25, .weight_decay = 0.05},
    {.lr = 0.1, .momentum = 0.9, .nesterov = true, .weight_decay = 0.05},
    {.kind = ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
    {.kind = ADAM,
     .lr = 0.01,
     .beta1 = 0.8,
     .beta2 = 0.95,
     .eps = 1e-6,
     .weight_decay = 0.1,
     .amsgrad = true},
    {.kind = ADAM, .lr = 0.01, .beta1 = 0.3, .beta2 = 0.99, .eps = 1e-8, .maximize = true},
    {.kind = ADAM,
     .lr = 0.01,
     .beta1 = 0.9,
     .beta2 = 0.999,
     .eps = 1e-8,
     .weight_decay = 0.1,
     .decoupled = true},
    {.kind = ADAM,
     .lr = 0.01,
     .beta1 = 0.5,
     .beta2 = 0.6,
     .eps = 0.1,
     .weight_decay = 0.1,
     .decoupled = true,
     .amsgrad = true},
    {.kind = RMSPROP, .lr = 0.01, .alpha = 0.9, .eps = 1e-8, .weight_decay = 0.05},
    {.kind = RMSPROP, .lr = 0.01, .alpha = 0.9, .eps = 1e-8, .momentum = 0.8},
    {.kind = RMSPROP, .lr = 0.01, .alpha = 0.4, .eps = 1e-2, .centered = true, .maximize = true},
    {.kind = RMSPROP,
     .lr = 0.01,
     .alpha = 0.9,
     .eps = 1e-3,
     .momentum = 0.9,
     .centered = true,
     .weight_decay = 0.1},
    {.kind = ADAGRAD, .lr = 0.1, .eps = 1e-10},
    {.kind = ADAGRAD,
     .lr = 0.1,
     .lr_decay = 0.5,
     .weight_decay = 0.1,
     .initial_accumulator_value = 0.25,
     .eps = 1e-3,
     .maximize = true},
};

int state_count(const update_case *c) {
    switch (c->kind) {
    case SGD:
        return c->momentum != 0;
    case ADAM:
        return c->amsgrad ? 3 : 2;
    case RMSPROP:
        return 1 + (c->momentum != 0) + c->centered;
    case ADAGRAD:
        return 1;
    }
    return 0;
}

double initial_state(const update_case *c) {
    return c->kind == SGD ? (double)NAN : c->initial_accumulator_value;
}

lks_status update_once(lks_device *device, const update_case *c, const lks_update *update,
                       void *const s[MAX_STATES]) {
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    const lks_sgd_update sgd = {c->momentum, c->dampening, c->nesterov, s[0]};
    const lks_adam_update adam = {c->beta1, c->beta2, c->eps, c->decoupled, s[0], s[1], s[2]};
    const bool has_buffer = c->momentum != 0;
    const lks_rmsprop_update rmsprop = {.alpha = c->alpha,
                                        .eps = c->eps,
                                        .momentum = c->momentum,
                                        .square_avg = s[0],
                                        .grad_avg = c->centered ? s[has_buffer ? 2 : 1] : NULL,
                                        .momentum_buffer = has_buffer ? s[1] : NULL};
    const lks_adagrad_update adagrad = {c->lr_decay, c->eps, s[0]};
    switch (c->kind) {
    case SGD:
        return lks_device_sgd(device, stream, update, &sgd);
    case ADAM:
        return lks_device_adam(device, stream, update, &adam);
    case RMSPROP:
        return lks_device_rmsprop(device, stream, update, &rmsprop);
    case ADAGRAD:
        return lks_device_adagrad(device, stream, update, &adagrad);
    }
    return LKS_EINVAL;
}

/* Puts into device memory what `update` says about this step, and nonsense in its place. */
static void move_to_device(lks_device *device, const update_case *c, lks_update *update,
                           void *rates, void *control) {
    const double momentum = c->kind == ADAM ? c->beta1 : c->momentum;
    const double host_rates[] = {update->lr, update->step == 1 ? (double)NAN : momentum};
    const lks_update_control host_control = {.step = update->step,
                                             .grad_scale = update->grad_scale};
    check_upload(device, rates, host_rates, sizeof host_rates);
    check_upload(device, control, &host_control, sizeof host_control);
    update->rates = rates;
    update->control = control;
    update->lr = update->grad_scale = 1e3;
    update->step = 77;
}

/* ---- operands ---- */

arrays make_arrays(int64_t count, uint64_t seed) {
    arrays a = {.param = check_random(seed, count, -1, 1)};
    for (int i = 0; i < STEPS; i++) {
        a.grad[i] = check_random(seed + 1 + (uint64_t)i, count, -1, 1);
        for (int64_t e = 0; e < count; e++)
            a.grad[i][e] += copysignf(0.25f, a.grad[i][e]);
    }
    for (int i = 0; i < MAX_STATES; i++)
        a.state[i] = check_random(0, count, 0, 1);
    return a;
}

void free_arrays(arrays *a) {
    free(a->param);
    for (int i = 0; i < STEPS; i++)
        free(a->grad[i]);
    for (int i = 0; i < MAX_STATES; i++)
        free(a->state[i]);
}

/* ---- runs ---- */

void run_updates(lks_device *device, const update_case *c, int64_t count, const arrays *a,
                 bool on_device) {
    const size_t bytes = (size_t)count * sizeof(float);
    const double divisor = c->divisor != 0 ? c->divisor : 1;
    void *p = check_device_copy(device, a->param, bytes),
         *g = check_device_copy(device, NULL, bytes);
    void *d = check_device_copy(device, &divisor, sizeof divisor), *s[MAX_STATES] = {NULL};
    void *rates = check_device_copy(device, NULL, 2 * sizeof(double));
    void *control = check_device_copy(device, NULL, sizeof(lks_update_control));
    for (int i = 0; i < state_count(c); i++) {
        for (int64_t e = 0; e < count; e++)
            a->state[i][e] = (float)initial_state(c);
        s[i] = check_device_copy(device, a->state[i], bytes);
    }
    for (int step = 0; step < STEPS; step++) {
        lks_update update = {.count = count,
                             .param = p,
                             .grad = g,
                             .divisor = d,
                             .grad_scale = c->grad_scale != 0 ? c->grad_scale : 1,
                             .clip_value = c->clip_value,
                             .lr = c->lr,
                             .weight_decay = c->weight_decay,
                             .maximize = c->maximize,
                             .step = step + 1};
        if (on_device) move_to_device(device, c, &update, rates, control);
        check_upload(device, g, a->grad[step], bytes);
        check_ok(update_once(device, c, &update, s));
        check_ok(lks_stream_synchronize(lks_device_stream(device, LKS_STREAM_COMPUTE)));
    }
    check_download(device, a->param, p, bytes);
    for (int i = 0; i < state_count(c); i++) {
        check_download(device, a->state[i], s[i], bytes);
        lks_device_free(device, s[i]);
    }
    lks_device_free(device, p);
    lks_device_free(device, g);
    lks_device_free(device, d);
    lks_device_free(device, rates);
    lks_device_free(device, control);
}
