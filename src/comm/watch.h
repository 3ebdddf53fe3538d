/* Looks, while this rank waits for others, at whether they still go on, and lets all of them learn
 * of a failure. Included by src/comm alone.
 *
 * Whoever finds a failure sends every rank a notice: what it has found, and how far its device's
 * collectives have come. Whoever gets one answers all in the same way. From the notices that have
 * come by the end of a short time, all ranks read the same culprit: a rank that reports an error of
 * its own; else one that does not answer; else the one that is furthest behind: its host, or where
 * all hosts have queued the same, its device. */
#ifndef LKS_COMM_WATCH_H
#define LKS_COMM_WATCH_H

#include "comm/backend.h"

/* Where a rank is. */
typedef struct lks_rank_place {
    int32_t host; /* the first rank of its host */
    char host_name[64];
    char gpu[32];     /* lks_device_place; "": none */
    char host_id[64]; /* NCCL_HOSTID: NCCL takes ranks with different ones for ranks of different
                         hosts; "": not set */
} lks_rank_place;

/* Once the communicator has its device. Collective; the same status on every rank. LKS_ECOMM,
 * LKS_ENOMEM. */
lks_status lks_watch_create(lks_comm *comm);
/* Collective. */
void lks_watch_destroy(lks_comm *comm);
/* [size] */
const lks_rank_place *lks_watch_places(const lks_comm *comm);

/* To be called again and again by whoever waits for other ranks. waited: seconds that it has waited
 * in which nothing happened; 0 where it may wait forever. LKS_ECOMM: there has been a failure, and
 * it will be returned from now on. */
lks_status lks_watch_look(lks_comm *comm, double waited);
/* This rank has failed with lks_last_error() in something that others wait for: as above. */
lks_status lks_watch_fail(lks_comm *comm);
/* LKS_ECOMM after a failure. */
lks_status lks_watch_status(const lks_comm *comm);

#endif
