/* Any bytes as a checkpoint. Nearly all are refused by their trailer, which is what it is for.
 *
 * Compiled with LKS_FUZZ_SEALED, the bytes get a trailer that fits, so that HDF5 sees them. HDF5
 * 1.10 does not survive everything, so that this is for finding out, not for passing. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "fault/fuzz/fuzz.h"
#include "fault/sample.h"

/* Begins with a real checkpoint. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    mkdir("seeds", 0700);
    if (!sample_save(NULL, "seeds/sample.h5")) return 0;
    fprintf(stderr, "%s\n", lks_last_error());
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    int descriptor = fuzz_file_open();
    if (pwrite(descriptor, data, bytes, 0) != (ssize_t)bytes) abort();
#ifdef LKS_FUZZ_SEALED
    fuzz_file_seal((int64_t)bytes);
#endif
    fuzz_file_read();
    return 0;
}
