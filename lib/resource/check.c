/* Start-up check: every statement of every resource is prepared once against the database, on a worker. */
#include <unistd.h>

#include "base/log.h"
#include "resource/internal.h"

#define RETRY_US 300000

/* Class 42: the statement does not fit the database. Everything else means that the database is not there yet. */
static bool is_mismatch(struct db_conn *db)
{
	return strncmp(db_sqlstate(db), "42", 2) == 0;
}

static enum status try(struct db_conn *db, const char *sql)
{
	enum status s = db_begin(db, (struct str){ 0 });
	struct buf b = { 0 };

	if (s == STATUS_OK) {
		buf_printf(&b, "PREPARE resource_check AS %s", sql);
		s = db_exec(db, NULL, buf_cstr(&b), 0, NULL);
	}
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "DEALLOCATE resource_check", 0, NULL);
	buf_fini(&b);
	return s;
}

/* True: go on. False: the database cannot be asked right now. */
static bool check(struct db_conn *db, const struct plan *p, const char *what, const char *sql)
{
	char why[300];
	enum status s = try(db, sql);

	if (s != STATUS_OK && is_mismatch(db) && !db_check(engine.db, str_of(sql), why, sizeof(why)))
		log_die("RESOURCE-DATABASE", "resource %s does not fit the database: %s: %s", p->r->table, what, why);
	db_rollback(db);
	return s == STATUS_OK;
}

static bool check_columns(struct db_conn *db, const struct plan *p)
{
	struct buf b = { 0 };
	bool good = true;

	for (size_t i = 0; i < p->n_cols && good; i++) {
		const struct col *c = &p->cols[i];

		for (size_t m = 0; m < (c->members ? c->n_members : 1) && good; m++) {
			const struct col *one = c->members ? &c->members[m] : c;

			buf_clear(&b);
			buf_printf(&b, "SELECT t.%s FROM %s t", one->column, p->r->from ? p->r->from : p->r->table);
			good = check(db, p, one->f->name, buf_cstr(&b));
		}
	}
	buf_fini(&b);
	return good;
}

static bool check_filters(struct db_conn *db, const struct plan *p, struct arena *a)
{
	struct sql q = { 0 };
	bool good = true;

	for (size_t i = 0; i < p->n_cols && good; i++) {
		const char *values[] = { "x", "y" };
		struct key keys[] = { { .id = "x" }, { .seq = "1" } };
		struct query l = { .n_filters = 1, .filters[0] = { .col = &p->cols[i], .values = values, .n_values = 2, .keys = keys, .n_keys = 2 } };

		if (!p->cols[i].filter)
			continue;
		sql_start(&q, a);
		query_where(&q, p, &l);
		struct str where = arena_str(a, buf_view(&q.b));

		buf_clear(&q.b);
		query_count(&q, p, &l, where);
		good = check(db, p, p->cols[i].f->name, buf_cstr(&q.b));
	}
	buf_fini(&q.b);
	return good;
}

/* A resource whose rows can be limited without the policy that limits them would show everything to everybody. */
static bool check_scope(struct db_conn *db, const struct plan *p)
{
	const char *params[] = { p->r->table };
	PGresult *res = NULL;
	enum status s = p->owner ? db_begin(db, (struct str){ 0 }) : STATUS_OK;

	if (!p->owner)
		return true;
	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT FROM pg_policy WHERE polrelid = $1::regclass AND polname = 'scope' AND NOT polpermissive", 1, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		log_die("RESOURCE-DATABASE", "resource %s: its message has rows, but the table has no policy `scope` (limit_rows)", p->r->table);
	PQclear(res);
	db_rollback(db);
	return s == STATUS_OK;
}

static bool check_page(struct db_conn *db, const struct plan *p, const char *rows, struct arena *a)
{
	const char *after[] = { "x", "x" };
	struct query l = { .keys = { { p->sort.col, p->sort.desc }, { NULL, p->sort.desc } }, .n_keys = 2, .limit = 20, .after = after,
		.search = p->r->searchable ? "abc" : NULL, .rows = rows };
	struct sql q = { 0 };
	bool good;

	sql_start(&q, a);
	query_where(&q, p, &l);
	struct str where = arena_str(a, buf_view(&q.b));

	buf_clear(&q.b);
	query_page(&q, p, &l, where);
	good = check(db, p, "list", buf_cstr(&q.b));
	buf_fini(&q.b);
	return good;
}

/* For one key and for several; more differ in their number only. */
static bool check_get(struct db_conn *db, const struct plan *p)
{
	bool good = true;

	for (int i = 0; i < 2 && good; i++)
		good = check(db, p, "get", p->by_id.form[i].sql.p) && check(db, p, "get by number", p->by_seq.form[i].sql.p);
	return good;
}

