#include "app/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/gnuplot.h"

/* Pixels of a picture, and places as parts of it. */
enum { WIDTH = 960, TITLE_HEIGHT = 44, PANEL_HEIGHT = 230, FOOT_HEIGHT = 56, PANEL_GAP = 26 };
enum {
    LABEL = 18,
    LEFT = 84,
    RIGHT = 24,
    LEGEND_SAMPLE = 52,
    LEGEND_LETTER = 7,
    LEGEND_LETTERS = 28
};
/* Characters of a picture in text. */
enum { TEXT_COLUMNS = 79, MIN_TEXT_COLUMNS = 40, MAX_TEXT_COLUMNS = 200, TEXT_ROWS = 15 };
enum { MARKED_POINTS = 40 }; /* up to so many, points are marked */

/* Told apart also by those who do not see all colours, and in print: those of Okabe and Ito (Color
 * Universal Design) but for their yellow, which is too pale on white, then some of Tol's. */
static const char *const colours[] = {
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
    "#000000", "#8B5A2B", "#332288", "#882255", "#999933", "#44AA99",
};
enum { COLOUR_COUNT = sizeof colours / sizeof *colours };

typedef struct drawing {
    const lks_plot *plot;
    lks_strbuf script;
    bool in_text;
    int width, height; /* pixels */
    int right;         /* pixels right of the panels, with the legend */
} drawing;

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), count = strlen(end);
    return length > count && strcmp(text + length - count, end) == 0;
}

lks_status lks_plot_check_path(const char *option, const char *path) {
    if (strcmp(path, "-") == 0 || ends_with(path, ".svg") || ends_with(path, ".png")) return LKS_OK;
    return lks_fail(LKS_EUSAGE,
                    "%s %s: expected a name that ends with .svg or .png, or - for a picture in "
                    "text",
                    option, path);
}

/* ---- numbers ---- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A logarithmic axis pays where the values span decades and most of them lie low, as losses and
 * stepwise decays do; a cosine that ends near 0 is not such. */
static bool wants_log(const lks_plot_panel *panel) {
    int64_t total = 0, count = 0;
    for (int i = 0; i < panel->line_count; i++)
        total += panel->lines[i].count;
    double *values = malloc((size_t)(total + 1) * sizeof *values);
    if (!values) return false;
    for (int i = 0; i < panel->line_count; i++)
        for (int64_t j = 0; j < panel->lines[i].count; j++)
            if (isfinite(panel->lines[i].y[j])) values[count++] = panel->lines[i].y[j];
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    bool log = count > 1 && values[0] > 0 && values[count - 1] >= 10 * values[0] &&
               values[count - 1] >= 5 * values[count / 2];
    free(values);
    return log;
}

static void find_x_range(const lks_plot *plot, double *low, double *high) {
    *low = INFINITY;
    *high = -INFINITY;
    for (int p = 0; p < plot->panel_count; p++)
        for (int i = 0; i < plot->panels[p].line_count; i++) {
            const lks_plot_line *line = &plot->panels[p].lines[i];
            for (int64_t j = 0; j < line->count; j++) {
                *low = fmin(*low, line->x[j]);
                *high = fmax(*high, line->x[j]);
            }
        }
    if (*low > *high) *low = *high = 0;
    if (*low == *high) {
        *low -= 1;
        *high += 1;
    }
}

/* ---- the script ---- */

/* In single quotes gnuplot takes everything as it stands, but for the quote itself. */
static void add_text(lks_strbuf *script, const char *text, size_t most) {
    size_t count = 0;
    lks_strbuf_add(script, "'");
    for (const char *s = text; *s; s++) {
        bool begins = ((unsigned char)*s & 0xC0) != 0x80; /* of a UTF-8 character */
        if (begins && count++ == most) {
            lks_strbuf_add(script, "...");
            break;
        }
        if (*s == '\'')
            lks_strbuf_add(script, "''");
        else
            lks_strbuf_add(script, "%c", (unsigned char)*s < ' ' || *s == 0x7F ? '?' : *s);
    }
    lks_strbuf_add(script, "'");
}

