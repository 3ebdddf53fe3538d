#include <ctype.h>
#include <fnmatch.h>
#include <string.h>

#include "base/error.h"
#include "base/strbuf.h"

/* Longer names are cut for the comparison: no option's name comes near. */
enum { MAX_NAME = 63 };
/* A list of more names helps nobody: the parameters of a deep model. */
enum { MAX_LISTED = 40 };

/* Case and the choice between - and _ are no difference to a reader. */
static int fold(char c) {
    return c == '-' ? '_' : tolower((unsigned char)c);
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Edits that turn a into b: insertions, deletions, substitutions and swaps of neighbours (optimal
 * string alignment distance). */
static int edit_distance(const char *a, const char *b) {
    int la = (int)strnlen(a, MAX_NAME), lb = (int)strnlen(b, MAX_NAME);
    int rows[3][MAX_NAME + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= lb; j++)
        last[j] = j;
    for (int i = 1; i <= la; i++) {
        now[0] = i;
        for (int j = 1; j <= lb; j++) {
            int same = fold(a[i - 1]) == fold(b[j - 1]);
            now[j] = smaller(smaller(last[j], now[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]))
                now[j] = smaller(now[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[lb];
}

/* Someone who writes `kernel` means `kernel_size`. */
static bool is_beginning(const char *name, const char *candidate) {
    size_t length = strlen(name);
    return length >= 3 && strncasecmp(name, candidate, length) == 0;
}

const char *lks_nearest_name(const char *name, const char *const *candidates, size_t count) {
    const char *nearest = NULL, *begun = NULL;
    int length = (int)strnlen(name, MAX_NAME);
    int best = (length + 2) / 3 + 1; /* more than a third of the letters wrong is another word */
    for (size_t i = 0; i < count; i++) {
        int distance = edit_distance(name, candidates[i]);
        if (distance < best && distance < length) {
            best = distance;
            nearest = candidates[i];
        }
        if (!begun && is_beginning(name, candidates[i])) begun = candidates[i];
    }
    return nearest ? nearest : begun;
}

lks_status lks_fail_unknown(const char *what, const char *name, const char *const *known,
                            size_t count) {
    const char *nearest = lks_nearest_name(name, known, count);
    if (nearest)
        return lks_fail(LKS_ECONFIG, "unknown %s \"%s\": did you mean \"%s\"?", what, name,
                        nearest);
    lks_strbuf list = {0};
    for (size_t i = 0; i < count && i < MAX_LISTED; i++)
        lks_strbuf_add(&list, "%s%s", i ? ", " : "", known[i]);
    lks_status status = lks_fail(LKS_ECONFIG, "unknown %s \"%s\": expected one of %s%s", what, name,
                                 list.failed || !count ? "the known ones" : list.text,
                                 count > MAX_LISTED ? " ..." : "");
    lks_strbuf_free(&list);
    return status;
}

bool lks_glob_match(const char *pattern, const char *name) {
    return fnmatch(pattern, name, 0) == 0;
}
