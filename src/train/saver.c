#include "train/saver.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "train/saved_files.h"

enum { MAX_NAMES = 3 };

/* What one state is saved as: the first name is written, the others are second names of it. */
typedef struct save_plan {
    char names[MAX_NAMES][LKS_SAVED_NAME_BYTES];
    int count;
    bool is_best; /* one of the best epochs is among them */
} save_plan;

struct lks_saver {
    char *folder, *path;             /* of checkpoints/, and of the file that is being written */
    double last_periodic;            /* clock when the last periodic save began */
    bool wanted;                     /* every.minutes have passed */
    bool all_ready, all_succeeded;   /* as the last step's reduction said */
    bool point_failed;               /* there is no latest.h5, and that has been said */
    bool cleaned;                    /* what killed runs left in the folder is gone */
    bool is_last;                    /* no other save comes after this one */
    double slowest;                  /* seconds that a save took, but for steps beside it */
    int64_t saved_epoch, saved_step; /* position of the last one that succeeded, -1: none yet */

    save_plan plan; /* of the save under way */
    int64_t epoch, global_step;
    double began, stall_seconds; /* clock; how long training stood still for it */
    lks_save *save;              /* in the background */
    lks_snapshot snapshot;       /* its data; the memory is kept */
    /* Rank 0's, for the files beside it, which it deals with in the save's thread: */
    bool *kept; /* [kept_count]: which epochs' files keep_best keeps */
    int64_t kept_count;
    char no_latest[LKS_ERROR_BYTES], not_removed[LKS_ERROR_BYTES]; /* why; "" */
};

lks_status lks_saver_create(lks_trainer *t, lks_saver **out) {
    lks_saver *s = calloc(1, sizeof(*s));
    if (s != NULL) s->folder = lks_strdup_printf("%s/checkpoints", t->config.output);
    if (s != NULL && s->folder != NULL)
        s->path = malloc(strlen(s->folder) + 1 + LKS_SAVED_NAME_BYTES);
    *out = s; /* the trainer's to destroy, also half made */
    if (s == NULL || s->path == NULL)
        return lks_fail(LKS_ENOMEM, "the saver of checkpoints: out of host memory");
    s->last_periodic = lks_clock_seconds();
    s->saved_epoch = s->saved_step = -1;
    return lks_save_create(t->context->comm, &s->save);
}

/* ---- what a save's end brings with it ---- */

/* How many epochs that have been saved are better than this one, `most` at most; equal ones count
 * when they came first. */
static int64_t place_of_epoch(const lks_trainer *t, int64_t epoch, int64_t most) {
    int monitor = t->checkpoint_settings.monitor;
    bool minimize = lks_monitor_minimizes(lks_monitor_names[monitor]);
    double value = lks_monitored(&t->history[epoch - 1], monitor);
    if (isnan(value)) return most;
    int64_t place = 0;
    for (int64_t e = t->history_count; e >= 1 && place < most; e--) {
        if (t->epoch_lost[e - 1]) continue;
        double other = lks_monitored(&t->history[e - 1], monitor);
        if (lks_is_better(other, value, minimize) || (other == value && e < epoch)) place++;
    }
    return place;
}

/* Rank 0, in front of a save: which of the best stay behind it. */
static lks_status choose_kept(lks_trainer *t) {
    lks_saver *s = t->saver;
    const lks_checkpoint_settings *settings = &t->checkpoint_settings;
    s->kept_count = settings->best && settings->keep_best > 1 ? t->history_count : 0;
    free(s->kept);
    s->kept = calloc((size_t)s->kept_count + 1, sizeof(*s->kept));
    if (s->kept == NULL)
        return lks_fail(LKS_ENOMEM, "the best of %" PRId64 " epochs: out of host memory",
                        s->kept_count);
    for (int64_t e = 1; e <= s->kept_count; e++)
        s->kept[e - 1] = place_of_epoch(t, e, settings->keep_best) < settings->keep_best;
    return LKS_OK;
}

