/*
 * One change, or a deletion, of many entities: up to JOBS_STEP at once in one statement, more by a job whose steps are the same.
 * What a row's own rule refuses (a unique value, a trigger) is that row's failure: then the rows are tried one by one.
 */
#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "jobs/jobs.h"
#include "resource/handler.h"
#include "resource/write.h"

#define SELECT_MAX 10000

enum { REQUEST_KEY = 1, REQUEST_ENTITY = 2, REQUEST_MASK = 3, REQUEST_WHERE = 5, REQUEST_TAG_MODE = 6 };

struct target {
	const char *id; /* NULL: there is no such entity */
	enum status status;
	struct str refusal; /* wire bytes of a Status; empty: done */
	const char *text, *field;
};

struct bulk_write {
	const struct bound *b;
	struct rpc_call *call;
	struct actor actor;
	struct str entity, where, mask_wire;
	struct mask mask;
	enum tag_mode mode;
	bool has_where;
	struct buf ids, seqs; /* array literals of the keys, heap */
	size_t n_keys;
	struct target *targets;
	size_t n;
};

/* -- reading ------------------------------------------------------------------------------------------------------------ */

static bool read_key(struct bulk_write *k, struct str wire)
{
	struct key key;
	bool bad;

	if (!key_parse(&k->call->arena, wire, &key, &bad) && !bad)
		return false;
	buf_z(&k->ids, k->n_keys ? "," : "{");
	buf_z(&k->ids, key.id ? key.id : "NULL");
	buf_z(&k->seqs, k->n_keys ? "," : "{");
	buf_z(&k->seqs, key.seq && !key.id ? key.seq : "NULL");
	k->n_keys++;
	return true;
}

static bool read_request(struct bulk_write *k)
{
	struct wire_reader r = wire_read(k->call->payload);
	struct wire_field f;
	bool good = true;

	while (good && wire_next(&r, &f)) {
		if (f.number == REQUEST_KEY && f.type == WIRE_BYTES) {
			good = k->n_keys > SELECT_MAX || read_key(k, f.bytes);
		} else if (f.number == REQUEST_ENTITY && f.type == WIRE_BYTES) {
			k->entity = f.bytes;
		} else if (f.number == REQUEST_MASK && f.type == WIRE_BYTES) {
			k->mask_wire = f.bytes;
			good = mask_packed(&k->mask, f.bytes);
		} else if (f.number == REQUEST_WHERE && f.type == WIRE_BYTES) {
			k->where = f.bytes;
			k->has_where = true;
		} else if (f.number == REQUEST_TAG_MODE && f.type == WIRE_VARINT) {
			good = f.value <= TAGS_REMOVE;
			k->mode = (enum tag_mode)f.value;
		}
	}
	return good && !r.bad;
}

