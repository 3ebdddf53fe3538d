/* Times saving and restoring a state against moving the same bytes with plain pwrite + fsync and
 * pread, by turns. Under mpirun:
 *
 *     bench_checkpoint FOLDER MEBIBYTES TURNS
 *
 * The state is that of Adam: parameters and two states of the same shapes, of which every rank has
 * its part of every 25 MiB, as a trainer's ranks have. Prints one JSON object with the seconds of
 * every turn; bench/checkpoint calls it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "checkpoint/checkpoint.h"

enum {
    STATES = 3,
    LAYER_ROWS = 2048,
    LAYER_COLUMNS =
        1000,         /* 7.8 MiB: blocks of 4 MiB and buckets of 25 MiB end in the midst of it */
    BUCKET = 25 << 18 /* elements */
};
static const int64_t LAYER = (int64_t)LAYER_ROWS * LAYER_COLUMNS + LAYER_ROWS; /* with its bias */

typedef struct bench {
    lks_comm *comm;
    int rank, size;
    int64_t layers;
    char *path, *raw_path;
    float *memory; /* this rank's share, piece after piece */
    int64_t share; /* elements in it */
    lks_checkpoint_array *arrays;
    lks_piece *pieces;
    int array_count;
} bench;

enum { SAVE, PWRITE, RESTORE, PREAD, RESTORE_COLD, PREAD_COLD, KINDS };
static const char *const kind_names[KINDS] = {
    "save", "pwrite", "restore", "pread", "restore_cold", "pread_cold",
};

/* ---- the state ---- */

/* This rank's pieces of flat elements [first, first + count): its part of every bucket. */
static int cut_pieces(const bench *b, int64_t first, int64_t count, lks_piece *out) {
    int pieces = 0;
    for (int64_t bucket = first / BUCKET; bucket * BUCKET < first + count; bucket++) {
        int64_t begin, end;
        lks_split(BUCKET, b->rank, b->size, &begin, &end);
        begin += bucket * BUCKET;
        end += bucket * BUCKET;
        if (begin < first) begin = first;
        if (end > first + count) end = first + count;
        if (begin < end) out[pieces++] = (lks_piece){begin - first, end - begin, NULL};
    }
    return pieces;
}

static void add_array(bench *b, const char *path, lks_shape shape, int64_t first, int64_t count) {
    enum { PIECES_MAX = 4 };
    lks_piece *pieces = b->pieces + (ptrdiff_t)b->array_count * PIECES_MAX;
    lks_checkpoint_array *array = &b->arrays[b->array_count++];
    *array = (lks_checkpoint_array){lks_strdup(path), LKS_F32, shape, pieces, 0};
    array->piece_count = cut_pieces(b, first, count, pieces);
    for (int i = 0; i < array->piece_count; i++)
        b->share += pieces[i].count;
}

static void list_state(bench *b) {
    static const char *const groups[STATES] = {"/model", "/optimizer/exp_avg",
                                               "/optimizer/exp_avg_sq"};
    size_t arrays = (size_t)b->layers * STATES * 2;
    b->arrays = calloc(arrays, sizeof *b->arrays);
    b->pieces = calloc(arrays * 4, sizeof *b->pieces);
    for (int s = 0; s < STATES; s++) {
        for (int64_t l = 0; l < b->layers; l++) {
            char path[64];
            int64_t first = l * LAYER, rows = LAYER_ROWS, columns = LAYER_COLUMNS;
            snprintf(path, sizeof path, "%s/layers.%" PRId64 ".weight", groups[s], l);
            add_array(b, path, (lks_shape){2, {rows, columns}}, first, rows * columns);
            snprintf(path, sizeof path, "%s/layers.%" PRId64 ".bias", groups[s], l);
            add_array(b, path, (lks_shape){1, {rows}}, first + rows * columns, rows);
        }
    }
    b->memory = malloc((size_t)b->share * sizeof *b->memory);
    for (int64_t i = 0; i < b->share; i++)
        b->memory[i] = (float)(i % 1009 + b->rank);
    int64_t used = 0;
    for (int a = 0; a < b->array_count; a++) {
        lks_piece *pieces = (lks_piece *)b->arrays[a].pieces;
        for (int p = 0; p < b->arrays[a].piece_count; p++) {
            pieces[p].data = b->memory + used;
            used += pieces[p].count;
        }
    }
}

/* ---- what is timed. Collective ---- */

static lks_status save(bench *b) {
    const lks_checkpoint_content content = {.arrays = b->arrays, .array_count = b->array_count};
    return lks_checkpoint_write(b->comm, b->path, &content, LKS_TRANSFER_INDEPENDENT);
}

/* Every rank its share of one file, in one run. */
static lks_status move_raw(bench *b, bool write) {
    int descriptor = open(b->raw_path, write ? O_WRONLY | O_CREAT : O_RDONLY, 0666);
    if (descriptor < 0) return lks_fail(LKS_EIO, "%s: %s", b->raw_path, strerror(errno));
    char *data = (char *)b->memory;
    size_t left = (size_t)b->share * sizeof *b->memory;
    int64_t offset = (int64_t)left * b->rank;
    while (left > 0) {
        ssize_t done =
            write ? pwrite(descriptor, data, left, offset) : pread(descriptor, data, left, offset);
        if (done <= 0) break;
        data += done;
        offset += done;
        left -= (size_t)done;
    }
    bool failed = left > 0 || (write && fsync(descriptor) != 0);
    close(descriptor);
    return failed ? lks_fail(LKS_EIO, "%s: %s", b->raw_path, strerror(errno)) : LKS_OK;
}

