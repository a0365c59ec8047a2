/*
 * The rows of a step are written in rounds: of rows that mean the same entity one per round, so that the second finds what the first has
 * made. A round looks for what is there, makes the new ones in one statement and changes the others; if a row's own rule refuses that, the
 * round is undone and its rows are tried one by one. A dry run does all of it and takes it back.
 */
#include <inttypes.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/wire.h"
#include "db/array.h"
#include "db/row.h"
#include "resource/bulk.h"
#include "resource/handler.h"
#include "resource/import_rows.h"

/* Something by a text, in the step's arena; the handles' memory is uthash's. */
struct known {
	const char *key, *id; /* id NULL: of a dry run, it would be there */
	int row;              /* of the result that it was read from */
	UT_hash_handle hh;
};

/* -- refusing a row */

/* The dialect's name for a path of the contract: that of the column which is written there. */
static const char *member_of(const struct import_step *st, struct str path)
{
	for (size_t i = 0; i < st->req->n_column; i++) {
		const Crm__V1__ImportColumn *c = st->req->column[i];
		size_t n = c->path ? strlen(c->path) : 0;

		if (n && path.n >= n && memcmp(path.p, c->path, n) == 0 && (path.n == n || path.p[n] == '.'))
			return c->member;
	}
	return arena_strdup(&st->job->call->arena, path);
}

static void problem_read(struct import_step *st, struct import_row *r, struct str wire, bool named, struct buf *problems)
{
	struct arena *a = &st->job->call->arena;
	struct wire_reader reader = wire_read(wire);
	struct wire_field f;
	const char *field = "", *rule = "", *message = "";

	while (wire_next(&reader, &f)) {
		if (f.type != WIRE_BYTES)
			continue;
		if (f.number == 1)
			field = named ? arena_strdup(a, f.bytes) : member_of(st, f.bytes);
		else if (f.number == 2)
			rule = arena_strdup(a, f.bytes);
		else if (f.number == 3)
			message = arena_strdup(a, f.bytes);
	}
	if (!r->field) {
		r->field = field;
		r->message = message;
	}
	buf_z(problems, problems->n ? ",{\"field\":" : "[{\"field\":");
	buf_json_str(problems, str_of(field));
	buf_z(problems, ",\"rule\":");
	buf_json_str(problems, str_of(rule));
	buf_z(problems, ",\"message\":");
	buf_json_str(problems, str_of(message));
	buf_c(problems, '}');
}

/* wire: a Status. named: its paths are the dialect's names already. */
static void refuse(struct import_step *st, struct import_row *r, struct str wire, bool named)
{
	struct arena *a = &st->job->call->arena;
	struct wire_reader reader = wire_read(wire);
	struct wire_field f;
	struct buf problems = { 0 };

	r->open = false;
	r->action = IMPORT_FAILED;
	r->status = STATUS_VALIDATION_ERROR;
	r->id = r->field = r->message = r->problems = NULL;
	while (wire_next(&reader, &f)) {
		if (f.number == 1 && f.type == WIRE_VARINT)
			r->status = f.value < STATUS_COUNT ? (enum status)f.value : STATUS_INTERNAL;
		else if (f.number == 2 && f.type == WIRE_BYTES && !r->message)
			r->message = arena_strdup(a, f.bytes);
		else if (f.number == 3 && f.type == WIRE_BYTES)
			problem_read(st, r, f.bytes, named, &problems);
	}
	if (problems.n) {
		buf_c(&problems, ']');
		r->problems = arena_strdup(a, buf_view(&problems));
	}
	buf_fini(&problems);
}

static void refuse_by_call(struct import_step *st, struct import_row *r, enum status s)
{
	refuse(st, r, status_take(st->job->call, s), false);
}

/* -- reading */

bool import_row_read(struct import_step *st, struct import_row *r, struct str wire)
{
	struct wire_reader reader = wire_read(wire);
	struct wire_field f;
	struct str status = { 0 };

	*r = (struct import_row){ .open = true };
	while (wire_next(&reader, &f)) {
		if (f.number == 1 && f.type == WIRE_VARINT)
			r->number = f.value;
		else if (f.number == 2 && f.type == WIRE_BYTES)
			r->entity = f.bytes;
		else if (f.number == 3 && f.type == WIRE_BYTES)
			status = f.bytes;
	}
	if (status.n)
		refuse(st, r, status, true);
	return !reader.bad;
}

