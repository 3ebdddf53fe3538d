/* Device memory goes through the host where a back end moves host memory alone. Included by
 * src/comm alone. */
#ifndef LKS_COMM_STAGING_H
#define LKS_COMM_STAGING_H

#include "comm/backend.h"

/* Where the transfer's data are device memory: copies what is queued for them on the compute stream
 * to the host, waits for it, and lets the transfer work on the copy. LKS_ENOMEM, LKS_EDEVICE. */
lks_status lks_staging_begin(lks_comm *comm, lks_staging *staging, lks_comm_call *transfer);
/* After the transfer: queues the copy back, on the compute stream. */
lks_status lks_staging_end(lks_comm *comm, lks_staging *staging);
void lks_staging_free(lks_comm *comm, lks_staging *staging);

#endif
