/* host_log.h - lines for the operator, on standard error, as text or JSON.
 *
 * A line is one write(2), so lines of several threads do not mix. The settings are made before the
 * first thread starts; afterwards only the level changes, which is atomic. */
#ifndef KV_HOST_HOST_LOG_H
#define KV_HOST_HOST_LOG_H

#include <stdbool.h>

#define HOST_LOG_LINE_MAX 2048u /* a longer message is cut */

/* Levels are 0 debug, 1 info, 2 warn, 3 error: those of enum config_log_level. */
void host_log_setup(int level, bool json);
void host_log_level(int level); /* from here on */

void host_log_line(int level, const char *line);
void host_log_printf(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whatever the level: the line that says that the node serves. */
void host_log_always(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
