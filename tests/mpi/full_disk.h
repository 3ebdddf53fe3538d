/* A disk that fills up on one rank, or breaks. Linking full_disk.c into a test program puts its own
 * posix_fallocate, pwrite family and sync_file_range in the place of libc's, for MPI-IO and HDF5,
 * too; the first ones fail with ENOSPC once the room is used up. Files without a name (in memory,
 * or deleted) always have room. */
#ifndef LKS_TESTS_FULL_DISK_H
#define LKS_TESTS_FULL_DISK_H

#include <stdbool.h>

/* From now on this rank's writes succeed `writes` times and then fail; reservations fail if
 * `reserving` is set. writes < 0: the disk has room again. */
void full_disk_after(int writes, bool reserving);

/* From now on this rank's writes say that they succeeded and lose their data, as MPI-IO may on a
 * full disk; or no longer. */
void full_disk_loses(bool loses);

/* From now on this rank is told of a failed disk where it waits for a part of a file, and there
 * alone, as Linux tells a descriptor of an error but once; or no longer. */
void full_disk_breaks(bool breaks);

/* How many calls failed since, or were lost. */
int full_disk_failures(void);

#endif
