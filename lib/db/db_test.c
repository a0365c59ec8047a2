/* Rows and handlers against a real PostgreSQL: isolation, groups, deadlines, restarts, the statement cache. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/thread.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"
#include "db/workers.h"
#include "telemetry/metrics.h"
#include "db/row.h"
#include "db/statements.h"
#include "testing/pg.h"

#define TENANT_A "0190a000-0000-7000-8000-00000000000a"
#define TENANT_B "0190a000-0000-7000-8000-00000000000b"

static struct pg_fixture *pg;
static struct event_base *base;

static const char *schema_sql =
    "SET search_path = customers;"
    "CREATE TABLE thing (tenant_id uuid NOT NULL, id bigint NOT NULL, owner uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id));"
    "CREATE TABLE child (id bigint PRIMARY KEY, parent bigint NOT NULL);"
    "CREATE TABLE parent (id bigint PRIMARY KEY);"
    "ALTER TABLE child ADD CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent DEFERRABLE INITIALLY DEFERRED;"
    "INSERT INTO thing SELECT t::uuid, g, t::uuid, 'n' || g FROM unnest(ARRAY['" TENANT_A "','" TENANT_B "']) t, generate_series(1, 100) g;"
    "ALTER TABLE thing ENABLE ROW LEVEL SECURITY; ALTER TABLE thing FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY tenant ON thing TO customers_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)"
    "  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);"
    "CREATE FUNCTION boom(n bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE check_violation USING CONSTRAINT = ''boom''; END';"
    "GRANT ALL ON thing, child, parent TO customers_app;";

struct answer {
	int calls;
	enum status status;
	char sqlstate[6], constraint[64], text[64];
	int rows;
	int64_t number;
	int *left; /* counted down when answered */
};

static void on_done(void *arg, const struct db_result *r)
{
	struct answer *a = arg;
	const PGresult *last = r->n ? r->res[r->n - 1] : NULL;

	a->calls++;
	a->status = r->status;
	snprintf(a->sqlstate, sizeof(a->sqlstate), "%s", r->sqlstate);
	snprintf(a->constraint, sizeof(a->constraint), "%s", r->constraint);
	a->rows = last ? PQntuples(last) : -1;
	if (a->rows > 0 && PQfsize(last, 0) == 8)
		a->number = row_i64(last, 0, 0);
	else if (a->rows > 0)
		snprintf(a->text, sizeof(a->text), "%.*s", STR_FMT(row_text(last, 0, 0)));
	if (a->left)
		--*a->left;
}

static void submit(struct db *d, enum db_kind kind, const char *tenant, const char *sql, const char *param, int64_t ms, struct answer *a)
{
	struct db_stmt s = { .sql = str_of(sql), .params = &param, .n_params = param ? 1 : 0 };

	db_submit(d, kind, str_of(tenant), &s, 1, clock_us() + ms * 1000, on_done, a);
}

static void turn_for(int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(base, &t);
	event_base_dispatch(base);
}

static void wait_left(const int *left, int ms)
{
	int64_t end = clock_mono_us() + ms * 1000;

	while (*left > 0 && clock_mono_us() < end)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(200);
	assert_int_equal(*left, 0);
}

static struct answer ask(struct db *d, enum db_kind kind, const char *tenant, const char *sql, const char *param)
{
	int left = 1;
	struct answer a = { .left = &left };

	submit(d, kind, tenant, sql, param, 5000, &a);
	assert_int_equal(a.calls, 0);
	wait_left(&left, 8000);
	assert_int_equal(a.calls, 1);
	a.left = NULL;
	return a;
}

static struct db *open_db(int reads, int writes, int workers, int timeout_ms)
{
	struct db_config c = { .url = pg_fixture_url(pg, "customers_app"), .read_conns = reads, .write_conns = writes, .workers = workers,
		.statement_timeout_ms = timeout_ms };
	struct db *d = db_new(base, &c);

	for (int i = 0; i < 500 && db_stats_get(d).connections_up < reads + writes; i++)
		turn_for(10);
	assert_true(db_healthy(d));
	return d;
}

