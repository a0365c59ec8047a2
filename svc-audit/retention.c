/* RetentionPolicies.Apply: removes what is old enough, and leaves a chain that still verifies. */
#include <stdio.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/wire.h"
#include "proto/audit.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-audit/audit.h"
#include "svc-audit/sign.h"

#define AT_ONCE "20000" /* more is left for the next call */
#define AT_ONCE_N 20000

struct apply {
	struct rpc_call *call;
	struct db_conn *db;
	struct handler_key key;
	char policy_id[UUID_TEXT + 1];
	char *kind, *before; /* time, as PostgreSQL prints it */
	int64_t before_us, removed, cut_seq;
	char *cut_hash;
	bool more;
};

/* The row lock makes applications of one policy wait for each other. */
static enum status policy_lock(struct apply *a, const char **why)
{
	const char *params[] = { a->key.id, a->key.seq };
	PGresult *r = NULL;
	enum status s = db_exec(a->db, &r,
	    "SELECT id, kind, legal_hold OR EXISTS (SELECT FROM legal_hold h WHERE h.deleted_at IS NULL AND h.resource IS NULL), now() - keep_days * interval '1 day', (extract(epoch FROM now() - keep_days * interval '1 day') * 1000000)::bigint"
	    " FROM retention_policy WHERE ($1::uuid IS NULL OR id = $1::uuid) AND ($2::bigint IS NULL OR seq = $2::bigint)"
	    " AND NOT ($1::uuid IS NULL AND $2::bigint IS NULL) LIMIT 1 FOR UPDATE", 2, params);

	if (s == STATUS_OK && PQntuples(r) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK && PQgetvalue(r, 0, 2)[0] == 't') {
		*why = "A legal hold is set: nothing may be removed";
		s = STATUS_CONFLICT;
	}
	if (s == STATUS_OK) {
		uuid_parse(str_of(PQgetvalue(r, 0, 0)), a->policy_id);
		a->kind = arena_strdup(&a->call->arena, str_of(PQgetvalue(r, 0, 1)));
		a->before = arena_strdup(&a->call->arena, str_of(PQgetvalue(r, 0, 3)));
		if (!str_to_i64(str_of(PQgetvalue(r, 0, 4)), &a->before_us))
			s = STATUS_INTERNAL;
	}
	PQclear(r);
	return s;
}

/*
 * The last entry of the unbroken run of old ones at the beginning; the newest entry always stays, so that the chain has an end.
 * The order of the chain is that of arrival: one young entry early on keeps what is behind it, and so does one under a legal hold.
 */
static const char cut_sql[] =
    "SELECT e.seq, e.hash, l.seq > e.seq FROM entry e,"
    " LATERAL (SELECT least((SELECT min(y.seq) FROM entry y WHERE y.tenant_id = e.tenant_id AND y.created_at >= $1::timestamptz),"
    " (SELECT min(k.seq) FROM legal_hold h JOIN entry k ON k.resource = h.resource AND (h.resource_id IS NULL OR k.resource_id = h.resource_id::text)"
    " WHERE h.deleted_at IS NULL AND k.tenant_id = c.tenant_id), c.seq) - 1 AS seq"
    " FROM chain c WHERE c.tenant_id = e.tenant_id) l,"
    " LATERAL (SELECT min(f.seq) AS seq FROM entry f WHERE f.tenant_id = e.tenant_id) f"
    " WHERE e.tenant_id = current_setting('app.tenant_id')::uuid AND e.seq = least(l.seq, f.seq + " AT_ONCE " - 1)";

/* Signs the cut, so that a beginning that somebody else removed is not taken for one. */
static enum status cut_record(struct apply *a)
{
	struct sign_place p = { .seq = a->cut_seq, .signed_us = clock_us() };
	char seq[24], at[24], signature[SIGN_HEX + 1];
	const char *params[] = { seq, a->cut_hash, at, signature };

	if (!uuid_to_bytes(a->call->who.tenant_id, p.tenant) || !hex_decode(str_of(a->cut_hash), p.hash, sizeof p.hash) || !audit_signer)
		return STATUS_INTERNAL;
	sign_place(audit_signer, SIGN_CUT, &p, signature);
	snprintf(seq, sizeof seq, "%lld", (long long)p.seq);
	snprintf(at, sizeof at, "%lld", (long long)p.signed_us);
	return db_exec(a->db, NULL,
	    "INSERT INTO chain_cut (tenant_id, seq, hash, removed, signed_us, signature) SELECT current_setting('app.tenant_id')::uuid, $1::bigint, $2,"
	    " $1::bigint - coalesce((SELECT max(c.seq) FROM chain_cut c), 0), $3, $4", 4, params);
}

static enum status count_read(struct apply *a, enum status s, PGresult *r)
{
	if (s == STATUS_OK && (PQntuples(r) != 1 || !str_to_i64(str_of(PQgetvalue(r, 0, 0)), &a->removed)))
		s = STATUS_INTERNAL;
	PQclear(r);
	return s;
}

