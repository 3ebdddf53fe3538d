#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "optim/group.h"

struct lks_optimizer {
    lks_device *device;
    const lks_optimizer_kind *kind;
    const lks_shard_plan *plan;
    int group_count;
    lks_group *groups;
    lks_segments segments;
    char *hyper;
    float *states[LKS_OPTIMIZER_STATE_MAX]; /* in the kind's order; NULL: not needed */
    size_t state_bytes;
    int64_t steps;
};

enum { NAME_MAX_COUNT = 32 };

static lks_status fail_unknown(const char *type) {
    const char *names[NAME_MAX_COUNT];
    int count = lks_optimizer_names(names, NAME_MAX_COUNT);
    return lks_fail_unknown("optimizer", type, names, (size_t)count);
}

static lks_status configure(lks_optimizer *optimizer, const lks_optimizer_groups *groups) {
    optimizer->kind = lks_optimizer_find(groups->spec.type);
    if (!optimizer->kind) return fail_unknown(groups->spec.type);
    lks_status status = lks_groups_create(groups, optimizer->kind, &optimizer->groups);
    if (status) return status;
    optimizer->group_count = groups->group_count;
    status = lks_segments_create(optimizer->plan, groups, &optimizer->segments);
    if (!status)
        status = lks_groups_describe(optimizer->groups, optimizer->group_count, optimizer->kind,
                                     &optimizer->hyper);
    return status;
}

/* ---- state ---- */

/* Does some group need this array? Groups that do not leave their part of it alone. */
static bool needs_state(const lks_optimizer *optimizer, int index) {
    const lks_optimizer_kind *kind = optimizer->kind;
    if (!kind->state_names[index]) return false;
    for (int g = 0; g < optimizer->group_count; g++) {
        if (kind->needs_state(optimizer->groups[g].config, index)) return true;
    }
    return false;
}

/* Sets state[count] on the device by copies of a small block. */
static lks_status fill(lks_device *device, float *state, int64_t count, float value) {
    enum { BLOCK = 4096 };
    float block[BLOCK];
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COMPUTE);
    lks_status status = LKS_OK;
    for (int i = 0; i < BLOCK; i++)
        block[i] = value;
    for (int64_t done = 0; !status && done < count; done += BLOCK) {
        const int64_t now = count - done < BLOCK ? count - done : BLOCK;
        status = lks_device_copy(device, stream, state + done, block, (size_t)now * sizeof(float),
                                 LKS_COPY_TO_DEVICE);
    }
    lks_status done = lks_stream_synchronize(stream); /* the block ends with this call */
    return status ? status : done;
}

static lks_status initialise_state(lks_optimizer *optimizer, int index) {
    const lks_optimizer_kind *kind = optimizer->kind;
    float *state = optimizer->states[index];
    const int segments = optimizer->segments.first[optimizer->plan->bucket_count];
    lks_status status =
        lks_device_zero(optimizer->device, lks_device_stream(optimizer->device, LKS_STREAM_COMPUTE),
                        state, (size_t)optimizer->plan->state_count * sizeof(float));
    for (int s = 0; kind->initial_state && !status && s < segments; s++) {
        const lks_segment *segment = &optimizer->segments.all[s];
        const double value = kind->initial_state(optimizer->groups[segment->group].config, index);
        if (value != 0)
            status = fill(optimizer->device, state + segment->range.state_offset,
                          segment->range.count, (float)value);
    }
    return status;
}

static lks_status allocate_states(lks_optimizer *optimizer) {
    size_t bytes;
    if (!lks_size_mul((size_t)optimizer->plan->state_count, sizeof(float), &bytes)) {
        return lks_fail(LKS_ENOMEM, "optimizer %s: %lld elements of state are too many",
                        lks_optimizer_name(optimizer), (long long)optimizer->plan->state_count);
    }
    for (int i = 0; i < LKS_OPTIMIZER_STATE_MAX; i++) {
        if (!needs_state(optimizer, i)) continue;
        void *state = NULL;
        const size_t before = lks_device_allocated_bytes(optimizer->device);
        lks_status status = lks_device_alloc(optimizer->device, bytes, &state);
        optimizer->states[i] = state;
        optimizer->state_bytes += lks_device_allocated_bytes(optimizer->device) - before;
        if (!status) status = initialise_state(optimizer, i);
        if (status)
            return lks_fail_in(status, "state %s of optimizer %s", optimizer->kind->state_names[i],
                               lks_optimizer_name(optimizer));
    }
    return LKS_OK;
}

