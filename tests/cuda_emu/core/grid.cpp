/* Runs a grid: one block after the other, a block's threads on stacks of their own on one host
 * thread. A thread runs until it ends or waits; a stack whose thread has ended takes the next
 * thread, so that a kernel without barriers never switches. */
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "emu.h"
#include "indices.h"
#include "shared.h"
#include "switch.h"

/* Dynamic shared memory: as much as a block of compute capability 8.0 can have. */
__thread __attribute__((aligned(1024))) unsigned char lks_shared[163 * 1024];

namespace emu {

namespace {

constexpr size_t stack_bytes = 128 * 1024;

struct Fiber {
    void *sp = nullptr;
    unsigned char *low = nullptr; /* of its stack */
};

enum class State { unstarted, running, ready, at_barrier, at_meeting, ended };

struct Thread {
    State state;
    uint3 index;
    unsigned number; /* in its block */
    Fiber *fiber;
    const char *what; /* the call in which it waits */
    /* at_meeting */
    unsigned mask;
    uint64_t value, result;
    const void *pointer;
    Finish finish;

    unsigned lane() const {
        return number % 32;
    }
    unsigned warp() const {
        return number / 32;
    }
};

/* Lanes of a warp that have come to one meeting, and wait for the rest of its mask. */
struct Group {
    unsigned mask, arrived;
    Finish finish;
};

/* What one host thread needs to run kernels. */
struct Executor {
    const Launch *launch = nullptr;
    Random *random = nullptr;
    uint3 block = {};
    std::vector<Thread> threads;
    unsigned count = 0, started = 0, ended = 0, waiting = 0;
    std::unique_ptr<Permutation> warps, lanes, last_lanes;
    std::vector<Thread *> ready;
    std::vector<std::vector<Group>> groups; /* of each warp */
    std::vector<Fiber *> idle, all;
    void *main_sp = nullptr;
    Fiber *fiber = nullptr; /* that runs */
    Thread *thread = nullptr;
    Place here = {}; /* of thread */
    Shared shared;

    ~Executor();
    Fiber *idle_fiber();
    void activate(Thread *t);
    void deactivate();
    void park(State why, const char *what);
    void release_barrier(Thread *except);
    void release_meeting(Thread *except, unsigned first, unsigned mask);
    Thread *next_unstarted();
    void run_block();
    [[noreturn]] void fiber_loop();
    [[noreturn]] void fail_stuck();
};

} // namespace

static __thread Executor *running; /* while a grid runs */
__thread const Place *place;
__thread bool Quiet::active;

static void fiber_start() {
    running->fiber_loop();
}

/* ---- stacks ---- */

Fiber *Executor::idle_fiber() {
    if (!idle.empty()) {
        Fiber *f = idle.back();
        idle.pop_back();
        return f;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *p = (unsigned char *)mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) != 0)
        fail("the host has no room for the stacks of a block's threads");
    Fiber *f = new Fiber;
    f->low = p + page;
    f->sp = lks_emu_prepare(f->low + stack_bytes, fiber_start);
    all.push_back(f);
    return f;
}

Executor::~Executor() {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (Fiber *f : all) {
        munmap(f->low - page, stack_bytes + page);
        delete f;
    }
}

/* ---- threads ---- */

void Executor::activate(Thread *t) {
    t->state = State::running;
    thread = t;
    set_thread_index(t->index);
    here = Place{t->number, t->fiber->low, stack_bytes, launch->call};
    place = &here;
}

void Executor::deactivate() {
    thread = nullptr;
    place = nullptr;
}

Thread *Executor::next_unstarted() {
    unsigned i = started++;
    unsigned warp = (unsigned)(*warps)[i / 32];
    unsigned full = count / 32;
    if (count % 32 == 0) return &threads[warp * 32 + (*lanes)[i % 32]];
    /* The partial warp comes last, whatever the order of the others. */
    if (i / 32 == full) return &threads[full * 32 + (*last_lanes)[i % 32]];
    return &threads[warp * 32 + (*lanes)[i % 32]];
}