static bool has_column(const struct import_step *st, const char *path)
{
	for (size_t i = 0; i < st->req->n_column; i++)
		if (st->req->column[i]->path && strcmp(st->req->column[i]->path, path) == 0)
			return true;
	return false;
}

static bool wants(const struct import_step *st, const char *what)
{
	return strcmp(st->req->duplicates ? st->req->duplicates : "skip", what) == 0;
}

/* By what rows are recognised. */
static const struct col *match_of(const struct import_step *st)
{
	if (wants(st, "create"))
		return NULL;
	if (st->req->match)
		return plan_col_named(st->b->plan, str_of(st->req->match));
	return st->b->external && has_column(st, "external_id") ? st->b->external : plan_col_named(st->b->plan, STR("email"));
}

static const char *lower_of(struct arena *a, const char *s)
{
	char *copy = arena_strdup(a, str_of(s));

	for (char *p = copy; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + 32);
	return copy;
}

static void row_check(struct import_step *st, struct import_row *r)
{
	struct rpc_call *call = st->job->call;
	enum status s;

	r->values = ARENA_NEW(&call->arena, struct values);
	s = values_parse(call, st->b->plan, r->entity, NULL, 0, true, r->values);
	if (s != STATUS_OK) {
		refuse_by_call(st, r, s);
		return;
	}
	for (size_t i = 0; st->match && i < r->values->n_sets; i++)
		if (r->values->sets[i].col == st->match && r->values->sets[i].text && *r->values->sets[i].text)
			r->key = r->values->sets[i].text;
	if (r->key && st->match != st->b->external) /* an external id is what it is; e-mail addresses are the same in any case */
		r->key = lower_of(&call->arena, r->key);
}

/* -- finding */

static void known_add(struct import_step *st, struct known **map, const char *key, const char *id, int row)
{
	struct known *k;

	HASH_FIND_STR(*map, key, k);
	if (k)
		return;
	k = ARENA_NEW(&st->job->call->arena, struct known);
	k->key = key;
	k->id = id;
	k->row = row;
	HASH_ADD_KEYPTR(hh, *map, k->key, strlen(k->key), k);
}

static const struct known *known_find(struct known *map, const char *key)
{
	struct known *k;

	HASH_FIND_STR(map, key, k);
	return k;
}

static const char *keys_literal(struct import_step *st, struct import_row **rows, size_t n)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		if (rows[i]->key)
			db_array_put(&b, str_of(rows[i]->key));
	return db_array_end(&b, &st->job->call->arena);
}

/* Who makes or changes what is known by one of these keys waits for the others; the locks of upserts are the same. In the keys' order. */
static enum status keys_lock(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	const char *params[] = { st->actor.tenant, keys_literal(st, rows, n) };

	return db_exec(db, NULL,
	    arena_printf(&st->job->call->arena,
		"SELECT count(pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), 'crm.%s', current_schema(), '%s', $1::text, x.k), 0)))"
		" FROM (SELECT DISTINCT u.k FROM unnest($2::text[]) u(k) ORDER BY u.k) x",
		st->match == st->b->external ? "external" : st->match->column, st->b->plan->r->table), 2, params);
}

static enum status found_read(struct import_step *st, struct db_conn *db, const char *sql, const char *first, const char *keys, struct known **map)
{
	const char *params[] = { first, keys };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, sql, 2, params);

	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		known_add(st, map, col_text(st->job->call, res, i, 0), col_text(st->job->call, res, i, 1), i);
	PQclear(res);
	return s;
}

/* What is there by these keys, the oldest of several; of a dry run also what its steps before would have made. */
static enum status find(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n, struct known **map)
{
	const char *keys = keys_literal(st, rows, n), *table = st->b->plan->r->table;
	const char *sql = arena_printf(&st->job->call->arena, st->match == st->b->external ?
		"SELECT t.external_id, t.id FROM %s t WHERE t.tenant_id = $1::uuid AND t.external_id = ANY($2::text[]) AND t.deleted_at IS NULL" :
		"SELECT x.key, t.id FROM %s t JOIN %s_by_email($2::text[]) x ON x.id = t.id WHERE t.tenant_id = $1::uuid ORDER BY t.created_at, t.id", table, table);
	enum status s = found_read(st, db, sql, st->actor.tenant, keys, map);

	if (s == STATUS_OK && st->job->dry_run)
		s = found_read(st, db, "SELECT u.k, NULL FROM unnest($2::text[]) u(k) WHERE EXISTS (SELECT FROM job_item i WHERE i.job_id = $1::uuid AND i.known = md5(u.k)::uuid)", st->job->id, keys, map);
	return s;
}

