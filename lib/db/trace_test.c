/* Names of statements, and submissions and handlers in traces: who gets which span, and what PostgreSQL is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "base/arena.h"
#include "db/db.h"
#include "db/trace.h"
#include "telemetry/trace_export.h"
#include "telemetry/trace_internal.h"
#include "testing/pg.h"

#define TENANT "01890000-0000-7000-8000-000000000001"

static void test_summary(void **state)
{
	static const char *const rows[][2] = {
		{ "SELECT id, name FROM lead WHERE id = $1", "SELECT lead" },
		{ "SELECT set_config('app.tenant_id', $1, true)", "SELECT set_config" },
		{ "SELECT x FROM (SELECT y FROM deal) t", "SELECT deal" },
		{ "INSERT INTO customers.inbox (a) SELECT 'DELETE FROM lead'", "INSERT customers.inbox" },
		{ "WITH b AS (SELECT * FROM deal WHERE id = $1 FOR UPDATE), w AS (UPDATE deal t SET x = 1) INSERT INTO outbox SELECT 1", "UPDATE deal" },
		{ "WITH w AS (INSERT INTO lead AS t (id) VALUES ($1) ON CONFLICT DO UPDATE SET x = 1 RETURNING *) INSERT INTO outbox", "INSERT lead" },
		{ "DELETE FROM session WHERE id = $1", "DELETE session" },
		{ "SELECT 'it''s; DELETE FROM lead' FROM chain", "SELECT chain" },
		{ "COMMIT", "COMMIT" }, { "SAVEPOINT here", "SAVEPOINT" }, { "", "" }, { "SELECT", "SELECT" }, { "''", "" }, { "SELECT 'unended", "SELECT unended" },
	};
	char out[SQL_SUMMARY];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sql_summary(str_of(rows[i][0]), out);
		assert_string_equal(out, rows[i][1]);
	}
}

static void test_long_names_are_cut(void **state)
{
	char sql[300] = "DELETE FROM ", out[SQL_SUMMARY];

	memset(sql + 12, 'x', 200);
	sql_summary(str_of(sql), out);
	assert_int_equal(strlen(out), SQL_SUMMARY - 1);
	sql_summary(str_of(sql + 12), out);
	assert_int_equal(strlen(out), SQL_SUMMARY - 1);
}

static struct pg_fixture *pg;
static struct event_base *base;
static struct db *d;
static struct db_lookup by_seq;

struct answer {
	bool done;
	enum status status;
	char query[300]; /* what PostgreSQL says that it was asked */
	struct trace_context here; /* the context that it was answered in */
};

static void take_query(struct answer *a, const PGresult *r)
{
	snprintf(a->query, sizeof(a->query), "%s", r && PQntuples(r) ? PQgetvalue(r, 0, 0) : "");
}

static void on_done(void *arg, const struct db_result *r)
{
	struct answer *a = arg;

	a->status = r->status;
	a->here = trace_here;
	if (r->status == STATUS_OK)
		take_query(a, r->res[0]);
	a->done = true;
}

static void wait_for(const struct answer *a)
{
	while (!__atomic_load_n(&a->done, __ATOMIC_ACQUIRE))
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(200);
}

static struct trace_context work_for(int trace)
{
	struct trace_context c = { .trace = { (uint8_t)trace }, .span = { 7 }, .sampled = trace != 0 };

	trace_here = c;
	return c;
}

static void ask(const char *sql, struct answer *a)
{
	struct db_stmt stmt = { .sql = str_of(sql) };

	*a = (struct answer){ 0 };
	db_submit(d, DB_READ, STR(TENANT), &stmt, 1, 0, on_done, a);
	trace_here = (struct trace_context){ 0 };
	wait_for(a);
}

static bool has_comment(const struct answer *a, const struct span *s)
{
	char comment[100], traceparent[TRACEPARENT + 1];

	trace_print(&s->at, traceparent);
	snprintf(comment, sizeof(comment), "/*traceparent='%s'*/", traceparent);
	return strstr(a->query, comment) != NULL;
}

static int64_t attr(const struct span *s, const char *key)
{
	for (unsigned i = 0; i < s->n_attrs; i++)
		if (strcmp(s->attrs[i].key, key) == 0)
			return s->attrs[i].type == SPAN_ATTR_TEXT ? (int64_t)s->attrs[i].n : s->attrs[i].number;
	return -1;
}

static struct str name_of(const struct span *s)
{
	return (struct str){ s->text + s->name_at, s->name_n };
}

static void test_untraced(void **state)
{
	struct answer a;
	struct span s;

	work_for(0);
	ask("SELECT current_query()", &a);
	assert_string_equal(a.query, "SELECT current_query()");
	assert_false(trace_ring_take(&s));
}

