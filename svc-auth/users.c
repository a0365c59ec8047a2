/* People of the caller's tenant: List, Get, and the names behind references (Refs). */
#include "auth.h"

#include "base/codec.h"
#include "list.h"
#include "session.h"

#define REFS_MAX 2000

static struct str user_row(struct rpc_call *call, const PGresult *res, int row)
{
	return handler_pack(call, user_of_row(call, res, row));
}

static const struct list_column user_columns[] = {
	{ 2, LIST_NUMBER, "seq", false },
	{ 4, LIST_NUMBER, SQL_US("created_at"), false },
	{ 5, LIST_NUMBER, SQL_US("updated_at"), false },
	{ 16, LIST_TEXT, "email", true },
	{ 17, LIST_TEXT, "display", true },
	{ 18, LIST_TEXT, "given", false },
	{ 19, LIST_TEXT, "family", false },
	{ 20, LIST_TEXT, "role", false },
	{ 22, LIST_TEXT, "status", false },
	{ 24, LIST_NUMBER, SQL_US("last_login_at"), false },
};

static const struct list users = {
	.columns = USER_COLUMNS,
	.from = "user_view WHERE true",
	.id = "id",
	.known = user_columns,
	.n_known = sizeof(user_columns) / sizeof(*user_columns),
	.default_sort = 2,
	.row = user_row,
};

void users_list(struct rpc_call *call, struct db_conn *db)
{
	list_run(call, db, &users, NULL);
}

void users_export(struct rpc_call *call, struct db_conn *db)
{
	list_export(call, db, &users, "auth.user.exported", "user");
}

static enum status get(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, Crm__V1__User **u)
{
	char id[UUID_TEXT + 1];
	bool by_id = key->id && uuid_parse(str_of(key->id), id);
	const char *params[] = { by_id ? id : NULL, !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	PGresult *res = NULL;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT " USER_COLUMNS " FROM user_view WHERE id = $1::uuid OR seq = $2::bigint", 2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*u = user_of_row(call, res, 0);
	PQclear(res);
	return s == STATUS_OK ? db_commit(db) : s;
}

void users_get(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	Crm__V1__User *u = NULL;
	enum status s;

	if (!req)
		return;
	s = req->key ? get(call, db, req->key, &u) : STATUS_BAD_REQUEST;
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, u);
}

static enum status refs_read(struct rpc_call *call, struct db_conn *db, const Crm__V1__RefsRequest *req, PGresult **res)
{
	char **ids = arena_alloc(&call->arena, req->n_key * sizeof(char *)), **seqs = arena_alloc(&call->arena, req->n_key * sizeof(char *));
	const char *params[2];
	enum status s = db_begin(db, call->who.tenant_id);

	for (size_t i = 0; i < req->n_key; i++) {
		const Crm__V1__Key *k = req->key[i];
		bool by_id = k->id && uuid_parse(str_of(k->id), NULL);

		ids[i] = by_id ? k->id : "00000000-0000-0000-0000-000000000000";
		seqs[i] = !by_id && k->has_seq ? (char *)param_i64(call, k->seq) : "-1";
	}
	params[0] = param_array(call, ids, req->n_key);
	params[1] = param_array(call, seqs, req->n_key);
	if (s == STATUS_OK)
		s = db_exec(db, res,
			    "SELECT p.id, coalesce(a.seq, b.seq), coalesce(nullif(p.display, ''), p.email), p.email"
			    " FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS k(id, seq, n)"
			    " LEFT JOIN membership a ON a.user_id = k.id LEFT JOIN membership b ON b.seq = k.seq"
			    " LEFT JOIN person p ON p.id = coalesce(a.user_id, b.user_id) ORDER BY k.n",
			    2, params);
	return s == STATUS_OK ? db_commit(db) : s;
}

static Crm__V1__Ref *ref_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Ref *r = arena_alloc(&call->arena, sizeof(*r));

	crm__v1__ref__init(r);
	if (col_is_null(res, i, 0))
		return r;
	r->id = col_text(call, res, i, 0);
	r->has_seq = 1;
	r->seq = col_i64(res, i, 1);
	r->name = col_text(call, res, i, 2);
	r->email = col_text(call, res, i, 3);
	return r;
}

void users_refs(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__RefsRequest *req = handler_request(call, &crm__v1__refs_request__descriptor);
	Crm__V1__RefsReply out = CRM__V1__REFS_REPLY__INIT;
	PGresult *res = NULL;
	enum status s;

	if (!req)
		return;
	if (req->n_key > REFS_MAX) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	s = refs_read(call, db, req, &res);
	if (s == STATUS_OK) {
		out.ref = arena_alloc(&call->arena, (req->n_key + 1) * sizeof(*out.ref));
		for (int i = 0; i < PQntuples(res); i++)
			out.ref[out.n_ref++] = ref_of_row(call, res, i);
	}
	PQclear(res);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, &out);
}
