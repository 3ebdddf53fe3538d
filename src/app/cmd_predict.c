#include <stdio.h>
#include <stdlib.h>

#include "app/commands.h"
#include "app/job.h"
#include "app/output.h"
#include "checkpoint/array_file.h"
#include "data/data.h"
#include "engine/engine.h"
#include "train/train.h"

/* The arrays of the file into which every rank writes its own rows. */
enum { OUTPUTS, LABELS };

typedef struct prediction {
    lks_job *job;
    lks_dataset *dataset;
    lks_loader *loader;
    lks_data_settings settings;
    lks_array_file *file;
    bool has_labels;         /* the loss knows classes */
    int64_t classes, places; /* an output is [classes, places] */
    float *outputs;          /* [max rows, classes, places] */
    int64_t *labels;         /* [max rows, places] */
} prediction;

/* ---- the file. Collective ---- */

/* outputs: float32 [n, output shape]; labels: int64 [n, output shape without the classes]. */
static lks_status create_file(prediction *p) {
    const lks_shape *output = lks_trainer_output_shape(p->job->trainer);
    lks_shape outputs = {.rank = output->rank + 1}, labels = {.rank = output->rank};
    if (outputs.rank > LKS_MAX_DIMS)
        return lks_fail(LKS_ESHAPE, "the outputs have more dimensions than an array may have, %d",
                        LKS_MAX_DIMS);
    outputs.dim[0] = labels.dim[0] = lks_dataset_count(p->dataset);
    for (int i = 0; i < output->rank; i++)
        outputs.dim[i + 1] = output->dim[i];
    for (int i = 1; i < output->rank; i++)
        labels.dim[i] = output->dim[i];
    p->has_labels = lks_loss_takes_classes(p->job->run.config.loss.type) && output->rank > 0;
    const lks_array_file_entry entries[] = {
        [OUTPUTS] = {"outputs", LKS_F32, outputs}, [LABELS] = {"labels", LKS_I64, labels}};
    return lks_array_file_create(p->job->comm, p->job->args->out, entries, p->has_labels ? 2 : 1,
                                 &p->file);
}

/* ---- the rows of this rank. Local ---- */

static lks_status open_loader(prediction *p) {
    lks_status status = lks_options_parse(&lks_data_settings_options, &p->settings,
                                          p->job->run.config.data, "data");
    if (status) return status;
    lks_loader_config config = {
        .batch_size = p->job->run.config.batch_size,
        .rank = lks_comm_rank(p->job->comm),
        .size = lks_comm_size(p->job->comm),
        .settings = &p->settings,
        .layout = LKS_LAYOUT_ROWS,
    };
    return lks_loader_create(p->dataset, lks_context_device(p->job->context), &config, &p->loader);
}

static lks_status allocate(prediction *p) {
    const lks_shape *output = lks_trainer_output_shape(p->job->trainer);
    size_t rows = (size_t)lks_loader_max_rows(p->loader), outputs, labels;
    int64_t count;
    lks_status status = lks_shape_count(output, &count);
    if (status) return status;
    p->classes = output->rank > 0 ? output->dim[0] : 1;
    p->places = p->classes > 0 ? count / p->classes : 0;
    if (lks_size_mul(rows, (size_t)count, &outputs) &&
        lks_size_mul(rows, (size_t)p->places, &labels)) {
        p->outputs = calloc(outputs + 1, sizeof *p->outputs);
        p->labels = calloc(labels + 1, sizeof *p->labels);
    }
    return p->outputs && p->labels ? LKS_OK
                                   : lks_fail(LKS_ENOMEM,
                                              "the outputs of %zu samples: out of "
                                              "memory",
                                              rows);
}

/* The class with the largest output at every place of a sample; the first of equals. */
static void find_labels(const prediction *p, int64_t rows) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t place = 0; place < p->places; place++) {
            const float *at = p->outputs + row * p->classes * p->places + place;
            int64_t best = 0;
            for (int64_t c = 1; c < p->classes; c++)
                if (at[c * p->places] > at[best * p->places]) best = c;
            p->labels[row * p->places + place] = best;
        }
}

static lks_status predict_batch(prediction *p, const lks_host_batch *batch) {
    int64_t first = batch->step * p->job->run.config.batch_size + batch->first_row;
    lks_status status = lks_predict(p->job->trainer, batch->rows, batch->inputs, p->outputs);
    if (!status) status = lks_array_file_write(p->file, OUTPUTS, first, batch->rows, p->outputs);
    if (!status && p->has_labels) {
        find_labels(p, batch->rows);
        status = lks_array_file_write(p->file, LABELS, first, batch->rows, p->labels);
    }
    return status;
}

static lks_status predict_all(prediction *p) {
    lks_status status = lks_loader_begin(p->loader, 0, 0);
    int64_t steps = lks_loader_steps(p->loader);
    for (int64_t step = 0; step < steps && !status; step++) {
        lks_host_batch batch;
        status = lks_loader_next(p->loader, &batch);
        if (status) break;
        status = predict_batch(p, &batch);
        lks_loader_release(p->loader, &batch);
    }
    return status;
}

/* ---- all of it. Collective ---- */

static lks_status prepare(prediction *p) {
    lks_job *job = p->job;
    const char *checkpoint = job->args->operands[1];
    lks_status status = lks_job_is_first(job)
                            ? lks_output_check(checkpoint, job->args->out, job->args->force)
                            : LKS_OK;
    status = lks_comm_agree(job->comm, status);
    if (!status) status = lks_job_open_split(job, &p->dataset);
    if (!status) status = lks_job_build(job, p->dataset, NULL, NULL);
    if (!status) status = lks_trainer_load_weights(job->trainer, checkpoint);
    if (status) return status;
    status = open_loader(p);
    if (!status) status = allocate(p);
    return lks_comm_agree(job->comm, status);
}

static lks_status predict(prediction *p) {
    lks_status status = prepare(p);
    if (!status) status = create_file(p);
    if (!status) status = lks_comm_agree(p->job->comm, predict_all(p));
    status = lks_array_file_finish(p->file, status);
    if (!status && lks_job_is_first(p->job))
        printf("Outputs of %lld samples written to %s\n", (long long)lks_dataset_count(p->dataset),
               p->job->args->out);
    return status;
}

lks_status lks_command_predict(const lks_args *args) {
    lks_job job;
    prediction p = {.job = &job};
    lks_status status = lks_job_open(args, &job);
    if (!status) status = predict(&p);
    lks_loader_destroy(p.loader);
    lks_options_free(&lks_data_settings_options, &p.settings);
    free(p.outputs);
    free(p.labels);
    lks_job_close(&job, status);
    return status;
}
