/* Collectives, which run as work of a stream: a chunk is published when the stream comes to it, and
 * is finished when all ranks have done so. */
#include <signal.h>
#include <unistd.h>

#include <cstring>

#include "nccl_comm.h"

namespace emu {
namespace nccl {

static size_t bytes_of(ncclDataType_t type) {
    switch (type) {
    case ncclUint8:
        return 1;
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclFloat32:
        return 4;
    default:
        return 8;
    }
}

/* ---- arithmetic ---- */

/* As the hardware's: the number is preferred to a NaN. */
template <typename T> static T larger(T a, T b) {
    if (a != a) return b;
    return b > a ? b : a;
}

template <typename T> static void combine_as(T *total, const T *x, size_t count, ncclRedOp_t op) {
    for (size_t i = 0; i < count; i++)
        total[i] = op == ncclSum ? (T)(total[i] + x[i]) : larger(total[i], x[i]);
}

static float bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t bf16_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void combine_bf16(uint16_t *total, const uint16_t *x, size_t count, ncclRedOp_t op) {
    for (size_t i = 0; i < count; i++) {
        float a = bf16_value(total[i]), b = bf16_value(x[i]);
        total[i] = bf16_bits(op == ncclSum ? a + b : larger(a, b));
    }
}

static void combine(void *total, const void *x, size_t count, const Call &call) {
    switch (call.type) {
    case ncclFloat32:
        return combine_as((float *)total, (const float *)x, count, call.op);
    case ncclFloat64:
        return combine_as((double *)total, (const double *)x, count, call.op);
    case ncclInt64:
        return combine_as((int64_t *)total, (const int64_t *)x, count, call.op);
    case ncclInt32:
        return combine_as((int32_t *)total, (const int32_t *)x, count, call.op);
    case ncclUint8:
        return combine_as((uint8_t *)total, (const uint8_t *)x, count, call.op);
    case ncclBfloat16:
        return combine_bf16((uint16_t *)total, (const uint16_t *)x, count, call.op);
    }
}

/* ---- one collective ---- */

static const char *name_of(Call::Kind kind) {
    static const char *const names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather",
                                        "ncclBroadcast"};
    return names[kind];
}

/* A piece of device memory. */
struct Piece {
    size_t first, bytes;
};

class Collective : public Work {
  public:
    /* counts: it is one of the communicator's queued ones. */
    Collective(std::shared_ptr<Comm> of, const Call &c, const void *f, void *t, bool counts)
        : comm(of), call(c), element(bytes_of(c.type)), from((const unsigned char *)f),
          to((unsigned char *)t), is_counted(counts) {
        blocks = call.kind == Call::reduce_scatter ? (size_t)comm->size : 1;
        per_chunk = chunk_bytes / blocks / element;
        const bool gathers = call.kind == Call::all_gather;
        output.resize((gathers ? (size_t)comm->size : 1) * call.count * element);
    }
    bool step() override;

  private:
    void start();
    bool publish();
    bool collect();
    void collect_chunk(size_t first, size_t count);
    void check_others() const;
    void leave_anything();
    void finish();
    std::vector<Piece> written() const;

