/* What a person sees of training. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/progress.h"
#include "train/train.h"

static void check_epoch(const lks_epoch_result *result, const char *expected) {
    lks_strbuf line = {0};
    lks_epoch_print(result, 20, &line);
    assert_string_equal(line.text, expected);
    lks_strbuf_free(&line);
}

static void epoch_lines(void **state) {
    (void)state;
    lks_epoch_result result = {.epoch = 3,
                               .train_loss = 0.12341,
                               .train_acc = 0.98761,
                               .val_loss = 0.23449,
                               .val_acc = 0.9765};
    check_epoch(&result, "Epoch 3/20: Train Loss: 0.1234, Train Acc: 98.76% | Val Loss: 0.2345, "
                         "Val Acc: 97.65%");
    result.train_acc = result.val_acc = NAN;
    check_epoch(&result, "Epoch 3/20: Train Loss: 0.1234 | Val Loss: 0.2345");
    result.val_loss = NAN;
    check_epoch(&result, "Epoch 3/20: Train Loss: 0.1234");
}

static const lks_progress half = {
    .epoch = 3,
    .epochs = 20,
    .step = 45,
    .steps = 90,
    .loss = 0.12341,
    .acc = 0.987,
    .lr = 1e-3,
    .samples_per_second = 1234.4,
    .seconds_left = 2.2,
};

static void check_progress(const lks_progress *progress, int columns, const char *expected) {
    lks_strbuf line = {0};
    lks_progress_print(progress, columns, &line);
    assert_string_equal(line.text, expected);
    if (columns) assert_true(line.length < (size_t)columns);
    lks_strbuf_free(&line);
}

static void progress_fits_the_terminal(void **state) {
    (void)state;
#define FIGURES "45/90 1234 samples/s ETA 0:03 loss 0.1234 acc 98.7%"
    check_progress(&half, 0, "Epoch 3/20 " FIGURES " lr 1e-03");
    check_progress(&half, 84, "Epoch 3/20 [====>    ] " FIGURES " lr 1e-03");
    check_progress(&half, 200,
                   "Epoch 3/20 [====================>                   ] " FIGURES " lr 1e-03");
    check_progress(&half, 80, "Epoch 3/20 " FIGURES " lr 1e-03");
    check_progress(&half, 20, "Epoch 3/20 45/90 12");
    check_progress(&half, 1, "");
}

static void what_is_not_known_is_not_shown(void **state) {
    (void)state;
    lks_progress p = half;
    p.samples_per_second = p.seconds_left = p.acc = NAN;
    p.step = 0;
    p.lr = 2.5e-4;
    check_progress(&p, 0, "Epoch 3/20 0/90 loss 0.1234 lr 2.5e-04");
    p = half;
    p.seconds_left = 3725;
    p.step = 90;
    p.lr = 0;
    check_progress(&p, 88,
                   "Epoch 3/20 [==========] 90/90 1234 samples/s ETA 1:02:05 loss 0.1234 "
                   "acc 98.7% lr 0e+00");
    p.steps = 0;
    check_progress(&p, 0,
                   "Epoch 3/20 90/0 1234 samples/s ETA 1:02:05 loss 0.1234 acc "
                   "98.7% lr 0e+00");
}

/* A display that writes into memory; a stream without a descriptor is no terminal. */
static void display_of_a_file_writes_lines_now_and_then(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    lks_display display = lks_display_open(stream, false);
    assert_int_equal(display.columns, 0);
    lks_display_step(&display, &half);
    fflush(stream);
    assert_int_equal(length, 0); /* 10 seconds have not passed */
    display.last -= 11;
    lks_display_step(&display, &half);
    lks_display_step(&display, &half);
    lks_display_clear(&display); /* nothing stands there to be cleared */
    fclose(stream);
    assert_string_equal(text, "Epoch 3/20 " FIGURES " lr 1e-03\n");
    free(text);
}

/* Opens a terminal of 84 columns, 0 for one without a size; *out_master shows what was written. */
static FILE *open_terminal(int columns, int *out_master) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    int fd = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(fd >= 0);
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
    *out_master = master;
    return fdopen(fd, "w");
}

static void a_terminal_shows_a_bar_that_is_cleared_once(void **state) {
    (void)state;
    int master;
    FILE *stream = open_terminal(84, &master);
    lks_display display = lks_display_open(stream, false);
    assert_int_equal(display.columns, 84);
    display.last = -1e9;
    lks_display_step(&display, &half);
    assert_true(display.bar_stands);
    lks_display_step(&display, &half); /* too soon */
    lks_display_clear(&display);
    lks_display_clear(&display);
    assert_false(display.bar_stands);
    char text[512] = "";
    size_t length = 0;
    ssize_t count;
    while ((count = read(master, text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)count;
    assert_string_equal(text, "\rEpoch 3/20 [====>    ] " FIGURES " lr 1e-03\033[K\r\033[K");
    fclose(stream);
    close(master);
}

/* What mpirun gives a rank when its own output goes to a file. */
static void a_terminal_without_a_size_is_none(void **state) {
    (void)state;
    int master;
    FILE *stream = open_terminal(0, &master);
    lks_display display = lks_display_open(stream, false);
    assert_int_equal(display.columns, 0);
    fclose(stream);
    close(master);
}

static void quiet_shows_nothing(void **state) {
    (void)state;
    lks_display display = lks_display_open(stdout, true);
    display.last = -1e9;
    lks_display_step(&display, &half);
    lks_display_clear(&display);
    assert_false(display.bar_stands);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epoch_lines),
        cmocka_unit_test(progress_fits_the_terminal),
        cmocka_unit_test(what_is_not_known_is_not_shown),
        cmocka_unit_test(display_of_a_file_writes_lines_now_and_then),
        cmocka_unit_test(a_terminal_shows_a_bar_that_is_cleared_once),
        cmocka_unit_test(a_terminal_without_a_size_is_none),
        cmocka_unit_test(quiet_shows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