static size_t longest_name(const lks_plot *plot) {
    size_t longest = 0;
    for (int p = 0; p < plot->panel_count; p++)
        for (int i = 0; i < plot->panels[p].line_count; i++) {
            const char *name = plot->panels[p].lines[i].name;
            if (name && strlen(name) > longest) longest = strlen(name);
        }
    return longest < LEGEND_LETTERS ? longest : LEGEND_LETTERS + 3;
}

static bool is_shown(const drawing *d, const lks_plot_panel *panel, const lks_plot_line *line) {
    if (d->in_text && line->count == 0) return false;
    if (!d->in_text || !line->dashed) return true;
    for (int i = 0; i < panel->line_count; i++) {
        const lks_plot_line *other = &panel->lines[i];
        if (!other->dashed && other->colour == line->colour && other->count > 0) return false;
    }
    return true;
}

static void add_data(drawing *d, const lks_plot_panel *panel, int number) {
    for (int i = 0; i < panel->line_count; i++) {
        const lks_plot_line *line = &panel->lines[i];
        if (line->count == 0 || !is_shown(d, panel, line)) continue;
        lks_strbuf_add(&d->script, "$data_%d_%d << END\n", number, i);
        for (int64_t j = 0; j < line->count; j++) {
            if (isfinite(line->y[j]))
                lks_strbuf_add(&d->script, "%.9g %.9g\n", line->x[j], line->y[j]);
            else
                lks_strbuf_add(&d->script, "%.9g NaN\n", line->x[j]);
        }
        lks_strbuf_add(&d->script, "END\n");
    }
}

/* One line of a `plot` command. */
static void add_line(drawing *d, const lks_plot_line *line, int number, int index) {
    lks_strbuf *script = &d->script;
    bool marked = !d->in_text && !line->dashed && line->count > 0 && line->count <= MARKED_POINTS;
    if (line->count == 0)
        lks_strbuf_add(script, "NaN");
    else
        lks_strbuf_add(script, "$data_%d_%d using 1:2", number, index);
    lks_strbuf_add(script, " with %s", marked || line->count == 1 ? "linespoints" : "lines");
    if (d->in_text)
        lks_strbuf_add(script, " linetype %d", line->colour + 1);
    else
        lks_strbuf_add(script, " linewidth 2 dashtype %d linecolor rgb '%s'", line->dashed ? 2 : 1,
                       line->colour < 0 ? "#808080" : colours[line->colour % COLOUR_COUNT]);
    if (marked) lks_strbuf_add(script, " pointtype 7 pointsize 0.45");
    lks_strbuf_add(script, " title ");
    if (line->name)
        add_text(script, line->name, LEGEND_LETTERS);
    else
        lks_strbuf_add(script, "''");
}

/* The panel's place, and its label in the middle of its height: the axis's own label would stand
 * farther left where the numbers are longer. */
static void add_place(drawing *d, const char *label, int number) {
    int top = TITLE_HEIGHT + number * (PANEL_HEIGHT + PANEL_GAP);
    double height = d->height, width = d->width;
    lks_strbuf_add(&d->script,
                   "set tmargin at screen %.4f\nset bmargin at screen %.4f\n"
                   "set lmargin at screen %.4f\nset rmargin at screen %.4f\nset label 2 ",
                   1 - top / height, 1 - (top + PANEL_HEIGHT) / height, LEFT / width,
                   1 - d->right / width);
    add_text(&d->script, label, SIZE_MAX);
    lks_strbuf_add(&d->script, " at screen %.4f, screen %.4f center rotate\n", LABEL / width,
                   1 - (top + PANEL_HEIGHT / 2) / height);
}

static void add_title(drawing *d, const char *title) {
    lks_strbuf_add(&d->script, "set title ");
    add_text(&d->script, title, SIZE_MAX);
    lks_strbuf_add(&d->script, "\n");
}

