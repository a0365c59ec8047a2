/* What gateways poll: published keys and health (from memory), changes (one indexed statement on the event loop). */
#include "auth.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/version.h"
#include "proto/auth.pb-c.h"
#include "resource/handler.h"
#include "keys.h"
#include "service/service.h"

#define FEED_MAX 5000
#define FEED_LIMIT "5000"

void auth_jwks(struct rpc_call *call)
{
	Crm__V1__JwksReply out = CRM__V1__JWKS_REPLY__INIT;

	out.jwks = keys_jwks(&call->arena);
	handler_reply(call, &out);
}

void auth_health(struct rpc_call *call)
{
	Crm__V1__HealthReply out = CRM__V1__HEALTH_REPLY__INIT;

	if (!db_healthy(service_db())) {
		rpc_reply_error(call, STATUS_UNAVAILABLE, NULL);
		return;
	}
	out.status = "healthy";
	out.version = (char *)crm_version;
	out.has_time_us = 1;
	out.time_us = clock_us();
	handler_reply(call, &out);
}

/* Results are binary here, so every column is text and read as such. */
static int64_t number(const PGresult *res, int row, int col)
{
	char text[24] = "";
	int n = PQgetlength(res, row, col);

	if (!PQgetisnull(res, row, col) && n < (int)sizeof(text))
		memcpy(text, PQgetvalue(res, row, col), (size_t)n);
	return strtoll(text, NULL, 10);
}

static Crm__V1__Change *change_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Change *c = arena_alloc(&call->arena, sizeof(*c));

	crm__v1__change__init(c);
	c->kind = col_text(call, res, i, 2);
	c->id = col_text(call, res, i, 3);
	c->has_epoch_us = !col_is_null(res, i, 4);
	c->epoch_us = number(res, i, 4);
	c->has_permissions_low = c->has_permissions_high = !col_is_null(res, i, 5);
	c->permissions_low = (uint64_t)number(res, i, 5);
	c->permissions_high = (uint64_t)number(res, i, 6);
	c->role = col_text(call, res, i, 7);
	c->has_revoked = 1;
	c->revoked = *PQgetvalue(res, i, 8) == 't';
	c->has_limited = 1;
	c->limited = *PQgetvalue(res, i, 9) == 't';
	return c;
}

/* Rows: xmin of the snapshot, xid of the row, then the row; one row of NULLs when nothing changed. */
static void answer(void *arg, const struct db_result *r)
{
	struct rpc_call *call = arg;
	Crm__V1__ChangesReply out = CRM__V1__CHANGES_REPLY__INIT;
	const PGresult *res;
	int n;

	if (r->status != STATUS_OK) {
		rpc_reply_error(call, r->status, NULL);
		return;
	}
	res = r->res[0];
	n = PQntuples(res);
	out.change = arena_alloc(&call->arena, (size_t)(n + 1) * sizeof(*out.change));
	out.has_cursor = 1;
	for (int i = 0; i < n; i++) {
		if (!col_is_null(res, i, 2))
			out.change[out.n_change++] = change_of_row(call, res, i);
	}
	out.cursor = n ? number(res, 0, 0) : 0;
	out.has_more = out.more = n >= FEED_MAX;
	if (n >= FEED_MAX && number(res, n - 1, 1) < out.cursor) /* cut off: go on from the last transaction that was seen */
		out.cursor = number(res, n - 1, 1);
	handler_reply(call, &out);
}

void auth_changes(struct rpc_call *call)
{
	Crm__V1__ChangesRequest *req = handler_request(call, &crm__v1__changes_request__descriptor);
	const char *cursor;
	struct db_stmt stmt = { .params = &cursor, .n_params = 1 };

	if (!req)
		return;
	cursor = param_i64(call, req->has_cursor && req->cursor > 0 ? req->cursor : 0);
	stmt.sql = STR("SELECT s.xmin::text, c.xid::text, c.kind, c.id, c.epoch_us::text, c.permissions_low::text, c.permissions_high::text, c.role,"
		       " c.revoked::text, c.limited::text FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) s"
		       " LEFT JOIN (SELECT * FROM change WHERE xid >= $1::text::xid8 ORDER BY xid LIMIT " FEED_LIMIT ") c ON true ORDER BY c.xid");
	db_submit(service_db(), DB_READ, (struct str){ "", 0 }, &stmt, 1, call->deadline_us, answer, call);
}
