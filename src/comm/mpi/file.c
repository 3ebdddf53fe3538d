/* Files that all ranks write together, through MPI-IO. */
#include <limits.h>
#include <stdlib.h>

#include "comm/backend.h"

/* What one rank writes in one collective call. MPI-IO libraries count bytes in an int here and
 * there. */
static const int64_t ROUND_BYTES = (int64_t)1 << 30;

/* This rank's parts on their way, up to ROUND_BYTES a round. */
typedef struct rounds {
    const lks_file_part *parts;
    int64_t count, next; /* parts, and which is next */
    int64_t done;        /* bytes of that one that are written */
    /* [count]: one round as MPI wants it */
    int *lengths;
    MPI_Aint *places, *addresses;
} rounds;

static lks_status make_rounds(const lks_file_part *parts, int64_t count, rounds *out) {
    *out = (rounds){.parts = parts, .count = count};
    if (count > INT_MAX) return lks_fail(LKS_EINVAL, "%lld parts of a file", (long long)count);
    size_t room = (size_t)count + 1; /* of nothing it may give NULL */
    out->lengths = calloc(room, sizeof *out->lengths);
    out->places = calloc(room, sizeof *out->places);
    out->addresses = calloc(room, sizeof *out->addresses);
    if (out->lengths && out->places && out->addresses) return LKS_OK;
    return lks_fail(LKS_ENOMEM, "out of memory for %lld parts of a file", (long long)count);
}

static void free_rounds(rounds *r) {
    free(r->lengths);
    free(r->places);
    free(r->addresses);
}

/* The parts of the next round; 0 when all are through. */
static int take_round(rounds *r) {
    int taken = 0;
    for (int64_t left = ROUND_BYTES; r->next < r->count && left > 0;) {
        const lks_file_part *part = &r->parts[r->next];
        int64_t bytes = part->bytes - r->done < left ? part->bytes - r->done : left;
        if (bytes > 0) {
            r->lengths[taken] = (int)bytes;
            r->places[taken] = (MPI_Aint)(part->offset + r->done);
            MPI_Get_address((const char *)part->data + r->done, &r->addresses[taken++]);
        }
        left -= bytes;
        r->done += bytes;
        if (r->done == part->bytes) {
            r->next++;
            r->done = 0;
        }
    }
    return taken;
}

static lks_status check(int code, const char *path, const char *function) {
    if (code == MPI_SUCCESS) return LKS_OK;
    lks_status status = lks_comm_check_mpi(code, function);
    return status ? lks_fail_in(LKS_EIO, "cannot write %s", path) : LKS_OK;
}

/* Every call is made on every rank, whatever became of the one before. A rank without a part writes
 * nothing, and not with an empty type, which divides by zero in places. */
static lks_status write_round(MPI_File file, const char *path, const rounds *r, int count) {
    MPI_Datatype places = MPI_BYTE, addresses = MPI_BYTE;
    MPI_Status written;
    if (count > 0) {
        MPI_Type_create_hindexed(count, r->lengths, r->places, MPI_BYTE, &places);
        MPI_Type_create_hindexed(count, r->lengths, r->addresses, MPI_BYTE, &addresses);
        MPI_Type_commit(&places);
        MPI_Type_commit(&addresses);
    }
    int viewed = MPI_File_set_view(file, 0, MPI_BYTE, places, "native", MPI_INFO_NULL);
    int wrote = MPI_File_write_all(file, MPI_BOTTOM, count > 0, addresses, &written);
    if (count > 0) {
        MPI_Type_free(&addresses);
        MPI_Type_free(&places);
    }
    lks_status status = check(viewed, path, "MPI_File_set_view");
    return status ? status : check(wrote, path, "MPI_File_write_all");
}

/* As many rounds on every rank as the one with the most has. Collective. */
static lks_status write_rounds(lks_comm *comm, MPI_File file, const char *path, rounds *r) {
    lks_status status = LKS_OK;
    for (int64_t more = 1; !status && more;) {
        int count = take_round(r);
        more = count > 0;
        status = lks_comm_all_reduce(comm, &more, 1, LKS_I64, LKS_REDUCE_MAX);
        if (!status && more) status = lks_comm_agree(comm, write_round(file, path, r, count));
    }
    return status;
}

static lks_status write_open(lks_comm *comm, MPI_File file, const char *path, rounds *r) {
    lks_status status = write_rounds(comm, file, path, r);
    return status ? status
                  : lks_comm_agree(comm, check(MPI_File_sync(file), path, "MPI_File_sync"));
}

/* Closing waits for all ranks: where one could not open the file, the others' handles are left to
 * the end of the program. */
lks_status lks_comm_write_file(lks_comm *comm, const char *path, const lks_file_part *parts,
                               int64_t count) {
    rounds r;
    MPI_File file;
    lks_status status = lks_comm_agree(comm, make_rounds(parts, count, &r));
    if (status) goto done;
    int code = MPI_File_open(comm->mpi, path, MPI_MODE_WRONLY, MPI_INFO_NULL, &file);
    status = lks_comm_agree(comm, check(code, path, "MPI_File_open"));
    if (status) goto done;
    status = write_open(comm, file, path, &r);
    code = MPI_File_close(&file);
    if (!status) status = lks_comm_agree(comm, check(code, path, "MPI_File_close"));
done:
    free_rounds(&r);
    return status;
}
