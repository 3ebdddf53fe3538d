/* Finds, in every access to shared memory: bytes that belong to no variable, reads of what nothing
 * wrote, and two threads at the same byte, one of them writing, with no barrier between. */
#include "shared.h"

#include <cstdio>

namespace emu {

/* Readers that cannot be told apart any more: several of one warp, or of several. */
static constexpr uint16_t nobody = 0xffff, many = 0xfffe, many_of_warp = 0x8000;

Shared::Shared() {
    storage = thread_storage(&storage_bytes);
    variables = shared_variables(&variable_count);
    variable_of.assign(storage_bytes, 0);
    cells.assign(storage_bytes, Cell{});
    for (size_t v = 0; v < variable_count; v++)
        for (size_t i = 0; i < variables[v].bytes; i++)
            variable_of[variables[v].offset + i] = (uint16_t)(v + 1);
}

void Shared::start_block(const void *of_kernel, size_t bytes) {
    kernel = of_kernel;
    block++;
    epoch = 0;
    dynamic_bytes = bytes;
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
void Shared::fail_bounds(size_t offset, size_t bytes) const {
    size_t before = offset + 1;
    while (before > 0 &&
           (!variable_of[before - 1] || !is_there(variables[variable_of[before - 1] - 1])))
        before--;
    if (before == 0) fail("access of %zu bytes outside every shared variable", bytes);
    const SharedVariable &v = variables[variable_of[before - 1] - 1];
    fail("access of %zu bytes at byte %zu of %s, which has %zu bytes", bytes, offset - v.offset,
         v.name.c_str(), v.dynamic ? dynamic_bytes : v.bytes);
}

void Shared::check_bounds(size_t offset, size_t bytes) const {
    uint16_t index = variable_of[offset];
    if (!index || !is_there(variables[index - 1])) fail_bounds(offset, bytes);
    const SharedVariable &v = variables[index - 1];
    if (offset - v.offset + bytes > (v.dynamic ? dynamic_bytes : v.bytes))
        fail_bounds(offset, bytes);
}

/* Is what `earlier` did then ordered before what `thread` does now? */
bool Shared::ordered(unsigned thread, unsigned earlier, uint32_t at_epoch,
                     uint32_t at_warp_epoch) const {
    if (at_epoch != epoch) return true;
    if (earlier == many) return false;
    unsigned warp = thread / 32;
    if (earlier >= many_of_warp)
        return warp == earlier - many_of_warp && at_warp_epoch != warp_epochs[warp];
    return earlier == thread || (earlier / 32 == warp && at_warp_epoch != warp_epochs[warp]);
}

void Shared::note_read(Cell &cell, unsigned thread) {
    unsigned warp = thread / 32;
    /* Earlier readers count only while nothing orders them before this one. */
    bool alone = cell.reader == nobody ||
                 ordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch);
    if (alone) {
        cell.reader = (uint16_t)thread;
    } else if (cell.reader != many) {
        unsigned warp_before =
            cell.reader >= many_of_warp ? (unsigned)cell.reader - many_of_warp : cell.reader / 32u;
        cell.reader = (uint16_t)(warp_before == warp ? many_of_warp + warp : many);
    }
    cell.read_epoch = epoch;
    cell.read_warp_epoch = warp_epochs[warp];
}

void Shared::check_byte(size_t offset, Access access, unsigned thread) {
    Cell &cell = cells[offset];
    if (cell.block != block) {
        cell = Cell{};
        cell.block = block;
        cell.writer = cell.reader = nobody;
    }
    bool reads = access != Access::write, writes = access != Access::read;
    if (reads && !cell.written)
        fail("reads shared memory that nothing wrote: %s", describe(offset).c_str());
    bool both_atomic = access == Access::atomic && cell.atomic;
    if (cell.written && !both_atomic &&
        !ordered(thread, cell.writer, cell.write_epoch, cell.write_warp_epoch))
        fail("race in shared memory: %s, written by thread %s with no barrier between",
             describe(offset).c_str(), thread_name(cell.writer).c_str());
    if (writes && !both_atomic && cell.reader != nobody &&
        !ordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch))
        fail("race in shared memory: writes %s, which %s%s read with no barrier between",
             describe(offset).c_str(), cell.reader >= many_of_warp ? "several threads" : "thread ",
             cell.reader >= many_of_warp ? "" : thread_name(cell.reader).c_str());
    if (writes) {
        cell.written = true;
        cell.atomic = access == Access::atomic;
        cell.writer = (uint16_t)thread;
        cell.write_epoch = epoch;
        cell.write_warp_epoch = warp_epochs[thread / 32];
    } else {
        note_read(cell, thread);
    }
}

void Shared::check(const void *p, size_t bytes, Access access, unsigned thread) {
    size_t offset = (size_t)((const unsigned char *)p - storage);
    check_bounds(offset, bytes);
    for (size_t i = 0; i < bytes; i++)
        check_byte(offset + i, access, thread);
}

} // namespace emu
