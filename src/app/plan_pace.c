#include "app/plan_pace.h"

#include <math.h>
#include <stdlib.h>

void lks_plan_profile_free(lks_plan_profile *profile) {
    free(profile->layer_forward);
    free(profile->layer_backward);
    profile->layer_forward = profile->layer_backward = NULL;
}

int lks_plan_profile_neighbours(const lks_plan_profile *profile) {
    return (profile->ranks - 1) / profile->hosts + 1;
}

lks_line lks_line_fit(const double *x, const double *y, int count) {
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < count; i++) {
        sx += x[i];
        sy += y[i];
        sxx += x[i] * x[i];
        sxy += x[i] * y[i];
    }
    const double determinant = count * sxx - sx * sx;
    const lks_line through_origin = {.per_unit = sxx > 0 ? sxy / sxx : 0};
    if (!(determinant > 1e-6 * count * sxx)) return through_origin;
    const lks_line line = {.fixed = (sy * sxx - sx * sxy) / determinant,
                           .per_unit = (count * sxy - sx * sy) / determinant};
    if (line.per_unit < 0) return (lks_line){.fixed = sy / count};
    return line.fixed < 0 ? through_origin : line;
}

double lks_line_at(const lks_line *line, double units) {
    return line->fixed + line->per_unit * units;
}

/* One quantity of every profile, found at the same offset in each. */
static lks_line fit_member(const lks_plan_profile *profiles, int count, size_t x_offset,
                           size_t y_offset, double *scratch) {
    for (int i = 0; i < count; i++) {
        scratch[i] = *(const double *)((const char *)&profiles[i] + x_offset);
        scratch[count + i] = *(const double *)((const char *)&profiles[i] + y_offset);
    }
    return lks_line_fit(scratch, scratch + count, count);
}

static lks_status check_alike(const lks_plan_profile *profiles, int count) {
    for (int i = 1; i < count; i++) {
        if (profiles[i].layer_count != profiles[0].layer_count)
            return lks_fail(LKS_EDATA,
                            "the profiles have %d and %d layers: expected profiles of "
                            "one model",
                            profiles[0].layer_count, profiles[i].layer_count);
        if (profiles[i].threads != profiles[0].threads)
            return lks_fail(LKS_EDATA,
                            "the profiles have %d and %d threads a rank: expected as many in "
                            "each, which --threads sets",
                            profiles[0].threads, profiles[i].threads);
    }
    return LKS_OK;
}

#define FIT(x_, y_)                                                                             \
    fit_member(profiles, count, offsetof(lks_plan_profile, x_), offsetof(lks_plan_profile, y_), \
               scratch)

/* Each layer's part of forward and backward, and what belongs to none. scratch: [3 * count]. */
static void fit_layers(const lks_plan_profile *profiles, int count, double *scratch,
                       lks_pace *out) {
    double *rows = scratch, *seconds = scratch + count, *rest = scratch + 2 * count;
    for (int i = 0; i < count; i++) {
        rows[i] = profiles[i].rows;
        rest[i] = profiles[i].forward + profiles[i].backward;
    }
    for (int layer = 0; layer < out->layer_count; layer++) {
        for (int i = 0; i < count; i++)
            rest[i] -= seconds[i] = profiles[i].layer_forward[layer];
        out->forward[layer] = lks_line_fit(rows, seconds, count);
        for (int i = 0; i < count; i++)
            rest[i] -= seconds[i] = profiles[i].layer_backward[layer];
        out->backward[layer] = lks_line_fit(rows, seconds, count);
    }
    out->loss = lks_line_fit(rows, rest, count);
}

/* Of profiles with one number of neighbours. */
static lks_status fit_one(const lks_plan_profile *profiles, int count, lks_pace *out) {
    *out = (lks_pace){.neighbours = lks_plan_profile_neighbours(&profiles[0]),
                      .layer_count = profiles[0].layer_count};
    double *scratch = calloc(3 * (size_t)count, sizeof *scratch);
    out->forward = calloc((size_t)out->layer_count + 1, sizeof *out->forward);
    out->backward = calloc((size_t)out->layer_count + 1, sizeof *out->backward);
    if (!scratch || !out->forward || !out->backward) {
        free(scratch);
        lks_pace_free(out);
        return lks_fail(LKS_ENOMEM, "out of memory");
    }
    out->input = FIT(rows, input);
    out->loader = FIT(rows, loader);
    out->optimizer = FIT(updated, optimizer);
    fit_layers(profiles, count, scratch, out);
    for (int i = 0; i < count; i++)
        out->other += profiles[i].other / count;
    free(scratch);
    return LKS_OK;
}

static int compare_neighbours(const void *a, const void *b) {
    return lks_plan_profile_neighbours(a) - lks_plan_profile_neighbours(b);
}

lks_status lks_pace_fit(lks_plan_profile *profiles, int count, lks_pace *out, int *out_count) {
    lks_status status = check_alike(profiles, count);
    *out_count = 0;
    qsort(profiles, (size_t)count, sizeof *profiles, compare_neighbours);
    for (int first = 0, end; first < count && !status; first = end) {
        for (end = first + 1; end < count; end++)
            if (compare_neighbours(&profiles[first], &profiles[end]) != 0) break;
        status = fit_one(&profiles[first], end - first, &out[*out_count]);
        if (!status) ++*out_count;
    }
    if (!status) return LKS_OK;
    while (*out_count > 0)
        lks_pace_free(&out[--*out_count]);
    return status;
}

const lks_pace *lks_pace_nearest(const lks_pace *paces, int count, int neighbours) {
    const lks_pace *nearest = paces;
    for (int i = 1; i < count; i++)
        if (fabs(log((double)paces[i].neighbours / neighbours)) <
            fabs(log((double)nearest->neighbours / neighbours)))
            nearest = &paces[i];
    return nearest;
}

double lks_pace_seconds(const lks_pace *pace, double rows, double updated) {
    double seconds = pace->other + lks_line_at(&pace->input, rows) +
                     lks_line_at(&pace->loss, rows) + lks_line_at(&pace->optimizer, updated);
    for (int layer = 0; layer < pace->layer_count; layer++)
        seconds +=
            lks_line_at(&pace->forward[layer], rows) + lks_line_at(&pace->backward[layer], rows);
    return seconds;
}

void lks_pace_free(lks_pace *pace) {
    free(pace->forward);
    free(pace->backward);
    pace->forward = pace->backward = NULL;
}
