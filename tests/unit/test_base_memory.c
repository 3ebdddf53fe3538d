/* How much memory is left, by the kernel and by control groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/base.h"

static char root[] = "/tmp/lockstep-test-XXXXXX";

static const char *const folders[] = {"job", "job/step", "memory", "memory/box"};
static const struct {
    const char *name, *text;
} files[] = {
    {"job/memory.max", "1000000\n"},
    {"job/memory.current", "700000\n"},
    {"job/memory.stat", "anon 1\ninactive_file 50000\nactive_file 2\n"},
    {"job/step/memory.max", "max\n"},
    {"job/step/memory.current", "5\n"},
    {"memory/box/memory.limit_in_bytes", "3000\n"},
    {"memory/box/memory.usage_in_bytes", "4000\n"},
};
enum { FOLDERS = sizeof folders / sizeof *folders, FILES = sizeof files / sizeof *files };

static void path_of(const char *name, char *out, size_t bytes) {
    snprintf(out, bytes, "%s/%s", root, name);
}

static int make_groups(void **state) {
    char path[128];
    (void)state;
    assert_non_null(mkdtemp(root));
    for (int i = 0; i < FOLDERS; i++) {
        path_of(folders[i], path, sizeof path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (int i = 0; i < FILES; i++) {
        path_of(files[i].name, path, sizeof path);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(files[i].text, file) >= 0);
        assert_int_equal(fclose(file), 0);
    }
    return 0;
}

static int remove_groups(void **state) {
    char path[128];
    (void)state;
    for (int i = FILES; i-- > 0;) {
        path_of(files[i].name, path, sizeof path);
        assert_int_equal(remove(path), 0);
    }
    for (int i = FOLDERS; i-- > 0;) {
        path_of(folders[i], path, sizeof path);
        assert_int_equal(remove(path), 0);
    }
    return remove(root);
}

static const char meminfo[] = "MemTotal:   8 kB\nMemFree:  1 kB\nMemAvailable:    1000 kB\n";

static void the_kernel_is_asked(void **state) {
    (void)state;
    assert_int_equal(lks_memory_available_in(meminfo, root, "0::/\n"), 1000 * 1024);
    assert_int_equal(lks_memory_available_in(meminfo, root, "0::/elsewhere\n"), 1000 * 1024);
    assert_true(lks_memory_available_in("", root, "0::/\n") == INT64_MAX);
    assert_true(lks_memory_available() > 0);
}

/* What the limit leaves, with the cache that the group could give back; a parent's limit counts. */
static void groups_limit(void **state) {
    (void)state;
    assert_int_equal(lks_memory_available_in(meminfo, root, "0::/job\n"), 350000);
    assert_int_equal(lks_memory_available_in(meminfo, root, "0::/job/step\n"), 350000);
    assert_int_equal(lks_memory_available_in("MemAvailable: 10 kB\n", root, "0::/job\n"), 10240);
}

static void older_groups_limit(void **state) {
    (void)state;
    assert_int_equal(lks_memory_available_in(meminfo, root, "4:memory:/box\n0::/\n"), 0);
    assert_int_equal(lks_memory_available_in(meminfo, root, "4:cpu,cpuacct:/box\n"), 1000 * 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_is_asked),
        cmocka_unit_test(groups_limit),
        cmocka_unit_test(older_groups_limit),
    };
    return cmocka_run_group_tests(tests, make_groups, remove_groups);
}