static void test_reads_rows_of_the_own_tenant_only(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM thing", NULL);

	assert_int_equal(a.number, 100);
	a = ask(d, DB_READ, "", "SELECT count(*) FROM thing", NULL);
	assert_int_equal(a.number, 0);
	a = ask(d, DB_WRITE, TENANT_A, "INSERT INTO thing VALUES ($1, 1000, '" TENANT_A "', 'x')", TENANT_B);
	assert_int_equal(a.status, STATUS_INTERNAL);
	assert_string_equal(a.sqlstate, "42501");
	db_free(d);
}

struct owner_check {
	char tenant[37];
	int *left, *wrong;
};

static void on_owner(void *arg, const struct db_result *r)
{
	struct owner_check *c = arg;
	char owner[37] = "";

	if (r->status == STATUS_OK && PQntuples(r->res[0]) == 1)
		row_uuid(r->res[0], 0, 0, owner);
	if (strcmp(owner, c->tenant) != 0)
		++*c->wrong;
	--*c->left;
}

/* Reads with and without errors and writes of two tenants at once, many per turn. */
static void test_tenants_stay_apart_under_mixed_load(void **state)
{
	enum { ROUNDS = 60, EACH = 50 };
	struct db *d = open_db(2, 2, 0, 5000);
	static struct owner_check checks[EACH];
	static struct answer noise[EACH];
	int wrong = 0, left = 0;

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < EACH; i++) {
			const char *tenant = (i + round) % 3 ? TENANT_A : TENANT_B, *id = i % 2 ? "7" : "42";
			struct db_stmt s = { .sql = STR("SELECT owner FROM thing WHERE id = $1"), .params = &id, .n_params = 1 };

			checks[i] = (struct owner_check){ .left = &left, .wrong = &wrong };
			snprintf(checks[i].tenant, sizeof(checks[i].tenant), "%s", tenant);
			left++;
			db_submit(d, DB_READ, str_of(tenant), &s, 1, 0, on_owner, &checks[i]);
			noise[i] = (struct answer){ .left = &left };
			if (i % 10 == 0) {
				left++;
				submit(d, DB_READ, TENANT_B, "SELECT boom($1)", "1", 5000, &noise[i]);
			} else if (i % 10 == 5) {
				left++;
				submit(d, DB_WRITE, TENANT_A, "UPDATE thing SET name = 'u' WHERE id = $1 RETURNING id", "3", 5000, &noise[i]);
			}
		}
		wait_left(&left, 10000);
	}
	assert_int_equal(wrong, 0);
	assert_true(db_stats_get(d).grouped > 0);
	assert_true(metric_value(db_wait_series("read")) > 0);
	db_free(d);
}

static void test_an_error_in_a_group_fails_its_own_read_only(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a[5] = { 0 };
	int left = 5;

	for (int i = 0; i < 5; i++) {
		a[i].left = &left;
		submit(d, DB_READ, i % 2 ? TENANT_B : TENANT_A, i == 2 ? "SELECT boom($1)" : "SELECT count(*) + $1::bigint FROM thing", "1", 5000, &a[i]);
	}
	wait_left(&left, 5000);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(a[i].calls, 1);
		assert_int_equal(a[i].status, i == 2 ? STATUS_CONFLICT : STATUS_OK);
		if (i != 2)
			assert_int_equal(a[i].number, 101);
	}
	assert_string_equal(a[2].constraint, "boom");
	db_free(d);
}

static void test_a_statement_that_does_not_parse_is_tried_again_as_new(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM later", NULL);

	assert_string_equal(a.sqlstate, "42P01");
	pg_fixture_sql(pg, "CREATE TABLE customers.later (id bigint); GRANT SELECT ON customers.later TO customers_app");
	a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM later", NULL);
	assert_int_equal(a.status, STATUS_OK);
	a = ask(d, DB_READ, TENANT_A, "SELECT * FROM later", NULL);
	assert_int_equal(a.status, STATUS_OK);
	pg_fixture_sql(pg, "ALTER TABLE customers.later ADD COLUMN more text");
	a = ask(d, DB_READ, TENANT_A, "SELECT * FROM later", NULL);
	assert_int_equal(a.status, STATUS_OK);
	db_free(d);
}

