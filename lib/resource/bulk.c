/* Bulk create: every item is checked by itself, the good ones are written by one statement in one transaction on a worker. */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/wire.h"
#include "db/row.h"
#include "events/relay.h"
#include "resource/bulk.h"

#define BULK_MAX_ITEMS 1000

/* -- refusing an item ------------------------------------------------------------------------------------------------ */

static void violation_put(struct buf *b, const struct rpc_violation *v)
{
	size_t at = wire_open(b, 3);

	wire_put_bytes(b, 1, str_of(v->path));
	wire_put_bytes(b, 2, str_of(v->rule));
	wire_put_bytes(b, 3, str_of(v->message));
	if (v->param)
		wire_put_bytes(b, 4, str_of(v->param));
	wire_close(b, at);
}

struct str status_take(struct rpc_call *call, enum status s)
{
	struct buf b = { 0 };
	struct str out;

	wire_put_varint(&b, 1, s);
	wire_put_bytes(&b, 2, str_of(call->status_text ? call->status_text : status_text(s)));
	for (size_t i = 0; i < call->n_violations; i++)
		violation_put(&b, &call->violations[i]);
	out = arena_str(&call->arena, buf_view(&b));
	call->n_violations = 0;
	call->status_text = NULL;
	buf_fini(&b);
	return out;
}

static void item_refuse(struct bulk *k, struct bulk_item *it, enum status s)
{
	it->outcome = s;
	it->status = status_take(k->call, s);
}

/* -- one item as a JSON row -------------------------------------------------------------------------------------------- */

static void json_member(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, ",\"%s\":", name);
	buf_json_str(b, str_of(value));
}

static void row_set(struct buf *b, const struct set *s)
{
	char name[32];

	if (s->how == SET_REF && (s->key.id || s->key.seq)) {
		snprintf(name, sizeof(name), "r%u_%s", s->col->f->number, s->key.id ? "id" : "seq");
		json_member(b, name, s->key.id ? s->key.id : s->key.seq);
	} else if (s->how == SET_TEXT && s->text && (s->col->kind == COL_JSON || s->col->kind == COL_ROWS)) {
		buf_printf(b, ",\"%s\":", s->col->column);
		buf_z(b, s->text);
	} else if (s->how == SET_TEXT && s->text) { /* a list of texts as the literal of an array */
		json_member(b, s->col->column, s->text);
	}
}

void bulk_row_put(struct bulk *k, size_t n, const struct values *v)
{
	struct buf *b = &k->rows;
	char id[UUID_TEXT + 1];

	uuid7(id);
	buf_printf(b, "%s{\"n\":%zu,\"nth\":%zu,\"id\":\"%s\"", b->n > 1 ? "," : "", n, k->n_good, id);
	for (size_t i = 0; i < v->n_sets; i++)
		row_set(b, &v->sets[i]);
	buf_c(b, '}');
	tags_json(&k->tags, v, (int)n);
	for (size_t i = 0; i < v->n_tags; i++)
		k->has_tag_names |= v->tags[i].name != NULL;
	k->n_good++;
}

static void item_parse(struct bulk *k, size_t n, struct str entity)
{
	struct values v;
	enum status s = values_parse(k->call, k->b->plan, entity, NULL, 0, true, &v);

	if (s != STATUS_OK)
		item_refuse(k, &k->items[n], s);
	else
		bulk_row_put(k, n, &v);
}

/* -- the statement ------------------------------------------------------------------------------------------------------ */

static void each_column(struct sql *q, const struct plan *p, void (*fn)(struct sql *q, const struct col *c))
{
	for (size_t i = 0; i < p->n_cols; i++) {
		const struct col *c = &p->cols[i];

		if (!c->writable)
			continue;
		if (c->kind != COL_ADDRESS)
			fn(q, c);
		for (size_t m = 0; m < c->n_members; m++)
			fn(q, &c->members[m]);
	}
}

static void column_definition(struct sql *q, const struct col *c)
{
	if (c->kind == COL_REF_LOCAL)
		buf_printf(&q->b, ", r%u_id uuid, r%u_seq bigint", c->f->number, c->f->number);
	else if (c->kind != COL_TAGS)
		buf_printf(&q->b, ", %s %s", c->column, c->kind == COL_TEXTS ? "text" : col_sql_type(c));
}

static void column_ref(struct sql *q, const struct col *c)
{
	unsigned n = c->f->number;

	if (c->kind == COL_REF_LOCAL)
		buf_printf(&q->b, ", (SELECT j.id FROM %s j WHERE j.tenant_id = $1::uuid AND (j.id = x.r%u_id OR j.seq = x.r%u_seq)%s) AS r%u",
		    c->target->r->table, n, n, c->target->r->hard ? "" : " AND j.deleted_at IS NULL", n);
}

static void column_may(struct sql *q, const struct col *c)
{
	unsigned n = c->f->number;

	if (c->kind == COL_REF_LOCAL)
		buf_printf(&q->b, " AND (coalesce(x.r%u_id::text, x.r%u_seq::text) IS NULL OR ref.r%u IS NOT NULL)", n, n, n);
}

