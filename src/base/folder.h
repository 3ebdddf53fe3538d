/* Folders of the file system. */
#ifndef LKS_BASE_FOLDER_H
#define LKS_BASE_FOLDER_H

#include "lockstep/status.h"

/* Makes the folder and those above it, where they are missing. LKS_EIO: which one could not be
 * made, and why; LKS_ENOMEM. */
lks_status lks_make_folders(const char *path);
/* Makes durable what has been created, renamed and removed in the folder, where its file system can
 * do that. LKS_EIO. */
lks_status lks_sync_folder(const char *path);

#endif