/* A neighbour's error would undo it after it has been answered. */
static void test_a_read_cannot_write(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a = ask(d, DB_READ, TENANT_A, "UPDATE thing SET name = 'r' WHERE id = $1 RETURNING id", "1");

	assert_int_equal(a.status, STATUS_INTERNAL);
	assert_string_equal(a.sqlstate, "25006");
	db_free(d);
}

static void test_a_write_is_all_or_nothing(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	const char *ok[] = { "500" };
	struct db_stmt s[2] = { { .sql = STR("INSERT INTO thing VALUES (current_setting('app.tenant_id')::uuid, $1, '" TENANT_A "', 'w')"), .params = ok, .n_params = 1 } };
	int left = 1;
	struct answer a = { .left = &left };

	s[1] = s[0];
	db_submit(d, DB_WRITE, STR(TENANT_A), s, 2, 0, on_done, &a);
	wait_left(&left, 5000);
	assert_int_equal(a.status, STATUS_DUPLICATE);
	assert_string_equal(a.constraint, "thing_pkey");
	a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM thing WHERE id = $1", "500");
	assert_int_equal(a.number, 0);
	db_free(d);
}

static void test_an_error_at_commit_is_reported(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a = ask(d, DB_WRITE, TENANT_A, "INSERT INTO child VALUES (1, $1)", "99");

	assert_int_equal(a.status, STATUS_CONFLICT);
	assert_string_equal(a.constraint, "child_parent");
	a = ask(d, DB_WRITE, TENANT_A, "INSERT INTO parent VALUES ($1)", "1");
	assert_int_equal(a.status, STATUS_OK);
	db_free(d);
}

static void test_a_failing_write_does_not_touch_its_neighbours(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a[6] = { 0 };
	int left = 6;

	for (int i = 0; i < 6; i++) {
		a[i].left = &left;
		submit(d, DB_WRITE, TENANT_B, "INSERT INTO thing VALUES ('" TENANT_B "', $1, '" TENANT_B "', '')", i == 3 ? "1" : (const char *[]){ "601", "602", "603", "", "605", "606" }[i], 5000, &a[i]);
	}
	wait_left(&left, 5000);
	for (int i = 0; i < 6; i++)
		assert_int_equal(a[i].status, i == 3 ? STATUS_DUPLICATE : STATUS_OK);
	db_free(d);
}

static void test_deadline_ends_waiting_and_running_submissions(void **state)
{
	struct db *d = open_db(1, 1, 0, 1000);
	struct answer a[3] = { 0 }, filler[8] = { 0 };
	int left = 3;
	int64_t start = clock_mono_us();

	for (int i = 0; i < 3; i++)
		a[i].left = &left;
	submit(d, DB_WRITE, TENANT_A, "SELECT pg_sleep($1::float)", "0.6", 100, &a[0]);
	for (int i = 0; i < 8; i++)
		submit(d, DB_WRITE, TENANT_A, "SELECT 1", NULL, 3000, &filler[i]); /* fills the pipeline */
	submit(d, DB_WRITE, TENANT_A, "SELECT 1", NULL, 150, &a[1]);
	submit(d, DB_READ, TENANT_A, "SELECT pg_sleep($1::float)", "5", 4000, &a[2]);
	turn_for(300);
	assert_int_equal(a[0].status, STATUS_DEADLINE_EXCEEDED);
	assert_int_equal(a[1].status, STATUS_DEADLINE_EXCEEDED);
	wait_left(&left, 4000);
	assert_int_equal(a[2].status, STATUS_DEADLINE_EXCEEDED); /* statement_timeout */
	assert_string_equal(a[2].sqlstate, "57014");
	assert_true(clock_mono_us() - start < 3000000);
	turn_for(500);
	for (int i = 0; i < 3; i++)
		assert_int_equal(a[i].calls, 1);
	db_free(d);
}

