/* Imports: where an upload goes, the job that it becomes, and the job's steps. What is written is in import_write.c. */
#include "resource/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "db/array.h"
#include "jobs/jobs.h"
#include "resource/handler.h"
#include "resource/import_rows.h"

#define UPLOAD_TIME "1 hour" /* from PrepareImport to Import; then the file is deleted */
#define BYTES_MAX (256u << 20)
#define READ (512u << 10)
#define READ_MOST (4u << 20) /* more than the largest row */
#define MAX_IMPORTS 16
#define GROWN 1000 /* rows after which a table's statistics are made anew; and after ten times as many, … */

static struct {
	struct blob_store *store;
	struct bound *bound[MAX_IMPORTS];
	char *revert[MAX_IMPORTS];
	size_t n;
} imports;

void import_store(struct blob_store *store)
{
	imports.store = store;
}

void import_kinds(struct bound *b)
{
	struct buf name = { 0 };

	if (imports.n == MAX_IMPORTS)
		log_die("RESOURCE-OP", "more than %d imports", MAX_IMPORTS);
	buf_printf(&name, "%s.Revert", b->op->rpc);
	imports.revert[imports.n] = xstrdup(buf_cstr(&name));
	buf_fini(&name);
	jobs_kind(b->op->rpc, import_step, b);
	jobs_kind(imports.revert[imports.n], revert_step, b);
	imports.bound[imports.n++] = b;
}

const struct bound *import_find(const char *kind)
{
	for (size_t i = 0; i < imports.n; i++)
		if (strcmp(imports.bound[i]->op->rpc, kind) == 0)
			return imports.bound[i];
	return NULL;
}

void import_forget(void)
{
	while (imports.n)
		free(imports.revert[--imports.n]);
}

/* Whose upload it is: what one prepared nobody else uses. */
static const char *uploader(struct rpc_call *call)
{
	return param_str(call, call->who.user_id.n ? call->who.user_id : call->who.tenant_id);
}

/* -- PrepareImport */

static void prepare(struct db_conn *db, void *arg)
{
	struct rpc_call *call = arg;
	char id[UUID_TEXT + 1], key[BLOB_KEY_MAX];
	enum status s = db_begin(db, call->who.tenant_id);
	Crm__V1__UploadTicket out = CRM__V1__UPLOAD_TICKET__INIT;

	uuid7(id);
	if (s == STATUS_OK && !blob_key(key, call->who.tenant_id, STR("import"), str_of(id)))
		s = STATUS_INTERNAL;
	if (s == STATUS_OK) {
		const char *params[] = { key, uploader(call) };

		s = db_exec(db, NULL, "INSERT INTO blob_queue (blob, upload_of, due_at) VALUES ($1, $2::uuid, now() + interval '" UPLOAD_TIME "')", 2, params);
	}
	out.blob = key;
	out.has_max_bytes = 1;
	out.max_bytes = BYTES_MAX;
	handler_end(call, db, s, &out);
}

static void on_worker(struct rpc_call *call, void (*job)(struct db_conn *db, void *arg), void *arg)
{
	if (!imports.store)
		rpc_reply_error(call, STATUS_UNAVAILABLE, "There is no place for files (BLOB_URL)");
	else if (!db_work(engine.db, job, arg))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 1000);
}

/* What can be said before there is a file. False: replied. */
static bool is_possible(const struct bound *b, struct rpc_call *call, const Crm__V1__ImportRequest *req)
{
	if (!req->match || plan_col_named(b->plan, str_of(req->match)))
		return true;
	rpc_violate(call, "match", "in", "is nothing that these are known by", NULL);
	rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
	return false;
}

void import_prepare_run(const struct bound *b, struct rpc_call *call)
{
	const Crm__V1__ImportRequest *req = handler_request(call, &crm__v1__import_request__descriptor);

	if (req && is_possible(b, call, req))
		on_worker(call, prepare, call);
}

/* -- Import */

struct import_call {
	const struct bound *b;
	struct rpc_call *call;
	Crm__V1__ImportRequest *req;
};

/* Takes the key out of the queue: it was given out to this caller, and not yet used or too old. */
static enum status claim(struct db_conn *db, struct rpc_call *call, const char *blob)
{
	const char *params[] = { blob, uploader(call) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "DELETE FROM blob_queue WHERE blob = $1 AND upload_of = $2::uuid AND due_at > now() RETURNING blob", 2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	PQclear(res);
	return s;
}

/* One event for the import itself; each row has its own. */
static enum status note(struct import_call *m, struct db_conn *db, const char *job)
{
	struct actor actor = { 0 };
	struct sql q = { 0 };
	enum status s;

