#include "device/device.h"

#include <sched.h>
#include <string.h>

#include "device/backend.h"

/* ---- the device ---- */

static lks_status refuse_kind(const char *kind) {
    lks_strbuf built = {0};
    lks_status status = LKS_EINVAL;
    for (int i = 0; lks_device_backends[i]; i++)
        lks_strbuf_add(&built, "%s, ", lks_device_backends[i]->kind);
    for (int i = 0; lks_device_kinds[i]; i++)
        if (strcmp(kind, lks_device_kinds[i]) == 0) status = LKS_EUNSUPPORTED;
    if (status == LKS_EUNSUPPORTED)
        lks_fail(status, "device \"%s\": this build does not have it; it has %sauto", kind,
                 built.failed ? "" : built.text);
    else
        lks_fail(status, "device \"%s\" is unknown: expected one of %sauto", kind,
                 built.failed ? "" : built.text);
    lks_strbuf_free(&built);
    return status;
}

static lks_status create_first(const lks_device_config *config, lks_device **out) {
    lks_status status = LKS_EUNSUPPORTED;
    for (int i = 0; lks_device_backends[i]; i++) {
        status = lks_device_backends[i]->create(config, out);
        if (status != LKS_EUNSUPPORTED) break;
    }
    return status;
}

lks_status lks_device_create(const lks_device_config *config, lks_device **out) {
    const lks_device_config standard = LKS_DEVICE_CONFIG_DEFAULT;
    if (!out) return lks_fail(LKS_EINVAL, "device: no place for the result was given");
    *out = NULL;
    if (!config) config = &standard;
    if (config->threads < 0)
        return lks_fail(LKS_EINVAL,
                        "device: %d threads were asked for: expected 0 (automatic) or "
                        "more",
                        config->threads);
    const char *kind = config->kind ? config->kind : "auto";
    if (strcmp(kind, "auto") == 0) return create_first(config, out);
    for (int i = 0; lks_device_backends[i]; i++)
        if (strcmp(kind, lks_device_backends[i]->kind) == 0)
            return lks_device_backends[i]->create(config, out);
    return refuse_kind(kind);
}

void lks_device_destroy(lks_device *device) {
    if (device) device->backend->destroy(device);
}

const char *lks_device_kind(const lks_device *device) {
    return device->backend->kind;
}

const char *lks_device_description(const lks_device *device) {
    return device->description;
}

int lks_device_threads(const lks_device *device) {
    return device->threads;
}

const char *lks_device_place(const lks_device *device) {
    return device->place[0] ? device->place : NULL;
}

lks_precision lks_device_precision(const lks_device *device) {
    return device->precision;
}

lks_dtype lks_device_dtype(const lks_device *device) {
    return device->precision == LKS_PRECISION_BF16 ? LKS_BF16 : LKS_F32;
}

bool lks_device_is_host(const lks_device *device) {
    return device->backend->is_host;
}

/* ---- memory ---- */

/* An address that nothing stands at, aligned as memory is. */
static void *measured_address(const lks_device *device) {
    enum { ALIGNMENT_BYTES = 64 };
    size_t taken = device->allocated_bytes + device->host_bytes;
    return (void *)(uintptr_t)(lks_round_up(taken, ALIGNMENT_BYTES) + ALIGNMENT_BYTES);
}

lks_status lks_device_alloc(lks_device *device, size_t bytes, void **out) {
    *out = device->measures ? measured_address(device) : NULL;
    lks_status status =
        device->measures ? LKS_OK : device->backend->memory->alloc(device, bytes, out);
    if (status == LKS_OK) device->allocated_bytes += bytes;
    return status;
}

size_t lks_device_allocated_bytes(const lks_device *device) {
    return device->allocated_bytes;
}

void lks_device_free(lks_device *device, void *memory) {
    if (memory && !device->measures) device->backend->memory->free(device, memory);
}

