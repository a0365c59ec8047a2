/* SecurityEvents.Resolve, and the note that the log is about to be exported. */
#include "base/codec.h"
#include "base/wire.h"
#include "resource/engine.h"
#include "svc-audit/audit.h"

struct resolve {
	struct rpc_call *call;
	struct db_conn *db;
	const char *id, *seq, *resolution;
	char user[UUID_TEXT + 1];
};

static void key_read(struct resolve *v, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;
	char id[UUID_TEXT + 1];

	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES && uuid_parse(f.bytes, id))
			v->id = arena_strdup(&v->call->arena, str_of(id));
		else if (f.number == 2 && f.type == WIRE_VARINT)
			v->seq = arena_printf(&v->call->arena, "%lld", (long long)f.value);
	}
}

static bool request_read(struct resolve *v)
{
	struct wire_reader r = wire_read(v->call->payload);
	struct wire_field f;

	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			key_read(v, f.bytes);
		else if (f.number == 2 && f.type == WIRE_BYTES && memchr(f.bytes.p, 0, f.bytes.n))
			rpc_violate(v->call, "resolution", "characters", "has characters that cannot be stored", NULL);
		else if (f.number == 2 && f.type == WIRE_BYTES)
			v->resolution = arena_strdup(&v->call->arena, f.bytes);
	}
	return !r.bad;
}

/* Locks the event: of two who resolve it, one is first. */
static enum status event_find(struct resolve *v, char id[UUID_TEXT + 1], bool *open)
{
	const char *params[] = { v->id, v->seq };
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
	const char *params[] = { id, v->resolution, v->user[0] ? v->user : NULL };
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

static enum status resolve(struct resolve *v, struct str *out, const char **why)
{
	char id[UUID_TEXT + 1];
	bool open = false;
	enum status s = event_find(v, id, &open);

	if (s == STATUS_OK && !open) {
		*why = "The security event has already been resolved";
		s = STATUS_CONFLICT;
	}
	if (s == STATUS_OK)
		s = event_close(v, id);
	if (s == STATUS_OK)
		s = resource_read(v->db, v->call, &security_event_resource, id, out);
	return s == STATUS_OK ? idempotent_finish(v->db, v->call, *out) : s;
}

static void resolve_reply(struct resolve *v)
{
	struct str out = STR("");
	const char *why = NULL;
	enum status s = resolve(v, &out, &why);

	if (s == STATUS_OK)
		s = resource_commit(v->db, v->call);
	else
		db_rollback(v->db);
	if (s == STATUS_OK)
		rpc_reply_ok(v->call, out);
	else
		rpc_reply_error(v->call, s, why);
}

void security_event_resolve(struct rpc_call *call, struct db_conn *db)
{
	struct resolve v = { .call = call, .db = db };
	enum status s;

	if (!uuid_parse(call->who.user_id, v.user))
		v.user[0] = 0;
	if (!request_read(&v)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (call->n_violations) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s != STATUS_OK)
		rpc_reply_error(call, s, NULL);
	else if (idempotent_begin(db, call) == IDEM_REPLIED)
		db_rollback(db);
	else
		resolve_reply(&v);
}

/* No export without its entry: the gateway asks for this before it sends the first row. */
void audit_note_export(struct rpc_call *call, struct db_conn *db)
{
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = resource_event(db, call, "audit.log.exported", "audit_log", NULL, 0, 0, NULL, NULL);
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	else
		db_rollback(db);
	if (s == STATUS_OK)
		rpc_reply_ok(call, STR(""));
	else
		rpc_reply_error(call, s, NULL);
}
