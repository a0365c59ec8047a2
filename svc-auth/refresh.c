/* Refresh and Logout: what happens to refresh tokens after they were handed out. docs/adr/0006-tokens.md. */
#include "auth.h"

#include <openssl/crypto.h>

#include "resource/engine.h"
#include "row_scopes.h"
#include "session.h"
#include "token.h"

#define GRACE "20 seconds"

struct family {
	const char *session_id, *tenant_id, *user_id;
	int64_t refresh_ttl_s;
	bool alive, rotated, in_grace;
};

static void family_of_row(struct rpc_call *call, const PGresult *res, struct family *f)
{
	f->session_id = col_text(call, res, 0, 0);
	f->tenant_id = col_text(call, res, 0, 1);
	f->user_id = col_text(call, res, 0, 2);
	f->refresh_ttl_s = col_i64(res, 0, 3);
	f->alive = PQgetvalue(res, 0, 4)[0] == 't';
	f->rotated = PQgetvalue(res, 0, 5)[0] == 't';
	f->in_grace = PQgetvalue(res, 0, 6)[0] == 't';
}

/* NOT_FOUND: nobody was ever given this token, or it is long expired. */
static enum status family_find(struct rpc_call *call, struct db_conn *db, const char *hash, struct family *f)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT s.id, s.tenant_id, s.user_id, s.refresh_ttl_s,"
				" s.revoked_at IS NULL AND s.expires_at > now() AND t.expires_at > now(), t.rotated_at IS NOT NULL,"
				" coalesce(t.rotated_at > clock_timestamp() - interval '" GRACE "', false)"
				" FROM refresh_token t JOIN session s ON s.id = t.session_id WHERE t.token_hash = $1::bytea",
				1, &hash);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		family_of_row(call, res, f);
	PQclear(res);
	return s;
}

/*
 * Uses the token up and stores its successor, in one statement: of parallel refreshes one gets the row, the others find it
 * rotated and hand out the same successor.
 */
static enum status rotate(struct rpc_call *call, struct db_conn *db, const char *hash, const char *successor, struct family *f)
{
	char next[BYTEA_TEXT];
	const char *params[] = { hash, next };
	PGresult *res = NULL;
	enum status s;
	bool used;

	token_hash(str_of(successor), next);
	s = db_exec(db, &res,
		    "WITH used AS (UPDATE refresh_token SET rotated_at = now() WHERE token_hash = $1::bytea AND rotated_at IS NULL"
		    " RETURNING session_id)"
		    " INSERT INTO refresh_token (token_hash, session_id, expires_at)"
		    " SELECT $2::bytea, s.id, least(s.expires_at, now() + s.refresh_ttl_s * interval '1 second')"
		    " FROM used JOIN session s ON s.id = used.session_id RETURNING session_id",
		    2, params);
	used = s == STATUS_OK && PQntuples(res) > 0;
	PQclear(res);
	if (s != STATUS_OK || used)
		return s;
	return family_find(call, db, hash, f);
}

static enum status slide(struct db_conn *db, const char *hash)
{
	return db_exec(db, NULL,
		       "UPDATE refresh_token t SET expires_at = least(s.expires_at, now() + s.refresh_ttl_s * interval '1 second')"
		       " FROM session s WHERE s.id = t.session_id AND t.token_hash = $1::bytea",
		       1, &hash);
}

/* For the list of sessions; to the minute is enough. */
static enum status touch(struct db_conn *db, const char *session_id)
{
	return db_exec(db, NULL, "UPDATE session SET last_used_at = now() WHERE id = $1::uuid AND last_used_at < now() - interval '1 minute'", 1, &session_id);
}

/* Somebody else has a copy: the whole family dies, and everybody who listens hears of it. */
static enum status kill_family(struct rpc_call *call, struct db_conn *db, const struct family *f)
{
	struct entity_event e = { .type = "auth.session.reuse_detected", .entity = "session", .entity_id = f->session_id, .tenant_id = f->tenant_id,
		.user_id = f->user_id };
	enum status s = handler_tenant(db, f->tenant_id);

