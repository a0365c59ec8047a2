/* SecurityEvents.Resolve, and the note that the log is about to be exported. */
#include "base/codec.h"
#include "proto/audit.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-audit/audit.h"

struct resolve {
	struct rpc_call *call;
	struct db_conn *db;
	const Crm__V1__ResolveRequest *req;
};

/* Locks the event: of two who resolve it, one is first. */
static enum status event_find(struct resolve *v, char id[UUID_TEXT + 1], bool *open)
{
	const struct handler_key k = handler_key(v->call, v->req->key);
	const char *params[] = { k.id, k.seq };
	PGresult *r = NULL;
	enum status s = db_exec(v->db, &r, "SELECT id, status = 'open' FROM security_event WHERE ($1::uuid IS NULL OR id = $1::uuid)"
		" AND ($2::bigint IS NULL OR seq = $2::bigint) AND NOT ($1::uuid IS NULL AND $2::bigint IS NULL) LIMIT 1 FOR UPDATE", 2, params);

	if (s == STATUS_OK && PQntuples(r) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		uuid_parse(str_of(PQgetvalue(r, 0, 0)), id);
		*open = PQgetvalue(r, 0, 1)[0] == 't';
	}
	PQclear(r);
	return s;
}

static enum status event_close(struct resolve *v, const char *id)
{
	const char *params[] = { id, v->req->resolution, param_str(v->call, v->call->who.user_id) };
	PGresult *r = NULL;
	int64_t seq = 0, version = 0;
	enum status s = db_exec(v->db, &r,
	    "WITH b AS (SELECT * FROM security_event WHERE id = $1), w AS (UPDATE security_event t SET status = 'resolved', resolution = $2, resolved_at = now(),"
	    " resolved_by = $3, updated_at = now(), updated_by = $3, version = t.version + 1 WHERE t.id = $1 RETURNING t.*)"
	    " SELECT w.seq, w.version, to_jsonb(b), to_jsonb(w) FROM w, b", 3, params);

	if (s == STATUS_OK && (PQntuples(r) != 1 || !str_to_i64(str_of(PQgetvalue(r, 0, 0)), &seq) || !str_to_i64(str_of(PQgetvalue(r, 0, 1)), &version)))
		s = STATUS_INTERNAL;
	if (s == STATUS_OK)
		s = resource_event(v->db, v->call, "audit.security_event.resolved", "security_event", id, seq, (uint64_t)version, PQgetvalue(r, 0, 2), PQgetvalue(r, 0, 3));
	PQclear(r);
	return s;
}

/* CONFLICT: somebody was first. */
static enum status resolve(struct resolve *v, struct str *out)
{
	char id[UUID_TEXT + 1];
	bool open = false;
	enum status s = event_find(v, id, &open);

	if (s == STATUS_OK && !open)
		s = STATUS_CONFLICT;
	if (s == STATUS_OK)
		s = event_close(v, id);
	if (s == STATUS_OK)
		s = resource_read(v->db, v->call, &security_event_resource, id, out);
	return s == STATUS_OK ? idempotent_finish(v->db, v->call, *out) : s;
}

void security_event_resolve(struct rpc_call *call, struct db_conn *db)
{
	struct resolve v = { .call = call, .db = db, .req = handler_request(call, &crm__v1__resolve_request__descriptor) };
	struct str out = STR("");
	enum status s;

	if (!v.req)
		return;
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = resolve(&v, &out);
	if (s == STATUS_CONFLICT) {
		db_rollback(db);
		rpc_reply_error(call, s, "The security event has already been resolved");
		return;
	}
	handler_end_packed(call, db, s, out);
}

/* No export without its entry: the gateway asks for this before it sends the first row. */
void audit_note_export(struct rpc_call *call, struct db_conn *db)
{
	struct entity_event e = { .type = "audit.log.exported", .entity = "audit_log" };
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = handler_event(call, db, &e);
	handler_end(call, db, s, NULL);
}
