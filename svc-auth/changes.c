/* Writes down what gateways must hear; feed.c hands it out. */
#include "changes.h"

enum status change_note(struct rpc_call *call, struct db_conn *db, const char *kind, const char *id, int64_t epoch_us, bool revoked)
{
	const char *params[] = { kind, id, epoch_us ? param_i64(call, epoch_us) : NULL, revoked ? "true" : "false" };

	return db_exec(db, NULL,
		       "INSERT INTO change (kind, id, epoch_us, revoked) VALUES ($1, $2, $3::bigint, $4::boolean)"
		       " ON CONFLICT (kind, id) DO UPDATE SET xid = pg_current_xact_id(), at = now(),"
		       " epoch_us = greatest(change.epoch_us, excluded.epoch_us), revoked = change.revoked OR excluded.revoked",
		       4, params);
}
