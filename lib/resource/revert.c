/*
 * Taking an import back, by a job of its own: what the import made is deleted, what it changed is as it was before, with the events of any
 * deletion and change. What has another version than the import gave it was changed since, and is left alone.
 */
#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "jobs/jobs.h"
#include "resource/handler.h"
#include "resource/internal.h"

/* -- the call */

struct revert_call {
	const struct bound *b; /* of Jobs.Revert */
	struct rpc_call *call;
	struct handler_key key;
};

struct import {
	const struct bound *b;
	const char *id;
	size_t entities;
};

static enum status conflict(struct rpc_call *call, const char *text)
{
	call->status_text = text;
	return STATUS_CONFLICT;
}

/* What there is to take back, and whether it may be. */
static enum status import_judge(struct rpc_call *call, const PGresult *res, struct import *m)
{
	const char *state = PQgetvalue(res, 0, 2);
	const struct schema_method *method;

	m->id = col_text(call, res, 0, 0);
	m->b = import_find(PQgetvalue(res, 0, 1));
	m->entities = (size_t)col_i64(res, 0, 4);
	if (!m->b)
		return conflict(call, "Only imports can be taken back");
	method = schema_method_find(engine.schema, str_of(m->b->op->rpc));
	if (!rpc_may(&call->who, m->b->delete_permission) || !method || !rpc_may(&call->who, method->permission))
		return STATUS_PERMISSION_DENIED;
	if (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0)
		return conflict(call, "The import is still under way; cancel it first");
	if (*PQgetvalue(res, 0, 3) == 't')
		return conflict(call, "It was a dry run and has written nothing");
	if (*PQgetvalue(res, 0, 5) == 't')
		return conflict(call, "It has been taken back already");
	return m->entities ? STATUS_OK : conflict(call, "It has written nothing");
}

static enum status import_look(struct revert_call *r, struct db_conn *db, struct import *m)
{
	const char *params[] = { r->key.id, r->key.seq };
	PGresult *res = NULL;
	enum status s = db_exec(db, NULL, "SELECT pg_advisory_xact_lock(uuid_hash_extended(j.id, 0)) FROM job j WHERE j.id = $1::uuid OR j.seq = $2::bigint", 2, params);

	if (s == STATUS_OK)
		s = db_exec(db, &res,
		    "SELECT j.id, j.kind, j.state, j.dry_run, (SELECT count(DISTINCT i.entity_id) FROM job_item i WHERE i.job_id = j.id AND i.action IN ('created', 'updated')),"
		    " EXISTS (SELECT FROM job o WHERE o.reverts_id = j.id AND o.state NOT IN ('failed', 'cancelled')) FROM job j WHERE j.id = $1::uuid OR j.seq = $2::bigint", 2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		s = import_judge(r->call, res, m);
	PQclear(res);
	return s;
}

/* An entity once, whatever rows of the table meant it: as it was before the first, with the version of the last. The last one comes first. */
static enum status items_make(struct db_conn *db, const char *job, const struct import *m)
{
	const char *params[] = { job, m->id };

	return db_exec(db, NULL,
	    "WITH x AS (SELECT i.entity_id, min(i.position) AS first, max(i.made) AS made FROM job_item i WHERE i.job_id = $2::uuid AND i.action IN ('created', 'updated') AND i.entity_id IS NOT NULL GROUP BY 1)"
	    " INSERT INTO job_item (tenant_id, job_id, position, entity_id, action, before, made, table_row)"
	    " SELECT f.tenant_id, $1::uuid, row_number() OVER (ORDER BY x.first DESC) - 1, x.entity_id, f.action, f.before, x.made, f.table_row"
	    " FROM x JOIN job_item f ON f.job_id = $2::uuid AND f.position = x.first", 2, params);
}

static enum status revert(struct revert_call *r, struct db_conn *db, struct str *reply)
{
	struct import m = { 0 };
	struct job_made made;
	enum status s = import_look(r, db, &m);

