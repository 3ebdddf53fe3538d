#include "app/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { WORDS_BYTES = 400 };

/* Starts gnuplot with the given files in the places of its standard ones. */
static lks_status start(int input, int output, int errors, pid_t *out) {
    /* No start-up file of the user's has a say in the picture. */
    char *const arguments[] = {"gnuplot", "--default-settings", "-", NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return lks_fail(LKS_ENOMEM, "gnuplot: %s", strerror(error));
    error = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    if (!error) error = posix_spawnp(out, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT)
        return lks_fail(LKS_EUNSUPPORTED, "pictures are drawn by gnuplot, which is not installed: "
                                          "install the package gnuplot-nox (gnuplot on some "
                                          "systems)");
    return error ? lks_fail(LKS_EIO, "cannot start gnuplot: %s", strerror(error)) : LKS_OK;
}

/* Not all is taken where gnuplot has given up: its end says why. */
static void send_all(int socket, const char *text, size_t length) {
    while (length > 0) {
        ssize_t sent = send(socket, text, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return;
        text += sent;
        length -= (size_t)sent;
    }
}

/* Its end, and the first of its words that say what is wrong. */
static lks_status wait_for(pid_t pid, FILE *errors) {
    int result;
    while (waitpid(pid, &result, 0) < 0)
        if (errno != EINTR) return lks_fail(LKS_EIO, "gnuplot: %s", strerror(errno));
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return LKS_OK;
    char words[WORDS_BYTES];
    rewind(errors);
    size_t count = fread(words, 1, sizeof words - 1, errors);
    words[count] = '\0';
    for (char *s = words; *s; s++)
        if ((unsigned char)*s < ' ') *s = ' ';
    return lks_fail(LKS_EIO, "gnuplot failed: %s", *words ? words : "it says nothing");
}

static lks_status draw(const lks_strbuf *script, int output) {
    int sockets[2] = {-1, -1};
    pid_t pid;
    lks_status status = LKS_OK;
    FILE *errors = tmpfile();
    /* A pair of sockets and not a pipe: writing to one whose reader has ended raises no signal. */
    if (!errors || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        status = lks_fail(LKS_EIO, "gnuplot: %s", strerror(errno));
    if (!status) status = start(sockets[1], output, fileno(errors), &pid);
    if (!status) {
        close(sockets[1]);
        sockets[1] = -1;
        send_all(sockets[0], script->text, script->length);
        close(sockets[0]);
        sockets[0] = -1;
        status = wait_for(pid, errors);
    }
    for (int i = 0; i < 2; i++)
        if (sockets[i] >= 0) close(sockets[i]);
    if (errors) fclose(errors);
    return status;
}

lks_status lks_gnuplot_run(const lks_strbuf *script, const char *path) {
    if (script->failed) return lks_fail(LKS_ENOMEM, "the picture: out of memory");
    if (!path) {
        fflush(stdout);
        return draw(script, STDOUT_FILENO);
    }
    char *partial = lks_strdup_printf("%s.part", path);
    if (!partial) return lks_fail(LKS_ENOMEM, "%s: out of memory", path);
    lks_status status = LKS_OK;
    int file = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) status = lks_fail(LKS_EIO, "cannot write %s: %s", path, strerror(errno));
    if (!status) {
        status = draw(script, file);
        bool written = close(file) == 0 && !status && rename(partial, path) == 0;
        if (!status && !written)
            status = lks_fail(LKS_EIO, "cannot write %s: %s", path, strerror(errno));
        if (status) unlink(partial);
    }
    free(partial);
    return status;
}
