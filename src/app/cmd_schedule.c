#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/metrics.h"
#include "app/output.h"
#include "app/plot.h"
#include "data/data.h"
#include "optim/optim.h"
#include "sched/sched.h"

enum { MAX_POINTS = 10000000 };

/* The rates of one group of parameters. */
typedef struct rate_column {
    const char *params; /* its patterns; NULL: all parameters that no other group names */
    lks_schedule *schedule;
    double *lr; /* [count] */
} rate_column;

/* What the schedule would do, one point for each epoch or step. */
typedef struct forecast {
    int column_count;
    rate_column *columns;         /* the first one is the base of the others */
    const lks_schedule *schedule; /* the first column's: what all have in common */
    bool per_step, has_momentum;
    int64_t steps; /* of an epoch; 0 where it does not matter */
    int64_t count;
    double *x; /* [count] epochs or steps, from 1 */
    double *momentum;
    lks_metrics metrics;  /* of --metric-from */
    lks_metric monitored; /* its series */
} forecast;

/* ---- what a run would have ---- */

/* A schedule for every group that is trained, from its own rate. groups: as many as columns. */
static lks_status create_schedules(const lks_run *run, const lks_optimizer_groups *groups,
                                   forecast *f) {
    lks_group_rates *rates = calloc((size_t)groups->group_count, sizeof *rates);
    if (!rates) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = lks_optimizer_configured_rates(groups, rates);
    for (int c = 0; c < f->column_count && !status; c++)
        status = lks_schedule_create(&run->config.schedule, rates[c].lr, &f->columns[c].schedule);
    f->schedule = f->columns[0].schedule;
    free(rates);
    return status;
}

static lks_status find_groups(const lks_run *run, forecast *f) {
    const lks_param_group *list = run->config.groups;
    size_t most = 1;
    for (const lks_param_group *group = list; group && group->params; group++)
        most++;
    const char **overrides = calloc(most, sizeof *overrides);
    double *lr_scales = calloc(most, sizeof *lr_scales);
    f->columns = calloc(most, sizeof *f->columns);
    f->column_count = 1;
    lks_status status = LKS_OK;
    if (!overrides || !lr_scales || !f->columns) {
        status = lks_fail(LKS_ENOMEM, "out of memory");
    } else {
        lr_scales[0] = 1;
        for (const lks_param_group *group = list; group && group->params; group++) {
            if (group->frozen) continue;
            overrides[f->column_count] = group->options;
            lr_scales[f->column_count] = group->lr_scale == 0 ? 1 : group->lr_scale;
            f->columns[f->column_count++].params = group->params;
        }
        const lks_optimizer_groups groups = {.spec = run->config.optimizer,
                                             .group_count = f->column_count,
                                             .overrides = overrides,
                                             .lr_scale = lr_scales};
        status = create_schedules(run, &groups, f);
    }
    free(overrides);
    free(lr_scales);
    return status;
}

/* From --steps-per-epoch, or the size of the training data. */
static lks_status find_steps(const lks_args *args, const lks_run *run, int64_t *out) {
    *out = args->steps_per_epoch;
    if (*out) return LKS_OK;
    lks_data_settings settings;
    lks_dataset *train = NULL;
    lks_status status = run->train.type ? lks_dataset_open(&run->train, 0, &train)
                                        : lks_fail(LKS_ECONFIG, "data: the key \"train\" is "
                                                                "missing");
    if (status)
        return lks_fail_in(status, "steps of an epoch: give --steps-per-epoch=N, or the data");
    status = lks_options_parse(&lks_data_settings_options, &settings, run->config.data, "data");
    if (!status) {
        *out =
            lks_sampler_steps(lks_dataset_count(train), run->config.batch_size, settings.drop_last);
        lks_options_free(&lks_data_settings_options, &settings);
    }
    lks_dataset_destroy(train);
    if (!status && *out < 1)
        status = lks_fail(LKS_ECONFIG, "an epoch has no step: the data have fewer samples than "
                                       "batch_size, and drop_last is set");
    return status;
}

/* The series that reduce_on_plateau watches; as in training, that of the training data where there
 * is no validation. */
static lks_status read_metric(const lks_args *args, forecast *f) {
    const char *monitor = lks_monitor_names[lks_schedule_monitor(f->schedule)];
    lks_status status = lks_metrics_read(args->metric_from, &f->metrics);
    if (status) return status;
    while (strcmp(lks_metric_names[f->monitored], monitor) != 0)
        f->monitored++;
    if (!lks_metrics_has(&f->metrics, f->monitored)) {
        if (f->monitored == LKS_METRIC_VAL_LOSS) f->monitored = LKS_METRIC_TRAIN_LOSS;
        if (f->monitored == LKS_METRIC_VAL_ACC) f->monitored = LKS_METRIC_TRAIN_ACC;
    }
    if (!lks_metrics_has(&f->metrics, f->monitored))
        return lks_fail(LKS_EDATA, "%s: no epoch has a %s", args->metric_from, monitor);
    return LKS_OK;
}