static enum status entries_remove(struct apply *a)
{
	const char *params[] = { a->before };
	PGresult *r = NULL;
	enum status s = db_exec(a->db, &r, cut_sql, 1, params);

	if (s != STATUS_OK || PQntuples(r) == 0) {
		PQclear(r);
		return s;
	}
	a->cut_hash = arena_strdup(&a->call->arena, str_of(PQgetvalue(r, 0, 1)));
	a->more = PQgetvalue(r, 0, 2)[0] == 't';
	if (!str_to_i64(str_of(PQgetvalue(r, 0, 0)), &a->cut_seq))
		s = STATUS_INTERNAL;
	PQclear(r);
	r = NULL;
	if (s == STATUS_OK)
		s = cut_record(a);
	if (s == STATUS_OK)
		s = db_exec(a->db, &r, "SELECT retention_cut()", 0, NULL);
	return count_read(a, s, r);
}

static enum status security_events_remove(struct apply *a)
{
	const char *params[] = { a->before };
	PGresult *r = NULL;
	enum status s = db_exec(a->db, &r,
	    "WITH old AS (SELECT id FROM security_event WHERE status = 'resolved' AND created_at < $1::timestamptz LIMIT " AT_ONCE "), gone AS ("
	    " DELETE FROM security_event t USING old WHERE t.id = old.id RETURNING 1) SELECT count(*) FROM gone", 1, params);

	s = count_read(a, s, r);
	a->more = s == STATUS_OK && a->removed == AT_ONCE_N;
	return s;
}

/* The event carries what was removed and the cut, so that the chain itself tells of it. */
static enum status policy_note(struct apply *a)
{
	char removed[24], cut[24];
	const char *params[] = { a->policy_id, removed, param_str(a->call, a->call->who.user_id), a->cut_hash ? cut : NULL, a->cut_hash };
	PGresult *r = NULL;
	int64_t seq = 0, version = 0;
	enum status s;

	snprintf(removed, sizeof removed, "%lld", (long long)a->removed);
	snprintf(cut, sizeof cut, "%lld", (long long)a->cut_seq);
	s = db_exec(a->db, &r,
	    "WITH b AS (SELECT * FROM retention_policy WHERE id = $1), w AS (UPDATE retention_policy t SET last_applied_at = now(), last_removed = $2, updated_at = now(),"
	    " last_cut_seq = coalesce($4, t.last_cut_seq), last_cut_hash = coalesce($5, t.last_cut_hash), updated_by = $3, version = t.version + 1"
	    " WHERE t.id = $1 RETURNING t.*) SELECT w.seq, w.version, to_jsonb(b), to_jsonb(w) FROM w, b", 5, params);
	if (s == STATUS_OK && (PQntuples(r) != 1 || !str_to_i64(str_of(PQgetvalue(r, 0, 0)), &seq) || !str_to_i64(str_of(PQgetvalue(r, 0, 1)), &version)))
		s = STATUS_INTERNAL;
	if (s == STATUS_OK)
		s = resource_event(a->db, a->call, "audit.retention_policy.applied", "retention_policy", a->policy_id, seq, (uint64_t)version, PQgetvalue(r, 0, 2), PQgetvalue(r, 0, 3));
	PQclear(r);
	return s;
}

static enum status apply(struct apply *a, struct str *out, const char **why)
{
	struct buf b = { 0 };
	struct str policy = STR("");
	enum status s = policy_lock(a, why);

	if (s == STATUS_OK)
		s = strcmp(a->kind, "audit_log") == 0 ? entries_remove(a) : security_events_remove(a);
	if (s == STATUS_OK)
		s = policy_note(a);
	if (s == STATUS_OK)
		s = resource_read(a->db, a->call, &retention_policy_resource, a->policy_id, &policy);
	if (s != STATUS_OK)
		return s;
	wire_put_bytes(&b, 1, policy);
	wire_put_varint(&b, 2, (uint64_t)a->removed);
	wire_put_varint(&b, 3, a->more);
	wire_put_varint(&b, 4, (uint64_t)a->before_us);
	if (a->cut_hash) {
		wire_put_varint(&b, 5, (uint64_t)a->cut_seq);
		wire_put_bytes(&b, 6, str_of(a->cut_hash));
	}
	*out = arena_str(&a->call->arena, buf_view(&b));
	buf_fini(&b);
	return idempotent_finish(a->db, a->call, *out);
}

void retention_policy_apply(struct rpc_call *call, struct db_conn *db)
{
	const Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct apply a = { .call = call, .db = db };
	struct str out = STR("");
	const char *why = NULL;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	a.key = handler_key(call, req->key);
	if (s == STATUS_OK)
		s = apply(&a, &out, &why);
	if (s == STATUS_OK)
		log_info("AUDIT-RETENTION", "policy %s of tenant %.*s removes %lld records", a.kind, STR_FMT(call->who.tenant_id), (long long)a.removed);
	if (why) {
		db_rollback(db);
		rpc_reply_error(call, s, why);
	} else {
		handler_end_packed(call, db, s, out);
	}
}
