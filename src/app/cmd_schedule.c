#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/metrics.h"
#include "app/plot.h"
#include "data/data.h"
#include "optim/optim.h"
#include "sched/sched.h"

enum { MAX_POINTS = 10000000 };

/* What the schedule would do, one point for each epoch or step. */
typedef struct forecast {
    lks_schedule *schedule;
    bool per_step, has_momentum;
    int64_t steps; /* of an epoch; 0 where it does not matter */
    int64_t count;
    double *x; /* [count] epochs or steps, from 1 */
    double *lr, *momentum;
    lks_metrics metrics;  /* of --metric-from */
    lks_metric monitored; /* its series */
} forecast;

/* ---- what a run would have ---- */

/* The optimizer's own rate: its option lr. */
static lks_status find_base_lr(const lks_spec *optimizer, double *out) {
    const lks_option_table *table = lks_optimizer_options(optimizer->type);
    const lks_option *lr = lks_options_find(table, "lr");
    void *config = calloc(1, table->struct_bytes + 1);
    if (!config) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = lks_options_parse(table, config, optimizer->options, optimizer->type);
    if (!status) {
        memcpy(out, (const char *)config + lr->offset, sizeof *out);
        lks_options_free(table, config);
    }
    free(config);
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
    if (epochs > MAX_POINTS / steps)
        return lks_fail(LKS_EUSAGE,
                        "%" PRId64 " epochs of %" PRId64 " rates are too many to show: "
                        "expected %d rates at most (--epochs)",
                        epochs, steps, MAX_POINTS);
    f->count = epochs * steps;
    f->x = calloc((size_t)f->count, sizeof *f->x);
    f->lr = calloc((size_t)f->count, sizeof *f->lr);
    f->momentum = calloc((size_t)f->count, sizeof *f->momentum);
    return f->x && f->lr && f->momentum ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory");
}

static void run_through(forecast *f) {
    bool watches = lks_schedule_monitor(f->schedule) >= 0;
    for (int64_t i = 0; i < f->count; i++) {
        f->x[i] = (double)(i + 1);
        f->lr[i] = lks_schedule_lr(f->schedule);
        f->momentum[i] = lks_schedule_momentum(f->schedule);
        f->has_momentum = f->has_momentum || !isnan(f->momentum[i]);
        lks_schedule_advance(f->schedule,
                             &(lks_schedule_input){.metric = watches ? metric_at(f, i + 1) : NAN});
    }
}

static lks_status make(const lks_args *args, const lks_run *run, forecast *f) {
    double base_lr;
    lks_status status = find_base_lr(&run->config.optimizer, &base_lr);
    if (!status) status = lks_schedule_create(&run->config.schedule, base_lr, &f->schedule);
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
    lks_schedule_destroy(f->schedule);
    lks_metrics_free(&f->metrics);
    free(f->x);
    free(f->lr);
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

static void print_table(const lks_args *args, const forecast *f, lks_strbuf *out) {
    if (lks_schedule_monitor(f->schedule) >= 0) {
        lks_strbuf_add(out, "%s depends on how the run goes; this is for ",
                       lks_schedule_name(f->schedule));
        describe_metric(args, f, out);
        lks_strbuf_add(out, args->metric_from ? "\n\n" : " (--metric-from takes a run's)\n\n");
    }
    lks_strbuf_add(out, f->per_step ? "%8s  %8s" : "%8s", "epoch", "step");
    lks_strbuf_add(out, f->has_momentum ? "  %-14s  momentum\n" : "  %s\n", "learning rate");
    for (int64_t i = 0; i < f->count; i++) {
        if (f->per_step) lks_strbuf_add(out, "%8" PRId64 "  ", i / f->steps + 1);
        lks_strbuf_add(out, "%8" PRId64, i + 1);
        lks_strbuf_add(out, f->has_momentum ? "  %-14.8g" : "  %.8g", f->lr[i]);
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
    lks_strbuf_add(out, ", \"rates\": [");
    for (int64_t i = 0; i < f->count; i++) {
        int64_t epoch = f->per_step ? i / f->steps + 1 : i + 1;
        lks_strbuf_add(out, "%s\n  {\"epoch\": %" PRId64, i ? "," : "", epoch);
        if (f->per_step) lks_strbuf_add(out, ", \"step\": %" PRId64, i + 1);
        lks_strbuf_add(out, ", \"lr\": ");
        lks_strbuf_add_json_number(out, f->lr[i]);
        if (f->has_momentum) {
            lks_strbuf_add(out, ", \"momentum\": ");
            lks_strbuf_add_json_number(out, f->momentum[i]);
        }
        lks_strbuf_add(out, "}");
    }
    lks_strbuf_add(out, "\n]}\n");
}

static lks_status draw(const lks_args *args, const forecast *f) {
    lks_strbuf title = {0};
    lks_strbuf_add(&title, "%s of %s", lks_schedule_name(f->schedule), args->operands[0]);
    if (lks_schedule_monitor(f->schedule) >= 0) {
        lks_strbuf_add(&title, ", for ");
        describe_metric(args, f, &title);
    }
    lks_plot_line lines[] = {{.x = f->x, .y = f->lr, .count = f->count},
                             {.x = f->x, .y = f->momentum, .count = f->count, .colour = 1}};
    lks_plot_panel panels[] = {
        {.label = "learning rate", .lines = &lines[0], .line_count = 1, .from_zero = true},
        {.label = "momentum", .lines = &lines[1], .line_count = 1},
    };
    lks_plot plot = {.title = title.failed ? "" : title.text,
                     .x_label = f->per_step ? "step" : "epoch",
                     .panels = panels,
                     .panel_count = f->has_momentum ? 2 : 1};
    lks_status status = lks_plot_draw(&plot, args->plot);
    lks_strbuf_free(&title);
    return status;
}

static lks_status print(const lks_args *args, const forecast *f) {
    lks_strbuf text = {0};
    if (args->json)
        print_json(args, f, &text);
    else
        print_table(args, f, &text);
    lks_status status = text.failed ? lks_fail(LKS_ENOMEM, "out of memory") : LKS_OK;
    if (!status) fputs(text.text, stdout);
    lks_strbuf_free(&text);
    return status;
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
