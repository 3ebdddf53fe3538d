/* What the fuzzers share. */
#ifndef LKS_TESTS_FUZZ_H
#define LKS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's: called once at the start, before it reads the inputs in the folder `seeds`; called
 * with every input, which must not crash, hang or use wrong memory. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A file of this process, made anew with each call; aborts where that fails. Returns the
 * descriptor, open for reading and writing, which stays the fuzzer's. */
int fuzz_file_open(void);
const char *fuzz_file_path(void);
/* Adds a trailer over all `bytes` of the file, so that what stands there passes for undamaged. */
void fuzz_file_seal(int64_t bytes);
/* Reads all there is to read, in every way. */
void fuzz_file_read(void);

#endif