static void test_the_statement_cache_is_bounded(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct arena arena = { 0 };
	struct answer a;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < STATEMENTS_MAX + 40; i++) {
			a = ask(d, DB_READ, TENANT_A, arena_printf(&arena, "SELECT count(*) + %d FROM thing WHERE id < 3", i), NULL);
			assert_int_equal(a.number, i + 2);
		}
	}
	a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM pg_prepared_statements", NULL);
	assert_in_range(a.number, STATEMENTS_MAX - 1, STATEMENTS_MAX);
	arena_fini(&arena);
	db_free(d);
}

static void test_large_results_and_parameters_pass(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	char *big = xmalloc(3000001);
	struct answer a;

	memset(big, 'x', 3000000);
	big[3000000] = 0;
	a = ask(d, DB_WRITE, TENANT_A, "SELECT length($1::text)::bigint", big);
	assert_int_equal(a.number, 3000000);
	a = ask(d, DB_READ, TENANT_A, "SELECT repeat($1::text, 2000000)", "ab");
	assert_int_equal(a.rows, 1);
	free(big);
	db_free(d);
}

static void test_the_queue_is_bounded(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer *a = xcalloc(DB_MAX_WAITING + 500, sizeof(*a));
	int left = DB_MAX_WAITING + 500, refused = 0;

	for (int i = 0; i < DB_MAX_WAITING + 500; i++) {
		a[i].left = &left;
		submit(d, DB_WRITE, TENANT_A, "SELECT 1", NULL, 30000, &a[i]);
		assert_int_equal(a[i].calls, 0);
	}
	wait_left(&left, 20000);
	for (int i = 0; i < DB_MAX_WAITING + 500; i++)
		refused += a[i].status == STATUS_UNAVAILABLE;
	assert_in_range(refused, 1, 500);
	free(a);
	db_free(d);
}

static void test_a_restart_of_postgres_is_survived(void **state)
{
	struct db *d = open_db(2, 2, 1, 5000);
	struct answer busy[2] = { 0 }, a;
	int left = 2;

	busy[0].left = busy[1].left = &left;
	submit(d, DB_WRITE, TENANT_A, "SELECT pg_sleep($1::float)", "3", 20000, &busy[0]);
	submit(d, DB_READ, TENANT_A, "SELECT pg_sleep($1::float), 1::bigint", "0.3", 20000, &busy[1]);
	turn_for(100);
	pg_fixture_restart(pg, "immediate");
	wait_left(&left, 10000);
	assert_int_equal(busy[0].status, STATUS_UNAVAILABLE);
	assert_int_equal(busy[1].status, STATUS_OK); /* run again */
	for (int i = 0; i < 300 && !db_healthy(d); i++)
		turn_for(10);
	a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM thing WHERE id <= 100", NULL);
	assert_int_equal(a.number, 100);
	a = ask(d, DB_WRITE, TENANT_A, "UPDATE thing SET name = 'r' WHERE id = $1 RETURNING id", "1");
	assert_int_equal(a.status, STATUS_OK);
	db_free(d);
}

static void test_without_postgres_answers_unavailable_and_recovers(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	struct answer a;
	int64_t start;

	pg_fixture_down(pg, "fast");
	turn_for(2300);
	assert_false(db_healthy(d));
	start = clock_mono_us();
	a = ask(d, DB_READ, TENANT_A, "SELECT 1", NULL);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_true(clock_mono_us() - start < 500000);
	pg_fixture_up(pg);
	for (int i = 0; i < 500 && !db_healthy(d); i++)
		turn_for(10);
	a = ask(d, DB_READ, TENANT_A, "SELECT count(*) FROM thing WHERE id <= 100", NULL);
	assert_int_equal(a.number, 100);
	db_free(d);
}