void Executor::fiber_loop() {
    Fiber *self = fiber;
    for (;;) {
        if (!ready.empty()) {
            Thread *t = ready.back();
            ready.pop_back();
            idle.push_back(self);
            fiber = t->fiber;
            lks_emu_switch(&self->sp, fiber->sp);
        } else if (started < count) {
            Thread *t = next_unstarted();
            t->fiber = self;
            activate(t);
            launch->call->run();
            thread->state = State::ended;
            deactivate();
            ended++;
        } else if (ended == count) {
            idle.push_back(self);
            lks_emu_switch(&self->sp, main_sp);
        } else {
            fail_stuck();
        }
    }
}

/* Gives the host thread to others until somebody makes this thread ready. */
void Executor::park(State why, const char *what) {
    Thread *t = thread;
    Fiber *self = fiber;
    t->state = why;
    t->what = what;
    deactivate();
    if (!ready.empty()) {
        Thread *next = ready.back();
        ready.pop_back();
        fiber = next->fiber;
    } else {
        fiber = idle_fiber();
    }
    lks_emu_switch(&self->sp, fiber->sp);
    activate(t);
}

/* Makes ready the threads that wait at the barrier, except one that goes on by itself. */
void Executor::release_barrier(Thread *except) {
    unsigned start = (unsigned)random->below(count);
    for (unsigned i = 0; i < count; i++) {
        Thread *t = &threads[start + i < count ? start + i : start + i - count];
        if (t == except) continue;
        t->state = State::ready;
        ready.push_back(t);
    }
}

void Executor::release_meeting(Thread *except, unsigned first, unsigned mask) {
    unsigned start = (unsigned)random->next();
    for (unsigned i = 0; i < 32; i++) {
        unsigned lane = (start + i) % 32;
        Thread *t = &threads[first + lane];
        if (!(mask >> lane & 1) || t == except) continue;
        t->state = State::ready;
        ready.push_back(t);
    }
}

/* `t` waits for `other`, which does not come. */
[[noreturn]] static void fail_missing(const Thread &t, const Thread &other) {
    char how[160] = "has returned";
    if (other.state == State::at_barrier) snprintf(how, sizeof how, "waits in %s", other.what);
    if (other.state == State::at_meeting)
        snprintf(how, sizeof how, "waits in %s with mask %#x", other.what, other.mask);
    fail("%s is not reached by all threads: thread (%u,%u,%u) %s", t.what, other.index.x,
         other.index.y, other.index.z, how);
}

void Executor::fail_stuck() {
    for (unsigned i = 0; i < count; i++) {
        Thread &t = threads[i];
        if (t.state != State::at_barrier && t.state != State::at_meeting) continue;
        bool meeting = t.state == State::at_meeting;
        unsigned first = meeting ? t.warp() * 32 : 0;
        unsigned end = meeting && first + 32 < count ? first + 32 : count;
        for (unsigned k = first; k < end; k++) {
            Thread &other = threads[k];
            if (meeting && !(t.mask >> other.lane() & 1)) continue;
            bool same = !meeting || (other.mask == t.mask && other.finish == t.finish);
            if (other.state == t.state && same) continue;
            thread = &t;
            fail_missing(t, other);
        }
    }
    fail("threads wait for each other in different operations of a warp");
}

/* ---- blocks and grids ---- */

void Executor::run_block() {
    started = ended = waiting = 0;
    for (unsigned i = 0; i < count; i++)
        threads[i].state = State::unstarted;
    shared.start_block(launch->call->kernel, launch->shared_bytes);
    set_block_index(block);
    fiber = idle_fiber();
    lks_emu_switch(&main_sp, fiber->sp);
}

static Executor &executor() {
    static thread_local Executor e;
    return e;
}