static void note_warning(lks_status status, char text[LKS_ERROR_BYTES]) {
    if (status != LKS_OK) snprintf(text, LKS_ERROR_BYTES, "%s", lks_last_error());
}

/* Rank 0, once the file has its name: second names, latest.h5, and what is removed. In the thread
 * of a save in the background: nothing that it reads changes before that save has ended. */
static lks_status name_files(void *data) {
    const lks_trainer *t = data;
    lks_saver *s = t->saver;
    const lks_checkpoint_settings *settings = &t->checkpoint_settings;
    for (int i = 1; i < s->plan.count; i++) {
        lks_status status = lks_saved_file_link(s->folder, s->plan.names[0], s->plan.names[i]);
        if (status != LKS_OK) return status;
    }
    note_warning(lks_saved_file_point(s->folder, s->plan.names[0]), s->no_latest);
    if (settings->keep_last > 0)
        note_warning(lks_saved_files_keep_last(s->folder, settings->keep_last,
                                               lks_loader_steps(t->loader), s->global_step),
                     s->not_removed);
    if (s->kept_count > 0)
        note_warning(lks_saved_files_keep_best(s->folder, s->kept, s->kept_count), s->not_removed);
    return LKS_OK;
}

/* Rank 0. One line for every name, now that it stands for a whole file, and what did not go well
 * beside it. */
static void report(lks_trainer *t, double seconds) {
    lks_saver *s = t->saver;
    const lks_logger *logger = &t->context->logger;
    if (s->no_latest[0] != '\0' && !s->point_failed) {
        lks_log(logger, LKS_LOG_WARNING, "there will be no " LKS_SAVED_LATEST ": %s", s->no_latest);
        s->point_failed = true;
    }
    if (s->not_removed[0] != '\0') lks_log(logger, LKS_LOG_WARNING, "%s", s->not_removed);
    for (int i = 0; i < s->plan.count; i++) {
        sprintf(s->path, "%s/%s", s->folder, s->plan.names[i]);
        struct stat info;
        int64_t bytes = stat(s->path, &info) == 0 ? (int64_t)info.st_size : 0;
        lks_run_dir_checkpoint(t->run_dir,
                               &(lks_saved_checkpoint){.path = s->path,
                                                       .epoch = s->epoch,
                                                       .global_step = s->global_step,
                                                       .bytes = bytes,
                                                       .seconds = seconds,
                                                       .stall_seconds = s->stall_seconds});
        lks_log(logger, LKS_LOG_DEBUG,
                "%s saved at step %" PRId64 ": %.1f MiB in %.2f s, of which training waited %.2f s",
                s->path, s->global_step, (double)bytes / (1 << 20), seconds, s->stall_seconds);
    }
}

/* worked: seconds that it would have taken with nothing beside it. A failed save is no reason to
 * lose the training, unless the run file says so or none is left to lose: a run whose result is not
 * saved has failed. */
static lks_status conclude(lks_trainer *t, double worked, lks_status status) {
    lks_saver *s = t->saver;
    if (status == LKS_OK && lks_comm_rank(t->context->comm) == 0)
        report(t, lks_clock_seconds() - s->began);
    if (worked > s->slowest) s->slowest = worked;
    if (status == LKS_OK) {
        s->saved_epoch = s->epoch;
        s->saved_step = s->global_step;
    }
    if (status == LKS_OK || status == LKS_ECOMM) return status;
    if (s->plan.is_best) t->epoch_lost[s->epoch - 1] = true;
    if (t->checkpoint_settings.on_error == LKS_SAVE_ERROR_STOP || s->is_last) return status;
    lks_log(&t->context->logger, LKS_LOG_WARNING, "%s; training goes on", lks_last_error());
    return LKS_OK;
}

/* ---- in the background ---- */

