/*
 * The statements of the engine, built from a plan. The text depends on the shape of a request only (which columns, which
 * kind of key), never on values, so it is the key of the prepared statement.
 *
 * Writes answer one row: SQL_VERSION (version before; NULL: there is no such row), SQL_MISSING (numbers of reference
 * fields that point to nothing, separated by spaces), then from SQL_ENTITY the entity's columns, all NULL when nothing was written.
 */
#ifndef CRM_RESOURCE_SQL_H
#define CRM_RESOURCE_SQL_H

#include "db/db.h"
#include "resource/plan.h"
#include "resource/values.h"

enum { SQL_VERSION, SQL_MISSING, SQL_ENTITY };

struct sql {
	struct buf b; /* buf_fini is the caller's */
	struct arena *arena; /* of the call: lives as long as the parameters are needed */
	const char *params[DB_MAX_PARAMS];
	int n;
	bool over; /* too many parameters: a request that must be refused */
};

/* What every write knows of its caller, as parameters. */
struct actor {
	const char *tenant, *user, *api_key, *request_id, *traceparent, *dialect, *client_ip, *user_agent;
};

void actor_fill(struct actor *a, struct rpc_call *call);

void sql_start(struct sql *q, struct arena *a);
/* Adds a parameter, returns its number (from 1). */
int sql_param(struct sql *q, const char *value);
/* Adds a parameter, prints "$n::type". */
void sql_value(struct sql *q, const char *value, const char *type);
struct db_stmt sql_stmt(struct sql *q);

/* id: a new UUID. *seq_at: the index of the parameter that becomes the number. event: type, NULL for none. */
void sql_create(struct sql *q, const struct plan *p, const struct actor *a, const char *id, const struct values *v, const char *event, int *seq_at);
/* version: expected one or NULL. */
void sql_update(struct sql *q, const struct plan *p, const struct actor *a, const struct key *k, const char *version, const struct values *v, const char *event);
void sql_delete(struct sql *q, const struct plan *p, const struct actor *a, const struct key *k, const char *version, const char *event);

/*
 * The same change, or deletion, of all rows with these ids (a uuid[] literal). Answers a row per row that there was (or one with NULLs):
 * missing references as above, its id, whether it was written; not written: it would have more than VALUES_MAX_TAGS tags. v is used up.
 */
enum tag_mode { TAGS_REPLACE, TAGS_ADD, TAGS_REMOVE }; /* as in BulkWriteRequest */
void sql_update_many(struct sql *q, const struct plan *p, const struct actor *a, const char *ids, struct values *v, enum tag_mode mode, const char *event);
void sql_delete_many(struct sql *q, const struct plan *p, const struct actor *a, const char *ids, const char *event);

/* Columns of the outbox and the values that do not come from a row; both end without a comma. */
#define SQL_OUTBOX_COLUMNS "user_id, api_key_id, request_id, traceparent, dialect, client_ip, user_agent"
void sql_actor(struct sql *q, const struct actor *a);
/* ", o AS (…)": the outbox rows of the written rows w, when event is not NULL. before, after: expressions; from: "w" or "w, b". */
void sql_outbox(struct sql *q, const struct plan *p, const struct actor *a, const char *event, const char *before, const char *after, const char *from);

/*
 * Statements for tags: "want" must exist with item, k, id, seq, name, fresh; "may" with yes. Makes have, made, tags_all and
 * tag_set(item, ids). tenant is parameter 1.
 */
void sql_tags(struct sql *q, const struct actor *a);
#define SQL_WANT "x(item int, k int, id uuid, seq bigint, name text, fresh uuid)"
/* JSON array for SQL_WANT, in the arena. */
void tags_json(struct buf *b, const struct values *v, int item);

#endif
