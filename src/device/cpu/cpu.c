#include "device/cpu/cpu.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "device/cpu/parallel.h"

enum { ALIGNMENT_BYTES = 64, HUGE_PAGE_BYTES = 2 << 20, LARGE_BYTES = 4 * HUGE_PAGE_BYTES };

/* ---- memory ---- */

static lks_status alloc(lks_device *device, size_t bytes, void **out) {
    (void)device;
    const bool large = bytes >= LARGE_BYTES;
    void *memory = NULL;
    if (posix_memalign(&memory, large ? HUGE_PAGE_BYTES : ALIGNMENT_BYTES, bytes ? bytes : 1) != 0)
        return lks_fail(LKS_ENOMEM, "cannot allocate %zu bytes of memory", bytes);
    /* Optimizer updates stream through several large arrays at once; with small pages they wait for
     * address translation, a quarter of their time in a virtual machine. Only advice: a system
     * without huge pages refuses it, and nothing is lost. */
    if (large) (void)madvise(memory, bytes, MADV_HUGEPAGE);
    *out = memory;
    return LKS_OK;
}

static void release(lks_device *device, void *memory) {
    (void)device;
    free(memory);
}

static lks_status copy(lks_device *device, lks_stream *stream, void *to, const void *from,
                       size_t bytes, lks_copy_kind kind) {
    (void)stream;
    (void)kind;
    lks_cpu_copy_bytes(device, bytes, from, to);
    return LKS_OK;
}

static lks_status zero(lks_device *device, lks_stream *stream, void *memory, size_t bytes) {
    (void)device;
    (void)stream;
    memset(memory, 0, bytes);
    return LKS_OK;
}

static const lks_memory_ops memory_ops = {
    .alloc = alloc,
    .free = release,
    .alloc_host = alloc,
    .free_host = release,
    .copy = copy,
    .zero = zero,
};

/* ---- streams and events: whatever was queued is already done ---- */

static lks_stream *stream(lks_device *device, lks_stream_name name) {
    return &((lks_cpu_device *)device)->streams[name];
}

/* Whatever was queued before an event is done when it is recorded. */
typedef struct cpu_event {
    lks_event base;
    bool timed;
    double seconds; /* of the clock, at the last record */
} cpu_event;

static lks_status event_create(lks_device *device, bool timed, lks_event **out) {
    cpu_event *event = calloc(1, sizeof *event);
    if (!event) return lks_fail(LKS_ENOMEM, "cannot allocate an event");
    event->base.device = device;
    event->timed = timed;
    *out = &event->base;
    return LKS_OK;
}

static void event_destroy(lks_event *event) {
    free(event);
}

static lks_status event_record(lks_event *base, lks_stream *on) {
    cpu_event *event = (cpu_event *)base;
    (void)on;
    if (event->timed) event->seconds = lks_clock_seconds();
    return LKS_OK;
}

static lks_status stream_wait(lks_stream *waiting, lks_event *event) {
    (void)waiting;
    (void)event;
    return LKS_OK;
}

static lks_status stream_synchronize(lks_stream *done) {
    (void)done;
    return LKS_OK;
}

static lks_status event_synchronize(lks_event *event) {
    (void)event;
    return LKS_OK;
}

static lks_status event_seconds(lks_event *from, lks_event *to, double *out) {
    *out = ((const cpu_event *)to)->seconds - ((const cpu_event *)from)->seconds;
    return LKS_OK;
}

static const lks_stream_ops stream_ops = {
    .stream = stream,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .stream_wait = stream_wait,
    .stream_synchronize = stream_synchronize,
    .event_synchronize = event_synchronize,
    .event_seconds = event_seconds,
};

/* ---- the device ---- */

/* The cores that this process may use, divided among the ranks of this host as if all of them were
 * bound to the same ones: never too many. A caller that knows every rank's binding asks
 * lks_threads_per_rank and passes the number. */
static int default_threads(int local_size) {
    cpu_set_t mask;
    int cores = omp_get_num_procs();
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) cores = CPU_COUNT(&mask);
    const int threads = local_size > 1 ? cores / local_size : cores;
    return threads < 1 ? 1 : threads;
}

