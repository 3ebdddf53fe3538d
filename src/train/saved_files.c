#include "train/saved_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ---- */

void lks_saved_epoch_name(int64_t epoch, char *out) {
    snprintf(out, LKS_SAVED_NAME_BYTES, "epoch-%04" PRId64 ".h5", epoch);
}

void lks_saved_step_name(int64_t global_step, char *out) {
    snprintf(out, LKS_SAVED_NAME_BYTES, "step-%08" PRId64 ".h5", global_step);
}

void lks_saved_best_name(int64_t epoch, char *out) {
    snprintf(out, LKS_SAVED_NAME_BYTES, "best-epoch-%04" PRId64 ".h5", epoch);
}

typedef void (*name_fn)(int64_t number, char *out);

/* The number in a file's name, which is exactly as `name` makes it; 0 of any other. */
static int64_t number_in(const char *file, const char *prefix, name_fn name) {
    char expected[LKS_SAVED_NAME_BYTES];
    size_t length = strlen(prefix);
    if (strncmp(file, prefix, length) != 0) return 0;
    int64_t number = strtoll(file + length, NULL, 10);
    name(number, expected);
    return number > 0 && strcmp(file, expected) == 0 ? number : 0;
}

/* ---- second names ---- */

static lks_status copy_file(const char *from, const char *to) {
    struct stat info;
    int source = open(from, O_RDONLY | O_CLOEXEC);
    int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    lks_status status = LKS_OK;
    if (source < 0 || target < 0 || fstat(source, &info) != 0)
        status = lks_fail(LKS_EIO, "cannot copy %s to %s: %s", from, to, strerror(errno));
    if (status == LKS_OK) status = lks_file_copy(source, from, target, to, 0, info.st_size);
    if (status == LKS_OK) status = lks_file_sync(target, to);
    if (source >= 0) close(source);
    if (target >= 0) close(target);
    return status;
}

/* Gives `temporary`, a file of the folder, the name `to`; it is gone when that fails. */
static lks_status move_into_place(const char *folder, const char *temporary, const char *to,
                                  lks_status made) {
    lks_status status = made;
    if (status == LKS_OK && rename(temporary, to) != 0)
        status = lks_fail(LKS_EIO, "cannot rename %s to %s: %s", temporary, to, strerror(errno));
    /* also after a success: renaming a second name of the same file to the first leaves both */
    unlink(temporary);
    return status == LKS_OK ? lks_sync_folder(folder) : status;
}

lks_status lks_saved_file_link(const char *folder, const char *from, const char *to) {
    char *source = lks_strdup_printf("%s/%s", folder, from);
    char *target = lks_strdup_printf("%s/%s", folder, to);
    char *temporary = lks_strdup_printf("%s/%s.tmp", folder, to);
    lks_status status = LKS_OK;
    if (source == NULL || target == NULL || temporary == NULL) {
        status = lks_fail(LKS_ENOMEM, "%s/%s: out of host memory", folder, to);
    } else {
        unlink(temporary); /* of a run that was killed */
        if (link(source, temporary) != 0) status = copy_file(source, temporary);
        status = move_into_place(folder, temporary, target, status);
    }
    free(source);
    free(target);
    free(temporary);
    return status;
}

lks_status lks_saved_file_point(const char *folder, const char *name) {
    char *latest = lks_strdup_printf("%s/" LKS_SAVED_LATEST, folder);
    char *temporary = lks_strdup_printf("%s/" LKS_SAVED_LATEST ".tmp", folder);
    lks_status status = LKS_OK;
    if (latest == NULL || temporary == NULL) {
        status = lks_fail(LKS_ENOMEM, "%s/" LKS_SAVED_LATEST ": out of host memory", folder);
    } else {
        unlink(temporary);
        if (symlink(name, temporary) != 0)
            status = lks_fail(LKS_EIO, "cannot link %s to %s: %s", latest, name, strerror(errno));
        status = move_into_place(folder, temporary, latest, status);
    }
    free(latest);
    free(temporary);
    return status;
}

/* ---- which are kept ---- */

/* `before`: the status of what was removed before; the first failure counts. */
static lks_status remove_file(const char *folder, const char *name, lks_status before) {
    char *path = lks_strdup_printf("%s/%s", folder, name);
    lks_status status = before;
    if (path != NULL && unlink(path) != 0 && before == LKS_OK)
        status = lks_fail(LKS_EIO, "cannot remove the old file %s: %s", path, strerror(errno));
    free(path);
    return status;
}

lks_status lks_saved_files_remove_temporary(const char *folder) {
    lks_status status = LKS_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        if (lks_glob_match("*.h5.tmp", entry->d_name) ||
            lks_glob_match("*.h5.????????????????.tmp", entry->d_name))
            status = remove_file(folder, entry->d_name, status);
    if (dir != NULL) closedir(dir);
    return status;
}

typedef struct aged_file {
    int64_t global_step;
    char name[LKS_SAVED_NAME_BYTES];
} aged_file;

static int compare_ages(const void *a, const void *b) {
    const aged_file *first = a, *second = b;
    int64_t older = first->global_step, newer = second->global_step;
    return older != newer ? (older > newer) - (older < newer) : strcmp(first->name, second->name);
}

/* The step of the run at which a periodic file was saved; 0 of any other file. */
static int64_t step_of_file(const char *file, int64_t steps_per_epoch) {
    int64_t step = number_in(file, "step-", lks_saved_step_name);
    int64_t epoch = number_in(file, "epoch-", lks_saved_epoch_name);
    return step > 0 ? step : epoch * steps_per_epoch;
}

lks_status lks_saved_files_keep_last(const char *folder, int64_t keep, int64_t steps_per_epoch,
                                     int64_t global_step) {
    lks_status status = LKS_OK;
    DIR *dir = opendir(folder);
    aged_file *files = NULL;
    int64_t count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        int64_t step = step_of_file(entry->d_name, steps_per_epoch);
        if (step == 0 || step > global_step) continue;
        aged_file *grown = realloc(files, (size_t)(count + 1) * sizeof(*files));
        if (grown == NULL) {
            status = lks_fail(LKS_ENOMEM, "%s: out of host memory for a list of its files", folder);
            break;
        }
        files = grown;
        files[count].global_step = step;
        memcpy(files[count++].name, entry->d_name, strlen(entry->d_name) + 1); /* as made above */
    }
    if (dir != NULL) closedir(dir);
    if (count > 0) qsort(files, (size_t)count, sizeof(*files), compare_ages);
    for (int64_t i = 0; status != LKS_ENOMEM && i < count - keep; i++)
        status = remove_file(folder, files[i].name, status);
    free(files);
    return status;
}

lks_status lks_saved_files_keep_best(const char *folder, const bool *kept, int64_t epochs) {
    lks_status status = LKS_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        int64_t saved = number_in(entry->d_name, "best-epoch-", lks_saved_best_name);
        if (saved > 0 && saved <= epochs && !kept[saved - 1])
            status = remove_file(folder, entry->d_name, status);
    }
    if (dir != NULL) closedir(dir);
    return status;
}
