#include "comm/guard_link.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/backend.h"

enum { MAX_ADDRESSES = 16, ADDRESS_MS = 3000, ALL_MS = 30000 };

/* Where rank 0 can be reached, and what proves that it is this job's. */
typedef struct invitation {
    uint64_t token;
    int count;
    struct {
        socklen_t bytes;
        bool loopback;
        union {
            struct sockaddr any;
            struct sockaddr_in ip4;
            struct sockaddr_in6 ip6;
        } address;
    } at[MAX_ADDRESSES];
} invitation;

/* The first bytes of a connection, in both directions. */
typedef struct hello {
    uint64_t token;
    int64_t rank;
} hello;

/* ---- whole messages with a deadline, while connecting ---- */

static bool wait_for(int socket, short events, double deadline) {
    for (;;) {
        double left = deadline - lks_clock_seconds();
        struct pollfd fd = {.fd = socket, .events = events};
        int ready = poll(&fd, 1, left > 0 ? (int)(1000 * left) + 1 : 0);
        if (ready > 0) return true;
        if (ready < 0 && errno == EINTR) continue;
        errno = ready == 0 ? ETIMEDOUT : errno;
        return false;
    }
}

static bool read_hello(int socket, hello *out, double deadline) {
    for (size_t have = 0; have < sizeof *out;) {
        if (!wait_for(socket, POLLIN, deadline)) return false;
        ssize_t got = recv(socket, (char *)out + have, sizeof *out - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got == 0) errno = ECONNRESET;
        if (got <= 0) return false;
        have += (size_t)got;
    }
    return true;
}

/* The first bytes of a connection always find room. */
static bool write_hello(int socket, const hello *mine) {
    return send(socket, mine, sizeof *mine, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof *mine;
}

/* ---- rank 0 ---- */

/* Every address of this host under which others may reach it. */
static void list_addresses(in_port_t port, bool ip6, invitation *out) {
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0) return;
    for (struct ifaddrs *i = all; i && out->count < MAX_ADDRESSES; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP)) continue;
        bool loopback = i->ifa_flags & IFF_LOOPBACK;
        if (i->ifa_addr->sa_family == AF_INET) {
            out->at[out->count].bytes = sizeof(struct sockaddr_in);
            memcpy(&out->at[out->count].address, i->ifa_addr, sizeof(struct sockaddr_in));
            out->at[out->count].address.ip4.sin_port = port;
        } else if (i->ifa_addr->sa_family == AF_INET6 && ip6) {
            out->at[out->count].bytes = sizeof(struct sockaddr_in6);
            memcpy(&out->at[out->count].address, i->ifa_addr, sizeof(struct sockaddr_in6));
            out->at[out->count].address.ip6.sin6_port = port;
            if (IN6_IS_ADDR_LINKLOCAL(&out->at[out->count].address.ip6.sin6_addr)) continue;
        } else {
            continue;
        }
        out->at[out->count++].loopback = loopback;
    }
    freeifaddrs(all);
}

/* A socket at any port of all addresses, those of IPv6 included where the host has it. */
static int listen_anywhere(int backlog, in_port_t *port, bool *ip6) {
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
    struct sockaddr_in any4 = {.sin_family = AF_INET};
    struct sockaddr_in6 bound;
    socklen_t bytes = sizeof bound;
    int both = 0, s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *ip6 = s >= 0 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both) == 0 &&
           bind(s, (struct sockaddr *)&any6, sizeof any6) == 0;
    if (!*ip6) {
        if (s >= 0) close(s);
        s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s < 0) return -1;
        if (bind(s, (struct sockaddr *)&any4, sizeof any4) != 0) goto failed;
    }
    if (listen(s, backlog) != 0 || getsockname(s, (struct sockaddr *)&bound, &bytes) != 0)
        goto failed;
    *port = bound.sin6_port; /* at the same place in both kinds of address */
    return s;

failed:
    close(s);
    return -1;
}

static lks_status invite(int size, int *out_socket, invitation *out) {
    in_port_t port;
    bool ip6;
    *out_socket = listen_anywhere(size, &port, &ip6);
    if (*out_socket < 0) return lks_fail(LKS_ECOMM, "no socket to listen at: %s", strerror(errno));
    list_addresses(port, ip6, out);
    if (getrandom(&out->token, sizeof out->token, 0) != (ssize_t)sizeof out->token)
        return lks_fail(LKS_ECOMM, "no random number for the connections: %s", strerror(errno));
    return LKS_OK;
}

/* Hears who is at the other end of a new connection; true if a rank more is connected. One that is
 * not of this job is closed. */
static bool admit(int s, uint64_t token, lks_link *links, int size, double deadline) {
    hello theirs, mine = {.token = token};
    double soon = lks_clock_seconds() + 1;
    if (read_hello(s, &theirs, soon < deadline ? soon : deadline) && theirs.token == token &&
        theirs.rank > 0 && theirs.rank < size && write_hello(s, &mine)) {
        bool again = links[theirs.rank].socket >= 0; /* it did not hear our answer in time */
        lks_link_close(&links[theirs.rank]);
        links[theirs.rank].socket = s;
        return !again;
    }
    close(s);
    return false;
}