/* A stopped backend is what a dead network looks like: nothing arrives, nothing breaks. */
static void test_a_silent_connection_is_given_up(void **state)
{
	struct db *d = open_db(1, 1, 0, 300);
	struct answer pid = ask(d, DB_READ, TENANT_A, "SELECT pg_backend_pid()::bigint", NULL), a = { 0 };
	int left = 1;

	a.left = &left;
	assert_int_equal(kill((pid_t)pid.number, SIGSTOP), 0);
	submit(d, DB_READ, TENANT_A, "SELECT count(*) FROM thing WHERE id <= $1", "100", 20000, &a);
	turn_for(2000);
	assert_int_equal(a.calls, 0);
	wait_left(&left, 8000);
	assert_int_equal(kill((pid_t)pid.number, SIGCONT), 0);
	assert_int_equal(a.status, STATUS_OK);
	assert_int_equal(a.number, 100);
	assert_int_not_equal(ask(d, DB_READ, TENANT_A, "SELECT pg_backend_pid()::bigint", NULL).number, pid.number);
	db_free(d);
}

/* -- handlers */

struct handler_run {
	volatile int done;
	const char *tenant, *sql, *param;
	enum status begin, exec, second, commit;
	char value[64], constraint[64];
};

static void handler(struct db_conn *c, void *arg)
{
	struct handler_run *h = arg;
	PGresult *r = NULL;

	h->begin = db_begin(c, str_of(h->tenant));
	h->exec = db_exec(c, &r, h->sql, h->param ? 1 : 0, &h->param);
	if (r && PQntuples(r))
		snprintf(h->value, sizeof(h->value), "%s", PQgetvalue(r, 0, 0));
	PQclear(r);
	h->second = db_exec(c, NULL, "SELECT 1", 0, NULL);
	h->commit = db_commit(c);
	snprintf(h->constraint, sizeof(h->constraint), "%s", db_constraint(c));
	__atomic_store_n(&h->done, 1, __ATOMIC_RELEASE);
}

static void run_job(struct db *d, void (*job)(struct db_conn *c, void *arg), struct handler_run *h)
{
	assert_true(db_work(d, job, h));
	for (int i = 0; i < 8000 && !__atomic_load_n(&h->done, __ATOMIC_ACQUIRE); i++)
		usleep(1000);
	assert_int_equal(h->done, 1);
}

static struct handler_run run_handler(struct db *d, const char *tenant, const char *sql, const char *param)
{
	struct handler_run h = { .tenant = tenant, .sql = sql, .param = param };

	run_job(d, handler, &h);
	return h;
}

static void test_a_handler_sees_its_tenant_and_remembers_failures(void **state)
{
	struct db *d = open_db(1, 1, 1, 5000);
	struct handler_run h = run_handler(d, TENANT_B, "SELECT count(*) FROM thing WHERE id <= $1", "100");

	assert_string_equal(h.value, "100");
	assert_int_equal(h.commit, STATUS_OK);
	h = run_handler(d, "", "SELECT count(*) FROM thing", NULL);
	assert_string_equal(h.value, "0");
	h = run_handler(d, TENANT_B, "INSERT INTO thing VALUES ('" TENANT_B "', $1, '" TENANT_B "', '')", "1");
	assert_int_equal(h.exec, STATUS_DUPLICATE);
	assert_int_equal(h.second, STATUS_DUPLICATE);
	assert_int_equal(h.commit, STATUS_DUPLICATE);
	assert_string_equal(h.constraint, "thing_pkey");
	h = run_handler(d, TENANT_B, "SELECT 5", NULL);
	assert_int_equal(h.commit, STATUS_OK);
	h = run_handler(d, TENANT_B, "INSERT INTO child VALUES (7, $1)", "99");
	assert_int_equal(h.exec, STATUS_OK);
	assert_int_equal(h.commit, STATUS_CONFLICT);
	db_free(d);
}