static void column_name(struct sql *q, const struct col *c)
{
	buf_printf(&q->b, ", %s", c->column);
}

static void column_value(struct sql *q, const struct col *c)
{
	if (c->kind == COL_REF_LOCAL)
		buf_printf(&q->b, ", ref.r%u", c->f->number);
	else if (c->kind == COL_TAGS)
		buf_z(&q->b, ", coalesce(tag_set.ids, '{}')");
	else if (c->kind == COL_JSON && c->f->format == FORMAT_JSON_OBJECT)
		buf_printf(&q->b, ", coalesce(x.%s, '{}')", c->column);
	else if (c->kind == COL_TEXTS)
		buf_printf(&q->b, ", coalesce(x.%s::text[], '{}')", c->column);
	else
		buf_printf(&q->b, ", x.%s", c->column);
}

static void column_missing(struct sql *q, const struct col *c)
{
	unsigned n = c->f->number;

	if (c->kind == COL_REF_LOCAL)
		buf_printf(&q->b, ", CASE WHEN coalesce(x.r%u_id::text, x.r%u_seq::text) IS NOT NULL AND ref.r%u IS NULL THEN '%u' END", n, n, n, n);
	else if (c->kind == COL_TAGS)
		buf_printf(&q->b, ", CASE WHEN x.n IN (SELECT lost.item FROM lost) THEN '%u' END", n);
}

/* Parameters: 1 tenant, 2 rows, 3 first number, 4 user, 5 tags. */
static void bulk_sql(struct bulk *k)
{
	const struct plan *p = k->b->plan;
	struct sql *q = &k->sql;

	buf_z(&q->b, "WITH x AS (SELECT * FROM jsonb_to_recordset($2::jsonb) AS x(n int, nth bigint, id uuid");
	each_column(q, p, column_definition);
	buf_z(&q->b, ")), ref AS (SELECT x.n");
	each_column(q, p, column_ref);
	buf_z(&q->b, " FROM x), may AS (SELECT x.n AS item, true");
	each_column(q, p, column_may);
	buf_z(&q->b, " AS yes FROM x JOIN ref ON ref.n = x.n)");
	if (p->tags) {
		buf_z(&q->b, ", want AS (SELECT * FROM jsonb_to_recordset($5::jsonb) AS " SQL_WANT ")");
		sql_tags(q, &k->actor);
	}
	buf_printf(&q->b, ", w AS (INSERT INTO %s (tenant_id, id, seq, created_by, updated_by", p->r->table);
	each_column(q, p, column_name);
	buf_z(&q->b, ") SELECT $1::uuid, x.id, $3::bigint + x.nth, $4::uuid, $4::uuid");
	each_column(q, p, column_value);
	buf_z(&q->b, " FROM x JOIN ref ON ref.n = x.n JOIN may ON may.item = x.n AND may.yes");
	if (p->tags)
		buf_z(&q->b, " LEFT JOIN tag_set ON tag_set.item = x.n WHERE x.n NOT IN (SELECT lost.item FROM lost)");
	buf_printf(&q->b, "%s RETURNING %s)", k->strict ? "" : " ON CONFLICT DO NOTHING", p->row_columns);
	sql_outbox(q, p, &k->actor, k->event, "NULL", "to_jsonb(w)", "w");
	buf_z(&q->b, " SELECT x.n::bigint, concat_ws(' '");
	each_column(q, p, column_missing);
	buf_printf(&q->b, "), %s FROM x JOIN ref ON ref.n = x.n LEFT JOIN w t ON t.id = x.id", k->ids_only ? "t.id" : p->tags ? p->select_made : p->select);
}

static const char *json_end(struct bulk *k, struct buf *b)
{
	buf_c(b, ']');
	return arena_strdup(&k->call->arena, buf_view(b));
}

/* -- on the worker ------------------------------------------------------------------------------------------------------ */

static void row_result(struct bulk *k, const PGresult *res, int row)
{
	int64_t n = cell_i64(res, row, SQL_VERSION);
	struct str missing = row_text(res, row, SQL_MISSING);
	struct buf b = { 0 };
	struct bulk_item *it;

	if (n < 0 || (size_t)n >= k->n)
		return;
	it = &k->items[n];
	if (missing.n) {
		violate_missing(k->call, k->b->plan, missing);
		item_refuse(k, it, STATUS_VALIDATION_ERROR);
	} else if (PQgetisnull(res, row, SQL_ENTITY)) {
		item_refuse(k, it, STATUS_DUPLICATE);
	} else if (k->ids_only) {
		it->id = arena_strdup(&k->call->arena, row_text(res, row, SQL_ENTITY));
		it->done = true;
		k->n_done++;
	} else {
		entity_put(&b, k->b->plan, res, row, SQL_ENTITY);
		it->entity = arena_str(&k->call->arena, buf_view(&b));
		it->done = true;
		k->n_done++;
		buf_fini(&b);
	}
}

