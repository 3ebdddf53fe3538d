#include "lockstep/status.h"

#include <stddef.h>

static const struct {
    const char *text;
    int exit_code;
} statuses[LKS_STATUS_COUNT] = {
#define LKS_STATUS_ROW(name, text, exit_code) [name] = {text, exit_code},
    LKS_STATUS_LIST(LKS_STATUS_ROW)
#undef LKS_STATUS_ROW
};

static int is_known(lks_status status) {
    return (int)status >= 0 && status < LKS_STATUS_COUNT;
}

const char *lks_status_text(lks_status status) {
    return is_known(status) ? statuses[status].text : "unknown status";
}

int lks_status_exit_code(lks_status status) {
    return is_known(status) ? statuses[status].exit_code : statuses[LKS_EINTERNAL].exit_code;
}