lks_status lks_device_alloc_host(lks_device *device, size_t bytes, void **out) {
    *out = NULL;
    if (!device->measures) return device->backend->memory->alloc_host(device, bytes, out);
    *out = measured_address(device);
    device->host_bytes += bytes;
    return LKS_OK;
}

void lks_device_free_host(lks_device *device, void *memory) {
    if (memory && !device->measures) device->backend->memory->free_host(device, memory);
}

lks_status lks_device_available(lks_device *device, int64_t *out) {
    if (device->backend->memory->available) return device->backend->memory->available(device, out);
    *out = lks_memory_available();
    return LKS_OK;
}

void lks_device_measure(lks_device *device) {
    device->measures = true;
}

bool lks_device_is_measuring(const lks_device *device) {
    return device->measures;
}

size_t lks_device_measured_host_bytes(const lks_device *device) {
    return device->host_bytes;
}

bool lks_device_holds(const lks_device *device, const void *memory) {
    return !device->backend->is_host && !device->measures &&
           device->backend->memory->holds(device, memory);
}

lks_status lks_device_copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                           size_t bytes, lks_copy_kind kind) {
    if (bytes == 0 || device->measures) return LKS_OK;
    if (!to || !from)
        return lks_fail(LKS_EINVAL, "device copy of %zu bytes: %s is NULL", bytes,
                        to ? "the source" : "the destination");
    return device->backend->memory->copy(device, stream, to, from, bytes, kind);
}

lks_status lks_device_zero(lks_device *device, lks_stream *stream, void *memory, size_t bytes) {
    if (bytes == 0 || device->measures) return LKS_OK;
    if (!memory) return lks_fail(LKS_EINVAL, "device zero of %zu bytes: no memory given", bytes);
    return device->backend->memory->zero(device, stream, memory, bytes);
}

/* ---- streams and events ---- */

lks_stream *lks_device_stream(lks_device *device, lks_stream_name name) {
    return device->backend->streams->stream(device, name);
}

lks_status lks_event_create(lks_device *device, lks_event **out) {
    *out = NULL;
    return device->backend->streams->event_create(device, false, out);
}

lks_status lks_event_create_timed(lks_device *device, lks_event **out) {
    *out = NULL;
    return device->backend->streams->event_create(device, true, out);
}

void lks_event_destroy(lks_event *event) {
    if (event) event->device->backend->streams->event_destroy(event);
}

lks_status lks_event_record(lks_event *event, lks_stream *stream) {
    return event->device->backend->streams->event_record(event, stream);
}

lks_status lks_stream_wait(lks_stream *stream, lks_event *event) {
    return stream->device->backend->streams->stream_wait(stream, event);
}

void *lks_stream_handle(const lks_stream *stream) {
    const lks_stream_ops *ops = stream->device->backend->streams;
    return ops->stream_handle ? ops->stream_handle(stream) : NULL;
}

lks_status lks_event_query(lks_event *event, bool *out) {
    const lks_stream_ops *ops = event->device->backend->streams;
    *out = true;
    return ops->event_query ? ops->event_query(event, out) : LKS_OK;
}

/* ---- waiting for the device ---- */

void lks_device_set_watch(lks_device *device, lks_device_watch watch) {
    device->watch = watch;
}

void lks_device_set_poll(lks_device *device, lks_device_poll_fn poll, void *data) {
    device->poll = poll;
    device->poll_data = data;
}

/* Of a stream, or of an event where `stream` is NULL. */
static lks_status query(lks_stream *stream, lks_event *event, bool *done) {
    const lks_device *device = stream ? stream->device : event->device;
    const lks_stream_ops *ops = device->backend->streams;
    return stream ? ops->stream_query(stream, done) : ops->event_query(event, done);
}

static lks_status wait_watched(lks_device *device, lks_stream *stream, lks_event *event) {
    /* A step's waits are short; afterwards the core is offered to others. */
    enum { BUSY_POLLS = 1000 };
    const lks_device_watch *watch = &device->watch;
    const double began = lks_clock_seconds();
    bool done = false;
    lks_status status = query(stream, event, &done);
    for (int polls = 0; status == LKS_OK && !done; polls++) {
        status = watch->look(watch->data, lks_clock_seconds() - began);
        if (status == LKS_OK) status = query(stream, event, &done);
        if (polls >= BUSY_POLLS) sched_yield();
    }
    watch->done(watch->data);
    return status;
}

