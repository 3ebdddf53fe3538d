/* Buckets and shards: they cover everything once, divide evenly, and map parameters to ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"

static lks_shard_plan *make_plan(int64_t count, int64_t bytes, int64_t first, int stage, int rank,
                                 int size) {
    lks_shard_plan *plan = NULL;
    assert_int_equal(lks_shard_plan_create(count, bytes, first, stage, rank, size, &plan), LKS_OK);
    return plan;
}

/* Buckets stand side by side, are multiples of the unit, and have the sizes that were asked for. */
static void check_buckets(const lks_shard_plan *plan, int64_t count, int64_t bytes, int64_t first) {
    int64_t unit = (int64_t)plan->size * LKS_SHARD_ALIGN, end = 0;
    const int last = plan->bucket_count - 1;
    const bool small_last = last > 1 && plan->buckets[0].count < plan->buckets[1].count;
    if (small_last) assert_int_equal(plan->buckets[last].count, plan->buckets[0].count);
    for (int b = 0; b < plan->bucket_count; b++) {
        int64_t wanted = (b == 0 || (b == last && small_last) ? first : bytes) / 4;
        const lks_bucket *bucket = &plan->buckets[b];
        assert_int_equal(bucket->offset, end);
        assert_true(bucket->count > 0 && bucket->count % unit == 0);
        assert_true(bucket->count <= wanted || bucket->count == unit);
        if (b < last - small_last)
            assert_true(bucket->count > wanted - unit || bucket->count == unit);
        end += bucket->count;
    }
    assert_int_equal(plan->padded_count, end);
    assert_true(end >= count && end < count + unit);
}

/* What the ranks of a communicator hold, together. */
static void check_shards(int64_t count, int64_t bytes, int64_t first, int stage, int size) {
    int64_t padded = 0;
    uint8_t *updates = NULL;
    for (int rank = 0; rank < size; rank++) {
        lks_shard_plan *plan = make_plan(count, bytes, first, stage, rank, size);
        check_buckets(plan, count, bytes, first);
        if (rank == 0) {
            padded = plan->padded_count;
            updates = calloc((size_t)padded + 1, 1);
        }
        assert_int_equal(plan->padded_count, padded);
        int64_t held = 0;
        for (int b = 0; b < plan->bucket_count; b++) {
            lks_range shard = plan->shards[b];
            const lks_bucket *bucket = &plan->buckets[b];
            assert_int_equal(shard.state_offset, held);
            assert_int_equal(shard.offset % LKS_SHARD_ALIGN, 0);
            assert_true(shard.offset >= bucket->offset &&
                        shard.offset + shard.count <= bucket->offset + bucket->count);
            for (int64_t i = 0; i < shard.count; i++)
                updates[shard.offset + i]++;
            held += shard.count;
        }
        assert_int_equal(plan->state_count, held);
        assert_int_equal(held, stage == 0 ? padded : padded / size);
        lks_shard_plan_destroy(plan);
    }
    for (int64_t i = 0; i < padded; i++)
        assert_int_equal(updates[i], stage == 0 ? size : 1);
    free(updates);
}

static const int64_t counts[] = {0, 1, 15, 16, 17, 63, 64, 65, 1000, 4099, 100003};

static void every_element_has_its_ranks(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{4096, 1024}, {1024, 4096}, {1, 1}, {1 << 30, 1 << 20}};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (int size = 1; size <= 5; size++) {
                check_shards(counts[c], sizes[s][0], sizes[s][1], 0, size);
                check_shards(counts[c], sizes[s][0], sizes[s][1], 1, size);
            }
        }
    }
}

/* Sizes in elements, of 4 bytes each; 0 ends them. */
static void check_cut(int64_t count, const int64_t *expected) {
    lks_shard_plan *plan = make_plan(count, 4 * 4096, 4 * 256, 1, 0, 2);
    for (int b = 0; b < plan->bucket_count; b++)
        assert_int_equal(plan->buckets[b].count, expected[b]);
    assert_int_equal(expected[plan->bucket_count], 0);
    lks_shard_plan_destroy(plan);
}

static void first_and_last_bucket_are_small(void **state) {
    (void)state;
    check_cut(10000, (const int64_t[]){256, 4096, 4096, 1312, 256, 0}); /* padded to 10016 */
    check_cut(4 * 256, (const int64_t[]){256, 2 * 256, 256, 0});
    check_cut(3 * 256, (const int64_t[]){256, 256, 256, 0});
    check_cut(3 * 256 - 32, (const int64_t[]){256, 2 * 256 - 32, 0});
    check_cut(256, (const int64_t[]){256, 0});
}