static lks_status accept_all(int listening, uint64_t token, lks_link *links, int size,
                             double deadline) {
    for (int connected = 1; connected < size;) {
        /* The clock is asked, too: strangers that keep connecting always find poll ready. */
        if (lks_clock_seconds() >= deadline || !wait_for(listening, POLLIN, deadline)) {
            int missing = 1;
            while (missing < size && links[missing].socket >= 0)
                missing++;
            return lks_fail(LKS_ECOMM, "rank %d did not connect within %d s", missing,
                            ALL_MS / 1000);
        }
        int s = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        if (s >= 0)
            connected += admit(s, token, links, size, deadline);
        else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            return lks_fail(LKS_ECOMM, "rank 0 cannot take a connection: %s", strerror(errno));
    }
    return LKS_OK;
}

/* ---- the others ---- */

/* Connects to one address; -1 with errno where that is not possible. */
static int connect_to(const struct sockaddr *address, socklen_t bytes, const hello *mine) {
    double deadline = lks_clock_seconds() + ADDRESS_MS / 1000.0;
    hello theirs = {0};
    int s = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return -1;
    int reason = connect(s, address, bytes) == 0 ? 0 : errno;
    if (reason == EINPROGRESS) {
        socklen_t length = sizeof reason;
        if (!wait_for(s, POLLOUT, deadline))
            reason = errno;
        else if (getsockopt(s, SOL_SOCKET, SO_ERROR, &reason, &length) != 0)
            reason = errno;
    }
    if (reason == 0 && (!write_hello(s, mine) || !read_hello(s, &theirs, deadline))) reason = errno;
    if (reason == 0 && theirs.token != mine->token) reason = EPROTO;
    if (reason == 0) return s;
    close(s);
    errno = reason;
    return -1;
}

/* Tries rank 0's addresses one after the other: which of its networks this host shares is not
 * known. */
static lks_status join(const lks_comm *comm, const invitation *to, bool same_host, lks_link *link) {
    const hello mine = {.token = to->token, .rank = comm->rank};
    errno = EADDRNOTAVAIL;
    for (int i = 0; i < to->count && link->socket < 0; i++)
        if (!to->at[i].loopback || same_host)
            link->socket = connect_to(&to->at[i].address.any, to->at[i].bytes, &mine);
    return link->socket >= 0
               ? LKS_OK
               : lks_fail(LKS_ECOMM,
                          "no connection to rank 0's host at any of its %d addresses: %s",
                          to->count, strerror(errno));
}

lks_status lks_links_open(lks_comm *comm, lks_link *links) {
    bool first = comm->rank == 0;
    for (int i = 0; i < (first ? comm->size : 1); i++)
        links[i] = (lks_link){.socket = -1};
    invitation to = {0};
    int listening = -1, zeros_host = first;
    lks_status status = lks_comm_agree(comm, first ? invite(comm->size, &listening, &to) : LKS_OK);
    if (status == LKS_OK) status = lks_comm_broadcast(comm, &to, sizeof to, 0);
    if (status == LKS_OK) /* the host of rank 0 is the one on which some rank is rank 0 */
        status = lks_comm_check_mpi(
            MPI_Allreduce(MPI_IN_PLACE, &zeros_host, 1, MPI_INT, MPI_MAX, comm->host),
            "MPI_Allreduce");
    bool invited = status == LKS_OK;
    if (invited) {
        double deadline = lks_clock_seconds() + ALL_MS / 1000.0;
        status = first ? accept_all(listening, to.token, links, comm->size, deadline)
                       : join(comm, &to, zeros_host, links);
    }
    /* Before all agree: a rank that still waits here for an answer learns that none comes. */
    if (listening >= 0) close(listening);
    return invited ? lks_comm_agree(comm, status) : status;
}

/* ---- reports ---- */

void lks_link_close(lks_link *link) {
    if (link->socket >= 0) close(link->socket);
    link->socket = -1;
}

static void send_rest(lks_link *link) {
    const char *rest = (const char *)(&link->outgoing + 1) - link->unsent;
    ssize_t sent = send(link->socket, rest, link->unsent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) link->unsent -= (size_t)sent;
}

void lks_link_send(lks_link *link, const lks_guard_report *report) {
    if (link->socket < 0) return;
    /* A report that has begun to go is finished first: half of one would put the next ones out of
     * step. */
    if (link->unsent > 0) send_rest(link);
    if (link->unsent > 0) return;
    link->outgoing = *report;
    link->unsent = sizeof *report;
    send_rest(link);
    if (link->unsent == sizeof *report) link->unsent = 0;
}

lks_link_event lks_link_receive(lks_link *link, lks_guard_report *out) {
    if (link->socket < 0) return LKS_LINK_NOTHING;
    ssize_t got = recv(link->socket, (char *)&link->incoming + link->have,
                       sizeof link->incoming - link->have, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return LKS_LINK_NOTHING;
    if (got <= 0) {
        lks_link_close(link);
        return LKS_LINK_CLOSED;
    }
    link->have += (size_t)got;
    if (link->have < sizeof link->incoming) return LKS_LINK_NOTHING;
    link->have = 0;
    *out = link->incoming;
    return LKS_LINK_REPORT;
}
