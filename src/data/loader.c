/* The prefetching loader: one thread fills slots of host memory with batches in the order of the
 * steps; the caller takes them in that order and gives the slots back. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/dataset.h"
#include "data/transform.h"

/* Small batches are read further ahead than asked for, so that the thread wakes up once for many of
 * them: handing over costs some 10 us, as much as a small batch takes to fill. */
enum { SMALL_BYTES = 1 << 20, MAX_SMALL_SLOTS = 16 };

typedef enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_TAKEN } slot_state;

typedef struct slot {
    slot_state state;
    lks_host_batch batch;
    float *inputs;
    void *targets;
} slot;

/* Where to begin; `serial` tells a new beginning from the one that is under way. */
typedef struct beginning {
    int64_t epoch, step;
    uint64_t serial;
} beginning;

struct lks_loader {
    lks_dataset *dataset;
    lks_device *device;
    lks_loader_config config;
    lks_transform transform;
    int64_t count, steps, max_rows;
    size_t target_row_bytes; /* 0 without targets */
    double wait_seconds;     /* the caller's thread alone */
    int64_t next_step;       /* the caller's thread alone */

    /* the thread's own */
    int64_t *order; /* the samples of the epoch, [count] */
    int64_t epoch;

    /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t work;  /* the thread waits: slots are free, a new beginning, the end */
    pthread_cond_t ready; /* the caller waits: a batch is ready, an error */
    slot *slots;
    int slot_count, free_count;
    bool ending;
    bool caller_waits, thread_waits;
    beginning asked;
    lks_status status; /* of the beginning under way */
    char detail[LKS_ERROR_BYTES];

    pthread_t thread;
    bool has_lock, has_thread;
};

/* ---- filling a batch, by the thread, without the lock ---- */

typedef struct filling {
    const lks_loader *loader;
    lks_philox_key key;
    float *inputs;
    int64_t width;
    bool augments;
} filling;

static void fill_row(void *data, int64_t position, int64_t index, const void *row) {
    const filling *f = data;
    lks_philox_block random = {0};
    if (f->augments) random = lks_philox(f->key, (uint64_t)index, (uint64_t)f->loader->epoch >> 32);
    lks_transform_apply(&f->loader->transform, row, random, f->inputs + position * f->width);
}

static lks_status fill_slot(lks_loader *loader, int64_t step, slot *to) {
    const lks_loader_config *config = &loader->config;
    int64_t begin = 0, end = 0, first = 0, last = 0;
    lks_sampler_batch(loader->count, config->batch_size, step, &begin, &end);
    lks_split(end - begin, config->rank, config->size, &first, &last);
    to->batch = (lks_host_batch){
        .step = step,
        .rows = last - first,
        .first_row = first,
        .global_rows = end - begin,
        .inputs = to->inputs,
        .targets = to->targets,
        .slot = (int)(to - loader->slots),
    };
    const int64_t *indices = loader->order + begin + first;
    filling f = {
        .loader = loader,
        .key = lks_philox_key_make(config->seed, LKS_RANDOM_AUGMENT, (uint32_t)loader->epoch),
        .inputs = to->inputs,
        .width = loader->dataset->inputs.width,
        .augments = loader->transform.crop > 0 || loader->transform.flip,
    };
    lks_status status =
        lks_column_visit(&loader->dataset->inputs, indices, last - first, fill_row, &f);
    if (status == LKS_OK && to->targets != NULL)
        status = lks_dataset_read(loader->dataset, indices, last - first, NULL, to->targets);
    return status;
}

static void order_samples(lks_loader *loader, int64_t epoch) {
    loader->epoch = epoch;
    if (loader->config.training && loader->config.settings->shuffle) {
        lks_sampler_permutation(loader->config.seed, epoch, loader->count, loader->order);
        return;
    }
    for (int64_t i = 0; i < loader->count; i++)
        loader->order[i] = i;
}

/* ---- the thread ---- */

static slot *find_slot(lks_loader *loader, slot_state state, int64_t step) {
    for (int i = 0; i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        if (s->state == state && (state == SLOT_FREE || s->batch.step == step)) return s;
    }
    return NULL;
}

/* Sleeps until half of the slots are free, so that it is not woken for each one. */
static void wait_for_work(lks_loader *loader) {
    loader->thread_waits = true;
    pthread_cond_wait(&loader->work, &loader->lock);
    loader->thread_waits = false;
}

static void wake_caller(lks_loader *loader) {
    if (loader->caller_waits) pthread_cond_signal(&loader->ready);
}

/* Fills one free slot; the lock is given up meanwhile. */
static void fill_next(lks_loader *loader, slot *to, int64_t step, uint64_t serial) {
    to->state = SLOT_FILLING;
    loader->free_count--;
    pthread_mutex_unlock(&loader->lock);
    lks_status status = fill_slot(loader, step, to);
    pthread_mutex_lock(&loader->lock);
    bool wanted = serial == loader->asked.serial;
    if (status == LKS_OK && wanted) {
        to->state = SLOT_READY;
    } else {
        to->state = SLOT_FREE;
        loader->free_count++;
    }
    if (status != LKS_OK && wanted) {
        loader->status = status;
        strncpy(loader->detail, lks_last_error(), sizeof loader->detail - 1);
    }
    wake_caller(loader);
}

