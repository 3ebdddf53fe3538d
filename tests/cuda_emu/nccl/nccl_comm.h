/* A communicator of the emulated NCCL: processes of one host, which exchange chunks of their data
 * through memory that they share. */
#ifndef LKS_CUDA_EMU_NCCL_COMM_H
#define LKS_CUDA_EMU_NCCL_COMM_H

#include <sys/types.h>

#include <atomic>

#include "nccl.h"
#include "queue.h"

namespace emu {
namespace nccl {

constexpr int max_ranks = 16;
constexpr size_t header_bytes = 8192, chunk_bytes = 1 << 18;

/* What one rank calls, to be compared with what the others call. */
struct Call {
    enum Kind { all_reduce, reduce_scatter, all_gather, broadcast } kind;
    size_t count; /* elements of a block: of all, or of one rank's part */
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;
};

/* Each chunk is published by every rank, in its own part of the memory, and consumed by every one
 * before the next is published. */
struct Member {
    std::atomic<uint64_t> published, consumed; /* chunks */
    std::atomic<bool> left;
    pid_t process;
    char gpu[16], host[32]; /* host: NCCL_HOSTID */
    Call call;
};

struct Shared {
    std::atomic<int> joined;
    Member members[max_ranks];
};
static_assert(sizeof(Shared) <= header_bytes, "the chunks begin behind it");

struct Comm {
    int size, rank;
    Shared *shared;
    bool is_ready = false; /* all ranks have come */
    bool is_finalizing = false, is_aborted = false;
    ncclResult_t error = ncclSuccess;
    char text[160] = "";
    int queued = 0;                /* collectives that are not finished */
    uint64_t started = 0;          /* collectives that have begun to run */
    uint64_t called = 0;           /* collectives that have been called */
    uint64_t chunks = 0;           /* that this rank has consumed */
    std::function<void()> pending; /* a call that said that it is in progress */
    unsigned pending_polls = 0;

    size_t shared_bytes() const;
    unsigned char *chunk_of(int of_rank) const;
    /* Have all ranks done so many? */
    bool all(uint64_t chunks, std::atomic<uint64_t> Member::*counter) const;
    void look_for_the_dead();
    void lose(); /* a connection to another rank */
};

std::shared_ptr<Comm> comm_of(ncclComm_t handle);

struct Fault {
    char kind[16];
    int rank, collective;
};
/* Does the test want this rank to fail so, at this collective (from 1)? */
bool is_fault(const Comm &comm, const char *kind);
/* Is it another rank that it wants to fail? */
bool is_fault_elsewhere(const Comm &comm, const char *kind, uint64_t collective);
bool is_fault(const Comm &comm, const char *kind, uint64_t collective);

} // namespace nccl
} // namespace emu

#endif
