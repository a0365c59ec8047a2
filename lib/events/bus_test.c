/* One suite for both bus drivers: PostgreSQL always, Kafka when CRM_TEST_KAFKA=host:port names a broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "events/bus.h"
#include "events/pgconn.h"
#include "testing/pg.h"

static struct pg_fixture *pg;

struct driver {
	const char *url;
	char topic[80], other[80], group[80];
};

static char url_text[1100];

static struct driver fresh(void **state)
{
	struct driver d = { .url = *state };
	char id[UUID_TEXT + 1];

	uuid7(id);
	snprintf(d.topic, sizeof d.topic, "crm.test-%s.v1", id);
	snprintf(d.other, sizeof d.other, "crm.other-%s.v1", id);
	snprintf(d.group, sizeof d.group, "group-%s", id);
	assert_int_equal(bus_topic_create(d.url, d.topic), STATUS_OK);
	assert_int_equal(bus_topic_create(d.url, d.other), STATUS_OK);
	return d;
}

static struct bus_consumer *reader(const struct driver *d)
{
	const char *topics[] = { d->topic, d->other };

	return bus_consumer_new(d->url, d->group, topics, 2);
}

static void publish(struct bus_producer *p, const char *topic, const char *key, int from, int n)
{
	struct bus_record *records = xcalloc((size_t)n, sizeof *records);
	char (*ids)[UUID_TEXT + 1] = xcalloc((size_t)n, sizeof *ids);
	char (*values)[24] = xcalloc((size_t)n, sizeof *values);
	struct bus_header headers[] = { { "tenant", STR("t\"1\\") }, { "ce_type", STR("test.thing.made") } };

	for (int i = 0; i < n; i++) {
		uuid7(ids[i]);
		snprintf(values[i], sizeof values[i], "%s-%d", key, from + i);
		records[i] = (struct bus_record){ topic, str_of(key), str_of(ids[i]), str_of(values[i]), headers, 2 };
	}
	assert_int_equal(bus_producer_publish(p, records, (size_t)n), STATUS_OK);
	free(records);
	free(ids);
	free(values);
}

/* Polls until something comes, at most 15 s. */
static const struct bus_message *take(struct bus_consumer *c, size_t max, size_t *n)
{
	const struct bus_message *m = NULL;
	int64_t until = clock_mono_us() + 15 * 1000000;

	*n = 0;
	while (*n == 0 && clock_mono_us() < until) {
		if (bus_consumer_poll(c, 500, max, &m, n) != STATUS_OK)
			usleep(100000);
	}
	return m;
}

/* Takes n records of one key and checks that they come in order, committing each batch. */
static void expect_in_order(struct bus_consumer *c, const char *key, int from, int n)
{
	char value[40];
	size_t got;

	while (n > 0) {
		const struct bus_message *m = take(c, 100, &got);

		assert_true(got > 0);
		for (size_t i = 0; i < got; i++, n--) {
			snprintf(value, sizeof value, "%s-%d", key, from++);
			assert_int_equal(m[i].record.value.n, strlen(value));
			assert_memory_equal(m[i].record.value.p, value, strlen(value));
		}
		assert_int_equal(bus_consumer_commit(c, got), STATUS_OK);
	}
}

static void expect_nothing(struct bus_consumer *c)
{
	const struct bus_message *m;
	size_t n;

	assert_int_equal(bus_consumer_poll(c, 700, 100, &m, &n), STATUS_OK);
	assert_int_equal(n, 0);
}

