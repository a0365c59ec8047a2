/* The relay against a real PostgreSQL: order, contents, crashes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/wire.h"
#include "events/bus.h"
#include "events/consumer.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "events/relay.h"
#include "testing/pg.h"

#define TENANT "11111111-1111-4111-8111-111111111111"

static struct pg_fixture *pg;
static struct bus_consumer *reader;

static void start_relay(void)
{
	relay_start(&(struct relay_config){ "customers", pg_fixture_url(pg, "customers_relay"), pg_fixture_url(pg, "bus_app"), "build/gen/descriptors" });
}

static PGconn *app(void)
{
	PGconn *c = pgconn_open(pg_fixture_url(pg, "customers_app"), "test", 10000);

	assert_non_null(c);
	assert_int_equal(pgconn_exec(c, NULL, "SET app.tenant_id = '" TENANT "'", 0, NULL), STATUS_OK);
	return c;
}

static void exec(PGconn *c, const char *sql)
{
	assert_int_equal(pgconn_exec(c, NULL, sql, 0, NULL), STATUS_OK);
}

/* request_id carries the test's own number. */
static void write_event(PGconn *c, int number)
{
	char sql[600];

	snprintf(sql, sizeof sql,
	    "INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, request_id) VALUES"
	    " (gen_random_uuid(), '" TENANT "', 'customers.lead.created', 'lead', gen_random_uuid(), %d, 1, '{\"display\": \"Lead %d\"}', '%d')",
	    number, number, number);
	exec(c, sql);
}

/* Next event on the bus, at most 15 s. Slices live until the next call. */
static bool next_event(struct event *e, struct bus_record *record)
{
	int64_t until = clock_mono_us() + 15 * 1000000;
	const struct bus_message *m;
	size_t n;

	while (clock_mono_us() < until) {
		if (bus_consumer_poll(reader, 300, 1, &m, &n) != STATUS_OK || n == 0)
			continue;
		assert_true(event_decode(m->record.value, e));
		*record = m->record;
		assert_int_equal(bus_consumer_commit(reader, 1), STATUS_OK);
		return true;
	}
	return false;
}

static void expect_number(int number, int64_t *stream_seq)
{
	struct event e;
	struct bus_record r;
	char text[12];

	snprintf(text, sizeof text, "%d", number);
	assert_true(next_event(&e, &r));
	assert_true(str_eq(e.request_id, str_of(text)));
	assert_int_equal(e.stream_seq, ++*stream_seq);
}

static int64_t stream_seq_now(void)
{
	int64_t v = -1;

	assert_true(str_to_i64(str_of(pg_fixture_value(pg, "SELECT stream_seq FROM customers.outbox_position")), &v));
	return v;
}

/* Before a test writes: a reader may have seen the events of the one before while the position still moved. */
static int64_t stream_seq_at_rest(void)
{
	int64_t until = clock_mono_us() + 15 * 1000000;

	while (strcmp(pg_fixture_value(pg, "SELECT count(*) FROM customers.outbox o, customers.outbox_position p WHERE (o.xid, o.id) > (p.xid, p.id)"), "0") &&
	       clock_mono_us() < until)
		usleep(20000);
	return stream_seq_now();
}

static void wait_position(int64_t stream_seq)
{
	int64_t until = clock_mono_us() + 15 * 1000000;

	while (stream_seq_now() < stream_seq && clock_mono_us() < until)
		usleep(50000);
	assert_int_equal(stream_seq_now(), stream_seq);
}

static int setup(void **state)
{
	static const char *const topics[] = { "crm.customers.v1" };

	reader = bus_consumer_new(pg_fixture_url(pg, "bus_app"), "relay-test", topics, 1);
	start_relay();
	return 0;
}

static int teardown(void **state)
{
	relay_stop();
	bus_consumer_free(reader);
	return 0;
}

static void test_slow_transaction_is_not_overtaken(void **state)
{
	PGconn *slow = app(), *quick = app();
	int64_t seq = stream_seq_at_rest();

	exec(slow, "BEGIN");
	write_event(slow, 1);
	write_event(quick, 2);
	relay_wake();
	usleep(500000);
	assert_int_equal(stream_seq_now(), seq);
	write_event(slow, 3);
	exec(slow, "COMMIT");
	relay_wake();
	/* by transaction, then by number: what one transaction did stays together */
	expect_number(1, &seq);
	expect_number(3, &seq);
	expect_number(2, &seq);
	PQfinish(slow);
	PQfinish(quick);
}

