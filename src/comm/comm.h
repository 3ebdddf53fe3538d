/* One communicator: collectives over the ranks that train together.
 *
 * "Collective" means: every rank of the communicator calls it, in the same order, with equal
 * counts, types and operations. Local work that can fail comes before a collective, and
 * lks_comm_agree stands between them: every rank arrives, every rank leaves with the same verdict.
 */
#ifndef LKS_COMM_H
#define LKS_COMM_H

#include <stdint.h>

#include "base/base.h"
#include "device/device.h"
#include "lockstep/context.h" /* MPI_Comm */

typedef struct lks_comm lks_comm;
typedef struct lks_request lks_request;

typedef enum lks_reduce_op { LKS_REDUCE_SUM, LKS_REDUCE_MAX } lks_reduce_op;

/* The kinds of collectives; those of a device's trace (device/trace.h) have these numbers. */
typedef enum lks_collective {
    LKS_ALL_REDUCE,
    LKS_REDUCE_SCATTER,
    LKS_ALL_GATHER,
    LKS_BROADCAST,
    LKS_BARRIER
} lks_collective;
enum { LKS_COLLECTIVE_COUNT = LKS_BARRIER + 1 };
/* "all_reduce" ... */
const char *lks_collective_name(lks_collective kind);
/* Bus bandwidth as nccl-tests defines it is the algorithm's bandwidth, the bytes of all parts
 * together over the time, times this: 2 (n - 1) / n for an all-reduce, (n - 1) / n for a
 * reduce-scatter and an all-gather, 1 for a broadcast. It says what the slowest wire carried,
 * whatever the number of ranks. */
double lks_collective_bus_factor(lks_collective kind, int ranks);

/* Duplicates `mpi_comm` (which stays the caller's); MPI is initialised. device may be NULL: host
 * memory only. Collective. LKS_ECOMM, LKS_ENOMEM. */
lks_status lks_comm_create(MPI_Comm mpi_comm, lks_device *device, const lks_logger *logger,
                           lks_comm **out);
/* Attaches the device on whose memory later collectives work (a rank must know its place on the
 * host before it opens one). Where every rank has a GPU of its own, device memory then moves by
 * NCCL; else through pinned host memory, with one warning that says why. Called once. Collective.
 * LKS_ECOMM, LKS_ENOMEM. */
lks_status lks_comm_set_device(lks_comm *comm, lks_device *device);
/* From now on a communicator of one rank counts `size` of them, this one the first, and moves
 * nothing: a collective leaves the data as they are. What is built over it tells what it would need
 * among so many ranks, as on a device that measures, and must never run. Before anything is built.
 */
void lks_comm_imagine(lks_comm *comm, int size);
/* Replaces the logger, borrowed for the communicator's life. */
void lks_comm_set_logger(lks_comm *comm, const lks_logger *logger);
/* Collective. NULL is legal. */
void lks_comm_destroy(lks_comm *comm);

/* Does a process that MPI calls alone have others beside it, by what its launcher says? Then the
 * launcher is not one of this MPI library's, and every process believes that it is rank 0.
 * LKS_ECOMM explains that. MPI is initialised; not collective. */
lks_status lks_comm_check_launcher(char *const *environment);

int lks_comm_rank(const lks_comm *comm);
int lks_comm_size(const lks_comm *comm);
int lks_comm_local_rank(const lks_comm *comm); /* among the ranks of this host */
int lks_comm_local_size(const lks_comm *comm);
int lks_comm_host_count(const lks_comm *comm);
/* What moves host memory: "shared memory", "MPI"; "nothing" where there is one rank. */
const char *lks_comm_backend_name(const lks_comm *comm);
/* What moves the device's memory: "NCCL 2.28.9", or the same. */
const char *lks_comm_device_path(const lks_comm *comm);
/* Does the device's memory move without the host, which need not wait for it? */
bool lks_comm_is_on_device(const lks_comm *comm);
enum { LKS_COMM_LIBRARY_BYTES = 256 };
/* The MPI library and its version into text[LKS_COMM_LIBRARY_BYTES]; returns text. Legal before
 * MPI_Init. */
