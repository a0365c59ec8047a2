/* Products.AdjustStock: one movement of the ledger, by hand. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "proto/sales.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-sales/ops.h"

/* The sign that a kind of movement has; 0: as it was sent. */
static int sign_of(const char *kind)
{
	static const struct {
		const char *kind;
		int sign;
	} rows[] = { { "restock", 1 }, { "return", 1 }, { "sale", -1 }, { "damage", -1 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (strcmp(rows[i].kind, kind) == 0)
			return rows[i].sign;
	return 0;
}

static enum status move(struct rpc_call *call, struct db_conn *db, const Crm__V1__AdjustStockRequest *req, const char **id)
{
	const char *kind = req->kind ? req->kind : "adjustment";
	int sign = sign_of(kind);
	int64_t amount = sign ? sign * llabs(req->quantity) : req->quantity;
	char user[UUID_TEXT + 1] = "";
	const char *params[] = { req->key->id, req->key->has_seq ? param_i64(call, req->key->seq) : NULL, kind, param_i64(call, amount), req->unit_cost, req->reason,
		uuid_parse(call->who.user_id, user) ? user : NULL };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
		"WITH b AS MATERIALIZED (SELECT * FROM product t WHERE t.deleted_at IS NULL AND (t.id = $1::uuid OR ($1 IS NULL AND t.seq = $2::bigint)) FOR UPDATE)"
		" SELECT b.id, b.seq, (m.p).version, to_jsonb(b) - 'search', to_jsonb(m.p) - 'search'"
		" FROM b, LATERAL (SELECT stock_move(b.tenant_id, b.id, $3, $4::bigint, $5::numeric, $6, NULL, $7::uuid) AS p) m", 7, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		*id = col_text(call, res, 0, 0);
		s = resource_event(db, call, "sales.product.stock_changed", "product", *id, col_i64(res, 0, 1), (uint64_t)col_i64(res, 0, 2), PQgetvalue(res, 0, 3), PQgetvalue(res, 0, 4));
	}
	PQclear(res);
	return s;
}

void product_adjust_stock(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__AdjustStockRequest *req = handler_request(call, &crm__v1__adjust_stock_request__descriptor);
	const char *id = NULL;
	struct str reply = { 0 };
	enum status s;

	if (!req)
		return;
	if (req->quantity == 0) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "quantity", "invalid", "must not be zero");
		return;
	}
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = req->key ? move(call, db, req, &id) : STATUS_BAD_REQUEST;
	if (s == STATUS_OK)
		s = resource_read(db, call, &product_resource, id, &reply);
	handler_end_once_packed(call, db, s, reply);
}