static void test_days_of_the_outbox_keep_one_order(void **state)
{
	PGconn *c = app();
	int64_t seq = stream_seq_at_rest();
	char sql[500];

	exec(c, "BEGIN");
	for (int i = 1; i <= 6; i++) { /* the later the number, the earlier the day */
		snprintf(sql, sizeof sql, "INSERT INTO outbox (event_id, tenant_id, type, request_id, created_at) VALUES (gen_random_uuid(), '" TENANT "',"
			" 'customers.thing.made', '%d', now() + interval '3 days' - interval '1 day' * %d)", i, i);
		exec(c, sql);
	}
	exec(c, "COMMIT");
	relay_wake();
	for (int i = 1; i <= 6; i++)
		expect_number(i, &seq);
	PQfinish(c);
}

static void test_rolled_back_transaction_says_nothing(void **state)
{
	PGconn *c = app();
	int64_t seq = stream_seq_at_rest();

	exec(c, "BEGIN");
	write_event(c, 10);
	exec(c, "ROLLBACK");
	write_event(c, 11);
	relay_wake();
	expect_number(11, &seq);
	PQfinish(c);
}

static const struct str *header(const struct bus_record *r, const char *name)
{
	for (size_t i = 0; i < r->n_headers; i++) {
		if (!strcmp(r->headers[i].name, name))
			return &r->headers[i].value;
	}
	return NULL;
}

static struct str wire_bytes(struct str message, uint32_t number)
{
	struct wire_reader r = wire_read(message);
	struct wire_field f;

	while (wire_next(&r, &f)) {
		if (f.number == number && f.type == WIRE_BYTES)
			return f.bytes;
	}
	return (struct str){ 0 };
}

static void test_event_says_what_changed(void **state)
{
	PGconn *c = app();
	struct event e;
	struct bus_record r;

	exec(c,
	    "INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, user_id, traceparent, dialect) VALUES"
	    " ('01920000-0000-7000-8000-000000000001', '" TENANT "', 'customers.account.updated', 'account', '01920000-0000-7000-8000-0000000000aa', 7, 2,"
	    " '{\"id\": \"01920000-0000-7000-8000-0000000000aa\", \"name\": \"Old\", \"city\": null, \"version\": 1, \"search\": \"old\", \"updated_at\": \"2024-01-15T10:30:00+00:00\"}',"
	    " '{\"id\": \"01920000-0000-7000-8000-0000000000aa\", \"name\": \"N\\u00e9w\", \"city\": \"Bonn\", \"version\": 2, \"search\": \"new\", \"secret_note\": \"x\","
	    " \"owner_id\": \"01920000-0000-7000-8000-0000000000bb\", \"created_at\": \"2024-01-15T10:30:00.5+00:00\", \"rating\": 4.50, \"tag_ids\": [\"01920000-0000-7000-8000-0000000000cc\"]}',"
	    " '01920000-0000-7000-8000-0000000000dd', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '002')");
	relay_wake();
	assert_true(next_event(&e, &r));
	assert_true(str_eq(e.type, STR("customers.account.updated")));
	assert_true(str_eq(e.source, STR("/svc-customers")));
	assert_int_equal(e.entity_seq, 7);
	assert_int_equal(e.version, 2);
	assert_true(str_eq(e.dialect, STR("002")));
	assert_int_equal(e.n_changed, 6); /* name, city, owner_id, created_at, rating, tag_ids */
	assert_null(memmem(e.after.p, e.after.n, "secret_note", 11));
	assert_null(memmem(e.after.p, e.after.n, "search", 6));
	assert_null(memmem(e.after.p, e.after.n, "version", 7));
	assert_non_null(memmem(e.before.p, e.before.n, "\"name\":\"Old\"", 12));
	assert_non_null(memmem(e.after.p, e.after.n, "\"name\":\"N\xc3\xa9w\"", 13));
	assert_non_null(memmem(e.after.p, e.after.n, "\"rating\":4.50", 13));
	/* the entity: 16 name, 21 address.city, 26 tags, 28 owner, 30 rating */
	assert_true(str_eq(wire_bytes(e.data, 16), STR("N\xc3\xa9w")));
	assert_true(str_eq(wire_bytes(wire_bytes(e.data, 21), 2), STR("Bonn")));
	assert_true(str_eq(wire_bytes(wire_bytes(e.data, 26), 1), STR("01920000-0000-7000-8000-0000000000cc")));
	assert_true(str_eq(wire_bytes(wire_bytes(e.data, 28), 1), STR("01920000-0000-7000-8000-0000000000bb")));
	assert_true(str_eq(wire_bytes(e.data, 30), STR("4.50")));
	assert_true(str_eq(r.key, e.entity_id));
	assert_true(str_eq(*header(&r, "ce_specversion"), STR("1.0")));
	assert_true(str_eq(*header(&r, "ce_id"), e.id));
	assert_true(str_eq(*header(&r, "ce_type"), e.type));
	assert_true(str_eq(*header(&r, "ce_subject"), e.entity_id));
	assert_true(str_eq(*header(&r, "tenant"), STR(TENANT)));
	assert_true(str_eq(*header(&r, "actor"), STR("01920000-0000-7000-8000-0000000000dd")));
	assert_true(str_eq(*header(&r, "content-type"), STR("application/protobuf")));
	assert_non_null(header(&r, "ce_time"));
	assert_non_null(header(&r, "traceparent"));
	PQfinish(c);
}

