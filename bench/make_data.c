/* Writes random samples for a benchmark: inputs, float32 [count, shape...], and targets, int32
 * [count] in 0..9. The samples mean nothing; what a step costs does not depend on them. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "h5/h5.h"

static lks_status write_samples(lks_h5_file *file, const lks_shape *shape) {
    const int64_t count = shape->dim[0];
    int64_t elements = 1;
    for (int i = 0; i < shape->rank; i++)
        elements *= shape->dim[i];
    const lks_shape target_shape = {.rank = 1, .dim = {count}};
    lks_h5_array *inputs = NULL, *targets = NULL;
    lks_status status = LKS_OK;
    float *values = malloc((size_t)elements * sizeof *values);
    int32_t *labels = malloc((size_t)count * sizeof *labels);
    if (!values || !labels) {
        status = lks_fail(LKS_ENOMEM, "%lld numbers do not fit in memory", (long long)elements);
        goto done;
    }
    const lks_philox_key key = lks_philox_key_make(1, LKS_RANDOM_INIT, 0);
    for (int64_t i = 0; i < elements; i++)
        values[i] = 2 * lks_philox_uniform(lks_philox(key, (uint64_t)i, 0).word[0]) - 1;
    for (int64_t i = 0; i < count; i++)
        labels[i] = (int32_t)lks_philox_below(lks_philox(key, (uint64_t)i, 1).word[0], 10);
    status = lks_h5_create_array(file, "inputs", LKS_F32, shape, &inputs);
    if (!status) status = lks_h5_create_array(file, "targets", LKS_I32, &target_shape, &targets);
    if (!status) status = lks_h5_write(inputs, 0, elements, LKS_F32, values);
    if (!status) status = lks_h5_write(targets, 0, count, LKS_I32, labels);

done:
    lks_h5_close_array(inputs);
    lks_h5_close_array(targets);
    free(labels);
    free(values);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 2 > LKS_MAX_DIMS) {
        fprintf(stderr, "Usage: %s FILE COUNT DIM...\n", argv[0]);
        return 2;
    }
    lks_shape shape = {.rank = argc - 2};
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = strtoll(argv[i + 2], NULL, 10);
    lks_h5_file *file = NULL;
    lks_status status = lks_h5_create(argv[1], &file);
    if (!status) {
        status = write_samples(file, &shape);
        const lks_status closed = lks_h5_close(file);
        if (!status) status = closed;
    }
    if (status) fprintf(stderr, "%s: %s\n", argv[1], lks_last_error());
    return lks_status_exit_code(status);
}
