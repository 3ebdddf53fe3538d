/* Starting gnuplot, which draws the pictures. It is needed at run time alone, and by nothing else.
 */
#ifndef LKS_APP_GNUPLOT_H
#define LKS_APP_GNUPLOT_H

#include "base/base.h"

/* Runs gnuplot over a script whose commands draw to its standard output. path: the file that takes
 * the picture, NULL: this program's standard output. A picture that fails leaves the file that was
 * there. LKS_EUNSUPPORTED where there is no gnuplot, with the package's name; LKS_EIO with
 * gnuplot's own words. */
lks_status lks_gnuplot_run(const lks_strbuf *script, const char *path);

#endif
