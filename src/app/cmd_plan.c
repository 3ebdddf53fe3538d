/* `lockstep plan`: what a run would need on ranks that nobody has started, and how long its steps
 * would take. Memory is measured on a model built for so many ranks; times are predicted. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/job.h"
#include "app/output.h"
#include "app/plan_files.h"
#include "app/plan_print.h"
#include "data/data.h"

enum { MAX_RANK_COUNTS = 32, STAGES = 3, MAX_RANKS = 1 << 24 };

typedef struct planner {
    lks_job job;
    int rank_counts[MAX_RANK_COUNTS];
    int rank_count_count;
    lks_pace paces[LKS_ARGS_MAX_PROFILES];
    int pace_count;
    lks_cluster cluster;
} planner;

/* ---- the command line ---- */

static lks_status read_rank_counts(const char *text, planner *p) {
    for (const char *at = text; *at;) {
        char *end;
        long count = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || count < 1 || count > MAX_RANKS)
            return lks_fail(LKS_EUSAGE, "--ranks %s: expected numbers of ranks such as 8,64,1024",
                            text);
        if (p->rank_count_count == MAX_RANK_COUNTS)
            return lks_fail(LKS_EUSAGE, "--ranks %s: expected %d numbers at most", text,
                            MAX_RANK_COUNTS);
        p->rank_counts[p->rank_count_count++] = (int)count;
        at = *end ? end + 1 : end;
    }
    return p->rank_count_count > 0
               ? LKS_OK
               : lks_fail(LKS_EUSAGE, "--ranks: expected numbers of ranks such as 8,64,1024");
}

/* fullest: the profile with most ranks on a host, which says what nothing else does. */
static void place_ranks(const lks_args *args, const lks_plan_profile *fullest, planner *p) {
    p->cluster.ranks_per_node = args->ranks_per_node ? (int)args->ranks_per_node
                                : args->network      ? lks_plan_profile_neighbours(fullest)
                                                     : INT_MAX;
    p->cluster.threads = fullest->threads;
    p->cluster.on_device = fullest->on_device;
    p->cluster.cores = args->cores ? (int)args->cores : fullest->cores;
}

static lks_status check_links(const lks_args *args, const planner *p) {
    for (int i = 0; i < p->rank_count_count; i++) {
        const int ranks = p->rank_counts[i];
        if (ranks > 1 && p->cluster.ranks_per_node > 1 && !args->node)
            return lks_fail(LKS_EUSAGE, "plan: --node is missing: how fast the ranks of a node "
                                        "exchange data, from `lockstep bench comm --json`");
        if (ranks > p->cluster.ranks_per_node && !args->network)
            return lks_fail(LKS_EUSAGE, "plan: --network is missing: how fast ranks of different "
                                        "nodes exchange data");
    }
    return LKS_OK;
}

static lks_status read_profiles(const lks_args *args, planner *p) {
    lks_plan_profile profiles[LKS_ARGS_MAX_PROFILES] = {{0}};
    lks_status status = LKS_OK;
    for (int i = 0; i < args->profile_count && !status; i++)
        status = lks_plan_read_profile(args->profiles[i], &profiles[i]);
    if (!status) status = lks_pace_fit(profiles, args->profile_count, p->paces, &p->pace_count);
    if (!status) place_ranks(args, &profiles[args->profile_count - 1], p);
    for (int i = 0; i < args->profile_count; i++)
        lks_plan_profile_free(&profiles[i]);
    return status;
}

static lks_status read_inputs(const lks_args *args, planner *p) {
    lks_status status = read_rank_counts(args->ranks, p);
    if (status || args->profile_count == 0) return status;
    status = read_profiles(args, p);
    if (!status) status = check_links(args, p);
    if (!status && args->node) status = lks_plan_read_link(args->node, true, &p->cluster.node);
    if (!status && args->network)
        status = lks_plan_read_link(args->network, false, &p->cluster.network);
    return status;
}

/* ---- one rank among many ---- */

static lks_status build(planner *p, lks_context *context, lks_plan_row *row) {
    const lks_run *run = &p->job.run;
    lks_dataset *train = p->job.train;
    lks_train_config config = run->config;
    const lks_shape *input = run->input.rank > 0 ? &run->input : lks_dataset_input_shape(train);
    lks_trainer *trainer = NULL;
    config.zero_stage = row->zero_stage;
    config.output = NULL;
    lks_comm_imagine(lks_context_comm(context), row->ranks);
    lks_device_measure(lks_context_device(context));
    lks_status status =
        lks_trainer_create(context, run->layers, input, train, NULL, &config, &trainer);
    if (!status) status = lks_trainer_get_needs(trainer, &row->needs);
    if (!status) status = lks_trainer_get_outline(trainer, &row->outline);
    lks_trainer_destroy(trainer);
    return status;
}

