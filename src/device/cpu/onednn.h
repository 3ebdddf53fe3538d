/* oneDNN as the CPU back end uses it. */
#ifndef LKS_DEVICE_CPU_ONEDNN_H
#define LKS_DEVICE_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

#include "base/base.h"

/* The CPU engine and the stream on which every primitive runs. */
typedef struct lks_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} lks_onednn;

/* LKS_EDEVICE with what oneDNN says. On failure nothing is left to close. */
lks_status lks_onednn_open(lks_onednn *onednn);
void lks_onednn_close(lks_onednn *onednn);

/* LKS_OK, or LKS_EDEVICE saying "oneDNN: `what`: <name of the status>"; running out of memory is
 * LKS_ENOMEM. */
lks_status lks_onednn_check(dnnl_status_t status, const char *what);

#endif
