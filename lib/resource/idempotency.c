/*
 * Idempotency keys. The transaction of the effect begins with a lock on the key, so that a second request waits for the first, and
 * ends with the key's row. Nothing is written before the effect: a transaction gets its number with its first write, and events
 * are carried in the order of these numbers. With one that is older than the row's lock they would overtake each other.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "db/row.h"
#include "events/relay.h"
#include "resource/write.h"
#include "telemetry/metrics.h"

#define NIL_UUID "00000000-0000-0000-0000-000000000000"

/* The six parameters that name a key, the hash last. */
struct idem_params {
	char tenant[UUID_TEXT + 1], user[UUID_TEXT + 1];
	char hash[2 + 64 + 1];
	const char *list[6];
};

static bool params_fill(struct idem_params *p, struct rpc_call *call)
{
	const char *key = text_param(&call->arena, call->idempotency_key);
	const char *dialect = text_param(&call->arena, call->dialect);

	if (!uuid_parse(call->who.tenant_id, p->tenant) || !key || !dialect || call->idempotency_hash.n != 32)
		return false;
	if (!uuid_parse(call->who.user_id, p->user))
		memcpy(p->user, NIL_UUID, sizeof(p->user));
	memcpy(p->hash, "\\x", 2);
	hex_encode(call->idempotency_hash.p, 32, p->hash + 2);
	const char *const list[6] = { p->tenant, p->user, dialect, arena_strdup(&call->arena, call->rpc), key, p->hash };

	memcpy(p->list, list, sizeof(list));
	return true;
}

/* The bytea "\x…" of a text result. */
static bool reply_decode(struct rpc_call *call, struct str hex, struct str *out)
{
	uint8_t *bytes;
	size_t n;

	if (hex.n < 2 || hex.n % 2)
		return false;
	n = (hex.n - 2) / 2;
	bytes = arena_alloc(&call->arena, n + 1);
	*out = (struct str){ (char *)bytes, n };
	return hex_decode((struct str){ hex.p + 2, hex.n - 2 }, bytes, n);
}

static struct metric repeats = { .name = "crm_idempotency_repeats_total", .type = METRIC_COUNTER, .labels = { "outcome" },
	.help = "Writes whose key had been used: replayed, or refused as another request (mismatch) or as not done yet (running)" };

static void count_repeat(const char *outcome, int64_t n)
{
	metric_add(metric_series(&repeats, str_of(outcome)), n);
}

void idempotency_init(void)
{
	count_repeat("replayed", 0);
	count_repeat("mismatch", 0);
	count_repeat("running", 0);
}

static void replay(struct rpc_call *call, const PGresult *res)
{
	bool done = !PQgetisnull(res, 0, 1), same = done && PQgetvalue(res, 0, 0)[0] == 't';

	count_repeat(same ? "replayed" : done ? "mismatch" : "running", 1);
	struct str reply;

	if (!done)
		rpc_reply_error(call, STATUS_IDEMPOTENCY_RUNNING, NULL);
	else if (!same)
		rpc_reply_error(call, STATUS_IDEMPOTENCY_MISMATCH, NULL);
	else if (!reply_decode(call, row_text(res, 0, 1), &reply))
		rpc_reply_error(call, STATUS_INTERNAL, NULL);
	else
		rpc_reply_replayed(call, reply);
}

/* A key that another transaction still holds after lock_timeout. */
static void begin_failed(struct db_conn *db, struct rpc_call *call, enum status s)
{
	if (strcmp(db_sqlstate(db), "55P03") == 0) {
		count_repeat("running", 1);
		rpc_reply_retry(call, STATUS_IDEMPOTENCY_RUNNING, NULL, 1000);
		return;
	}
	rpc_reply_error(call, s, NULL);
}

enum idem idempotent_begin(struct db_conn *db, struct rpc_call *call)
{
	struct idem_params p;
	PGresult *res = NULL;
	enum status s;

	if (!call->idempotency_key.n)
		return IDEM_RUN;
	if (!params_fill(&p, call)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, "The Idempotency-Key is malformed");
		return IDEM_REPLIED;
	}
	s = db_exec(db, NULL, "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'crm.idempotency', current_schema(), $1::text, $2::text, $3::text, $4::text, $5::text), 0))",
	    5, p.list);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
		    "SELECT request_hash = $6::bytea, reply FROM idempotency"
		    " WHERE tenant_id = $1 AND user_id = $2 AND dialect = $3 AND rpc = $4 AND key = $5", 6, p.list);
	if (s == STATUS_OK && PQntuples(res) == 0) {
		PQclear(res);
		return IDEM_RUN;
	}
	if (s == STATUS_OK)
		replay(call, res);
	else
		begin_failed(db, call, s);
	PQclear(res);
	return IDEM_REPLIED;
}

