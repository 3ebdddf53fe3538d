#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/commands.h"
#include "app/metrics.h"
#include "app/plot.h"

/* Of one run in one panel at most: training and validation. And two lines that explain them. */
enum { MAX_PANELS = 3, MAX_LINES = 2 * LKS_PLOT_MAX_RUNS + 2 };
/* More runs than these are told apart only where validation alone is drawn. */
enum { MAX_RUNS_WITH_TRAINING = 5 };

typedef struct run_curves {
    char *name; /* the folder's */
    lks_metrics metrics;
} run_curves;

typedef struct comparison {
    run_curves runs[LKS_PLOT_MAX_RUNS];
    int run_count;
    lks_plot_line lines[MAX_PANELS][MAX_LINES];
    lks_plot_panel panels[MAX_PANELS];
    int panel_count;
} comparison;

/* ---- reading ---- */

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* The last part of a path: "digits" of "runs/digits/". "." has none of its own. */
static char *name_of(const char *path) {
    char *full = realpath(path, NULL);
    if (!full) return NULL;
    const char *slash = strrchr(full, '/');
    char *name = lks_strdup(slash && slash[1] ? slash + 1 : full);
    free(full);
    return name;
}

static lks_status read_run(const char *path, run_curves *out) {
    if (!is_folder(path))
        return lks_fail(LKS_EIO, "%s: expected a run directory (`output` of a run file)", path);
    char *file = lks_strdup_printf("%s/metrics.jsonl", path);
    out->name = name_of(path);
    lks_status status = file && out->name ? lks_metrics_read(file, &out->metrics)
                                          : lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    if (!status && out->metrics.count == 0)
        status = lks_fail(LKS_EDATA, "%s: no epoch has ended yet: there is nothing to draw", file);
    free(file);
    return status;
}

/* Folders of one name in different places are told apart by their paths. */
static lks_status tell_apart(comparison *c, const lks_args *args) {
    bool twice[LKS_PLOT_MAX_RUNS] = {false};
    for (int i = 0; i < c->run_count; i++)
        for (int j = 0; j < c->run_count; j++)
            twice[i] = twice[i] || (i != j && strcmp(c->runs[i].name, c->runs[j].name) == 0);
    for (int i = 0; i < c->run_count; i++) {
        if (!twice[i]) continue;
        free(c->runs[i].name);
        c->runs[i].name = lks_strdup(args->operands[i]);
        if (!c->runs[i].name) return lks_fail(LKS_ENOMEM, "out of memory");
    }
    return LKS_OK;
}

/* ---- drawing ---- */

static void add_line(lks_plot_panel *panel, lks_plot_line *lines, lks_plot_line line) {
    lines[panel->line_count++] = line;
}

/* One run alone: each series has a colour. Several: each run has one, and training is dashed. */
static void add_run(const comparison *c, int index, lks_metric train, lks_metric validation,
                    bool named, lks_plot_panel *panel, lks_plot_line *lines) {
    const run_curves *run = &c->runs[index];
    const lks_metrics *m = &run->metrics;
    bool alone = c->run_count == 1;
    bool has_train = lks_metrics_has(m, train), has_validation = lks_metrics_has(m, validation);
    lks_plot_line line = {.x = m->epochs, .count = m->count, .colour = index};
    if (has_train && !(has_validation && c->run_count > MAX_RUNS_WITH_TRAINING)) {
        line.y = m->values[train];
        line.dashed = !alone && has_validation;
        if (alone && train == LKS_METRIC_LR) line.colour = 2;
        line.name = !named || line.dashed ? NULL : alone ? "training" : run->name;
        add_line(panel, lines, line);
    }
    if (has_validation) {
        line.y = m->values[validation];
        line.dashed = false;
        line.name = !named ? NULL : alone ? "validation" : run->name;
        line.colour = alone ? 1 : index;
        add_line(panel, lines, line);
    }
}

/* What dashes mean, where there are any. */
static void explain_dashes(lks_plot_panel *panel, lks_plot_line *lines) {
    bool any = false;
    for (int i = 0; i < panel->line_count; i++)
        any = any || lines[i].dashed;
    if (!any) return;
    add_line(panel, lines, (lks_plot_line){.name = "validation", .colour = LKS_PLOT_GREY});
    add_line(panel, lines,
             (lks_plot_line){.name = "training", .colour = LKS_PLOT_GREY, .dashed = true});
}

static void add_panel(comparison *c, const char *label, lks_metric train, lks_metric validation) {
    lks_plot_line *lines = c->lines[c->panel_count];
    lks_plot_panel *panel = &c->panels[c->panel_count];
    bool first = c->panel_count == 0;
    *panel = (lks_plot_panel){.label = label, .lines = lines, .from_zero = train == LKS_METRIC_LR};
    for (int i = 0; i < c->run_count; i++)
        add_run(c, i, train, validation, first, panel, lines);
    if (first) explain_dashes(panel, lines);
    c->panel_count += panel->line_count > 0;
}

static void to_percent(comparison *c, lks_metric metric) {
    for (int i = 0; i < c->run_count; i++)
        for (int64_t j = 0; j < c->runs[i].metrics.count; j++)
            c->runs[i].metrics.values[metric][j] *= 100;
}

static lks_status draw(comparison *c, const char *path) {
    to_percent(c, LKS_METRIC_TRAIN_ACC);
    to_percent(c, LKS_METRIC_VAL_ACC);
    add_panel(c, "loss", LKS_METRIC_TRAIN_LOSS, LKS_METRIC_VAL_LOSS);
    add_panel(c, "accuracy [%]", LKS_METRIC_TRAIN_ACC, LKS_METRIC_VAL_ACC);
    add_panel(c, "learning rate", LKS_METRIC_LR, LKS_METRIC_COUNT);
    char title[64];
    snprintf(title, sizeof title, "%d runs%s", c->run_count,
             c->run_count > MAX_RUNS_WITH_TRAINING ? ", validation where they have it" : "");
    lks_plot plot = {.title = c->run_count == 1 ? c->runs[0].name : title,
                     .x_label = "epoch",
                     .panels = c->panels,
                     .panel_count = c->panel_count};
    return lks_plot_draw(&plot, path);
}

lks_status lks_command_plot(const lks_args *args) {
    const char *path = args->out ? args->out : "-";
    lks_status status = lks_plot_check_path("--out", path);
    if (status) return status;
    comparison *c = calloc(1, sizeof *c);
    if (!c) return lks_fail(LKS_ENOMEM, "out of memory");
    while (!status && c->run_count < args->operand_count) {
        status = read_run(args->operands[c->run_count], &c->runs[c->run_count]);
        c->run_count++;
    }
    if (!status) status = tell_apart(c, args);
    if (!status) status = draw(c, path);
    for (int i = 0; i < c->run_count; i++) {
        free(c->runs[i].name);
        lks_metrics_free(&c->runs[i].metrics);
    }
    free(c);
    return status;
}