	if (s == STATUS_OK)
		s = session_revoke(call, db, f->session_id, "reuse");
	if (s == STATUS_OK)
		s = handler_event(call, db, &e);
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	return s == STATUS_OK ? STATUS_INVALID_TOKEN : s;
}

/* The token that the client has from now on, in r->refresh_token. INVALID_TOKEN after a reuse is committed already. */
static enum status exchange(struct rpc_call *call, struct db_conn *db, const char *token, const char *hash, struct family *f, struct session_reply *r)
{
	char *successor = arena_alloc(&call->arena, REFRESH_TEXT);
	enum status s = STATUS_OK;

	token_refresh_successor(token, successor);
	r->refresh_token = successor;
	if (!f->rotated && !r->policy.rotate) {
		r->refresh_token = token;
		return slide(db, hash);
	}
	if (!f->rotated)
		s = rotate(call, db, hash, successor, f);
	if (s == STATUS_OK && f->rotated && !f->in_grace)
		s = kill_family(call, db, f);
	return s;
}

static enum status refresh(struct rpc_call *call, struct db_conn *db, const char *token, struct session_reply *r)
{
	char hash[BYTEA_TEXT];
	struct family f = { 0 };
	enum status s = db_begin(db, (struct str){ "", 0 });

	token_hash(str_of(token), hash);
	if (s == STATUS_OK)
		s = family_find(call, db, hash, &f);
	if (s == STATUS_OK && !f.alive)
		s = STATUS_INVALID_TOKEN;
	if (s == STATUS_OK)
		s = member_in(call, db, f.user_id, f.tenant_id, &r->member);
	if (s == STATUS_OK)
		s = handler_tenant(db, f.tenant_id);
	if (s == STATUS_OK)
		s = exchange(call, db, token, hash, &f, r);
	if (s == STATUS_OK)
		s = touch(db, f.session_id);
	if (s == STATUS_OK)
		s = member_scope(call, db, f.user_id, &r->member.scope);
	if (s == STATUS_OK)
		s = user_read(call, db, f.user_id, &r->member.perms, &r->user);
	r->session_id = f.session_id;
	if (s == STATUS_OK)
		s = db_commit(db);
	return s == STATUS_NOT_FOUND ? STATUS_INVALID_TOKEN : s;
}

void auth_refresh(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__RefreshRequest *req = handler_request(call, &crm__v1__refresh_request__descriptor);
	struct session_reply r = { 0 };
	enum status s;

	if (!req)
		return;
	r.policy = policy_of(req->policy, false);
	s = req->refresh_token ? refresh(call, db, req->refresh_token, &r) : STATUS_INVALID_TOKEN;
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		session_answer(call, &r);
}

/* The session that is meant: of the refresh token when it is the caller's own, else of the access token. NULL: none. */
static enum status session_meant(struct rpc_call *call, struct db_conn *db, const char *token, const char **id)
{
	char hash[BYTEA_TEXT];
	struct family f = { 0 };
	enum status s = STATUS_NOT_FOUND;

	*id = param_str(call, call->who.session_id);
	if (!token || !*token)
		return STATUS_OK;
	token_hash(str_of(token), hash);
	s = family_find(call, db, hash, &f);
	if (s == STATUS_OK && str_eq(str_of(f.user_id), call->who.user_id))
		*id = f.session_id;
	return s == STATUS_NOT_FOUND ? STATUS_OK : s;
}

static enum status logout(struct rpc_call *call, struct db_conn *db, const char *token)
{
	struct entity_event e = { .type = "auth.user.logged_out", .entity = "user", .entity_id = param_str(call, call->who.user_id),
		.entity_seq = call->who.user_seq };
	const char *session = NULL;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = session_meant(call, db, token, &session);
	if (s == STATUS_OK && session)
		s = session_revoke(call, db, session, "logout");
	if (s == STATUS_OK)
		s = handler_event(call, db, &e);
	return s == STATUS_OK ? resource_commit(db, call) : s;
}

void auth_logout(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__LogoutRequest *req = handler_request(call, &crm__v1__logout_request__descriptor);
	enum status s;

	if (!req)
		return;
	s = logout(call, db, req->refresh_token);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply_empty(call);
}
