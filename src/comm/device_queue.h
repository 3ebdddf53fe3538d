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

/* How far the device has come: how many collectives this rank has queued and, into text[bytes], the
 * first one that is not finished ("all-reduce of 1.0 MiB, gradients 3"; "" where all are). */
int64_t lks_device_queue_state(const lks_comm *comm, char *text, size_t bytes);

#endif
