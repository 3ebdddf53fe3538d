#include <inttypes.h>
#include <math.h>

#include "app/commands.h"
#include "app/job.h"

static lks_status evaluate(lks_job *job) {
    lks_dataset *dataset;
    double loss, acc;
    lks_status status = lks_job_open_split(job, &dataset);
    if (!status) status = lks_job_build(job, dataset, NULL, dataset);
    if (!status) status = lks_trainer_load_weights(job->trainer, job->args->operands[1]);
    if (!status) status = lks_validate(job->trainer, dataset, &loss, &acc);
    if (status || !lks_job_is_first(job)) return status;
    printf("%s (%" PRId64 " samples): Loss: %.6f", job->args->split, lks_dataset_count(dataset),
           loss);
    if (!isnan(acc)) printf(", Acc: %.2f%%", 100 * acc);
    puts("");
    return LKS_OK;
}

lks_status lks_command_eval(const lks_args *args) {
    lks_job job;
    lks_status status = lks_job_open(args, &job);
    if (!status) status = evaluate(&job);
    lks_job_close(&job, status);
    return status;
}
