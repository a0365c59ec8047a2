/* Territories.AssignAccounts: puts accounts into a territory, all of them or none. */
#include "base/wire.h"
#include "db/array.h"
#include "proto/customers.pb-c.h"
#include "proto/options.pb-c.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "svc-customers/keys.h"
#include "svc-customers/ops.h"

#define ASSIGN_MAX 1000

struct assign {
	struct rpc_call *call;
	struct db_conn *db;
	const Crm__V1__AssignAccountsRequest *req;
	struct entity_key territory;
	char territory_id[37];
	const char *ids, *seqs; /* array literals */
	uint64_t assigned;
};

/* False: violations were collected. */
static bool accounts_read(struct assign *a)
{
	struct buf ids = { 0 }, seqs = { 0 };
	size_t n = a->req->n_account;
	bool bad = false;

	for (size_t i = 0; i < n && n <= ASSIGN_MAX; i++) {
		struct handler_key k = handler_key(a->call, a->req->account[i]);

		if (k.id || k.seq)
			db_array_put(k.id ? &ids : &seqs, str_of(k.id ? k.id : k.seq));
		else
			bad = true;
	}
	a->ids = db_array_end(&ids, &a->call->arena);
	a->seqs = db_array_end(&seqs, &a->call->arena);
	if (n == 0)
		rpc_violate(a->call, "account", "required", "is required", NULL);
	else if (n > ASSIGN_MAX)
		rpc_violate(a->call, "account", "max_items", "must have at most 1000 elements", "1000");
	else if (bad)
		rpc_violate(a->call, "account", "exists", "does not exist", NULL);
	return a->call->n_violations == 0;
}

/* How many keys point to nothing, and how many accounts the others mean. */
static enum status accounts_check(struct assign *a)
{
	const char *params[] = { a->ids, a->seqs };
	PGresult *res = NULL;
	enum status s = db_exec(a->db, &res,
	    "SELECT (SELECT count(*) FROM unnest($1::uuid[]) k WHERE NOT EXISTS (SELECT FROM account t WHERE t.id = k AND t.deleted_at IS NULL))"
	    " + (SELECT count(*) FROM unnest($2::bigint[]) k WHERE NOT EXISTS (SELECT FROM account t WHERE t.seq = k AND t.deleted_at IS NULL)),"
	    " (SELECT count(*) FROM account t WHERE t.deleted_at IS NULL AND (t.id = ANY($1::uuid[]) OR t.seq = ANY($2::bigint[])))", 2, params);

	if (s == STATUS_OK && strcmp(PQgetvalue(res, 0, 0), "0") != 0) {
		rpc_violate(a->call, "account", "exists", "does not exist", NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_OK && !str_to_u64(str_of(PQgetvalue(res, 0, 1)), &a->assigned))
		s = STATUS_INTERNAL;
	PQclear(res);
	return s;
}

/* Accounts that are in the territory already stay untouched. Locked in the order of id, so that two of these do not deadlock. */
static enum status accounts_assign(struct assign *a)
{
	const char *params[] = { a->ids, a->seqs, a->territory_id, param_str(a->call, a->call->who.user_id) };
	PGresult *res = NULL;
	enum status s = db_exec(a->db, &res,
	    "WITH b AS (SELECT * FROM account t WHERE t.deleted_at IS NULL AND (t.id = ANY($1::uuid[]) OR t.seq = ANY($2::bigint[]))"
	    " AND t.territory_id IS DISTINCT FROM $3::uuid ORDER BY t.id FOR UPDATE)"
	    " UPDATE account t SET territory_id = $3::uuid, version = t.version + 1, updated_at = now(), updated_by = $4::uuid"
	    " FROM b WHERE t.tenant_id = b.tenant_id AND t.id = b.id RETURNING t.id, t.seq, t.version, to_jsonb(b) - 'search', to_jsonb(t) - 'search'", 4, params);

	return entity_events(a->db, a->call, "customers.account.updated", "account", s, res);
}

static enum status assign(struct assign *a, struct str *out)
{
	struct buf b = { 0 };
	struct str territory;
	enum status s = STATUS_PERMISSION_DENIED; /* the method's permission is about territories, but accounts are written */

	if (rpc_may(&a->call->who, CRM__V1__PERMISSION__CUSTOMERS_WRITE))
		s = entity_find(a->db, "territory", &a->territory, a->territory_id);
	if (s == STATUS_OK)
		s = accounts_check(a);
	if (s == STATUS_OK)
		s = accounts_assign(a);
	if (s == STATUS_OK)
		s = resource_read(a->db, a->call, &territory_resource, a->territory_id, &territory);
	if (s != STATUS_OK)
		return s;
	wire_put_bytes(&b, 1, territory);
	wire_put_varint(&b, 2, a->assigned);
	*out = arena_str(&a->call->arena, buf_view(&b));
	buf_fini(&b);
	return idempotent_finish(a->db, a->call, *out);
}

void territory_assign(struct rpc_call *call, struct db_conn *db)
{
	struct assign a = { .call = call, .db = db, .req = handler_request(call, &crm__v1__assign_accounts_request__descriptor) };
	struct handler_key territory;
	struct str out = STR("");
	enum status s;

	if (!a.req)
		return;
	territory = handler_key(call, a.req->key);
	a.territory = (struct entity_key){ .id = territory.id, .seq = territory.seq };
	if (!accounts_read(&a))
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
	else if (handler_begin(call, db, &s))
		handler_end_packed(call, db, s == STATUS_OK ? assign(&a, &out) : s, out);
}