const char *lks_comm_library(char *text);
/* The library that moves memory between GPUs and its version, "NCCL 2.28.9 (built with 2.27.3)", or
 * why there is none, into text[LKS_COMM_LIBRARY_BYTES]; returns text. */
const char *lks_comm_device_library(char *text);
/* MPI's thread level, "MPI_THREAD_FUNNELED"; *out_enough: it is what Lockstep needs. MPI is
 * initialised. */
const char *lks_comm_thread_level(bool *out_enough);
/* The duplicate, for what needs MPI itself. */
MPI_Comm lks_comm_mpi(const lks_comm *comm);

/* The verdict of all ranks. Collective. Returns LKS_OK everywhere if every rank gives LKS_OK;
 * otherwise every rank returns the status of the lowest failing rank, whose detail (lks_last_error)
 * it then carries, with "rank R: " in front where R != this rank and not every rank failed. */
lks_status lks_comm_agree(lks_comm *comm, lks_status status);

/* ---- failures ----
 *
 * A rank that waits for others, in a collective or for work of its device that hangs on one, looks
 * meanwhile at whether they still go on. Where NCCL reports an error, or nothing has happened for
 * `deadline` seconds, the rank tells all others over MPI; all stop their device's collectives, say
 * how far they had come, and return LKS_ECOMM from this wait and from every collective after it,
 * with a text that names the culprit: rank, host, GPU, and the collective that it did not finish.
 */

enum { LKS_COMM_DEADLINE_SECONDS = 300 };
/* For waits from now on; > 0. After lks_comm_set_device. */
void lks_comm_set_deadline(lks_comm *comm, double seconds);
/* What the next collective belongs to, for those texts: a text of static life ("backward, gradients
 * of bucket"), and a number that is told with it where it is not negative. */
void lks_comm_set_label(lks_comm *comm, const char *text, int64_t number);

/* For a rank that can take no part in what the others wait for, with lks_last_error() as its
 * reason: tells all of them, as where NCCL reports an error. Always LKS_ECOMM, here with that
 * verdict. Local. */
lks_status lks_comm_give_up(lks_comm *comm);
/* Has a rank before this one come to the same verdict? Then that one can tell it for both. After
 * LKS_ECOMM; local. */
bool lks_comm_is_failure_shared(const lks_comm *comm);

/* ---- recordings (lks_recording) ---- */

/* How many collectives have been recorded so far and not queued, all recordings together. */
int64_t lks_comm_recorded(const lks_comm *comm);
/* A replay has queued so many again: they count where it is asked who is behind. */
void lks_comm_replayed(lks_comm *comm, int64_t collectives);

/* Brings rank 0's text to every rank. *text: on rank 0 the text, elsewhere set to a copy that the
 * caller frees. Collective. LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_comm_share_text(lks_comm *comm, char **text);

/* ---- blocking collectives. `data` is host memory, or memory of the communicator's device where
 * that is not the host. Counts are in elements and may exceed 2^31 - 1. Return LKS_EINVAL,
 * LKS_ECOMM.
 *
 * Device memory is read after what is queued on the compute stream, and what is queued there after
 * a collective finds its result; the host need not wait, and by NCCL it does not. ---- */

/* In place. dtypes: F32, F64, I64, BF16 (summed in float32 and rounded once; by NCCL, rounded
 * after each addition). */
lks_status lks_comm_all_reduce(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                               lks_reduce_op op);
/* In place: this rank's part of the concatenation is input, afterwards all parts are there. counts:
 * [size] elements of each rank's part, 0 is legal. Any dtype. */
lks_status lks_comm_all_gather(lks_comm *comm, void *data, const int64_t *counts, lks_dtype dtype);
lks_status lks_comm_broadcast(lks_comm *comm, void *data, int64_t bytes, int root);
lks_status lks_comm_barrier(lks_comm *comm);

