/* Get, create, update and delete of one entity: one statement each on the event loop. An upsert goes to a worker. */
#include "resource/write.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "events/relay.h"

struct get {
	const struct bound *b;
	struct rpc_call *call;
};

static void reply_bytes(struct rpc_call *call, struct buf *b)
{
	rpc_reply_ok(call, buf_view(b));
	buf_clear(b);
}

static void get_done(void *arg, const struct db_result *r)
{
	struct get *g = arg;

	if (r->status != STATUS_OK) {
		reply_db_error(g->call, g->b->plan, &(struct db_error){ r->status, r->constraint, r->sqlstate, r->said });
		return;
	}
	if (r->row < 0) {
		rpc_reply_error(g->call, STATUS_NOT_FOUND, NULL);
		return;
	}
	buf_clear(&engine.reply);
	entity_show(&engine.reply, g->b->plan, r->res[0], r->row, 0);
	reply_bytes(g->call, &engine.reply);
}

/* KeyRequest and WriteRequest have the key as field 1. False: answered. */
static bool key_or_reply(struct rpc_call *call, struct str wire, struct key *k)
{
	bool bad;

	if (key_parse(&call->arena, wire, k, &bad) && (k->id || k->seq))
		return true;
	rpc_reply_error(call, bad ? STATUS_NOT_FOUND : STATUS_BAD_REQUEST, NULL);
	return false;
}

void get_run(const struct bound *b, struct rpc_call *call)
{
	struct wire_reader r = wire_read(call->payload);
	struct wire_field f;
	struct str wire = { 0 };
	struct get *g = ARENA_NEW(&call->arena, struct get);
	struct key key;

	while (wire_next(&r, &f))
		if (f.number == 1 && f.type == WIRE_BYTES)
			wire = f.bytes;
	if (r.bad) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (!key_or_reply(call, wire, &key))
		return;
	*g = (struct get){ b, call };
	db_lookup(engine.db, call->who.tenant_id, call->who.scope, key.id ? &b->plan->by_id : &b->plan->by_seq, key.id ? key.id : key.seq, call->deadline_us, get_done, g);
}

void write_fini(struct write *w)
{
	buf_fini(&w->sql.b);
}

int write_delta(const struct write *w)
{
	return w->kind == OP_CREATE ? 1 : w->kind == OP_DELETE ? -1 : 0;
}

enum status write_outcome(struct rpc_call *call, const struct plan *p, const PGresult *res, int row)
{
	if (PQgetisnull(res, row, SQL_VERSION))
		return STATUS_NOT_FOUND;
	if (PQgetlength(res, row, SQL_MISSING)) {
		violate_missing(call, p, (struct str){ PQgetvalue(res, row, SQL_MISSING), (size_t)PQgetlength(res, row, SQL_MISSING) });
		return STATUS_VALIDATION_ERROR;
	}
	return PQgetisnull(res, row, SQL_ENTITY) ? STATUS_PRECONDITION_FAILED : STATUS_OK;
}

enum status write_reply(struct write *w, const PGresult *res, struct buf *out)
{
	enum status s = write_outcome(w->call, w->b->plan, res, 0);

	if (s == STATUS_OK && w->kind != OP_DELETE)
		entity_put(out, w->b->plan, res, 0, SQL_ENTITY);
	return s;
}

static enum counts_outcome counts_outcome_of(enum status s, const struct db_result *r)
{
	if (s == STATUS_OK)
		return COUNTS_COMMITTED;
	return r->status == STATUS_DEADLINE_EXCEEDED || r->status == STATUS_UNAVAILABLE ? COUNTS_UNSURE : COUNTS_ABORTED;
}

/* A write that made tags along the way changed their list as well. */
static void tags_changed(const struct write *w)
{
	for (size_t i = 0; i < w->values.n_tags; i++)
		if (w->values.tags[i].name) {
			counts_changed(w->call->who.tenant_id, "tag", w->call->who.user_id);
			return;
		}
}

static void write_done(void *arg, const struct db_result *r)
{
	struct write *w = arg;
	enum status s = r->status;

	buf_clear(&engine.reply);
	if (s == STATUS_OK)
		s = write_reply(w, r->res[0], &engine.reply);
	counts_end(w->call->who.tenant_id, w->b->plan->entity, w->call->who.user_id, write_delta(w), counts_outcome_of(s, r));
	if (s == STATUS_OK) {
		tags_changed(w);
		relay_wake();
		reply_bytes(w->call, &engine.reply);
	} else if (r->status != STATUS_OK) {
		reply_db_error(w->call, w->b->plan, &(struct db_error){ s, r->constraint, r->sqlstate, r->said });
	} else {
		rpc_reply_error(w->call, s, NULL);
	}
}

static void write_submit(struct write *w)
{
	struct db_stmt stmt = sql_stmt(&w->sql);

	counts_begin(w->call->who.tenant_id, w->b->plan->entity);
	db_submit_as(engine.db, DB_WRITE, w->call->who.tenant_id, w->call->who.scope, &stmt, 1, w->call->deadline_us, write_done, w);
	write_fini(w);
}