/* Of an epoch from 1. After the last known one its value goes on; without a file it is 1 always. */
static double metric_at(const forecast *f, int64_t epoch) {
    const lks_metrics *m = &f->metrics;
    if (m->count == 0) return 1;
    int64_t i = 0;
    while (i < m->count - 1 && m->epochs[i] < (double)epoch)
        i++;
    return m->values[f->monitored][i];
}

/* ---- the forecast ---- */

static lks_status allocate(forecast *f, int64_t epochs) {
    int64_t steps = f->per_step ? f->steps : 1;
    if (epochs > MAX_POINTS / f->column_count / steps)
        return lks_fail(LKS_EUSAGE,
                        "%" PRId64 " epochs of %" PRId64 " rates are too many to show: "
                        "expected %d rates at most (--epochs)",
                        epochs, steps * f->column_count, MAX_POINTS);
    f->count = epochs * steps;
    f->x = calloc((size_t)f->count, sizeof *f->x);
    f->momentum = calloc((size_t)f->count, sizeof *f->momentum);
    bool complete = f->x && f->momentum;
    for (int c = 0; c < f->column_count; c++) {
        f->columns[c].lr = calloc((size_t)f->count, sizeof *f->columns[c].lr);
        complete = complete && f->columns[c].lr;
    }
    return complete ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory");
}

static void run_through(forecast *f) {
    bool watches = lks_schedule_monitor(f->schedule) >= 0;
    for (int64_t i = 0; i < f->count; i++) {
        const lks_schedule_input input = {.metric = watches ? metric_at(f, i + 1) : NAN};
        f->x[i] = (double)(i + 1);
        f->momentum[i] = lks_schedule_momentum(f->schedule);
        f->has_momentum = f->has_momentum || !isnan(f->momentum[i]);
        for (int c = 0; c < f->column_count; c++) {
            f->columns[c].lr[i] = lks_schedule_lr(f->columns[c].schedule);
            lks_schedule_advance(f->columns[c].schedule, &input);
        }
    }
}

static lks_status make(const lks_args *args, const lks_run *run, forecast *f) {
    lks_status status = find_groups(run, f);
    if (status) return status;
    f->per_step = lks_schedule_per_step(f->schedule);
    bool watches = lks_schedule_monitor(f->schedule) >= 0;
    if (args->metric_from && !watches)
        return lks_fail(LKS_EUSAGE, "--metric-from: %s does not depend on a metric",
                        lks_schedule_name(f->schedule));
    if (args->metric_from) status = read_metric(args, f);
    if (!status && f->per_step) status = find_steps(args, run, &f->steps);
    if (!status) status = allocate(f, run->config.epochs);
    if (!status) run_through(f);
    return status;
}

static void free_forecast(forecast *f) {
    for (int c = 0; f->columns && c < f->column_count; c++) {
        lks_schedule_destroy(f->columns[c].schedule);
        free(f->columns[c].lr);
    }
    free(f->columns);
    lks_metrics_free(&f->metrics);
    free(f->x);
    free(f->momentum);
}

/* ---- printing ---- */

static void describe_metric(const lks_args *args, const forecast *f, lks_strbuf *out) {
    const char *monitor = lks_monitor_names[lks_schedule_monitor(f->schedule)];
    if (args->metric_from)
        lks_strbuf_add(out, "%s of %s", lks_metric_names[f->monitored], args->metric_from);
    else
        lks_strbuf_add(out, "a %s that never changes", monitor);
}

/* As wide as the column's title; the last one of a line as it is. */
static void add_cell(const forecast *f, int column, const char *text, lks_strbuf *out) {
    enum { LEAST_WIDTH = 14 };
    size_t width = column == 0 ? 0 : strlen(f->columns[column].params);
    if (width < LEAST_WIDTH) width = LEAST_WIDTH;
    bool last = column == f->column_count - 1 && !f->has_momentum;
    lks_strbuf_add(out, "  %-*s", last ? 0 : (int)width, text);
}

static void print_table(const lks_args *args, const forecast *f, lks_strbuf *out) {
    if (lks_schedule_monitor(f->schedule) >= 0) {
        lks_strbuf_add(out, "%s depends on how the run goes; this is for ",
                       lks_schedule_name(f->schedule));
        describe_metric(args, f, out);
        lks_strbuf_add(out, args->metric_from ? "\n\n" : " (--metric-from takes a run's)\n\n");
    }
    lks_strbuf_add(out, f->per_step ? "%8s  %8s" : "%8s", "epoch", "step");
    for (int c = 0; c < f->column_count; c++)
        add_cell(f, c, c == 0 ? "learning rate" : f->columns[c].params, out);
    lks_strbuf_add(out, f->has_momentum ? "  momentum\n" : "\n");
    for (int64_t i = 0; i < f->count; i++) {
        if (f->per_step) lks_strbuf_add(out, "%8" PRId64 "  ", i / f->steps + 1);
        lks_strbuf_add(out, "%8" PRId64, i + 1);
        for (int c = 0; c < f->column_count; c++) {
            char rate[32];
            snprintf(rate, sizeof rate, "%.8g", f->columns[c].lr[i]);
            add_cell(f, c, rate, out);
        }
        if (f->has_momentum) lks_strbuf_add(out, "  %.6g", f->momentum[i]);
        lks_strbuf_add(out, "\n");
    }
}

