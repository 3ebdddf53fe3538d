#include "app/output.h"

#include <stdio.h>
#include <sys/stat.h>

lks_status lks_output_check(const char *input, const char *output, bool force) {
    struct stat from, to;
    if (!*output) return lks_fail(LKS_EUSAGE, "--out is empty: expected the name of a file");
    if (stat(output, &to) != 0) return LKS_OK;
    if (stat(input, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
        return lks_fail(LKS_EINVAL, "--out %s is the file that is read: give another name", output);
    if (force || S_ISDIR(to.st_mode)) return LKS_OK; /* a folder is refused when it is written */
    return lks_fail(LKS_EINVAL, "%s exists: give another name with --out, or --force to replace it",
                    output);
}

lks_status lks_output_text(lks_status status, lks_strbuf *text) {
    if (!status && text->failed) status = lks_fail(LKS_ENOMEM, "out of memory");
    if (!status) fputs(text->text, stdout);
    lks_strbuf_free(text);
    return status;
}
