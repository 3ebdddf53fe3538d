/* Finds, in every access to shared memory: bytes that belong to no variable, reads of what nothing
 * wrote, and two threads at the same byte, one of them writing, with no barrier between. */
#include "shared.h"

#include <cstdio>

namespace emu {

/* Readers that cannot be told apart any more: several of one warp, or of several. */
static constexpr uint16_t many = 0xfffe, many_of_warp = 0x8000;
/* A writer by atomic operations, which do not race with each other. */
static constexpr uint16_t by_atomic = 0x4000;

Shared::Shared() {
    storage = thread_storage(&storage_bytes);
    variables = shared_variables(&variable_count);
    variable_of.assign(storage_bytes, 0);
    words.assign(storage_bytes / 4 + 1, Cell{});
    bytes.assign(words.size() * 4, Cell{});
    split_in.assign(words.size(), 0);
    for (size_t v = 0; v < variable_count; v++)
        for (size_t i = 0; i < variables[v].bytes; i++)
            variable_of[variables[v].offset + i] = (uint16_t)(v + 1);
}

void Shared::start_block(const void *of_kernel, size_t of_launch) {
    kernel = of_kernel;
    first_epoch = ++epoch;
    dynamic_bytes = of_launch;
    found_low = found_high = 0;
}

std::string Shared::describe(size_t offset) const {
    const SharedVariable &v = variables[variable_of[offset] - 1];
    char text[64];
    snprintf(text, sizeof text, "byte %zu of ", offset - v.offset);
    return text + v.name;
}

/* Has the running kernel this variable? */
bool Shared::is_there(const SharedVariable &v) const {
    return !v.kernel || v.kernel == kernel;
}

/* Names the last variable before the place: most probably that is whose end was passed. */
void Shared::fail_bounds(size_t offset, size_t size) const {
    size_t before = offset + 1;
    while (before > 0 &&
           (!variable_of[before - 1] || !is_there(variables[variable_of[before - 1] - 1])))
        before--;
    if (before == 0) fail("access of %zu bytes outside every shared variable", size);
    const SharedVariable &v = variables[variable_of[before - 1] - 1];
    fail("access of %zu bytes at byte %zu of %s, which has %zu bytes", size, offset - v.offset,
         v.name.c_str(), v.dynamic ? dynamic_bytes : v.bytes);
}

void Shared::check_bounds(size_t offset, size_t size) {
    if (offset >= found_low && offset + size <= found_high) return;
    const uint16_t index = variable_of[offset];
    if (!index || !is_there(variables[index - 1])) fail_bounds(offset, size);
    const SharedVariable &v = variables[index - 1];
    found_low = v.offset;
    found_index = v.index;
    found_high = v.offset + (v.dynamic ? dynamic_bytes : v.bytes);
    if (offset + size > found_high) fail_bounds(offset, size);
}

/* Is what `earlier` did then ordered before what `thread` does now? */
bool Shared::ordered(unsigned thread, unsigned earlier, uint32_t at_epoch,
                     uint16_t at_warp_epoch) const {
    if (at_epoch != epoch) return true;
    if (earlier == many) return false;
    const unsigned warp = thread / 32;
    if (earlier >= many_of_warp)
        return warp == earlier - many_of_warp && at_warp_epoch != warp_epochs[warp];
    return earlier == thread || (earlier / 32 == warp && at_warp_epoch != warp_epochs[warp]);
}

void Shared::note_read(Cell &cell, unsigned thread) const {
    const unsigned warp = thread / 32;
    /* Earlier readers count only while nothing orders them before this one. */
    if (ordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch)) {
        cell.reader = (uint16_t)thread;
    } else if (cell.reader != many) {
        const unsigned warp_before =
            cell.reader >= many_of_warp ? (unsigned)cell.reader - many_of_warp : cell.reader / 32u;
        cell.reader = (uint16_t)(warp_before == warp ? many_of_warp + warp : many);
    }
    cell.read_epoch = epoch;
    cell.read_warp_epoch = warp_epochs[warp];
}

void Shared::check_races(const Cell &cell, size_t offset, Access access, unsigned thread) const {
    const bool written = cell.write_epoch >= first_epoch, read = cell.read_epoch >= first_epoch;
    const unsigned writer = cell.writer & ~by_atomic;
    const bool both_atomic = access == Access::atomic && (cell.writer & by_atomic);
    if (written && !both_atomic &&
        !ordered(thread, writer, cell.write_epoch, cell.write_warp_epoch))
        fail("race in shared memory: %s, written by thread %s with no barrier between",
             describe(offset).c_str(), thread_name(writer).c_str());
    if (access == Access::read || both_atomic || !read) return;
    const bool several = cell.reader >= many_of_warp;
    if (!ordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch))
        fail("race in shared memory: writes %s, which %s%s read with no barrier between",
             describe(offset).c_str(), several ? "several threads" : "thread ",
             several ? "" : thread_name(cell.reader).c_str());
}

inline void Shared::read(Cell &cell, size_t offset, unsigned thread) {
    if (cell.write_epoch < first_epoch)
        fail("reads shared memory that nothing wrote: %s", describe(offset).c_str());
    if (cell.write_epoch == epoch) check_races(cell, offset, Access::read, thread);
    const unsigned warp = thread / 32;
    const bool noted = cell.reader == many || (cell.reader == many_of_warp + warp &&
                                               cell.read_warp_epoch == warp_epochs[warp]);
    if (cell.read_epoch != epoch || !noted) note_read(cell, thread);
}

inline void Shared::touch(Cell &cell, size_t offset, Access access, unsigned thread) {
    if (access == Access::read) {
        read(cell, offset, thread);
        return;
    }
    if (access == Access::atomic && cell.write_epoch < first_epoch)
        fail("reads shared memory that nothing wrote: %s", describe(offset).c_str());
    if (cell.write_epoch == epoch || cell.read_epoch == epoch)
        check_races(cell, offset, access, thread);
    cell.writer = (uint16_t)(access == Access::atomic ? thread | by_atomic : thread);
    cell.write_epoch = epoch;
    cell.write_warp_epoch = warp_epochs[thread / 32];
}

void Shared::split(size_t word) {
    if (split_in[word] == first_epoch) return;
    split_in[word] = first_epoch;
    for (size_t i = 0; i < 4; i++)
        bytes[word * 4 + i] = words[word];
}

void Shared::check(const void *p, size_t size, Access access, unsigned thread) {
    const size_t offset = (size_t)((const unsigned char *)p - storage);
    check_bounds(offset, size);
    if (found_index) return;
    if ((offset | size) % 4 == 0) {
        for (size_t at = offset; at < offset + size; at += 4) {
            if (split_in[at / 4] != first_epoch)
                touch(words[at / 4], at, access, thread);
            else
                for (size_t i = at; i < at + 4; i++)
                    touch(bytes[i], i, access, thread);
        }
        return;
    }
    for (size_t i = offset; i < offset + size; i++) {
        split(i / 4);
        touch(bytes[i], i, access, thread);
    }
}

} // namespace emu
