#include "checkpoint/trailer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

/* The spans, and then this. */
typedef struct trailer_end {
    int64_t span_count;
    uint64_t hash; /* XXH3-64 of the bytes of the spans, in order, and of the spans themselves */
    char magic[8];
} trailer_end;

static const char MAGIC[8] = {'L', 'K', 'S', 'T', 'R', 'A', 'I', 'L'};

static lks_status add_span(XXH3_state_t *state, int descriptor, const char *path, lks_span span) {
    char buffer[1 << 16];
    while (span.begin < span.end) {
        int64_t left = span.end - span.begin;
        size_t bytes = left < (int64_t)sizeof buffer ? (size_t)left : sizeof buffer;
        lks_status status = lks_file_read_at(descriptor, path, buffer, bytes, span.begin);
        if (status) return status;
        XXH3_64bits_update(state, buffer, bytes);
        span.begin += (int64_t)bytes;
    }
    return LKS_OK;
}

static lks_status hash_spans(int descriptor, const char *path, const lks_span *spans, int64_t count,
                             uint64_t *out) {
    XXH3_state_t *state = XXH3_createState();
    if (!state) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    XXH3_64bits_reset(state);
    lks_status status = LKS_OK;
    for (int64_t i = 0; !status && i < count; i++)
        status = add_span(state, descriptor, path, spans[i]);
    XXH3_64bits_update(state, spans, (size_t)count * sizeof *spans);
    *out = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return status;
}

lks_status lks_trailer_write(int source, const lks_span *spans, int count, int descriptor,
                             const char *path, int64_t offset) {
    trailer_end end = {.span_count = count};
    memcpy(end.magic, MAGIC, sizeof MAGIC);
    lks_status status = hash_spans(source, "a file in memory", spans, count, &end.hash);
    size_t bytes = (size_t)count * sizeof *spans;
    if (!status) status = lks_file_write_at(descriptor, path, spans, bytes, offset);
    if (!status)
        status = lks_file_write_at(descriptor, path, &end, sizeof end, offset + (int64_t)bytes);
    return status;
}

/* Do the spans lie in the file's first `limit` bytes, in order? */
static bool are_sound(const lks_span *spans, int64_t count, int64_t limit) {
    int64_t last = 0;
    for (int64_t i = 0; i < count; i++) {
        if (spans[i].begin < last || spans[i].end < spans[i].begin || spans[i].end > limit)
            return false;
        last = spans[i].end;
    }
    return true;
}

static lks_status check_spans(int descriptor, const char *path, int64_t offset,
                              const trailer_end *end) {
    lks_span *spans = calloc((size_t)end->span_count + 1, sizeof *spans);
    if (!spans) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    uint64_t hash = 0;
    size_t bytes = (size_t)end->span_count * sizeof *spans;
    lks_status status = lks_file_read_at(descriptor, path, spans, bytes, offset);
    bool sound = !status && are_sound(spans, end->span_count, offset);
    if (sound) status = hash_spans(descriptor, path, spans, end->span_count, &hash);
    free(spans);
    if (!status && (!sound || hash != end->hash)) {
        return lks_fail(LKS_ECHECKPOINT,
                        "%s is damaged: its structure does not match the hash in its trailer",
                        path);
    }
    return status;
}

lks_status lks_trailer_check(int descriptor, const char *path, bool *out_found) {
    *out_found = false;
    struct stat info;
    trailer_end end;
    if (fstat(descriptor, &info) != 0)
        return lks_fail(LKS_EIO, "cannot see the size of %s: %s", path, strerror(errno));
    int64_t last = (int64_t)info.st_size - (int64_t)sizeof end;
    if (!S_ISREG(info.st_mode) || last < 0) return LKS_OK;
    lks_status status = lks_file_read_at(descriptor, path, &end, sizeof end, last);
    if (status) return status;
    if (memcmp(end.magic, MAGIC, sizeof MAGIC) != 0 || end.span_count < 0 ||
        end.span_count > last / (int64_t)sizeof(lks_span))
        return LKS_OK;
    *out_found = true;
    return check_spans(descriptor, path, last - end.span_count * (int64_t)sizeof(lks_span), &end);
}
