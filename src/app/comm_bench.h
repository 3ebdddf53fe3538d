/* How fast collectives are, over the communicator and the device of a context. */
#ifndef LKS_APP_COMM_BENCH_H
#define LKS_APP_COMM_BENCH_H

#include "comm/comm.h"

/* One measurement: `bytes` are those of all parts together, as nccl-tests counts them. The parts of
 * the ranks are equally long, as those of buckets are; they may be up to an element longer. */
typedef struct lks_comm_sample {
    lks_collective kind;
    int64_t bytes;
    double seconds; /* of one call, on the slowest rank */
    double busy;    /* by which as many seconds of computing become longer while it goes on; between
                       hosts through MPI alone, and where it was asked for, else 0 */
} lks_comm_sample;

enum { LKS_COMM_BENCH_KINDS = 3, LKS_COMM_BENCH_LEAST = 4096, LKS_COMM_BENCH_FACTOR = 4 };

/* Samples that a bench up to `most` bytes takes. */
int lks_comm_bench_count(int64_t most);
/* Lists them in out[lks_comm_bench_count], without seconds: all-reduce, reduce-scatter and
 * all-gather, each from LKS_COMM_BENCH_LEAST to `most` bytes in steps of LKS_COMM_BENCH_FACTOR. */
void lks_comm_bench_list(int64_t most, lks_comm_sample *out);
/* Measures samples[count], collectives of float32 between the memory of devices; `busy` takes
 * three times as long again. Every result is checked before the calls are timed. Collective; the
 * same numbers on every rank. LKS_ECOMM where a result is wrong; LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_comm_measure(lks_comm *comm, lks_device *device, bool busy, lks_comm_sample *samples,
                            int count);

#endif
