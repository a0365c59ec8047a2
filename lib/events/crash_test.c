/*
 * A process that dies at each fault point of the way from outbox to effect, on both buses: whoever comes after it completes
 * the work, and every effect is there exactly once. Kafka when CRM_TEST_KAFKA=host:port names a broker. Fault points are in
 * test builds only (VARIANT=asan); elsewhere this shows that they are not there. And what relay and consumer do without files or disk.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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

static pid_t running; /* 0: none */

/* A test that failed leaves its process to nobody. */
static int after(void **state)
{
	if (running && kill(running, SIGKILL) == 0)
		waitpid(running, NULL, 0);
	running = 0;
	return 0;
}

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

	if (pid) {
		running = pid;
		return pid;
	}
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
	running = 0;
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	running = 0;
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
	for (int i = 0; i < 600 && number_of(NOT_CARRIED) > 0; i++)
		usleep(50000); /* the consumer may have been quicker than the position */
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

/* -- R8: without what it needs it waits quietly, and goes on at once */

#define WATCH_S 3

static int64_t cpu_ms(pid_t pid)
{
	char path[40], text[600] = "";
	unsigned long user = 0, system = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	assert_int_equal(sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
	return (int64_t)(user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

/* Lines that came through the pipe. */
static int lines_read(int fd)
{
	char part[65536];
	ssize_t n;
	int lines = 0;

	for (n = read(fd, part, sizeof part); n > 0; n = read(fd, part, sizeof part)) {
		for (ssize_t i = 0; i < n; i++)
			lines += part[i] == '\n';
	}
	return lines;
}

/* What it says goes into a pipe, whose reading end is given. */
static pid_t start_heard(int *out)
{
	int fds[2], saved = dup(STDERR_FILENO);
	pid_t pid;

	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	dup2(fds[1], STDERR_FILENO);
	pid = start(NULL);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	*out = fds[0];
	return pid;
}

static void cut_connections(void)
{
	pg_fixture_sql(pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'crm-%' OR application_name LIKE 'crash-%'");
}

static void fault_files(pid_t pid, bool on)
{
	static struct rlimit before;
	struct rlimit few = { .rlim_cur = 3, .rlim_max = 3 };

	if (on) {
		assert_int_equal(prlimit(pid, RLIMIT_NOFILE, NULL, &before), 0);
		few.rlim_max = before.rlim_max;
	}
	assert_int_equal(prlimit(pid, RLIMIT_NOFILE, on ? &few : &before, NULL), 0);
	if (on)
		cut_connections();
}

static void fault_disk(pid_t pid, bool on)
{
	if (on)
		pg_fixture_sql(pg, "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no space left'' USING ERRCODE = ''53100''; END';"
				   "GRANT USAGE ON SCHEMA public TO PUBLIC; CREATE TRIGGER full_disk BEFORE INSERT ON customers.inbox FOR EACH ROW EXECUTE FUNCTION public.full_disk();"
				   "CREATE TRIGGER full_disk BEFORE UPDATE ON customers.outbox_position FOR EACH ROW EXECUTE FUNCTION public.full_disk()");
	else
		pg_fixture_sql(pg, "DROP FUNCTION public.full_disk() CASCADE");
}

static void waits_quietly(void (*fault)(pid_t pid, bool on))
{
	int64_t cpu, began;
	int out, lines;
	pid_t pid;

	uuid7(mark);
	pid = start_heard(&out);
	write_transaction(0);
	wait_number(EFFECTS, EACH);
	fault(pid, true);
	write_transaction(1);
	sleep(1);
	(void)lines_read(out);
	cpu = cpu_ms(pid);
	sleep(WATCH_S);
	cpu = cpu_ms(pid) - cpu;
	lines = lines_read(out);
	assert_int_equal(number_of(EFFECTS), EACH);
	assert_true(cpu < WATCH_S * 100); /* a tenth of a core */
	assert_in_range(lines, 1, WATCH_S * 10);
	fault(pid, false);
	began = clock_mono_us();
	wait_number(EFFECTS, 2 * EACH);
	assert_true(clock_mono_us() - began < 2500000); /* R8 says 1 s; relay and consumer one after the other, and a noisy machine */
	end(pid);
	close(out);
}

static void test_without_file_descriptors(void **state)
{
	waits_quietly(fault_files);
}

static void test_without_disk_space(void **state)
{
	waits_quietly(fault_disk);
}

static int run_starved(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(test_without_file_descriptors, after), cmocka_unit_test_teardown(test_without_disk_space, after) };

	return cmocka_run_group_tests_name("starved", tests, NULL, NULL);
}

static int run_on(const char *url, const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_before_publish, after), cmocka_unit_test_teardown(test_after_publish, after),
		cmocka_unit_test_teardown(test_before_inbox, after), cmocka_unit_test_teardown(test_after_inbox, after),
	};
	const struct CMUnitTest none[] = { cmocka_unit_test_teardown(test_a_release_has_no_fault_points, after) };

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
	failed += run_starved();
	if (kafka) {
		snprintf(url, sizeof url, "kafka://%s", kafka);
		failed += run_on(url, "crashes, Kafka");
	}
	pg_fixture_stop(pg);
	return failed;
}