	if (m->req->dry_run || !m->b->event)
		return STATUS_OK;
	actor_fill(&actor, m->call);
	sql_start(&q, &m->call->arena);
	buf_z(&q.b, "INSERT INTO outbox (event_id, tenant_id, type, entity, after, " SQL_OUTBOX_COLUMNS ") SELECT gen_random_uuid(), ");
	sql_value(&q, actor.tenant, "uuid");
	buf_printf(&q.b, ", '%s', '%s', jsonb_build_object('job', ", m->b->event, m->b->plan->entity);
	sql_value(&q, job, "text");
	buf_z(&q.b, ", 'rows', ");
	sql_value(&q, param_i64(m->call, (int64_t)m->req->rows), "bigint");
	buf_z(&q.b, "), ");
	sql_actor(&q, &actor);
	s = db_exec(db, NULL, sql_stmt(&q).sql.p, q.n, q.params);
	buf_fini(&q.b);
	return s;
}

static enum status import_make(struct import_call *m, struct db_conn *db, struct str *reply)
{
	Crm__V1__ImportRequest *req = m->req;
	Crm__V1__ImportReply out = CRM__V1__IMPORT_REPLY__INIT;
	Crm__V1__Ref ref = CRM__V1__REF__INIT;
	char *blob = req->blob;
	struct job_made made;
	enum status s = claim(db, m->call, blob);

