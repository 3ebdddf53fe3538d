/* Philox 4x32-10 against its published vectors, and what is made of its words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

/* The lines `philox4x32 10` of Random123's file kat_vectors: counter[4], key[2], result[4]. */
static const uint32_t known_answers[][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
     0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
     0x5001e420, 0x24126ea1},
};

static void known_answer_vectors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known_answers / sizeof *known_answers; i++) {
        const uint32_t *v = known_answers[i];
        lks_philox_key key = {{v[4], v[5]}};
        lks_philox_block block =
            lks_philox(key, v[0] | (uint64_t)v[1] << 32, v[2] | (uint64_t)v[3] << 32);
        for (int j = 0; j < 4; j++)
            assert_int_equal(block.word[j], v[6 + j]);
    }
}

static void keys_differ_by_every_part(void **state) {
    (void)state;
    lks_philox_key keys[] = {
        lks_philox_key_make(1, LKS_RANDOM_INIT, 0),
        lks_philox_key_make(2, LKS_RANDOM_INIT, 0),
        lks_philox_key_make(1 + (UINT64_C(1) << 32), LKS_RANDOM_INIT, 0),
        lks_philox_key_make(1, LKS_RANDOM_SHUFFLE, 0),
        lks_philox_key_make(1, LKS_RANDOM_INIT, 1),
    };
    enum { COUNT = sizeof keys / sizeof *keys };
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(&keys[i], &keys[j], sizeof keys[i]);
    lks_philox_key again = lks_philox_key_make(1, LKS_RANDOM_INIT, 0);
    assert_memory_equal(&again, &keys[0], sizeof again);
}

static void uniform_is_in_the_half_open_interval(void **state) {
    (void)state;
    assert_true(lks_philox_uniform(0) == 0.0f);
    assert_true(lks_philox_uniform(UINT32_MAX) < 1.0f);
    assert_true(lks_philox_uniform(UINT32_MAX) == 1.0f - 0x1p-24f);
    assert_true(lks_philox_uniform(0x80000000u) == 0.5f);
}

static void below_stays_below(void **state) {
    (void)state;
    assert_int_equal(lks_philox_below(UINT32_MAX, 1), 0);
    assert_int_equal(lks_philox_below(UINT32_MAX, 10), 9);
    assert_int_equal(lks_philox_below(0, 10), 0);
    assert_int_equal(lks_philox_below(UINT32_MAX, UINT64_C(1) << 32), UINT32_MAX);
}

/* 4096 words in 16 bins: each bin expects 256 with a standard deviation of 15.5; 5 of them is a
 * chance of 1 in a million per bin, and the words are the same in every run. */
static void words_fill_all_bins(void **state) {
    (void)state;
    int bins[16] = {0};
    lks_philox_key key = lks_philox_key_make(1, LKS_RANDOM_DROPOUT, 0);
    for (uint64_t i = 0; i < 1024; i++) {
        lks_philox_block block = lks_philox(key, i, 0);
        for (int j = 0; j < 4; j++)
            bins[lks_philox_below(block.word[j], 16)]++;
    }
    for (int i = 0; i < 16; i++)
        assert_in_range(bins[i], 256 - 78, 256 + 78);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answer_vectors),
        cmocka_unit_test(keys_differ_by_every_part),
        cmocka_unit_test(uniform_is_in_the_half_open_interval),
        cmocka_unit_test(below_stays_below),
        cmocka_unit_test(words_fill_all_bins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