static void test_entity_without_message_keeps_its_secrets(void **state)
{
	PGconn *c = app();
	struct event e;
	struct bus_record r;

	exec(c, "INSERT INTO outbox (event_id, tenant_id, type, entity, before, after) VALUES (gen_random_uuid(), '" TENANT "', 'customers.thing.removed', 'thing',"
		" '{\"name\": \"n\", \"password_hash\": \"$argon2id$x\", \"refresh_token\": \"y\"}', NULL)");
	relay_wake();
	assert_true(next_event(&e, &r));
	assert_int_equal(e.n_changed, 1);
	assert_true(str_eq(e.before, STR("{\"name\":\"n\"}")));
	assert_int_equal(e.after.n, 0);
	assert_int_equal(e.data.n, 0);
	assert_true(str_eq(r.key, STR(TENANT)));
	PQfinish(c);
}

static void test_nothing_is_lost_when_the_server_crashes(void **state)
{
	PGconn *c = app();
	int64_t seq = stream_seq_at_rest(), last = seq;
	struct event e;
	struct bus_record r;
	char seen[100] = { 0 };
	int64_t number;
	int n = 0;

	for (int i = 0; i < 50; i++)
		write_event(c, i);
	pg_fixture_restart(pg, "immediate");
	PQfinish(c);
	c = app();
	for (int i = 50; i < 100; i++)
		write_event(c, i);
	while (n < 100 && next_event(&e, &r)) {
		assert_true(str_to_i64(e.request_id, &number) && number < 100);
		n += !seen[number];
		seen[number] = 1;
		assert_true(e.stream_seq <= last + 1); /* no hole; a repetition is fine */
		last = e.stream_seq > last ? e.stream_seq : last;
	}
	assert_int_equal(n, 100);
	assert_int_equal(last, seq + 100);
	wait_position(seq + 100);
	PQfinish(c);
}

/* -- kill -9 between publishing and moving the position */

static int handled;

static enum status count_events(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		__atomic_add_fetch(&handled, str_eq(events[i]->request_id, STR("666")), __ATOMIC_RELAXED);
	return STATUS_OK;
}

static pid_t relay_in_child(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	start_relay();
	for (;;)
		pause();
}

static void wait_value(const char *sql, const char *value)
{
	int64_t until = clock_mono_us() + 15 * 1000000;

	while (strcmp(pg_fixture_value(pg, sql), value) && clock_mono_us() < until)
		usleep(50000);
	assert_string_equal(pg_fixture_value(pg, sql), value);
}

