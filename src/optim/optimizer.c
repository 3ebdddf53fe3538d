#include "optim/optimizer.h"

#include <stdlib.h>
#include <string.h>

struct lks_optimizer {
    lks_device *device;
    const lks_optimizer_kind *kind;
    void *config;
    const lks_shard_plan *plan;
    char *hyper;
    int state_count;
    float *states[LKS_OPTIMIZER_STATE_MAX];
    int64_t steps;
    double lr; /* of the step under way */
};

enum { NAME_MAX_COUNT = 32 };

/* LKS_ECONFIG that names the nearest known type. */
static lks_status fail_unknown(const char *type) {
    const char *names[NAME_MAX_COUNT];
    int count = lks_optimizer_names(names, NAME_MAX_COUNT);
    const char *nearest = lks_nearest_name(type, names, (size_t)count);
    if (nearest)
        return lks_fail(LKS_ECONFIG, "unknown optimizer '%s': did you mean '%s'?", type, nearest);
    lks_strbuf list = {0};
    for (int i = 0; i < count; i++)
        lks_strbuf_add(&list, "%s%s", i ? ", " : "", names[i]);
    lks_status status = lks_fail(LKS_ECONFIG, "unknown optimizer '%s': expected one of %s", type,
                                 list.failed ? "the known ones" : list.text);
    lks_strbuf_free(&list);
    return status;
}

/* Every hyper-parameter in lks_spec's text form. */
static lks_status describe(lks_optimizer *optimizer) {
    lks_strbuf text = {0}, value = {0};
    for (const lks_option *o = optimizer->kind->options->options; o->key; o++) {
        lks_strbuf_free(&value);
        lks_option_print(o, optimizer->config, &value);
        lks_strbuf_add(&text, "%s%s=", text.length ? " " : "", o->key);
        for (size_t i = 0; i < value.length; i++) {
            if (value.text[i] != ' ') lks_strbuf_add_bytes(&text, value.text + i, 1);
        }
    }
    bool failed = text.failed || value.failed;
    lks_strbuf_free(&value);
    if (failed) {
        lks_strbuf_free(&text);
        return lks_fail(LKS_ENOMEM, "out of memory");
    }
    optimizer->hyper = text.text;
    return LKS_OK;
}

static lks_status configure(lks_optimizer *optimizer, const lks_spec *spec) {
    const char *type = spec->type;
    optimizer->kind = lks_optimizer_find(type);
    if (!optimizer->kind) return fail_unknown(type);
    const lks_option_table *table = optimizer->kind->options;
    char what[64];
    snprintf(what, sizeof what, "optimizer (%s)", type);

    void *config = calloc(1, table->struct_bytes);
    if (!config) return lks_fail(LKS_ENOMEM, "%s: out of memory", what);
    lks_status status = lks_options_parse(table, config, spec->options, what);
    if (status) {
        free(config); /* the parser has freed what is inside */
        return status;
    }
    optimizer->config = config;
    if (optimizer->kind->check) status = optimizer->kind->check(config);
    if (!status) status = describe(optimizer);
    return status ? lks_fail_in(status, "%s", what) : LKS_OK;
}

static lks_status allocate_states(lks_optimizer *optimizer) {
    size_t bytes;
    if (!lks_size_mul((size_t)optimizer->plan->state_count, sizeof(float), &bytes)) {
        return lks_fail(LKS_ENOMEM, "state of optimizer %s: %lld elements are too many",
                        lks_optimizer_name(optimizer), (long long)optimizer->plan->state_count);
    }
    lks_stream *stream = lks_device_stream(optimizer->device, LKS_STREAM_COMPUTE);
    int count = optimizer->kind->state_count(optimizer->config);
    for (int i = 0; i < count; i++) {
        void *state;
        lks_status status = lks_device_alloc(optimizer->device, bytes, &state);
        if (!status) {
            optimizer->states[i] = state;
            optimizer->state_count = i + 1;
            status = lks_device_zero(optimizer->device, stream, state, bytes);
        }
        if (status)
            return lks_fail_in(status, "state %s of optimizer %s", optimizer->kind->state_names[i],
                               lks_optimizer_name(optimizer));
    }
    return LKS_OK;
}

