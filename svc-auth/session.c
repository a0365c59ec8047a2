/* Memberships, users as messages, and sessions: opened, revoked, answered. */
#include "session.h"

#include <inttypes.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/codec.h"
#include "changes.h"
#include "mfa.h"
#include "row_scopes.h"
#include "token.h"

#define DAY_S 86400
#define ACCESS_DEFAULT_S 900
#define REFRESH_DEFAULT_S (7 * DAY_S)
#define REMEMBER_S (30 * DAY_S)
#define SESSION_MAX "90 days"
#define MEMBERSHIPS_MAX "1000"

static Crm__V1__Tenant *tenant_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Tenant *t = arena_alloc(&call->arena, sizeof(*t));

	crm__v1__tenant__init(t);
	t->id = col_text(call, res, i, 0);
	t->has_seq = t->has_version = t->has_created_us = t->has_updated_us = 1;
	t->seq = col_i64(res, i, 1);
	t->version = (uint64_t)col_i64(res, i, 2);
	t->created_us = col_i64(res, i, 3);
	t->updated_us = col_i64(res, i, 4);
	t->name = col_text(call, res, i, 5);
	t->domain = col_text(call, res, i, 6);
	t->has_settings = !col_is_null(res, i, 7);
	if (t->has_settings)
		t->settings = (ProtobufCBinaryData){ (size_t)PQgetlength(res, i, 7), (uint8_t *)col_text(call, res, i, 7) };
	t->size = col_text(call, res, i, 8);
	t->industry = col_text(call, res, i, 9);
	t->status = col_text(call, res, i, 10);
	t->role = col_text(call, res, i, 12);
	return t;
}

static void member_of_row(struct rpc_call *call, const PGresult *res, int i, const char *user_id, struct member *m)
{
	m->user_id = user_id;
	m->tenant = tenant_of_row(call, res, i);
	m->tenant_id = m->tenant->id;
	m->tenant_seq = m->tenant->seq;
	m->user_seq = col_i64(res, i, 11);
	m->role = m->tenant->role;
	m->perms = roles_member(m->role, col_text(call, res, i, 13), col_text(call, res, i, 14), col_text(call, res, i, 15));
	m->deleted = strcmp(m->tenant->status, "deleted") == 0 || strcmp(PQgetvalue(res, i, 16), "deleted") == 0;
	m->active = strcmp(m->tenant->status, "active") == 0 && strcmp(PQgetvalue(res, i, 16), "active") == 0;
}

enum status member_all(struct rpc_call *call, struct db_conn *db, const char *user_id, struct member **rows, size_t *n)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT tenant_id, tenant_seq, tenant_version, " SQL_US("tenant_created_at") ", " SQL_US("tenant_updated_at")
				", name, domain, settings, size, industry, tenant_status, user_seq, role, role_permissions, granted, denied, status"
				" FROM memberships_of($1::uuid) ORDER BY last_login_at DESC NULLS LAST, joined_at, tenant_seq LIMIT " MEMBERSHIPS_MAX,
				1, &user_id);

	*n = 0;
	*rows = NULL;
	if (s != STATUS_OK)
		return s;
	*n = (size_t)PQntuples(res);
	*rows = arena_zalloc(&call->arena, (*n ? *n : 1) * sizeof(**rows));
	for (size_t i = 0; i < *n; i++)
		member_of_row(call, res, (int)i, user_id, &(*rows)[i]);
	PQclear(res);
	return STATUS_OK;
}

static bool is_meant(const struct member *m, const Crm__V1__Key *key)
{
	if (!key || (!key->id && !key->has_seq))
		return true;
	if (key->id && !str_ieq(str_of(key->id), str_of(m->tenant_id)))
		return false;
	return !key->has_seq || key->seq == m->tenant_seq;
}

enum status member_find(struct rpc_call *call, struct db_conn *db, const char *user_id, const Crm__V1__Key *tenant, struct member *out)
{
	struct member *rows;
	size_t n;
	enum status s = member_all(call, db, user_id, &rows, &n);

	if (s != STATUS_OK)
		return s;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].active && is_meant(&rows[i], tenant)) {
			*out = rows[i];
			return STATUS_OK;
		}
	}
	return STATUS_NOT_FOUND;
}

