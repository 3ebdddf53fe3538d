/* Resuming: from a file, or from the newest checkpoint of the run directory that can be restored.
 */
#include <dirent.h>
#include <errno.h>
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

typedef struct candidate_list {
    candidate *items;
    int count;
} candidate_list;

static int compare_candidates(const void *a, const void *b) {
    int64_t first = ((const candidate *)a)->created_ns, second = ((const candidate *)b)->created_ns;
    return (first < second) - (first > second);
}

/* Opens one file and notes when it was saved. */
static lks_status probe(const lks_logger *logger, candidate *out) {
    lks_checkpoint *file = NULL;
    lks_status status = lks_checkpoint_open(out->path, &file);
    if (status == LKS_OK) {
        status = lks_checkpoint_get_i64(file, "/", "created_ns", &out->created_ns);
        if (status != LKS_OK) status = lks_fail_in(status, "%s", out->path);
    }
    lks_checkpoint_close(file);
    if (status != LKS_OK)
        lks_log(logger, LKS_LOG_WARNING, "%s is skipped: %s", out->path, lks_last_error());
    return status;
}

static bool is_listed(const candidate_list *list, const struct stat *info) {
    for (int i = 0; i < list->count; i++)
        if (list->items[i].device == info->st_dev && list->items[i].inode == info->st_ino)
            return true;
    return false;
}

static void free_candidates(candidate_list *list) {
    for (int i = 0; i < list->count; i++)
        free(list->items[i].path);
    free(list->items);
}

/* Adds the file if it can be read; else returns why not. */
static lks_status add_candidate(const lks_logger *logger, const char *folder, const char *name,
                                const struct stat *info, candidate_list *list) {
    candidate *grown = realloc(list->items, (size_t)(list->count + 1) * sizeof(*grown));
    char *path = lks_strdup_printf("%s/%s", folder, name);
    if (grown != NULL) list->items = grown;
    if (grown == NULL || path == NULL) {
        free(path);
        return lks_fail(LKS_ENOMEM, "the checkpoints in %s: out of host memory", folder);
    }
    grown[list->count] = (candidate){.path = path, .device = info->st_dev, .inode = info->st_ino};
    lks_status status = probe(logger, &grown[list->count]);
    if (status == LKS_OK)
        list->count++;
    else
        free(path);
    return status;
}

/* Returns the last refusal where there are checkpoints and none can be read: that must not lead to
 * a silent start from the beginning. */
static lks_status scan(const lks_logger *logger, const char *folder, DIR *dir,
                       candidate_list *list) {
    lks_status refusal = LKS_OK;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat info;
        if (!lks_glob_match("*.h5", entry->d_name) ||
            strcmp(entry->d_name, LKS_SAVED_LATEST) == 0 ||
            fstatat(dirfd(dir), entry->d_name, &info, 0) != 0 || is_listed(list, &info))
            continue;
        lks_status status = add_candidate(logger, folder, entry->d_name, &info, list);
        if (status != LKS_OK) refusal = status;
    }
    if (list->count > 0 || refusal == LKS_OK) return LKS_OK;
    return lks_fail_in(refusal, "resume auto: no checkpoint in %s can be read", folder);
}

/* The checkpoints of the run directory, the newest first; none where it has no folder of them. */
static lks_status list_candidates(const lks_trainer *t, candidate_list *list) {
    char *folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    if (folder == NULL) return lks_fail(LKS_ENOMEM, "resume auto: out of host memory");
    DIR *dir = opendir(folder);
    lks_status status = LKS_OK;
    if (dir != NULL)
        status = scan(&t->context->logger, folder, dir, list);
    else if (errno != ENOENT)
        status =
            lks_fail(LKS_EIO, "cannot look for checkpoints in %s: %s", folder, strerror(errno));
    if (dir != NULL) closedir(dir);
    free(folder);
    if (list->count > 0)
        qsort(list->items, (size_t)list->count, sizeof(*list->items), compare_candidates);
    return status;
}

/* Checkpoints that were refused one after the other for the same reason, which is said once. */
typedef struct refusals {
    lks_status status;
    int count;
    char first[PATH_MAX];         /* the newest of them */
    char reason[LKS_ERROR_BYTES]; /* without the file's name */
} refusals;

static void describe(const refusals *r, lks_strbuf *out) {
    lks_strbuf_add(out, "%s", r->first);
    if (r->count > 1)
        lks_strbuf_add(out, " and %d older checkpoint%s", r->count - 1, r->count == 2 ? "" : "s");
}

static void report_refusals(const lks_logger *logger, const refusals *r) {
    lks_strbuf which = {0};
    if (r->count == 0) return;
    describe(r, &which);
    lks_log(logger, LKS_LOG_WARNING, "%s %s skipped: %s", which.failed ? r->first : which.text,
            r->count == 1 ? "is" : "are", r->reason);
    lks_strbuf_free(&which);
}

static lks_status fail_refused(const refusals *r) {
    lks_strbuf which = {0};
    describe(r, &which);
    lks_fail(r->status, "resume auto: %s: %s; to begin anew, set another `output`",
             which.failed ? r->first : which.text, r->reason);
    lks_strbuf_free(&which);
    return r->status;
}

/* Notes why `path` was refused; reports those before it, unless that is what keeps it back, too. */
static void note_refusal(const lks_logger *logger, lks_status status, const char *path,
                         refusals *r) {
    const char *reason = lks_last_error();
    size_t length = strlen(path);
    if (strncmp(reason, path, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
        reason += length + 2;
    if (r->count > 0 && strcmp(reason, r->reason) == 0) {
        r->count++;
        return;
    }
    report_refusals(logger, r);
    *r = (refusals){.status = status, .count = 1};
    snprintf(r->first, sizeof(r->first), "%s", path);
    snprintf(r->reason, sizeof(r->reason), "%s", reason);
}

/* Rank 0 names the candidates one after the other; a file that turns out to be broken is reported,
 * and the next one is tried. */
static lks_status resume_newest(lks_trainer *t, bool *resumed) {
    lks_comm *comm = t->context->comm;
    const lks_logger *logger = &t->context->logger;
    candidate_list list = {0};
    refusals refused = {.count = 0};
    lks_status status =
        lks_comm_agree(comm, lks_comm_rank(comm) == 0 ? list_candidates(t, &list) : LKS_OK);
    char path[PATH_MAX];
    for (int i = 0; status == LKS_OK && !*resumed; i++) {
        snprintf(path, sizeof(path), "%s", i < list.count ? list.items[i].path : "");
        status = lks_comm_broadcast(comm, path, sizeof(path), 0);
        if (status != LKS_OK || path[0] == '\0') break;
        lks_status refusal = lks_trainer_restore(t, path);
        *resumed = refusal == LKS_OK;
        if (refusal == LKS_ECOMM)
            status = refusal;
        else if (refusal != LKS_OK)
            note_refusal(logger, refusal, path, &refused);
    }
    free_candidates(&list);
    if (*resumed) report_refusals(logger, &refused);
    /* checkpoints that all are refused must not lead to a silent start from the beginning */
    return status == LKS_OK && !*resumed && refused.count > 0 ? fail_refused(&refused) : status;
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