static void test_records_arrive_whole_and_in_order(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	const struct bus_message *m;
	size_t n;

	publish(p, d.topic, "k", 0, 1);
	m = take(c, 10, &n);
	assert_int_equal(n, 1);
	assert_string_equal(m->record.topic, d.topic);
	assert_true(str_eq(m->record.key, STR("k")));
	assert_true(uuid_parse(m->record.event_id, NULL));
	for (size_t i = 0, seen = 0; i < m->record.n_headers; i++) {
		if (!strcmp(m->record.headers[i].name, "tenant"))
			assert_true(str_eq(m->record.headers[i].value, STR("t\"1\\")));
		seen += !strcmp(m->record.headers[i].name, "tenant") || !strcmp(m->record.headers[i].name, "ce_type");
		if (i + 1 == m->record.n_headers)
			assert_int_equal(seen, 2);
	}
	assert_int_equal(bus_consumer_commit(c, 1), STATUS_OK);
	publish(p, d.topic, "k", 1, 300);
	expect_in_order(c, "k", 1, 300);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_uncommitted_records_come_again_after_rewind(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	size_t n, seen = 0;

	publish(p, d.topic, "r", 0, 10);
	while (seen < 4) {
		take(c, 4 - seen, &n);
		assert_true(n > 0);
		seen += n;
		assert_int_equal(bus_consumer_commit(c, n), STATUS_OK);
	}
	take(c, 3, &n);
	assert_true(n > 0);
	bus_consumer_rewind(c);
	expect_in_order(c, "r", 4, 6);
	expect_nothing(c);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_group_position_survives_and_other_groups_start_at_the_beginning(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);

	publish(p, d.topic, "g", 0, 5);
	expect_in_order(c, "g", 0, 5);
	bus_consumer_free(c);
	publish(p, d.topic, "g", 5, 5);
	c = reader(&d);
	expect_in_order(c, "g", 5, 5);
	bus_consumer_free(c);
	snprintf(d.group, sizeof d.group, "another-%d", (int)getpid());
	c = reader(&d);
	expect_in_order(c, "g", 0, 10);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_all_topics_of_a_group_are_read(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	size_t n, first = 0, second = 0;

	publish(p, d.topic, "a", 0, 20);
	publish(p, d.other, "b", 0, 20);
	while (first + second < 40) {
		const struct bus_message *m = take(c, 50, &n);

		assert_true(n > 0);
		for (size_t i = 0; i < n; i++)
			*(strcmp(m[i].record.topic, d.topic) ? &second : &first) += 1;
		assert_int_equal(bus_consumer_commit(c, n), STATUS_OK);
	}
	assert_int_equal(first, 20);
	assert_int_equal(second, 20);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_waiting_reader_hears_of_a_record_within_two_seconds(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	const struct bus_message *m;
	int64_t start;
	size_t n;

	publish(p, d.topic, "w", 0, 1);
	expect_in_order(c, "w", 0, 1);
	expect_nothing(c);
	expect_nothing(c);
	publish(p, d.topic, "w", 1, 1);
	start = clock_mono_us();
	m = take(c, 1, &n);
	assert_int_equal(n, 1);
	assert_true(str_eq(m->record.value, STR("w-1")));
	assert_true(clock_mono_us() - start < 2000000);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_a_record_beyond_the_limits_is_refused(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	char *large = xcalloc(1, BUS_MAX_VALUE + 1), id[UUID_TEXT + 1];
	struct bus_record r = { d.topic, STR("k"), { id, UUID_TEXT }, { large, BUS_MAX_VALUE + 1 }, NULL, 0 };

	uuid7(id);
	assert_int_equal(bus_producer_publish(p, &r, 1), STATUS_BAD_REQUEST);
	r.value.n = BUS_MAX_VALUE;
	assert_int_equal(bus_producer_publish(p, &r, 1), STATUS_OK);
	free(large);
	bus_producer_free(p);
}

/* -- PostgreSQL only */

static void pg_sql(PGconn *c, const char *sql)
{
	assert_int_equal(pgconn_exec(c, NULL, sql, 0, NULL), STATUS_OK);
}

static void test_postgres_slow_transaction_is_not_overtaken(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	PGconn *slow = pgconn_open(d.url, "slow", 10000);
	char sql[400];

	assert_non_null(slow);
	pg_sql(slow, "BEGIN");
	snprintf(sql, sizeof sql, "INSERT INTO record (topic, key, event_id, value) VALUES ('%s', 's', gen_random_uuid(), 's-0')", d.topic);
	pg_sql(slow, sql);
	publish(p, d.topic, "s", 1, 3);
	expect_nothing(c);
	pg_sql(slow, "COMMIT");
	expect_in_order(c, "s", 0, 4);
	PQfinish(slow);
	bus_consumer_free(c);
	bus_producer_free(p);
}

static void test_postgres_login_role_cannot_change_the_log(void **state)
{
	PGconn *c = pgconn_open(*state, "test", 10000);

	assert_non_null(c);
	assert_int_not_equal(pgconn_exec(c, NULL, "DELETE FROM record", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(c, NULL, "UPDATE record SET key = ''", 0, NULL), STATUS_OK);
	assert_int_not_equal(pgconn_exec(c, NULL, "TRUNCATE record", 0, NULL), STATUS_OK);
	PQfinish(c);
}

static void test_postgres_records_expire_after_seven_days(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	PGconn *c = pgconn_open(d.url, "test", 10000);
	char sql[300];

	publish(p, d.topic, "e", 0, 2);
	snprintf(sql, sizeof sql, "UPDATE bus.record SET at = now() - interval '8 days' WHERE topic = '%s' AND value = 'e-0'", d.topic);
	pg_fixture_sql(pg, sql);
	pg_sql(c, "SELECT record_expire()");
	snprintf(sql, sizeof sql, "SELECT string_agg(convert_from(value, 'UTF8'), ',') FROM bus.record WHERE topic = '%s'", d.topic);
	assert_string_equal(pg_fixture_value(pg, sql), "e-1");
	PQfinish(c);
	bus_producer_free(p);
}

static void test_postgres_only_one_reader_of_a_group(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *one = reader(&d), *two = reader(&d);

	publish(p, d.topic, "o", 0, 2);
	expect_in_order(one, "o", 0, 2);
	publish(p, d.topic, "o", 2, 2);
	expect_nothing(two);
	bus_consumer_free(one);
	expect_in_order(two, "o", 2, 2);
	bus_consumer_free(two);
	bus_producer_free(p);
}

static void test_postgres_survives_a_crash_of_the_server(void **state)
{
	struct driver d = fresh(state);
	struct bus_producer *p = bus_producer_new(d.url);
	struct bus_consumer *c = reader(&d);
	char id[UUID_TEXT + 1];
	struct bus_record r = { d.topic, STR("c"), { id, UUID_TEXT }, STR("c-2"), NULL, 0 };
	const struct bus_message *m;
	size_t n;

	publish(p, d.topic, "c", 0, 2);
	expect_in_order(c, "c", 0, 2);
	pg_fixture_restart(pg, "immediate");
	uuid7(id);
	assert_int_equal(bus_producer_publish(p, &r, 1), STATUS_UNAVAILABLE);
	assert_int_equal(bus_consumer_poll(c, 10, 10, &m, &n), STATUS_UNAVAILABLE);
	assert_int_equal(bus_producer_publish(p, &r, 1), STATUS_OK);
	expect_in_order(c, "c", 2, 1);
	bus_consumer_free(c);
	bus_producer_free(p);
}

#define BOTH(url) \
	{ "records_arrive_whole_and_in_order", test_records_arrive_whole_and_in_order, NULL, NULL, url }, \
	{ "uncommitted_records_come_again_after_rewind", test_uncommitted_records_come_again_after_rewind, NULL, NULL, url }, \
	{ "group_position_survives", test_group_position_survives_and_other_groups_start_at_the_beginning, NULL, NULL, url }, \
	{ "all_topics_of_a_group_are_read", test_all_topics_of_a_group_are_read, NULL, NULL, url }, \
	{ "waiting_reader_hears_soon", test_waiting_reader_hears_of_a_record_within_two_seconds, NULL, NULL, url }, \
	{ "a_record_beyond_the_limits_is_refused", test_a_record_beyond_the_limits_is_refused, NULL, NULL, url }

static int run_kafka(void)
{
	static char kafka[200];
	const char *broker = getenv("CRM_TEST_KAFKA");
	const struct CMUnitTest tests[] = { BOTH(kafka) };

	if (!broker || !*broker) {
		printf("bus_test: Kafka is left out, CRM_TEST_KAFKA names no broker%s\n", getenv("CRM_TEST_KAFKA_REQUIRED") ? ": that is an error here" : "");
		return getenv("CRM_TEST_KAFKA_REQUIRED") ? 1 : 0;
	}
	snprintf(kafka, sizeof kafka, "kafka://%s?partitions=4&replication=1", broker);
	return cmocka_run_group_tests_name("bus over Kafka", tests, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(url_text),
		{ "slow_transaction_is_not_overtaken", test_postgres_slow_transaction_is_not_overtaken, NULL, NULL, url_text },
		{ "login_role_cannot_change_the_log", test_postgres_login_role_cannot_change_the_log, NULL, NULL, url_text },
		{ "records_expire_after_seven_days", test_postgres_records_expire_after_seven_days, NULL, NULL, url_text },
		{ "only_one_reader_of_a_group", test_postgres_only_one_reader_of_a_group, NULL, NULL, url_text },
		{ "survives_a_crash_of_the_server", test_postgres_survives_a_crash_of_the_server, NULL, NULL, url_text },
	};
	int failed;

	pg = pg_fixture_start();
	snprintf(url_text, sizeof url_text, "%s", pg_fixture_url(pg, "bus_app"));
	bus_migrate(pg_fixture_url(pg, "bus_owner"), "lib/events/schema/bus");
	failed = cmocka_run_group_tests_name("bus over PostgreSQL", tests, NULL, NULL);
	pg_fixture_stop(pg);
	return run_kafka() || failed;
}
