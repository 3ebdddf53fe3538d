#include "app/progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MIN_BAR = 8, MAX_BAR = 40, LINE_SECONDS = 10 };

static const double bar_seconds = 0.1;

/* Launchers give their ranks a pseudo-terminal even when the user has sent the output to a file;
 * that one has no size. */
static int terminal_columns(FILE *stream) {
    struct winsize size;
    int fd = fileno(stream);
    if (fd < 0 || !isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) != 0) return 0;
    return size.ws_col;
}

lks_display lks_display_open(FILE *stream, bool quiet) {
    return (lks_display){
        .stream = quiet ? NULL : stream,
        .columns = terminal_columns(stream),
        .last = lks_clock_seconds(),
    };
}

void lks_display_clear(void *data) {
    lks_display *display = data;
    if (!display->bar_stands) return;
    fputs("\r\033[K", display->stream); /* to the line's begin, and erase it */
    fflush(display->stream);
    display->bar_stands = false;
}

void lks_display_step(lks_display *display, const lks_progress *progress) {
    double now = lks_clock_seconds();
    if (!display->stream || now - display->last < (display->columns ? bar_seconds : LINE_SECONDS))
        return;
    display->last = now;
    if (display->columns)
        display->columns = terminal_columns(display->stream); /* it may have been resized */
    lks_strbuf line = {0};
    lks_progress_print(progress, display->columns, &line);
    if (!line.failed && display->columns)
        fprintf(display->stream, "\r%s\033[K", line.text);
    else if (!line.failed)
        fprintf(display->stream, "%s\n", line.text);
    fflush(display->stream);
    display->bar_stands = display->columns > 0;
    lks_strbuf_free(&line);
}

/* As few digits as tell the learning rate: 1e-03, 2.5e-04. */
static void print_lr(double lr, lks_strbuf *out) {
    char text[32];
    for (int digits = 0; digits <= 3; digits++) {
        double back;
        snprintf(text, sizeof text, "%.*e", digits, lr);
        if (sscanf(text, "%lf", &back) == 1 && fabs(back - lr) <= 1e-4 * fabs(lr)) break;
    }
    lks_strbuf_add(out, "lr %s", text);
}

static void print_seconds(double seconds, lks_strbuf *out) {
    int64_t s = (int64_t)ceil(seconds);
    if (s >= 3600)
        lks_strbuf_add(out, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else
        lks_strbuf_add(out, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

/* What stands behind the bar; figures that are not known yet are left out. */
static void print_figures(const lks_progress *p, lks_strbuf *out) {
    lks_strbuf_add(out, "%" PRId64 "/%" PRId64, p->step, p->steps);
    if (isfinite(p->samples_per_second))
        lks_strbuf_add(out, " %.0f samples/s", p->samples_per_second);
    if (isfinite(p->seconds_left)) {
        lks_strbuf_add(out, " ETA ");
        print_seconds(p->seconds_left, out);
    }
    lks_strbuf_add(out, " loss %.4f", p->loss);
    if (!isnan(p->acc)) lks_strbuf_add(out, " acc %.1f%%", 100 * p->acc);
    lks_strbuf_add(out, " ");
    print_lr(p->lr, out);
}

static void print_bar(const lks_progress *p, int width, lks_strbuf *out) {
    int done = p->steps > 0 ? (int)((double)width * (double)p->step / (double)p->steps) : 0;
    lks_strbuf_add(out, "[");
    for (int i = 0; i < width; i++)
        lks_strbuf_add(out, "%c", i < done ? '=' : i == done ? '>' : ' ');
    lks_strbuf_add(out, "] ");
}

void lks_progress_print(const lks_progress *p, int columns, lks_strbuf *out) {
    lks_strbuf figures = {0};
    size_t start = out->length;
    print_figures(p, &figures);
    lks_strbuf_add(out, "Epoch %" PRId64 "/%" PRId64 " ", p->epoch, p->epochs);
    int room = columns - 1 - (int)(out->length - start) - (int)figures.length - (int)strlen("[] ");
    if (room >= MIN_BAR) print_bar(p, room < MAX_BAR ? room : MAX_BAR, out);
    lks_strbuf_add(out, "%s", figures.failed ? "" : figures.text);
    lks_strbuf_free(&figures);
    /* A line that is wider than the terminal would leave pieces of itself behind. */
    if (columns > 0 && !out->failed && out->length - start > (size_t)columns - 1) {
        out->length = start + (size_t)columns - 1;
        out->text[out->length] = '\0';
    }
}
