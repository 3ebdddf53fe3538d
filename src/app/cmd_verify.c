#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "app/commands.h"
#include "checkpoint/checkpoint.h"

/* Between two drawings of the progress, and before the first. */
static const double DRAW_SECONDS = 0.2;

/* One file's verification. */
typedef struct verification {
    const char *path;
    bool json, alone, on_terminal;
    double drawn; /* clock at the last drawing */
    int64_t array_count, bytes;
    int damage_count;
    lks_strbuf damage; /* lines, or JSON objects */
} verification;

/* ---- while it is read ---- */

static void count_array(void *data, const char *path) {
    (void)path;
    ((verification *)data)->array_count++;
}

static void show_progress(void *data, int64_t done, int64_t total) {
    verification *v = data;
    char size[LKS_BYTES_TEXT_BYTES];
    v->bytes = total;
    double now = lks_clock_seconds();
    if (!v->on_terminal || now - v->drawn < DRAW_SECONDS) return;
    v->drawn = now;
    fprintf(stderr, "\r%s: %d%% of %s\033[K", v->path, (int)(100.0 * (double)done / (double)total),
            lks_bytes_text((size_t)total, size));
    fflush(stderr);
}

static void clear_progress(const verification *v) {
    if (v->on_terminal) fputs("\r\033[K", stderr);
}

static void note_damage(void *data, const char *array, int64_t block, int64_t block_count,
                        int64_t first, int64_t end) {
    verification *v = data;
    if (v->json) {
        lks_strbuf_add(&v->damage, "%s{\"array\": ", v->damage_count ? ", " : "");
        lks_strbuf_add_json(&v->damage, array);
        lks_strbuf_add(&v->damage,
                       ", \"block\": %" PRId64 ", \"block_count\": %" PRId64
                       ", \"first_element\": %" PRId64 ", \"last_element\": %" PRId64 "}",
                       block, block_count, first, end - 1);
    } else {
        lks_strbuf_add(&v->damage,
                       "%s: DAMAGED, %s, block %" PRId64 " of %" PRId64 " (elements %" PRId64
                       " to %" PRId64 ")\n",
                       v->path, array, block, block_count, first, end - 1);
    }
    v->damage_count++;
}

/* ---- what is said of it ---- */

static void print_line(const verification *v, lks_status status, double seconds) {
    char size[LKS_BYTES_TEXT_BYTES];
    if (!status)
        printf("%s: OK, %" PRId64 " arrays, %s in %.2f s\n", v->path, v->array_count,
               lks_bytes_text((size_t)v->bytes, size), seconds);
    if (v->damage_count > 0) fputs(v->damage.text, stdout);
    if (status && !v->alone) /* the program's last words are about one file, too */
        printf("%s: FAILED, %s\n", v->path, lks_last_error());
}

static void print_json(const verification *v, lks_status status, double seconds) {
    lks_strbuf line = {0};
    lks_strbuf_add(&line, "{\"file\": ");
    lks_strbuf_add_json(&line, v->path);
    lks_strbuf_add(&line,
                   ", \"ok\": %s, \"arrays\": %" PRId64 ", \"bytes\": %" PRId64
                   ", \"seconds\": %.3f, \"damage\": [%s], \"error\": ",
                   status ? "false" : "true", v->array_count, v->bytes, seconds,
                   v->damage.text ? v->damage.text : "");
    if (status)
        lks_strbuf_add_json(&line, lks_last_error());
    else
        lks_strbuf_add(&line, "null");
    if (!line.failed) printf("%s}\n", line.text);
    lks_strbuf_free(&line);
}

static lks_status verify(const char *path, bool json, bool alone) {
    verification v = {
        .path = path, .json = json, .alone = alone, .on_terminal = isatty(STDERR_FILENO) == 1};
    const lks_verify_report report = {
        .data = &v, .array = count_array, .progress = show_progress, .damage = note_damage};
    double start = v.drawn = lks_clock_seconds();
    lks_status status = lks_checkpoint_verify(path, &report);
    clear_progress(&v);
    if (v.damage.failed)
        status = lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    else
        (json ? print_json : print_line)(&v, status, lks_clock_seconds() - start);
    fflush(stdout);
    lks_strbuf_free(&v.damage);
    return status;
}

/* All files are verified, whatever the first ones are. The first failure decides the exit code. */
lks_status lks_command_verify(const lks_args *args) {
    lks_status first = LKS_OK;
    int failed = 0, count = args->operand_count;
    for (int i = 0; i < count; i++) {
        lks_status status = verify(args->operands[i], args->json, count == 1);
        failed += status != LKS_OK;
        if (!first) first = status;
    }
    if (!first || count == 1) return first;
    return lks_fail(first, "%d of %d files %s", failed, count,
                    failed == 1 ? "is no whole checkpoint" : "are no whole checkpoints");
}
