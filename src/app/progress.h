/* What a person sees of training: a progress bar on a terminal, plain lines in a file, one line per
 * epoch. */
#ifndef LKS_APP_PROGRESS_H
#define LKS_APP_PROGRESS_H

#include <stdio.h>

#include "base/base.h"
#include "lockstep/train.h"

typedef struct lks_display {
    FILE *stream;    /* NULL: nothing is shown of steps */
    int columns;     /* of the terminal; 0: plain lines */
    bool bar_stands; /* on the terminal's last line */
    double last;     /* clock at the last drawing */
} lks_display;

/* A bar where `stream` is a terminal, else lines. quiet: neither. */
lks_display lks_display_open(FILE *stream, bool quiet);
/* After a step; draws at most 10 times a second, or a line every 10 seconds. */
void lks_display_step(lks_display *display, const lks_progress *progress);
/* Removes the bar, before something else is written. The signature is lks_logger's before_line. */
void lks_display_clear(void *display);

/* "Epoch 3/20 [====>     ] 45/90 ...", cut at columns - 1; columns 0: a plain line. */
void lks_progress_print(const lks_progress *progress, int columns, lks_strbuf *out);

#endif
