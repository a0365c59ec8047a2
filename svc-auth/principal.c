/* Principals that no token carries: an API key, or a user in another of their tenants. Asked by gateways only. */
#include "auth.h"

#include "base/codec.h"
#include "mfa.h"
#include "row_scopes.h"
#include "session.h"
#include "token.h"

static void reply(struct rpc_call *call, const struct member *m, const char *api_key_id)
{
	Crm__V1__Principal p = CRM__V1__PRINCIPAL__INIT;

	p.tenant_id = (char *)m->tenant_id;
	p.user_id = (char *)m->user_id;
	p.role = (char *)m->role;
	p.api_key_id = (char *)api_key_id;
	p.scope = (char *)m->scope;
	p.has_tenant_seq = p.has_user_seq = p.has_permissions_low = p.has_permissions_high = 1;
	p.tenant_seq = m->tenant_seq;
	p.user_seq = m->user_seq;
	p.permissions_low = m->perms.bits[0];
	p.permissions_high = m->perms.bits[1];
	handler_reply(call, &p);
}

/* A minute is close enough, and keeps a busy key from writing a row per call. */
static enum status touch(struct db_conn *db, const char *tenant_id, const char *id)
{
	enum status s = handler_tenant(db, tenant_id);

	if (s != STATUS_OK)
		return s;
	return db_exec(db, NULL,
		       "UPDATE api_key SET last_used_at = now() WHERE id = $1::uuid"
		       " AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
		       1, &id);
}

/* What its scopes say, but never more than its creator may do now. */
static void narrow(struct perms *p, const char *scope)
{
	struct perms only = { { 0, 0 } };

	if (!scope || strcmp(scope, "{}") == 0)
		return;
	perms_apply(&only, scope, false);
	p->bits[0] &= only.bits[0];
	p->bits[1] &= only.bits[1];
}

static enum status by_key(struct rpc_call *call, struct db_conn *db, const char *key, struct member *m, const char **id)
{
	char hash[BYTEA_TEXT];
	const char *param = hash, *scope = NULL, *tenant = NULL, *user = NULL;
	PGresult *res = NULL;
	enum status s = STATUS_INVALID_TOKEN;

	if (!token_api_key_plausible(str_of(key)))
		return s;
	token_hash(str_of(key), hash);
	s = db_begin(db, (struct str){ "", 0 });
	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT id, tenant_id, user_id, scope FROM api_key_by_hash($1::bytea)", 1, &param);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_INVALID_TOKEN;
	if (s == STATUS_OK) {
		*id = col_text(call, res, 0, 0);
		tenant = col_text(call, res, 0, 1);
		user = col_text(call, res, 0, 2);
		scope = col_text(call, res, 0, 3);
	}
	PQclear(res);
	if (s == STATUS_OK)
		s = member_in(call, db, user, tenant, m);
	if (s != STATUS_OK)
		return s == STATUS_NOT_FOUND ? STATUS_INVALID_TOKEN : s;
	narrow(&m->perms, scope);
	s = touch(db, tenant, *id);
	if (s == STATUS_OK)
		s = member_scope(call, db, m->user_id, &m->scope);
	return s == STATUS_OK ? db_commit(db) : s;
}

/* CONFLICT: they are a member, but may do nothing there before they have a second factor. */
static enum status may_enter(struct db_conn *db, const struct member *m)
{
	struct mfa_standing st;
	enum status s = handler_tenant(db, m->tenant_id);

	if (s == STATUS_OK)
		s = mfa_standing(db, m->user_id, m->tenant_id, &st);
	return s == STATUS_OK && st.required && !st.enabled ? STATUS_CONFLICT : s;
}

static enum status by_member(struct rpc_call *call, struct db_conn *db, const Crm__V1__PrincipalRequest *req, struct member *m)
{
	char user[UUID_TEXT + 1];
	enum status s;

	if (!req->user_id || !uuid_parse(str_of(req->user_id), user))
		return STATUS_BAD_REQUEST;
	s = db_begin(db, (struct str){ "", 0 });
	if (s == STATUS_OK)
		s = member_find(call, db, arena_strdup(&call->arena, str_of(user)), req->tenant, m);
	if (s == STATUS_NOT_FOUND)
		return STATUS_PERMISSION_DENIED;
	if (s == STATUS_OK)
		s = may_enter(db, m); /* sets the tenant */
	if (s == STATUS_OK)
		s = member_scope(call, db, m->user_id, &m->scope);
	return s == STATUS_OK ? db_commit(db) : s;
}

void auth_principal_resolve(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__PrincipalRequest *req = handler_request(call, &crm__v1__principal_request__descriptor);
	struct member m = { 0 };
	const char *api_key_id = NULL;
	enum status s;

	if (!req)
		return;
	s = req->api_key ? by_key(call, db, req->api_key, &m, &api_key_id) : by_member(call, db, req, &m);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		reply(call, &m, api_key_id);
}