enum status member_in(struct rpc_call *call, struct db_conn *db, const char *user_id, const char *tenant_id, struct member *out)
{
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = (char *)tenant_id;
	return member_find(call, db, user_id, &key, out);
}

static Crm__V1__Ref *tenant_ref(struct rpc_call *call, const PGresult *res, int row, int col)
{
	Crm__V1__Ref *r = arena_alloc(&call->arena, sizeof(*r));

	crm__v1__ref__init(r);
	r->id = col_text(call, res, row, col);
	r->has_seq = 1;
	r->seq = col_i64(res, row, col + 1);
	r->name = col_text(call, res, row, col + 2);
	return r;
}

struct perms perms_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	return roles_member(PQgetvalue(res, i, 9), col_text(call, res, i, 17), col_text(call, res, i, 18), col_text(call, res, i, 19));
}

static void show_permissions(struct rpc_call *call, Crm__V1__User *u, const struct perms *p)
{
	u->permissions = arena_alloc(&call->arena, ROLES_FLAT_MAX * sizeof(*u->permissions));
	u->n_permissions = roles_flat(p, &call->arena, u->permissions);
}

Crm__V1__User *user_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__User *u = arena_alloc(&call->arena, sizeof(*u));
	struct perms perms = perms_of_row(call, res, i);

	crm__v1__user__init(u);
	u->id = col_text(call, res, i, 0);
	u->has_seq = u->has_version = u->has_created_us = u->has_updated_us = 1;
	u->seq = col_i64(res, i, 1);
	u->version = (uint64_t)col_i64(res, i, 2);
	u->created_us = col_i64(res, i, 3);
	u->updated_us = col_i64(res, i, 4);
	u->email = col_text(call, res, i, 5);
	u->display = col_text(call, res, i, 6);
	u->given = col_text(call, res, i, 7);
	u->family = col_text(call, res, i, 8);
	u->role = col_text(call, res, i, 9);
	u->avatar = col_text(call, res, i, 10);
	u->status = col_text(call, res, i, 11);
	u->has_preferences = !col_is_null(res, i, 12);
	if (u->has_preferences)
		u->preferences = (ProtobufCBinaryData){ (size_t)PQgetlength(res, i, 12), (uint8_t *)col_text(call, res, i, 12) };
	u->has_last_login_us = !col_is_null(res, i, 13);
	u->last_login_us = col_i64(res, i, 13);
	u->tenant = tenant_ref(call, res, i, 14);
	show_permissions(call, u, &perms);
	return u;
}

enum status user_read(struct rpc_call *call, struct db_conn *db, const char *user_id, const struct perms *flat, Crm__V1__User **out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT " USER_COLUMNS " FROM user_view WHERE id = $1::uuid", 1, &user_id);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*out = user_of_row(call, res, 0);
	PQclear(res);
	if (s == STATUS_OK && flat)
		show_permissions(call, *out, flat);
	return s;
}

static uint32_t clamp(uint32_t v, uint32_t min, uint32_t max)
{
	return v < min ? min : v > max ? max : v;
}

struct policy policy_of(const Crm__V1__TokenPolicy *p, bool remember_me)
{
	struct policy out = { ACCESS_DEFAULT_S, REFRESH_DEFAULT_S, false, remember_me };

	if (p && p->has_access_ttl_s)
		out.access_ttl_s = p->access_ttl_s;
	if (p && p->has_refresh_ttl_s)
		out.refresh_ttl_s = p->refresh_ttl_s;
	if (remember_me && out.refresh_ttl_s < REMEMBER_S)
		out.refresh_ttl_s = REMEMBER_S;
	out.rotate = p && p->has_rotate && p->rotate;
	out.access_ttl_s = clamp(out.access_ttl_s, 60, DAY_S);
	out.refresh_ttl_s = clamp(out.refresh_ttl_s, 3600, 90 * DAY_S);
	return out;
}

static enum status session_insert(struct rpc_call *call, struct db_conn *db, const struct session_reply *r, const char *hash)
{
	const char *params[] = { r->session_id, r->member.tenant_id, r->member.user_id, param_str(call, call->dialect),
		param_i64(call, r->policy.refresh_ttl_s), hash, param_str(call, call->client_ip), param_str(call, call->user_agent) };

