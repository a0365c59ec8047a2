/* Migrations against a real PostgreSQL: once each, by one process, refused when changed; and the cleaner over their tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/cleaner.h"
#include "db/db.h"
#include "db/migrate.h"
#include "testing/pg.h"

static struct pg_fixture *pg;
static char dir[64];
static int reader_pipe = -1; /* ours alone: a copy in a child would keep the reader reading */

static void put(const char *name, const char *sql)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(sql, f);
	fclose(f);
}

static void run(const char *schema)
{
	char role[64];

	snprintf(role, sizeof(role), "%s_owner", schema);
	db_migrate(pg_fixture_url(pg, role), schema, dir);
}

/* Exit status of a process of its own. */
static pid_t run_apart(const char *schema)
{
	pid_t pid;

	pg_fixture_url(pg, "customers_owner");
	pid = fork();
	if (pid == 0) {
		close(reader_pipe);
		if (!freopen("/dev/null", "w", stderr))
			_exit(9);
		run(schema);
		_exit(0);
	}
	return pid;
}

static int ended(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_three_processes_migrate_once(void **state)
{
	pid_t pids[3];

	put("100_thing.sql", "CREATE TABLE thing (id bigint); SELECT pg_sleep(0.3); GRANT SELECT ON thing TO {{schema}}_app;");
	put("101_rows.sql", "INSERT INTO thing VALUES (1);");
	put("notes.txt", "not a migration");
	for (int i = 0; i < 3; i++)
		pids[i] = run_apart("customers");
	for (int i = 0; i < 3; i++)
		assert_int_equal(ended(pids[i]), 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.thing"), "1");
	assert_string_equal(pg_fixture_value(pg, "SELECT string_agg(name, ' ' ORDER BY name) FROM customers.migration"), "100_thing.sql 101_rows.sql");
	assert_string_equal(pg_fixture_value(pg, "SELECT has_table_privilege('customers_app', 'customers.thing', 'SELECT')"), "t");
}

static void test_a_changed_file_is_refused(void **state)
{
	put("101_rows.sql", "INSERT INTO thing VALUES (2);");
	assert_int_equal(ended(run_apart("customers")), 1);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.thing"), "1");
	put("101_rows.sql", "INSERT INTO thing VALUES (1);");
	assert_int_equal(ended(run_apart("customers")), 0);
}

static void test_a_file_that_fails_leaves_nothing(void **state)
{
	char path[160];

	put("102_bad.sql", "CREATE TABLE half (id bigint); SELECT nonsense;");
	assert_int_equal(ended(run_apart("customers")), 1);
	assert_string_equal(pg_fixture_value(pg, "SELECT to_regclass('customers.half') IS NULL"), "t");
	snprintf(path, sizeof(path), "%s/102_bad.sql", dir);
	unlink(path);
}

static void test_a_held_lock_is_waited_for_without_blocking_readers(void **state)
{
	PGconn *holder = PQconnectdb(pg_fixture_url(pg, "customers_app"));
	pid_t pid;

	PQclear(PQexec(holder, "BEGIN; SELECT * FROM thing"));
	put("103_alter.sql", "ALTER TABLE thing ADD COLUMN more text;");
	pid = run_apart("customers");
	usleep(2600000);
	/* its ALTER has given up once: others can read */
	pg_fixture_sql(pg, "SET statement_timeout = 2500; SELECT count(*) FROM customers.thing; RESET statement_timeout");
	PQclear(PQexec(holder, "COMMIT"));
	assert_int_equal(ended(pid), 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'thing' AND column_name = 'more'"), "1");
	PQfinish(holder);
}

/* -- nobody waits long */

/* A process that reads again and again until its parent closes the pipe; exits with the longest wait in tenths of a second. */
static pid_t watch_reader(void)
{
	const char *url = pg_fixture_url(pg, "customers_app");
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		PGconn *c = PQconnectdb(url);
		struct pollfd f = { .fd = p[0], .events = POLLIN };
		int64_t longest = 0, began, took;

		close(p[1]);
		while (poll(&f, 1, 20) == 0) {
			began = clock_mono_us();
			PGresult *r = PQexec(c, "SELECT count(*) FROM thing");
			took = clock_mono_us() - began;
			if (PQresultStatus(r) != PGRES_TUPLES_OK)
				_exit(255);
			PQclear(r);
			longest = took > longest ? took : longest;
		}
		_exit((int)(longest / 100000));
	}
	close(p[0]);
	reader_pipe = p[1];
	return pid;
}

static int reader_ended(pid_t pid)
{
	close(reader_pipe);
	reader_pipe = -1;
	return ended(pid);
}

static void forget(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

/* R10: three starters, a reader that stays, and everybody else. */
static void test_three_starters_hold_no_reader_up(void **state)
{
	PGconn *holder = PQconnectdb(pg_fixture_url(pg, "customers_app"));
	int longest;
	pid_t pids[3], reader;

	PQclear(PQexec(holder, "BEGIN; SELECT * FROM thing"));
	put("104_two.sql", "ALTER TABLE thing ADD COLUMN two text; ALTER TABLE thing ADD COLUMN three text;");
	reader = watch_reader();
	for (int i = 0; i < 3; i++)
		pids[i] = run_apart("customers");
	usleep(5000000);
	PQclear(PQexec(holder, "COMMIT"));
	for (int i = 0; i < 3; i++)
		assert_int_equal(ended(pids[i]), 0);
	longest = reader_ended(reader);
	print_message("longest wait of a reader: %d00 ms\n", longest);
	assert_in_range(longest, 5, 19); /* it did wait, and not for 2 s */
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.migration WHERE name = '104_two.sql'"), "1");
	PQfinish(holder);
}

/* No single lock is waited for here: what the file holds, and for how long, is the trouble. */
static void test_a_long_file_gives_way(void **state)
{
	int longest;
	pid_t pid, reader;

	put("105_long.sql", "ALTER TABLE thing ADD COLUMN four text; SELECT pg_sleep(4);");
	reader = watch_reader();
	usleep(100000);
	pid = run_apart("customers");
	usleep(6000000);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.migration WHERE name = '105_long.sql'"), "0");
	longest = reader_ended(reader);
	print_message("longest wait of a reader: %d00 ms\n", longest);
	assert_in_range(longest, 8, 19);
	assert_int_equal(ended(pid), 0); /* nobody is in its way any more */
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.migration WHERE name = '105_long.sql'"), "1");
}

static void test_an_index_is_made_outside_of_a_transaction(void **state)
{
	/* what a try that was killed leaves behind */
	pg_fixture_sql(pg, "SET ROLE customers_owner; SET search_path = customers; CREATE INDEX thing_id ON thing (id); RESET ROLE;"
			   "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'customers.thing_id'::regclass");
	put("106_index.sql", "-- outside-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS thing_id ON thing (id);");
	assert_int_equal(ended(run_apart("customers")), 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'customers.thing_id'::regclass"), "t");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.migration WHERE name = '106_index.sql'"), "1");
}

/* -- what a file declares */

static void test_a_floor_is_written_down(void **state)
{
	put("110_contract.sql", "-- drops what 105 made\n-- oldest-program: 106\n\nALTER TABLE thing DROP COLUMN four;");
	assert_int_equal(ended(run_apart("customers")), 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT oldest_program FROM customers.migration WHERE name = '110_contract.sql'"), "106");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(oldest_program) FROM customers.migration"), "1");
}

static void test_a_floor_that_makes_no_sense_is_refused(void **state)
{
	static const char *const tops[] = { "-- oldest-program: 112", "-- oldest-program: 25", "-- oldest-program: x", "-- oldest-program:106", "-- outside transaction" };

	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		char sql[100];

		snprintf(sql, sizeof(sql), "%s\nSELECT 1;", tops[i]);
		put("111_bad.sql", sql);
		assert_int_equal(ended(run_apart("customers")), 1);
	}
	forget("111_bad.sql");
}