static void print_json(const lks_args *args, const forecast *f, lks_strbuf *out) {
    lks_strbuf_add(out, "{\"schedule\": \"%s\", \"interval\": \"%s\", \"steps_per_epoch\": ",
                   lks_schedule_name(f->schedule), f->per_step ? "step" : "epoch");
    lks_strbuf_add(out, f->per_step ? "%" PRId64 : "null", f->steps);
    lks_strbuf_add(out, ", \"metric\": ");
    if (lks_schedule_monitor(f->schedule) >= 0) {
        lks_strbuf metric = {0};
        describe_metric(args, f, &metric);
        lks_strbuf_add_json(out, metric.failed ? "" : metric.text);
        out->failed = out->failed || metric.failed;
        lks_strbuf_free(&metric);
    } else {
        lks_strbuf_add(out, "null");
    }
    for (int c = 1; c < f->column_count; c++) {
        lks_strbuf_add(out, c == 1 ? ", \"groups\": [" : ", ");
        lks_strbuf_add_json(out, f->columns[c].params);
        lks_strbuf_add(out, c == f->column_count - 1 ? "]" : "");
    }
    lks_strbuf_add(out, ", \"rates\": [");
    for (int64_t i = 0; i < f->count; i++) {
        int64_t epoch = f->per_step ? i / f->steps + 1 : i + 1;
        lks_strbuf_add(out, "%s\n  {\"epoch\": %" PRId64, i ? "," : "", epoch);
        if (f->per_step) lks_strbuf_add(out, ", \"step\": %" PRId64, i + 1);
        lks_strbuf_add(out, ", \"lr\": ");
        lks_strbuf_add_json_number(out, f->columns[0].lr[i]);
        for (int c = 1; c < f->column_count; c++) {
            lks_strbuf_add(out, c == 1 ? ", \"group_lr\": [" : ", ");
            lks_strbuf_add_json_number(out, f->columns[c].lr[i]);
            lks_strbuf_add(out, c == f->column_count - 1 ? "]" : "");
        }
        if (f->has_momentum) {
            lks_strbuf_add(out, ", \"momentum\": ");
            lks_strbuf_add_json_number(out, f->momentum[i]);
        }
        lks_strbuf_add(out, "}");
    }
    lks_strbuf_add(out, "\n]}\n");
}

static lks_status draw(const lks_args *args, const forecast *f) {
    lks_plot_line *lines = calloc((size_t)f->column_count, sizeof *lines);
    if (!lines) return lks_fail(LKS_ENOMEM, "out of memory");
    for (int c = 0; c < f->column_count; c++)
        lines[c] = (lks_plot_line){.name = c > 0                 ? f->columns[c].params
                                           : f->column_count > 1 ? "all others"
                                                                 : NULL,
                                   .x = f->x,
                                   .y = f->columns[c].lr,
                                   .count = f->count,
                                   .colour = c};
    const lks_plot_line momentum = {
        .x = f->x, .y = f->momentum, .count = f->count, .colour = f->column_count};
    lks_plot_panel panels[] = {
        {.label = "learning rate",
         .lines = lines,
         .line_count = f->column_count,
         .from_zero = true},
        {.label = "momentum", .lines = &momentum, .line_count = 1},
    };
    lks_strbuf title = {0};
    lks_strbuf_add(&title, "%s of %s", lks_schedule_name(f->schedule), args->operands[0]);
    if (lks_schedule_monitor(f->schedule) >= 0) {
        lks_strbuf_add(&title, ", for ");
        describe_metric(args, f, &title);
    }
    lks_plot plot = {.title = title.failed ? "" : title.text,
                     .x_label = f->per_step ? "step" : "epoch",
                     .panels = panels,
                     .panel_count = f->has_momentum ? 2 : 1};
    lks_status status = lks_plot_draw(&plot, args->plot);
    lks_strbuf_free(&title);
    free(lines);
    return status;
}

static lks_status print(const lks_args *args, const forecast *f) {
    lks_strbuf text = {0};
    if (args->json)
        print_json(args, f, &text);
    else
        print_table(args, f, &text);
    return lks_output_text(LKS_OK, &text);
}

lks_status lks_command_schedule(const lks_args *args) {
    lks_status status = args->plot ? lks_plot_check_path("--plot", args->plot) : LKS_OK;
    if (!status && args->plot && args->json && strcmp(args->plot, "-") == 0)
        status = lks_fail(LKS_EUSAGE, "--json and --plot - both write to standard output");
    if (status) return status;
    lks_run run;
    forecast f = {0};
    status = lks_run_load(args->operands[0], args->overrides, args->override_count, &run);
    if (status) return status;
    status = make(args, &run, &f);
    if (!status && args->plot) status = draw(args, &f);
    if (!status && (args->json || !args->plot)) status = print(args, &f);
    free_forecast(&f);
    lks_run_free(&run);
    return status;
}
