/* torch.optim.lr_scheduler.SequentialLR: one schedule after the other. */
#include <stdlib.h>
#include <string.h>

#include "sched/schedule.h"

/* Of one part, what stands in state.extra: its moves, its base rate, then its own extra. The rate
 * is the whole's: a part that begins starts from its base rate, the others do not run. */
enum { MOVES, BASE_LR, OWN_EXTRA };
enum { NOT_BEGUN = -1 }; /* as MOVES */

typedef struct sequential_config {
    lks_schedule_common common;
    lks_text_list schedules;
    lks_int_list milestones;
    lks_schedule_part *parts; /* [schedules.count] */
} sequential_config;

static const lks_option options[] = {
    {.key = "schedules",
     .type = LKS_OPTION_SPEC_LIST,
     .offset = offsetof(sequential_config, schedules),
     .section = "schedule",
     .help = "The schedules in their order, such as [{type: linear, total_iters: 5}, {type: "
             "cosine_annealing, T_max: 15}]."},
    {.key = "milestones",
     .type = LKS_OPTION_INT_LIST,
     .offset = offsetof(sequential_config, milestones),
     .low = 1,
     .high = INFINITY,
     .help = "Epochs (or steps) after which the next schedule begins, in ascending order: one less "
             "than there are schedules."},
    LKS_SCHEDULE_INTERVAL_OPTION,
    {0},
};

static const lks_option_table table = {
    .name = "sequential",
    .help =
        "One schedule after the other, such as a warm-up and then anything (SequentialLR); here "
        "reduce_on_plateau may be among them.",
    .struct_bytes = sizeof(sequential_config),
    .options = options,
};

static lks_status check_milestones(const sequential_config *sequence) {
    const lks_int_list *milestones = &sequence->milestones;
    int schedules = sequence->schedules.count;
    if (schedules < 1)
        return lks_fail(LKS_ECONFIG, "schedules: the list is empty: expected a schedule or more");
    if (milestones->count != schedules - 1)
        return lks_fail(LKS_ECONFIG, "milestones: %d for %d schedules: expected %d",
                        milestones->count, schedules, schedules - 1);
    for (int i = 1; i < milestones->count; i++) {
        if (milestones->values[i] <= milestones->values[i - 1])
            return lks_fail(LKS_ECONFIG,
                            "milestones: %lld stands after %lld: expected ascending order",
                            (long long)milestones->values[i], (long long)milestones->values[i - 1]);
    }
    return LKS_OK;
}

static lks_status check_part(const sequential_config *sequence, const lks_schedule_part *part) {
    const lks_schedule_common *common = part->config;
    if (part->kind == &lks_schedule_sequential)
        return lks_fail(LKS_ECONFIG, "a sequence cannot stand in a sequence: expected one list");
    if (common->interval == LKS_SCHEDULE_INTERVAL_STEP)
        return lks_fail(LKS_ECONFIG, "interval: expected in the sequence, not in its schedules");
    if (part->kind->monitor && sequence->common.interval == LKS_SCHEDULE_INTERVAL_STEP)
        return lks_fail(LKS_ECONFIG,
                        "%s needs the interval epoch: the sequence has the interval "
                        "step",
                        part->kind->options->name);
    return LKS_OK;
}

/* "TYPE key=value ..." */
static lks_status open_part(const sequential_config *sequence, const char *text,
                            lks_schedule_part *out) {
    text += strspn(text, " \t\n");
    size_t length = strcspn(text, " \t\n");
    char *type = lks_strdup_printf("%.*s", (int)length, text);
    if (!type) return lks_fail(LKS_ENOMEM, "out of memory");
    lks_status status = lks_schedule_part_open(type, text + length, &sequence->common.lambda, out);
    if (!status) status = check_part(sequence, out);
    free(type);
    return status;
}

static lks_status prepare(void *config) {
    sequential_config *sequence = config;
    lks_status status = check_milestones(sequence);
    if (status) return status;
    int count = sequence->schedules.count, numbers = 0;
    sequence->parts = calloc((size_t)count, sizeof *sequence->parts);
    if (!sequence->parts) return lks_fail(LKS_ENOMEM, "out of memory");
    int monitor = -1;
    for (int i = 0; i < count; i++) {
        status = open_part(sequence, sequence->schedules.values[i], &sequence->parts[i]);
        if (status) return lks_fail_in(status, "schedules[%d]", i);
        numbers += OWN_EXTRA + sequence->parts[i].kind->extra_count;
        int watched = lks_schedule_part_monitor(&sequence->parts[i]);
        if (monitor >= 0 && watched >= 0 && watched != monitor)
            return lks_fail(LKS_ECONFIG, "schedules[%d]: monitor: %s: expected %s, as before", i,
                            lks_monitor_names[watched], lks_monitor_names[monitor]);
        if (watched >= 0) monitor = watched;
    }
    if (numbers > LKS_SCHEDULE_EXTRA_MAX)
        return lks_fail(LKS_ECONFIG,
                        "schedules: %d are too many: their state takes %d numbers, of "
                        "which there may be %d",
                        count, numbers, LKS_SCHEDULE_EXTRA_MAX);
    return LKS_OK;
}

