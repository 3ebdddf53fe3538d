/* Damaged checkpoints: every byte of a small one changed in turn, every length to which it may be
 * cut, whole pages lost; large ones at random places. No crash, and never wrong content without an
 * error. One rank: reading is local. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "fault/sample.h"
#include "mpi/mpi_check.h"

/* A file of the test's own, whose bytes are changed where they lie in memory. */
typedef struct image {
    char path[64];
    int descriptor;
    uint8_t *data;
    int64_t bytes;
} image;

static void image_open(lks_status (*save)(lks_comm *comm, const char *path), image *out) {
    lks_comm *comm = NULL;
    struct stat info = {0};
    snprintf(out->path, sizeof out->path, "/tmp/lockstep-damage-%d.h5", (int)getpid());
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &comm) == LKS_OK);
    MPI_REQUIRE(save(comm, out->path) == LKS_OK);
    lks_comm_destroy(comm);
    out->descriptor = open(out->path, O_RDWR);
    MPI_REQUIRE(out->descriptor >= 0 && fstat(out->descriptor, &info) == 0);
    out->bytes = info.st_size;
    out->data =
        mmap(NULL, (size_t)out->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, out->descriptor, 0);
    MPI_REQUIRE(out->data != MAP_FAILED);
}

static void image_close(image *image) {
    munmap(image->data, (size_t)image->bytes);
    close(image->descriptor);
    unlink(image->path);
}

/* What whole files give. */
typedef struct expectation {
    sample_content read, listed;
} expectation;

static bool same(const sample_content *a, const sample_content *b) {
    return a->digest == b->digest && a->arrays == b->arrays && a->texts == b->texts;
}

static expectation expect(const image *image) {
    expectation e;
    MPI_CHECK(sample_read(image->path, &e.read) == LKS_OK && e.read.arrays == 6);
    MPI_CHECK(sample_list(image->path, &e.listed) == LKS_OK && e.listed.arrays == 12);
    return e;
}

/* Reading and verifying refuse the file, and name it. Listing, which reads no data, may find
 * nothing wrong, and then says what it says of the whole file. */
static bool is_refused(const image *image, const expectation *e) {
    sample_content content;
    return sample_read(image->path, &content) == LKS_ECHECKPOINT &&
           strstr(lks_last_error(), image->path) &&
           lks_checkpoint_verify(image->path, NULL) == LKS_ECHECKPOINT &&
           strstr(lks_last_error(), image->path) &&
           (sample_list(image->path, &content) == LKS_ECHECKPOINT || same(&content, &e->listed));
}

static bool is_whole(const image *image, const expectation *e) {
    sample_content content;
    return sample_read(image->path, &content) == LKS_OK && same(&content, &e->read) &&
           lks_checkpoint_verify(image->path, NULL) == LKS_OK;
}

static void no_changed_byte_is_overlooked(void **state) {
    (void)state;
    image small;
    image_open(sample_save, &small);
    const expectation e = expect(&small);
    for (int64_t i = 0; i < small.bytes; i++) {
        uint8_t kept = small.data[i];
        small.data[i] ^= i % 3 ? (uint8_t)(1 << i % 8) : 0xff;
        char text[64];
        snprintf(text, sizeof text, "the change of byte %lld is noticed", (long long)i);
        mpi_check(is_refused(&small, &e), __FILE__, __LINE__, text);
        small.data[i] = kept;
    }
    MPI_CHECK(small.bytes > 1000 && is_whole(&small, &e));
    image_close(&small);
    mpi_verdict();
}

static void no_length_is_taken_for_whole(void **state) {
    (void)state;
    image small;
    image_open(sample_save, &small);
    const expectation e = expect(&small);
    for (int64_t bytes = small.bytes - 1; bytes >= 0; bytes--) {
        char text[64];
        MPI_CHECK(ftruncate(small.descriptor, bytes) == 0);
        snprintf(text, sizeof text, "the cut to %lld bytes is noticed", (long long)bytes);
        mpi_check(is_refused(&small, &e), __FILE__, __LINE__, text);
    }
    /* of a length that it had, but without what stood there, as after a power failure */
    MPI_CHECK(ftruncate(small.descriptor, small.bytes) == 0);
    mpi_check(is_refused(&small, &e), __FILE__, __LINE__, "a file of zeros is noticed");
    image_close(&small);
    mpi_verdict();
}

/* What a file system loses or mixes up is more than a byte: each aligned run of 512 bytes is zero,
 * or another one's. */
static void no_lost_sector_is_overlooked(void **state) {
    (void)state;
    enum { SECTOR = 512 };
    image small;
    image_open(sample_save, &small);
    const expectation e = expect(&small);
    const int64_t sectors = small.bytes / SECTOR;
    for (int64_t s = 0; s < sectors; s++) {
        uint8_t kept[SECTOR], *here = small.data + s * SECTOR;
        memcpy(kept, here, SECTOR);
        for (int way = 0; way < 2; way++) {
            if (way == 0)
                memset(here, 0, SECTOR);
            else
                memcpy(here, small.data + (s + 1) % sectors * SECTOR, SECTOR);
            bool same = memcmp(here, kept, SECTOR) == 0;
            MPI_CHECK(same ? is_whole(&small, &e) : is_refused(&small, &e));
            memcpy(here, kept, SECTOR);
        }
    }
    image_close(&small);
    mpi_verdict();
}

/* ---- large: three blocks and a part of one ---- */

enum { BIG = (3 << 20) + 1000 }; /* elements of float32; 1 Mi of them a block */

static lks_status save_big(lks_comm *comm, const char *path) {
    float *values = malloc(BIG * sizeof *values);
    if (!values) return lks_fail(LKS_ENOMEM, "out of memory");
    for (int i = 0; i < BIG; i++)
        values[i] = (float)i;
    const lks_piece piece = {0, BIG, values};
    const lks_checkpoint_array array = {"/model/big", LKS_F32, {1, {BIG}}, &piece, 1};
    lks_status status = lks_checkpoint_write(
        comm, path, &(lks_checkpoint_content){&array, 1, NULL, 0}, LKS_TRANSFER_INDEPENDENT);
    free(values);
    return status;
}

static void a_large_file_is_verified_everywhere(void **state) {
    (void)state;
    image big;
    image_open(save_big, &big);
    MPI_CHECK(lks_checkpoint_verify(big.path, NULL) == LKS_OK);
    const lks_philox_key key = {{1, 2}};
    for (uint64_t draw = 0; draw < 40; draw++) {
        lks_philox_block random = lks_philox(key, draw, 0);
        int64_t place = (int64_t)(random.word[0] % (uint64_t)big.bytes);
        uint8_t mask = (uint8_t)(1 << random.word[1] % 8);
        big.data[place] ^= mask;
        MPI_CHECK(lks_checkpoint_verify(big.path, NULL) == LKS_ECHECKPOINT);
        big.data[place] ^= mask;
    }
    MPI_CHECK(lks_checkpoint_verify(big.path, NULL) == LKS_OK);
    image_close(&big);
    mpi_verdict();
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_changed_byte_is_overlooked),
        cmocka_unit_test(no_length_is_taken_for_whole),
        cmocka_unit_test(no_lost_sector_is_overlooked),
        cmocka_unit_test(a_large_file_is_verified_everywhere),
    };
    return MPI_CHECK_RUN(&argc, &argv, tests);
}