enum status idempotent_finish(struct db_conn *db, struct rpc_call *call, struct str reply)
{
	struct idem_params p;
	const char *params[7];
	char *hex;

	if (!call->idempotency_key.n)
		return STATUS_OK;
	if (!params_fill(&p, call))
		return STATUS_BAD_REQUEST;
	hex = arena_alloc(&call->arena, reply.n * 2 + 3);
	memcpy(hex, "\\x", 3);
	if (reply.n)
		hex_encode(reply.p, reply.n, hex + 2);
	memcpy(params, p.list, sizeof(p.list));
	params[6] = hex;
	return db_exec(db, NULL, "INSERT INTO idempotency (tenant_id, user_id, dialect, rpc, key, request_hash, reply) VALUES ($1, $2, $3, $4, $5, $6, $7)", 7, params);
}

static enum status write_exec(struct write *w, struct db_conn *db, struct buf *out)
{
	PGresult *res = NULL;
	enum status s;
	int64_t seq;

	if (w->kind == OP_CREATE) {
		s = seq_lease(db, w->actor.tenant, w->b->plan->entity, 1, &seq);
		if (s != STATUS_OK)
			return s;
		snprintf(w->seq, sizeof(w->seq), "%" PRId64, seq);
		w->sql.params[w->seq_at] = w->seq;
	}
	s = db_exec(db, &res, sql_stmt(&w->sql).sql.p, w->sql.n, w->sql.params);
	if (s == STATUS_OK)
		s = write_reply(w, res, out);
	else
		s = db_error_explain(w->call, w->b->plan, &(struct db_error){ s, db_constraint(db), db_sqlstate(db), db_said(db) });
	PQclear(res);
	return s;
}

static enum counts_outcome outcome_of(enum status s, enum status committed)
{
	if (s == STATUS_OK && committed == STATUS_OK)
		return COUNTS_COMMITTED;
	return s == STATUS_OK ? COUNTS_UNSURE : COUNTS_ABORTED;
}

/* Runs the write and its key's reply in one transaction; a write that fails takes its key with it. */
static void write_keyed(struct write *w, struct db_conn *db, struct buf *out)
{
	struct rpc_call *call = w->call;
	enum status s, committed = STATUS_OK;

	counts_begin(call->who.tenant_id, w->b->plan->entity);
	s = w->kind == OP_UPSERT ? upsert_choose(w, db) : STATUS_OK;
	if (s == STATUS_OK)
		s = write_exec(w, db, out);
	if (w->b->op->kind == OP_UPSERT)
		write_fini(w);
	if (w->b->op->kind == OP_UPSERT && s == STATUS_NOT_FOUND)
		s = STATUS_CONFLICT; /* deleted by somebody between looking and writing */
	if (s == STATUS_OK)
		s = idempotent_finish(db, call, buf_view(out));
	if (s == STATUS_OK)
		committed = db_commit(db);
	else
		db_rollback(db);
	counts_end(call->who.tenant_id, w->b->plan->entity, call->who.user_id, write_delta(w), outcome_of(s, committed));
	if (s == STATUS_OK && committed == STATUS_OK) {
		if (w->values.n_tags)
			counts_changed(call->who.tenant_id, "tag", call->who.user_id);
		relay_wake();
		rpc_reply_ok(call, buf_view(out));
		return;
	}
	rpc_reply_error(call, s != STATUS_OK ? s : committed, NULL);
}

void write_on_worker(struct db_conn *db, void *arg)
{
	struct write *w = arg;
	struct rpc_call *call = w->call;
	struct buf out = { 0 }, text = w->sql.b;
	enum status s;

	db_limit(db, call->who.scope);
	s = db_begin(db, call->who.tenant_id);
	if (s != STATUS_OK)
		rpc_reply_error(call, s, NULL);
	else if (idempotent_begin(db, call) == IDEM_REPLIED)
		db_rollback(db);
	else
		write_keyed(w, db, &out);
	buf_fini(&text); /* of an upsert there was none yet; w lives in the call's arena, which ended with the reply */
	buf_fini(&out);
}
