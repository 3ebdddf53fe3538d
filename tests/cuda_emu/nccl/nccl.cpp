/* Communicators between processes of one host. */
#include "nccl_comm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emu {
namespace nccl {

/* ---- faults that a test asks for: KIND:RANK:COLLECTIVE ---- */

static Fault read_fault() {
    Fault fault = {};
    if (const char *text = getenv("LKS_CUDA_EMU_NCCL_FAULT")) {
        if (sscanf(text, "%15[a-z]:%d:%d", fault.kind, &fault.rank, &fault.collective) != 3)
            fail("LKS_CUDA_EMU_NCCL_FAULT=%s: expected KIND:RANK:COLLECTIVE", text);
    }
    return fault;
}

static const Fault &fault_asked_for() {
    static const Fault fault = read_fault();
    return fault;
}

bool is_fault(const Comm &comm, const char *kind) {
    const Fault &fault = fault_asked_for();
    return fault.rank == comm.rank && strcmp(fault.kind, kind) == 0;
}

bool is_fault_elsewhere(const Comm &comm, const char *kind, uint64_t collective) {
    const Fault &fault = fault_asked_for();
    return fault.rank != comm.rank && strcmp(fault.kind, kind) == 0 &&
           fault.collective == (int)collective;
}

bool is_fault(const Comm &comm, const char *kind, uint64_t collective) {
    return is_fault(comm, kind) && fault_asked_for().collective == (int)collective;
}

/* ---- what the ranks share ---- */

size_t Comm::shared_bytes() const {
    return header_bytes + (size_t)size * chunk_bytes;
}

unsigned char *Comm::chunk_of(int of_rank) const {
    return (unsigned char *)shared + header_bytes + (size_t)of_rank * chunk_bytes;
}

bool Comm::all(uint64_t chunks, std::atomic<uint64_t> Member::*counter) const {
    for (int r = 0; r < size; r++)
        if ((shared->members[r].*counter).load(std::memory_order_acquire) < chunks) return false;
    return true;
}

/* As the real one notices that a connection has closed. */
void Comm::look_for_the_dead() {
    for (int r = 0; r < size && error == ncclSuccess; r++) {
        const Member &m = shared->members[r];
        if (m.left.load() || kill(m.process, 0) == 0) continue;
        lose();
    }
}

void Comm::lose() {
    error = ncclRemoteError;
    snprintf(text, sizeof text, "a connection was closed");
}

static std::shared_ptr<Comm> open_comm(int size, const ncclUniqueId &id, int rank) {
    auto comm = std::make_shared<Comm>();
    comm->size = size;
    comm->rank = rank;
    int file = open(id.internal, O_RDWR | O_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)comm->shared_bytes()) != 0)
        fail("ncclCommInitRankConfig: the unique id is of no process that lives");
    comm->shared =
        (Shared *)mmap(nullptr, comm->shared_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (comm->shared == MAP_FAILED) fail("ncclCommInitRankConfig: no memory to share");
    Member &mine = comm->shared->members[rank];
    mine.process = getpid();
    cudaDeviceGetPCIBusId(mine.gpu, sizeof mine.gpu, current_device());
    if (const char *host = getenv("NCCL_HOSTID")) snprintf(mine.host, sizeof mine.host, "%s", host);
    comm->shared->joined.fetch_add(1);
    return comm;
}

static bool are_on_one_gpu(const Member &a, const Member &b) {
    return strcmp(a.gpu, b.gpu) == 0 && strcmp(a.host, b.host) == 0;
}

/* Once all ranks have come: do they have GPUs of their own? */
static ncclResult_t finish_init(Comm &comm) {
    if (is_fault(comm, "init")) {
        snprintf(comm.text, sizeof comm.text, "a fault that was asked for");
        return ncclSystemError;
    }
    if (comm.shared->joined.load() < comm.size) return ncclInProgress;
    for (int a = 0; a < comm.size; a++)
        for (int b = 0; b < a; b++)
            if (are_on_one_gpu(comm.shared->members[a], comm.shared->members[b])) {
                snprintf(comm.text, sizeof comm.text, "ranks %d and %d are both on GPU %s", b, a,
                         comm.shared->members[a].gpu);
                return ncclInvalidUsage;
            }
    comm.is_ready = true;
    return ncclSuccess;
}

} // namespace nccl
} // namespace emu

using namespace emu;
using namespace emu::nccl;

/* What a handle points to. */
struct ncclComm {
    std::shared_ptr<Comm> comm;
};

std::shared_ptr<Comm> emu::nccl::comm_of(ncclComm_t handle) {
    return handle ? handle->comm : nullptr;
}

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    static const char *const texts[] = {
        "no error",         "unhandled cuda error", "unhandled system error", "internal error",
        "invalid argument", "invalid usage",        "remote process exited",  "in progress"};
    return texts[result];
}

const char *ncclGetLastError(ncclComm_t handle) {
    return handle ? handle->comm->text : "";
}

/* Memory without a name, which other processes reach through /proc: it goes with the last of them,
 * however they end. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    int file = memfd_create("lks-emulated-nccl", MFD_CLOEXEC);
    if (file < 0) return ncclSystemError;
    snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", (int)getpid(), file);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    Api api;
    if (!out || !config || config->magic != 0xcafebeef || rank < 0 || rank >= size ||
        size > max_ranks)
        return ncclInvalidArgument;
    if (config->blocking != 0) fail("the emulated NCCL has non-blocking communicators alone");
    *out = new ncclComm{open_comm(size, id, rank)};
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *error) {
    Api api;
    if (!handle || !error) return ncclInvalidArgument;
    Comm &comm = *handle->comm;
    api.runtime.run_one(false); /* whoever polls comes to an end */
    if (comm.error == ncclSuccess && !comm.is_ready) {
        *error = finish_init(comm);
        if (*error != ncclInProgress) comm.error = *error;
        return ncclSuccess;
    }
    if (comm.pending && --comm.pending_polls == 0) {
        comm.pending();
        comm.pending = nullptr;
    }
    const bool in_progress = comm.pending || (comm.is_finalizing && comm.queued > 0);
    *error = comm.error != ncclSuccess ? comm.error : in_progress ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
    Api api;
    if (!handle) return ncclInvalidArgument;
    handle->comm->is_finalizing = true;
    return ncclInProgress;
}

static void leave(ncclComm_t handle) {
    Comm &comm = *handle->comm;
    comm.is_aborted = true;
    comm.shared->members[comm.rank].left.store(true);
    delete handle;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
    Api api;
    if (!handle) return ncclInvalidArgument;
    if (!handle->comm->is_finalizing || handle->comm->queued > 0)
        fail("ncclCommDestroy of a communicator that is still at work");
    leave(handle);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
    Api api;
    if (!handle) return ncclInvalidArgument;
    leave(handle);
    return ncclSuccess;
}

} // extern "C"
