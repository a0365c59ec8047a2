/* List: the page on the event loop, and its total from the cache or counted once for all who wait. */
#include <inttypes.h>

#include "base/wire.h"
#include "events/relay.h"
#include "resource/internal.h"

/*
 * The page and the total may be ready in either order and on different threads: each fills its own part, and whoever
 * takes parts to zero replies.
 */
struct list {
	struct count_wait wait; /* first: counts.c knows a list by it */
	const struct bound *b;
	struct rpc_call *call;
	struct query query;
	struct buf body;         /* items and cursor */
	const char *count_sql;
	const char *const *count_params;
	int n_count_params;
	struct count_entry *entry;
	enum status page_status, count_status;
	int64_t total;
	bool has_total, noted;
	char sqlstate[6];
	atomic_int parts;
};

static void list_finish(struct list *l)
{
	struct rpc_call *call = l->call;
	enum status s = l->page_status != STATUS_OK ? l->page_status : l->count_status;
	struct buf body = l->body;

	if (s != STATUS_OK) {
		reply_db_error(call, l->b->plan, &(struct db_error){ s, "", l->sqlstate, NULL });
	} else {
		if (l->has_total)
			wire_put_varint(&body, 2, (uint64_t)l->total);
		rpc_reply_ok(call, buf_view(&body));
	}
	buf_fini(&body);
}

static void list_part(struct list *l)
{
	if (atomic_fetch_sub(&l->parts, 1) == 1)
		list_finish(l);
}

static void page_put(struct buf *b, const struct list *l, const PGresult *res)
{
	const struct plan *p = l->b->plan;
	int n = PQntuples(res), limit = (int)l->query.limit;

	for (int i = 0; i < n && i < limit; i++) {
		size_t at = wire_open(b, 1);

		entity_show(b, p, res, i, 0);
		wire_close(b, at);
	}
	if (n > limit) {
		size_t at = wire_open(b, 3);

		cursor_put(b, p, &l->query, res, limit - 1);
		wire_close(b, at);
	}
}

/* When nothing else is waited for, the loop's scratch is the reply; otherwise the page is kept until the total is there. */
static void page_done(void *arg, const struct db_result *r)
{
	struct list *l = arg;
	struct buf *b = atomic_load(&l->parts) == 1 ? &engine.reply : &l->body;

	l->page_status = r->status;
	if (l->noted && r->status == STATUS_OK)
		relay_wake();
	if (r->status != STATUS_OK)
		memcpy(l->sqlstate, r->sqlstate, strnlen(r->sqlstate, sizeof(l->sqlstate) - 1));
	if (b == &l->body || r->status != STATUS_OK || l->count_status != STATUS_OK) {
		if (r->status == STATUS_OK)
			page_put(&l->body, l, r->res[r->n - 1]);
		list_part(l);
		return;
	}
	buf_clear(b);
	page_put(b, l, r->res[r->n - 1]);
	if (l->has_total)
		wire_put_varint(b, 2, (uint64_t)l->total);
	buf_fini(&l->body);
	rpc_reply_ok(l->call, buf_view(b));
}

/* -- total ---------------------------------------------------------------------------------------------------------- */

static void count_job(struct db_conn *db, void *arg)
{
	struct list *l = arg;
	struct count_entry *e = l->entry;
	PGresult *res = NULL;
	int64_t n = 0;
	enum status s;

	db_limit(db, l->call->who.scope);
	s = db_begin(db, l->call->who.tenant_id);
	if (s == STATUS_OK)
		s = db_exec(db, &res, l->count_sql, l->n_count_params, l->count_params);
	if (s == STATUS_OK)
		n = cell_i64(res, 0, 0);
	PQclear(res);
	db_rollback(db);
	counts_put(e, s, n);
}

/* On a worker: a slow count must not stand before other reads on their connection. */
static void count_run(struct count_wait *w, struct count_entry *e)
{
	struct list *l = (struct list *)w;

	l->entry = e;
	if (!db_work(engine.db, count_job, l))
		counts_put(e, STATUS_UNAVAILABLE, 0);
}

static void count_done(struct count_wait *w, enum status s, int64_t n)
{
	struct list *l = (struct list *)w;

	l->count_status = s;
	l->total = n;
	l->has_total = true;
	list_part(l);
}

/* What tells one total from another: the text of the filters, whose rows they are, and their values. */
static struct str count_key(struct arena *a, struct str scope, struct str where, const struct sql *q, const struct query *l)
{
	struct buf b = { 0 };
	struct str key;

