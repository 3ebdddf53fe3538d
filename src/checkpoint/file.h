/* The file as the system sees it: a temporary name, room on the disk, and the step from a temporary
 * file to a checkpoint. Called by rank 0 alone; local. */
#ifndef LKS_CHECKPOINT_FILE_H
#define LKS_CHECKPOINT_FILE_H

#include "base/base.h"

/* Creates an empty file beside `path` (its folder too, where that is missing) under a name of its
 * own, "PATH.<16 hex digits>.tmp", and returns the number in it. LKS_EIO. */
lks_status lks_file_create_temporary(const char *path, uint64_t *out_token);
/* The name for a token; the caller frees it; NULL when out of memory. */
char *lks_file_temporary_name(const char *path, uint64_t token);

/* Reserves `bytes` of disk, so that a full disk is an error here and not halfway through. File
 * systems that cannot reserve are left as they are. LKS_EIO. */
lks_status lks_file_reserve(const char *path, int64_t bytes);

/* Makes the temporary file durable and gives it its name in one step that a crash cannot halve.
 * LKS_EIO. */
lks_status lks_file_publish(const char *temporary, const char *path);

#endif
