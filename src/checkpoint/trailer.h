/* The trailer: the last bytes of a checkpoint, behind the end of what HDF5 reads. It holds a hash
 * of everything but the data of the arrays (which have their own), so that a damaged file is
 * refused before HDF5 sees it: HDF5 has no checksum for texts, and may crash on damage there. */
#ifndef LKS_CHECKPOINT_TRAILER_H
#define LKS_CHECKPOINT_TRAILER_H

#include "base/base.h"

/* Writes the trailer of the spans (ascending, all before `offset`), read from `source`, to
 * `descriptor` at `offset`. path: for messages. LKS_EIO, LKS_ENOMEM. */
lks_status lks_trailer_write(int source, const lks_span *spans, int count, int descriptor,
                             const char *path, int64_t offset);

/* Verifies an open file against its trailer. *out_found: is there one? LKS_OK when there is none.
 * LKS_ECHECKPOINT, LKS_EIO, LKS_ENOMEM. */
lks_status lks_trailer_check(int descriptor, const char *path, bool *out_found);

#endif
