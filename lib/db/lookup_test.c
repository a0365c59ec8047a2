/* Rows by key against a real PostgreSQL: who shares a statement gets the own row, and nobody's trouble but the own. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"
#include "db/row.h"
#include "testing/pg.h"

#define TENANT_A "0190a000-0000-7000-8000-00000000000a"
#define TENANT_B "0190a000-0000-7000-8000-00000000000b"
#define MANY 40

static struct pg_fixture *pg;
static struct event_base *base;
static struct db *d;
static struct db_lookup by_seq, by_id, slow;

static const char *schema_sql =
    "SET search_path = customers;"
    "CREATE TABLE thing (tenant_id uuid NOT NULL, id uuid NOT NULL, seq bigint NOT NULL, PRIMARY KEY (tenant_id, id));"
    "INSERT INTO thing SELECT t::uuid, md5(t || g)::uuid, g FROM unnest(ARRAY['" TENANT_A "','" TENANT_B "']) t, generate_series(1, 100) g;"
    "DELETE FROM thing WHERE tenant_id = '" TENANT_B "' AND seq > 50;"
    "ALTER TABLE thing ENABLE ROW LEVEL SECURITY; ALTER TABLE thing FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY tenant ON thing TO customers_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);"
    "CREATE FUNCTION fine(n bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN IF n = 13 THEN RAISE check_violation USING CONSTRAINT = ''unlucky''; END IF; RETURN n; END';"
    "GRANT ALL ON thing TO customers_app;";

struct answer {
	int calls, row;
	enum status status;
	char tenant[37], id[37], constraint[64];
	int64_t seq;
};

static int left;

static void on_done(void *arg, const struct db_result *r)
{
	struct answer *a = arg;

	a->calls++;
	a->status = r->status;
	a->row = -1;
	snprintf(a->constraint, sizeof(a->constraint), "%s", r->constraint);
	if (r->status == STATUS_OK && r->row >= 0) {
		a->row = r->row;
		row_uuid(r->res[0], r->row, 0, a->tenant);
		row_uuid(r->res[0], r->row, 1, a->id);
		a->seq = row_i64(r->res[0], r->row, 2);
	}
	left--;
}

static void look(const struct db_lookup *l, const char *tenant, const char *key, int64_t ms, struct answer *a)
{
	*a = (struct answer){ 0 };
	left++;
	db_lookup(d, str_of(tenant), (struct str){ 0 }, l, key, clock_us() + ms * 1000, on_done, a);
	assert_int_equal(a->calls, 0);
}

static void look_seq(const struct db_lookup *l, const char *tenant, int seq, int64_t ms, struct answer *a)
{
	char key[12];

	snprintf(key, sizeof(key), "%d", seq);
	look(l, tenant, key, ms, a);
}

static void wait_all(int ms)
{
	int64_t end = clock_mono_us() + ms * 1000;

	while (left > 0 && clock_mono_us() < end)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(200);
	assert_int_equal(left, 0);
}

static void assert_found(const struct answer *a, const char *tenant, int64_t seq)
{
	assert_int_equal(a->calls, 1);
	assert_int_equal(a->status, STATUS_OK);
	assert_true(a->row >= 0);
	assert_string_equal(a->tenant, tenant);
	assert_int_equal(a->seq, seq);
}

static void assert_none(const struct answer *a)
{
	assert_int_equal(a->calls, 1);
	assert_int_equal(a->status, STATUS_OK);
	assert_int_equal(a->row, -1);
}

/* B has the numbers up to 50 only; A has nothing beyond 100. */
static void test_each_gets_the_own_row(void **state)
{
	struct answer a[MANY], b[MANY];
	uint64_t before = db_stats_get(d).statements;

	for (int i = 0; i < MANY; i++) {
		look_seq(&by_seq, TENANT_A, 80 + i, 5000, &a[i]);
		look_seq(&by_seq, TENANT_B, 30 + i, 5000, &b[i]);
	}
	wait_all(5000);
	for (int i = 0; i < MANY; i++) {
		if (80 + i <= 100)
			assert_found(&a[i], TENANT_A, 80 + i);
		else
			assert_none(&a[i]);
		if (30 + i <= 50)
			assert_found(&b[i], TENANT_B, 30 + i);
		else
			assert_none(&b[i]);
	}
	assert_in_range(db_stats_get(d).statements - before, 2, MANY / 2); /* of 80 */
}

