/*
 * The engine behind resource.h: what lib/service calls, and what handlers use besides resource_event and resource_read.
 *
 * Threading: resource_init and resource_dispatch on the loop thread; resource_commit on a worker; resource_changed anywhere.
 */
#ifndef CRM_RESOURCE_ENGINE_H
#define CRM_RESOURCE_ENGINE_H

#include "db/db.h"
#include "resource/resource.h"
#include "rpc/rpc.h"
#include "schema/schema.h"

/*
 * Compiles the rows. Exits with a sentence when a word of a row is no field. Every statement is then prepared against the
 * database by a worker as soon as it can be reached: a field without a column exits the program with resource and field.
 * Until that is done calls are answered UNAVAILABLE. schema_name: the service's schema ("customers").
 */
void resource_init(const struct schema *s, struct db *db, const struct op *ops, size_t n, const char *schema_name);
void resource_dispatch(const struct op *op, struct rpc_call *call);
/* True when every statement has been prepared once. */
bool resource_ready(void);
/* Forgets everything resource_init made. For tests; no call may be in flight. */
void resource_fini(void);

/*
 * Tells other instances about changes and hears of theirs (NOTIFY <schema>_changed), on a thread with a connection of its
 * own. Without it totals live for a second at most instead of until the next change.
 */
void resource_listen(const char *url, const char *schema_name);
void resource_unlisten(void);

/*
 * Commits a handler's transaction and makes what resource_event recorded in it known: totals of the tenant, other
 * instances, the relay. Use it instead of db_commit whenever resource_event was called.
 */
enum status resource_commit(struct db_conn *db, struct rpc_call *call) MUST_CHECK;

/* Something of this entity ("user") was written in a way the engine does not see: totals are counted again. */
void resource_changed(struct str tenant, const char *entity, struct str user);

/*
 * Idempotency for handlers, inside their transaction, before anything else is done. IDEM_RUN: go on, and call
 * idempotent_finish with the reply before resource_commit. IDEM_REPLIED: the call has been answered, roll back and return.
 */
enum idem { IDEM_RUN, IDEM_REPLIED };
enum idem idempotent_begin(struct db_conn *db, struct rpc_call *call);
enum status idempotent_finish(struct db_conn *db, struct rpc_call *call, struct str reply) MUST_CHECK;

/* One number for an entity kind of the call's tenant, inside a handler's transaction. */
enum status resource_seq(struct db_conn *db, const struct rpc_call *call, const char *kind, int64_t *seq) MUST_CHECK;

struct resource_stats {
	uint64_t counts_run, counts_served, counts_adjusted, counts_entries, seq_leases, notices_sent, notices_heard;
};
struct resource_stats resource_stats(void);

#endif
