/* The audit chain against a real PostgreSQL: it grows, stays apart per tenant, and every way of tampering is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "events/pgconn.h"
#include "svc-audit/chain.h"
#include "testing/pg.h"

#define TENANT_A "11111111-1111-4111-8111-111111111111"
#define TENANT_B "22222222-2222-4222-8222-222222222222"

static struct pg_fixture *pg;
static PGconn *app;

static void append(const char *tenant, int n)
{
	struct event *events = xcalloc((size_t)n, sizeof *events);
	const struct event **list = xcalloc((size_t)n, sizeof *list);
	char (*ids)[UUID_TEXT + 1] = xcalloc((size_t)n, sizeof *ids);
	const char *params[] = { tenant };

	for (int i = 0; i < n; i++) {
		uuid7(ids[i]);
		events[i] = (struct event){ .id = str_of(ids[i]), .tenant_id = str_of(tenant), .type = STR("customers.lead.updated"), .entity = STR("lead"),
			.entity_id = STR("01920000-0000-7000-8000-0000000000aa"), .entity_seq = i, .version = 3, .time_us = 1700000000123456 + i,
			.user_id = STR("01920000-0000-7000-8000-0000000000bb"), .before = STR("{\"b\":1,  \"a\":1.10}"), .after = STR("{\"b\":2,\"a\":null}"),
			.changed = { STR("b"), STR("with \"quote\\"), STR("a,b{}"), STR("") }, .n_changed = 4, .client_ip = STR("203.0.113.9"), .request_id = STR("req-1") };
		list[i] = &events[i];
	}
	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params), STATUS_OK);
	assert_int_equal(chain_append(app, list, (size_t)n), STATUS_OK);
	assert_int_equal(pgconn_commit(app), STATUS_OK);
	free(events);
	free(list);
	free(ids);
}

static struct chain_report verify(const char *tenant)
{
	struct chain_report r;

	assert_int_equal(chain_verify(app, str_of(tenant), clock_us() + 60 * 1000000, &r), STATUS_OK);
	return r;
}

/* Changes the log as somebody who may do anything, and expects to be found out at entry seq. */
static void tamper(const char *sql, int64_t seq, const char *problem)
{
	struct chain_report r;
	char all[1000];

	snprintf(all, sizeof all, "SET session_replication_role = replica; %s; SET session_replication_role = origin", sql);
	pg_fixture_sql(pg, all);
	r = verify(TENANT_A);
	assert_false(r.valid);
	assert_int_equal(r.first_bad_seq, seq);
	assert_string_equal(r.problem, problem);
}

static int setup(void **state)
{
	pg_fixture_sql(pg, "SET session_replication_role = replica; DELETE FROM audit.entry; DELETE FROM audit.chain; SET session_replication_role = origin");
	append(TENANT_A, 10);
	append(TENANT_B, 3);
	append(TENANT_A, 130);
	return 0;
}

static void test_untouched_chain_is_valid_per_tenant(void **state)
{
	struct chain_report a = verify(TENANT_A), b = verify(TENANT_B), none = verify("33333333-3333-4333-8333-333333333333");

	assert_true(a.valid);
	assert_int_equal(a.entries, 140);
	assert_true(b.valid);
	assert_int_equal(b.entries, 3);
	assert_string_not_equal(a.head_hash, b.head_hash);
	assert_true(none.valid);
	assert_int_equal(none.entries, 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT previous_hash FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq = 11"),
	    pg_fixture_value(pg, "SELECT hash FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq = 10"));
	assert_string_equal(pg_fixture_value(pg, "SELECT action || ' ' || resource || ' ' || before::text FROM audit.entry LIMIT 1"),
	    "updated lead {\"b\":1,  \"a\":1.10}");
}

static void test_hash_is_the_documented_one(void **state)
{
	assert_string_equal(
	    pg_fixture_value(pg, "SELECT encode(sha256('\\x00'::bytea || 'crm-audit-v1'::bytea || uuid_send(tenant_id) || int8send(seq) || decode(previous_hash, 'hex') || canonical), 'hex') = hash"
				 " FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq = 77"),
	    "t");
}

#define WHERE_50 " WHERE tenant_id = '" TENANT_A "' AND seq = 50"

static void test_flipped_column_is_found(void **state)
{
	tamper("UPDATE audit.entry SET user_id = gen_random_uuid()" WHERE_50, 50, "the columns do not say what was hashed");
}

static void test_reformatted_json_is_found(void **state)
{
	tamper("UPDATE audit.entry SET before = before::jsonb::json" WHERE_50, 50, "the columns do not say what was hashed");
}

