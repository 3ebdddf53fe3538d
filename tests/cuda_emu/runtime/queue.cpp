/* The order in which streams run. Priorities of streams are drawn at random and changed at random
 * times, and the ready stream of highest priority goes on: so one stream may run far ahead, or be
 * left behind until somebody waits for it (Burckhardt et al., A Randomized Scheduler with
 * Probabilistic Guarantees of Finding Bugs, 2010). */
#include "queue.h"

#include <sched.h>
#include <time.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emu {

static Runtime &the_runtime() {
    static Runtime *r = new Runtime;
    return *r;
}

static thread_local cudaError_t last_error = cudaSuccess;

uint64_t this_thread() {
    static std::atomic<uint64_t> next{1};
    static thread_local uint64_t number = next++;
    return number;
}

void fail_default_stream(const char *what) {
    fail("%s on the default stream: every crossing between streams must be explicit", what);
}

/* ---- running ---- */

double Runtime::now_ms() const {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- a GPU that is lost: LKS_CUDA_EMU_LOST_GPU=KIND:DEVICE:LAUNCH ---- */

struct Loss {
    char kind[8];
    int device;
    uint64_t launch; /* 0: none */
};

static Loss read_loss() {
    Loss loss = {};
    if (const char *text = getenv("LKS_CUDA_EMU_LOST_GPU")) {
        if (sscanf(text, "%7[a-z]:%d:%" SCNu64, loss.kind, &loss.device, &loss.launch) != 3)
            fail("LKS_CUDA_EMU_LOST_GPU=%s: expected KIND:DEVICE:LAUNCH", text);
    }
    return loss;
}

void Runtime::count_launch(const char *kind, int device) {
    static const Loss loss = read_loss();
    if (device != loss.device || strcmp(kind, loss.kind) != 0) return;
    if (++counted_launches == loss.launch) lost_device = device;
}

/* ---- choosing what runs ---- */

cudaStream_t Runtime::pick(const std::set<cudaStream_t> &without) {
    cudaStream_t best = nullptr;
    for (cudaStream_t s : streams) {
        if (s->items.empty() || is_lost(s->device) || without.count(s)) continue;
        const Item &head = s->items.front();
        if (head.waits_for && !head.waits_for->done) continue;
        if (!best || s->priority > best->priority) best = s;
    }
    return best;
}

bool Runtime::run_item(Item &item) {
    if (item.start) {
        arena::open();
        if (!item.work) item.work = item.start();
        return item.work->step();
    }
    if (!item.run) return true;
    if (item.is_host_code) {
        arena::close();
        in_callback = true;
        item.run();
        in_callback = false;
    } else {
        arena::open();
        item.run();
    }
    return true;
}

void Runtime::bury(cudaStream_t stream) {
    streams.erase(stream);
    delete stream;
}

/* Long enough for a slow machine, short enough for whoever looks at a test. */
void Runtime::wait_for_others() {
    static constexpr double limit_ms = 240e3;
    const double now = now_ms();
    if (blocked_since_ms == 0) blocked_since_ms = now;
    if (now - blocked_since_ms > limit_ms)
        fail("the host waits for a collective that other ranks do not join");
    sched_yield();
}

bool Runtime::run_one(bool must) {
    std::set<cudaStream_t> waiting; /* for other processes */
    for (cudaStream_t stream; (stream = pick(waiting)); waiting.insert(stream)) {
        if (random.below(8) == 0) stream->priority = random.next();
        if (!run_item(stream->items.front())) continue;
        stream->items.pop_front();
        if (stream->destroyed && stream->items.empty()) bury(stream);
        blocked_since_ms = 0;
        return true;
    }
    if (!must) return false;
    if (waiting.empty()) fail("nothing can run, but the host waits");
    wait_for_others();
    return true;
}

void Runtime::run_all() {
    run_until([this] { return is_idle(); });
}

bool Runtime::is_idle() const {
    for (cudaStream_t s : streams)
        if (!s->items.empty()) return false;
    return true;
}

void Runtime::sometimes_run_some() {
    if (random.below(32) == 0) eagerness = (unsigned)random.below(5);
    while (random.below(4) < eagerness && run_one(false)) {
    }
}

/* ---- adding ---- */

cudaError_t Runtime::add(cudaStream_t stream, Item item) {
    if (is_lost(stream->device)) return cudaErrorLaunchFailure;
    if (!stream->capture) {
        stream->items.push_back(std::move(item));
        return cudaSuccess;
    }
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    Nodes &nodes = stream->capture->graph->nodes;
    nodes.push_back(Node{std::move(item), stream->tail});
    stream->tail.assign(1, nodes.size() - 1);
    return cudaSuccess;
}

/* ---- calls ---- */

Api::Api() : runtime(the_runtime()), guard(runtime.lock) {
    if (place) fail("a kernel calls the runtime's host interface");
    if (!runtime.in_callback) runtime.sometimes_run_some();
}

Api::~Api() {
    if (!runtime.in_callback) arena::close();
}

bool Api::refused() const {
    return runtime.in_callback;
}

cudaError_t Api::result(cudaError_t error) const {
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

bool Api::is_stream(cudaStream_t stream) const {
    auto it = runtime.streams.find(stream);
    return it != runtime.streams.end() && !(*it)->destroyed;
}

static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

bool Api::disturbs_capture() const {
    bool disturbed = false;
    for (const std::shared_ptr<Capture> &c : runtime.captures) {
        bool mine = c->thread == this_thread() && c->mode != cudaStreamCaptureModeRelaxed;
        bool anybodys = c->mode == cudaStreamCaptureModeGlobal;
        if (thread_mode == cudaStreamCaptureModeRelaxed) continue;
        if (!mine && !(anybodys && thread_mode == cudaStreamCaptureModeGlobal)) continue;
        c->invalid = true;
        disturbed = true;
    }
    return disturbed;
}

} // namespace emu

using namespace emu;

extern "C" cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

extern "C" cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}
