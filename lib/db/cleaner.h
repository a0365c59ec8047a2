/*
 * Throws away what has served its time: idempotency keys after 24 hours, days of the outbox after 7 (never one that the relay
 * has not passed; days ahead are made by the same function of the database), inbox rows after 8 days. As role <schema>_relay, in
 * small batches, once an hour, on a thread of its own. Several instances may run it at once: a batch is one DELETE, which waits
 * for the rows of another and then finds them gone; of the outbox one has its turn (advisory lock).
 */
#ifndef CRM_DB_CLEANER_H
#define CRM_DB_CLEANER_H

#include <libpq-fe.h>

struct cleaner;

/* url: role <schema>_relay. */
struct cleaner *cleaner_start(const char *url);
void cleaner_stop(struct cleaner *c);

/* One pass over all tables on a connection of the caller; rows deleted (days not counted), -1 when a statement failed. For tests and tools. */
long cleaner_pass(PGconn *c);

#endif