static void test_flipped_byte_is_found(void **state)
{
	tamper("UPDATE audit.entry SET canonical = set_byte(canonical, 30, get_byte(canonical, 30) # 1)" WHERE_50, 50, "the hash does not match the entry's bytes");
}

static void test_flipped_byte_with_its_own_hash_made_anew_is_found_at_the_next(void **state)
{
	tamper("UPDATE audit.entry SET canonical = set_byte(canonical, 10, 1)" WHERE_50 "; UPDATE audit.entry SET hash = encode(sha256('\\x00'::bytea ||"
	       " 'crm-audit-v1'::bytea || uuid_send(tenant_id) || int8send(seq) || decode(previous_hash, 'hex') || canonical), 'hex')" WHERE_50
	       "; UPDATE audit.entry SET id = encode(substring(canonical FROM 3 FOR 16), 'hex')::uuid" WHERE_50, 51, "the entry does not follow the one before it");
}

static void test_deleted_entry_is_found(void **state)
{
	tamper("DELETE FROM audit.entry" WHERE_50, 50, "the entry is missing");
}

static void test_deleted_entry_with_the_rest_moved_up_is_found(void **state)
{
	tamper("DELETE FROM audit.entry" WHERE_50 "; UPDATE audit.entry SET seq = seq + 1000 WHERE tenant_id = '" TENANT_A "' AND seq > 50;"
	       " UPDATE audit.entry SET seq = seq - 1001 WHERE tenant_id = '" TENANT_A "' AND seq > 1000", 50, "the entry does not follow the one before it");
}

static void test_inserted_entry_is_found(void **state)
{
	tamper("INSERT INTO audit.entry (tenant_id, seq, id, created_at, type, action, resource, hash, previous_hash, canonical)"
	       " SELECT tenant_id, 141, gen_random_uuid(), created_at, type, action, resource, hash, hash, canonical FROM audit.entry"
	       " WHERE tenant_id = '" TENANT_A "' AND seq = 140", 141, "the hash does not match the entry's bytes");
}

static void test_swapped_entries_are_found(void **state)
{
	tamper("UPDATE audit.entry SET seq = 9999" WHERE_50 "; UPDATE audit.entry SET seq = 50 WHERE tenant_id = '" TENANT_A "' AND seq = 51;"
	       " UPDATE audit.entry SET seq = 51 WHERE tenant_id = '" TENANT_A "' AND seq = 9999", 50, "the entry does not follow the one before it");
}

static void test_entry_of_another_tenant_is_found(void **state)
{
	tamper("DELETE FROM audit.entry" WHERE_50 "; UPDATE audit.entry SET tenant_id = '" TENANT_A "', seq = 50, previous_hash = (SELECT hash FROM audit.entry"
	       " WHERE tenant_id = '" TENANT_A "' AND seq = 49) WHERE tenant_id = '" TENANT_B "' AND seq = 2", 50, "the hash does not match the entry's bytes");
}

static void test_cut_end_is_found_by_the_head(void **state)
{
	tamper("DELETE FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq > 100", 101, "the chain does not end where its head says");
}

/* Stated in docs/events.md: only a hash that was kept elsewhere shows this. */
static void test_cut_end_with_its_head_needs_an_outside_hash(void **state)
{
	struct chain_report before = verify(TENANT_A), after;

	pg_fixture_sql(pg, "SET session_replication_role = replica; DELETE FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq > 100;"
			   " UPDATE audit.chain SET seq = 100, hash = (SELECT hash FROM audit.entry WHERE tenant_id = '" TENANT_A "' AND seq = 100)"
			   " WHERE tenant_id = '" TENANT_A "'; SET session_replication_role = origin");
	after = verify(TENANT_A);
	assert_true(after.valid);
	assert_string_not_equal(before.head_hash, after.head_hash);
}

