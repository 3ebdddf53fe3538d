/* The interface of src/base: the only header of this folder that other rooms include. */
#ifndef LKS_BASE_H
#define LKS_BASE_H

#include "base/bf16.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "base/duration.h"
#include "base/error.h"
#include "base/failure.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/library.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/option.h"
#include "base/philox.h"
#include "base/size.h"
#include "base/strbuf.h"
#include "base/thread.h"
#include "lockstep/spec.h"
#include "lockstep/status.h"

#endif
