/* Pictures of curves: panels above each other over one x axis, drawn by gnuplot. */
#ifndef LKS_APP_PLOT_H
#define LKS_APP_PLOT_H

#include "base/base.h"

/* More curves than these cannot be told apart. */
enum { LKS_PLOT_MAX_RUNS = 16 };

typedef struct lks_plot_line {
    const char *name;    /* in the legend; NULL: not there */
    const double *x, *y; /* [count]; NaN leaves a gap */
    int64_t count;       /* 0: in the legend alone */
    int colour;          /* from 0; LKS_PLOT_GREY */
    bool dashed;         /* left out of text where a plain line of its colour stands, too */
} lks_plot_line;
enum { LKS_PLOT_GREY = -1 };

typedef struct lks_plot_panel {
    const char *label; /* of the y axis, with its unit */
    const lks_plot_line *lines;
    int line_count;
    bool from_zero; /* a linear y axis begins at 0 */
} lks_plot_panel;

typedef struct lks_plot {
    const char *title, *x_label;
    const lks_plot_panel *panels;
    int panel_count;
} lks_plot;

/* LKS_EUSAGE unless the name says what the picture is: .svg, .png, or "-" for text on standard
 * output. option: "--out", for the message. */
lks_status lks_plot_check_path(const char *option, const char *path);

/* Draws to such a path. The y axis of a panel is logarithmic where that shows more. Errors as
 * lks_gnuplot_run. */
lks_status lks_plot_draw(const lks_plot *plot, const char *path);

#endif
