/* Files as the system sees them: a temporary name, room on the disk, and the step from a temporary
 * file to one that has its name. */
#ifndef LKS_BASE_FILE_H
#define LKS_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstep/status.h"

/* Bytes [begin, end) of a file. */
typedef struct lks_span {
    int64_t begin, end;
} lks_span;

/* Creates an empty file beside `path` (its folder too, where that is missing) under a name of its
 * own, "PATH.<16 hex digits>.tmp", and returns the number in it. LKS_EIO. */
lks_status lks_file_create_temporary(const char *path, uint64_t *out_token);
/* The name for a token; the caller frees it; NULL when out of memory. */
char *lks_file_temporary_name(const char *path, uint64_t token);

/* Opens for reading, or for reading and writing. LKS_EIO. */
lks_status lks_file_open(const char *path, bool writable, int *out_descriptor);
/* Reserves `bytes` of disk, so that a full disk is an error here and not halfway through. File
 * systems that cannot reserve are left as they are. LKS_EIO. */
lks_status lks_file_reserve(int descriptor, const char *path, int64_t bytes);
/* Lets the disk begin with these bytes while the program goes on, so that less is left to fsync. A
 * hint: what is wrong with the disk is fsync's to say. */
void lks_file_start_sync(int descriptor, lks_span span);
/* Waits until the disk has these bytes, and gives back the memory in which the system keeps them.
 * Where the system cannot wait for a part of a file, a hint, too. LKS_EIO: the disk failed, which
 * fsync does not tell again. */
lks_status lks_file_release(int descriptor, const char *path, lks_span span);
/* These bytes are read soon: the disk can begin. A hint. */
void lks_file_expect(int descriptor, lks_span span);
/* Lets other hosts that open the file from now on read what was written to the descriptor: network
 * file systems keep it to themselves until a close, and hand it over then. LKS_EIO. */
lks_status lks_file_show(int descriptor, const char *path);
/* fsync. LKS_EIO. */
lks_status lks_file_sync(int descriptor, const char *path);

/* Moves all bytes at `offset`. path: for messages. LKS_EIO. */
lks_status lks_file_write_at(int descriptor, const char *path, const void *data, size_t bytes,
                             int64_t offset);
lks_status lks_file_read_at(int descriptor, const char *path, void *data, size_t bytes,
                            int64_t offset);

/* Copies bytes [begin, end) to the same place of another file. from_path, to_path: for messages.
 * LKS_EIO. */
lks_status lks_file_copy(int from, const char *from_path, int to, const char *to_path,
                         int64_t begin, int64_t end);

/* Gives the file its name, replacing what had it, in one step that a crash cannot halve, and makes
 * that durable. LKS_EIO. */
lks_status lks_file_rename(const char *from, const char *to);

#endif
