/* Collectives on device memory: each is queued on the communication stream, behind the work that
 * fills its data and before the work that uses its result. Included by src/comm alone. */
#ifndef LKS_COMM_DEVICE_QUEUE_H
#define LKS_COMM_DEVICE_QUEUE_H

#include "comm/backend.h"

/* Makes comm->queue where every rank has a GPU of its own and a library that joins them opens;
 * where that cannot be, logs why. Collective; the same status on every rank. LKS_ECOMM, LKS_ENOMEM.
 */
lks_status lks_device_queue_open(lks_comm *comm);
/* Waits for what is queued. Collective. */
void lks_device_queue_close(lks_comm *comm);

/* Does this call go through the queue? The same on every rank. */
bool lks_device_queue_takes(const lks_comm *comm, const lks_comm_call *call);
lks_status lks_device_queue_start(lks_comm *comm, const lks_comm_call *call, lks_request **out);
/* The compute stream waits, the host does not. */
lks_status lks_device_queue_wait(lks_comm *comm, lks_request *request);

/* As lks_comm_recorded and lks_comm_replayed. */
int64_t lks_device_queue_recorded(const lks_comm *comm);
void lks_device_queue_replayed(lks_comm *comm, int64_t collectives);

/* How far a rank has come with the collectives of its device's memory. */
typedef struct lks_queue_state {
    int64_t queued;  /* by the host, those of replays included */
    int64_t reached; /* of them, by the device: what comes before them is done; it does not tell of
                        those that are replayed */
} lks_queue_state;
/* Into text[bytes] the first collective that is not finished ("all-reduce of 1.0 MiB, gradients 3";
 * "" where all are). */
lks_queue_state lks_device_queue_state(const lks_comm *comm, char *text, size_t bytes);

#endif