    std::shared_ptr<Comm> comm;
    Call call;
    size_t element, blocks, per_chunk;
    const unsigned char *from;
    unsigned char *to;
    bool is_counted;
    bool is_started = false, is_stuck = false, is_published = false;
    size_t done = 0; /* elements of each block */
    std::vector<unsigned char> input, output;
};

/* What the collective writes: not the part that already stands where it belongs. */
std::vector<Piece> Collective::written() const {
    const size_t block = call.count * element;
    if (call.kind == Call::broadcast && comm->rank == call.root && from == to) return {};
    if (call.kind != Call::all_gather || from != to + (size_t)comm->rank * block)
        return {{0, output.size()}};
    const size_t before = (size_t)comm->rank * block;
    return {{0, before}, {before + block, output.size() - before - block}};
}

/* From here to its end nobody can say what stands where the result will: nothing does. */
void Collective::start() {
    is_started = true;
    const uint64_t number = ++comm->started;
    if (is_fault(*comm, "kill", number)) raise(SIGKILL);
    if (is_fault(*comm, "stop", number)) raise(SIGSTOP);
    const bool is_lost = is_fault_elsewhere(*comm, "remote", number);
    if (is_lost) comm->lose();
    is_stuck = is_lost || is_fault(*comm, "stall", number) || is_fault(*comm, "async", number);
    if (is_fault(*comm, "async", number)) comm->error = ncclSystemError;
    const bool reads = call.kind != Call::broadcast || comm->rank == call.root;
    const size_t bytes = reads ? blocks * call.count * element : 0;
    arena::check(name_of(call.kind), from, bytes, Access::read);
    input.assign(from, from + bytes);
    for (const Piece &piece : written()) {
        arena::check(name_of(call.kind), to + piece.first, piece.bytes, Access::write);
        memset(to + piece.first, 0xff, piece.bytes);
        memset(arena::shadow(to + piece.first), arena::allocated, piece.bytes);
    }
}

bool Collective::publish() {
    if (!comm->all(comm->chunks, &Member::consumed)) return false;
    Member &mine = comm->shared->members[comm->rank];
    const size_t left = call.count - done, count = left < per_chunk ? left : per_chunk;
    for (size_t b = 0; b < blocks && !input.empty(); b++)
        memcpy(comm->chunk_of(comm->rank) + b * per_chunk * element,
               input.data() + (b * call.count + done) * element, count * element);
    mine.call = call;
    mine.published.store(comm->chunks + 1, std::memory_order_release);
    is_published = true;
    return true;
}

void Collective::check_others() const {
    for (int r = 0; r < comm->size; r++) {
        const Call &c = comm->shared->members[r].call;
        if (c.kind != call.kind || c.count != call.count || c.type != call.type ||
            c.op != call.op || c.root != call.root)
            fail("%s of %zu elements meets %s of %zu elements on rank %d", name_of(call.kind),
                 call.count, name_of(c.kind), c.count, r);
    }
}

void Collective::collect_chunk(size_t first, size_t count) {
    const size_t at = first * element, bytes = count * element;
    if (call.kind == Call::broadcast) {
        memcpy(output.data() + at, comm->chunk_of(call.root), bytes);
        return;
    }
    if (call.kind == Call::all_gather) {
        for (int r = 0; r < comm->size; r++)
            memcpy(output.data() + (size_t)r * call.count * element + at, comm->chunk_of(r), bytes);
        return;
    }
    const size_t block = call.kind == Call::reduce_scatter ? (size_t)comm->rank : 0;
    const size_t in_chunk = block * per_chunk * element;
    memcpy(output.data() + at, comm->chunk_of(0) + in_chunk, bytes);
    for (int r = 1; r < comm->size; r++)
        combine(output.data() + at, comm->chunk_of(r) + in_chunk, count, call);
}

bool Collective::collect() {
    if (!comm->all(comm->chunks + 1, &Member::published)) return false;
    check_others();
    const size_t left = call.count - done, count = left < per_chunk ? left : per_chunk;
    collect_chunk(done, count);
    done += count;
    comm->chunks++;
    comm->shared->members[comm->rank].consumed.store(comm->chunks, std::memory_order_release);
    is_published = false;
    return true;
}

/* What an aborted collective leaves is not worth reading, and kernels behind it read it all the
 * same. */
void Collective::leave_anything() {
    for (const Piece &piece : written())
        memset(arena::shadow(to + piece.first), arena::written, piece.bytes);
}

void Collective::finish() {
    for (const Piece &piece : written()) {
        arena::check(name_of(call.kind), to + piece.first, piece.bytes, Access::write);
        memcpy(to + piece.first, output.data() + piece.first, piece.bytes);
    }
}

/* As far as it goes without waiting; true at its end. */
bool Collective::step() {
    if (!is_started && !comm->is_aborted) start();
    while (!comm->is_aborted && !is_stuck && done < call.count) {
        if (is_published ? collect() : publish()) continue;
        comm->look_for_the_dead();
        return false;
    }
    if (is_stuck && !comm->is_aborted) return false;
    if (comm->is_aborted && is_started) leave_anything();
    if (!comm->is_aborted) finish();
    if (is_counted) comm->queued--;
    return true;
}

/* ---- calls ---- */

static ncclResult_t call_collective(const Call &call, const void *from, void *to, ncclComm_t handle,
                                    cudaStream_t stream) {
    Api api;
    std::shared_ptr<Comm> comm = comm_of(handle);
    if (!comm || !from || !to || !api.is_stream(stream)) return ncclInvalidArgument;
    if (!comm->is_ready || comm->pending)
        fail("%s on a communicator whose last call is still in progress", name_of(call.kind));
    if (comm->error != ncclSuccess) return comm->error;
    if (api.runtime.is_lost(stream->device)) return ncclUnhandledCudaError;
    if (is_fault(*comm, "call", ++comm->called)) return ncclInternalError;
    if (call.count == 0) return ncclSuccess;
    Runtime *runtime = &api.runtime;
    auto enqueue = [=] {
        Item item{nullptr, nullptr, false};
        const bool counts = !stream->capture; /* who knows how often a graph will run */
        item.start = [=] { return std::make_shared<Collective>(comm, call, from, to, counts); };
        if (counts) comm->queued++;
        runtime->add(stream, std::move(item));
    };
    if (api.runtime.random.below(4) != 0) {
        enqueue();
        return ncclSuccess;
    }
    comm->pending = enqueue; /* as where connections are made at their first use */
    comm->pending_polls = 1 + (unsigned)api.runtime.random.below(3);
    return ncclInProgress;
}

} // namespace nccl
} // namespace emu

using namespace emu::nccl;

extern "C" {

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return call_collective({Call::all_reduce, count, type, op, 0}, from, to, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t part, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return call_collective({Call::reduce_scatter, part, type, op, 0}, from, to, comm, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t part, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    return call_collective({Call::all_gather, part, type, ncclSum, 0}, from, to, comm, stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return call_collective({Call::broadcast, count, type, ncclSum, root}, from, to, comm, stream);
}

} // extern "C"
