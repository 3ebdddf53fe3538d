/* Libraries that are opened when they are needed: a program that does without them starts where
 * they are not installed. */
#ifndef LKS_BASE_LIBRARY_H
#define LKS_BASE_LIBRARY_H

#include "lockstep/status.h"

/* A function of the library, and the function pointer that gets its address. */
typedef struct lks_library_function {
    const char *name;
    void *pointer;
} lks_library_function;

/* Opens the library `file` as the dynamic linker finds it, else in `folder` (NULL: nowhere else),
 * and finds all functions. LKS_EUNSUPPORTED, saying what is missing. */
lks_status lks_library_open(const char *file, const char *folder,
                            const lks_library_function *functions, int count, void **out);
void lks_library_close(void *library); /* NULL is legal */

#endif