static void release(void *config) {
    sequential_config *sequence = config;
    for (int i = 0; sequence->parts && i < sequence->schedules.count; i++)
        lks_schedule_part_close(&sequence->parts[i]);
    free(sequence->parts);
}

/* Where a part's numbers stand in the whole's extra. */
static int place_of(const sequential_config *sequence, int part) {
    int place = 0;
    for (int i = 0; i < part; i++)
        place += OWN_EXTRA + sequence->parts[i].kind->extra_count;
    return place;
}

static lks_schedule_state load(const sequential_config *sequence, int part,
                               const lks_schedule_state *whole) {
    const double *numbers = whole->extra + place_of(sequence, part);
    lks_schedule_state state = {
        .moves = numbers[MOVES], .base_lr = numbers[BASE_LR], .lr = whole->lr};
    memcpy(state.extra, numbers + OWN_EXTRA,
           (size_t)sequence->parts[part].kind->extra_count * sizeof(double));
    return state;
}

static void store(const sequential_config *sequence, int part, const lks_schedule_state *state,
                  lks_schedule_state *whole) {
    double *numbers = whole->extra + place_of(sequence, part);
    numbers[MOVES] = state->moves;
    numbers[BASE_LR] = state->base_lr;
    memcpy(numbers + OWN_EXTRA, state->extra,
           (size_t)sequence->parts[part].kind->extra_count * sizeof(double));
}

/* A part's first rate comes from its own base rate. */
static void begin_part(const sequential_config *sequence, int part, lks_schedule_state *whole) {
    lks_schedule_state state;
    double base_lr = whole->extra[place_of(sequence, part) + BASE_LR];
    lks_schedule_part_start(&sequence->parts[part], base_lr, &state);
    whole->lr = state.lr;
    store(sequence, part, &state, whole);
}

/* PyTorch makes all schedules on one optimizer first: one_cycle sets the base rate there, so those
 * after it take that one, and the first schedule starts its way from it. (A second one_cycle would
 * overwrite the first one's max_lr there, too; here each keeps its own.) */
static void start(const void *config, lks_schedule_state *state) {
    const sequential_config *sequence = config;
    for (int i = 0; i < sequence->schedules.count; i++) {
        lks_schedule_state part;
        lks_schedule_part_start(&sequence->parts[i], state->base_lr, &part);
        part.moves = NOT_BEGUN;
        store(sequence, i, &part, state);
        state->base_lr = part.base_lr;
    }
    const lks_schedule_part *part = &sequence->parts[0];
    double base_lr = state->extra[BASE_LR];
    lks_schedule_state first = {.base_lr = base_lr, .lr = state->base_lr};
    if (part->kind->start) part->kind->start(part->config, &first);
    state->lr = first.lr;
    store(sequence, 0, &first, state);
}

/* The part that runs after `moves` moves. */
static int part_at(const sequential_config *sequence, double moves) {
    int part = 0;
    while (part < sequence->milestones.count && (double)sequence->milestones.values[part] <= moves)
        part++;
    return part;
}

static void advance(const void *config, lks_schedule_state *state,
                    const lks_schedule_input *input) {
    const sequential_config *sequence = config;
    int now = part_at(sequence, state->moves);
    if (now != part_at(sequence, state->moves - 1)) {
        begin_part(sequence, now, state);
        return;
    }
    lks_schedule_state part = load(sequence, now, state);
    lks_schedule_part_advance(&sequence->parts[now], &part, input);
    state->lr = part.lr;
    store(sequence, now, &part, state);
}

/* All that watch something watch the same. */
static int monitor(const void *config) {
    const sequential_config *sequence = config;
    int found = -1;
    for (int i = 0; i < sequence->schedules.count && found < 0; i++)
        found = lks_schedule_part_monitor(&sequence->parts[i]);
    return found;
}

/* The optimizer keeps the momentum that it was given last: by the last schedule that has begun and
 * cycles it, else by the last one that was made. */
static double momentum(const void *config, const lks_schedule_state *state) {
    const sequential_config *sequence = config;
    double begun = NAN, made = NAN;
    for (int i = 0; i < sequence->schedules.count; i++) {
        lks_schedule_state part = load(sequence, i, state);
        bool has_begun = part.moves != NOT_BEGUN;
        if (!has_begun) part.moves = 0;
        double value = lks_schedule_part_momentum(&sequence->parts[i], &part);
        if (isnan(value)) continue;
        made = value;
        if (has_begun) begun = value;
    }
    return isnan(begun) ? made : begun;
}

static bool verbose(const void *config) {
    const sequential_config *sequence = config;
    bool found = false;
    for (int i = 0; i < sequence->schedules.count && !found; i++)
        found = lks_schedule_part_is_verbose(&sequence->parts[i]);
    return found;
}

const lks_schedule_kind lks_schedule_sequential = {
    .options = &table,
    .extra_count = LKS_SCHEDULE_EXTRA_MAX,
    .prepare = prepare,
    .release = release,
    .start = start,
    .advance = advance,
    .monitor = monitor,
    .momentum = momentum,
    .verbose = verbose,
};