#define COPIES "SELECT count(*) FROM bus.record WHERE topic = 'crm.customers.v1' AND event_id = '01920000-0000-7000-8000-000000000666'"

static void test_killed_relay_repeats_and_the_effect_is_once(void **state)
{
	static const char *const topics[] = { "crm.customers.v1" };
	PGconn *c = app(), *holder = pgconn_open(pg_fixture_url(pg, "postgres"), "holder", 60000);
	struct consumer *consumer;
	pid_t pid = relay_in_child();
	int64_t seq = stream_seq_at_rest();

	/* an advisory lock, not a row lock: a transaction that locks rows would itself hold the relay back */
	pg_fixture_sql(pg, "CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS"
			   " 'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END'; GRANT USAGE ON SCHEMA public TO PUBLIC;"
			   " CREATE TRIGGER hold BEFORE UPDATE ON customers.outbox_position FOR EACH ROW EXECUTE FUNCTION public.hold()");
	exec(holder, "SELECT pg_advisory_lock(42)");
	exec(c, "INSERT INTO outbox (event_id, tenant_id, type, entity, request_id) VALUES"
		" ('01920000-0000-7000-8000-000000000666', '" TENANT "', 'customers.thing.made', 'thing', '666')");
	wait_value(COPIES, "1");
	/* published, and waiting for the lock: end it and its server process */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pg_fixture_sql(pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crm-relay'");
	exec(holder, "SELECT pg_advisory_unlock(42)");
	assert_int_equal(stream_seq_now(), seq);
	start_relay();
	wait_value(COPIES, "2");
	wait_position(seq + 1);
	consumer = consumer_start(&(struct consumer_config){ .name = "exactly-once", .bus_url = pg_fixture_url(pg, "bus_app"),
	    .database_url = pg_fixture_url(pg, "customers_app"), .schema = "customers", .topics = topics, .n_topics = 1, .handle = count_events });
	for (int i = 0; i < 100 && consumer_stats(consumer).duplicates == 0; i++)
		usleep(100000);
	assert_true(consumer_stats(consumer).duplicates >= 1);
	assert_int_equal(__atomic_load_n(&handled, __ATOMIC_RELAXED), 1);
	consumer_stop(consumer);
	relay_stop();
	PQfinish(holder);
	PQfinish(c);
}

static void test_second_relay_stands_by_and_takes_over(void **state)
{
	PGconn *c = app();
	pid_t pid = relay_in_child();
	int64_t seq = stream_seq_at_rest();

	wait_value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = hashtext('crm.relay')::bigint::bit(32)::bigint", "1");
	start_relay();
	usleep(300000);
	assert_false(relay_stats().active);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	write_event(c, 1);
	wait_position(seq + 1);
	for (int i = 0; i < 100 && !relay_stats().active; i++)
		usleep(20000); /* it says so when its round is over */
	assert_true(relay_stats().active);
	relay_stop();
	PQfinish(c);
}

int main(void)
{
	const struct CMUnitTest alone[] = {
		cmocka_unit_test(test_killed_relay_repeats_and_the_effect_is_once),
		cmocka_unit_test(test_second_relay_stands_by_and_takes_over),
	};
	const struct CMUnitTest together[] = {
		cmocka_unit_test(test_slow_transaction_is_not_overtaken),
		cmocka_unit_test(test_days_of_the_outbox_keep_one_order),
		cmocka_unit_test(test_rolled_back_transaction_says_nothing),
		cmocka_unit_test(test_event_says_what_changed),
		cmocka_unit_test(test_entity_without_message_keeps_its_secrets),
		cmocka_unit_test(test_nothing_is_lost_when_the_server_crashes),
	};
	int failed;

	if (access("build/gen/descriptors/customers.pb", R_OK) && system("make -s build/gen/descriptors/common.pb build/gen/descriptors/customers.pb"))
		return 1;
	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "customers", NULL);
	bus_migrate(pg_fixture_url(pg, "bus_owner"), "lib/events/schema/bus");
	failed = cmocka_run_group_tests_name("relay", together, setup, teardown);
	failed += cmocka_run_group_tests_name("relay, killed", alone, NULL, NULL);
	pg_fixture_stop(pg);
	return failed;
}