/* The kind's index of the index-th array that is kept. */
static int kept_state(const lks_optimizer *optimizer, int index) {
    int i = 0;
    while (!optimizer->states[i] || index-- > 0)
        i++;
    return i;
}

/* ---- the optimizer ---- */

lks_status lks_optimizer_create(lks_device *device, const lks_optimizer_groups *groups,
                                const lks_shard_plan *plan, lks_optimizer **out) {
    *out = NULL;
    if (!groups || !groups->spec.type)
        return lks_fail(LKS_EINVAL, "no optimizer given: set its type");
    const lks_spec *spec = &groups->spec;
    lks_optimizer *optimizer = calloc(1, sizeof *optimizer);
    if (!optimizer) return lks_fail(LKS_ENOMEM, "optimizer %s: out of memory", spec->type);
    optimizer->device = device;
    optimizer->plan = plan;

    lks_status status = configure(optimizer, groups);
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
    for (int i = 0; i < LKS_OPTIMIZER_STATE_MAX; i++)
        lks_device_free(optimizer->device, optimizer->states[i]);
    free(optimizer->hyper);
    lks_segments_free(&optimizer->segments);
    lks_groups_destroy(optimizer->groups, optimizer->group_count, optimizer->kind);
    free(optimizer);
}

lks_status lks_optimizer_configured_rates(const lks_optimizer_groups *groups,
                                          lks_group_rates *out) {
    const lks_optimizer_kind *kind = lks_optimizer_find(groups->spec.type);
    lks_group *configured;
    if (!kind) return fail_unknown(groups->spec.type);
    lks_status status = lks_groups_create(groups, kind, &configured);
    if (status) return status;
    for (int g = 0; g < groups->group_count; g++)
        out[g] = (lks_group_rates){.lr = configured[g].base_lr, .momentum = configured[g].momentum};
    lks_groups_destroy(configured, groups->group_count, kind);
    return LKS_OK;
}

const char *lks_optimizer_name(const lks_optimizer *optimizer) {
    return optimizer->kind->options->name;
}

int lks_optimizer_group_count(const lks_optimizer *optimizer) {
    return optimizer->group_count;
}

double lks_optimizer_base_lr(const lks_optimizer *optimizer, int group) {
    return optimizer->groups[group].base_lr;
}

double lks_optimizer_momentum(const lks_optimizer *optimizer, int group) {
    return optimizer->groups[group].momentum;
}

size_t lks_optimizer_state_bytes(const lks_optimizer *optimizer) {
    return optimizer->state_bytes;
}

const char *lks_optimizer_hyper(const lks_optimizer *optimizer) {
    return optimizer->hyper;
}

void lks_optimizer_describe_group(const lks_optimizer *optimizer, int group, lks_strbuf *out) {
    const lks_group *groups = optimizer->groups;
    lks_group_describe(&groups[group], group == 0 ? NULL : &groups[0], optimizer->kind, out);
}

int lks_optimizer_state_array_count(const lks_optimizer *optimizer) {
    int count = 0;
    for (int i = 0; i < LKS_OPTIMIZER_STATE_MAX; i++)
        count += optimizer->states[i] != NULL;
    return count;
}

const char *lks_optimizer_state_name(const lks_optimizer *optimizer, int index) {
    return optimizer->kind->state_names[kept_state(optimizer, index)];
}

float *lks_optimizer_state(lks_optimizer *optimizer, int index) {
    return optimizer->states[kept_state(optimizer, index)];
}

int64_t lks_optimizer_steps(const lks_optimizer *optimizer) {
    return optimizer->steps;
}

void lks_optimizer_set_steps(lks_optimizer *optimizer, int64_t steps) {
    optimizer->steps = steps;
}

/* ---- a step ---- */

