/* Finding and erasing people in the tables of resources, by what the contracts say is personal. */
#include "resource/subjects.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "resource/internal.h"

#define COLUMNS_MAX 32

struct personal {
	const struct col *cols[COLUMNS_MAX];
	size_t n;
	const struct col *placeholder; /* one of those that cannot all be empty; NULL: none must be there */
	const struct col *about;       /* the reference to whom it is about; NULL: it is about itself */
	bool has_email;
};

static void personal_add(struct personal *q, const struct col *c)
{
	if (c->f->personal && c->column && q->n < COLUMNS_MAX)
		q->cols[q->n++] = c;
}

/* False: the resource is about nobody. */
static bool personal_of(const struct plan *p, struct personal *q)
{
	*q = (struct personal){ 0 };
	for (size_t i = 0; i < p->n_cols; i++) {
		const struct col *c = &p->cols[i];

		personal_add(q, c);
		for (size_t k = 0; k < c->n_members; k++)
			personal_add(q, &c->members[k]);
		q->has_email |= c->column && !strcmp(c->column, "email");
	}
	for (size_t i = 0; i < p->n_one_of && !q->placeholder; i++)
		q->placeholder = p->one_of[i]->f->personal ? p->one_of[i] : NULL;
	q->about = p->m->about ? plan_col(p, p->m->about->number) : NULL;
	return q->n > 0 && !p->r->hard;
}

const char *subjects_ids(struct rpc_call *call, const Crm__V1__SubjectsRequest *req, const char *entity)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < req->n_subject; i++) {
		const Crm__V1__SubjectRef *s = req->subject[i];

		if (s->entity && s->id && !strcmp(s->entity, entity) && uuid_parse(str_of(s->id), NULL))
			db_array_put(&b, str_of(s->id));
	}
	return db_array_end(&b, &call->arena);
}

void subjects_put(struct buf *reply, const char *entity, const char *id, const char *row)
{
	size_t at = wire_open(reply, 1);

	wire_put_bytes(reply, 1, str_of(entity));
	wire_put_bytes(reply, 2, str_of(id));
	if (row)
		wire_put_bytes(reply, 3, str_of(row));
	wire_close(reply, at);
}

enum status subjects_scrub(struct db_conn *db, const char *ids)
{
	return db_exec(db, NULL, "SELECT subject_scrub($1::uuid[])", 1, &ids);
}

/* -- Find */

/* Rows about somebody who is asked for: by the ids that were found before, and in the same service by the mail address. */
static void put_about(struct buf *sql, const struct plan *p, const struct personal *q)
{
	if (!q->about)
		return;
	buf_printf(sql, " OR t.%s = ANY($3::uuid[])", q->about->column);
	if (q->about->target)
		buf_printf(sql, " OR t.%s IN (SELECT o.id FROM %s o WHERE lower(o.email) = lower($2::text))", q->about->column, q->about->target->r->table);
}

static enum status find_in(struct rpc_call *call, struct db_conn *db, const struct plan *p, const struct personal *q, const Crm__V1__SubjectsRequest *req, struct buf *out)
{
	const char *params[] = { subjects_ids(call, req, p->entity), req->email, subjects_ids(call, req, q->about ? q->about->f->ref : "") };
	PGresult *res = NULL;
	struct buf sql = { 0 };
	enum status s;

	buf_printf(&sql, "SELECT t.id, to_jsonb(t) - 'search' - 'tenant_id' FROM %s t"
	    /* all three have a type, also where nothing speaks of them */
	    " WHERE ($2::text IS NULL OR true) AND ($3::uuid[] IS NULL OR true) AND (t.id = ANY($1::uuid[])", p->r->table);
	if (q->has_email)
		buf_z(&sql, " OR lower(t.email) = lower($2::text)");
	put_about(&sql, p, q);
	buf_printf(&sql, ") LIMIT %d", SUBJECTS_MAX);
	s = db_exec(db, &res, buf_cstr(&sql), 3, params);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		subjects_put(out, p->entity, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
	PQclear(res);
	buf_fini(&sql);
	return s;
}

/* -- Erase */

static const char *empty_of(const struct personal *q, const struct col *c)
{
	if (c == q->placeholder || (c->f->required && c->kind == COL_TEXT))
		return "'" SUBJECT_ERASED "'";
	return c->kind == COL_JSON ? "'{}'" : "NULL";
}

static void put_update(struct buf *b, const struct plan *p, const struct personal *q)
{
	buf_printf(b, "UPDATE %s t SET version = t.version + 1, updated_at = now(), updated_by = $2::uuid", p->r->table);
	for (size_t i = 0; i < q->n; i++)
		buf_printf(b, ", %s = %s", q->cols[i]->column, empty_of(q, q->cols[i]));
	buf_z(b, " WHERE t.id = ANY($1::uuid[]) AND (false");
	for (size_t i = 0; i < q->n; i++)
		buf_printf(b, " OR t.%s IS DISTINCT FROM %s", q->cols[i]->column, empty_of(q, q->cols[i]));
	buf_z(b, ") RETURNING t.id, t.seq, t.version");
}

static enum status erase_in(struct rpc_call *call, struct db_conn *db, const struct plan *p, const struct personal *q, const Crm__V1__SubjectsRequest *req, struct buf *out)
{
	const char *params[] = { subjects_ids(call, req, p->entity), param_str(call, call->who.user_id) };
	const char *type = arena_printf(&call->arena, "%s.%s.erased", engine.schema_name, p->entity);
	PGresult *res = NULL;
	struct buf sql = { 0 };
	enum status s;

	if (!strcmp(params[0], "{}"))
		return STATUS_OK;
	put_update(&sql, p, q);
	s = db_exec(db, &res, buf_cstr(&sql), 2, params);
	if (s == STATUS_OK)
		s = subjects_scrub(db, params[0]);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++) {
		const char *id = PQgetvalue(res, i, 0);

		s = resource_event(db, call, type, p->entity, id, col_i64(res, i, 1), (uint64_t)col_i64(res, i, 2), NULL, NULL);
		subjects_put(out, p->entity, id, NULL);
	}
	PQclear(res);
	buf_fini(&sql);
	return s;
}

/* -- both: every resource that is about people, in one transaction */

typedef enum status (*part)(struct rpc_call *call, struct db_conn *db, const struct plan *p, const struct personal *q, const Crm__V1__SubjectsRequest *req, struct buf *out);

static void each(struct rpc_call *call, struct db_conn *db, part do_part)
{
	const Crm__V1__SubjectsRequest *req = handler_request(call, &crm__v1__subjects_request__descriptor);
	struct personal q;
	struct buf out = { 0 };
	struct str reply;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	for (size_t i = 0; s == STATUS_OK && i < engine.n_plans; i++) {
		if (personal_of(&engine.plans[i], &q))
			s = do_part(call, db, &engine.plans[i], &q, req, &out);
	}
	reply = arena_str(&call->arena, buf_view(&out));
	buf_fini(&out);
	handler_end_packed(call, db, s, reply);
}

void subjects_find(struct rpc_call *call, struct db_conn *db)
{
	each(call, db, find_in);
}

void subjects_erase(struct rpc_call *call, struct db_conn *db)
{
	each(call, db, erase_in);
}
