/* The first failure is kept, with its own words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static void the_first_failure_keeps_its_words(void **state) {
    (void)state;
    lks_failure failure = {0};
    lks_failure_note(&failure, LKS_OK);
    lks_failure_add_place(&failure, "nowhere");
    assert_int_equal(lks_failure_tell(&failure), LKS_OK);
    lks_failure_note(&failure, lks_fail(LKS_EDATA, "sample %d is broken", 3));
    lks_failure_note(&failure, lks_fail(LKS_EDEVICE, "so is the device"));
    lks_failure_note(&failure, LKS_OK);
    (void)lks_fail(LKS_EIO, "something else");
    assert_int_equal(lks_failure_tell(&failure), LKS_EDATA);
    assert_string_equal(lks_last_error(), "sample 3 is broken");
    lks_failure_add_place(&failure, "epoch 2");
    (void)lks_fail(LKS_EIO, "something else");
    assert_int_equal(lks_failure_tell(&failure), LKS_EDATA);
    assert_string_equal(lks_last_error(), "epoch 2: sample 3 is broken");
}

static void who_cannot_tell_strands_the_others(void **state) {
    (void)state;
    lks_failure failure = {0};
    assert_int_equal(lks_failure_strand(&failure, 2, LKS_OK), LKS_OK);
    assert_int_equal(lks_failure_strand(&failure, 2, lks_fail(LKS_ECOMM, "they died")), LKS_ECOMM);
    assert_string_equal(lks_last_error(), "they died");
    assert_int_equal(failure.status, LKS_OK);
    lks_failure_note(&failure, lks_fail(LKS_ENOMEM, "no room"));
    assert_int_equal(lks_failure_strand(&failure, 2, lks_fail(LKS_EDEVICE, "no copy")), LKS_ECOMM);
    assert_string_equal(lks_last_error(), "this rank cannot go on with its peers: no room");
    assert_int_equal(lks_failure_strand(&failure, 2, lks_fail(LKS_ECOMM, "they left")), LKS_ECOMM);
    assert_string_equal(lks_last_error(), "this rank cannot go on with its peers: no room");
    assert_int_equal(lks_failure_strand(&failure, 1, lks_fail(LKS_EDEVICE, "no copy")), LKS_ENOMEM);
    assert_string_equal(lks_last_error(), "no room");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_failure_keeps_its_words),
        cmocka_unit_test(who_cannot_tell_strands_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
