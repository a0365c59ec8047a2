/* The caller's logins: list them, end one, end all others. */
#include "auth.h"

#include "base/codec.h"
#include "people.h"
#include "resource/engine.h"
#include "session.h"

#define SHOWN "100"

static Crm__V1__Login *login_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Login *l = arena_alloc(&call->arena, sizeof(*l));

	crm__v1__login__init(l);
	l->id = col_text(call, res, i, 0);
	l->has_created_us = l->has_expires_us = l->has_last_used_us = l->has_current = 1;
	l->created_us = col_i64(res, i, 1);
	l->dialect = col_text(call, res, i, 2);
	l->expires_us = col_i64(res, i, 3);
	l->last_used_us = col_i64(res, i, 4);
	l->client_ip = col_text(call, res, i, 5);
	l->user_agent = col_text(call, res, i, 6);
	l->current = str_eq(str_of(l->id), call->who.session_id);
	l->tenant = arena_alloc(&call->arena, sizeof(*l->tenant));
	crm__v1__ref__init(l->tenant);
	l->tenant->id = col_text(call, res, i, 7);
	return l;
}

/* A key acts for a person within its scopes; their logins are none of its business. */
static bool refuse_key(struct rpc_call *call)
{
	if (!call->who.api_key_id.n)
		return false;
	rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
	return true;
}

/* A session is alive while its refresh token is; the newest come first. */
void auth_sessions(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ListRequest *req = handler_request(call, &crm__v1__list_request__descriptor);
	Crm__V1__ListReply out = CRM__V1__LIST_REPLY__INIT;
	const char *user = param_str(call, call->who.user_id);
	PGresult *res = NULL;
	enum status s;

	if (!req || refuse_key(call))
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "SELECT s.id, " SQL_US("s.created_at") ", s.dialect, " SQL_US("s.expires_at") ", " SQL_US("s.last_used_at")
			    ", s.client_ip, s.user_agent, s.tenant_id FROM session s WHERE s.user_id = $1::uuid AND s.revoked_at IS NULL AND s.expires_at > now()"
			    " AND EXISTS (SELECT FROM refresh_token t WHERE t.session_id = s.id AND t.expires_at > now())"
			    " ORDER BY s.last_used_at DESC, s.id DESC LIMIT " SHOWN,
			    1, &user);
	if (s == STATUS_OK) {
		out.item = arena_alloc(&call->arena, (size_t)(PQntuples(res) + 1) * sizeof(*out.item));
		for (int i = 0; i < PQntuples(res); i++) {
			struct str bytes = handler_pack(call, login_of_row(call, res, i));

			out.item[out.n_item++] = (ProtobufCBinaryData){ bytes.n, (uint8_t *)bytes.p };
		}
		out.has_total = 1;
		out.total = out.n_item;
		s = db_commit(db);
	}
	PQclear(res);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, &out);
}

static enum status note(struct rpc_call *call, struct db_conn *db, const char *session)
{
	struct entity_event e = { .type = "auth.session.ended", .entity = "session", .entity_id = session };

	return handler_event(call, db, &e);
}

static enum status end_one(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key)
{
	char id[UUID_TEXT + 1];
	const char *params[] = { id, param_str(call, call->who.user_id) };
	PGresult *res = NULL;
	bool found;
	enum status s;

	if (!key || !key->id || !uuid_parse(str_of(key->id), id))
		return STATUS_NOT_FOUND;
	s = db_exec(db, &res, "SELECT FROM session WHERE id = $1::uuid AND user_id = $2::uuid AND revoked_at IS NULL FOR UPDATE", 2, params);
	found = s == STATUS_OK && PQntuples(res);
	PQclear(res);
	if (s == STATUS_OK && !found)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		s = session_revoke(call, db, arena_strdup(&call->arena, str_of(id)), "ended by its owner");
	return s == STATUS_OK ? note(call, db, arena_strdup(&call->arena, str_of(id))) : s;
}

void auth_session_end(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || refuse_key(call))
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = end_one(call, db, req->key);
	handler_end(call, db, s, NULL);
}

/* All but the one that asks. */
void auth_sessions_end(struct rpc_call *call, struct db_conn *db)
{
	enum status s;

	if (refuse_key(call))
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = sessions_end(db, param_str(call, call->who.user_id), NULL, param_str(call, call->who.session_id), "ended by their owner");
	if (s == STATUS_OK)
		s = note(call, db, param_str(call, call->who.session_id));
	handler_end(call, db, s, NULL);
}
