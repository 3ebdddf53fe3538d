/* For tests of saving and restoring runs: a run that takes moments, its folder, and comparisons. */
#ifndef LKS_TESTS_RESUME_CASE_H
#define LKS_TESTS_RESUME_CASE_H

#include <ftw.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "mpi/train_case.h"
#include "train/trainer.h"

/* Every source of state that a run can have: running statistics, dropout, and (by resume_config)
 * augmentation and micro-batches. */
static const lks_layer_spec resume_layers[] = {
    {.type = "flatten"},
    {.type = "linear", .name = "fc1", .options = "out_features=7"},
    {.type = "batch_norm", .name = "norm", .options = "synchronize=true"},
    {.type = "relu"},
    {.type = "dropout", .options = "p=0.2"},
    {.type = "linear", .name = "fc2", .options = "out_features=5"},
    {0},
};

enum { RESUME_EPOCHS = 2, RESUME_STEPS = 6 }; /* of an epoch: 163 samples in batches of 30 */

static inline lks_train_config resume_config(void) {
    lks_train_config config = case_config();
    config.epochs = RESUME_EPOCHS;
    config.micro_batch_size = 5;
    config.data = "random_crop=1 horizontal_flip=true";
    config.schedule = (lks_spec){.type = "step", .options = "step_size=1 gamma=0.5"};
    return config;
}

static inline lks_status resume_open(train_case *run, MPI_Comm comm,
                                     const lks_train_config *config) {
    return case_open_layers(run, comm, resume_layers, config);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info, (void)kind, (void)place;
    return remove(path);
}

/* Removes a folder with all that is in it. Collective over all ranks. */
static inline void remove_folder(const char *path) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (mpi_check_rank() == 0) nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* "NAME-RANKS", so that tests at several rank counts may run side by side. */
static inline const char *folder_of(const char *name) {
    static char folder[64];
    snprintf(folder, sizeof folder, "%s-%d", name, mpi_check_size());
    return folder;
}

/* The histories but for times and rates of progress. */
static inline bool same_history(lks_trainer *one, lks_trainer *other) {
    int64_t count_a, count_b;
    const lks_epoch_result *a = lks_trainer_history(one, &count_a);
    const lks_epoch_result *b = lks_trainer_history(other, &count_b);
    bool same = count_a == count_b;
    for (int64_t e = 0; same && e < count_a; e++)
        same = a[e].train_loss == b[e].train_loss && a[e].val_loss == b[e].val_loss &&
               a[e].lr == b[e].lr && a[e].train_acc == b[e].train_acc &&
               a[e].val_acc == b[e].val_acc && a[e].is_best == b[e].is_best && a[e].seconds < 3600;
    return same;
}

/* Lines of metrics.jsonl that hold `text`. */
static inline int count_lines(const char *folder, const char *text) {
    char path[128], line[1024];
    int count = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        count += strstr(line, text) != NULL;
    if (file != NULL) fclose(file);
    return count;
}

/* ---- two files ---- */

static inline void *read_whole(lks_checkpoint *file, const char *path, lks_dtype dtype,
                               const lks_shape *shape, size_t *bytes) {
    int64_t count = 0;
    (void)lks_shape_count(shape, &count);
    *bytes = (size_t)count * lks_dtype_bytes(dtype);
    void *data = malloc(*bytes + 1);
    const lks_piece piece = {.count = count, .data = data};
    const lks_checkpoint_array array = {path, dtype, *shape, &piece, 1};
    if (data != NULL && lks_checkpoint_read(file, &array) == LKS_OK) return data;
    free(data);
    return NULL;
}

static inline lks_status compare_one(void *data, const char *path, lks_dtype dtype,
                                     const lks_shape *shape) {
    lks_checkpoint **files = data;
    size_t bytes, same_bytes;
    if (strcmp(path, "/history/seconds") == 0 || strcmp(path, "/history/samples_per_second") == 0)
        return LKS_OK;
    void *a = read_whole(files[0], path, dtype, shape, &bytes);
    void *b = read_whole(files[1], path, dtype, shape, &same_bytes);
    bool same = a != NULL && b != NULL && memcmp(a, b, bytes) == 0;
    free(a);
    free(b);
    return same ? LKS_OK : lks_fail(LKS_EDATA, "%s differs", path);
}

static inline lks_status count_one(void *data, const char *path, lks_dtype dtype,
                                   const lks_shape *shape) {
    (void)path, (void)dtype, (void)shape;
    ++*(int *)data;
    return LKS_OK;
}

/* Do two checkpoints have the same arrays with the same bits, times and rates apart? Local. */
static inline bool same_arrays(const char *a, const char *b) {
    lks_checkpoint *files[2] = {NULL, NULL};
    int count_a = 0, count_b = 0;
    bool same = lks_checkpoint_open(a, &files[0]) == LKS_OK &&
                lks_checkpoint_open(b, &files[1]) == LKS_OK &&
                lks_checkpoint_visit(files[0], compare_one, files) == LKS_OK &&
                lks_checkpoint_visit(files[0], count_one, &count_a) == LKS_OK &&
                lks_checkpoint_visit(files[1], count_one, &count_b) == LKS_OK;
    lks_checkpoint_close(files[0]);
    lks_checkpoint_close(files[1]);
    return same && count_a == count_b && count_a > 0;
}

#endif
