/* Deals.Clone: the same deal once more, open and from the start. */
#include <inttypes.h>

#include "base/codec.h"
#include "proto/sales.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-sales/ops.h"

#define COPIED "custom_fields, title, description, account_id, contact_id, lead_id, value, expected_close, owner_id, source, lines"

static enum status copy(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, char id[UUID_TEXT + 1])
{
	char user[UUID_TEXT + 1] = "";
	const char *params[5] = { key->id, key->has_seq ? param_i64(call, key->seq) : NULL, id };
	PGresult *res = NULL;
	int64_t seq = 0;
	enum status s = resource_seq(db, call, "deal", &seq);

	params[3] = param_i64(call, seq);
	params[4] = uuid_parse(call->who.user_id, user) ? user : NULL;
	uuid7(id);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "INSERT INTO deal AS t (tenant_id, id, seq, created_by, updated_by, " COPIED ") SELECT tenant_id, $3::uuid, $4::bigint, $5::uuid, $5::uuid,"
			    " custom_fields, left('Copy of ' || title, 200), description, account_id, contact_id, lead_id, value, expected_close, owner_id, source, lines"
			    " FROM deal WHERE deleted_at IS NULL AND (id = $1::uuid OR ($1 IS NULL AND seq = $2::bigint)) RETURNING to_jsonb(t) - 'search'",
			    5, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		s = resource_event(db, call, "sales.deal.created", "deal", id, seq, 1, NULL, PQgetvalue(res, 0, 0));
	PQclear(res);
	return s;
}

void deal_clone(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	char id[UUID_TEXT + 1];
	struct str reply = { 0 };
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = req->key ? copy(call, db, req->key, id) : STATUS_BAD_REQUEST;
	if (s == STATUS_OK)
		s = resource_read(db, call, &deal_resource, id, &reply);
	handler_end_once_packed(call, db, s, reply);
}
