/* AuditLogs.Observe: what gateways refused becomes events of the tenants it concerns. */
#include "events/relay.h"
#include "proto/audit.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-audit/audit.h"

#define AT_MOST 100

/*
 * A forged token can name any tenant: only one that has a log gets an entry, so nobody can make logs. The id is the gateway's: a
 * report that is sent again is the same event, which consumers do once.
 */
static const char insert_sql[] =
    "INSERT INTO outbox (event_id, tenant_id, type, entity, after, user_id, api_key_id, request_id, dialect, client_ip, user_agent)"
    " SELECT $1, c.tenant_id, 'audit.access.' || $2 || '_refused', 'access', jsonb_build_object('count', $3::bigint, 'reason', $4::text, 'request', $5::text,"
    " 'first_at', to_timestamp($6::bigint / 1e6), 'last_at', to_timestamp($7::bigint / 1e6)), $8, $9, $10, $11, $12, $13"
    " FROM chain c WHERE c.tenant_id = current_setting('app.tenant_id')::uuid";

static enum status observation_write(struct rpc_call *call, struct db_conn *db, const Crm__V1__Observation *o)
{
	const char *params[] = { o->id, o->kind, param_i64(call, (int64_t)o->count), o->reason, o->what, param_i64(call, o->first_us), param_i64(call, o->last_us),
		o->user_id, o->api_key_id, o->request_id, o->dialect, o->ip, o->user_agent };
	enum status s = handler_tenant(db, o->tenant_id);

	return s == STATUS_OK ? db_exec(db, NULL, insert_sql, sizeof(params) / sizeof(params[0]), params) : s;
}

void audit_observe(struct rpc_call *call, struct db_conn *db)
{
	const Crm__V1__ObserveRequest *req = handler_request(call, &crm__v1__observe_request__descriptor);
	enum status s;

	if (!req)
		return;
	if (req->n_observation > AT_MOST) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	s = db_begin(db, STR(""));
	for (size_t i = 0; s == STATUS_OK && i < req->n_observation; i++)
		s = observation_write(call, db, req->observation[i]);
	handler_end(call, db, s, NULL);
	relay_wake();
}