lks_status lks_optimizer_create(lks_device *device, const lks_spec *spec,
                                const lks_shard_plan *plan, lks_optimizer **out) {
    *out = NULL;
    if (!spec || !spec->type) return lks_fail(LKS_EINVAL, "no optimizer given: set its type");
    lks_optimizer *optimizer = calloc(1, sizeof *optimizer);
    if (!optimizer) return lks_fail(LKS_ENOMEM, "optimizer %s: out of memory", spec->type);
    optimizer->device = device;
    optimizer->plan = plan;

    lks_status status = configure(optimizer, spec);
    if (status && spec->where) status = lks_fail_in(status, "%s", spec->where);
    if (!status) status = allocate_states(optimizer);
    if (status) {
        lks_optimizer_destroy(optimizer);
        return status;
    }
    *out = optimizer;
    return LKS_OK;
}

void lks_optimizer_destroy(lks_optimizer *optimizer) {
    if (!optimizer) return;
    for (int i = 0; i < optimizer->state_count; i++)
        lks_device_free(optimizer->device, optimizer->states[i]);
    free(optimizer->hyper);
    if (optimizer->config) lks_options_free(optimizer->kind->options, optimizer->config);
    free(optimizer->config);
    free(optimizer);
}

const char *lks_optimizer_name(const lks_optimizer *optimizer) {
    return optimizer->kind->options->name;
}

double lks_optimizer_base_lr(const lks_optimizer *optimizer) {
    return ((const lks_optimizer_common *)optimizer->config)->lr;
}

size_t lks_optimizer_state_bytes(const lks_optimizer *optimizer) {
    return (size_t)optimizer->plan->state_count * sizeof(float) * (size_t)optimizer->state_count;
}

const char *lks_optimizer_hyper(const lks_optimizer *optimizer) {
    return optimizer->hyper;
}

int lks_optimizer_state_array_count(const lks_optimizer *optimizer) {
    return optimizer->state_count;
}

const char *lks_optimizer_state_name(const lks_optimizer *optimizer, int index) {
    return optimizer->kind->state_names[index];
}

float *lks_optimizer_state(lks_optimizer *optimizer, int index) {
    return optimizer->states[index];
}

int64_t lks_optimizer_steps(const lks_optimizer *optimizer) {
    return optimizer->steps;
}

void lks_optimizer_set_steps(lks_optimizer *optimizer, int64_t steps) {
    optimizer->steps = steps;
}

lks_status lks_optimizer_begin_step(lks_optimizer *optimizer, double lr) {
    if (!(lr >= 0)) {
        return lks_fail(LKS_EINVAL, "optimizer %s, step %lld: learning rate %g: expected >= 0",
                        lks_optimizer_name(optimizer), (long long)optimizer->steps + 1, lr);
    }
    optimizer->lr = lr;
    optimizer->steps++;
    return LKS_OK;
}

lks_status lks_optimizer_step_bucket(lks_optimizer *optimizer, int bucket, float *params,
                                     const float *grads, const double *divisor) {
    const lks_optimizer_common *common = optimizer->config;
    lks_range shard = optimizer->plan->shards[bucket];
    lks_update update = {
        .count = shard.count,
        .param = params + shard.offset,
        .grad = grads + shard.offset,
        .divisor = divisor,
        .grad_scale = 1,
        .lr = optimizer->lr,
        .weight_decay = common->weight_decay,
        .maximize = common->maximize,
        .step = optimizer->steps,
    };
    float *states[LKS_OPTIMIZER_STATE_MAX] = {0};
    for (int i = 0; i < optimizer->state_count; i++)
        states[i] = optimizer->states[i] + shard.state_offset;
    return optimizer->kind->update(optimizer->device,
                                   lks_device_stream(optimizer->device, LKS_STREAM_COMPUTE),
                                   &update, optimizer->config, states);
}

lks_status lks_optimizer_step(lks_optimizer *optimizer, double lr, float *params,
                              const float *grads, const double *divisor) {
    lks_status status = lks_optimizer_begin_step(optimizer, lr);
    for (int b = 0; !status && b < optimizer->plan->bucket_count; b++)
        status = lks_optimizer_step_bucket(optimizer, b, params, grads, divisor);
    return status;
}
