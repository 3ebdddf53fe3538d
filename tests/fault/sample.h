/* A small checkpoint with some of everything, and the reading of all that a checkpoint holds. */
#ifndef LKS_TESTS_FAULT_SAMPLE_H
#define LKS_TESTS_FAULT_SAMPLE_H

#include "comm/comm.h"

/* What of a file has been read. */
typedef struct sample_content {
    int arrays, texts;
    uint64_t digest; /* of names, types, shapes, values and texts, in the order of the file */
} sample_content;

/* Arrays of every element type, of several dimensions, of none, and an empty one; attributes of
 * every kind. Collective. */
lks_status sample_save(lks_comm *comm, const char *path);

/* Reads all arrays and the sample's attributes, as restoring does. */
lks_status sample_read(const char *path, sample_content *out);
/* Lists all objects and reads all attributes, as `lockstep inspect` does of a whole checkpoint. */
lks_status sample_list(const char *path, sample_content *out);

#endif