/* A database of an older program: its table has no column for floors. */
static void test_an_older_table_of_migrations_is_extended(void **state)
{
	pg_fixture_sql(pg, "ALTER TABLE customers.migration DROP COLUMN oldest_program");
	assert_int_equal(ended(run_apart("customers")), 0);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'customers.migration'::regclass AND attname = 'oldest_program'"), "1");
}

static void test_pending_is_told_and_nothing_done(void **state)
{
	struct migrate_config c = { .url = pg_fixture_url(pg, "customers_app"), .schema = "customers", .dir = dir, .wait_s = 5 };
	char text[200] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	assert_int_equal(migrate_pending(&c, out), 0);
	put("112_more.sql", "SELECT 1;");
	put("113_more.sql", "SELECT 1;");
	assert_int_equal(migrate_pending(&c, out), 2);
	fclose(out);
	assert_string_equal(text, "customers 112_more.sql\ncustomers 113_more.sql\n");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM customers.migration WHERE name > '111'"), "0");
	/* a schema that has nothing yet */
	c.url = pg_fixture_url(pg, "sales_app");
	c.schema = "sales";
	out = fmemopen(text, sizeof(text), "w");
	assert_true(migrate_pending(&c, out) >= 8);
	fclose(out);
	forget("112_more.sql");
	forget("113_more.sql");
}