static void reply_put(const struct bulk *k, struct buf *b)
{
	wire_put_varint(b, 1, k->n_done);
	wire_put_varint(b, 2, k->n - k->n_done);
	for (size_t i = 0; i < k->n; i++) {
		const struct bulk_item *it = &k->items[i];
		size_t at = wire_open(b, 3);

		wire_put_varint(b, 1, i);
		if (it->done)
			wire_put_bytes(b, 3, it->entity);
		else
			wire_put_bytes(b, 2, it->status);
		wire_close(b, at);
	}
}

enum status bulk_rows_write(struct bulk *k, struct db_conn *db)
{
	char seq[24];
	int64_t first;
	PGresult *res = NULL;
	enum status s;

	if (!k->n_good)
		return STATUS_OK;
	s = seq_lease(db, k->actor.tenant, k->b->plan->entity, (int64_t)k->n_good, &first);
	if (s != STATUS_OK)
		return s;
	snprintf(seq, sizeof(seq), "%" PRId64, first);
	k->sql.params[2] = seq;
	s = db_exec(db, &res, sql_stmt(&k->sql).sql.p, k->sql.n, k->sql.params);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		row_result(k, res, i);
	PQclear(res);
	if (s != STATUS_OK)
		s = db_error_explain(k->call, k->b->plan, &(struct db_error){ s, db_constraint(db), db_sqlstate(db), db_said(db) });
	return s;
}

static void changes_tell(const struct bulk *k)
{
	const struct rpc_call *call = k->call;

	if (k->has_tag_names)
		counts_changed(call->who.tenant_id, "tag", call->who.user_id);
	relay_wake();
}

static void bulk_write(struct bulk *k, struct db_conn *db, struct buf *out)
{
	struct rpc_call *call = k->call;
	enum status s;

	counts_begin(call->who.tenant_id, k->b->plan->entity);
	s = bulk_rows_write(k, db);
	if (s == STATUS_OK) {
		reply_put(k, out);
		s = idempotent_finish(db, call, buf_view(out));
	}
	if (s == STATUS_OK)
		s = db_commit(db);
	else
		db_rollback(db);
	counts_end(call->who.tenant_id, k->b->plan->entity, call->who.user_id, (int)k->n_done, s == STATUS_OK ? COUNTS_COMMITTED : COUNTS_UNSURE);
	if (s == STATUS_OK) {
		changes_tell(k);
		rpc_reply_ok(call, buf_view(out));
	} else {
		rpc_reply_error(call, s, NULL);
	}
}

static void bulk_job(struct db_conn *db, void *arg)
{
	struct bulk *k = arg;
	struct buf out = { 0 }, text = k->sql.b;
	enum status s;

	db_limit(db, k->call->who.scope);
	s = db_begin(db, k->call->who.tenant_id);
	if (s != STATUS_OK)
		rpc_reply_error(k->call, s, NULL);
	else if (idempotent_begin(db, k->call) == IDEM_REPLIED)
		db_rollback(db);
	else
		bulk_write(k, db, &out);
	buf_fini(&text);
	buf_fini(&out);
}

/* -- on the loop -------------------------------------------------------------------------------------------------------- */

void bulk_open(struct bulk *k, size_t n)
{
	k->n = n;
	k->items = arena_zalloc(&k->call->arena, n * sizeof(*k->items));
	buf_c(&k->rows, '[');
	buf_c(&k->tags, '[');
}

static bool items_parse(struct bulk *k)
{
	struct wire_reader r = wire_read(k->call->payload);
	struct wire_field f;
	size_t n = 0;

	while (wire_next(&r, &f))
		k->n += f.number == 1 && f.type == WIRE_BYTES;
	if (r.bad) {
		rpc_reply_error(k->call, STATUS_BAD_REQUEST, NULL);
		return false;
	}
	if (k->n == 0 || k->n > BULK_MAX_ITEMS) {
		rpc_violate(k->call, "item", k->n ? "max_items" : "required", k->n ? "must have at most 1000 elements" : "is required", k->n ? "1000" : NULL);
		rpc_reply_error(k->call, STATUS_VALIDATION_ERROR, NULL);
		return false;
	}
	bulk_open(k, k->n);
	r = wire_read(k->call->payload);
	while (wire_next(&r, &f))
		if (f.number == 1 && f.type == WIRE_BYTES)
			item_parse(k, n++, f.bytes);
	return true;
}

void bulk_build(struct bulk *k)
{
	struct sql *q = &k->sql;

	sql_start(q, &k->call->arena);
	actor_fill(&k->actor, k->call);
	sql_param(q, k->actor.tenant);
	sql_param(q, json_end(k, &k->rows));
	sql_param(q, NULL);
	sql_param(q, k->actor.user);
	if (k->b->plan->tags)
		sql_param(q, json_end(k, &k->tags));
	bulk_sql(k);
	buf_fini(&k->rows);
	buf_fini(&k->tags);
}

void bulk_run(const struct bound *b, struct rpc_call *call)
{
	struct bulk *k = ARENA_NEW(&call->arena, struct bulk);

	k->b = b;
	k->call = call;
	k->event = b->event;
	if (!items_parse(k))
		return;
	bulk_build(k);
	if (k->actor.tenant && db_work(engine.db, bulk_job, k))
		return;
	buf_fini(&k->sql.b);
	if (k->actor.tenant)
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 1000);
	else
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
}
