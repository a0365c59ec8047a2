/* What this service does about the events of others: a consumer on a thread of its own. */
#ifndef CRM_SVC_SALES_CONSUME_H
#define CRM_SVC_SALES_CONSUME_H

#include "service/service.h"

/* For struct service: start once the database is there, stop at drain, lines of /metrics. Loop thread. */
void consume_start(const struct service_settings *s, struct event_base *base, struct db *db);
void consume_stop(void);
void consume_metrics(struct buf *out);

#endif