static void test_submission(void **state)
{
	struct trace_context c = work_for(1);
	struct answer a;
	struct span s;

	ask("SELECT current_query()", &a);
	assert_int_equal(a.status, STATUS_OK);
	assert_memory_equal(&a.here, &c, sizeof(c)); /* who is answered works for the same trace */
	assert_false(trace_here.sampled);
	assert_true(trace_ring_take(&s));
	assert_memory_equal(s.at.trace, c.trace, 16);
	assert_memory_equal(s.parent, c.span, 8);
	assert_true(has_comment(&a, &s));
	assert_int_equal(attr(&s, "crm.db.rows"), 1);
	assert_true(attr(&s, "crm.db.wait_us") >= 0);
	assert_false(s.error);
	assert_false(trace_ring_take(&s));
	trace_sql_comment = false;
	work_for(1);
	ask("SELECT current_query()", &a);
	assert_string_equal(a.query, "SELECT current_query()");
	assert_true(trace_ring_take(&s));
}

static void test_failure(void **state)
{
	struct answer a;
	struct span s;

	work_for(1);
	ask("SELECT 1 / (length(current_query()) * 0)", &a);
	assert_int_equal(a.status, STATUS_INTERNAL);
	assert_true(trace_ring_take(&s));
	assert_true(s.error);
	assert_int_equal(attr(&s, "db.response.status_code"), 5);
	assert_false(trace_ring_take(&s));
}

/* Four share a statement, two of them are traced: each has a span, one statement was sent for all. */
static void test_shared_lookup(void **state)
{
	struct answer a[4] = { { 0 } };
	struct span first, second;

	for (int i = 0; i < 4; i++) {
		char key[4] = { (char)('1' + i), 0 };

		work_for(i == 1 || i == 2 ? i : 0);
		db_lookup(d, STR(TENANT), (struct str){ 0 }, &by_seq, key, 0, on_done, &a[i]);
	}
	work_for(0);
	for (int i = 0; i < 4; i++) {
		wait_for(&a[i]);
		assert_int_equal(a[i].status, STATUS_OK);
		assert_int_equal(a[i].here.trace[0], i == 1 || i == 2 ? i : 0);
	}
	assert_true(trace_ring_take(&first));
	assert_true(trace_ring_take(&second));
	if (first.at.trace[0] == 2) {
		struct span swap = first;

		first = second;
		second = swap;
	}
	assert_int_equal(first.at.trace[0], 1);
	assert_int_equal(second.at.trace[0], 2);
	assert_int_equal(attr(&first, "crm.db.shared"), 4);
	assert_int_equal(attr(&second, "crm.db.shared"), 4);
	assert_memory_equal(&second.link.span, first.at.span, 8);
	assert_true(has_comment(&a[0], &first));
	assert_false(trace_ring_take(&first));
}

static void handler(struct db_conn *c, void *arg)
{
	struct answer *a = arg;
	PGresult *r = NULL;

	a->here = trace_here;
	a->status = db_begin(c, STR(TENANT));
	if (a->status == STATUS_OK)
		a->status = db_exec(c, &r, "SELECT current_query()", 0, NULL);
	take_query(a, r);
	PQclear(r);
	if (a->status == STATUS_OK)
		a->status = db_commit(c);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
}

static void test_handler(void **state)
{
	struct trace_context c = work_for(3);
	struct answer a = { 0 };
	struct span s[3];

	assert_true(db_work(d, handler, &a));
	work_for(0);
	wait_for(&a);
	assert_int_equal(a.status, STATUS_OK);
	assert_memory_equal(&a.here, &c, sizeof(c));
	for (int i = 0; i < 3; i++)
		assert_true(trace_ring_take(&s[i]));
	assert_true(str_eq(name_of(&s[0]), STR("BEGIN")));
	assert_true(str_eq(name_of(&s[1]), STR("SELECT current_query")));
	assert_true(str_eq(name_of(&s[2]), STR("COMMIT")));
	assert_true(has_comment(&a, &s[1]));
}

static int begin(void **state)
{
	trace_ring_init(256, 256, NULL, (struct trace_sampler){ true, SAMPLER_ALWAYS_ON, 1 });
	trace_sql_comment = true;
	return 0;
}

static int end(void **state)
{
	trace_ring_fini();
	trace_here = (struct trace_context){ 0 };
	return 0;
}

static int setup(void **state)
{
	pg = pg_fixture_start();
	pg_fixture_sql(pg, "CREATE TABLE customers.thing (seq bigint PRIMARY KEY); INSERT INTO customers.thing SELECT generate_series(1, 9); GRANT ALL ON customers.thing TO customers_app");
	base = event_base_new();
	d = db_new(base, &(struct db_config){ .url = pg_fixture_url(pg, "customers_app"), .read_conns = 1, .write_conns = 1, .workers = 1 });
	db_lookup_init(&by_seq, "SELECT current_query(), seq FROM customers.thing WHERE ", "seq", DB_KEY_BIGINT, "", 1);
	while (!db_healthy(d))
		event_base_loop(base, EVLOOP_ONCE);
	return 0;
}

static int teardown(void **state)
{
	db_free(d);
	db_lookup_fini(&by_seq);
	event_base_free(base);
	pg_fixture_stop(pg);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_summary), cmocka_unit_test(test_long_names_are_cut), TEST(untraced), TEST(submission), TEST(failure),
		TEST(shared_lookup), TEST(handler) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
