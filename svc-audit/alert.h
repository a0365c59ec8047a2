/*
 * Security events and alerts of entries that were just appended, in the transaction of the entries: of several instances, the one
 * whose transaction appends is the one that fires. Threading: the consumer's.
 */
#ifndef CRM_SVC_AUDIT_ALERT_H
#define CRM_SVC_AUDIT_ALERT_H

#include <libpq-fe.h>

#include "base/status.h"
#include "base/str.h"
#include "mail/queue.h"

/* Of the n entries at the end of the tenant's chain; app.tenant_id is set. Mail of what fires is queued. */
enum status alert_observe(PGconn *conn, size_t n, struct str tenant) MUST_CHECK;
uint64_t alerts_fired(void);

/* For lib/mail's queue: names of templates, and how values are opened. */
extern const char *const alert_templates[];
extern const size_t alert_n_templates;
bool alert_open(struct arena *a, const char *id, struct str hex, struct str *values);

#endif
