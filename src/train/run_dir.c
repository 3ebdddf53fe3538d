#include "train/run_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "train/train.h"

struct lks_run_dir {
    char *path;
    FILE *metrics, *log;
    lks_logger *logger;
    bool warned;
};

static lks_status open_in(const char *directory, const char *name, const char *mode, FILE **out) {
    char *path = lks_strdup_printf("%s/%s", directory, name);
    if (path == NULL) return lks_fail(LKS_ENOMEM, "output %s: out of host memory", directory);
    *out = fopen(path, mode);
    lks_status status =
        *out == NULL ? lks_fail(LKS_EIO, "cannot write %s: %s", path, strerror(errno)) : LKS_OK;
    free(path);
    return status;
}

lks_status lks_run_dir_write(const lks_run_dir *dir, const char *name, const char *text) {
    FILE *file;
    const char *directory = dir->path;
    char *path = lks_strdup_printf("%s/%s", directory, name);
    char *temporary = path == NULL ? NULL : lks_strdup_printf("%s.tmp", path);
    lks_status status = LKS_OK;
    if (path == NULL || temporary == NULL) {
        status = lks_fail(LKS_ENOMEM, "output %s: out of host memory", directory);
        goto done;
    }
    file = fopen(temporary, "w");
    if (file == NULL) {
        status = lks_fail(LKS_EIO, "cannot write %s: %s", temporary, strerror(errno));
        goto done;
    }
    bool written = fputs(text, file) >= 0;
    if (fclose(file) != 0 || !written || rename(temporary, path) != 0) {
        status = lks_fail(LKS_EIO, "cannot write %s: %s", path, strerror(errno));
        remove(temporary);
    }

done:
    free(path);
    free(temporary);
    return status;
}

lks_status lks_run_dir_create(const char *path, const char *run_file, lks_logger *logger,
                              lks_run_dir **out) {
    char *checkpoints = lks_strdup_printf("%s/checkpoints", path);
    lks_run_dir *dir = calloc(1, sizeof(*dir));
    lks_status status = LKS_OK;
    if (dir == NULL || checkpoints == NULL) {
        status = lks_fail(LKS_ENOMEM, "output %s: out of host memory", path);
        goto done;
    }
    dir->logger = logger;
    dir->path = lks_strdup(path);
    if (dir->path == NULL) {
        status = lks_fail(LKS_ENOMEM, "output %s: out of host memory", path);
        goto done;
    }
    status = lks_make_folders(checkpoints);
    if (status != LKS_OK) status = lks_fail_in(status, "output %s", path);
    if (status == LKS_OK && run_file != NULL)
        status = lks_run_dir_write(dir, "config.yaml", run_file);
    if (status == LKS_OK) status = open_in(path, "metrics.jsonl", "a", &dir->metrics);
    if (status == LKS_OK) status = open_in(path, "log.txt", "a", &dir->log);
    if (status != LKS_OK) goto done;
    logger->also = dir->log;
    *out = dir;
    dir = NULL;

done:
    lks_run_dir_destroy(dir);
    free(checkpoints);
    return status;
}

void lks_run_dir_destroy(lks_run_dir *dir) {
    if (dir == NULL) return;
    if (dir->log != NULL && dir->logger->also == dir->log) dir->logger->also = NULL;
    if (dir->metrics != NULL) fclose(dir->metrics);
    if (dir->log != NULL) fclose(dir->log);
    free(dir->path);
    free(dir);
}

static void add_number(lks_strbuf *line, const char *key, double value) {
    lks_strbuf_add(line, ", \"%s\": ", key);
    lks_strbuf_add_json_number(line, value);
}

/* One whole line, flushed, so that a reader of a running job never sees half of one. */
static void write_line(lks_run_dir *dir, lks_strbuf *line) {
    lks_strbuf_add(line, "}\n");
    bool written =
        !line->failed && fwrite(line->text, 1, line->length, dir->metrics) == line->length;
    if ((!written || fflush(dir->metrics) != 0) && !dir->warned) {
        lks_log(dir->logger, LKS_LOG_WARNING,
                "metrics.jsonl could not be written: %s; training goes on without it",
                line->failed ? "out of host memory" : strerror(errno));
        dir->warned = true;
    }
    lks_strbuf_free(line);
}