static void test_the_database_is_waited_for(void **state)
{
	struct migrate_config c = { .url = pg_fixture_url(pg, "customers_owner"), .schema = "customers", .dir = dir, .wait_s = 1 };
	int64_t began = clock_mono_us();
	pid_t pid;

	pg_fixture_down(pg, "fast");
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(9);
		migrate_run(&c);
		_exit(0);
	}
	assert_int_equal(ended(pid), 1);
	assert_true(clock_mono_us() - began < 5000000);
	pid = run_apart("customers");
	usleep(1500000);
	pg_fixture_up(pg);
	assert_int_equal(ended(pid), 0);
}

static void test_the_cleaner_takes_only_what_is_old_and_delivered(void **state)
{
	PGconn *relay;

	pg_fixture_migrate(pg, "auth", NULL);
	pg_fixture_sql(pg, "SET search_path = auth;"
	    "INSERT INTO idempotency SELECT gen_random_uuid(), gen_random_uuid(), 'd', 'r', g::text, '', '', now() - g * interval '1 hour' FROM generate_series(1, 3000) g;"
	    "INSERT INTO inbox SELECT 'c', gen_random_uuid(), now() - g * interval '1 day' FROM generate_series(1, 20) g;"
	    "INSERT INTO outbox (event_id, tenant_id, type, created_at) SELECT gen_random_uuid(), gen_random_uuid(), 't', now() - g * interval '1 day' FROM generate_series(1, 10) g;");
	relay = PQconnectdb(pg_fixture_url(pg, "auth_relay"));
	assert_int_equal(cleaner_pass(relay), (3000 - 23) + (20 - 7));
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.idempotency"), "23");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.inbox"), "7");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.outbox"), "10");
	pg_fixture_sql(pg, "UPDATE auth.outbox_position SET (xid, id) = (SELECT xid, id FROM auth.outbox ORDER BY xid, id OFFSET 8 LIMIT 1)");
	assert_int_equal(cleaner_pass(relay), 0);
	/* gone are 7, 8 and 9 days old; the one of 10 days has not been delivered */
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.outbox"), "7");
	PQfinish(relay);
}

