#include "base/log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include "base/strbuf.h"

/* Information is the normal case and carries no word. */
static const char *const level_words[] = {
    [LKS_LOG_ERROR] = "error: ",
    [LKS_LOG_WARNING] = "warning: ",
    [LKS_LOG_INFO] = "",
    [LKS_LOG_DEBUG] = "debug: ",
};

static void add_head(lks_strbuf *line, const lks_logger *logger, lks_log_level level) {
    time_t now = time(NULL);
    struct tm local;
    char clock[16] = "";
    if (localtime_r(&now, &local)) strftime(clock, sizeof clock, "%H:%M:%S", &local);
    lks_strbuf_add(line, "[%s] ", clock);
    if (logger->all_ranks) lks_strbuf_add(line, "rank %d: ", logger->rank);
    lks_strbuf_add(line, "%s", level_words[level]);
}

/* One fwrite, so that lines of threads do not mix; flushed, so that the last line before a crash is
 * there. */
static void write_line(FILE *stream, const lks_strbuf *line) {
    fwrite(line->text, 1, line->length, stream);
    fflush(stream);
}

void lks_log(const lks_logger *logger, lks_log_level level, const char *format, ...) {
    if (!logger || level > logger->level || (logger->rank != 0 && !logger->all_ranks)) return;
    va_list arguments;
    va_start(arguments, format);
    char *message = NULL;
    int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length < 0) return;

    lks_strbuf line = {0};
    add_head(&line, logger, level);
    lks_strbuf_add_bytes(&line, message, (size_t)length);
    lks_strbuf_add_bytes(&line, "\n", 1);
    if (!line.failed) {
        if (logger->stream) {
            if (logger->before_line) logger->before_line(logger->before_line_data);
            write_line(logger->stream, &line);
        }
        if (logger->also) write_line(logger->also, &line);
    }
    lks_strbuf_free(&line);
    free(message);
}
