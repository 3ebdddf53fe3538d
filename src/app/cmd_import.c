#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/job.h"
#include "app/output.h"
#include "checkpoint/exchange.h"
#include "comm/comm.h"
#include "train/train.h"

/* "weights.h5" for "weights.safetensors"; NULL when out of memory. */
static char *default_output(const char *from) {
    static const char suffix[] = ".safetensors";
    size_t length = strlen(from), end = strlen(suffix);
    if (length > end && strcmp(from + length - end, suffix) == 0) length -= end;
    return lks_strdup_printf("%.*s.h5", (int)length, from);
}

static void print_converted(int count, const char *type) {
    if (count > 0)
        printf("note: %d array%s of %s became float32\n", count, lks_plural(count), type);
}

static void print_result(const lks_exchange_summary *found, const char *path) {
    char size[LKS_BYTES_TEXT_BYTES];
    print_converted(found->from_float16, "float16");
    print_converted(found->from_bfloat16, "bfloat16");
    print_converted(found->from_float64, "float64");
    printf("%s: %d arrays, %" PRId64 " numbers, %s (a checkpoint with weights alone)\n", path,
           found->array_count, found->element_count, lks_bytes_text((size_t)found->bytes, size));
}

static lks_status import_weights(lks_comm *comm, const lks_args *args, const char *path) {
    const char *from = args->operands[0];
    bool is_first = lks_comm_rank(comm) == 0;
    lks_exchange_summary found;
    lks_status status = is_first ? lks_output_check(from, path, args->force) : LKS_OK;
    status = lks_comm_agree(comm, status);
    if (!status) status = lks_weights_import(comm, from, "/model", path, &found);
    if (!status && is_first) print_result(&found, path);
    return status;
}

lks_status lks_command_import(const lks_args *args) {
    lks_comm *comm;
    lks_status status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm);
    if (status) return status;
    char *path = args->out ? lks_strdup(args->out) : default_output(args->operands[0]);
    status = lks_comm_agree(comm, path ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory"));
    if (!status) status = import_weights(comm, args, path);
    free(path);
    if (!lks_strands_others(status)) lks_comm_destroy(comm);
    return status;
}