static void create_numbered(void *arg, enum status s, int64_t seq)
{
	struct write *w = arg;

	if (s != STATUS_OK) {
		write_fini(w);
		rpc_reply_error(w->call, s, NULL);
		return;
	}
	snprintf(w->seq, sizeof(w->seq), "%" PRId64, seq);
	w->sql.params[w->seq_at] = w->seq;
	write_submit(w);
}

struct write_request {
	struct str key, entity;
	const char *version;
	struct mask mask;
};

static bool mask_add(struct mask *m, uint64_t number)
{
	if (m->n == MASK_MAX || number > UINT32_MAX)
		return false;
	m->numbers[m->n++] = (uint32_t)number;
	return true;
}

bool mask_packed(struct mask *m, struct str bytes)
{
	uint64_t v = 0;
	unsigned shift = 0;

	for (size_t i = 0; i < bytes.n; i++) {
		uint8_t c = (uint8_t)bytes.p[i];

		v |= (uint64_t)(c & 0x7F) << shift;
		shift += 7;
		if (c & 0x80 && shift < 35)
			continue;
		if (c & 0x80 || !mask_add(m, v))
			return false;
		v = 0;
		shift = 0;
	}
	return shift == 0;
}

static bool write_request_read(struct rpc_call *call, bool delete, struct write_request *q)
{
	struct wire_reader r = wire_read(call->payload);
	struct wire_field f;
	uint32_t version_field = delete ? 2 : 4;
	bool good = true;

	*q = (struct write_request){ 0 };
	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			q->key = f.bytes;
		else if (f.number == version_field && f.type == WIRE_VARINT)
			q->version = f.value ? arena_printf(&call->arena, "%" PRId64, (int64_t)f.value) : NULL;
		else if (f.number == 2 && f.type == WIRE_BYTES)
			q->entity = f.bytes;
		else if (f.number == 3 && f.type == WIRE_VARINT)
			good = good && mask_add(&q->mask, f.value);
		else if (f.number == 3 && f.type == WIRE_BYTES)
			good = good && mask_packed(&q->mask, f.bytes);
	}
	return good && !r.bad;
}

/* False: answered. */
static bool write_parse(struct write *w, const struct write_request *q)
{
	enum op_kind kind = w->kind;
	enum status s;

	if (kind != OP_CREATE && kind != OP_UPSERT && !key_or_reply(w->call, q->key, &w->key))
		return false;
	w->version = q->version;
	if (kind == OP_DELETE)
		return true;
	s = kind == OP_UPSERT ? upsert_parse(w, q->entity, q->mask.numbers, q->mask.n) :
	    values_parse(w->call, w->b->plan, q->entity, q->mask.numbers, q->mask.n, kind == OP_CREATE, &w->values);
	if (s != STATUS_OK)
		rpc_reply_error(w->call, s, NULL);
	return s == STATUS_OK;
}

/* What the op sets itself comes last; a value that was sent for the same column gives way. */
static void fixed_apply(struct values *v, const struct bound *b)
{
	for (size_t i = 0; i < b->n_fixed; i++) {
		size_t k = 0;

		while (k < v->n_sets && v->sets[k].col != b->fixed[i].col)
			k++;
		v->sets[k] = (struct set){ .col = b->fixed[i].col, .how = SET_TEXT, .text = b->fixed[i].value };
		v->n_sets += k == v->n_sets;
	}
}

void write_build(struct write *w)
{
	const struct bound *b = w->b;
	const char *created = b->op->kind == OP_UPSERT ? b->event_created : b->event;

	fixed_apply(&w->values, b);

	sql_start(&w->sql, &w->call->arena);
	actor_fill(&w->actor, w->call);
	uuid7(w->id);
	if (w->kind == OP_CREATE)
		sql_create(&w->sql, b->plan, &w->actor, w->id, &w->values, created, &w->seq_at);
	else if (w->kind == OP_UPDATE)
		sql_update(&w->sql, b->plan, &w->actor, &w->key, w->version, &w->values, b->event);
	else if (w->kind == OP_DELETE)
		sql_delete(&w->sql, b->plan, &w->actor, &w->key, w->version, b->event);
}

static void write_send(struct write *w)
{
	if (w->sql.over || !w->actor.tenant) {
		write_fini(w);
		rpc_reply_error(w->call, w->sql.over ? STATUS_BAD_REQUEST : STATUS_PERMISSION_DENIED, NULL);
		return;
	}
	if (w->call->idempotency_key.n || w->kind == OP_UPSERT) {
		if (db_work(engine.db, write_on_worker, w))
			return;
		write_fini(w);
		rpc_reply_retry(w->call, STATUS_UNAVAILABLE, NULL, 500);
		return;
	}
	if (w->kind == OP_CREATE)
		seq_take(w->call, w->b->plan->entity, create_numbered, w);
	else
		write_submit(w);
}

void write_run(const struct bound *b, struct rpc_call *call)
{
	struct write *w = ARENA_NEW(&call->arena, struct write);
	struct write_request q;

	w->b = b;
	w->call = call;
	w->kind = b->op->kind;
	if (!write_request_read(call, w->kind == OP_DELETE, &q)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (!write_parse(w, &q))
		return;
	if (w->kind == OP_UPSERT)
		actor_fill(&w->actor, call);
	else
		write_build(w);
	write_send(w);
}