/* ---- files ---- */

/* `bytes` bytes from `data` at `offset` of a file. */
typedef struct lks_file_part {
    int64_t offset, bytes;
    const void *data;
} lks_file_part;

/* Writes the parts of all ranks into the file `path`, which exists, through MPI-IO's collective
 * writes, and waits until the disk has them. parts: ascending, in host memory. Any number of parts
 * is legal on a rank, and any number of bytes. The same verdict on every rank, but MPI-IO itself
 * may lose data without an error where a disk is full: read back what matters. Collective. LKS_EIO,
 * LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_comm_write_file(lks_comm *comm, const char *path, const lks_file_part *parts,
                               int64_t count);

/* ---- non-blocking collectives, for overlap with backward ----
 *
 * Start returns at once; the data must not be touched until lks_comm_wait. Starts come in the same
 * order on every rank; with several communicators, waits too, because a wait moves only its own
 * communicator forward. lks_comm_progress moves what is under way forward; call it between pieces
 * of other work. */
lks_status lks_comm_all_reduce_start(lks_comm *comm, void *data, int64_t count, lks_dtype dtype,
                                     lks_reduce_op op, lks_request **out);
/* In place: data is the concatenation of every rank's part, rank r's part counts[r] elements (0 is
 * legal); afterwards this rank's own part holds the sum, the rest is undefined. counts: [size]. */
lks_status lks_comm_reduce_scatter_start(lks_comm *comm, void *data, const int64_t *counts,
                                         lks_dtype dtype, lks_reduce_op op, lks_request **out);
lks_status lks_comm_all_gather_start(lks_comm *comm, void *data, const int64_t *counts,
                                     lks_dtype dtype, lks_request **out);
lks_status lks_comm_progress(lks_comm *comm);
/* Bytes of host memory that reductions of `count` elements together take beside their data while
 * they are under way: over MPI the summands of the other ranks, as if imagined ranks had hosts of
 * their own; for device memory that goes through the host, a copy. */
size_t lks_comm_reduction_bytes(const lks_comm *comm, int64_t count, lks_dtype dtype);
/* Waits for one request and ends it; NULL is legal. Of device memory that NCCL moves, the compute
 * stream waits and not the host. After a failure all that is under way is given up: this rank gets
 * no more messages for it, but what has begun to come and takes longer than a second, and a small
 * reduction or a broadcast over MPI, may still reach its data when MPI is called. Requests come
 * from a pool: start and wait allocate nothing in steady state. */
lks_status lks_comm_wait(lks_comm *comm, lks_request *request);

enum { LKS_COMM_CPUS_BYTES = 128 };
/* What this rank may compute with. */
typedef struct lks_cpu_share {
    int threads;                    /* the rank's share of the cores, and of limits on CPU time */
    int host_cores;                 /* that the ranks of this host reach together */
    char cpus[LKS_COMM_CPUS_BYTES]; /* hardware threads to which the rank is bound: "0-3,8" */
} lks_cpu_share;

/* How many cores each rank of this host may use as threads, from the binding that the launcher
 * gave. Where Open MPI's mpirun bound the ranks by its own default (one core each for one or two
 * ranks) although cores stay idle, the binding is widened to an equal share of the host's allowed
 * cores; a binding that the user asked for is respected. Collective. LKS_ENOMEM, LKS_ECOMM. */
lks_status lks_comm_threads(lks_comm *comm, lks_cpu_share *out);

/* The same widening for the first line of a main, before MPI_Init; not collective, and silent. True
 * if the binding changed. A program should then execute itself again: GNU's OpenMP counts the CPUs
 * when it is loaded, and where threads outnumber that count it puts them to sleep between parallel
 * regions, at some 40 microseconds each (measured with libgomp 12).
 *
 *     if (lks_comm_bind_at_start(environ)) execv("/proc/self/exe", argv);
 */
bool lks_comm_bind_at_start(char *const *environment);

#endif