static lks_status restore(bench *b) {
    lks_checkpoint *checkpoint;
    lks_status status = lks_checkpoint_open(b->path, &checkpoint);
    if (!status) status = lks_checkpoint_read_all(checkpoint, b->arrays, b->array_count);
    if (!status) lks_checkpoint_close(checkpoint);
    return status;
}

/* ---- turns ---- */

/* The file's pages leave the cache. */
static void forget(const char *path) {
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0) return;
    (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    close(descriptor);
}

/* What the file system still has to do for earlier turns (a removed GiB is also discarded on the
 * disk) counts for none of them. */
static void settle(const char *path) {
    int descriptor = open(path, O_RDONLY | O_CREAT, 0666);
    if (descriptor < 0) return;
    (void)syncfs(descriptor);
    close(descriptor);
}

/* A page of memory that was long unused may first have to be given back to a virtual machine by its
 * host, at a hundred times the cost of using it. Who moves a file through the system's cache needs
 * as many pages as the file has, and 1.3 % for what the system keeps about them (measured: 13 MiB
 * of its own tables for a GiB on ext4). A quarter more than the file is woken, for all kinds alike:
 * the rest is left to other processes, which take from the same free pages until the move has its
 * own. */
static void wake_memory(size_t file_bytes) {
    const size_t bytes = file_bytes / 4 * 5;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    (void)madvise(memory, bytes, MADV_POPULATE_WRITE);
    munmap(memory, bytes);
}

static lks_status run_kind(bench *b, int kind) {
    switch (kind) {
    case SAVE:
        return save(b);
    case PWRITE:
        return move_raw(b, true);
    case PREAD:
    case PREAD_COLD:
        return move_raw(b, false);
    default:
        return restore(b);
    }
}

/* From the moment when all ranks begin to that when all have ended. */
static lks_status time_kind(bench *b, int kind, double *out_seconds) {
    if (b->rank == 0) {
        if (kind == SAVE) unlink(b->path);
        if (kind == PWRITE) unlink(b->raw_path);
        if (kind == RESTORE_COLD) forget(b->path);
        if (kind == PREAD_COLD) forget(b->raw_path);
        settle(b->path);
    }
    lks_status status = lks_comm_barrier(b->comm);
    if (!status && kind == RESTORE) status = run_kind(b, kind); /* a save leaves little in memory */
    wake_memory((size_t)b->share * sizeof *b->memory);
    if (!status) status = lks_comm_barrier(b->comm);
    double begin = lks_clock_seconds();
    if (!status) status = run_kind(b, kind);
    status = lks_comm_agree(b->comm, status);
    *out_seconds = lks_clock_seconds() - begin;
    return status;
}

/* seconds: [KINDS][turns]. A turn that is not counted comes first. */
static lks_status run_turns(bench *b, int turns, double *seconds) {
    lks_status status = LKS_OK;
    for (int turn = -1; turn < turns; turn++) {
        for (int kind = 0; !status && kind < KINDS; kind++) {
            double each;
            status = time_kind(b, kind, &each);
            if (turn >= 0) seconds[kind * turns + turn] = each;
        }
    }
    return status;
}

static void print_turns(const bench *b, int turns, const double *seconds) {
    printf("{\"bytes\": %" PRId64, STATES * b->layers * LAYER * (int64_t)sizeof(float));
    for (int kind = 0; kind < KINDS; kind++) {
        printf(", \"%s_s\": [", kind_names[kind]);
        for (int turn = 0; turn < turns; turn++)
            printf("%s%.6f", turn ? ", " : "", seconds[kind * turns + turn]);
        printf("]");
    }
    printf("}\n");
}

static void close_bench(bench *b) {
    if (b->rank == 0) {
        unlink(b->path);
        unlink(b->raw_path);
    }
    for (int a = 0; a < b->array_count; a++)
        free((char *)b->arrays[a].path);
    free(b->arrays);
    free(b->pieces);
    free(b->memory);
    free(b->path);
    free(b->raw_path);
    lks_comm_destroy(b->comm);
}

int main(int argc, char **argv) {
    int provided, turns = argc == 4 ? atoi(argv[3]) : 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    if (turns < 1) {
        fprintf(stderr, "usage: bench_checkpoint FOLDER MEBIBYTES TURNS\n");
        MPI_Finalize();
        return 2;
    }
    bench b = {.layers = (atoll(argv[2]) << 18) / (STATES * LAYER)};
    if (b.layers < 1) b.layers = 1;
    lks_status status = lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &b.comm);
    b.rank = lks_comm_rank(b.comm);
    b.size = lks_comm_size(b.comm);
    b.path = lks_strdup_printf("%s/bench_checkpoint.h5", argv[1]);
    b.raw_path = lks_strdup_printf("%s/bench_checkpoint.raw", argv[1]);
    list_state(&b);
    double *seconds = calloc((size_t)(KINDS * turns), sizeof *seconds);
    if (!status) status = run_turns(&b, turns, seconds);
    if (status)
        fprintf(stderr, "%s\n", lks_last_error());
    else if (b.rank == 0)
        print_turns(&b, turns, seconds);
    free(seconds);
    close_bench(&b);
    MPI_Finalize();
    return status ? 1 : 0;
}