/* A day of the past, as if the service had run then. */
static void make_day(const char *name, int days_ago)
{
	char sql[800];

	snprintf(sql, sizeof(sql),
	    "SET ROLE auth_owner; SET search_path = auth; SET timezone = 'UTC'; CREATE TABLE %1$s (LIKE outbox INCLUDING DEFAULTS); SELECT outbox_wall('%1$s');"
	    "DO $$ BEGIN EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %1$s FOR VALUES FROM (%%L) TO (%%L)', current_date - %2$d, current_date - %2$d + 1); END $$;"
	    "INSERT INTO outbox_day VALUES ('%1$s', current_date - %2$d, current_date - %2$d + 1); RESET ROLE;"
	    "INSERT INTO outbox (event_id, tenant_id, type, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), '%1$s', current_date - %2$d + interval '1 hour')",
	    name, days_ago);
	pg_fixture_sql(pg, sql);
}

static void position_to(const char *type)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "UPDATE auth.outbox_position SET (xid, id) = (SELECT xid, id FROM auth.outbox WHERE type = '%s')", type);
	pg_fixture_sql(pg, sql);
}

#define DAYS_PAST "SELECT string_agg(name, ' ' ORDER BY until) FROM auth.outbox_day WHERE until < now()"

static void test_days_of_the_outbox_come_and_go(void **state)
{
	PGconn *relay = PQconnectdb(pg_fixture_url(pg, "auth_relay"));

	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.outbox_day"), "4");
	pg_fixture_sql(pg, "TRUNCATE auth.outbox; UPDATE auth.outbox_position SET xid = '0', id = 0;"
			   "INSERT INTO auth.outbox (event_id, tenant_id, type) VALUES (gen_random_uuid(), gen_random_uuid(), 'now')");
	assert_string_equal(pg_fixture_value(pg, "SELECT tableoid::regclass = ('auth.outbox_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'))::regclass FROM auth.outbox"), "t");
	make_day("day_10", 10);
	make_day("day_9", 9);
	make_day("day_7", 7);
	/* nothing is delivered: nothing goes */
	assert_true(cleaner_pass(relay) >= 0);
	assert_string_equal(pg_fixture_value(pg, DAYS_PAST), "day_10 day_9 day_7");
	position_to("day_10");
	assert_true(cleaner_pass(relay) >= 0);
	assert_string_equal(pg_fixture_value(pg, DAYS_PAST), "day_9 day_7");
	assert_string_equal(pg_fixture_value(pg, "SELECT to_regclass('auth.day_10') IS NULL"), "t");
	/* all is delivered, and a day that ended less than 7 days ago stays */
	position_to("day_7");
	assert_true(cleaner_pass(relay) >= 0);
	assert_string_equal(pg_fixture_value(pg, DAYS_PAST), "day_7");
	assert_string_equal(pg_fixture_value(pg, "SELECT string_agg(type, ' ' ORDER BY id) FROM auth.outbox"), "now day_7");
	PQfinish(relay);
}

static void test_a_day_that_is_missing_is_made_and_writers_hold_nothing_up(void **state)
{
	PGconn *relay = PQconnectdb(pg_fixture_url(pg, "auth_relay")), *writer = PQconnectdb(pg_fixture_url(pg, "postgres"));
	int64_t began;

	pg_fixture_sql(pg, "DROP TABLE auth.day_7; DELETE FROM auth.outbox_day WHERE name = 'day_7'");
	make_day("day_8", 8);
	position_to("day_8");
	pg_fixture_sql(pg, "SET timezone = 'UTC'; DO $$ BEGIN EXECUTE 'DROP TABLE auth.outbox_' || to_char(current_date + 3, 'YYYYMMDD'); END $$;"
			   "DELETE FROM auth.outbox_day WHERE since = current_date + 3");
	/* a transaction that has written keeps the old day from going, and waits for nobody itself */
	PQclear(PQexec(writer, "BEGIN; INSERT INTO auth.outbox (event_id, tenant_id, type) VALUES (gen_random_uuid(), gen_random_uuid(), 'open')"));
	began = clock_mono_us();
	assert_true(cleaner_pass(relay) >= 0);
	assert_true(clock_mono_us() - began < 2000000);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.outbox_day WHERE until > now()"), "4");
	assert_string_equal(pg_fixture_value(pg, DAYS_PAST), "day_8");
	PQclear(PQexec(writer, "COMMIT"));
	assert_true(cleaner_pass(relay) >= 0);
	assert_string_equal(pg_fixture_value(pg, DAYS_PAST), "");
	PQfinish(writer);
	PQfinish(relay);
}

