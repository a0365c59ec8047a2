/*
 * A process that dies at each fault point of the way from outbox to effect, on both buses: whoever comes after it completes
 * the work, and every effect is there exactly once. Kafka when CRM_TEST_KAFKA=host:port names a broker. Fault points are in
 * test builds only (VARIANT=asan); elsewhere this shows that they are not there.
 */
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
#include "base/fault.h"
#include "events/bus.h"
#include "events/consumer.h"
#include "events/pgconn.h"
#include "events/relay.h"
#include "testing/pg.h"

#define TENANT "11111111-1111-4111-8111-111111111111"
#define TRANSACTIONS 4
#define EACH 30

static struct pg_fixture *pg;
static const char *bus_url;
static char mark[UUID_TEXT + 1]; /* of one case, in request_id: a broker may keep what earlier tests wrote */

/* effect has no key: what is done twice is there twice. */
static enum status handle(void *arg, PGconn *c, const struct event *const *events, size_t n)
{
	enum status s = STATUS_OK;

	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		struct arena a = { 0 };
		const char *params[] = { arena_strdup(&a, events[i]->id), arena_strdup(&a, events[i]->request_id) };

		s = pgconn_exec(c, NULL, "INSERT INTO effect (event_id, mark) VALUES ($1, $2)", 2, params);
		arena_fini(&a);
	}
	return s;
}

/* Relay and consumer in a process of their own, which dies at crash_at (NULL: it lives until it is killed). */
static pid_t start(const char *crash_at)
{
	static const char *const topics[] = { "crm.customers.v1" };
	char group[60];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_arm(crash_at);
	snprintf(group, sizeof group, "crash-%s", mark);
	relay_start(&(struct relay_config){ "customers", pg_fixture_url(pg, "customers_relay"), bus_url, "build/gen/descriptors" });
	consumer_start(&(struct consumer_config){ .name = group, .bus_url = bus_url, .database_url = pg_fixture_url(pg, "customers_app"),
	    .schema = "customers", .topics = topics, .n_topics = 1, .handle = handle });
	for (;;)
		pause();
}

static void write_transaction(int number)
{
	char sql[500];

	snprintf(sql, sizeof sql,
	    "INSERT INTO customers.outbox (event_id, tenant_id, type, entity, entity_id, after, request_id) SELECT gen_random_uuid(), '" TENANT "',"
	    " 'customers.lead.created', 'lead', gen_random_uuid(), '{\"display\": \"Lead %d\"}', '%s' FROM generate_series(1, %d)",
	    number, mark, EACH);
	pg_fixture_sql(pg, sql);
}

static int64_t number_of(const char *fmt)
{
	char sql[300];
	int64_t v = -1;

	snprintf(sql, sizeof sql, fmt, mark);
	assert_true(str_to_i64(str_of(pg_fixture_value(pg, sql)), &v));
	return v;
}

static void wait_number(const char *fmt, int64_t expected)
{
	int64_t until = clock_mono_us() + 40 * 1000000;

	while (number_of(fmt) < expected && clock_mono_us() < until)
		usleep(50000);
	assert_int_equal(number_of(fmt), expected);
}

#define EFFECTS "SELECT count(*) FROM customers.effect WHERE mark = '%s'"
#define DIFFERENT "SELECT count(DISTINCT event_id) FROM customers.effect WHERE mark = '%s'"
#define NOT_CARRIED "SELECT count(*) FROM customers.outbox o, customers.outbox_position p WHERE (o.xid, o.id) > (p.xid, p.id)"

static void must_die(pid_t pid)
{
	int status = 0;

	for (int i = 0; i < 600 && waitpid(pid, &status, WNOHANG) == 0; i++)
		usleep(50000);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void dies_and_is_followed(const char *crash_at)
{
	pid_t pid;

	uuid7(mark);
	pid = start(crash_at);
	for (int i = 0; i < TRANSACTIONS; i++)
		write_transaction(i);
	must_die(pid);
	assert_true(number_of(EFFECTS) <= TRANSACTIONS * EACH);
	pid = start(NULL);
	write_transaction(TRANSACTIONS);
	wait_number(EFFECTS, (TRANSACTIONS + 1) * EACH);
	wait_number(DIFFERENT, (TRANSACTIONS + 1) * EACH);
	assert_int_equal(number_of(NOT_CARRIED), 0);
	usleep(300000); /* a second delivery would be there by now */
	assert_int_equal(number_of(EFFECTS), (TRANSACTIONS + 1) * EACH);
	end(pid);
}

static void test_before_publish(void **state)
{
	dies_and_is_followed("before_publish");
}

static void test_after_publish(void **state)
{
	dies_and_is_followed("after_publish");
}

static void test_before_inbox(void **state)
{
	dies_and_is_followed("before_inbox");
}

static void test_after_inbox(void **state)
{
	dies_and_is_followed("after_inbox");
}

static void test_a_release_has_no_fault_points(void **state)
{
	pid_t pid;

	uuid7(mark);
	pid = start("before_publish");
	write_transaction(0);
	wait_number(EFFECTS, EACH);
	end(pid);
}

static int run_on(const char *url, const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_publish), cmocka_unit_test(test_after_publish),
		cmocka_unit_test(test_before_inbox), cmocka_unit_test(test_after_inbox),
	};
	const struct CMUnitTest none[] = { cmocka_unit_test(test_a_release_has_no_fault_points) };

	bus_url = url;
	return FAULTS_BUILT ? cmocka_run_group_tests_name(name, tests, NULL, NULL) : cmocka_run_group_tests_name(name, none, NULL, NULL);
}

int main(void)
{
	const char *kafka = getenv("CRM_TEST_KAFKA");
	char url[200];
	int failed;

	if (access("build/gen/descriptors/customers.pb", R_OK) && system("make -s build/gen/descriptors/common.pb build/gen/descriptors/customers.pb"))
		return 1;
	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "customers", NULL);
	bus_migrate(pg_fixture_url(pg, "bus_owner"), "lib/events/schema/bus");
	pg_fixture_sql(pg, "CREATE TABLE customers.effect (event_id uuid, mark text); GRANT SELECT, INSERT ON customers.effect TO customers_app");
	failed = run_on(pg_fixture_url(pg, "bus_app"), "crashes, PostgreSQL bus");
	if (kafka) {
		snprintf(url, sizeof url, "kafka://%s", kafka);
		failed += run_on(url, "crashes, Kafka");
	}
	pg_fixture_stop(pg);
	return failed;
}