/* Local, but for parameters that a device gathers: what fails is told when the ranks meet over the
 * save, or by the next step's norm. The host's collectives read this rank's part of the parameters
 * and write the others'; a device's may write around it. */
static lks_status start_in_background(lks_trainer *t) {
    lks_saver *s = t->saver;
    lks_state_list list = {0};
    lks_status status =
        lks_device_is_host(t->context->device) ? LKS_OK : lks_trainer_settle_params(t, LKS_OK);
    if (status == LKS_OK) {
        lks_status listed = lks_failure_tell(&t->failure);
        if (listed == LKS_OK && lks_comm_rank(t->context->comm) == 0) listed = choose_kept(t);
        if (listed == LKS_OK) listed = lks_trainer_list_state(t, true, &s->snapshot, &list);
        const lks_checkpoint_content content = lks_state_list_content(&list);
        const lks_published published = {name_files, t};
        lks_save_start(s->save, s->path, &content, &published, listed);
    }
    lks_state_list_free(&list);
    s->stall_seconds = lks_clock_seconds() - s->began;
    return status;
}

lks_status lks_saver_hold(lks_trainer *t) {
    lks_saver *s = t->saver;
    if (s == NULL || !s->snapshot.copies) return LKS_OK;
    double began = lks_clock_seconds();
    lks_status status = lks_snapshot_hold(t, &s->snapshot);
    s->stall_seconds += lks_clock_seconds() - began;
    return status;
}

bool lks_saver_copies(const lks_trainer *t) {
    return t->saver != NULL && t->saver->snapshot.copies;
}

/* Before anything is written: is all of the copy there? */
static void finish_copy(lks_trainer *t) {
    lks_saver *s = t->saver;
    if (s->snapshot.part_count == 0 || lks_save_has_failed(s->save)) return;
    lks_status status = lks_snapshot_finish(t, &s->snapshot);
    if (status != LKS_OK) lks_save_fail(s->save, status);
}

/* A saver that is half made has no save. */
static bool is_running(const lks_saver *s) {
    return s != NULL && s->save != NULL && lks_save_is_open(s->save);
}

lks_status lks_saver_settle(lks_trainer *t) {
    lks_saver *s = t->saver;
    if (!is_running(s)) return LKS_OK;
    double began = lks_clock_seconds();
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_SAVE);
    finish_copy(t);
    lks_status status = lks_save_finish(s->save);
    lks_snapshot_close(t, &s->snapshot, true);
    s->stall_seconds += lks_clock_seconds() - began;
    status = conclude(t, s->stall_seconds + lks_save_worked(s->save), status);
    lks_guard_enter(t->context->guard, before);
    return status;
}

static lks_status advance(lks_trainer *t) {
    lks_saver *s = t->saver;
    double began = lks_clock_seconds();
    bool done = false;
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_SAVE);
    if (!s->all_succeeded) finish_copy(t);
    lks_status status = lks_save_advance(s->save, s->all_succeeded, &done);
    lks_guard_enter(t->context->guard, before);
    s->stall_seconds += lks_clock_seconds() - began;
    if (done) return lks_saver_settle(t);
    return status;
}

lks_status lks_saver_after_failure(lks_trainer *t, lks_status status) {
    lks_saver *s = t->saver;
    if (!is_running(s)) return status;
    if (lks_strands_others(status)) {
        lks_save_abandon(s->save);
        lks_snapshot_close(t, &s->snapshot, true);
        return status;
    }
    char detail[LKS_ERROR_BYTES];
    snprintf(detail, sizeof(detail), "%s", lks_last_error());
    (void)lks_saver_settle(t);
    return lks_fail(status, "%s", detail);
}

void lks_saver_destroy(lks_trainer *t) {
    lks_saver *s = t->saver;
    if (s == NULL) return;
    lks_save_destroy(s->save); /* of a trainer that was not settled */
    lks_snapshot_close(t, &s->snapshot, false);
    free(s->kept);
    free(s->folder);
    free(s->path);
    free(s);
    t->saver = NULL;
}

