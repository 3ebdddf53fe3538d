/* Device memory, pinned host memory, copies, pools. */
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "queue.h"

struct CUmemPoolHandle_st {
    int device;
    bool is_default;
    uint64_t threshold = 0, used = 0, used_high = 0;
};

namespace emu {

namespace {

struct Pinned {
    size_t bytes;
    bool registered; /* the caller's own memory */
};

struct Memory {
    std::map<const unsigned char *, Pinned> pinned;
    std::map<int, size_t> used; /* by device */
    std::map<const void *, cudaMemPool_t> from_pool;
    std::map<int, cudaMemPool_t> default_pool, current_pool;
};

} // namespace

static Memory &memory() {
    static Memory *m = new Memory;
    return *m;
}

static const Pinned *pinned_at(const void *p, const unsigned char **start) {
    std::map<const unsigned char *, Pinned> &all = memory().pinned;
    auto next = all.upper_bound((const unsigned char *)p);
    if (next == all.begin()) return nullptr;
    --next;
    if ((size_t)((const unsigned char *)p - next->first) >= next->second.bytes) return nullptr;
    *start = next->first;
    return &next->second;
}

bool is_pinned(const void *p, size_t bytes) {
    const unsigned char *start;
    const Pinned *block = pinned_at(p, &start);
    return block && (size_t)((const unsigned char *)p - start) + bytes <= block->bytes;
}

Side side_of(const void *p) {
    if (arena::contains(p)) return Side::device;
    return is_pinned(p, 1) ? Side::pinned : Side::pageable;
}

static cudaError_t take(Api &api, size_t bytes, bool usable, void **out) {
    int device = current_device();
    size_t &used = memory().used[device];
    if (bytes > settings().memory_bytes - used) {
        api.runtime.run_all(); /* memory that streams are to free */
        if (bytes > settings().memory_bytes - used) return cudaErrorMemoryAllocation;
    }
    *out = arena::take(bytes, device, usable);
    if (!*out) return cudaErrorMemoryAllocation;
    used += bytes;
    return cudaSuccess;
}

static void give_back(void *p) {
    const arena::Allocation *a = arena::find(p);
    if (!a || a->start != p) fail("memory %p is freed twice, or is none", p);
    memory().used[a->device] -= a->bytes;
    auto pooled = memory().from_pool.find(p);
    if (pooled != memory().from_pool.end()) {
        pooled->second->used -= a->bytes;
        memory().from_pool.erase(pooled);
    }
    arena::release(p);
}

/* ---- copies ---- */

namespace {

struct Copy {
    unsigned char *to;
    const unsigned char *from;
    size_t to_pitch, from_pitch, width, height;
    std::shared_ptr<std::vector<unsigned char>> staged; /* pageable memory, read at the call */
};

} // namespace

/* Is [p, p + bytes) inside one allocation, or one block of pinned memory? */
static bool in_one_piece(const void *p, size_t bytes) {
    if (arena::contains(p)) {
        const arena::Allocation *a = arena::find(p);
        return a && (size_t)((const unsigned char *)p - a->start) + bytes <= a->bytes;
    }
    return side_of(p) == Side::pageable || is_pinned(p, bytes);
}

static void copy_row(unsigned char *to, const unsigned char *from, size_t bytes) {
    bool to_device = arena::contains(to), from_device = arena::contains(from);
    if (to_device) arena::check("copy", to, bytes, Access::write);
    if (from_device) {
        const unsigned char *state = arena::shadow(from);
        for (size_t i = 0; i < bytes; i++)
            if (state[i] == arena::absent)
                fail("copy: access outside an allocation: %s", arena::describe(from + i).c_str());
    }
    memmove(to, from, bytes);
    if (to_device && from_device) /* what nothing wrote remains so */
        memmove(arena::shadow(to), arena::shadow(from), bytes);
}

static void run_copy(const Copy &c) {
    const unsigned char *from = c.staged ? c.staged->data() : c.from;
    size_t from_pitch = c.staged ? c.width : c.from_pitch;
    for (size_t row = 0; row < c.height; row++)
        copy_row(c.to + row * c.to_pitch, from + row * from_pitch, c.width);
}

static size_t extent(size_t pitch, size_t width, size_t height) {
    return height == 0 || width == 0 ? 0 : pitch * (height - 1) + width;
}

static cudaError_t check_copy(const Copy &c, cudaMemcpyKind kind) {
    if (extent(c.to_pitch, c.width, c.height) == 0) return cudaSuccess;
    if (!c.to || !c.from || c.width > c.to_pitch || c.width > c.from_pitch)
        return cudaErrorInvalidValue;
    bool to_device = side_of(c.to) == Side::device, from_device = side_of(c.from) == Side::device;
    if (kind != cudaMemcpyDefault) {
        bool want_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
        bool want_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
        if (to_device != want_to || from_device != want_from) return cudaErrorInvalidValue;
    }
    if (!in_one_piece(c.to, extent(c.to_pitch, c.width, c.height)) ||
        !in_one_piece(c.from, extent(c.from_pitch, c.width, c.height)))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

/* Pageable memory is read at the call, on the way to a device; on the way back the call waits. */
static cudaError_t copy_async(Api &api, Copy c, cudaStream_t stream) {
    if (extent(c.to_pitch, c.width, c.height) == 0) return cudaSuccess;
    bool from_pageable = side_of(c.from) == Side::pageable;
    bool to_pageable = side_of(c.to) == Side::pageable;
    if (stream->capture && (from_pageable || to_pageable)) {
        stream->capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    if (from_pageable) {
        c.staged = std::make_shared<std::vector<unsigned char>>(c.width * c.height);
        for (size_t row = 0; row < c.height; row++)
            memcpy(c.staged->data() + row * c.width, c.from + row * c.from_pitch, c.width);
    }
    cudaError_t error = api.runtime.add(stream, Item{[c] { run_copy(c); }, nullptr, false});
    if (!error && to_pageable) api.runtime.run_until([&] { return stream->items.empty(); });
    return error;
}

/* ---- the default stream's copies: after all streams that it synchronises with ---- */

static cudaError_t wait_for_blocking_streams(Api &api) {
    if (api.disturbs_capture()) return cudaErrorStreamCaptureImplicit;
    api.runtime.run_until([&] {
        for (cudaStream_t s : api.runtime.streams)
            if (!(s->flags & cudaStreamNonBlocking) && !s->items.empty()) return false;
        return true;
    });
    return cudaSuccess;
}

static cudaError_t check_stream(const Api &api, cudaStream_t stream, const char *what) {
    if (api.refused()) return cudaErrorNotPermitted;
    if (!stream || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        fail_default_stream(what);
    return api.is_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

static cudaError_t check_call(const Api &api) {
    if (api.refused()) return cudaErrorNotPermitted;
    if (!is_device(current_device())) return cudaErrorNoDevice;
    return api.disturbs_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

} // namespace emu

using namespace emu;

extern "C" {

cudaError_t cudaMalloc(void **out, size_t bytes) {
    Api api;
    cudaError_t error = check_call(api);
    if (!error && !out) error = cudaErrorInvalidValue;
    if (error) return api.result(error);
    *out = nullptr;
    return bytes == 0 ? cudaSuccess : api.result(take(api, bytes, true, out));
}

cudaError_t cudaFree(void *p) {
    Api api;
    cudaError_t error = check_call(api);
    if (error) return api.result(error);
    if (!p) return cudaSuccess;
    const arena::Allocation *a = arena::contains(p) ? arena::find(p) : nullptr;
    if (!a || a->start != p) return api.result(cudaErrorInvalidValue);
    api.runtime.run_all(); /* freeing waits for the device */
    give_back(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    Api api;
    cudaError_t error = check_call(api);
    if (!error && !out) error = cudaErrorInvalidValue;
    if (error) return api.result(error);
    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (bytes + page - 1) / page * page;
    void *p =
        mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect((char *)p + whole, page, PROT_NONE) != 0)
        return api.result(cudaErrorMemoryAllocation);
    memset(p, 0xff, whole);
    memory().pinned[(unsigned char *)p] = Pinned{bytes, false};
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p) {
    Api api;
    cudaError_t error = check_call(api);
    if (error) return api.result(error);
    if (!p) return cudaSuccess;
    auto block = memory().pinned.find((unsigned char *)p);
    if (block == memory().pinned.end() || block->second.registered)
        return api.result(cudaErrorInvalidValue);
    api.runtime.run_all();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(p, (block->second.bytes + page - 1) / page * page + page);
    memory().pinned.erase(block);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned) {
    Api api;
    cudaError_t error = check_call(api);
    if (!error && (!p || !bytes || side_of(p) != Side::pageable)) error = cudaErrorInvalidValue;
    if (error) return api.result(error);
    memory().pinned[(unsigned char *)p] = Pinned{bytes, true};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p) {
    Api api;
    cudaError_t error = check_call(api);
    if (error) return api.result(error);
    auto block = memory().pinned.find((unsigned char *)p);
    if (block == memory().pinned.end() || !block->second.registered)
        return api.result(cudaErrorInvalidValue);
    api.runtime.run_all();
    memory().pinned.erase(block);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags) {
    Api api;
    if (!out || flags || side_of(host) != Side::pinned) return api.result(cudaErrorInvalidValue);
    *out = host;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *p) {
    Api api;
    if (!out) return api.result(cudaErrorInvalidValue);
    *out = cudaPointerAttributes{cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
    const arena::Allocation *a = arena::contains(p) ? arena::find(p) : nullptr;
    if (a)
        *out = cudaPointerAttributes{cudaMemoryTypeDevice, a->device, (void *)p, nullptr};
    else if (side_of(p) == Side::pinned)
        *out = cudaPointerAttributes{cudaMemoryTypeHost, 0, (void *)p, (void *)p};
    else
        out->hostPointer = (void *)p;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    Api api;
    if (!is_device(current_device())) return api.result(cudaErrorNoDevice);
    if (!free_bytes || !total_bytes) return api.result(cudaErrorInvalidValue);
    *total_bytes = settings().memory_bytes;
    *free_bytes = *total_bytes - memory().used[current_device()];
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    Api api;
    Copy c = {(unsigned char *)to,
              (const unsigned char *)from,
              to_pitch,
              from_pitch,
              width,
              height,
              nullptr};
    cudaError_t error = check_stream(api, stream, "an asynchronous copy");
    if (!error) error = check_copy(c, kind);
    return api.result(error ? error : copy_async(api, c, stream));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    Api api;
    Copy c = {(unsigned char *)to, (const unsigned char *)from, bytes, bytes, bytes, 1, nullptr};
    cudaError_t error = check_call(api);
    if (!error) error = check_copy(c, kind);
    if (!error) error = wait_for_blocking_streams(api);
    if (error || bytes == 0) return api.result(error);
    arena::open();
    run_copy(c);
    return cudaSuccess;
}

static void set_bytes(void *p, int value, size_t bytes) {
    arena::check("cudaMemset", p, bytes, Access::write);
    memset(p, value, bytes);
}

static cudaError_t check_set(void *p, size_t bytes) {
    if (bytes == 0) return cudaSuccess;
    return arena::contains(p) && in_one_piece(p, bytes) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaMemsetAsync");
    if (!error) error = check_set(p, bytes);
    if (error || bytes == 0) return api.result(error);
    return api.result(
        api.runtime.add(stream, Item{[=] { set_bytes(p, value, bytes); }, nullptr, false}));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    Api api;
    cudaError_t error = check_call(api);
    if (!error) error = check_set(p, bytes);
    if (!error) error = wait_for_blocking_streams(api);
    if (error || bytes == 0) return api.result(error);
    arena::open();
    set_bytes(p, value, bytes);
    return cudaSuccess;
}

/* ---- pools: nothing is kept, so that every use after free is seen ---- */

static cudaMemPool_t default_pool(int device) {
    cudaMemPool_t &pool = memory().default_pool[device];
    if (!pool) {
        pool = new CUmemPoolHandle_st;
        pool->device = device;
        pool->is_default = true;
    }
    return pool;
}

static cudaMemPool_t current_pool(int device) {
    cudaMemPool_t &pool = memory().current_pool[device];
    return pool ? pool : default_pool(device);
}

cudaError_t cudaMallocFromPoolAsync(void **out, size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaMallocAsync");
    if (!error && (!out || !pool)) error = cudaErrorInvalidValue;
    if (!error && stream->capture) error = cudaErrorStreamCaptureUnsupported;
    if (error) return api.result(error);
    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    error = take(api, bytes, false, out);
    if (error) return api.result(error);
    memory().from_pool[*out] = pool;
    pool->used += bytes;
    if (pool->used > pool->used_high) pool->used_high = pool->used;
    void *p = *out;
    return api.runtime.add(stream, Item{[p] { arena::set_usable(p); }, nullptr, false});
}

cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream) {
    return cudaMallocFromPoolAsync(out, bytes, current_pool(current_device()), stream);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) {
    Api api;
    cudaError_t error = check_stream(api, stream, "cudaFreeAsync");
    if (!error && p && (!arena::contains(p) || !arena::find(p))) error = cudaErrorInvalidValue;
    if (!error && stream->capture) error = cudaErrorStreamCaptureUnsupported;
    if (error || !p) return api.result(error);
    return api.runtime.add(stream, Item{[p] { give_back(p); }, nullptr, false});
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *out, int device) {
    Api api;
    if (!out || !is_device(device)) return api.result(cudaErrorInvalidDevice);
    *out = default_pool(device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t *out, int device) {
    Api api;
    if (!out || !is_device(device)) return api.result(cudaErrorInvalidDevice);
    *out = current_pool(device);
    return cudaSuccess;
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
    Api api;
    if (!pool || !is_device(device)) return api.result(cudaErrorInvalidDevice);
    memory().current_pool[device] = pool;
    return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t *out, const struct cudaMemPoolProps *props) {
    Api api;
    if (!out || !props || props->location.type != cudaMemLocationTypeDevice ||
        !is_device(props->location.id))
        return api.result(cudaErrorInvalidValue);
    *out = new CUmemPoolHandle_st;
    (*out)->device = props->location.id;
    (*out)->is_default = false;
    return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    Api api;
    if (!pool || pool->is_default) return api.result(cudaErrorInvalidValue);
    api.runtime.run_all();
    if (pool->used)
        fail("a pool is destroyed that still has %llu bytes in use",
             (unsigned long long)pool->used);
    for (auto &current : memory().current_pool)
        if (current.second == pool) current.second = nullptr;
    delete pool;
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute,
                                    void *value) {
    Api api;
    if (!pool || !value) return api.result(cudaErrorInvalidValue);
    if (attribute == cudaMemPoolAttrReleaseThreshold) pool->threshold = *(uint64_t *)value;
    if (attribute == cudaMemPoolAttrUsedMemHigh) pool->used_high = pool->used;
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute,
                                    void *value) {
    Api api;
    if (!pool || !value) return api.result(cudaErrorInvalidValue);
    switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
        *(uint64_t *)value = pool->threshold;
        break;
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemHigh:
        *(uint64_t *)value = pool->used_high;
        break;
    case cudaMemPoolAttrReservedMemCurrent:
    case cudaMemPoolAttrUsedMemCurrent:
        *(uint64_t *)value = pool->used;
        break;
    default:
        *(int *)value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
    Api api;
    return api.result(pool ? cudaSuccess : cudaErrorInvalidValue);
}

} // extern "C"
