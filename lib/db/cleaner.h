/*
 * Throws away what has served its time: idempotency keys after 24 hours, delivered outbox rows after 7 days (never one that
 * the relay has not passed), inbox rows after 8 days. As role <schema>_relay, in small batches, once an hour, on a thread of
 * its own. Several instances may run it at once: a batch is one DELETE, which waits for the rows of another and then finds them gone.
 */
#ifndef CRM_DB_CLEANER_H
#define CRM_DB_CLEANER_H

#include <libpq-fe.h>

struct cleaner;

/* url: role <schema>_relay. */
struct cleaner *cleaner_start(const char *url);
void cleaner_stop(struct cleaner *c);

/* One pass over all tables on a connection of the caller; rows deleted, -1 when a statement failed. For tests and tools. */
long cleaner_pass(PGconn *c);

#endif