/* ---- when ---- */

static void add_name(save_plan *plan, const char *name) {
    snprintf(plan->names[plan->count++], LKS_SAVED_NAME_BYTES, "%s", name);
}

static lks_status save_at_once(lks_trainer *t) {
    lks_saver *s = t->saver;
    lks_comm *comm = t->context->comm;
    const bool names = lks_comm_rank(comm) == 0;
    lks_status status = lks_trainer_settle_params(t, LKS_OK);
    /* what a rank has noted since the last reduction: its state is not worth a name */
    if (status == LKS_OK) status = lks_comm_agree(comm, lks_failure_tell(&t->failure));
    if (status != LKS_OK) return status;
    status = lks_comm_agree(comm, names ? choose_kept(t) : LKS_OK);
    if (status == LKS_OK) status = lks_trainer_write_state(t, s->path);
    if (status == LKS_OK) status = lks_comm_agree(comm, names ? name_files(t) : LKS_OK);
    s->stall_seconds = lks_clock_seconds() - s->began;
    return conclude(t, s->stall_seconds, status);
}

static lks_status begin(lks_trainer *t, const save_plan *plan, bool async) {
    lks_saver *s = t->saver;
    lks_status status = lks_saver_settle(t); /* never two at a time */
    if (status != LKS_OK) return status;
    s->began = lks_clock_seconds();
    s->plan = *plan;
    s->epoch = t->position.epoch;
    s->global_step = t->position.global_step;
    s->no_latest[0] = s->not_removed[0] = '\0';
    if (!s->cleaned && lks_comm_rank(t->context->comm) == 0)
        note_warning(lks_saved_files_remove_temporary(s->folder), s->not_removed);
    s->cleaned = true;
    sprintf(s->path, "%s/%s", s->folder, plan->names[0]);
    return async ? start_in_background(t) : save_at_once(t);
}

/* All that it does to files may take as long as the guard grants a checkpoint. */
static lks_status save(lks_trainer *t, const save_plan *plan, bool async) {
    if (plan->count == 0) return LKS_OK;
    lks_guard_phase before = lks_guard_enter(t->context->guard, LKS_GUARD_SAVE);
    lks_status status = begin(t, plan, async);
    lks_guard_enter(t->context->guard, before);
    return status;
}

bool lks_saver_wants(const lks_trainer *t) {
    double minutes = t->checkpoint_settings.every_minutes;
    return t->saver != NULL && minutes > 0 &&
           lks_clock_seconds() - t->saver->last_periodic >= 60 * minutes;
}

double lks_saver_slowest(const lks_trainer *t) {
    return t->saver == NULL ? 0 : t->saver->slowest;
}

bool lks_saver_is_ready(const lks_trainer *t) {
    lks_saver *s = t->saver;
    return is_running(s) && lks_save_ready(s->save) &&
           (lks_save_has_failed(s->save) || lks_snapshot_has_ended(&s->snapshot));
}

bool lks_saver_has_failed(const lks_trainer *t) {
    const lks_saver *s = t->saver;
    return lks_save_has_failed(s->save) || s->snapshot.ended != LKS_OK;
}

void lks_saver_agreed(lks_trainer *t, bool wanted, bool all_ready, bool all_succeeded) {
    if (t->saver == NULL) return;
    t->saver->wanted = t->saver->wanted || wanted;
    t->saver->all_ready = all_ready;
    t->saver->all_succeeded = all_succeeded;
}

/* Is a save due that goes by steps or minutes? */
static void add_step(lks_trainer *t, save_plan *plan) {
    int64_t every = t->checkpoint_settings.every_steps;
    if (!t->saver->wanted && (every == 0 || t->position.global_step % every != 0)) return;
    char name[LKS_SAVED_NAME_BYTES];
    lks_saved_step_name(t->position.global_step, name);
    add_name(plan, name);
}