	if (s != STATUS_OK)
		return s;
	req->blob = req->filename = req->mapping = NULL; /* not what the steps need */
	req->has_head = 0;
	s = jobs_create(db, m->call, &(struct job_new){ .kind = m->b->op->rpc, .payload = handler_pack(m->call, req), .total = req->rows, .blob = blob, .dry_run = req->dry_run }, &made);
	if (s == STATUS_OK)
		s = note(m, db, made.id);
	if (s != STATUS_OK)
		return s;
	ref.id = (char *)made.id;
	ref.has_seq = 1;
	ref.seq = made.seq;
	out.job = &ref;
	out.has_rows = out.has_dry_run = 1;
	out.rows = req->rows;
	out.dry_run = req->dry_run;
	out.n_column = req->n_column;
	out.column = req->column;
	*reply = handler_pack(m->call, &out);
	return idempotent_finish(db, m->call, *reply);
}

static void import_job(struct db_conn *db, void *arg)
{
	struct import_call *m = arg;
	struct str reply = { 0 };
	enum status s = STATUS_OK;

	if (!handler_begin(m->call, db, &s))
		return;
	if (s == STATUS_OK)
		s = import_make(m, db, &reply);
	handler_end_packed(m->call, db, s, reply);
	if (s == STATUS_OK)
		jobs_poke();
}

void import_run(const struct bound *b, struct rpc_call *call)
{
	struct import_call *m = ARENA_NEW(&call->arena, struct import_call);

	m->b = b;
	m->call = call;
	m->req = handler_request(call, &crm__v1__import_request__descriptor);
	if (!m->req || !is_possible(b, call, m->req))
		return;
	if (!m->req->blob || !m->req->rows) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	on_worker(call, import_job, m);
}

/* -- a step: reading */

static uint32_t length_at(const char *p)
{
	const uint8_t *u = (const uint8_t *)p;

	return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

/* The next rows of the file. Their bytes are in the arena. */
static enum status rows_read(struct import_step *st, size_t most)
{
	struct rpc_call *call = st->job->call;
	struct buf b = { 0 };
	char why[BLOB_WHY] = "";
	enum blob_outcome o = imports.store ? blob_get(imports.store, st->job->blob, (uint64_t)st->job->place, most, &b, why) : BLOB_FAILED;
	struct str bytes = arena_str(&call->arena, buf_view(&b));

	buf_fini(&b);
	if (o != BLOB_OK) {
		log_warn("IMPORT-BLOB", "job %s cannot read its file: %s", st->job->id, o == BLOB_ABSENT ? "there is none" : why);
		return o == BLOB_ABSENT ? STATUS_INTERNAL : STATUS_UNAVAILABLE;
	}
	while (st->n < JOBS_STEP && bytes.n >= 4 && bytes.n - 4 >= length_at(bytes.p)) {
		size_t n = length_at(bytes.p);

		if (!import_row_read(st, &st->rows[st->n++], (struct str){ bytes.p + 4, n }))
			return STATUS_INTERNAL;
		st->read += (int64_t)n + 4;
		bytes.p += n + 4;
		bytes.n -= n + 4;
	}
	return STATUS_OK;
}

/* -- a step: what came of it */

static void member(struct buf *b, const char *name, const char *text)
{
	if (!text)
		return;
	buf_printf(b, ",\"%s\":", name);
	buf_json_str(b, str_of(text));
}

static void item_put(const struct import_step *st, struct buf *b, size_t i)
{
	static const char *const actions[] = { [IMPORT_FAILED] = NULL, [IMPORT_CREATED] = "created", [IMPORT_UPDATED] = "updated", [IMPORT_SKIPPED] = "skipped" };
	const struct import_row *r = &st->rows[i];
	bool written = !st->job->dry_run && (r->action == IMPORT_CREATED || r->action == IMPORT_UPDATED);

	buf_printf(b, "%s{\"p\":%" PRId64 ",\"r\":%" PRIu64 ",\"s\":\"%s\"", b->n > 1 ? "," : "", st->job->position + (int64_t)i, r->number, r->action == IMPORT_FAILED ? "failed" : "done");
	member(b, "a", actions[r->action]);
	member(b, "e", st->job->dry_run && r->action == IMPORT_CREATED ? NULL : r->id);
	if (r->action == IMPORT_FAILED) {
		member(b, "c", status_name(r->status));
		member(b, "m", r->message);
		member(b, "f", r->field);
		if (r->problems)
			buf_printf(b, ",\"q\":%s", r->problems);
	} else if (st->job->dry_run) {
		member(b, "k", r->key);
	}
	if (written)
		buf_printf(b, ",\"v\":%" PRId64, r->made);
	if (written && r->before)
		buf_printf(b, ",\"b\":%s", r->before);
	buf_c(b, '}');
}

static enum status items_write(const struct import_step *st, struct db_conn *db)
{
	struct buf b = { 0 };
	enum status s;

	buf_c(&b, '[');
	for (size_t i = 0; i < st->n; i++)
		item_put(st, &b, i);
	buf_c(&b, ']');
	const char *const params[] = { st->job->id, buf_cstr(&b) };

	s = db_exec(db, NULL,
	    "INSERT INTO job_item (tenant_id, job_id, position, entity_id, state, code, message, field, table_row, action, problems, before, made, known)"
	    " SELECT current_setting('app.tenant_id')::uuid, $1::uuid, x.p, x.e, x.s, x.c, x.m, x.f, x.r, x.a, x.q, x.b, x.v, md5(x.k)::uuid"
	    " FROM jsonb_to_recordset($2::jsonb) AS x(p bigint, e uuid, s text, c text, m text, f text, r bigint, a text, q jsonb, b jsonb, v bigint, k text)", 2, params);
	buf_fini(&b);
	return s;
}

/* Has the job just written its 1,000th row, its 10,000th, … or the last of more than these? The step's rows are written, not yet counted. */
static bool has_grown(const struct import_step *st)
{
	int64_t before = st->job->position, after = before + (int64_t)st->n;

	if (st->job->dry_run || after < GROWN)
		return false;
	for (int64_t n = GROWN; n <= after; n *= 10)
		if (before < n)
			return true;
	return after == st->job->total;
}

/* Where somebody else looks at the table just now, it is left to them. */
static enum status grown(struct import_step *st, struct db_conn *db)
{
	return has_grown(st) ? db_exec(db, NULL, "SELECT table_grown($1)", 1, &st->b->plan->r->table) : STATUS_OK;
}

static void count(struct import_step *st)
{
	struct job *j = st->job;

	for (size_t i = 0; i < st->n; i++) {
		enum import_action a = st->rows[i].action;

		j->created += a == IMPORT_CREATED;
		j->updated += a == IMPORT_UPDATED;
		j->skipped += a == IMPORT_SKIPPED;
		j->failed += a == IMPORT_FAILED;
		j->done += a != IMPORT_FAILED;
	}
	j->position += (int64_t)st->n;
	j->place += st->read;
}

enum status import_step(void *arg, struct db_conn *db, struct job *j)
{
	struct import_step *st = ARENA_NEW(&j->call->arena, struct import_step);
	enum status s;

	st->b = arg;
	st->job = j;
	st->rows = arena_zalloc(&j->call->arena, JOBS_STEP * sizeof(*st->rows));
	actor_fill(&st->actor, j->call);
	st->req = handler_unpack(j->call, &crm__v1__import_request__descriptor, j->call->payload);
	s = st->req && j->blob ? rows_read(st, READ) : STATUS_INTERNAL;
	if (s == STATUS_OK && !st->n)
		s = rows_read(st, READ_MOST);
	if (s == STATUS_OK && !st->n)
		s = STATUS_INTERNAL; /* it ends before its last row */
	if (s == STATUS_OK)
		s = import_rows_write(st, db);
	if (s == STATUS_OK)
		s = items_write(st, db);
	if (s == STATUS_OK)
		s = grown(st, db);
	if (s == STATUS_OK)
		count(st);
	return s;
}