void lks_run_dir_progress(lks_run_dir *dir, const lks_progress *progress, int64_t global_step) {
    lks_strbuf line = {0};
    lks_strbuf_add(
        &line, "{\"kind\": \"progress\", \"epoch\": %lld, \"step\": %lld, \"global_step\": %lld",
        (long long)progress->epoch, (long long)progress->step, (long long)global_step);
    add_number(&line, "train_loss", progress->loss);
    add_number(&line, "train_acc", progress->acc);
    add_number(&line, "lr", progress->lr);
    add_number(&line, "grad_norm", progress->grad_norm);
    add_number(&line, "samples_per_second", progress->samples_per_second);
    write_line(dir, &line);
}

/* The command prints the same line to its output; this is the copy that stays with the run. */
static void log_epoch(lks_run_dir *dir, const lks_epoch_result *result, int64_t epochs) {
    lks_strbuf line = {0};
    lks_epoch_print(result, epochs, &line);
    if (!line.failed) fprintf(dir->log, "%s\n", line.text);
    fflush(dir->log);
    lks_strbuf_free(&line);
}

void lks_run_dir_epoch(lks_run_dir *dir, const lks_epoch_result *result, int64_t epochs,
                       int64_t global_step) {
    log_epoch(dir, result, epochs);
    lks_strbuf line = {0};
    lks_strbuf_add(&line, "{\"kind\": \"epoch\", \"epoch\": %lld, \"global_step\": %lld",
                   (long long)result->epoch, (long long)global_step);
    add_number(&line, "train_loss", result->train_loss);
    add_number(&line, "train_acc", result->train_acc);
    add_number(&line, "val_loss", result->val_loss);
    add_number(&line, "val_acc", result->val_acc);
    add_number(&line, "lr", result->lr);
    add_number(&line, "seconds", result->seconds);
    add_number(&line, "samples_per_second", result->samples_per_second);
    lks_strbuf_add(&line, ", \"best\": %s", result->is_best ? "true" : "false");
    write_line(dir, &line);
}

void lks_run_dir_checkpoint(lks_run_dir *dir, const lks_saved_checkpoint *saved) {
    lks_strbuf line = {0};
    lks_strbuf_add(&line, "{\"kind\": \"checkpoint\", \"path\": ");
    lks_strbuf_add_json(&line, saved->path);
    lks_strbuf_add(&line, ", \"epoch\": %lld, \"global_step\": %lld, \"bytes\": %lld",
                   (long long)saved->epoch, (long long)saved->global_step, (long long)saved->bytes);
    add_number(&line, "seconds", saved->seconds);
    add_number(&line, "stall_seconds", saved->stall_seconds);
    write_line(dir, &line);
}

void lks_run_dir_resume(lks_run_dir *dir, const char *checkpoint, int64_t epoch, int64_t step) {
    lks_strbuf line = {0};
    lks_strbuf_add(&line,
                   "{\"kind\": \"resume\", \"epoch\": %lld, \"step\": %lld, \"checkpoint\": ",
                   (long long)epoch, (long long)step);
    lks_strbuf_add_json(&line, checkpoint);
    write_line(dir, &line);
}

void lks_run_dir_bucket_trial(lks_run_dir *dir, const lks_bucket_trial *trial) {
    lks_strbuf line = {0};
    lks_strbuf_add(&line, "{\"kind\": \"bucket_bytes\", \"bucket_bytes\": %lld, \"tried\": [",
                   (long long)trial->bucket_bytes);
    for (int i = 0; i < trial->count; i++) {
        lks_strbuf_add(&line, "%s{\"bucket_bytes\": %lld", i > 0 ? ", " : "",
                       (long long)trial->bytes[i]);
        add_number(&line, "step_seconds", trial->seconds[i]);
        lks_strbuf_add(&line, "}");
    }
    lks_strbuf_add(&line, "]");
    write_line(dir, &line);
}
