/* Any bytes as a safetensors file, which may come from anywhere. What is accepted is imported. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/exchange.h"
#include "checkpoint/safetensors.h"
#include "fault/fuzz/fuzz.h"
#include "fault/sample.h"

/* Begins with the model of a checkpoint. */
static lks_status make_seed(void) {
    const lks_weights_format *format;
    lks_exchange_summary summary;
    lks_checkpoint *checkpoint = NULL;
    lks_status status = sample_save(NULL, "sample.h5");
    if (!status) status = lks_checkpoint_open("sample.h5", &checkpoint);
    if (!status) status = lks_weights_format_find("safetensors", "", &format);
    if (!status)
        status = lks_weights_export(checkpoint, "/model", NULL, 0, format,
                                    "seeds/model.safetensors", &summary);
    lks_checkpoint_close(checkpoint);
    return status;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    mkdir("seeds", 0700);
    if (!make_seed()) return 0;
    fprintf(stderr, "%s\n", lks_last_error());
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lks_safetensors file = LKS_SAFETENSORS_NONE;
    if (pwrite(fuzz_file_open(), data, bytes, 0) != (ssize_t)bytes) abort();
    lks_status status = lks_safetensors_open(fuzz_file_path(), &file);
    lks_safetensors_close(&file);
    if (!status) {
        lks_exchange_summary summary;
        (void)lks_weights_import(NULL, fuzz_file_path(), "/model", "imported.h5", &summary);
    }
    return 0;
}
