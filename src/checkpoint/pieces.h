/* This rank's pieces on their way into the file, with the hashes of their blocks. Local, and free
 * of MPI and HDF5, so that a thread of its own can do it. */
#ifndef LKS_CHECKPOINT_PIECES_H
#define LKS_CHECKPOINT_PIECES_H

#include <stdatomic.h>

#include "base/base.h"
#include "checkpoint/content.h"

typedef struct lks_pieces {
    const lks_save_content *content; /* every array knows its place in the file */
    int descriptor;                  /* for writing */
    int reading;                     /* while the pieces are checked */
    const char *path;                /* for messages */
    int64_t
        *hashes; /* [content.block_count]: set for the blocks that begin in this rank's pieces */
    void *block; /* [LKS_BLOCK_BYTES]: what is read back */
    /* Other hands than lks_pieces_write bring the data into the file, and all of it is read back.
     */
    bool written_elsewhere;
    /* Which of all arrays' blocks are handled now: the functions leave the others alone. */
    int64_t first_block, end_block;
    lks_span unsynced; /* what was written since the disk was last asked to begin */
    lks_span checked;  /* what the last check dealt with; the disk may still be at work on it */
    atomic_bool stop;  /* set by another thread: both functions end soon, with LKS_ESTOPPED */
} lks_pieces;

/* Moves on to the blocks that come next, of `bytes` in all or one block; false when none are left.
 * At first it has none. */
bool lks_pieces_next_window(lks_pieces *pieces, int64_t bytes);

/* Writes the window's pieces so that other ranks can read them, and hashes the blocks that lie
 * wholly in one of them. LKS_EIO. */
lks_status lks_pieces_write(lks_pieces *pieces);

/* Lists where the pieces' bytes go, in ascending order, for other hands to write them. The caller
 * frees *out. LKS_ENOMEM. */
lks_status lks_pieces_list(const lks_pieces *pieces, lks_file_part **out, int64_t *out_count);

/* Afterwards, when all ranks have written: hashes the blocks that are only in part this rank's,
 * reading them back, and finds out whether its part is there as it was written, all while the disk
 * is at work. Then waits until the disk has the window before, and gives the system its memory
 * back; behind the last window, until it has everything. LKS_EIO. */
lks_status lks_pieces_check(lks_pieces *pieces);

#endif