/* A write of every writable column. */
static void all_sets(const struct plan *p, struct values *v)
{
	v->n_sets = 0;
	v->n_tags = 0;
	for (size_t i = 0; i < p->n_cols; i++) {
		struct col *c = &p->cols[i];

		if (!c->writable)
			continue;
		for (size_t m = 0; m < (c->members ? c->n_members : 1); m++)
			v->sets[v->n_sets++] = (struct set){ .col = c->members ? &c->members[m] : c, .how = c->kind == COL_REF_LOCAL ? SET_REF : c->kind == COL_TAGS ? SET_TAGS : SET_TEXT,
				.key = { .id = c->kind == COL_REF_LOCAL ? "x" : NULL } };
	}
	if (p->tags)
		v->tags[v->n_tags++] = (struct tag_want){ .name = "x" };
}

static bool check_write(struct db_conn *db, const struct bound *b, enum op_kind kind, struct arena *a)
{
	struct actor actor = { 0 };
	struct key key = { .id = "x" };
	struct sql q = { 0 };
	struct values v;
	int seq_at;
	bool good;

	all_sets(b->plan, &v);
	sql_start(&q, a);
	if (kind == OP_CREATE)
		sql_create(&q, b->plan, &actor, "x", &v, b->event, &seq_at);
	else if (kind == OP_BULK_UPDATE)
		sql_update_many(&q, b->plan, &actor, "{}", &v, TAGS_ADD, b->event);
	else if (kind == OP_BULK_DELETE)
		sql_delete_many(&q, b->plan, &actor, "{}", b->event);
	else if (kind == OP_UPDATE)
		sql_update(&q, b->plan, &actor, &key, NULL, &v, b->event);
	else
		sql_delete(&q, b->plan, &actor, &key, NULL, b->event);
	good = check(db, b->plan, b->op->rpc, buf_cstr(&q.b));
	buf_fini(&q.b);
	return good;
}

static bool check_note(struct db_conn *db, const struct bound *b, struct arena *a)
{
	struct actor actor = { 0 };
	struct query l = { 0 };
	struct sql q = { 0 };
	bool good;

	if (!b->event)
		return true;
	sql_start(&q, a);
	export_note(&q, b->plan, &actor, b->event, &l);
	good = check(db, b->plan, b->op->rpc, buf_cstr(&q.b));
	buf_fini(&q.b);
	return good;
}

static bool check_op(struct db_conn *db, const struct bound *b, struct arena *a)
{
	switch (b->op->kind) {
	case OP_LIST:
		return check_page(db, b->plan, NULL, a) && check_filters(db, b->plan, a) &&
		    (!b->plan->owner || (check_page(db, b->plan, "own", a) && check_page(db, b->plan, "team", a)));
	case OP_EXPORT:
		return check_note(db, b, a);
	case OP_GET:
		return check_get(db, b->plan);
	case OP_CREATE:
	case OP_UPDATE:
	case OP_DELETE:
	case OP_BULK_UPDATE:
	case OP_BULK_DELETE:
		return check_write(db, b, b->op->kind, a);
	case OP_UPSERT:
		return check_write(db, b, OP_CREATE, a) && check_write(db, b, OP_UPDATE, a);
	default:
		return true;
	}
}

static bool check_report(struct db_conn *db, const struct bound *b)
{
	char why[300];
	enum status s = try(db, b->op->sql);

	if (s != STATUS_OK && is_mismatch(db) && !db_check(engine.db, str_of(b->op->sql), why, sizeof(why)))
		log_die("RESOURCE-DATABASE", "%s does not fit the database: %s", b->op->rpc, why);
	db_rollback(db);
	return s == STATUS_OK;
}

static bool check_all(struct db_conn *db, struct arena *a)
{
	for (size_t i = 0; i < engine.n_plans; i++)
		if (!check_columns(db, &engine.plans[i]) || !check_scope(db, &engine.plans[i]))
			return false;
	for (size_t i = 0; i < engine.n_ops; i++)
		if (engine.bound[i].op->kind == OP_REPORT ? !check_report(db, &engine.bound[i]) : engine.bound[i].plan && !check_op(db, &engine.bound[i], a))
			return false;
	return true;
}

static void check_job(struct db_conn *db, void *arg)
{
	struct arena a = { 0 };
	bool good = check_all(db, &a);

	arena_fini(&a);
	if (good) {
		atomic_store(&engine.ready, true);
		return;
	}
	usleep(RETRY_US);
	check_start();
}

void check_start(void)
{
	if (!db_work(engine.db, check_job, NULL))
		log_warn("RESOURCE-CHECK", "no worker for the start-up check");
}
