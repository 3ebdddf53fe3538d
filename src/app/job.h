/* What train, eval and predict share: the run file on all ranks, the context, the data sets. */
#ifndef LKS_APP_JOB_H
#define LKS_APP_JOB_H

#include "app/args.h"
#include "app/run_file.h"
#include "comm/comm.h"

/* Zeroed, then opened; closed also after a failure. */
typedef struct lks_job {
    const lks_args *args;
    lks_comm *comm; /* of all ranks: exists before the context, whose settings the run file holds */
    lks_run run;
    lks_context *context;
    lks_dataset *train, *validation;
    lks_trainer *trainer;
} lks_job;

/* Rank 0 reads the run file; every rank parses the same text. Then the context. All functions here
 * are collective and return the same status on every rank. */
lks_status lks_job_open(const lks_args *args, lks_job *job);
/* The same in two steps: communicator and run file, where the command line names one; the context.
 */
lks_status lks_job_open_run(const lks_args *args, lks_job *job);
lks_status lks_job_open_context(lks_job *job);
/* Where this rank may have failed alone nothing is closed: closing waits for the others, who wait
 * for this rank, and only main's MPI_Abort reaches them. */
void lks_job_close(lks_job *job, lks_status status);
/* After a failure of which all ranks of the context know, the first of them tells it and ends the
 * job. For the others this is where they are ended, by the launcher or their guard; it returns on
 * the first rank, after failures of which the others do not know, and where nothing has ended this
 * rank in half a minute. NULL is legal. */
void lks_job_leave_the_word(const lks_context *context);

/* The data set of --split, for evaluation or prediction. */
lks_status lks_job_open_split(lks_job *job, lks_dataset **out);
/* The data sets for training. */
lks_status lks_job_open_training(lks_job *job);

/* job->trainer over the data sets (NULL for prediction alone); `shape_of` gives the model's input
 * shape where the run file does not. */
lks_status lks_job_build(lks_job *job, const lks_dataset *shape_of, lks_dataset *train,
                         lks_dataset *validation);

/* Rank 0 writes the results. */
bool lks_job_is_first(const lks_job *job);

#endif