/* A periodic save begins anew what every.minutes counts, whatever it was due for. */
static lks_status save_periodic(lks_trainer *t, const save_plan *plan, bool periodic) {
    if (periodic) {
        t->saver->wanted = false;
        t->saver->last_periodic = lks_clock_seconds();
    }
    return save(t, plan, t->checkpoint_settings.async);
}

static lks_status move_on(lks_trainer *t) {
    lks_saver *s = t->saver;
    bool go = is_running(s) && s->all_ready;
    s->all_ready = false;
    return go ? advance(t) : LKS_OK;
}

lks_status lks_saver_after_step(lks_trainer *t) {
    if (t->saver == NULL) return LKS_OK;
    save_plan plan = {0};
    lks_status status = move_on(t);
    add_step(t, &plan);
    return status == LKS_OK ? save_periodic(t, &plan, plan.count > 0) : status;
}

/* The place of an epoch among the best. A better one whose save is under way may turn out to be
 * lost: where that would matter, its end is waited for. */
static lks_status find_place(lks_trainer *t, int64_t epoch, int64_t *out) {
    lks_saver *s = t->saver;
    const bool pending = is_running(s) && s->plan.is_best;
    const int64_t kept = t->checkpoint_settings.keep_best;
    lks_status status = LKS_OK;
    *out = INT64_MAX;
    if (!t->checkpoint_settings.best) return LKS_OK;
    *out = place_of_epoch(t, epoch, INT64_MAX);
    if (pending && *out > 0 && *out <= kept) {
        status = lks_saver_settle(t);
        *out = place_of_epoch(t, epoch, INT64_MAX);
    }
    return status;
}

lks_status lks_saver_after_epoch(lks_trainer *t, const lks_epoch_result *result) {
    if (t->saver == NULL) return LKS_OK;
    const lks_checkpoint_settings *settings = &t->checkpoint_settings;
    char name[LKS_SAVED_NAME_BYTES];
    save_plan plan = {0};
    int64_t place = INT64_MAX;
    lks_status status = move_on(t);
    if (status == LKS_OK) status = find_place(t, result->epoch, &place);
    if (settings->every_epochs > 0 && result->epoch % settings->every_epochs == 0) {
        lks_saved_epoch_name(result->epoch, name);
        add_name(&plan, name);
    } else {
        add_step(t, &plan);
    }
    bool periodic = plan.count > 0;
    plan.is_best = place < settings->keep_best;
    if (plan.is_best && settings->keep_best > 1) {
        lks_saved_best_name(result->epoch, name);
        add_name(&plan, name);
    }
    if (place == 0) add_name(&plan, "best.h5");
    return status == LKS_OK ? save_periodic(t, &plan, periodic) : status;
}

/* An interrupted run leaves what a periodic save would have left, unless that has just been done.
 */
static void plan_last(const lks_trainer *t, save_plan *plan) {
    const lks_saver *s = t->saver;
    char name[LKS_SAVED_NAME_BYTES];
    bool saved = s->saved_epoch == t->position.epoch && s->saved_step == t->position.global_step;
    lks_saved_step_name(t->position.global_step, name);
    if (!lks_is_interruption(t->end)) {
        if (t->checkpoint_settings.final) add_name(plan, "final.h5");
    } else if (!saved) {
        add_name(plan, name);
    }
}

/* The last one is written at once: there is nothing left to go on with. */
lks_status lks_saver_after_run(lks_trainer *t) {
    if (t->saver == NULL) return LKS_OK;
    save_plan plan = {0};
    lks_status status = lks_saver_settle(t);
    plan_last(t, &plan);
    t->saver->is_last = true;
    if (status == LKS_OK) status = save(t, &plan, false);
    t->saver->is_last = false; /* the trainer may be run again */
    return status;
}
