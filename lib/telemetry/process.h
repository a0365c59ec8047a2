/* What the kernel knows of this process, as the process_* metrics every Prometheus client library has. */
#ifndef CRM_TELEMETRY_PROCESS_H
#define CRM_TELEMETRY_PROCESS_H

#include "base/buf.h"

void process_metrics_print(struct buf *out);
/* The file system that holds path is shown as crm_disk_*{disk=name}, at most 4. Both must stay. Before threads start. */
void process_disk_watch(const char *name, const char *path);

#endif
