/* Resuming: from a file, or from the newest checkpoint of the run directory that can be restored.
 */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "train/saved_files.h"
#include "train/trainer.h"

typedef struct candidate {
    char *path;
    int64_t created_ns;
    dev_t device;
    ino_t inode; /* second names of one file are one candidate */
} candidate;

static int compare_candidates(const void *a, const void *b) {
    int64_t first = ((const candidate *)a)->created_ns, second = ((const candidate *)b)->created_ns;
    return (first < second) - (first > second);
}

/* Opens one file and notes when it was saved; false where it is no readable checkpoint. */
static bool probe(const lks_logger *logger, candidate *out) {
    lks_checkpoint *file = NULL;
    lks_status status = lks_checkpoint_open(out->path, &file);
    if (status == LKS_OK)
        status = lks_checkpoint_get_i64(file, "/", "created_ns", &out->created_ns);
    lks_checkpoint_close(file);
    if (status != LKS_OK)
        lks_log(logger, LKS_LOG_WARNING, "%s is skipped: %s", out->path, lks_last_error());
    return status == LKS_OK;
}

static bool is_listed(const candidate *list, int count, const struct stat *info) {
    for (int i = 0; i < count; i++)
        if (list[i].device == info->st_dev && list[i].inode == info->st_ino) return true;
    return false;
}

/* Room for one more candidate, with its path; false when out of memory. */
static bool add_candidate(candidate **list, int count, const char *folder, const char *name) {
    candidate *grown = realloc(*list, (size_t)(count + 1) * sizeof(*grown));
    if (grown == NULL) return false;
    *list = grown;
    grown[count] = (candidate){.path = lks_strdup_printf("%s/%s", folder, name)};
    return grown[count].path != NULL;
}

/* The checkpoints of the run directory, the newest first. */
static int list_candidates(const lks_trainer *t, candidate **out) {
    char *folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    DIR *dir = folder == NULL ? NULL : opendir(folder);
    candidate *list = NULL;
    int count = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (!lks_glob_match("*.h5", entry->d_name) ||
            strcmp(entry->d_name, LKS_SAVED_LATEST) == 0 ||
            fstatat(dirfd(dir), entry->d_name, &info, 0) != 0 || is_listed(list, count, &info))
            continue;
        if (!add_candidate(&list, count, folder, entry->d_name)) continue;
        list[count].device = info.st_dev;
        list[count].inode = info.st_ino;
        if (probe(&t->context->logger, &list[count]))
            count++;
        else
            free(list[count].path);
    }
    if (dir != NULL) closedir(dir);
    free(folder);
    if (count > 0) qsort(list, (size_t)count, sizeof(*list), compare_candidates);
    *out = list;
    return count;
}

/* Rank 0 names the candidates one after the other; a file that turns out to be broken is reported,
 * and the next one is tried. */
static lks_status resume_newest(lks_trainer *t, bool *resumed) {
    lks_comm *comm = t->context->comm;
    candidate *list = NULL;
    int count = lks_comm_rank(comm) == 0 ? list_candidates(t, &list) : 0;
    lks_status status = LKS_OK, refusal = LKS_OK;
    char path[PATH_MAX];
    for (int i = 0; status == LKS_OK && !*resumed; i++) {
        snprintf(path, sizeof(path), "%s", i < count ? list[i].path : "");
        status = lks_comm_broadcast(comm, path, sizeof(path), 0);
        if (status != LKS_OK || path[0] == '\0') break;
        refusal = lks_trainer_restore(t, path);
        if (refusal == LKS_OK)
            *resumed = true;
        else if (refusal == LKS_ECOMM)
            status = refusal;
        else
            lks_log(&t->context->logger, LKS_LOG_WARNING, "%s is skipped: %s", path,
                    lks_last_error());
    }
    for (int i = 0; i < count; i++)
        free(list[i].path);
    free(list);
    /* checkpoints that all are refused must not lead to a silent start from the beginning */
    if (status == LKS_OK && !*resumed && refusal != LKS_OK) status = refusal;
    return status;
}

lks_status lks_trainer_resume(lks_trainer *t, const char *which, bool *resumed) {
    *resumed = false;
    if (strcmp(which, "auto") == 0) {
        if (t->config.output == NULL)
            return lks_fail(
                LKS_ECONFIG,
                "resume auto: the run has no `output` folder to look for checkpoints in");
        return resume_newest(t, resumed);
    }
    lks_status status = lks_trainer_restore(t, which);
    *resumed = status == LKS_OK;
    return status;
}
