/* Which ranks doctor takes for sharers of one GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/doctor.h"

/* Launchers show each rank its own GPU alone, so that all call themselves the first. */
static const lks_station gpu = {.device = "GPU 0", .place = "0000:3B:00.0"};

static void test_gpus_are_told_apart_by_their_place(void **state) {
    (void)state;
    lks_station same = gpu, other = gpu, far = gpu;
    snprintf(same.device, sizeof same.device, "GPU 1");
    snprintf(other.place, sizeof other.place, "0000:5E:00.0");
    far.host_index = 1;
    assert_true(lks_station_shares_gpu(&gpu, &same));
    assert_false(lks_station_shares_gpu(&gpu, &other));
    assert_false(lks_station_shares_gpu(&gpu, &far));
}

static void test_hosts_are_no_gpus(void **state) {
    (void)state;
    const lks_station host = {.is_host = true, .device = "CPU"};
    assert_false(lks_station_shares_gpu(&host, &host));
    assert_false(lks_station_shares_gpu(&host, &gpu));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpus_are_told_apart_by_their_place),
        cmocka_unit_test(test_hosts_are_no_gpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
