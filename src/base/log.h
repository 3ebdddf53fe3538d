/* Logging: lines with level, rank and time, on one stream. Rank 0 alone writes unless all_ranks is
 * set.
 *
 *     [12:00:01] warning: 2 ranks share one core
 *     [12:00:01] rank 3: debug: ...          (with all_ranks)
 */
#ifndef LKS_BASE_LOG_H
#define LKS_BASE_LOG_H

#include <stdbool.h>
#include <stdio.h>

typedef enum lks_log_level {
    LKS_LOG_ERROR,
    LKS_LOG_WARNING,
    LKS_LOG_INFO,
    LKS_LOG_DEBUG
} lks_log_level;

/* A plain value; copy it freely. A NULL logger is legal everywhere and writes nothing. Lines of
 * threads do not mix (one fwrite each). `also` (may be NULL) gets a second copy: a run's log.txt.
 */
typedef struct lks_logger {
    lks_log_level level;
    int rank;
    bool all_ranks;
    FILE *stream;
    FILE *also;
    /* Called before a line is written to `stream`, NULL for none: clears a progress bar that stands
     * there. */
    void (*before_line)(void *data);
    void *before_line_data;
} lks_logger;

void lks_log(const lks_logger *logger, lks_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