static void number_threads(Executor &e, const uint3 &shape) {
    e.count = shape.x * shape.y * shape.z;
    if (e.threads.size() < e.count) e.threads.resize(e.count);
    e.groups.resize((e.count + 31) / 32);
    for (unsigned i = 0; i < e.count; i++) {
        Thread &t = e.threads[i];
        t.number = i;
        t.index = uint3{i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
    }
}

void run_grid(const Launch &launch, Random &random) {
    Executor &e = executor();
    running = &e;
    e.launch = &launch;
    e.random = &random;
    number_threads(e, launch.block);
    unsigned full_warps = e.count / 32;
    e.warps.reset(new Permutation(full_warps ? full_warps : 1, random));
    e.lanes.reset(new Permutation(32, random));
    e.last_lanes.reset(new Permutation(e.count % 32 ? e.count % 32 : 1, random));
    set_shape(launch.grid, launch.block);

    uint64_t blocks = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
    Permutation order(blocks, random);
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = order[i];
        e.block =
            uint3{(unsigned)(b % launch.grid.x), (unsigned)(b / launch.grid.x % launch.grid.y),
                  (unsigned)(b / launch.grid.x / launch.grid.y)};
        e.run_block();
    }
    running = nullptr;
}

/* ---- what kernels call ---- */

std::string where() {
    if (!running) return "";
    const Executor &e = *running;
    std::string text = "kernel " + symbol_name(e.launch->call->kernel);
    char place[96];
    snprintf(place, sizeof place, ", block (%u,%u,%u)", e.block.x, e.block.y, e.block.z);
    text += place;
    if (e.thread) {
        const uint3 &t = e.thread->index;
        snprintf(place, sizeof place, ", thread (%u,%u,%u)", t.x, t.y, t.z);
        text += place;
    }
    return text;
}

unsigned lane() {
    return running->thread->lane();
}

void barrier(const char *what) {
    Executor &e = *running;
    if (++e.waiting < e.count) {
        e.park(State::at_barrier, what);
        return;
    }
    e.waiting = 0;
    e.shared.barrier_passed();
    e.release_barrier(e.thread);
}

static void finish_meeting(Executor &e, Thread &mine, unsigned first) {
    Quiet quiet;
    Gathered lanes;
    lanes.mask = mine.mask;
    for (unsigned i = 0; i < 32; i++) {
        if (!(mine.mask >> i & 1)) continue;
        lanes.value[i] = e.threads[first + i].value;
        lanes.pointer[i] = e.threads[first + i].pointer;
    }
    mine.finish(lanes);
    for (unsigned i = 0; i < 32; i++)
        if (mine.mask >> i & 1) e.threads[first + i].result = lanes.result[i];
    e.release_meeting(&mine, first, mine.mask);
}

/* Is this lane the last of its mask to come? */
static bool arrive(std::vector<Group> &groups, unsigned mask, unsigned lane, Finish finish) {
    for (Group &g : groups) {
        if (g.mask != mask || g.finish != finish) continue;
        g.arrived |= 1u << lane;
        if (g.arrived != mask) return false;
        g = groups.back();
        groups.pop_back();
        return true;
    }
    if (mask == 1u << lane) return true;
    groups.push_back(Group{mask, 1u << lane, finish});
    return false;
}

uint64_t meet(const char *what, unsigned mask, uint64_t value, const void *pointer, Finish finish) {
    Executor &e = *running;
    Thread &mine = *e.thread;
    const unsigned first = mine.warp() * 32, lane = mine.lane();
    const unsigned lanes = e.count - first < 32 ? e.count - first : 32;
    if (!(mask >> lane & 1)) fail("%s: lane %u is not in its own mask %#x", what, lane, mask);
    if ((uint64_t)mask >> lanes) fail("%s: a lane of the mask %#x is not in the block", what, mask);
    mine.mask = mask;
    mine.value = value;
    mine.pointer = pointer;
    mine.finish = finish;
    if (arrive(e.groups[mine.warp()], mask, lane, finish))
        finish_meeting(e, mine, first);
    else
        e.park(State::at_meeting, what);
    return mine.result;
}

Shared &shared_memory() {
    return running->shared;
}

std::string thread_name(unsigned number) {
    const uint3 &t = running->threads[number].index;
    char text[64];
    snprintf(text, sizeof text, "(%u,%u,%u)", t.x, t.y, t.z);
    return text;
}

void warp_synced(unsigned) {
    running->shared.warp_passed(running->thread->warp());
}

} // namespace emu