static void read_cpu_name(char *name, size_t bytes) {
    char line[256];
    snprintf(name, bytes, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) != 0) continue;
        const char *value = strchr(line, ':');
        if (value) snprintf(name, bytes, "%s", value + 1 + strspn(value + 1, " "));
        name[strcspn(name, "\n")] = '\0';
        break;
    }
    fclose(file);
}

static void describe(lks_device *device) {
    char name[96];
    const dnnl_version_t *version = dnnl_version();
    read_cpu_name(name, sizeof name);
    snprintf(device->description, sizeof device->description, "%s, %d thread%s, oneDNN %d.%d.%d",
             name, device->threads, lks_plural(device->threads), version->major, version->minor,
             version->patch);
}

static lks_status create(const lks_device_config *config, lks_device **out) {
    lks_cpu_device *device = calloc(1, sizeof *device);
    if (!device) return lks_fail(LKS_ENOMEM, "cannot allocate the CPU device");
    lks_status status = lks_onednn_open(&device->onednn);
    if (status != LKS_OK) {
        free(device);
        return status;
    }
    device->base.backend = &lks_cpu_backend;
    device->base.logger = config->logger;
    device->base.precision = config->precision;
    device->base.threads = config->threads ? config->threads : default_threads(config->local_size);
    for (int i = 0; i < LKS_STREAM_COUNT; i++)
        device->streams[i].device = &device->base;
    /* OpenMP keeps this number for the calling thread: the one that will make the calls. */
    omp_set_num_threads(device->base.threads);
    describe(&device->base);
    *out = &device->base;
    return LKS_OK;
}

static void destroy(lks_device *base) {
    lks_cpu_device *device = (lks_cpu_device *)base;
    lks_onednn_close(&device->onednn);
    free(device);
}

/* ---- what it can do ---- */

static const lks_math_ops math_ops = {
    .loss = lks_cpu_loss,
    .cast = lks_cpu_cast,
    .add = lks_cpu_vector_add,
    .norm = lks_cpu_norm,
    .decide = lks_cpu_decide,
    .sgd = lks_cpu_sgd,
    .adam = lks_cpu_adam,
    .rmsprop = lks_cpu_rmsprop,
    .adagrad = lks_cpu_adagrad,
};

static const lks_op_type *const op_types[LKS_OP_KIND_COUNT] = {
    [LKS_OP_LINEAR] = &lks_cpu_linear,
    [LKS_OP_CONV2D] = &lks_cpu_conv2d,
    [LKS_OP_BATCH_NORM] = &lks_cpu_batch_norm,
    [LKS_OP_LAYER_NORM] = &lks_cpu_layer_norm,
    [LKS_OP_POOL2D] = &lks_cpu_pool2d,
    [LKS_OP_SOFTMAX] = &lks_cpu_softmax,
    [LKS_OP_ELTWISE] = &lks_cpu_eltwise,
    [LKS_OP_DROPOUT] = &lks_cpu_dropout,
    [LKS_OP_RELAYOUT] = &lks_cpu_relayout,
    [LKS_OP_ADD] = &lks_cpu_add,
    [LKS_OP_FORK] = &lks_cpu_fork,
    [LKS_OP_CAST] = &lks_op_cast,
};

/* What an operation says LKS_EUNSUPPORTED to in bfloat16 is widened. */
static lks_status create_op(lks_device *device, lks_op_kind kind, const void *desc,
                            int64_t max_batch, lks_op **out) {
    const lks_dtype dtype = lks_device_dtype(device);
    const lks_status status = lks_op_make(op_types[kind], device, dtype, desc, max_batch, out);
    if (dtype == LKS_F32 || status != LKS_EUNSUPPORTED) return status;
    return lks_cpu_widened_create(device, kind, op_types[kind], desc, max_batch, out);
}

const lks_device_backend lks_cpu_backend = {
    .kind = "cpu",
    .create = create,
    .destroy = destroy,
    .is_host = true,
    .memory = &memory_ops,
    .streams = &stream_ops,
    .math = &math_ops,
    .ops = op_types,
    .create_op = create_op,
};
