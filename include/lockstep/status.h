/* Status codes and the detail of the last error. */
#ifndef LOCKSTEP_STATUS_H
#define LOCKSTEP_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every status, its text, and the exit code with which the `lockstep` command ends on it. */
#define LKS_STATUS_LIST(X)                                           \
    X(LKS_OK, "success", 0)                                          \
    X(LKS_EINTERNAL, "internal error, please report it", 1)          \
    X(LKS_EUSAGE, "wrong command line", 2)                           \
    X(LKS_EINVAL, "invalid argument", 3)                             \
    X(LKS_ECONFIG, "bad configuration", 3)                           \
    X(LKS_ESHAPE, "shapes do not fit", 3)                            \
    X(LKS_EDATA, "bad data", 4)                                      \
    X(LKS_ECHECKPOINT, "bad checkpoint", 5)                          \
    X(LKS_EIO, "input or output failed", 6)                          \
    X(LKS_ENOMEM, "out of memory", 7)                                \
    X(LKS_EDEVICE, "compute device failed", 8)                       \
    X(LKS_ECOMM, "communication failed", 9)                          \
    X(LKS_ENUMERIC, "a value is not a finite number", 10)            \
    X(LKS_EUNSUPPORTED, "not supported by this build or device", 11) \
    X(LKS_EDIFFER, "ranks differ that must be alike", 12)            \
    X(LKS_ESTOPPED, "stopped before its end: come back with --resume auto", 75)

typedef enum lks_status {
#define LKS_STATUS_ENUM(name, text, exit_code) name,
    LKS_STATUS_LIST(LKS_STATUS_ENUM)
#undef LKS_STATUS_ENUM
        LKS_STATUS_COUNT
} lks_status;

/* The text of a status, a static string; never NULL. */
const char *lks_status_text(lks_status status);

/* The exit code of the `lockstep` command for a status (docs: README, "Exit codes"). */
int lks_status_exit_code(lks_status status);

/* What the last failed call of this thread said: what failed, where, why, and what to do. The text
 * names the rank on which it happened when another rank than this one failed. Never NULL; "" when
 * nothing failed yet. Valid until the next failing call of this thread. */
const char *lks_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