static void again(struct db_conn *c, void *arg)
{
	struct handler_run *h = arg;
	char many[40], text[12];
	const char *param = text;
	PGresult *r = NULL;
	int right = 0;

	h->begin = db_begin(c, STR(TENANT_A));
	for (int i = 1; i <= 100; i++) { /* more texts than are kept, the first among them again and again */
		snprintf(many, sizeof(many), "SELECT $1::int + %d", i % 2 ? 0 : i);
		snprintf(text, sizeof(text), "%d", i);
		right += db_exec_again(c, &r, many, 1, &param) == STATUS_OK && atoi(PQgetvalue(r, 0, 0)) == (i % 2 ? i : 2 * i);
		PQclear(r);
	}
	h->exec = db_exec(c, &r, "SELECT count(*) FROM pg_prepared_statements", 0, NULL);
	snprintf(h->value, sizeof(h->value), "%d %s", right, r ? PQgetvalue(r, 0, 0) : "");
	PQclear(r);
	/* what fails by its values stays prepared; what is not there any more is prepared again */
	for (int i = 0; i < 2; i++) {
		bool fails;

		param = i ? "7" : "x";
		h->second = db_savepoint(c);
		if (i && h->second == STATUS_OK)
			h->second = db_exec(c, NULL, "DEALLOCATE ALL", 0, NULL);
		fails = h->second == STATUS_OK && db_exec_again(c, NULL, "SELECT $1::int + 0", 1, &param) != STATUS_OK && db_undo(c);
		param = "7";
		h->second = fails ? db_exec_again(c, NULL, "SELECT $1::int + 0", 1, &param) : STATUS_INTERNAL;
		if (h->second != STATUS_OK)
			break;
	}
	h->commit = db_commit(c);
	__atomic_store_n(&h->done, 1, __ATOMIC_RELEASE);
}

static void test_a_statement_that_runs_again_is_prepared_and_few_are_kept(void **state)
{
	struct db *d = open_db(1, 1, 1, 5000);

	for (int round = 0; round < 2; round++) {
		struct handler_run h = { .tenant = TENANT_A };

		run_job(d, again, &h);
		assert_string_equal(h.value, "100 32");
		assert_int_equal(h.second, STATUS_OK);
		assert_int_equal(h.commit, STATUS_OK);
		if (!round)
			pg_fixture_restart(pg, "immediate"); /* what was prepared is gone with the connection */
	}
	db_free(d);
}

static void test_a_handler_survives_a_restart(void **state)
{
	struct db *d = open_db(1, 1, 1, 5000);
	struct handler_run h = run_handler(d, TENANT_A, "SELECT 1", NULL);

	assert_int_equal(h.commit, STATUS_OK);
	pg_fixture_restart(pg, "immediate");
	h = run_handler(d, TENANT_A, "SELECT count(*) FROM thing WHERE id <= 100", NULL);
	assert_int_equal(h.commit, STATUS_OK);
	assert_string_equal(h.value, "100");
	db_free(d);
}

static void test_the_worker_queue_is_bounded(void **state)
{
	struct db *d = open_db(1, 1, 1, 5000);
	struct handler_run *h = xcalloc(DB_MAX_JOBS + 10, sizeof(*h));
	int accepted = 0;

	for (int i = 0; i < DB_MAX_JOBS + 10; i++) {
		h[i] = (struct handler_run){ .tenant = TENANT_A, .sql = i ? "SELECT 1" : "SELECT pg_sleep(0.3)" };
		accepted += db_work(d, handler, &h[i]);
	}
	assert_in_range(accepted, DB_MAX_JOBS, DB_MAX_JOBS + 1);
	db_free(d); /* waits for them */
	free(h);
}

static void test_check_says_why_a_statement_is_wrong(void **state)
{
	struct db *d = open_db(1, 1, 0, 5000);
	char why[256];

	assert_true(db_check(d, STR("SELECT name FROM thing WHERE id = $1"), why, sizeof(why)));
	assert_false(db_check(d, STR("SELECT nome FROM thing"), why, sizeof(why)));
	assert_non_null(strstr(why, "nome"));
	db_free(d);
}