/* Everything from one beginning to the next, or to the end. Holds the lock. */
static void serve(lks_loader *loader, beginning under_way) {
    pthread_mutex_unlock(&loader->lock);
    order_samples(loader, under_way.epoch);
    pthread_mutex_lock(&loader->lock);
    int64_t step = under_way.step;
    while (!loader->ending && loader->asked.serial == under_way.serial) {
        slot *free_slot = find_slot(loader, SLOT_FREE, 0);
        if (step >= loader->steps || loader->status != LKS_OK || free_slot == NULL)
            wait_for_work(loader);
        else
            fill_next(loader, free_slot, step++, under_way.serial);
    }
}

static void *run_thread(void *data) {
    lks_loader *loader = data;
    uint64_t served = 0;
    pthread_mutex_lock(&loader->lock);
    while (!loader->ending) {
        if (loader->asked.serial == served) {
            wait_for_work(loader);
            continue;
        }
        served = loader->asked.serial;
        serve(loader, loader->asked);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static lks_status start_thread(lks_loader *loader) {
    lks_status status = lks_thread_start(run_thread, loader, &loader->thread);
    if (status) return lks_fail_in(status, "the loader");
    loader->has_thread = true;
    return LKS_OK;
}

/* ---- creating ---- */

static lks_status alloc_slots(lks_loader *loader) {
    size_t input_bytes = (size_t)(loader->max_rows * loader->dataset->inputs.width) * sizeof(float);
    size_t target_bytes = (size_t)loader->max_rows * loader->target_row_bytes;
    int64_t small = SMALL_BYTES / (int64_t)(input_bytes + target_bytes + 1);
    int64_t slots = loader->config.settings->prefetch + 1;
    if (small > MAX_SMALL_SLOTS) small = MAX_SMALL_SLOTS;
    if (slots < small) slots = small;
    if (slots > loader->steps) slots = loader->steps;
    loader->slots = calloc((size_t)slots, sizeof *loader->slots);
    if (loader->slots == NULL)
        return lks_fail(LKS_ENOMEM, "out of memory for %lld batches", (long long)slots);
    loader->slot_count = loader->free_count = (int)slots;
    for (int64_t i = 0; i < slots; i++) {
        slot *s = &loader->slots[i];
        void *inputs = NULL;
        lks_status status = lks_device_alloc_host(loader->device, input_bytes, &inputs);
        s->inputs = inputs;
        if (status == LKS_OK && loader->target_row_bytes > 0)
            status = lks_device_alloc_host(loader->device, target_bytes, &s->targets);
        if (status != LKS_OK) return status;
    }
    return LKS_OK;
}

static lks_status init_lock(lks_loader *loader) {
    if (pthread_mutex_init(&loader->lock, NULL) != 0)
        return lks_fail(LKS_ENOMEM, "no lock for the loader");
    if (pthread_cond_init(&loader->work, NULL) != 0) {
        pthread_mutex_destroy(&loader->lock);
        return lks_fail(LKS_ENOMEM, "no lock for the loader");
    }
    if (pthread_cond_init(&loader->ready, NULL) != 0) {
        pthread_cond_destroy(&loader->work);
        pthread_mutex_destroy(&loader->lock);
        return lks_fail(LKS_ENOMEM, "no lock for the loader");
    }
    loader->has_lock = true;
    return LKS_OK;
}

static size_t target_row_bytes(const lks_dataset *dataset) {
    switch (dataset->target_kind) {
    case LKS_TARGET_CLASSES:
        return sizeof(int32_t);
    case LKS_TARGET_VALUES:
        return (size_t)dataset->targets.width * sizeof(float);
    case LKS_TARGET_NONE:
        break;
    }
    return 0;
}

static lks_status set_sizes(lks_loader *loader) {
    const lks_loader_config *config = &loader->config;
    bool drop_last = config->training && config->settings->drop_last;
    loader->count = lks_dataset_count(loader->dataset);
    loader->steps = lks_sampler_steps(loader->count, config->batch_size, drop_last);
    if (loader->steps == 0)
        return lks_fail(LKS_ECONFIG,
                        "%s has %lld samples, fewer than batch_size (%lld), and drop_last leaves "
                        "them out",
                        loader->dataset->description, (long long)loader->count,
                        (long long)config->batch_size);
    int64_t largest = config->batch_size < loader->count ? config->batch_size : loader->count;
    loader->max_rows = (largest + config->size - 1) / config->size;
    loader->target_row_bytes = target_row_bytes(loader->dataset);
    loader->order = malloc((size_t)loader->count * sizeof *loader->order);
    return loader->order != NULL
               ? LKS_OK
               : lks_fail(LKS_ENOMEM, "out of memory for the order of %lld samples",
                          (long long)loader->count);
}

lks_status lks_loader_create(lks_dataset *dataset, lks_device *device,
                             const lks_loader_config *config, lks_loader **out) {
    *out = NULL;
    if (config->batch_size <= 0 || config->size <= 0 || config->rank < 0 ||
        config->rank >= config->size)
        return lks_fail(LKS_EINVAL, "a loader for batches of %lld samples, rank %d of %d",
                        (long long)config->batch_size, config->rank, config->size);
    lks_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL) return lks_fail(LKS_ENOMEM, "out of memory");
    loader->dataset = dataset;
    loader->device = device;
    loader->config = *config;
    lks_status status = set_sizes(loader);
    if (status == LKS_OK)
        status =
            lks_transform_create(&dataset->inputs.shape, dataset->inputs.dtype, config->settings,
                                 config->training, config->layout, &loader->transform);
    if (status == LKS_OK) status = alloc_slots(loader);
    if (status == LKS_OK) status = init_lock(loader);
    if (status == LKS_OK) status = start_thread(loader);
    if (status != LKS_OK) {
        lks_loader_destroy(loader);
        return status;
    }
    *out = loader;
    return LKS_OK;
}

static void stop_thread(lks_loader *loader) {
    pthread_mutex_lock(&loader->lock);
    loader->ending = true;
    pthread_cond_signal(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    pthread_join(loader->thread, NULL);
}

void lks_loader_destroy(lks_loader *loader) {
    if (loader == NULL) return;
    if (loader->has_thread) stop_thread(loader);
    if (loader->has_lock) {
        pthread_cond_destroy(&loader->ready);
        pthread_cond_destroy(&loader->work);
        pthread_mutex_destroy(&loader->lock);
    }
    for (int i = 0; i < loader->slot_count; i++) {
        lks_device_free_host(loader->device, loader->slots[i].inputs);
        lks_device_free_host(loader->device, loader->slots[i].targets);
    }
    free(loader->slots);
    free(loader->order);
    lks_transform_free(&loader->transform);
    free(loader);
}

/* ---- the caller's side ---- */

int64_t lks_loader_max_rows(const lks_loader *loader) {
    return loader->max_rows;
}

int64_t lks_loader_steps(const lks_loader *loader) {
    return loader->steps;
}

double lks_loader_wait_seconds(const lks_loader *loader) {
    return loader->wait_seconds;
}

double lks_loader_thread_seconds(const lks_loader *loader) {
    clockid_t clock;
    struct timespec taken;
    if (pthread_getcpuclockid(loader->thread, &clock) != 0 || clock_gettime(clock, &taken) != 0)
        return 0;
    return (double)taken.tv_sec + 1e-9 * (double)taken.tv_nsec;
}

lks_status lks_loader_begin(lks_loader *loader, int64_t epoch, int64_t first_step) {
    if (epoch < 0 || first_step < 0 || first_step > loader->steps)
        return lks_fail(LKS_EINVAL, "step %lld of epoch %lld: an epoch has %lld steps",
                        (long long)first_step, (long long)epoch, (long long)loader->steps);
    pthread_mutex_lock(&loader->lock);
    for (int i = 0; i < loader->slot_count; i++)
        if (loader->slots[i].state == SLOT_READY) {
            loader->slots[i].state = SLOT_FREE;
            loader->free_count++;
        }
    loader->asked = (beginning){epoch, first_step, loader->asked.serial + 1};
    loader->status = LKS_OK;
    loader->next_step = first_step;
    loader->wait_seconds = 0;
    pthread_cond_signal(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    return LKS_OK;
}

lks_status lks_loader_next(lks_loader *loader, lks_host_batch *out) {
    if (loader->asked.serial == 0 || loader->next_step >= loader->steps)
        return lks_fail(LKS_EINVAL, "no batch %lld: the epoch has %lld",
                        (long long)loader->next_step + 1, (long long)loader->steps);
    lks_status status = LKS_OK;
    pthread_mutex_lock(&loader->lock);
    slot *ready = find_slot(loader, SLOT_READY, loader->next_step);
    if (ready == NULL && loader->status == LKS_OK) {
        double start = lks_clock_seconds();
        loader->caller_waits = true;
        /* It may sleep although one slot is free. */
        if (loader->thread_waits) pthread_cond_signal(&loader->work);
        while ((ready = find_slot(loader, SLOT_READY, loader->next_step)) == NULL &&
               loader->status == LKS_OK)
            pthread_cond_wait(&loader->ready, &loader->lock);
        loader->caller_waits = false;
        loader->wait_seconds += lks_clock_seconds() - start;
    }
    if (ready != NULL) {
        ready->state = SLOT_TAKEN;
        *out = ready->batch;
        loader->next_step++;
    } else {
        status = lks_fail(loader->status, "%s", loader->detail);
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

void lks_loader_release(lks_loader *loader, const lks_host_batch *batch) {
    assert(batch->slot >= 0 && batch->slot < loader->slot_count);
    pthread_mutex_lock(&loader->lock);
    slot *given = &loader->slots[batch->slot];
    assert(given->state == SLOT_TAKEN);
    given->state = SLOT_FREE;
    loader->free_count++;
    if (loader->thread_waits && 2 * loader->free_count >= loader->slot_count)
        pthread_cond_signal(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}