	if (!l->n_filters && !l->search && !l->rows)
		return (struct str){ 0 };
	buf_str(&b, where);
	if (l->rows)
		buf_str(&b, scope);
	if (l->search)
		buf_printf(&b, " %zu %s", strlen(l->search), l->search);
	for (int i = 0; i < q->n; i++) {
		buf_c(&b, 0);
		buf_z(&b, q->params[i]);
	}
	key = arena_str(a, buf_view(&b));
	buf_fini(&b);
	return key;
}

static void count_prepare(struct list *l, const struct sql *where)
{
	struct arena *a = &l->call->arena;
	struct sql q = { 0 };

	sql_start(&q, a);
	memcpy(q.params, where->params, (size_t)where->n * sizeof(q.params[0]));
	q.n = where->n;
	query_count(&q, l->b->plan, &l->query, (struct str){ where->b.p, where->b.n });
	l->count_sql = arena_strdup(a, buf_view(&q.b));
	l->count_params = arena_dup(a, q.params, (size_t)q.n * sizeof(q.params[0]));
	l->n_count_params = q.n;
	buf_fini(&q.b);
}

static void total_start(struct list *l, const struct sql *where)
{
	const struct plan *p = l->b->plan;
	struct str text = { where->b.p, where->b.n };
	struct counts_key key = { .tenant = l->call->who.tenant_id, .user = l->call->who.user_id, .entity = p->entity, .ttl = p->r->hard };

	key.filter = count_key(&l->call->arena, l->call->who.scope, text, where, &l->query);
	count_prepare(l, where);
	l->wait.run = count_run;
	l->wait.done = count_done;
	atomic_fetch_add(&l->parts, 1);
	if (counts_get(&key, &l->wait, &l->total)) {
		l->has_total = true;
		atomic_fetch_sub(&l->parts, 1);
	}
}

/* -- page ------------------------------------------------------------------------------------------------------------ */

/* The first page of an export and the note of it are one transaction: nothing is shown that is not noted. */
static void page_noted(struct list *l, const struct db_stmt *page)
{
	struct rpc_call *call = l->call;
	struct sql q = { 0 };
	struct actor actor;
	struct db_stmt both[2];

	actor_fill(&actor, call);
	sql_start(&q, &call->arena);
	export_note(&q, l->b->plan, &actor, l->b->event, &l->query);
	both[0] = sql_stmt(&q);
	both[1] = *page;
	l->noted = true;
	db_submit_as(engine.db, DB_WRITE, call->who.tenant_id, call->who.scope, both, 2, call->deadline_us, page_done, l);
	buf_fini(&q.b);
}

static void page_start(struct list *l, const struct sql *where)
{
	struct rpc_call *call = l->call;
	struct sql q = { .b = engine.text };
	struct db_stmt stmt;

	sql_start(&q, &call->arena);
	memcpy(q.params, where->params, (size_t)where->n * sizeof(q.params[0]));
	q.n = where->n;
	query_page(&q, l->b->plan, &l->query, (struct str){ where->b.p, where->b.n });
	stmt = sql_stmt(&q);
	if (l->b->op->kind == OP_EXPORT && l->b->event && !l->query.after)
		page_noted(l, &stmt);
	else
		db_submit_as(engine.db, DB_READ, call->who.tenant_id, call->who.scope, &stmt, 1, call->deadline_us, page_done, l);
	engine.text = q.b;
}

static bool fits(const struct sql *where)
{
	return !where->over && where->n + 2 * (LIST_MAX_SORT + 1) * 2 + 4 <= DB_MAX_PARAMS;
}

void list_run(const struct bound *b, struct rpc_call *call)
{
	static struct sql where; /* loop thread's scratch */
	struct list *l = ARENA_NEW(&call->arena, struct list);
	enum status s = query_parse(call, b->plan, call->payload, &l->query);

	if (s != STATUS_OK) {
		rpc_reply_error(call, s, NULL);
		return;
	}
	l->b = b;
	l->call = call;
	if (b->op->kind == OP_EXPORT) {
		l->query.limit = EXPORT_LIMIT;
		l->query.offset = 0;
		l->query.want_total = false;
	}
	atomic_init(&l->parts, 1);
	sql_start(&where, &call->arena);
	query_where(&where, b->plan, &l->query);
	if (!fits(&where)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, "Too many filters");
		return;
	}
	page_start(l, &where);
	if (l->query.want_total)
		total_start(l, &where);
}