/* With as many threads as the profile had: a CPU's workspace depends on them. */
static lks_status outline(planner *p, lks_plan_row *row) {
    const lks_machine_settings *machine = &p->job.run.machine;
    const lks_context_config config = {.device = lks_device_names[machine->device],
                                       .precision = lks_precision_names[machine->precision],
                                       .threads = machine->threads ? (int)machine->threads
                                                                   : p->cluster.threads,
                                       .verbosity = -1};
    lks_context *context = NULL;
    lks_status status = lks_context_create(MPI_COMM_SELF, &config, &context);
    if (!status) status = build(p, context, row);
    lks_context_destroy(context);
    if (!status && p->pace_count > 0 && p->paces[0].layer_count != row->outline.layer_count)
        status = lks_fail(LKS_EDATA,
                          "the profile has %d layers and the model has %d: expected a "
                          "profile of this model",
                          p->paces[0].layer_count, row->outline.layer_count);
    return status ? lks_fail_in(status, "%d rank%s", row->ranks, lks_plural(row->ranks)) : LKS_OK;
}

static lks_status predict(planner *p, lks_plan_row *row) {
    lks_status status = outline(p, row);
    if (status || p->pace_count == 0) return status;
    row->neighbours = lks_cluster_neighbours(&p->cluster, row->ranks);
    const lks_pace *pace = lks_pace_nearest(p->paces, p->pace_count, row->neighbours);
    row->profiled = pace->neighbours;
    return lks_plan_step(pace, &p->cluster, &row->outline, row->ranks, row->zero_stage,
                         &row->forecast);
}

/* What the run file cannot have on so many ranks, as when they are more than samples of a batch,
 * leaves the others their predictions. */
static lks_status predict_or_refuse(planner *p, lks_plan_row *row) {
    lks_status status = predict(p, row);
    if (status != LKS_ECONFIG) return status;
    row->refusal = lks_strdup_printf("%s", lks_last_error());
    return row->refusal ? LKS_OK : lks_fail(LKS_ENOMEM, "out of memory");
}

/* rows: [rank_count_count * STAGES]. All are compared with one rank, whether asked for or not. */
static lks_status predict_all(planner *p, lks_plan_row *rows) {
    const int count = p->rank_count_count * STAGES;
    lks_plan_row alone = {.ranks = 1, .zero_stage = 1};
    lks_status status = predict(p, &alone);
    int refused = 0;
    for (int i = 0; i < count && !status; i++) {
        rows[i].ranks = p->rank_counts[i / STAGES];
        rows[i].zero_stage = i % STAGES;
        status = predict_or_refuse(p, &rows[i]);
        if (!status && rows[i].forecast.step > 0)
            rows[i].efficiency = alone.forecast.step / (rows[i].ranks * rows[i].forecast.step);
        refused += rows[i].refusal != NULL;
    }
    lks_outline_free(&alone.outline);
    return status || refused < count ? status : lks_fail(LKS_ECONFIG, "%s", rows[0].refusal);
}

static lks_status print(const planner *p, const lks_plan_row *rows) {
    const int count = p->rank_count_count * STAGES;
    lks_strbuf text = {0};
    if (p->job.args->json)
        lks_plan_print_json(rows, count, &text);
    else
        lks_plan_print(rows, count, &text);
    return lks_output_text(LKS_OK, &text);
}

static lks_status plan(planner *p) {
    const lks_run *run = &p->job.run;
    const int count = p->rank_count_count * STAGES;
    lks_plan_row *rows = calloc((size_t)count, sizeof *rows);
    if (!rows) return lks_fail(LKS_ENOMEM, "out of memory");
    /* No sample of it is read but its shape. */
    lks_status status = run->train.type
                            ? lks_dataset_open(&run->train, 0, &p->job.train)
                            : lks_fail(LKS_ECONFIG, "data: the key \"train\" is missing");
    if (!status) status = predict_all(p, rows);
    if (!status && lks_job_is_first(&p->job)) status = print(p, rows);
    for (int i = 0; i < count; i++) {
        lks_outline_free(&rows[i].outline);
        free(rows[i].refusal);
    }
    free(rows);
    return status;
}

lks_status lks_command_plan(const lks_args *args) {
    planner p = {.rank_count_count = 0};
    lks_status status = lks_job_open_run(args, &p.job);
    if (!status) status = read_inputs(args, &p);
    if (!status) status = plan(&p);
    for (int i = 0; i < p.pace_count; i++)
        lks_pace_free(&p.paces[i]);
    lks_job_close(&p.job, status);
    return status;
}