static void test_any_number_of_callers_fits(void **state)
{
	struct answer a[MANY];

	for (int n = 1; n <= 20; n++) {
		for (int i = 0; i < n; i++)
			look_seq(&by_seq, i % 7 == 6 ? TENANT_B : TENANT_A, 1 + i, 5000, &a[i]);
		wait_all(5000);
		for (int i = 0; i < n; i++)
			assert_found(&a[i], i % 7 == 6 ? TENANT_B : TENANT_A, 1 + i);
	}
}

static void test_both_kinds_of_key_and_the_same_key_twice(void **state)
{
	struct answer a[6], id;
	char other[37];

	look_seq(&by_seq, TENANT_A, 7, 5000, &id);
	wait_all(5000);
	snprintf(other, sizeof(other), "%s", pg_fixture_value(pg, "SELECT id FROM customers.thing WHERE seq = 8 AND tenant_id = '" TENANT_B "'"));
	look(&by_id, TENANT_A, id.id, 5000, &a[0]);
	look_seq(&by_seq, TENANT_A, 7, 5000, &a[1]);
	look(&by_id, TENANT_A, id.id, 5000, &a[2]);
	look(&by_id, TENANT_A, other, 5000, &a[3]);
	look(&by_id, TENANT_B, other, 5000, &a[4]);
	look(&by_id, "", id.id, 5000, &a[5]);
	wait_all(5000);
	for (int i = 0; i < 3; i++)
		assert_found(&a[i], TENANT_A, 7);
	assert_none(&a[3]);
	assert_found(&a[4], TENANT_B, 8);
	assert_none(&a[5]);
}

