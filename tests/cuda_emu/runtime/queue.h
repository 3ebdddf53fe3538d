/* Streams as queues of items that run later, in an order that only waits and synchronisations
 * constrain. */
#ifndef LKS_CUDA_EMU_QUEUE_H
#define LKS_CUDA_EMU_QUEUE_H

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "emu.h"

namespace emu {

/* A point in a stream that others wait for. */
struct Mark {
    bool done = false;
    double ms = 0; /* when it was reached */
};

/* What goes on over time, because it meets other processes. */
class Work {
  public:
    virtual ~Work() = default;
    /* Goes on without waiting; true: it has ended. */
    virtual bool step() = 0;
};

struct Item {
    std::function<void()> run;                              /* may be empty */
    std::shared_ptr<Mark> waits_for;                        /* may be NULL */
    bool is_host_code = false;                              /* runs while device memory is closed */
    std::function<std::shared_ptr<Work>()> start = nullptr; /* in place of `run` */
    std::shared_ptr<Work> work = nullptr;                   /* that was started */
};

/* A graph's items, each after the ones that it depends on. */
struct Node {
    Item item;
    std::vector<size_t> after;
};
using Nodes = std::vector<Node>;

} // namespace emu

struct CUgraph_st {
    emu::Nodes nodes;
};
struct CUgraphExec_st {
    std::shared_ptr<emu::Nodes> nodes;
};

namespace emu {

struct Capture {
    cudaGraph_t graph;
    cudaStreamCaptureMode mode;
    cudaStream_t origin;
    uint64_t thread; /* that began it */
    bool invalid = false;
};

} // namespace emu

struct CUstream_st {
    int device;
    unsigned flags;
    std::deque<emu::Item> items;
    bool destroyed = false;
    uint64_t priority; /* the emulator's: changes at random */
    std::shared_ptr<emu::Capture> capture;
    std::vector<size_t> tail; /* while capturing: the nodes that the next one comes after */
};

struct CUevent_st {
    unsigned flags;
    std::shared_ptr<emu::Mark> mark; /* of the last record; NULL: never recorded */
    std::shared_ptr<emu::Capture> capture;
    std::vector<size_t> nodes; /* recorded in a capture: what it stands for */
};

namespace emu {

/* Everything of this process; one thread at a time, by the lock in Api. */
struct Runtime {
    std::recursive_mutex lock;
    Random random;
    std::set<cudaStream_t> streams; /* destroyed ones too, until they are empty */
    std::set<cudaEvent_t> events;
    std::set<std::shared_ptr<Capture>> captures;
    bool in_callback = false;
    int failing_launch = 0; /* 1: the next one, 0: none */
    int lost_device = -1;   /* -1: none */
    unsigned eagerness = 0; /* how likely a call runs something at once, of 4 */

    Runtime() : random(settings().seed) {
    }
    /* Appends to the stream, or to the graph that is being captured from it. */
    cudaError_t add(cudaStream_t stream, Item item);
    /* Runs items until `done` says so. */
    template <typename Done> void run_until(Done done) {
        while (!done())
            run_one(true);
    }
    void run_all();
    bool run_one(bool must);   /* false: there is nothing to run */
    bool run_item(Item &item); /* false: it waits for other processes */
    void sometimes_run_some();
    bool is_idle() const;
    double now_ms() const;
    /* Before a launch ("kernel" or "graph") on the device, which it may be the last one to see. */
    void count_launch(const char *kind, int device);
    bool is_lost(int device) const {
        return device == lost_device;
    }

  private:
    cudaStream_t pick(const std::set<cudaStream_t> &without);
    void wait_for_others();
    double blocked_since_ms = 0; /* 0: something ran */
    uint64_t counted_launches = 0;
    void bury(cudaStream_t stream);
};

/* Lives through one call of the runtime's interface. */
class Api {
  public:
    Api();
    ~Api();
    Runtime &runtime;
    bool refused() const; /* the call comes from a host function of a stream */
    /* Remembers the error for cudaGetLastError. */
    cudaError_t result(cudaError_t error) const;
    bool is_stream(cudaStream_t stream) const;
    /* Would this call, which is not for a stream, disturb a capture? Then that is ended. */
    bool disturbs_capture() const;

  private:
    std::unique_lock<std::recursive_mutex> guard;
};

int current_device();
uint64_t this_thread();
/* The device that the error stands for exists. */
bool is_device(int device);

/* Ends the test: nothing of Lockstep may use the default stream. */
[[noreturn]] void fail_default_stream(const char *what);

/* A copy's memory, by the rules of cudaMemcpyAsync. */
enum class Side { device, pinned, pageable };
Side side_of(const void *p);

} // namespace emu

#endif
