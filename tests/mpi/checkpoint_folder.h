/* A folder that all ranks of a test share, and a communicator over them. */
#ifndef LKS_TESTS_CHECKPOINT_FOLDER_H
#define LKS_TESTS_CHECKPOINT_FOLDER_H

#include <dirent.h>
#include <unistd.h>

#include "comm/comm.h"
#include "mpi_check.h"

static char shared_folder[64];
static lks_comm *world;

/* Collective. */
static inline void shared_folder_open(void) {
    snprintf(shared_folder, sizeof shared_folder, "/tmp/lockstep-test-XXXXXX");
    if (mpi_check_rank() == 0 && !mkdtemp(shared_folder)) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Bcast(shared_folder, sizeof shared_folder, MPI_CHAR, 0, MPI_COMM_WORLD);
    MPI_REQUIRE(lks_comm_create(MPI_COMM_WORLD, NULL, NULL, &world) == LKS_OK);
}

/* The path of a file in the folder, in one of four buffers used in turn. */
static inline const char *shared_path(const char *name) {
    static char paths[4][320];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", shared_folder, name);
    return path;
}

/* Names in a folder of the folder ("" for itself), without "." and "..". */
static inline int shared_folder_count(const char *name) {
    char path[320];
    snprintf(path, sizeof path, "%s/%s", shared_folder, name);
    DIR *folder = opendir(path);
    if (!folder) return -1;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}

/* Collective. Folders inside are removed when they are named here and empty. */
static inline void shared_folder_close(const char *const *folders, int folder_count) {
    MPI_Barrier(MPI_COMM_WORLD); /* others may still be reading */
    lks_comm_destroy(world);
    world = NULL;
    if (mpi_check_rank() == 0) {
        for (int i = -1; i < folder_count; i++) {
            DIR *folder = opendir(i < 0 ? shared_folder : shared_path(folders[i]));
            if (!folder) continue;
            for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
                unlinkat(dirfd(folder), entry->d_name, 0);
            closedir(folder);
        }
        for (int i = folder_count - 1; i >= 0; i--)
            rmdir(shared_path(folders[i]));
        MPI_CHECK(rmdir(shared_folder) == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

#endif
