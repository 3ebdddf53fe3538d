/* Where threads may run: CPU masks, cores, shares, what the launcher did, CPU limits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/affinity.h"
#include "comm/launcher.h"
#include "comm/quota.h"

/* ---- masks ---- */

static lks_cpu_mask range(int first, int last) {
    lks_cpu_mask mask = {{0}};
    for (int cpu = first; cpu <= last; cpu++)
        lks_cpu_mask_add(&mask, cpu);
    return mask;
}

static lks_cpu_mask both(lks_cpu_mask a, lks_cpu_mask b) {
    lks_cpu_mask_unite(&a, &b);
    return a;
}

static void test_masks(void **state) {
    (void)state;
    lks_cpu_mask mask = both(range(62, 65), range(LKS_CPU_COUNT - 1, LKS_CPU_COUNT - 1));
    assert_int_equal(lks_cpu_mask_count(&mask), 5);
    assert_false(lks_cpu_mask_has(&mask, 61));
    assert_true(lks_cpu_mask_has(&mask, 62));
    assert_true(lks_cpu_mask_has(&mask, 64));
    assert_false(lks_cpu_mask_has(&mask, 66));
    lks_cpu_mask same = mask, other = range(62, 65);
    assert_true(lks_cpu_mask_equal(&mask, &same));
    assert_false(lks_cpu_mask_equal(&mask, &other));
}

static void test_mask_text(void **state) {
    (void)state;
    char text[LKS_CPU_TEXT_BYTES];
    lks_cpu_mask mask = {{0}};
    assert_string_equal(lks_cpu_mask_text(&mask, text), "");
    mask = both(both(range(0, 3), range(8, 8)), range(10, 11));
    assert_string_equal(lks_cpu_mask_text(&mask, text), "0-3,8,10-11");
    mask = range(LKS_CPU_COUNT - 2, LKS_CPU_COUNT - 1);
    assert_string_equal(lks_cpu_mask_text(&mask, text), "8190-8191");

    mask = (lks_cpu_mask){{0}};
    for (int cpu = 1000; cpu < LKS_CPU_COUNT; cpu += 2)
        lks_cpu_mask_add(&mask, cpu);
    lks_cpu_mask_text(&mask, text);
    size_t length = strlen(text);
    assert_true(length < LKS_CPU_TEXT_BYTES);
    assert_string_equal(text + length - 4, ",...");
}

/* The kernel and this process agree about what it is bound to. */
static void test_own_mask(void **state) {
    (void)state;
    lks_cpu_mask before, after, one = {{0}};
    lks_cpu_mask_of_process(0, &before);
    assert_true(lks_cpu_mask_count(&before) >= 1);
    int first = 0;
    while (!lks_cpu_mask_has(&before, first))
        first++;
    lks_cpu_mask_add(&one, first);
    assert_true(lks_cpu_mask_apply(&one));
    lks_cpu_mask_of_process(getpid(), &after);
    assert_true(lks_cpu_mask_equal(&after, &one));
    assert_true(lks_cpu_mask_apply(&before));
    lks_cpu_mask none = {{0}};
    assert_false(lks_cpu_mask_apply(&none));
}

static void test_places_of_this_machine(void **state) {
    (void)state;
    lks_cpu_place *places = malloc(LKS_CPU_COUNT * sizeof *places);
    assert_non_null(places);
    lks_cpu_mask own;
    lks_cpu_mask_of_process(0, &own);
    lks_cpu_places_read(&own, places);
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++) {
        assert_in_range(places[cpu].core, 0, cpu);
        if (!lks_cpu_mask_has(&own, cpu)) assert_int_equal(places[cpu].core, cpu);
    }
    free(places);
}

/* ---- cores and shares ---- */

/* Two sockets of 4 cores with 2 hardware threads each, numbered as Linux does: CPU c and c + 8 are
 * one core, CPUs 0-3 and 8-11 are the first socket. */
static lks_cpu_place *two_sockets(void) {
    lks_cpu_place *places = calloc(LKS_CPU_COUNT, sizeof *places);
    assert_non_null(places);
    for (int cpu = 0; cpu < LKS_CPU_COUNT; cpu++)
        places[cpu] = cpu < 16 ? (lks_cpu_place){cpu % 8, cpu % 8 / 4} : (lks_cpu_place){cpu, 0};
    return places;
}

static void assert_mask(const lks_cpu_mask *mask, const char *expected) {
    char text[LKS_CPU_TEXT_BYTES];
    assert_string_equal(lks_cpu_mask_text(mask, text), expected);
}

static void test_cores_count_once(void **state) {
    (void)state;
    lks_cpu_place *places = two_sockets();
    lks_cpu_mask cores, mask = range(0, 15);
    lks_cpu_mask_cores(&mask, places, &cores);
    assert_mask(&cores, "0-7");
    mask = range(9, 10); /* second hardware threads alone */
    lks_cpu_mask_cores(&mask, places, &cores);
    assert_mask(&cores, "1-2");
    free(places);
}