static void settle(struct import_row *r, enum import_action action, const char *id)
{
	r->open = false;
	r->action = action;
	r->id = id;
}

/* Rows that are there: passed over, or kept for changing. */
static void recognise(struct import_step *st, struct import_row **rows, size_t n, struct known *map)
{
	for (size_t i = 0; i < n; i++) {
		const struct known *k = rows[i]->key ? known_find(map, rows[i]->key) : NULL;

		rows[i]->id = k ? k->id : NULL;
		if (k && wants(st, "skip"))
			settle(rows[i], IMPORT_SKIPPED, k->id);
		else if (k && !k->id)
			settle(rows[i], IMPORT_UPDATED, NULL);
	}
}

/* -- changing */

static const char *ids_literal(struct import_step *st, struct import_row **rows, size_t n)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		if (rows[i]->open && rows[i]->id)
			db_array_put(&b, str_of(rows[i]->id));
	return db_array_end(&b, &st->job->call->arena);
}

/* As the rows are, behind the locks that all writers take first. */
static enum status before_read(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	const char *ids = ids_literal(st, rows, n);
	struct rpc_call *call = st->job->call;
	struct known *map = NULL;
	PGresult *res = NULL;
	enum status s;

	if (strcmp(ids, "{}") == 0)
		return STATUS_OK;
	s = db_exec(db, NULL, "SELECT count(pg_advisory_xact_lock(uuid_hash_extended(x.id, 0))) FROM (SELECT DISTINCT u.id FROM unnest($1::uuid[]) u(id) ORDER BY u.id) x", 1, &ids);
	if (s == STATUS_OK)
		s = db_exec(db, &res, arena_printf(&call->arena, "SELECT t.id, to_jsonb(t) - 'search', t.version FROM %s t WHERE t.id = ANY($1::uuid[]) AND t.deleted_at IS NULL", st->b->plan->r->table), 1, &ids);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		known_add(st, &map, col_text(call, res, i, 0), NULL, i);
	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		const struct known *k = rows[i]->open && rows[i]->id ? known_find(map, rows[i]->id) : NULL;

		rows[i]->before = k ? col_text(call, res, k->row, 1) : NULL;
		rows[i]->made = k ? col_i64(res, k->row, 2) : 0;
	}
	PQclear(res);
	HASH_CLEAR(hh, map);
	return s;
}

static enum status change(struct import_step *st, struct db_conn *db, struct import_row *r)
{
	struct rpc_call *call = st->job->call;
	struct values *v = ARENA_NEW(&call->arena, struct values);
	struct key key = { .id = r->id };
	struct sql q = { 0 };
	PGresult *res = NULL;
	enum status s = values_parse(call, st->b->plan, r->entity, NULL, 0, false, v);

	if (s == STATUS_OK && !r->before)
		s = STATUS_CONFLICT; /* it was deleted at this moment */
	if (s != STATUS_OK) {
		refuse_by_call(st, r, s);
		return STATUS_OK;
	}
	sql_start(&q, &call->arena);
	sql_update(&q, st->b->plan, &st->actor, &key, param_i64(call, r->made), v, st->b->event_updated);
	s = q.over ? STATUS_BAD_REQUEST : db_exec_again(db, &res, sql_stmt(&q).sql.p, q.n, q.params);
	if (s != STATUS_OK) {
		s = db_error_explain(call, st->b->plan, &(struct db_error){ s, db_constraint(db), db_sqlstate(db), db_said(db) });
	} else {
		enum status outcome = write_outcome(call, st->b->plan, res, 0);

		if (outcome == STATUS_OK) {
			settle(r, IMPORT_UPDATED, r->id);
			r->made++;
		} else {
			refuse_by_call(st, r, outcome);
		}
	}
	PQclear(res);
	buf_fini(&q.b);
	return s;
}

/* -- making */

static enum status create(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	struct bulk *k = ARENA_NEW(&st->job->call->arena, struct bulk);
	enum status s;

	k->b = st->b;
	k->call = st->job->call;
	k->event = st->b->event_created;
	k->ids_only = true;
	k->strict = n == 1;
	bulk_open(k, n);
	for (size_t i = 0; i < n; i++)
		if (rows[i]->open && !rows[i]->id)
			bulk_row_put(k, i, rows[i]->values);
	bulk_build(k);
	s = bulk_rows_write(k, db);
	buf_fini(&k->sql.b);
	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		if (k->items[i].done) {
			settle(rows[i], IMPORT_CREATED, k->items[i].id);
			rows[i]->made = 1;
		} else if (rows[i]->open && !rows[i]->id && k->items[i].outcome != STATUS_DUPLICATE) { /* else it is tried alone, for what it is a duplicate by */
			refuse(st, rows[i], k->items[i].status, false);
		}
	}
	return s;
}