/* Parameters of odd sizes side by side: the parts of all ranks cover each exactly `times` times,
 * and lead to the right place in the state. */
static void check_overlap(lks_shard_part part, int stage, int size, int times) {
    enum { PARAMS = 6 };
    static const int64_t param_count[PARAMS] = {1, 70, 256, 3, 999, 400};
    enum { TOTAL = 1 + 70 + 256 + 3 + 999 + 400 };
    int covered[TOTAL] = {0};
    for (int rank = 0; rank < size; rank++) {
        lks_shard_plan *plan = make_plan(TOTAL, 1024, 256, stage, rank, size);
        lks_range *ranges = calloc((size_t)plan->bucket_count, sizeof *ranges);
        int64_t offset = 0;
        for (int p = 0; p < PARAMS; p++) {
            int n = lks_shard_plan_overlap(plan, part, offset, param_count[p], ranges);
            assert_true(n <= plan->bucket_count);
            for (int i = 0; i < n; i++) {
                assert_true(ranges[i].count > 0 && ranges[i].offset >= offset);
                assert_true(ranges[i].offset + ranges[i].count <= offset + param_count[p]);
                if (i > 0) assert_true(ranges[i].offset > ranges[i - 1].offset);
                for (int64_t e = 0; e < ranges[i].count; e++)
                    covered[ranges[i].offset + e]++;
                /* The shard that holds it, looked for the slow way. */
                int b = 0;
                while (plan->shards[b].offset + plan->shards[b].count <= ranges[i].offset)
                    b++;
                assert_int_equal(ranges[i].state_offset, plan->shards[b].state_offset +
                                                             ranges[i].offset -
                                                             plan->shards[b].offset);
            }
            offset += param_count[p];
        }
        free(ranges);
        lks_shard_plan_destroy(plan);
    }
    for (int i = 0; i < TOTAL; i++)
        assert_int_equal(covered[i], times);
}

static void parameters_are_owned_once_and_held_where_updated(void **state) {
    (void)state;
    for (int size = 1; size <= 4; size++) {
        check_overlap(LKS_SHARD_OWNED, 0, size, 1);
        check_overlap(LKS_SHARD_OWNED, 1, size, 1);
        check_overlap(LKS_SHARD_HELD, 0, size, size);
        check_overlap(LKS_SHARD_HELD, 1, size, 1);
    }
}

static void assert_refused(lks_status status, const char *words) {
    assert_int_equal(status, LKS_EINVAL);
    if (!strstr(lks_last_error(), words)) fail_msg("%s: no %s", lks_last_error(), words);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    lks_shard_plan *plan;
    assert_refused(lks_shard_plan_create(-1, 1024, 1024, 1, 0, 1, &plan), "-1 parameters");
    assert_refused(lks_shard_plan_create(INT64_MAX / 4, 1024, 1024, 1, 0, 1, &plan), "parameters");
    assert_refused(lks_shard_plan_create(10, 0, 1024, 1, 0, 1, &plan), "bucket_bytes 0");
    assert_refused(lks_shard_plan_create(10, 1024, -4, 1, 0, 1, &plan), "first_bucket_bytes -4");
    assert_refused(lks_shard_plan_create(10, 1024, 1024, 3, 0, 1, &plan), "zero_stage: 3");
    assert_refused(lks_shard_plan_create(10, 1024, 1024, -1, 0, 1, &plan), "zero_stage: -1");
    assert_refused(lks_shard_plan_create(10, 1024, 1024, 1, 2, 2, &plan), "rank 2 of 2");
    assert_refused(lks_shard_plan_create(10, 1024, 1024, 1, -1, 2, &plan), "rank -1");
    assert_refused(lks_shard_plan_create(10, 1024, 1024, 1, 0, 0, &plan), "of 0");
    assert_refused(lks_shard_plan_create(INT64_MAX / 8, 4, 4, 1, 0, 1, &plan), "too small");
    assert_null(plan);
    lks_shard_plan_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_has_its_ranks),
        cmocka_unit_test(first_and_last_bucket_are_small),
        cmocka_unit_test(parameters_are_owned_once_and_held_where_updated),
        cmocka_unit_test(bad_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