lks_status lks_optimizer_check_rates(const lks_optimizer *optimizer, const lks_group_rates *rates) {
    for (int g = 0; g < optimizer->group_count; g++) {
        const double lr = rates[g].lr, momentum = rates[g].momentum;
        const bool has_momentum = optimizer->groups[g].momentum_now != NULL;
        if (!(lr >= 0) || !isfinite(lr))
            return lks_fail(LKS_EINVAL, "optimizer %s, step %lld: learning rate %g: expected >= 0",
                            lks_optimizer_name(optimizer), (long long)optimizer->steps + 1, lr);
        if (isnan(momentum)) continue;
        if (!has_momentum || !(momentum >= 0 && momentum < optimizer->kind->momentum_limit))
            return lks_fail(LKS_EINVAL, "optimizer %s, step %lld: momentum %g: %s",
                            lks_optimizer_name(optimizer), (long long)optimizer->steps + 1,
                            momentum,
                            has_momentum ? "out of range" : "it is configured without momentum");
    }
    return LKS_OK;
}

lks_status lks_optimizer_begin_step(lks_optimizer *optimizer, const lks_group_rates *rates) {
    lks_status status = lks_optimizer_check_rates(optimizer, rates);
    if (status) return status;
    for (int g = 0; g < optimizer->group_count; g++) {
        lks_group *group = &optimizer->groups[g];
        group->lr = rates[g].lr;
        if (group->momentum_now)
            *group->momentum_now = isnan(rates[g].momentum) ? group->momentum : rates[g].momentum;
    }
    optimizer->steps++;
    return LKS_OK;
}

/* first: of the segment in the shard. */
static lks_status update_segment(lks_optimizer *optimizer, const lks_segment *segment,
                                 const lks_shard_arrays *shard, int64_t first,
                                 const lks_grad_scale *scale) {
    const lks_group *group = &optimizer->groups[segment->group];
    const lks_optimizer_common *common = group->config;
    const lks_update update = {
        .count = segment->range.count,
        .param = shard->params + first,
        .grad = (const char *)shard->grads + first * (int64_t)lks_dtype_bytes(shard->grad_type),
        .grad_type = shard->grad_type,
        .copy = shard->copy ? (uint16_t *)shard->copy + first : NULL,
        .divisor = scale->divisor,
        .grad_scale = scale->scale,
        .clip_value = scale->clip_value,
        .lr = group->lr,
        .weight_decay = common->weight_decay,
        .maximize = common->maximize,
        .step = optimizer->steps,
        .rates = scale->rates ? scale->rates + 2 * (int64_t)segment->group : NULL,
        .control = scale->control,
    };
    float *states[LKS_OPTIMIZER_STATE_MAX] = {0};
    for (int i = 0; i < LKS_OPTIMIZER_STATE_MAX; i++) {
        if (optimizer->states[i]) states[i] = optimizer->states[i] + segment->range.state_offset;
    }
    return optimizer->kind->update(optimizer->device,
                                   lks_device_stream(optimizer->device, LKS_STREAM_COMPUTE),
                                   &update, group->config, states);
}

lks_status lks_optimizer_step_bucket(lks_optimizer *optimizer, int bucket,
                                     const lks_shard_arrays *shard, const lks_grad_scale *scale) {
    const lks_segments *segments = &optimizer->segments;
    const int64_t shard_begin = optimizer->plan->shards[bucket].offset;
    lks_status status = LKS_OK;
    for (int s = segments->first[bucket]; !status && s < segments->first[bucket + 1]; s++) {
        const lks_segment *segment = &segments->all[s];
        status =
            update_segment(optimizer, segment, shard, segment->range.offset - shard_begin, scale);
    }
    return status;
}

lks_status lks_optimizer_step(lks_optimizer *optimizer, const lks_group_rates *rates, float *params,
                              const float *grads, const lks_grad_scale *scale) {
    const lks_shard_plan *plan = optimizer->plan;
    lks_status status = lks_optimizer_begin_step(optimizer, rates);
    for (int b = 0; !status && b < plan->bucket_count; b++) {
        const int64_t begin = plan->shards[b].offset;
        const lks_shard_arrays shard = {.params = params + begin, .grads = grads + begin};
        status = lks_optimizer_step_bucket(optimizer, b, &shard, scale);
    }
    return status;
}
