/* Lockstep: training neural networks over the ranks of an MPI communicator. This header includes
 * the whole public API; the shared library exports what these headers declare and nothing else. */
#ifndef LOCKSTEP_LOCKSTEP_H
#define LOCKSTEP_LOCKSTEP_H

#include "lockstep/context.h"
#include "lockstep/data.h"
#include "lockstep/spec.h"
#include "lockstep/status.h"
#include "lockstep/train.h"
#include "lockstep/version.h"

#endif
