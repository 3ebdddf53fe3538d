/* What `lockstep doctor` looks at, a part in each file. All functions are collective; they add what
 * they find to the report. Where nothing else is said, they return a status only where the ranks
 * can no longer talk. */
#ifndef LKS_APP_DOCTOR_H
#define LKS_APP_DOCTOR_H

#include "app/job.h"
#include "app/report.h"
#include "train/train.h"

enum { LKS_STATION_NAME_BYTES = 64, LKS_STATION_DEVICE_BYTES = 160, LKS_STATION_PLACE_BYTES = 32 };

/* Where a rank computes. */
typedef struct lks_station {
    char host[LKS_STATION_NAME_BYTES];
    int host_index; /* from 0, in the order of the hosts' first ranks */
    lks_cpu_share cpus;
    int threads;
    bool is_host; /* the device is the host */
    char kind[8], device[LKS_STATION_DEVICE_BYTES];
    char place[LKS_STATION_PLACE_BYTES];      /* lks_device_place; "": the host */
    int64_t host_available, device_available; /* bytes, before anything of the run is there */
} lks_station;

typedef struct lks_doctor {
    lks_job job;
    lks_report report;
    lks_station *stations; /* [rank] */
    int host_count;
} lks_doctor;

/* doctor_machine.c */
/* MPI, NCCL and HDF5. */
void lks_doctor_check_libraries(lks_doctor *doctor);
/* Opens the context and asks every rank where it is: hosts, cores, threads, devices. Without a
 * context, job.context is NULL. */
lks_status lks_doctor_check_machine(lks_doctor *doctor);

/* Do two ranks compute on one GPU? What a device calls itself does not tell: its number counts
 * those that a rank may see. Local. */
bool lks_station_shares_gpu(const lks_station *a, const lks_station *b);

/* doctor_folder.c */
/* The folder that the run would write to: can all ranks write, flush and lock there? *out_free:
 * bytes that are left, INT64_MAX where unknown or where nothing is written. */
lks_status lks_doctor_check_folder(lks_doctor *doctor, int64_t *out_free);

/* doctor_run.c */
/* Data, model and memory; builds the run on the context's device, which measures from then on, so
 * that both can only be ended. folder_free: bytes for checkpoints. Returns why the run cannot be
 * built, the same on every rank. */
lks_status lks_doctor_check_run(lks_doctor *doctor, int64_t folder_free);
/* Builds the run and takes one step; writes nothing. Returns why that failed, as lks_step. */
lks_status lks_doctor_take_step(lks_doctor *doctor);

/* doctor_comm.c */
/* Latency and bandwidth of the all-reduce, on the context's device. */
lks_status lks_doctor_time_all_reduce(lks_doctor *doctor);

#endif