static void test_a_key_that_is_none_is_not_found(void **state)
{
	const char *const bad[] = { "", "x", "7'--", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-0000000000000", "99999999999999999999" };
	struct answer a[7];

	for (int i = 0; i < 6; i++)
		look(i % 2 ? &by_seq : &by_id, TENANT_A, bad[i], 5000, &a[i]);
	look_seq(&by_seq, TENANT_A, 3, 5000, &a[6]);
	wait_all(5000);
	for (int i = 0; i < 6; i++)
		assert_int_equal(a[i].status, STATUS_NOT_FOUND);
	assert_found(&a[6], TENANT_A, 3);
}

/* 13 fails; who shares its statement is asked for again. */
static void test_a_row_that_fails_harms_no_other(void **state)
{
	struct db_lookup checked;
	struct answer a[20];

	db_lookup_init(&checked, "SELECT t.tenant_id, t.id, t.seq, fine(t.seq) FROM thing t WHERE ", "t.seq", DB_KEY_BIGINT, "", 2);
	for (int i = 0; i < 20; i++)
		look_seq(&checked, TENANT_A, 1 + i, 5000, &a[i]);
	wait_all(5000);
	for (int i = 0; i < 20; i++) {
		if (i != 12) {
			assert_found(&a[i], TENANT_A, 1 + i);
			continue;
		}
		assert_int_equal(a[i].status, STATUS_CONFLICT);
		assert_string_equal(a[i].constraint, "unlucky");
	}
	db_lookup_fini(&checked);
}

static void test_one_deadline_passes_while_the_others_wait(void **state)
{
	struct answer a[6];
	int64_t start = clock_mono_us();

	look_seq(&slow, TENANT_A, 1, 5000, &a[0]);
	look_seq(&slow, TENANT_A, 2, -1, &a[1]); /* has passed already */
	look_seq(&slow, TENANT_A, 3, 100, &a[2]);
	look_seq(&slow, TENANT_A, 4, 5000, &a[3]);
	while (a[1].calls + a[2].calls < 2 && clock_mono_us() - start < 3000000)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(200);
	assert_int_equal(a[1].status, STATUS_DEADLINE_EXCEEDED);
	assert_int_equal(a[2].status, STATUS_DEADLINE_EXCEEDED);
	assert_int_equal(a[0].calls, 0);
	wait_all(5000);
	assert_found(&a[0], TENANT_A, 1);
	assert_found(&a[3], TENANT_A, 4);
	assert_int_equal(a[1].calls + a[2].calls, 2);
}

static void test_a_broken_connection_is_survived_by_all(void **state)
{
	struct answer a[8];

	for (int i = 0; i < 8; i++)
		look_seq(&slow, i % 2 ? TENANT_B : TENANT_A, 1 + i, i == 3 ? 50 : 15000, &a[i]);
	for (int i = 0; i < 100; i++)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(1000);
	pg_fixture_restart(pg, "immediate");
	wait_all(15000);
	for (int i = 0; i < 8; i++) {
		if (i == 3)
			assert_int_equal(a[i].status, STATUS_DEADLINE_EXCEEDED);
		else
			assert_found(&a[i], i % 2 ? TENANT_B : TENANT_A, 1 + i);
	}
}

/* Without the key among its columns nobody shares. */
static void test_without_a_key_column_each_has_a_statement(void **state)
{
	struct db_lookup plain;
	struct answer a[4];

	db_lookup_init(&plain, "SELECT t.tenant_id, t.id, t.seq FROM thing t WHERE ", "t.seq", DB_KEY_BIGINT, "", -1);
	for (int i = 0; i < 4; i++)
		look_seq(&plain, TENANT_B, 49 + i, 5000, &a[i]);
	wait_all(5000);
	assert_found(&a[0], TENANT_B, 49);
	assert_found(&a[1], TENANT_B, 50);
	assert_none(&a[2]);
	assert_none(&a[3]);
	db_lookup_fini(&plain);
}

static void test_what_waits_is_answered_at_the_end(void **state)
{
	struct answer a[12];

	for (int i = 0; i < 12; i++)
		look_seq(&slow, TENANT_A, 1 + i, 5000, &a[i]);
	for (int i = 0; i < 20; i++)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(1000);
	db_free(d);
	d = NULL;
	assert_int_equal(left, 0);
	for (int i = 0; i < 12; i++)
		assert_int_equal(a[i].status, STATUS_UNAVAILABLE);
}

static int start(void **state)
{
	struct db_config c = { .read_conns = 2, .write_conns = 1, .statement_timeout_ms = 5000 };

	log_init("test", "text", "error");
	base = event_base_new();
	pg = pg_fixture_start();
	pg_fixture_sql(pg, schema_sql);
	c.url = pg_fixture_url(pg, "customers_app");
	d = db_new(base, &c);
	for (int i = 0; i < 5000 && db_stats_get(d).connections_up < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK), usleep(1000);
	db_lookup_init(&by_seq, "SELECT t.tenant_id, t.id, t.seq FROM thing t WHERE ", "t.seq", DB_KEY_BIGINT, "", 2);
	db_lookup_init(&by_id, "SELECT t.tenant_id, t.id, t.seq FROM thing t WHERE ", "t.id", DB_KEY_UUID, " AND t.seq > 0", 1);
	db_lookup_init(&slow, "SELECT t.tenant_id, t.id, t.seq FROM (SELECT pg_sleep(0.4)) s, thing t WHERE ", "t.seq", DB_KEY_BIGINT, "", 2);
	return 0;
}

static int stop(void **state)
{
	db_lookup_fini(&by_seq);
	db_lookup_fini(&by_id);
	db_lookup_fini(&slow);
	pg_fixture_stop(pg);
	event_base_free(base);
	libevent_global_shutdown();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_gets_the_own_row),
		cmocka_unit_test(test_any_number_of_callers_fits),
		cmocka_unit_test(test_both_kinds_of_key_and_the_same_key_twice),
		cmocka_unit_test(test_a_key_that_is_none_is_not_found),
		cmocka_unit_test(test_a_row_that_fails_harms_no_other),
		cmocka_unit_test(test_one_deadline_passes_while_the_others_wait),
		cmocka_unit_test(test_a_broken_connection_is_survived_by_all),
		cmocka_unit_test(test_without_a_key_column_each_has_a_statement),
		cmocka_unit_test(test_what_waits_is_answered_at_the_end),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
