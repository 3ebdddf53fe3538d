#include "comm/backend.h"
#ifdef LKS_WITH_NCCL
extern const lks_comm_device_ops lks_comm_nccl_ops;
#endif

const lks_comm_device_ops *const lks_comm_device_backends[] = {
#ifdef LKS_WITH_NCCL
    &lks_comm_nccl_ops,
#endif
    NULL,
};