	if (s == STATUS_OK)
		s = jobs_create(db, r->call, &(struct job_new){ .kind = arena_printf(&r->call->arena, "%s.Revert", m.b->op->rpc), .payload = STR(""), .total = m.entities, .reverts = m.id }, &made);
	if (s == STATUS_OK)
		s = items_make(db, made.id, &m);
	if (s == STATUS_OK)
		s = resource_read(db, r->call, r->b->plan->r, made.id, reply);
	return s == STATUS_OK ? idempotent_finish(db, r->call, *reply) : s;
}

static void revert_job(struct db_conn *db, void *arg)
{
	struct revert_call *r = arg;
	struct str reply = { 0 };
	enum status s = STATUS_OK;

	if (!handler_begin(r->call, db, &s))
		return;
	if (s == STATUS_OK)
		s = revert(r, db, &reply);
	handler_end_packed(r->call, db, s, reply);
	if (s == STATUS_OK)
		jobs_poke();
}

void revert_run(const struct bound *b, struct rpc_call *call)
{
	const Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct revert_call *r = ARENA_NEW(&call->arena, struct revert_call);

	if (!req)
		return;
	r->b = b;
	r->call = call;
	r->key = handler_key(call, req->key);
	if (!r->key.id && !r->key.seq)
		rpc_reply_error(call, STATUS_NOT_FOUND, NULL);
	else if (!db_work(engine.db, revert_job, r))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 1000);
}

/* -- a step */

struct revert_step {
	const struct bound *b; /* of the import */
	struct job *job;
	struct actor actor;
	struct buf done;       /* uuid[] of what was written */
};

/* "item" and "b": the items of these places and the rows as they are. Parameters: 1 tenant, 2 job, 3 and 4 places from and to. */
static void step_begin(struct revert_step *st, struct sql *q, int64_t from, int64_t to, const char *action)
{
	struct rpc_call *call = st->job->call;
	const struct plan *p = st->b->plan;

	sql_start(q, &call->arena);
	sql_param(q, st->actor.tenant);
	sql_param(q, st->job->id);
	sql_param(q, param_i64(call, from));
	sql_param(q, param_i64(call, to));
	buf_printf(&q->b, "WITH item AS (SELECT i.entity_id, i.made, i.before FROM job_item i WHERE i.job_id = $2::uuid AND i.position >= $3::bigint AND i.position < $4::bigint AND i.action = '%s'),"
	    " b AS (SELECT %s FROM %s t WHERE t.tenant_id = $1::uuid AND t.id IN (SELECT item.entity_id FROM item) AND t.deleted_at IS NULL ORDER BY t.id FOR UPDATE)",
	    action, p->row_columns_t, p->r->table);
	buf_printf(&q->b, ", w AS (UPDATE %s t SET version = t.version + 1, updated_at = now(), updated_by = ", p->r->table);
	sql_value(q, st->actor.user, "uuid");
}

static void column_restore(struct sql *q, const struct col *c)
{
	if (c->column && c->writable)
		buf_printf(&q->b, ", %s = r.%s", c->column, c->column);
}

static void restore_columns(struct sql *q, const struct plan *p)
{
	for (size_t i = 0; i < p->n_cols; i++) {
		const struct col *c = &p->cols[i];

		if (!c->n_members)
			column_restore(q, c);
		for (size_t m = 0; m < c->n_members && c->writable; m++)
			buf_printf(&q->b, ", %s = r.%s", c->members[m].column, c->members[m].column);
	}
}

static enum status step_end(struct revert_step *st, struct db_conn *db, struct sql *q)
{
	PGresult *res = NULL;
	enum status s;

	buf_z(&q->b, " SELECT w.id FROM w");
	s = q->over ? STATUS_INTERNAL : db_exec(db, &res, sql_stmt(q).sql.p, q->n, q->params);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		db_array_put(&st->done, str_of(PQgetvalue(res, i, 0)));
	PQclear(res);
	buf_fini(&q->b);
	return s;
}

static enum status made_delete(struct revert_step *st, struct db_conn *db, int64_t from, int64_t to)
{
	const struct plan *p = st->b->plan;
	struct sql q = { 0 };

	step_begin(st, &q, from, to, "created");
	buf_printf(&q.b, ", deleted_at = now() FROM b JOIN item ON item.entity_id = b.id WHERE t.tenant_id = $1::uuid AND t.id = b.id AND t.version = item.made RETURNING %s)", p->row_columns_t);
	sql_outbox(&q, p, &st->actor, st->b->event_deleted, "to_jsonb(b)", "NULL", "w JOIN b ON b.id = w.id");
	return step_end(st, db, &q);
}

static enum status changed_restore(struct revert_step *st, struct db_conn *db, int64_t from, int64_t to)
{
	const struct plan *p = st->b->plan;
	struct sql q = { 0 };