static void add_panel(drawing *d, const lks_plot_panel *panel, int number) {
    lks_strbuf *script = &d->script;
    bool last = number == d->plot->panel_count - 1, log = wants_log(panel);
    add_data(d, panel, number);
    if (d->in_text)
        add_title(d, panel->label);
    else
        add_place(d, panel->label, number);
    lks_strbuf_add(script, "set %s y\nset yrange [%s:*]\n", log ? "logscale" : "nologscale",
                   panel->from_zero && !log ? "0" : "*");
    if (last) {
        lks_strbuf_add(script, "set format x '%%g'\nset xlabel ");
        add_text(script, d->plot->x_label, SIZE_MAX);
        lks_strbuf_add(script, "\n");
    }
    int shown = 0;
    for (int i = 0; i < panel->line_count; i++) {
        if (!is_shown(d, panel, &panel->lines[i])) continue;
        lks_strbuf_add(script, shown++ ? ", \\\n     " : "plot ");
        add_line(d, &panel->lines[i], number, i);
    }
    lks_strbuf_add(script, "\n");
    lks_strbuf_add(script, "unset label\n");
}

static void add_picture_head(drawing *d, const char *path) {
    const lks_plot *plot = d->plot;
    size_t letters = longest_name(plot);
    d->width = WIDTH;
    d->height = TITLE_HEIGHT + plot->panel_count * (PANEL_HEIGHT + PANEL_GAP) + FOOT_HEIGHT;
    d->right = letters ? LEGEND_SAMPLE + LEGEND_LETTER * (int)letters + RIGHT : RIGHT;
    bool png = ends_with(path, ".png");
    lks_strbuf_add(&d->script,
                   "set terminal %s size %d,%d noenhanced font '%s' background rgb '#FFFFFF'\n",
                   png ? "pngcairo" : "svg", d->width, d->height, png ? "Sans,10" : "Sans,13");
    lks_strbuf_add(&d->script,
                   "set encoding utf8\nset multiplot\nset border 3 linecolor rgb '#606060'\n"
                   "set tics nomirror textcolor rgb '#000000'\nset grid linetype 1 linewidth 0.5 "
                   "linecolor rgb '#D0D0D0'\n"
                   "set key at graph 1.01, graph 1.02 left top Left reverse samplen 2 maxcols 1\n"
                   "set format x ''\nset format y '%%g'\nset label 1 ");
    add_text(&d->script, plot->title, SIZE_MAX);
    lks_strbuf_add(&d->script, " at screen %.4f, screen %.4f left\n", LEFT / (double)d->width,
                   1 - 0.5 * TITLE_HEIGHT / d->height);
}

static int text_columns(void) {
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < MIN_TEXT_COLUMNS)
        return TEXT_COLUMNS;
    return size.ws_col <= MAX_TEXT_COLUMNS ? size.ws_col - 1 : MAX_TEXT_COLUMNS;
}

static void add_text_head(drawing *d) {
    int count = d->plot->panel_count;
    lks_strbuf_add(&d->script,
                   "set terminal dumb mono noenhanced size %d,%d\nset encoding utf8\n"
                   "set format x '%%g'\nset format y '%%g'\nset key outside above\n",
                   text_columns(), TEXT_ROWS * count + 3);
    lks_strbuf_add(&d->script, "set multiplot layout %d,1 title ", count);
    add_text(&d->script, d->plot->title, SIZE_MAX);
    lks_strbuf_add(&d->script, "\n");
}

lks_status lks_plot_draw(const lks_plot *plot, const char *path) {
    drawing d = {.plot = plot, .in_text = strcmp(path, "-") == 0};
    double low, high;
    find_x_range(plot, &low, &high);
    if (d.in_text)
        add_text_head(&d);
    else
        add_picture_head(&d, path);
    lks_strbuf_add(&d.script, "set xrange [%.9g:%.9g]\n", low, high);
    if (high - low <= 10) lks_strbuf_add(&d.script, "set xtics 1\n"); /* no half epochs */
    for (int i = 0; i < plot->panel_count; i++)
        add_panel(&d, &plot->panels[i], i);
    lks_strbuf_add(&d.script, "unset multiplot\n");
    lks_status status = lks_gnuplot_run(&d.script, d.in_text ? NULL : path);
    lks_strbuf_free(&d.script);
    return status;
}
