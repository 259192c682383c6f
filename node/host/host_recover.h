/* host_recover.h - `kvnode recover --force --data DIR`: a majority is lost for good, this node goes on alone.
 *
 * Says what may be lost and asks for words that nobody types by accident, on a terminal or through standard input; a
 * flag alone never suffices. node/rescue.h has what is done. */
#ifndef KV_HOST_HOST_RECOVER_H
#define KV_HOST_HOST_RECOVER_H

#include <stdbool.h>

/* The command line asks for it. */
bool host_recover_wanted(int argc, char **argv);
/* Does it. Gives the exit code: 0 done, 1 refused or a bad command line, 2 the directory is damaged, in use or not a
 * node's, 3 the disk failed. */
int host_recover_run(int argc, char **argv);

#endif
