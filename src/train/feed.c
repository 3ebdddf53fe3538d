#include "train/feed.h"

#include <stdlib.h>

/* Inputs and behind them targets, so that a batch moves on the device by one copy. */
typedef struct place {
    char *inputs;
    char *targets;
} place;

struct lks_feed {
    lks_device *device;
    lks_loader *loader;
    size_t input_row_bytes, target_row_bytes;
    size_t place_bytes;
    place landing, present; /* on a GPU */
    lks_event *arrived;     /* on the copy stream: the batch has landed, and left the host */
    lks_event *moved;       /* on the compute stream: the landing place is free */
    lks_host_batch batch;   /* the last one from the loader */
    bool is_held;           /* the loader has not got its memory back */
    bool is_ahead;          /* nobody has taken it yet */
    lks_failure failure;    /* of what was done ahead */
};

/* ---- creation ---- */

static lks_status create_place(lks_feed *feed, size_t input_bytes, place *out) {
    void *memory = NULL;
    lks_status status = lks_device_alloc(feed->device, feed->place_bytes, &memory);
    out->inputs = memory;
    out->targets = status == LKS_OK ? out->inputs + input_bytes : NULL;
    return status;
}

static lks_status create_places(lks_feed *feed) {
    const size_t rows = (size_t)lks_loader_max_rows(feed->loader);
    size_t input_bytes, target_bytes;
    if (!lks_size_mul(rows, feed->input_row_bytes, &input_bytes) ||
        !lks_size_mul(rows, feed->target_row_bytes, &target_bytes) ||
        input_bytes > SIZE_MAX - target_bytes)
        return lks_fail(LKS_ENOMEM, "a batch is more bytes than this machine can address");
    feed->place_bytes = input_bytes + target_bytes;
    lks_status status = create_place(feed, input_bytes, &feed->landing);
    if (status == LKS_OK) status = create_place(feed, input_bytes, &feed->present);
    if (status == LKS_OK) /* a whole place moves, however many rows have landed */
        status = lks_device_zero(feed->device, lks_device_stream(feed->device, LKS_STREAM_COPY),
                                 feed->landing.inputs, feed->place_bytes);
    if (status == LKS_OK) status = lks_event_create(feed->device, &feed->arrived);
    return status == LKS_OK ? lks_event_create(feed->device, &feed->moved) : status;
}

lks_status lks_feed_create(lks_device *device, lks_loader *loader, size_t input_row_bytes,
                           size_t target_row_bytes, lks_feed **out) {
    *out = NULL;
    lks_feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL) return lks_fail(LKS_ENOMEM, "the way of the batches: out of host memory");
    *feed = (lks_feed){.device = device,
                       .loader = loader,
                       .input_row_bytes = input_row_bytes,
                       .target_row_bytes = target_row_bytes};
    lks_status status = lks_device_is_host(device) ? LKS_OK : create_places(feed);
    if (status != LKS_OK) {
        lks_feed_destroy(feed);
        return lks_fail_in(status, "the way of the batches to the device");
    }
    *out = feed;
    return LKS_OK;
}

/* ---- one batch ---- */

static bool copies_ahead(const lks_feed *feed) {
    return feed->landing.inputs != NULL;
}

static lks_status copy_to_landing(lks_feed *feed) {
    lks_device *device = feed->device;
    lks_stream *stream = lks_device_stream(device, LKS_STREAM_COPY);
    const lks_host_batch *batch = &feed->batch;
    const size_t rows = (size_t)batch->rows;
    lks_status status = lks_stream_wait(stream, feed->moved);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, feed->landing.inputs, batch->inputs,
                                 rows * feed->input_row_bytes, LKS_COPY_TO_DEVICE);
    if (status == LKS_OK)
        status = lks_device_copy(device, stream, feed->landing.targets, batch->targets,
                                 rows * feed->target_row_bytes, LKS_COPY_TO_DEVICE);
    return status == LKS_OK ? lks_event_record(feed->arrived, stream) : status;
}

/* The compute stream waits for the copy, the host does not. */
static lks_status move_to_present(lks_feed *feed) {
    lks_stream *stream = lks_device_stream(feed->device, LKS_STREAM_COMPUTE);
    lks_status status = lks_stream_wait(stream, feed->arrived);
    if (status == LKS_OK)
        status = lks_device_copy(feed->device, stream, feed->present.inputs, feed->landing.inputs,
                                 feed->place_bytes, LKS_COPY_ON_DEVICE);
    return status == LKS_OK ? lks_event_record(feed->moved, stream) : status;
}

static lks_status fetch(lks_feed *feed) {
    lks_status status = lks_loader_next(feed->loader, &feed->batch);
    if (status != LKS_OK) return status;
    feed->is_held = feed->is_ahead = true;
    return copies_ahead(feed) ? copy_to_landing(feed) : LKS_OK;
}

/* Waits until the batch has left the host. */
static lks_status release(lks_feed *feed) {
    if (!feed->is_held) return LKS_OK;
    feed->is_held = feed->is_ahead = false;
    lks_status status = copies_ahead(feed) ? lks_event_synchronize(feed->arrived) : LKS_OK;
    lks_loader_release(feed->loader, &feed->batch);
    return status;
}

lks_status lks_feed_take(lks_feed *feed, lks_host_batch *out) {
    lks_status status = lks_failure_tell(&feed->failure);
    if (status == LKS_OK && !feed->is_ahead) status = fetch(feed);
    if (status == LKS_OK && copies_ahead(feed)) status = move_to_present(feed);
    if (status != LKS_OK) return status;
    feed->is_ahead = false;
    *out = feed->batch;
    if (copies_ahead(feed)) {
        out->inputs = (const float *)feed->present.inputs;
        out->targets = feed->present.targets;
    }
    return LKS_OK;
}

void lks_feed_go_on(lks_feed *feed) {
    const bool is_last = feed->batch.step + 1 >= lks_loader_steps(feed->loader);
    if (!feed->is_held || feed->is_ahead) return; /* nothing was taken */
    lks_status status = release(feed);
    if (status == LKS_OK && copies_ahead(feed) && !is_last) status = fetch(feed);
    lks_failure_note(&feed->failure, status);
}

lks_status lks_feed_begin(lks_feed *feed, int64_t epoch, int64_t first_step) {
    feed->failure = (lks_failure){0};
    lks_status status = release(feed);
    return status == LKS_OK ? lks_loader_begin(feed->loader, epoch, first_step) : status;
}

void lks_feed_destroy(lks_feed *feed) {
    if (feed == NULL) return;
    (void)release(feed);
    lks_device_free(feed->device, feed->landing.inputs);
    lks_device_free(feed->device, feed->present.inputs);
    lks_event_destroy(feed->arrived);
    lks_event_destroy(feed->moved);
    free(feed);
}
