/* The connections of the guards: every rank has one to rank 0. Inside src/comm only. */
#ifndef LKS_COMM_GUARD_LINK_H
#define LKS_COMM_GUARD_LINK_H

#include "comm/guard_judge.h"

/* One end of a connection. */
typedef struct lks_link {
    int socket;  /* -1: none, or closed */
    size_t have; /* bytes of `incoming` that have come */
    lks_guard_report incoming;
    size_t unsent; /* bytes at the end of `outgoing` that are still to go */
    lks_guard_report outgoing;
} lks_link;

/* Connects every rank with rank 0 within some seconds. links: [size] on rank 0, by rank, its own
 * unused; [1] on the others. The same verdict on every rank, with the one that could not be
 * connected and why. Collective. LKS_ECOMM, LKS_ENOMEM. Afterwards, a failure included, the links
 * are the caller's to close. */
lks_status lks_links_open(lks_comm *comm, lks_link *links);
void lks_link_close(lks_link *link);

/* Sends without waiting. A report of which the other side takes nothing is lost: it will get the
 * next one. */
void lks_link_send(lks_link *link, const lks_guard_report *report);

typedef enum lks_link_event { LKS_LINK_NOTHING, LKS_LINK_REPORT, LKS_LINK_CLOSED } lks_link_event;
/* The next report that has come, without waiting; a link that the other side has closed is closed
 * here, too. */
lks_link_event lks_link_receive(lks_link *link, lks_guard_report *out);

#endif
