/* What `lockstep plan` reads: profiles of runs, and measurements of links. */
#ifndef LKS_APP_PLAN_FILES_H
#define LKS_APP_PLAN_FILES_H

#include "app/plan_model.h"

/* A profile.json. lks_plan_profile_free ends *out. LKS_EIO; LKS_EDATA with what is missing;
 * LKS_ENOMEM. */
lks_status lks_plan_read_profile(const char *path, lks_plan_profile *out);

/* A link: "latency=2e-6 bandwidth=25e9" in seconds and bytes per second, or what
 * `lockstep bench comm --json` wrote where `within_node` says: on one node, or on several with one
 * rank each. LKS_EUSAGE, LKS_EIO, LKS_EDATA, LKS_ENOMEM. */
lks_status lks_plan_read_link(const char *text, bool within_node, lks_link *out);

#endif
