#include <stdio.h>

#include "app/commands.h"
#include "comm/comm.h"
#include "device/device.h"
#include "h5/h5.h"

/* One line: what the device of this kind is, or why there is none. */
static void print_device(const char *kind) {
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    lks_device *device = NULL;
    config.kind = kind;
    if (lks_device_create(&config, &device) == LKS_OK)
        printf("%s: %s\n", kind, lks_device_description(device));
    else
        printf("%s: none: %s\n", kind, lks_last_error());
    lks_device_destroy(device);
}

lks_status lks_command_version(const lks_args *args) {
    (void)args;
    char mpi[LKS_COMM_LIBRARY_BYTES], nccl[LKS_COMM_LIBRARY_BYTES];
    printf("lockstep %s\nMPI: %s\nNCCL: %s\nHDF5: %s\n", LKS_VERSION, lks_comm_library(mpi),
           lks_comm_device_library(nccl), lks_h5_version());
    print_device("cpu");
    print_device("cuda");
    return LKS_OK;
}
