/* How ranks share the cores of a host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/device.h"

static void a_rank_alone_has_its_cores(void **state) {
    (void)state;
    const uint64_t mask[] = {0xF0F};
    assert_int_equal(lks_threads_per_rank(mask, 1, 0, 1), 8);
    const uint64_t wide[] = {UINT64_MAX, 1, 0, UINT64_C(1) << 63};
    assert_int_equal(lks_threads_per_rank(wide, 4, 0, 1), 66);
}

static void ranks_on_the_same_cores_divide_them(void **state) {
    (void)state;
    const uint64_t mask[] = {0xFF, 0xFF, 0xFF};
    for (int rank = 0; rank < 3; rank++)
        assert_int_equal(lks_threads_per_rank(mask, 1, rank, 3), 2);
    const uint64_t two[] = {0x3, 0x3};
    assert_int_equal(lks_threads_per_rank(two, 1, 0, 2), 1);
    assert_int_equal(lks_threads_per_rank(two, 1, 1, 2), 1);
}

/* Thirds of three cores are one core, though 1/3 is not exact. */
static void shares_survive_rounding(void **state) {
    (void)state;
    uint64_t mask[49];
    for (int i = 0; i < 49; i++)
        mask[i] = (UINT64_C(1) << 49) - 1;
    assert_int_equal(lks_threads_per_rank(mask, 1, 17, 49), 1);
    assert_int_equal(lks_threads_per_rank(mask, 1, 0, 3), 16);
    assert_int_equal(lks_threads_per_rank(mask, 1, 0, 7), 7);
}

static void bound_ranks_keep_their_own(void **state) {
    (void)state;
    const uint64_t apart[] = {0x0F, 0xF0};
    assert_int_equal(lks_threads_per_rank(apart, 1, 0, 2), 4);
    assert_int_equal(lks_threads_per_rank(apart, 1, 1, 2), 4);
    const uint64_t partly[] = {0x0F, 0x3C}; /* two cores of their own, two shared */
    assert_int_equal(lks_threads_per_rank(partly, 1, 0, 2), 3);
    const uint64_t words[] = {0, 0x3, 0x1, 0}; /* [2][2]: different words */
    assert_int_equal(lks_threads_per_rank(words, 2, 0, 2), 2);
    assert_int_equal(lks_threads_per_rank(words, 2, 1, 2), 1);
}

static void there_is_always_one(void **state) {
    (void)state;
    const uint64_t one_core[] = {1, 1, 1, 1};
    assert_int_equal(lks_threads_per_rank(one_core, 1, 3, 4), 1);
    const uint64_t none[] = {0};
    assert_int_equal(lks_threads_per_rank(none, 1, 0, 1), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_alone_has_its_cores),
        cmocka_unit_test(ranks_on_the_same_cores_divide_them),
        cmocka_unit_test(shares_survive_rounding),
        cmocka_unit_test(bound_ranks_keep_their_own),
        cmocka_unit_test(there_is_always_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
