/* Which samples are in which batch: permutations, steps, parts of ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/data.h"

static void assert_permutation(const int64_t *order, int64_t count) {
    bool *seen = calloc((size_t)count + 1, sizeof *seen);
    for (int64_t i = 0; i < count; i++) {
        assert_in_range(order[i], 0, count - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
    }
    free(seen);
}

static void orders_are_permutations_of_every_length(void **state) {
    (void)state;
    int64_t order[70];
    for (int64_t count = 0; count <= 70; count++) {
        lks_sampler_permutation(3, 1, count, order);
        assert_permutation(order, count);
    }
}

/* The words are taken one by one here, without the sampler's reuse of a block. */
static void the_order_is_the_documented_one(void **state) {
    (void)state;
    const int64_t epochs[] = {0, 1, ((int64_t)1 << 32) + 5};
    int64_t order[1001], expected[1001];
    for (int e = 0; e < 3; e++) {
        for (int64_t count = 998; count <= 1001; count++) {
            lks_philox_key key = lks_philox_key_make(42, LKS_RANDOM_SHUFFLE, (uint32_t)epochs[e]);
            for (int64_t i = 0; i < count; i++)
                expected[i] = i;
            for (int64_t i = count - 1; i > 0; i--) {
                uint64_t word =
                    lks_philox(key, (uint64_t)i / 4, (uint64_t)epochs[e] >> 32).word[i % 4];
                int64_t j = (int64_t)(word * (uint64_t)(i + 1) >> 32);
                int64_t moved = expected[i];
                expected[i] = expected[j];
                expected[j] = moved;
            }
            lks_sampler_permutation(42, epochs[e], count, order);
            assert_memory_equal(order, expected, (size_t)count * sizeof order[0]);
        }
    }
}

static void seeds_and_epochs_give_other_orders(void **state) {
    (void)state;
    int64_t a[100], b[100];
    lks_sampler_permutation(1, 1, 100, a);
    lks_sampler_permutation(1, 1, 100, b);
    assert_memory_equal(a, b, sizeof a);
    lks_sampler_permutation(1, 2, 100, b);
    assert_memory_not_equal(a, b, sizeof a);
    lks_sampler_permutation(2, 1, 100, b);
    assert_memory_not_equal(a, b, sizeof a);
    lks_sampler_permutation(1, ((int64_t)1 << 32) + 1, 100, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* Every sample is as likely to come to every place: 24 orders of 4, 24000 draws, so 1000 of each
 * with a standard deviation of 31; six of those are never reached by chance. */
static void orders_are_equally_likely(void **state) {
    (void)state;
    int drawn[256] = {0};
    for (int64_t epoch = 0; epoch < 24000; epoch++) {
        int64_t order[4];
        lks_sampler_permutation(7, epoch, 4, order);
        drawn[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]]++;
    }
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        if (drawn[i] == 0) continue;
        orders++;
        assert_in_range(drawn[i], 1000 - 190, 1000 + 190);
    }
    assert_int_equal(orders, 24);
}

static void batches_cut_the_epoch(void **state) {
    (void)state;
    assert_int_equal(lks_sampler_steps(10, 4, false), 3);
    assert_int_equal(lks_sampler_steps(10, 4, true), 2);
    assert_int_equal(lks_sampler_steps(8, 4, false), 2);
    assert_int_equal(lks_sampler_steps(3, 4, false), 1);
    assert_int_equal(lks_sampler_steps(3, 4, true), 0);
    int64_t begin = 0, end = 0;
    lks_sampler_batch(10, 4, 1, &begin, &end);
    assert_int_equal(begin, 4);
    assert_int_equal(end, 8);
    lks_sampler_batch(10, 4, 2, &begin, &end);
    assert_int_equal(begin, 8);
    assert_int_equal(end, 10);
    lks_sampler_batch(10, 4, 3, &begin, &end);
    assert_int_equal(begin, end);
    lks_sampler_batch(INT64_MAX - 1, INT64_MAX - 5, 0, &begin, &end);
    assert_int_equal(begin, 0);
    assert_int_equal(end, INT64_MAX - 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_permutations_of_every_length),
        cmocka_unit_test(the_order_is_the_documented_one),
        cmocka_unit_test(seeds_and_epochs_give_other_orders),
        cmocka_unit_test(orders_are_equally_likely),
        cmocka_unit_test(batches_cut_the_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
