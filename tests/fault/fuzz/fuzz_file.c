#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/trailer.h"
#include "fault/fuzz/fuzz.h"
#include "fault/sample.h"

/* libFuzzer calls a function without an argument of ours. */
static int descriptor = -1;
static char path[64];

const char *fuzz_file_path(void) {
    return path;
}

int fuzz_file_open(void) {
    if (descriptor < 0) {
        snprintf(path, sizeof path, "fuzz-input-%d.h5", (int)getpid());
        descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (descriptor < 0 || ftruncate(descriptor, 0) != 0) {
        perror(path);
        abort();
    }
    return descriptor;
}

void fuzz_file_seal(int64_t bytes) {
    const lks_span all = {0, bytes};
    if (lks_trailer_write(descriptor, &all, 1, descriptor, path, bytes)) {
        fprintf(stderr, "%s\n", lks_last_error());
        abort();
    }
}

void fuzz_file_read(void) {
    sample_content content;
    (void)sample_read(path, &content);
    (void)sample_list(path, &content);
    (void)lks_checkpoint_verify(path, NULL);
}
