/* What the kernel knows of this process, as the process_* metrics every Prometheus client library has. */
#ifndef CRM_TELEMETRY_PROCESS_H
#define CRM_TELEMETRY_PROCESS_H

#include "base/buf.h"

void process_metrics_print(struct buf *out);

#endif
