/* The state of every byte of shared memory, and what of it a running thread may touch. */
#ifndef LKS_CUDA_EMU_SHARED_H
#define LKS_CUDA_EMU_SHARED_H

#include <vector>

#include "emu.h"

namespace emu {

class Shared {
  public:
    Shared();
    /* Nothing is written; the kernel's own variables and `dynamic_bytes` of lks_shared are there.
     */
    void start_block(const void *kernel, size_t dynamic_bytes);
    void barrier_passed() {
        epoch++;
    }
    void warp_passed(unsigned warp) {
        warp_epochs[warp]++;
    }
    bool contains(const void *p) const {
        return (size_t)((const unsigned char *)p - storage) < storage_bytes;
    }
    void check(const void *p, size_t bytes, Access access, unsigned thread);

  private:
    /* Who touched a word or a byte, and when. Epochs count barriers, over all blocks, so that one
     * number also says in which block it was. */
    struct Cell {
        uint32_t write_epoch, read_epoch; /* before this block's first: not yet */
        uint16_t writer, reader;          /* a thread of the block */
        uint16_t write_warp_epoch, read_warp_epoch;
    };

    bool is_there(const SharedVariable &v) const;
    void check_bounds(size_t offset, size_t size);
    [[noreturn]] void fail_bounds(size_t offset, size_t bytes) const;
    std::string describe(size_t offset) const;
    bool ordered(unsigned thread, unsigned earlier, uint32_t at_epoch,
                 uint16_t at_warp_epoch) const;
    void touch(Cell &cell, size_t offset, Access access, unsigned thread);
    void read(Cell &cell, size_t offset, unsigned thread);
    void check_races(const Cell &cell, size_t offset, Access access, unsigned thread) const;
    void note_read(Cell &cell, unsigned thread) const;
    void split(size_t word);

    unsigned char *storage;
    size_t storage_bytes;
    const SharedVariable *variables;
    size_t variable_count;
    std::vector<uint16_t> variable_of; /* of each byte: 0 none, else index + 1 */
    /* A word of 4 bytes has one cell until a part of it is touched alone; from then on, in this
     * block, its bytes have their own. */
    std::vector<Cell> words, bytes;
    std::vector<uint32_t> split_in; /* of each word: the first epoch of that block */
    uint32_t epoch = 1, first_epoch = 1;
    uint16_t warp_epochs[32] = {};
    const void *kernel = nullptr;
    size_t dynamic_bytes = 0;
    size_t found_low = 0, found_high = 0; /* the variable that was found last */
    bool found_index = false;
};

Shared &shared_memory();
/* "(3,0,0)": of the block that runs. */
std::string thread_name(unsigned number);
/* __syncwarp: the accesses of the running thread's warp before it are ordered with those after. */
void warp_synced(unsigned mask);

} // namespace emu

#endif
