/*
 * A consumer: reads topics of the bus and has the effect of each event exactly once. One thread per consumer.
 *
 * A batch is one transaction: the inbox rows of its events, then handle() for the new ones, then commit, then the bus
 * position. When that fails each event is tried alone, up to 5 times with growing pauses (8 s in all); one that still
 * fails goes to <topic>.dlq with the reason and its place, and the rest goes on. PostgreSQL or the bus away is no
 * failure of an event: it waits. A watchdog ends the process when a consumer has not moved for 3 minutes.
 */
#ifndef CRM_EVENTS_CONSUMER_H
#define CRM_EVENTS_CONSUMER_H

#include <libpq-fe.h>

#include "base/status.h"
#include "events/event.h"

struct consumer_config {
	const char *name;         /* "audit": group on the bus and name in the inbox; never change it */
	const char *bus_url;
	const char *database_url; /* role <schema>_app: SELECT, INSERT on <schema>.inbox */
	const char *schema;
	const char *const *topics;
	size_t n_topics;
	/*
	 * Has the effect of n >= 1 events of one tenant, in their order, inside the consumer's transaction; app.tenant_id is
	 * set to the tenant. Not OK: the transaction is rolled back (UNAVAILABLE: tried again for ever, others count).
	 * Must not begin, commit or keep slices.
	 */
	enum status (*handle)(void *arg, PGconn *conn, const struct event *const *events, size_t n);
	/* After the commit of a transaction with these events (NULL: nothing): caches are told, never the database. */
	void (*committed)(void *arg, const struct event *const *events, size_t n);
	void *arg;
};

struct consumer;

/* Strings and topics are copied. Exits when a topic list or name is empty. */
struct consumer *consumer_start(const struct consumer_config *c);
/* Ends after the batch in hand; at most some seconds. */
void consumer_stop(struct consumer *c);

struct consumer_stats {
	uint64_t events, duplicates, retries, dead, failures;
	bool healthy;          /* the last round reached PostgreSQL and the bus, less than 60 s ago */
	double lag_seconds;    /* age of the oldest event that was read and is not done; 0: nothing waits */
	const char *name;
};
struct consumer_stats consumer_stats(struct consumer *c);
/* The same as lines of /metrics, of all consumers of this program, at most 4. Before they are stopped. */
struct buf;
void consumers_metrics(struct consumer *const *rows, size_t n, struct buf *out);

#endif