static bool is_watched(const lks_device *device) {
    return device->watch.look && device->backend->streams->stream_query;
}

lks_status lks_stream_synchronize(lks_stream *stream) {
    lks_device *device = stream->device;
    return is_watched(device) ? wait_watched(device, stream, NULL)
                              : device->backend->streams->stream_synchronize(stream);
}

lks_status lks_event_synchronize(lks_event *event) {
    lks_device *device = event->device;
    return is_watched(device) ? wait_watched(device, NULL, event)
                              : device->backend->streams->event_synchronize(event);
}

lks_status lks_event_seconds(lks_event *from, lks_event *to, double *out) {
    return from->device->backend->streams->event_seconds(from, to, out);
}

/* ---- recordings ---- */

bool lks_device_can_record(const lks_device *device) {
    return device->backend->streams->recording_begin != NULL;
}

lks_status lks_recording_begin(lks_stream *stream) {
    if (!lks_device_can_record(stream->device))
        return lks_fail(LKS_EUNSUPPORTED, "the %s device cannot record what is queued",
                        stream->device->backend->kind);
    lks_status status = stream->device->backend->streams->recording_begin(stream);
    stream->records = status == LKS_OK;
    return status;
}

bool lks_stream_is_recording(const lks_stream *stream) {
    return stream->records;
}

lks_status lks_recording_end(lks_stream *stream, lks_recording **out) {
    *out = NULL;
    stream->records = false;
    return stream->device->backend->streams->recording_end(stream, out);
}

lks_status lks_recording_replay(lks_recording *recording, lks_stream *stream) {
    return stream->device->backend->streams->recording_replay(recording, stream);
}

void lks_recording_destroy(lks_recording *recording) {
    if (recording) recording->device->backend->streams->recording_destroy(recording);
}

/* ---- losses, vectors, updates ---- */

lks_status lks_device_loss(lks_device *device, lks_stream *stream, const lks_loss_desc *desc,
                           int64_t batch, const float *logits, const void *targets, float *dlogits,
                           double *sums) {
    if (batch < 0 || desc->width < 1)
        return lks_fail(LKS_EINVAL, "loss over %lld samples of width %lld", (long long)batch,
                        (long long)desc->width);
    if ((unsigned)desc->kind > LKS_LOSS_BCE_WITH_LOGITS)
        return lks_fail(LKS_EUNSUPPORTED, "loss %d is unknown", (int)desc->kind);
    if (batch == 0) return LKS_OK;
    return device->backend->math->loss(device, stream, desc, batch, logits, targets, dlogits, sums);
}

static bool is_element_type(lks_dtype type) {
    return type == LKS_F32 || type == LKS_BF16;
}

lks_status lks_device_cast(lks_device *device, lks_stream *stream, int64_t count,
                           lks_dtype from_type, const void *from, lks_dtype to_type, void *to) {
    if (count < 0 || !is_element_type(from_type) || !is_element_type(to_type) ||
        from_type == to_type)
        return lks_fail(LKS_EINVAL, "cast of %lld numbers from %s to %s", (long long)count,
                        lks_dtype_name(from_type), lks_dtype_name(to_type));
    if (count == 0) return LKS_OK;
    return device->backend->math->cast(device, stream, count, from_type, from, to_type, to);
}

lks_status lks_device_add(lks_device *device, lks_stream *stream, int64_t count, lks_dtype x_type,
                          const void *x, lks_dtype y_type, void *y) {
    if (count < 0 || !is_element_type(x_type) || !is_element_type(y_type))
        return lks_fail(LKS_EINVAL, "adding %lld numbers, %s to %s", (long long)count,
                        lks_dtype_name(x_type), lks_dtype_name(y_type));
    if (count == 0) return LKS_OK;
    return device->backend->math->add(device, stream, count, x_type, x, y_type, y);
}