/* BAD_REQUEST or VALIDATION_ERROR with violations. */
static enum status check_changes(struct bulk_write *k, struct values *v)
{
	if (k->b->op->kind == OP_BULK_DELETE)
		return STATUS_OK;
	if (!k->mask.n) {
		rpc_violate(k->call, "entity", "required", "is required", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	return values_parse(k->call, k->b->plan, k->entity, k->mask.numbers, k->mask.n, false, v);
}

static enum status too_many(struct bulk_write *k, const char *path)
{
	rpc_violate(k->call, path, "max_items", "must mean at most 10000 entities", "10000");
	return STATUS_VALIDATION_ERROR;
}

static enum status check_selection(struct bulk_write *k)
{
	if (k->n_keys > SELECT_MAX)
		return too_many(k, "key");
	if (k->has_where == (k->n_keys > 0)) {
		rpc_violate(k->call, "key", "required", "is required", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	return STATUS_OK;
}

/* -- which ones --------------------------------------------------------------------------------------------------------- */

static void targets_take(struct bulk_write *k, const PGresult *res, int column)
{
	k->n = (size_t)PQntuples(res);
	k->targets = arena_zalloc(&k->call->arena, (k->n + 1) * sizeof(*k->targets));
	for (size_t i = 0; i < k->n; i++)
		k->targets[i].id = col_text(k->call, res, (int)i, column);
}

static enum status find_keys(struct bulk_write *k, struct db_conn *db, PGresult **res)
{
	const struct resource *r = k->b->plan->r;

	buf_c(&k->ids, '}');
	buf_c(&k->seqs, '}');
	const char *const params[] = { buf_cstr(&k->ids), buf_cstr(&k->seqs) };

	return db_exec(db, res,
	    arena_printf(&k->call->arena, "SELECT coalesce(x.id, (SELECT t.id FROM %s t WHERE t.seq = x.seq%s)) FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS x(id, seq, n) ORDER BY x.n",
		r->table, r->hard ? "" : " AND t.deleted_at IS NULL"), 2, params);
}

/* A filter that narrows nothing down would mean everything. */
static enum status find_where(struct bulk_write *k, struct db_conn *db, PGresult **res)
{
	struct query *l = ARENA_NEW(&k->call->arena, struct query);
	struct sql q = { 0 };
	enum status s = query_parse(k->call, k->b->plan, k->where, l);

	if (s != STATUS_OK)
		return s;
	if (!l->n_filters && !l->search) {
		rpc_violate(k->call, "where", "required", "is required", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	sql_start(&q, &k->call->arena);
	query_ids(&q, k->b->plan, l, SELECT_MAX + 1);
	s = q.over ? STATUS_BAD_REQUEST : db_exec(db, res, sql_stmt(&q).sql.p, q.n, q.params);
	buf_fini(&q.b);
	return s;
}

static enum status find_targets(struct bulk_write *k, struct db_conn *db)
{
	PGresult *res = NULL;
	enum status s = k->has_where ? find_where(k, db, &res) : find_keys(k, db, &res);

	if (s == STATUS_OK)
		targets_take(k, res, 0);
	PQclear(res);
	return s == STATUS_OK && k->n > SELECT_MAX ? too_many(k, "where") : s;
}

/* -- changing them ------------------------------------------------------------------------------------------------------ */

static const char *ids_literal(struct rpc_call *call, const struct target *t, size_t n)
{
	struct buf b = { 0 };
	const char *out;

	buf_c(&b, '{');
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_c(&b, ',');
		buf_z(&b, t[i].id ? t[i].id : "NULL");
	}
	buf_c(&b, '}');
	out = arena_strdup(&call->arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

/* Every target is refused, or those that are nowhere among the rows. */
static void refuse(struct bulk_write *k, struct target *t, enum status s)
{
	struct rpc_call *call = k->call;

	t->status = s;
	t->field = call->n_violations ? call->violations[0].path : NULL;
	t->text = call->n_violations ? call->violations[0].message : call->status_text ? call->status_text : status_text(s);
	t->refusal = status_take(call, s);
}

static void refuse_all(struct bulk_write *k, struct target *t, size_t n, enum status s)
{
	refuse(k, &t[0], s);
	for (size_t i = 1; i < n; i++) {
		const char *id = t[i].id;

		t[i] = t[0];
		t[i].id = id;
	}
}

/* Both are in the order of the rows' ids only by chance: at most 500 by 500 comparisons, of which most end at the first one. */
static int row_find(const PGresult *res, const char *id)
{
	for (int i = 0; i < PQntuples(res); i++)
		if (!PQgetisnull(res, i, 1) && strcmp(PQgetvalue(res, i, 1), id) == 0)
			return i;
	return -1;
}

static void outcomes(struct bulk_write *k, struct target *t, size_t n, const PGresult *res)
{
	if (PQntuples(res) && PQgetlength(res, 0, 0)) {
		violate_missing(k->call, k->b->plan, str_of(PQgetvalue(res, 0, 0)));
		refuse_all(k, t, n, STATUS_VALIDATION_ERROR);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		int row = t[i].id ? row_find(res, t[i].id) : -1;

		t[i].status = STATUS_OK;
		t[i].refusal = (struct str){ 0 };
		if (row < 0) {
			refuse(k, &t[i], STATUS_NOT_FOUND);
		} else if (PQgetvalue(res, row, 2)[0] != 't') {
			rpc_violate(k->call, "tags", "max_items", "must have at most 50 elements", "50");
			refuse(k, &t[i], STATUS_VALIDATION_ERROR);
		}
	}
}

static enum status write_some(struct bulk_write *k, struct db_conn *db, struct target *t, size_t n)
{
	struct values *v = arena_zalloc(&k->call->arena, sizeof(*v));
	struct sql q = { 0 };
	PGresult *res = NULL;
	enum status s = check_changes(k, v);

	if (s != STATUS_OK)
		return s;
	sql_start(&q, &k->call->arena);
	if (k->b->op->kind == OP_BULK_UPDATE)
		sql_update_many(&q, k->b->plan, &k->actor, ids_literal(k->call, t, n), v, k->mode, k->b->event);
	else
		sql_delete_many(&q, k->b->plan, &k->actor, ids_literal(k->call, t, n), k->b->event);
	s = q.over ? STATUS_BAD_REQUEST : db_savepoint(db);
	if (s == STATUS_OK)
		s = db_exec(db, &res, sql_stmt(&q).sql.p, q.n, q.params);
	if (s == STATUS_OK)
		outcomes(k, t, n, res);
	PQclear(res);
	buf_fini(&q.b);
	return s;
}

/* The row's own failure, not that of the statement as a whole. */
static bool is_of_the_row(enum status s)
{
	return s == STATUS_DUPLICATE || s == STATUS_CONFLICT || s == STATUS_VALIDATION_ERROR || s == STATUS_PERMISSION_DENIED;
}

static enum status write_one(struct bulk_write *k, struct db_conn *db, struct target *t)
{
	enum status s = write_some(k, db, t, 1);

	if (s == STATUS_OK)
		return db_keep(db);
	if (s == STATUS_BAD_REQUEST)
		return s;
	s = db_error_explain(k->call, k->b->plan, &(struct db_error){ s, db_constraint(db), db_sqlstate(db), db_said(db) });
	if (!is_of_the_row(s))
		return s;
	refuse(k, t, s);
	return db_undo(db) ? STATUS_OK : STATUS_UNAVAILABLE;
}

/*
 * As sql_update does for one row: writers wait for each other before their transactions have numbers, so that events keep the order of
 * the changes. In the order of ids, so that two of these do not deadlock.
 */
static enum status rows_await(struct bulk_write *k, struct db_conn *db, const struct target *t, size_t n)
{
	const char *const params[] = { ids_literal(k->call, t, n) };

	return db_exec(db, NULL,
	    "SELECT count(pg_advisory_xact_lock(uuid_hash_extended(x.id, 0))) FROM (SELECT DISTINCT u.id FROM unnest($1::uuid[]) u(id) WHERE u.id IS NOT NULL ORDER BY u.id) x", 1, params);
}

static enum status write_all(struct bulk_write *k, struct db_conn *db, struct target *t, size_t n)
{
	enum status s = rows_await(k, db, t, n);

	if (s != STATUS_OK)
		return s;
	s = n ? write_some(k, db, t, n) : STATUS_OK;

	resource_touched(k->call, k->b->plan->entity);
	if (k->b->plan->tags)
		resource_touched(k->call, "tag");
	if (s == STATUS_OK || s == STATUS_BAD_REQUEST || k->call->n_violations || !db_undo(db))
		return s;
	if (!is_of_the_row(s))
		return s;
	s = STATUS_OK;
	for (size_t i = 0; i < n && s == STATUS_OK; i++)
		s = write_one(k, db, &t[i]);
	return s;
}

/* -- in one call -------------------------------------------------------------------------------------------------------- */

static size_t count_done(const struct target *t, size_t n)
{
	size_t done = 0;

	for (size_t i = 0; i < n; i++)
		done += t[i].status == STATUS_OK;
	return done;
}

static void reply_put(const struct bulk_write *k, struct buf *b)
{
	size_t done = count_done(k->targets, k->n);

	wire_put_varint(b, 1, k->n);
	wire_put_varint(b, 2, done);
	wire_put_varint(b, 3, k->n - done);
	for (size_t i = 0; i < k->n; i++) {
		const struct target *t = &k->targets[i];
		size_t at = wire_open(b, 4), ref;

		wire_put_varint(b, 1, i);
		if (t->id) {
			ref = wire_open(b, 2);
			wire_put_bytes(b, 1, str_of(t->id));
			wire_close(b, ref);
		}
		if (t->refusal.n)
			wire_put_bytes(b, 3, t->refusal);
		wire_close(b, at);
	}
}

/* What the steps need of the request: the change, without the keys, which are the job's items. */
static enum status make_job(struct bulk_write *k, struct db_conn *db, struct buf *out)
{
	struct job_made made;
	struct buf payload = { 0 };
	enum status s;
	size_t at;

	wire_put_bytes(&payload, REQUEST_ENTITY, k->entity);
	wire_put_bytes(&payload, REQUEST_MASK, k->mask_wire);
	wire_put_varint(&payload, REQUEST_TAG_MODE, k->mode);
	s = jobs_create(db, k->call, &(struct job_new){ .kind = k->b->op->rpc, .payload = buf_view(&payload), .ids = ids_literal(k->call, k->targets, k->n), .total = k->n }, &made);
	buf_fini(&payload);
	if (s != STATUS_OK)
		return s;
	wire_put_varint(out, 1, k->n);
	at = wire_open(out, 5);
	wire_put_bytes(out, 1, str_of(made.id));
	wire_put_varint(out, 2, (uint64_t)made.seq);
	wire_close(out, at);
	return STATUS_OK;
}

static enum status run_in_call(struct bulk_write *k, struct db_conn *db, struct buf *out)
{
	enum status s = find_targets(k, db);

	if (s == STATUS_OK && k->n > JOBS_STEP)
		return make_job(k, db, out);
	if (s == STATUS_OK)
		s = write_all(k, db, k->targets, k->n);
	if (s == STATUS_OK)
		reply_put(k, out);
	return s;
}

static void bulk_write_job(struct db_conn *db, void *arg)
{
	struct bulk_write *k = arg;
	struct rpc_call *call = k->call;
	struct buf out = { 0 }, ids = k->ids, seqs = k->seqs;
	bool job = false;
	enum status s;

	db_limit(db, call->who.scope);
	s = db_begin(db, call->who.tenant_id);
	if (s != STATUS_OK) {
		rpc_reply_error(call, s, NULL);
	} else if (idempotent_begin(db, call) == IDEM_REPLIED) {
		db_rollback(db);
	} else {
		s = run_in_call(k, db, &out);
		ids = k->ids;
		seqs = k->seqs;
		job = k->n > JOBS_STEP;
		if (s == STATUS_OK)
			s = idempotent_finish(db, call, buf_view(&out));
		handler_end_packed(call, db, s, buf_view(&out));
	}
	buf_fini(&ids); /* k lives in the call's arena, which ended with the reply */
	buf_fini(&seqs);
	buf_fini(&out);
	if (job && s == STATUS_OK)
		jobs_poke();
}

void bulk_write_run(const struct bound *b, struct rpc_call *call)
{
	struct bulk_write *k = ARENA_NEW(&call->arena, struct bulk_write);
	struct values *v = ARENA_NEW(&call->arena, struct values);
	enum status s;

	k->b = b;
	k->call = call;
	actor_fill(&k->actor, call);
	s = !read_request(k) ? STATUS_BAD_REQUEST : !k->actor.tenant ? STATUS_PERMISSION_DENIED : check_selection(k);
	if (s == STATUS_OK)
		s = check_changes(k, v);
	if (s == STATUS_OK && db_work(engine.db, bulk_write_job, k))
		return;
	buf_fini(&k->ids);
	buf_fini(&k->seqs);
	if (s == STATUS_OK)
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 1000);
	else
		rpc_reply_error(call, s, NULL);
}

/* -- as a job ----------------------------------------------------------------------------------------------------------- */

static enum status items_read(struct bulk_write *k, struct db_conn *db, const struct job *j)
{
	const char *const params[] = { j->id, param_i64(k->call, j->position) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT i.entity_id FROM job_item i WHERE i.job_id = $1::uuid AND i.position >= $2::bigint ORDER BY i.position LIMIT 500", 2, params);

	if (s == STATUS_OK)
		targets_take(k, res, 0);
	PQclear(res);
	return s;
}

static void member(struct buf *b, const char *name, const char *text)
{
	if (!text)
		return;
	buf_printf(b, ",\"%s\":", name);
	buf_json_str(b, str_of(text));
}

static enum status items_write(struct bulk_write *k, struct db_conn *db, const struct job *j)
{
	struct buf b = { 0 };
	enum status s;

	buf_c(&b, '[');
	for (size_t i = 0; i < k->n; i++) {
		const struct target *t = &k->targets[i];
		bool good = t->status == STATUS_OK;

		buf_printf(&b, "%s{\"p\":%" PRId64 ",\"state\":\"%s\"", i ? "," : "", j->position + (int64_t)i, good ? "done" : "failed");
		member(&b, "code", good ? NULL : status_name(t->status));
		member(&b, "message", good ? NULL : t->text);
		member(&b, "field", good ? NULL : t->field);
		buf_c(&b, '}');
	}
	buf_c(&b, ']');
	const char *const params[] = { j->id, buf_cstr(&b) };

	s = db_exec(db, NULL,
	    "UPDATE job_item i SET state = x.state, code = x.code, message = x.message, field = x.field, updated_at = now()"
	    " FROM jsonb_to_recordset($2::jsonb) AS x(p bigint, state text, code text, message text, field text)"
	    " WHERE i.tenant_id = current_setting('app.tenant_id')::uuid AND i.job_id = $1::uuid AND i.position = x.p", 2, params);
	buf_fini(&b);
	return s;
}

enum status bulk_write_step(void *arg, struct db_conn *db, struct job *j)
{
	struct bulk_write *k = ARENA_NEW(&j->call->arena, struct bulk_write);
	enum status s;

	k->b = arg;
	k->call = j->call;
	actor_fill(&k->actor, j->call);
	s = read_request(k) ? items_read(k, db, j) : STATUS_BAD_REQUEST;
	if (s == STATUS_OK)
		s = write_all(k, db, k->targets, k->n);
	if (s == STATUS_OK)
		s = items_write(k, db, j);
	if (s == STATUS_OK) {
		int64_t done = (int64_t)count_done(k->targets, k->n);

		j->done += done;
		j->failed += (int64_t)k->n - done;
		j->position += (int64_t)k->n;
		if (!k->n) /* items are never removed before their job */
			s = STATUS_INTERNAL;
	}
	buf_fini(&k->ids);
	buf_fini(&k->seqs);
	return s;
}
