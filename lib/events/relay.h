/*
 * The relay: carries a service's outbox to the bus, in order, at least once. One thread per service process; of several
 * processes of a service one is active (advisory lock), the others stand by.
 *
 * Order: rows by (xid, id), and only below the oldest running transaction, so that a slow transaction is never overtaken
 * and never lost. The position moves only after the bus has confirmed. PostgreSQL or the bus away: it waits and goes on.
 * Why a position and not a mark per row: docs/adr/0007-outbox-position.md.
 */
#ifndef CRM_EVENTS_RELAY_H
#define CRM_EVENTS_RELAY_H

#include <stdbool.h>
#include <stdint.h>

struct relay_config {
	const char *schema;             /* "customers": schema of the outbox; topic is crm.customers.v1 */
	const char *relay_database_url; /* role <schema>_relay */
	const char *bus_url;            /* see events/bus.h */
	const char *descriptor_dir;     /* common.pb and <schema>.pb: how entities are encoded */
};

/* Starts the thread; strings are copied. Once per process. Exits when the descriptors are broken. */
void relay_start(const struct relay_config *c);
/* There is something new in the outbox. Any thread, cheap, never blocks; nothing happens when no relay runs. */
void relay_wake(void);
/* Ends the thread after the batch in hand; returns when it has ended (at most some seconds). */
void relay_stop(void);

struct relay_stats {
	bool active;         /* holds the lock */
	bool healthy;        /* the last round reached PostgreSQL and the bus */
	uint64_t published;  /* events since start */
	uint64_t failures;   /* rounds that did not get through */
	int64_t lag_rows;    /* waiting rows, counted up to 100,000; measured every 5 s */
	double lag_seconds;  /* age of the oldest of them */
};
struct relay_stats relay_stats(void);

#endif