	step_begin(st, &q, from, to, "updated");
	restore_columns(&q, p);
	buf_printf(&q.b, " FROM b JOIN item ON item.entity_id = b.id CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, item.before) r"
	    " WHERE t.tenant_id = $1::uuid AND t.id = b.id AND t.version = item.made AND item.before IS NOT NULL RETURNING %s)", p->r->table, p->row_columns_t);
	sql_outbox(&q, p, &st->actor, st->b->event_updated, "to_jsonb(b)", "to_jsonb(w)", "w JOIN b ON b.id = w.id");
	return step_end(st, db, &q);
}

static enum status write_range(struct revert_step *st, struct db_conn *db, int64_t from, int64_t to)
{
	size_t n = st->done.n;
	enum status s = db_savepoint(db);

	if (s == STATUS_OK)
		s = made_delete(st, db, from, to);
	if (s == STATUS_OK)
		s = changed_restore(st, db, from, to);
	if (s == STATUS_OK)
		return db_keep(db);
	st->done.n = n;
	return s;
}

/* What a table's own rules refuse is that row's failure alone. */
static enum status write_places(struct revert_step *st, struct db_conn *db, int64_t from, int64_t to)
{
	enum status s = write_range(st, db, from, to);

	if (s == STATUS_OK || s == STATUS_UNAVAILABLE || s == STATUS_DEADLINE_EXCEEDED || s == STATUS_INTERNAL)
		return s;
	if (!db_undo(db))
		return STATUS_UNAVAILABLE;
	if (to - from == 1)
		return STATUS_OK; /* not among what was written */
	s = STATUS_OK;
	for (int64_t at = from; at < to && s == STATUS_OK; at++)
		s = write_places(st, db, at, at + 1);
	return s;
}

/* Behind the locks that all writers take first. */
static enum status rows_await(struct revert_step *st, struct db_conn *db, int64_t to)
{
	const char *params[] = { st->job->id, param_i64(st->job->call, st->job->position), param_i64(st->job->call, to) };

	return db_exec(db, NULL,
	    "SELECT count(pg_advisory_xact_lock(uuid_hash_extended(x.id, 0))) FROM (SELECT i.entity_id AS id FROM job_item i WHERE i.job_id = $1::uuid AND i.position >= $2::bigint AND i.position < $3::bigint ORDER BY 1) x", 3, params);
}

static enum status items_close(struct revert_step *st, struct db_conn *db, int64_t to, int64_t *done)
{
	struct rpc_call *call = st->job->call;
	const char *params[] = { st->job->id, param_i64(call, st->job->position), param_i64(call, to), db_array_end(&st->done, &call->arena) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
	    "WITH w AS (UPDATE job_item i SET state = CASE WHEN i.entity_id = ANY($4::uuid[]) THEN 'done' ELSE 'failed' END, before = NULL, updated_at = now(),"
	    " code = CASE WHEN i.entity_id = ANY($4::uuid[]) THEN NULL ELSE 'CONFLICT' END, message = CASE WHEN i.entity_id = ANY($4::uuid[]) THEN NULL ELSE 'It was changed since, or is gone' END"
	    " WHERE i.tenant_id = current_setting('app.tenant_id')::uuid AND i.job_id = $1::uuid AND i.position >= $2::bigint AND i.position < $3::bigint RETURNING i.state)"
	    " SELECT count(*) FILTER (WHERE w.state = 'done') FROM w", 4, params);

	*done = s == STATUS_OK ? col_i64(res, 0, 0) : 0;
	PQclear(res);
	return s;
}

enum status revert_step(void *arg, struct db_conn *db, struct job *j)
{
	struct revert_step st = { .b = arg, .job = j };
	int64_t to = j->position + JOBS_STEP < j->total ? j->position + JOBS_STEP : j->total, done = 0;
	enum status s;

	actor_fill(&st.actor, j->call);
	s = rows_await(&st, db, to);
	if (s == STATUS_OK)
		s = write_places(&st, db, j->position, to);
	resource_touched(j->call, st.b->plan->entity);
	if (s == STATUS_OK)
		s = items_close(&st, db, to, &done);
	else
		buf_fini(&st.done);
	j->done += done;
	j->failed += to - j->position - done;
	j->position = to;
	return s;
}