static void assert_share(const lks_cpu_mask *mask, const lks_cpu_place *places, int part, int parts,
                         const char *expected) {
    lks_cpu_mask share;
    assert_int_equal(lks_cpu_mask_share(mask, places, part, parts, &share), LKS_OK);
    assert_mask(&share, expected);
}

static void test_shares(void **state) {
    (void)state;
    lks_cpu_place *places = two_sockets();
    lks_cpu_mask all = range(0, 15);
    assert_share(&all, places, 0, 1, "0-15");
    assert_share(&all, places, 0, 2, "0-3,8-11"); /* a socket each */
    assert_share(&all, places, 1, 2, "4-7,12-15");
    assert_share(&all, places, 0, 3, "0-2,8-10"); /* 3, 3 and 2 cores */
    assert_share(&all, places, 1, 3, "3-5,11-13");
    assert_share(&all, places, 2, 3, "6-7,14-15");
    assert_share(&all, places, 7, 8, "7,15");
    assert_share(&all, places, 4, 9, "0-15"); /* more ranks than cores: nobody is bound */

    lks_cpu_mask some = both(range(2, 2), range(9, 12)); /* what a batch system may leave */
    assert_share(&some, places, 0, 2, "2,9-10");         /* CPUs 2 and 10 are one core */
    assert_share(&some, places, 1, 2, "11-12");
    free(places);
}

/* Sockets whose CPUs are numbered in turns: neighbours are found by the socket, not the number. */
static void test_shares_of_interleaved_sockets(void **state) {
    (void)state;
    lks_cpu_place *places = two_sockets();
    for (int cpu = 0; cpu < 8; cpu++)
        places[cpu] = (lks_cpu_place){cpu, cpu % 2};
    lks_cpu_mask all = range(0, 7);
    assert_share(&all, places, 0, 2, "0,2,4,6");
    assert_share(&all, places, 1, 2, "1,3,5,7");
    free(places);
}

/* ---- what mpirun did ---- */

#define BOUND "OMPI_MCA_orte_bound_at_launch=1"

static bool by_default(char *setting) {
    char *environment[] = {"PATH=/bin", setting, BOUND, NULL};
    return lks_launcher_bound_by_default(environment);
}

static void test_bound_by_default(void **state) {
    (void)state;
    assert_true(by_default("HOME=/root"));
    assert_true(by_default("OMPI_MCA_rmaps_base_mapping_policy=node"));
    assert_true(by_default("OMPI_MCA_rmaps_base_mapping_policy=slot"));
    assert_true(by_default("OMPI_MCA_rmaps_base_oversubscribe=1"));
    assert_true(by_default("OMPI_MCA_hwloc_base_report_bindings=1"));
    assert_false(by_default("OMPI_MCA_hwloc_base_binding_policy=core"));
    assert_false(by_default("OMPI_MCA_hwloc_base_binding_policy=none"));
    assert_false(by_default("OMPI_MCA_hwloc_base_bind_to_core=1"));
    assert_false(by_default("OMPI_MCA_hwloc_base_cpu_set=0"));
    assert_false(by_default("OMPI_MCA_hwloc_base_cpu_list=0"));
    assert_false(by_default("OMPI_MCA_rmaps_base_cpus_per_rank=2"));
    assert_false(by_default("OMPI_MCA_rmaps_base_mapping_policy=slot:PE=2"));
    assert_false(by_default("OMPI_MCA_rmaps_base_mapping_policy=node:pe=2"));
    assert_false(by_default("OMPI_MCA_rmaps_base_mapping_policy=ppr:1:core"));
    assert_false(by_default("OMPI_MCA_orte_rankfile=ranks"));

    char *unbound[] = {"PATH=/bin", NULL};
    char *not_bound[] = {"OMPI_MCA_orte_bound_at_launch=0", NULL};
    assert_false(lks_launcher_bound_by_default(unbound));
    assert_false(lks_launcher_bound_by_default(not_bound));
}

static void test_environment(void **state) {
    (void)state;
    char *environment[] = {"OMPI_COMM_WORLD_LOCAL_SIZE_X=9", "OMPI_COMM_WORLD_LOCAL_SIZE=4",
                           "OMPI_COMM_WORLD_LOCAL_RANK=3", "EMPTY=", NULL};
    char *strange[] = {"OMPI_COMM_WORLD_LOCAL_SIZE=many", NULL};
    char *negative[] = {"OMPI_COMM_WORLD_LOCAL_SIZE=-4", NULL};
    assert_int_equal(lks_launcher_local_size(environment), 4);
    assert_int_equal(lks_launcher_local_rank(environment), 3);
    assert_string_equal(lks_environment_get(environment, "EMPTY"), "");
    assert_null(lks_environment_get(environment, "OMPI"));
    assert_int_equal(lks_launcher_local_size(strange), 0);
    assert_int_equal(lks_launcher_local_rank(strange), 0);
    assert_int_equal(lks_launcher_local_size(negative), 0);
}

