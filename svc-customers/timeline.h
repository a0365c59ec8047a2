/* The timeline of an account: what happened to it and around it, from the events of all services. */
#ifndef CRM_SVC_CUSTOMERS_TIMELINE_H
#define CRM_SVC_CUSTOMERS_TIMELINE_H

#include <libpq-fe.h>

#include "base/status.h"
#include "events/event.h"

/* Adds the event when it is about an account. In the consumer's transaction; consumer's thread. */
enum status timeline_add(PGconn *conn, const struct event *e) MUST_CHECK;

#endif