static void test_binary_cells_are_read(void **state)
{
	PGconn *c = PQconnectdb(pg_fixture_url(pg, "customers_app"));
	PGresult *r = PQexecParams(c,
	    "SELECT 7::smallint, -8::int, 9000000000::bigint, true, '0190a000-0000-7000-8000-00000000000a'::uuid, '{\"a\": 1}'::jsonb,"
	    " '2024-01-15T10:30:00.25Z'::timestamptz, '1969-12-31'::date, ARRAY['x', NULL, 'yz'], NULL::uuid, 'infinity'::timestamptz,"
	    " ARRAY['0190a000-0000-7000-8000-00000000000b'::uuid], '{}'::text[], 2.5::float8", 0, NULL, NULL, NULL, NULL, 1);
	char id[37];
	struct row_array a;

	assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
	assert_int_equal(row_i64(r, 0, 0), 7);
	assert_int_equal(row_i64(r, 0, 1), -8);
	assert_int_equal(row_i64(r, 0, 2), 9000000000);
	assert_true(row_bool(r, 0, 3));
	row_uuid(r, 0, 4, id);
	assert_string_equal(id, TENANT_A);
	assert_true(str_eq(row_jsonb(r, 0, 5), STR("{\"a\": 1}")));
	assert_int_equal(row_us(r, 0, 6), INT64_C(1705314600250000));
	assert_int_equal(row_us(r, 0, 7), INT64_C(-86400000000));
	a = row_array(r, 0, 8);
	assert_int_equal(a.left, 3);
	assert_true(row_array_next(&a) && str_eq(a.item, STR("x")));
	assert_true(row_array_next(&a) && a.item_null);
	assert_true(row_array_next(&a) && str_eq(a.item, STR("yz")));
	assert_false(row_array_next(&a));
	assert_true(row_null(r, 0, 9));
	row_uuid(r, 0, 9, id);
	assert_string_equal(id, "");
	assert_true(row_us(r, 0, 10) == INT64_MAX);
	a = row_array(r, 0, 11);
	assert_true(row_array_next(&a) && a.item.n == 16);
	a = row_array(r, 0, 12);
	assert_false(row_array_next(&a));
	assert_true(row_f64(r, 0, 13) == 2.5);
	PQclear(r);
	PQfinish(c);
}

static int start(void **state)
{
	log_init("test", "text", "error");
	base = event_base_new();
	pg = pg_fixture_start();
	pg_fixture_sql(pg, schema_sql);
	return 0;
}

static int stop(void **state)
{
	pg_fixture_stop(pg);
	event_base_free(base);
	libevent_global_shutdown();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_rows_of_the_own_tenant_only),
		cmocka_unit_test(test_tenants_stay_apart_under_mixed_load),
		cmocka_unit_test(test_an_error_in_a_group_fails_its_own_read_only),
		cmocka_unit_test(test_a_statement_that_does_not_parse_is_tried_again_as_new),
		cmocka_unit_test(test_a_read_cannot_write),
		cmocka_unit_test(test_a_write_is_all_or_nothing),
		cmocka_unit_test(test_an_error_at_commit_is_reported),
		cmocka_unit_test(test_a_failing_write_does_not_touch_its_neighbours),
		cmocka_unit_test(test_deadline_ends_waiting_and_running_submissions),
		cmocka_unit_test(test_the_statement_cache_is_bounded),
		cmocka_unit_test(test_large_results_and_parameters_pass),
		cmocka_unit_test(test_the_queue_is_bounded),
		cmocka_unit_test(test_a_restart_of_postgres_is_survived),
		cmocka_unit_test(test_without_postgres_answers_unavailable_and_recovers),
		cmocka_unit_test(test_a_silent_connection_is_given_up),
		cmocka_unit_test(test_a_handler_sees_its_tenant_and_remembers_failures),
		cmocka_unit_test(test_a_statement_that_runs_again_is_prepared_and_few_are_kept),
		cmocka_unit_test(test_a_handler_survives_a_restart),
		cmocka_unit_test(test_the_worker_queue_is_bounded),
		cmocka_unit_test(test_check_says_why_a_statement_is_wrong),
		cmocka_unit_test(test_binary_cells_are_read),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