	return db_exec(db, NULL,
		       "WITH s AS (INSERT INTO session (id, tenant_id, user_id, dialect, refresh_ttl_s, client_ip, user_agent, expires_at)"
		       " VALUES ($1::uuid, $2::uuid, $3::uuid, $4, $5::integer, $7, left($8, 300), now() + interval '" SESSION_MAX "') RETURNING id, expires_at)"
		       " INSERT INTO refresh_token (token_hash, session_id, expires_at)"
		       " SELECT $6::bytea, id, least(expires_at, now() + $5::integer * interval '1 second') FROM s",
		       8, params);
}

enum status session_open(struct rpc_call *call, struct db_conn *db, struct session_reply *r)
{
	const char *params[] = { r->member.tenant_id, r->member.user_id };
	struct mfa_standing st;
	char *id = arena_alloc(&call->arena, UUID_TEXT + 1), *token = arena_alloc(&call->arena, REFRESH_TEXT);
	char hash[BYTEA_TEXT];
	enum status s = mfa_order(db, r->member.tenant_id);

	if (s == STATUS_OK)
		s = mfa_standing(db, r->member.user_id, r->member.tenant_id, &st);
	if (s != STATUS_OK)
		return s;
	if (!r->proven && (st.enabled || st.required))
		return mfa_challenge(call, db, r, &st);
	uuid7(id);
	token_refresh_new(token);
	token_hash(str_of(token), hash);
	r->session_id = id;
	r->refresh_token = token;
	s = session_insert(call, db, r, hash);
	if (s != STATUS_OK)
		return s;
	s = db_exec(db, NULL, "UPDATE membership SET last_login_at = now() WHERE tenant_id = $1::uuid AND user_id = $2::uuid", 2, params);
	return s == STATUS_OK ? member_scope(call, db, r->member.user_id, &r->member.scope) : s;
}

enum status session_revoke(struct rpc_call *call, struct db_conn *db, const char *session_id, const char *why)
{
	const char *params[] = { session_id, why };
	enum status s = db_exec(db, NULL, "UPDATE session SET revoked_at = now(), revoked_why = $2 WHERE id = $1::uuid AND revoked_at IS NULL", 2,
				params);

	if (s != STATUS_OK)
		return s;
	return change_note(call, db, "session", session_id, 0, true);
}

static void challenge_answer(struct rpc_call *call, const struct session_reply *r)
{
	Crm__V1__Session out = CRM__V1__SESSION__INIT;

	out.challenge = (char *)r->challenge;
	out.has_challenge_expires_in = 1;
	out.challenge_expires_in = MFA_CHALLENGE_S;
	out.has_mfa_required = out.mfa_required = !r->must_enrol;
	out.has_mfa_enrolment_required = out.mfa_enrolment_required = r->must_enrol;
	handler_reply(call, &out);
}

void session_answer(struct rpc_call *call, const struct session_reply *r)
{
	Crm__V1__Session out = CRM__V1__SESSION__INIT;
	struct token_claims claims = { .user_id = r->member.user_id, .tenant_id = r->member.tenant_id, .session_id = r->session_id,
		.role = r->member.role, .user_seq = r->member.user_seq, .tenant_seq = r->member.tenant_seq, .perms = r->member.perms,
		.limited = r->member.scope != NULL,
		.ttl_s = r->policy.access_ttl_s };
	struct buf token = { 0 };

	if (r->challenge) {
		challenge_answer(call, r);
		return;
	}
	if (!token_access(&claims, clock_us(), &token)) {
		buf_fini(&token);
		rpc_reply_error(call, STATUS_UNAVAILABLE, NULL);
		return;
	}
	out.access_token = arena_strdup(&call->arena, buf_view(&token));
	buf_fini(&token);
	out.refresh_token = (char *)r->refresh_token;
	out.has_expires_in = 1;
	out.expires_in = r->policy.access_ttl_s;
	out.user = r->user;
	out.tenant = r->member.tenant;
	out.token_type = "bearer";
	handler_reply(call, &out);
}
