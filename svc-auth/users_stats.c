/* Users.Stats: the people of the tenant in numbers. */
#include "auth.h"

#include "proto/auth.pb-c.h"
#include "resource/handler.h"

static enum status totals(struct db_conn *db, Crm__V1__UserStats *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT count(*), count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'inactive'),"
				" count(*) FILTER (WHERE last_login_at > now() - interval '24 hours'), count(*) FILTER (WHERE last_login_at > now() - interval '30 days'),"
				" count(*) FILTER (WHERE created_at >= date_trunc('month', now())),"
				" (SELECT count(*) FROM invitation WHERE status = 'pending' AND expires_at > now()) FROM membership WHERE status <> 'deleted'",
				0, NULL);

	if (s == STATUS_OK) {
		out->has_total = out->has_active = out->has_inactive = out->has_active_today = out->has_active_month = out->has_new_this_month = out->has_invited = 1;
		out->total = col_i64(res, 0, 0);
		out->active = col_i64(res, 0, 1);
		out->inactive = col_i64(res, 0, 2);
		out->active_today = col_i64(res, 0, 3);
		out->active_month = col_i64(res, 0, 4);
		out->new_this_month = col_i64(res, 0, 5);
		out->invited = col_i64(res, 0, 6);
	}
	PQclear(res);
	return s;
}

static enum status by_role(struct rpc_call *call, struct db_conn *db, Crm__V1__UserStats *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT role, count(*) FROM membership WHERE status <> 'deleted' GROUP BY role ORDER BY 2 DESC, 1", 0, NULL);
	int n = s == STATUS_OK ? PQntuples(res) : 0;

	out->by_role = arena_alloc(&call->arena, (size_t)(n + 1) * sizeof(*out->by_role));
	for (int i = 0; i < n; i++) {
		Crm__V1__UserCount *c = arena_alloc(&call->arena, sizeof(*c));

		crm__v1__user_count__init(c);
		c->role = col_text(call, res, i, 0);
		c->has_count = 1;
		c->count = col_i64(res, i, 1);
		out->by_role[out->n_by_role++] = c;
	}
	PQclear(res);
	return s;
}

void users_stats(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__UserStats out = CRM__V1__USER_STATS__INIT;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = totals(db, &out);
	if (s == STATUS_OK)
		s = by_role(call, db, &out);
	handler_end(call, db, s, &out);
}