static void copy_common(const char *name)
{
	char command[300];

	snprintf(command, sizeof(command), "cp lib/db/schema/%s %s/", name, dir);
	assert_int_equal(system(command), 0);
}

static void test_an_outbox_with_rows_becomes_the_first_of_its_days(void **state)
{
	pid_t pid;

	copy_common("001_common.sql");
	copy_common("002_inbox_age.sql");
	assert_int_equal(ended(run_apart("audit")), 0);
	pg_fixture_sql(pg, "INSERT INTO audit.outbox (event_id, tenant_id, type, created_at) SELECT gen_random_uuid(), gen_random_uuid(), 'old', now() - g * interval '1 hour' FROM generate_series(1, 60) g");
	copy_common("010_outbox_days.sql");
	pid = run_apart("audit");
	assert_int_equal(ended(pid), 0);
	pg_fixture_sql(pg, "INSERT INTO audit.outbox (event_id, tenant_id, type) VALUES (gen_random_uuid(), gen_random_uuid(), 'new')");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) || ' ' || max(id) FROM audit.outbox"), "61 61");
	assert_string_equal(pg_fixture_value(pg, "SELECT name FROM audit.outbox_day ORDER BY until LIMIT 1"), "outbox_before");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM audit.outbox_day"), "4");
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM audit.outbox_default"), "0");
	/* no way round the wall */
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM information_schema.role_table_grants WHERE table_schema = 'audit' AND table_name LIKE 'outbox%'"
						 " AND table_name NOT IN ('outbox', 'outbox_position') AND grantee IN ('audit_app', 'audit_relay')"), "0");
}

static void test_the_cleaner_stops_at_once(void **state)
{
	struct cleaner *c = cleaner_start(pg_fixture_url(pg, "auth_relay"));

	cleaner_stop(c);
}

static int start(void **state)
{
	log_init("test", "text", "error");
	snprintf(dir, sizeof(dir), "/tmp/crm-migrate-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	pg = pg_fixture_start();
	return 0;
}

static int stop(void **state)
{
	static const char *const names[] = { "100_thing.sql", "101_rows.sql", "103_alter.sql", "104_two.sql", "105_long.sql", "106_index.sql", "110_contract.sql", "notes.txt" };
	char path[160];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
	pg_fixture_stop(pg);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_three_processes_migrate_once),
		cmocka_unit_test(test_a_changed_file_is_refused),
		cmocka_unit_test(test_a_file_that_fails_leaves_nothing),
		cmocka_unit_test(test_a_held_lock_is_waited_for_without_blocking_readers),
		cmocka_unit_test(test_three_starters_hold_no_reader_up),
		cmocka_unit_test(test_a_long_file_gives_way),
		cmocka_unit_test(test_an_index_is_made_outside_of_a_transaction),
		cmocka_unit_test(test_a_floor_is_written_down),
		cmocka_unit_test(test_a_floor_that_makes_no_sense_is_refused),
		cmocka_unit_test(test_an_older_table_of_migrations_is_extended),
		cmocka_unit_test(test_pending_is_told_and_nothing_done),
		cmocka_unit_test(test_the_database_is_waited_for),
		cmocka_unit_test(test_the_cleaner_takes_only_what_is_old_and_delivered),
		cmocka_unit_test(test_days_of_the_outbox_come_and_go),
		cmocka_unit_test(test_a_day_that_is_missing_is_made_and_writers_hold_nothing_up),
		cmocka_unit_test(test_the_cleaner_stops_at_once),
		cmocka_unit_test(test_an_outbox_with_rows_becomes_the_first_of_its_days),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
