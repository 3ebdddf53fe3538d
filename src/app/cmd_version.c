#include <stdio.h>

#include "app/commands.h"
#include "comm/comm.h"
#include "device/device.h"
#include "h5/h5.h"

lks_status lks_command_version(const lks_args *args) {
    (void)args;
    char mpi[LKS_COMM_LIBRARY_BYTES];
    lks_device_config config = LKS_DEVICE_CONFIG_DEFAULT;
    lks_device *device;
    config.kind = "cpu";
    lks_status status = lks_device_create(&config, &device);
    if (status) return status;
    printf("lockstep %s\nMPI: %s\nHDF5: %s\ncpu: %s\n", LKS_VERSION, lks_comm_library(mpi),
           lks_h5_version(), lks_device_description(device));
    lks_device_destroy(device);
    return LKS_OK;
}