static void test_service_and_owner_cannot_change_the_log(void **state)
{
	PGconn *owner = pgconn_open(pg_fixture_url(pg, "audit_owner"), "test", 10000);
	static const char *const attempts[] = { "UPDATE entry SET type = 'x'", "DELETE FROM entry", "TRUNCATE entry", "UPDATE chain SET seq = 1", "DELETE FROM chain" };

	assert_int_equal(pgconn_exec(app, NULL, "SET app.tenant_id = '" TENANT_A "'", 0, NULL), STATUS_OK);
	for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
		assert_int_not_equal(pgconn_exec(app, NULL, attempts[i], 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(owner, NULL, "TRUNCATE entry", 0, NULL), STATUS_OK);
	assert_true(verify(TENANT_A).valid);
	PQfinish(owner);
}

static void test_tenant_sees_its_own_entries_only(void **state)
{
	PGresult *r = NULL;

	assert_int_equal(pgconn_exec(app, NULL, "SET app.tenant_id = '" TENANT_B "'", 0, NULL), STATUS_OK);
	assert_int_equal(pgconn_exec(app, &r, "SELECT count(*), count(*) FILTER (WHERE id IN (SELECT entry_search('LEAD'))) FROM entry", 0, NULL), STATUS_OK);
	assert_string_equal(PQgetvalue(r, 0, 0), "3");
	assert_string_equal(PQgetvalue(r, 0, 1), "3");
	PQclear(r);
}

static void test_a_search_that_finds_much_gives_no_more_ids_than_say_so(void **state)
{
	PGresult *r = NULL;

	append("33333333-3333-4333-8333-333333333333", 2100);
	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', '33333333-3333-4333-8333-333333333333', true)", 0, NULL), STATUS_OK);
	assert_int_equal(pgconn_exec(app, &r, "SELECT (SELECT count(*) FROM entry_search('lead')), (SELECT count(*) FROM entry_search('le_d'))", 0, NULL), STATUS_OK);
	assert_string_equal(PQgetvalue(r, 0, 0), "2001");
	assert_string_equal(PQgetvalue(r, 0, 1), "0");
	PQclear(r);
	pgconn_rollback(app);
}

static void test_append_that_fails_leaves_no_trace(void **state)
{
	struct event e = { .id = STR("01920000-0000-7000-8000-0000000000ee"), .tenant_id = STR(TENANT_A), .type = STR("a.b.c"), .after = STR("{no json") };
	const struct event *list[] = { &e };

	assert_int_equal(pgconn_begin(app), STATUS_OK);
	assert_int_equal(pgconn_exec(app, NULL, "SELECT set_config('app.tenant_id', '" TENANT_A "', true)", 0, NULL), STATUS_OK);
	assert_int_not_equal(chain_append(app, list, 1), STATUS_OK);
	pgconn_rollback(app);
	assert_int_equal(PQtransactionStatus(app), PQTRANS_IDLE);
	assert_int_equal(verify(TENANT_A).entries, 140);
}

/* CPU time of the connection's server process. */
static double server_seconds(void)
{
	char path[60];
	unsigned long user = 0, system_time = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", PQbackendPID(app));
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system_time), 2);
	fclose(f);
	return (double)(user + system_time) / (double)sysconf(_SC_CLK_TCK);
}

/* 1,000,000 entries in 5 s are the goal; CRM_TEST_CHAIN=<entries> measures it. */
static void measure(void)
{
	const char *n = getenv("CRM_TEST_CHAIN");
	struct chain_report r;
	int64_t start;

	if (!n)
		return;
	start = clock_us();
	for (int i = 0, all = atoi(n); i < all; i += 1000)
		append("44444444-4444-4444-8444-444444444444", 1000);
	printf("append: %.0f entries/s\n", atoi(n) * 1e6 / (double)(clock_us() - start));
	for (int i = 0; i < 3; i++) {
		double cpu = server_seconds();
		clock_t own = clock();

		start = clock_us();
		r = verify("44444444-4444-4444-8444-444444444444");
		printf("verify: %lld entries, valid %d, %.0f entries/s; CPU per entry: %.2f us here, %.2f us in PostgreSQL\n", (long long)r.entries, r.valid,
		    (double)r.entries * 1e6 / (double)(clock_us() - start), (double)(clock() - own) / (double)r.entries, (server_seconds() - cpu) * 1e6 / (double)r.entries);
	}
}

#define TEST(name) cmocka_unit_test_setup(test_##name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(untouched_chain_is_valid_per_tenant), TEST(hash_is_the_documented_one), TEST(flipped_column_is_found), TEST(reformatted_json_is_found),
		TEST(flipped_byte_is_found), TEST(flipped_byte_with_its_own_hash_made_anew_is_found_at_the_next), TEST(deleted_entry_is_found),
		TEST(deleted_entry_with_the_rest_moved_up_is_found), TEST(inserted_entry_is_found), TEST(swapped_entries_are_found),
		TEST(entry_of_another_tenant_is_found), TEST(cut_end_is_found_by_the_head), TEST(cut_end_with_its_head_needs_an_outside_hash),
		TEST(service_and_owner_cannot_change_the_log), TEST(tenant_sees_its_own_entries_only),
		TEST(a_search_that_finds_much_gives_no_more_ids_than_say_so), TEST(append_that_fails_leaves_no_trace),
	};
	int failed;

	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "audit", "svc-audit/schema");
	app = pgconn_open(pg_fixture_url(pg, "audit_app"), "test", 30000);
	failed = cmocka_run_group_tests_name("audit chain", tests, NULL, NULL);
	measure();
	PQfinish(app);
	pg_fixture_stop(pg);
	return failed;
}