static enum status write_some(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	enum status s = create(st, db, rows, n);

	for (size_t i = 0; s == STATUS_OK && i < n; i++)
		if (rows[i]->open && rows[i]->id)
			s = change(st, db, rows[i]);
	return s;
}

static bool is_of_the_row(enum status s)
{
	return s == STATUS_DUPLICATE || s == STATUS_CONFLICT || s == STATUS_VALIDATION_ERROR || s == STATUS_PERMISSION_DENIED || s == STATUS_BAD_REQUEST;
}

static enum status write_one(struct import_step *st, struct db_conn *db, struct import_row *r)
{
	struct str refusal;
	enum status s = db_savepoint(db);

	if (s == STATUS_OK)
		s = write_some(st, db, &r, 1);
	if (s == STATUS_OK)
		return db_keep(db);
	refusal = status_take(st->job->call, s);
	if (!is_of_the_row(s))
		return s;
	refuse(st, r, refusal, false);
	return db_undo(db) ? STATUS_OK : STATUS_UNAVAILABLE;
}

/* Nothing of these rows was written: what was said of them in between does not count. */
static void reopen(struct import_row **rows, const struct import_row *as, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*rows[i] = as[i];
}

static enum status write_round(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	struct arena *a = &st->job->call->arena;
	struct import_row *as = arena_alloc(a, n * sizeof(*as));
	enum status s;

	for (size_t i = 0; i < n; i++)
		as[i] = *rows[i];
	s = db_savepoint(db);
	if (s == STATUS_OK)
		s = write_some(st, db, rows, n);
	if (s == STATUS_OK)
		s = db_keep(db);
	if (s != STATUS_OK) {
		if (!is_of_the_row(s))
			return s;
		(void)status_take(st->job->call, s);
		if (!db_undo(db))
			return STATUS_UNAVAILABLE;
		reopen(rows, as, n);
		s = STATUS_OK;
	}
	for (size_t i = 0; i < n && s == STATUS_OK; i++)
		if (rows[i]->open)
			s = write_one(st, db, rows[i]);
	return s;
}

/* -- rounds */

/* Open rows that mean different entities. */
static size_t round_take(struct import_step *st, struct import_row **rows)
{
	struct known *seen = NULL;
	size_t n = 0;

	for (size_t i = 0; i < st->n; i++) {
		struct import_row *r = &st->rows[i];

		if (!r->open || (r->key && known_find(seen, r->key)))
			continue;
		if (r->key)
			known_add(st, &seen, r->key, NULL, 0);
		rows[n++] = r;
	}
	HASH_CLEAR(hh, seen);
	return n;
}

static enum status round_do(struct import_step *st, struct db_conn *db, struct import_row **rows, size_t n)
{
	struct known *map = NULL;
	enum status s = st->match ? find(st, db, rows, n, &map) : STATUS_OK;

	if (s == STATUS_OK)
		recognise(st, rows, n, map);
	HASH_CLEAR(hh, map);
	if (s == STATUS_OK)
		s = before_read(st, db, rows, n);
	return s == STATUS_OK ? write_round(st, db, rows, n) : s;
}

enum status import_rows_write(struct import_step *st, struct db_conn *db)
{
	struct import_row **rows = arena_alloc(&st->job->call->arena, (st->n + 1) * sizeof(*rows));
	size_t n;
	enum status s = STATUS_OK;

	st->match = match_of(st);
	for (size_t i = 0; i < st->n; i++)
		if (st->rows[i].open)
			row_check(st, &st->rows[i]);
	n = round_take(st, rows);
	if (st->match && n)
		s = keys_lock(st, db, rows, n);
	if (s == STATUS_OK && st->job->dry_run)
		s = db_savepoint(db);
	for (; s == STATUS_OK && n; n = round_take(st, rows))
		s = round_do(st, db, rows, n);
	resource_touched(st->job->call, st->b->plan->entity);
	if (st->b->plan->tags)
		resource_touched(st->job->call, "tag");
	if (s == STATUS_OK && st->job->dry_run && !db_undo(db))
		s = STATUS_UNAVAILABLE;
	return s;
}