lks_status lks_device_norm(lks_device *device, lks_stream *stream, lks_norm_kind kind,
                           int64_t count, lks_dtype type, const void *x, double *norm) {
    if (count < 0 || (unsigned)kind > LKS_NORM_INF || !is_element_type(type) || !norm)
        return lks_fail(LKS_EINVAL, "norm %d of %lld numbers: count, kind, type or result is wrong",
                        (int)kind, (long long)count);
    if (count == 0) return LKS_OK;
    return device->backend->math->norm(device, stream, kind, count, type, x, norm);
}

lks_status lks_device_decide(lks_device *device, lks_stream *stream, const lks_decision *decision,
                             lks_update_control *control) {
    if (!decision->parts || !decision->sums || !decision->totals || !decision->counters ||
        !control || !(decision->clip_norm >= 0))
        return lks_fail(LKS_EINVAL,
                        "deciding about an update: parts, sums, totals, counters and control are "
                        "required, and clip_norm %g must be >= 0",
                        decision->clip_norm);
    return device->backend->math->decide(device, stream, decision, control);
}

static lks_status check_update(const lks_update *update) {
    if (update->count < 0)
        return lks_fail(LKS_EINVAL, "optimizer update of %lld elements", (long long)update->count);
    if (update->count > 0 && (!update->param || !update->grad || !update->divisor))
        return lks_fail(LKS_EINVAL, "optimizer update: param, grad and divisor are required");
    if (!is_element_type(update->grad_type))
        return lks_fail(LKS_EINVAL, "optimizer update: gradients as %s",
                        lks_dtype_name(update->grad_type));
    if (!(update->clip_value >= 0))
        return lks_fail(LKS_EINVAL, "optimizer update: clip_value %g: expected >= 0",
                        update->clip_value);
    return LKS_OK;
}

lks_status lks_device_sgd(lks_device *device, lks_stream *stream, const lks_update *update,
                          const lks_sgd_update *sgd) {
    lks_status status = check_update(update);
    if (status != LKS_OK || update->count == 0) return status;
    if (sgd->momentum != 0 && !sgd->momentum_buffer)
        return lks_fail(LKS_EINVAL, "sgd update: momentum %g needs a momentum buffer",
                        sgd->momentum);
    return device->backend->math->sgd(device, stream, update, sgd);
}

lks_status lks_device_adam(lks_device *device, lks_stream *stream, const lks_update *update,
                           const lks_adam_update *adam) {
    lks_status status = check_update(update);
    if (status != LKS_OK || update->count == 0) return status;
    if (!adam->exp_avg || !adam->exp_avg_sq)
        return lks_fail(LKS_EINVAL, "adam update: exp_avg and exp_avg_sq are required");
    return device->backend->math->adam(device, stream, update, adam);
}

lks_status lks_device_rmsprop(lks_device *device, lks_stream *stream, const lks_update *update,
                              const lks_rmsprop_update *rmsprop) {
    lks_status status = check_update(update);
    if (status != LKS_OK || update->count == 0) return status;
    if (!rmsprop->square_avg || (rmsprop->momentum != 0 && !rmsprop->momentum_buffer))
        return lks_fail(LKS_EINVAL,
                        "rmsprop update: square_avg, and a buffer for momentum %g, are required",
                        rmsprop->momentum);
    return device->backend->math->rmsprop(device, stream, update, rmsprop);
}

lks_status lks_device_adagrad(lks_device *device, lks_stream *stream, const lks_update *update,
                              const lks_adagrad_update *adagrad) {
    lks_status status = check_update(update);
    if (status != LKS_OK || update->count == 0) return status;
    if (!adagrad->sum) return lks_fail(LKS_EINVAL, "adagrad update: sum is required");
    return device->backend->math->adagrad(device, stream, update, adagrad);
}