static void test_job_size(void **state) {
    (void)state;
    const char *variable;
    char *mpirun[] = {"SLURM_STEP_NUM_TASKS=2", "OMPI_COMM_WORLD_SIZE=8", NULL};
    char *srun[] = {"SLURM_NTASKS=16", "SLURM_STEP_NUM_TASKS=4", "PMI_SIZE=", NULL};
    char *none[] = {"SLURM_NTASKS=16", "HOME=/", NULL};
    assert_int_equal(lks_launcher_job_size(mpirun, &variable), 8);
    assert_string_equal(variable, "OMPI_COMM_WORLD_SIZE");
    assert_int_equal(lks_launcher_job_size(srun, &variable), 4);
    assert_string_equal(variable, "SLURM_STEP_NUM_TASKS");
    assert_int_equal(lks_launcher_job_size(none, &variable), 0);
}

/* This process was not started in the job below, so its parent is not either: the parent counts as
 * what started it. */
static void test_launcher_process(void **state) {
    (void)state;
    char *job[] = {"OMPI_MCA_ess_base_jobid=123456789", NULL};
    char *no_job[] = {NULL};
    assert_int_equal(lks_launcher_process(job), getppid());
    assert_int_equal(lks_launcher_process(no_job), 0);
}

/* ---- CPU limits ---- */

static char root[] = "/tmp/lks-cgroup-XXXXXX";

static void make_folder(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void write_text(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_groups(void **state) {
    (void)state;
    assert_non_null(mkdtemp(root));
    make_folder("job");
    make_folder("job/step");
    make_folder("job/free");
    make_folder("cpu");
    make_folder("cpu/box");
    write_text("job/cpu.max", "400000 100000\n");
    write_text("job/step/cpu.max", "150000 100000\n");
    write_text("job/free/cpu.max", "max 100000\n");
    write_text("cpu/cpu.cfs_quota_us", "-1\n");
    write_text("cpu/cpu.cfs_period_us", "100000\n");
    write_text("cpu/box/cpu.cfs_quota_us", "250000\n");
    write_text("cpu/box/cpu.cfs_period_us", "100000\n");
    return 0;
}

static int remove_groups(void **state) {
    (void)state;
    static const char *const names[] = {"job/cpu.max",
                                        "job/step/cpu.max",
                                        "job/free/cpu.max",
                                        "cpu/cpu.cfs_quota_us",
                                        "cpu/cpu.cfs_period_us",
                                        "cpu/box/cpu.cfs_quota_us",
                                        "cpu/box/cpu.cfs_period_us",
                                        "job/step",
                                        "job/free",
                                        "job",
                                        "cpu/box",
                                        "cpu",
                                        ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        assert_int_equal(remove(path), 0);
    }
    return 0;
}

static double limit(const char *membership) {
    return lks_cpu_quota_find(root, membership).cores;
}

static void test_quota(void **state) {
    (void)state;
    assert_true(limit("0::/job/step\n") == 1.5);
    assert_true(limit("0::/job\n") == 4);
    assert_true(limit("0::/job/free\n") == 4); /* the parent's */
    assert_true(limit("0::/job/unknown\n") == 4);
    assert_true(isinf(limit("0::/\n")));
    assert_true(isinf(limit("")));
    assert_true(isinf(limit("nonsense")));
    assert_true(limit("3:cpuset:/job\n2:cpuacct,cpu:/box\n0::/\n") == 2.5);
    assert_true(limit("2:cpu,cpuacct:/box\n0::/job/step") == 1.5);
    assert_true(isinf(limit("3:cpuset:/box\n4:cpuacct:/box\n")));
    assert_true(isinf(limit("2:cpu:/\n")));
    assert_int_equal(lks_cpu_quota_find(root, "0::/").group, 0);
}

/* Ranks share a limit when it is the same group's, wherever below it they are. */
static void test_quota_group(void **state) {
    (void)state;
    uint64_t job = lks_cpu_quota_find(root, "0::/job").group;
    assert_int_not_equal(job, 0);
    assert_true(lks_cpu_quota_find(root, "0::/job/free").group == job);
    assert_true(lks_cpu_quota_find(root, "0::/job/step").group != job);
}

static void test_own_quota(void **state) {
    (void)state;
    assert_true(lks_cpu_quota_own().cores > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_mask_text),
        cmocka_unit_test(test_own_mask),
        cmocka_unit_test(test_places_of_this_machine),
        cmocka_unit_test(test_cores_count_once),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_shares_of_interleaved_sockets),
        cmocka_unit_test(test_bound_by_default),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_job_size),
        cmocka_unit_test(test_launcher_process),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_quota_group),
        cmocka_unit_test(test_own_quota),
    };
    return cmocka_run_group_tests(tests, make_groups, remove_groups);
}
