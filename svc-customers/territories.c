/* Territories.AssignAccounts: puts accounts into a territory, all of them or none. */
#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "proto/options.pb-c.h"
#include "resource/engine.h"
#include "svc-customers/keys.h"
#include "svc-customers/ops.h"

#define ASSIGN_MAX 1000

struct assign {
	struct rpc_call *call;
	struct db_conn *db;
	struct entity_key territory;
	char territory_id[37], user[37];
	struct buf ids, seqs; /* array literals */
	size_t n;
	bool bad;
	uint64_t assigned;
};

static void account_add(struct assign *a, struct str wire)
{
	struct entity_key k = entity_key_read(a->call, wire);
	struct buf *b = k.id ? &a->ids : &a->seqs;

	a->n++;
	if (k.bad || (!k.id && !k.seq)) {
		a->bad = true;
		return;
	}
	if (b->n > 1)
		buf_c(b, ',');
	buf_z(b, k.id ? k.id : k.seq);
}

static bool request_read(struct assign *a)
{
	struct wire_reader r = wire_read(a->call->payload);
	struct wire_field f;

	buf_c(&a->ids, '{');
	buf_c(&a->seqs, '{');
	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			a->territory = entity_key_read(a->call, f.bytes);
		else if (f.number == 2 && f.type == WIRE_BYTES && a->n <= ASSIGN_MAX)
			account_add(a, f.bytes);
	}
	buf_c(&a->ids, '}');
	buf_c(&a->seqs, '}');
	if (a->n == 0)
		rpc_violate(a->call, "account", "required", "is required", NULL);
	else if (a->n > ASSIGN_MAX)
		rpc_violate(a->call, "account", "max_items", "must have at most 1000 elements", "1000");
	else if (a->bad)
		rpc_violate(a->call, "account", "exists", "does not exist", NULL);
	return !r.bad;
}

/* How many keys point to nothing, and how many accounts the others mean. */
static enum status accounts_check(struct assign *a)
{
	const char *params[] = { buf_cstr(&a->ids), buf_cstr(&a->seqs) };
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
	const char *params[] = { buf_cstr(&a->ids), buf_cstr(&a->seqs), a->territory_id, a->user[0] ? a->user : NULL };
	PGresult *res = NULL;
	enum status s = db_exec(a->db, &res,
	    "WITH b AS (SELECT * FROM account t WHERE t.deleted_at IS NULL AND (t.id = ANY($1::uuid[]) OR t.seq = ANY($2::bigint[]))"
	    " AND t.territory_id IS DISTINCT FROM $3::uuid ORDER BY t.id FOR UPDATE)"
	    " UPDATE account t SET territory_id = $3::uuid, version = t.version + 1, updated_at = now(), updated_by = $4::uuid"
	    " FROM b WHERE t.tenant_id = b.tenant_id AND t.id = b.id RETURNING t.id, t.seq, t.version, to_jsonb(b) - 'search', to_jsonb(t) - 'search'", 4, params);

	return entity_events(a->db, a->call, "customers.account.updated", "account", s, res);
}

static enum status assign(struct assign *a, struct buf *out)
{
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
	wire_put_bytes(out, 1, territory);
	wire_put_varint(out, 2, a->assigned);
	return idempotent_finish(a->db, a->call, buf_view(out));
}

static void assign_reply(struct assign *a)
{
	struct buf out = { 0 };
	enum status s = assign(a, &out);

	if (s == STATUS_OK)
		s = resource_commit(a->db, a->call);
	else
		db_rollback(a->db);
	if (s == STATUS_OK)
		rpc_reply_ok(a->call, buf_view(&out));
	else
		rpc_reply_error(a->call, s, NULL);
	buf_fini(&out);
}

static void assign_begin(struct assign *a)
{
	enum status s;

	if (!request_read(a)) {
		rpc_reply_error(a->call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (a->call->n_violations) {
		rpc_reply_error(a->call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	s = db_begin(a->db, a->call->who.tenant_id);
	if (s != STATUS_OK)
		rpc_reply_error(a->call, s, NULL);
	else if (idempotent_begin(a->db, a->call) == IDEM_REPLIED)
		db_rollback(a->db);
	else
		assign_reply(a);
}

void territory_assign(struct rpc_call *call, struct db_conn *db)
{
	struct assign a = { .call = call, .db = db };

	if (!uuid_parse(call->who.user_id, a.user))
		a.user[0] = 0;
	assign_begin(&a);
	buf_fini(&a.ids);
	buf_fini(&a.seqs);
}
