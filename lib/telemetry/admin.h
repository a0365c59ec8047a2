/*
 * The admin port of a process: /livez, /readyz, /metrics, /version and rows of its own. Loopback or a private network
 * only: it has no authentication. Everything runs on the thread of the base it is given.
 */
#ifndef CRM_TELEMETRY_ADMIN_H
#define CRM_TELEMETRY_ADMIN_H

#include <event2/event.h>

#include "base/buf.h"
#include "base/str.h"

struct admin;

/* One more GET path. get appends the body; query is raw, without '?'. */
struct admin_route {
	const char *path;         /* "/routes" */
	const char *content_type; /* "application/json" */
	void (*get)(void *arg, struct str query, struct buf *out);
	void *arg;
};

struct admin_config {
	const char *name, *version;
	/*
	 * May the process take traffic? detail takes members of a JSON object without the braces: "db":"up","bus":"down".
	 * NULL: always ready.
	 */
	bool (*ready)(void *arg, struct buf *detail);
	/* Appends metrics in text format 0.0.4 to those of metrics.h and of the process. May be NULL. */
	void (*metrics)(void *arg, struct buf *out);
	/* Appends members of a JSON object to /version. May be NULL. */
	void (*about)(void *arg, struct buf *members);
	void *arg;                /* for ready, metrics and about */
	const struct admin_route *routes; /* kept, not copied */
	size_t n_routes;
};

/* Copies *c. NULL when the address cannot be listened on (logged as ADMIN-LISTEN). */
struct admin *admin_start(struct event_base *base, const char *listen, const struct admin_config *c);
void admin_stop(struct admin *a);

#endif
