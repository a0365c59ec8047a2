/* The hop while it changes: instances come, leave, vanish and come back, and keys rotate, under calls of which none may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "rpc/client_priv.h"
#include "rpc/names.h"
#include "rpc/nng_threads.h"
#include "rpc/rpc.h"

extern char **environ;

/* Servers are this program again: fork would take NNG along, exec does not. They listen at 127.0.0.<n>, all at one port. */
#define HOST "fleet.test"
#define CROWD "crowd.test" /* at all of 127.1.0.0/16, at the port after */
enum { LOOPBACKS = 8, EVERYWHERE = LOOPBACKS, SERVERS };

static const uint8_t key_a[32] = { 1 }, key_b[32] = { 2 };
static char dir[64], hosts[96], key_file[96], self[256];
static int port;
static pid_t servers[SERVERS];
static struct event_base *base;
static struct rpc_keys *keys;
static struct rpc_client *client;
static char crowd_url[64];
static int fleet, crowd;

/* -- a server: `fleet_test serve tcp://127.0.0.1:port key-file`; SIGUSR1 leaves, SIGTERM drains and ends */

static struct rpc_server *server;
static struct event_base *server_base;

static void later_cb(evutil_socket_t fd, short what, void *arg)
{
	rpc_reply_ok(arg, STR("late"));
}

static void serve(void *arg, struct rpc_call *c)
{
	struct timeval tv = { 0, 300 * 1000 };

	if (str_eq(c->rpc, STR("Slow")))
		event_base_once(server_base, -1, EV_TIMEOUT, later_cb, c, &tv);
	else
		rpc_reply_ok(c, str_of(arg));
}

static void drained(void *arg)
{
	_exit(0);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	if (number == SIGUSR1)
		rpc_server_leave(server);
	else
		rpc_server_drain(server, drained, NULL);
}

static int serve_main(char **argv)
{
	struct rpc_keys *of_server;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_init("fleet-server", "text", "error");
	rpc_nng_start();
	server_base = event_base_new();
	of_server = rpc_keys_open(argv[3]);
	rpc_keys_watch(of_server, server_base, NULL, NULL);
	server = rpc_server_new(server_base, argv[2], of_server, serve, NULL, argv[2]);
	event_add(evsignal_new(server_base, SIGUSR1, on_signal, NULL), NULL);
	event_add(evsignal_new(server_base, SIGTERM, on_signal, NULL), NULL);
	return event_base_dispatch(server_base);
}

/* -- around it */

static void put_file(const char *path, const char *text)
{
	char next[112];
	FILE *f;

	snprintf(next, sizeof(next), "%s.next", path);
	f = fopen(next, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(next, path), 0);
}

/* Bit n: 127.0.0.(n + 1) is an address of the name. */
static void put_hosts(unsigned set)
{
	char text[600] = "# of a test\n";

	for (int i = 0; i < LOOPBACKS; i++)
		if (set >> i & 1)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "127.0.0.%d other.test %s\n", i + 1, HOST);
	put_file(hosts, text);
}

static void put_keys(const uint8_t *first, const uint8_t *second)
{
	char text[140], hex[65];

	hex_encode(first, 32, hex);
	snprintf(text, sizeof(text), "%s\n", hex);
	if (second) {
		hex_encode(second, 32, hex);
		snprintf(text + 65, sizeof(text) - 65, "%s\n", hex);
	}
	put_file(key_file, text);
}

static void server_start(int i)
{
	char url[64];
	char *argv[] = { self, "serve", url, key_file, NULL };

	if (i == EVERYWHERE)
		snprintf(url, sizeof(url), "tcp://0.0.0.0:%d", port + 1);
	else
		snprintf(url, sizeof(url), "tcp://127.0.0.%d:%d", i + 1, port);
	assert_int_equal(posix_spawn(&servers[i], self, NULL, NULL, argv, environ), 0);
}

static void server_end(int i, int number)
{
	kill(servers[i], number);
	waitpid(servers[i], NULL, 0);
	servers[i] = 0;
}

static void turn(int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

/* -- calls without a pause */

struct load {
	bool on;
	int service;
	const char *rpc;
	enum rpc_lane lane;
	int out;
	long ok, failed;
	enum status last_failure;
	long of[LOOPBACKS]; /* answered by 127.0.0.<n + 1> */
};

static void load_send(struct load *l);

static void load_answered(void *arg, const struct rpc_result *r)
{
	struct load *l = arg;

	l->out--;
	if (r->status == STATUS_OK) {
		l->ok++;
		if (r->payload.n > 16 && r->payload.p[14] >= '1' && r->payload.p[14] <= '8')
			l->of[r->payload.p[14] - '1']++;
	} else {
		l->failed++;
		l->last_failure = r->status;
	}
	if (l->on)
		load_send(l);
}

static void load_send(struct load *l)
{
	struct rpc_request r = { .service = l->service, .lane = l->lane, .rpc = str_of(l->rpc), .timeout_ms = 3000, .done = load_answered, .arg = l };

	l->out++;
	rpc_client_call(client, &r);
}

/* Not the test's own: a test that failed leaves its calls behind. */
static struct load *load_start(const char *rpc, enum rpc_lane lane)
{
	struct load *l = xcalloc(1, sizeof(*l));

	*l = (struct load){ .on = true, .service = fleet, .rpc = rpc, .lane = lane };
	return l;
}

static void load_run(struct load *l, int ms)
{
	while (l->on && l->out < 8)
		load_send(l);
	turn(ms);
}

static void load_stop(struct load *l)
{
	int64_t until = clock_mono_us() + 4000000;

	l->on = false;
	while (l->out && clock_mono_us() < until)
		turn(10);
	assert_int_equal(l->out, 0);
}

/* Runs until this server answers, or does not any more. */
static void load_until(struct load *l, int i, bool answers, int limit_ms)
{
	int64_t until = clock_mono_us() + (int64_t)limit_ms * 1000;
	long before;

	do {
		before = l->of[i];
		load_run(l, 50);
	} while ((l->of[i] > before) != answers && clock_mono_us() < until);
	assert_int_equal(l->of[i] > before, answers);
}

static size_t instances(void)
{
	struct rpc_service_stats rows[64];

	return rpc_client_stats(client, rows, 64);
}

/* Put aside for later addresses. */
static int retired(void)
{
	int n = 0;

	for (const struct rpc_instance *in = client->retired; in; in = in->next_retired)
		n++;
	return n;
}

static int entries(const char *folder)
{
	DIR *d = opendir(folder);
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* -- tests */

static void test_an_address_that_appears_gets_calls(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);

	load_until(l, 0, true, 2000);
	assert_int_equal(instances(), 1);
	put_hosts(0x3);
	load_until(l, 1, true, 4000);
	assert_true(l->of[0] > 0);
	load_stop(l);
	assert_int_equal(l->failed, 0);
	assert_int_equal(instances(), 2);
}

static void test_an_address_without_a_server_harms_nobody(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);

	put_hosts(0x43);
	load_run(l, 3000);
	assert_int_equal(instances(), 3);
	put_hosts(0x3);
	load_run(l, 5000);
	load_stop(l);
	assert_int_equal(l->failed, 0);
	assert_int_equal(instances(), 2);
}

static void test_an_address_that_vanishes_finishes_and_may_come_back(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE), *slow = load_start("Slow", RPC_SLOW);

	load_run(slow, 50);
	put_hosts(0x1);
	load_until(l, 1, false, 4000);
	slow->on = false;
	load_run(l, 3000);
	assert_int_equal(instances(), 1);
	put_hosts(0x3);
	load_until(l, 1, true, 4000);
	load_stop(l);
	load_stop(slow);
	assert_int_equal(l->failed + slow->failed, 0);
	assert_int_equal(instances(), 2);
}

static void test_a_lookup_without_answer_changes_nothing(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);

	put_hosts(0);
	load_run(l, 2500);
	unlink(hosts);
	load_run(l, 2500);
	assert_int_equal(instances(), 2);
	put_hosts(0x3);
	load_run(l, 2500);
	load_stop(l);
	assert_int_equal(l->failed, 0);
	assert_true(l->of[0] > 0 && l->of[1] > 0);
}

/* One at a time: it says that it leaves, is served out, ends; its successor has another address. */
static void test_a_rolling_restart_fails_no_call(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);
	unsigned set = 0x3;

	for (int i = 0; i < 4; i++) {
		int old = i, new = i + 2;

		server_start(new);
		set |= 1u << new;
		put_hosts(set);
		load_until(l, new, true, 4000);
		kill(servers[old], SIGUSR1);
		set &= ~(1u << old);
		put_hosts(set);
		load_until(l, old, false, 2000);
		server_end(old, SIGTERM);
		load_run(l, 200);
	}
	load_stop(l);
	assert_int_equal(l->failed, 0);
	for (int i = 0; i < 6; i++)
		assert_true(l->of[i] > 0);
	server_start(0);
	server_start(1);
	put_hosts(0x3);
	l = load_start("Who", RPC_WRITE);
	load_until(l, 0, true, 4000);
	load_until(l, 1, true, 4000);
	load_until(l, 4, false, 4000);
	load_until(l, 5, false, 4000);
	load_stop(l);
	assert_int_equal(l->failed, 0);
	server_end(4, SIGKILL);
	server_end(5, SIGKILL);
}

/* One that is killed costs what was under way; nobody is sent to it after a second, and it comes back at the same address. */
static void test_one_that_is_killed_comes_back_at_its_address(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);

	load_run(l, 200);
	server_end(1, SIGKILL);
	load_run(l, 1000);
	assert_true(l->failed <= 8);
	load_until(l, 1, false, 1000);
	server_start(1);
	load_until(l, 1, true, 3000);
	load_stop(l);
	assert_true(l->failed <= 8);
}

static void nothing(void *arg)
{
}

/* Two addresses of the crowd: the n-th and the one after. One server answers at all of them. */
static void put_crowd(int n)
{
	char text[200];

	snprintf(text, sizeof(text), "127.0.0.1 " HOST "\n127.0.0.2 " HOST "\n127.1.0.%d " CROWD "\n127.1.0.%d " CROWD "\n", n, n + 1);
	put_file(hosts, text);
}

/* As many as a busy cluster has in a day, each at an address of its own. What one needs is used again for the next. */
static void test_a_hundred_replacements_leave_nothing_behind(void **state)
{
	enum { WARM = 25, ALL = 125 };
	struct load *l = load_start("Who", RPC_WRITE);
	struct rpc_name *name = rpc_name_watch(crowd_url, nothing, NULL);
	int fds = 0, threads = 0;

	put_crowd(0);
	turn(3000);
	assert_int_equal(instances(), 2 + 2);
	l->service = crowd;
	for (int i = 1; i <= ALL; i++) {
		put_crowd(i);
		rpc_name_hurry(name);
		load_run(l, 250);
		assert_true(instances() <= 2 + 2 + 12);
		if (i == WARM) {
			fds = entries("/proc/self/fd");
			threads = entries("/proc/self/task");
		}
	}
	assert_true(entries("/proc/self/fd") <= fds + 6);
	load_run(l, 5000);
	load_stop(l);
	assert_int_equal(l->failed, 0);
	assert_int_equal(instances(), 2 + 2);
	assert_true(retired() <= 16);
	assert_true(entries("/proc/self/fd") <= fds);
	assert_true(entries("/proc/self/task") <= threads);
}

static void test_keys_rotate_and_no_call_fails(void **state)
{
	struct load *l = load_start("Who", RPC_WRITE);
	struct rpc_keys_stats before = rpc_keys_stats(keys);

	load_run(l, 300);
	put_keys(key_a, key_b);
	load_run(l, 2000);
	put_keys(key_b, key_a);
	load_run(l, 2000);
	put_keys(key_b, NULL);
	load_run(l, 2000);
	load_stop(l);
	assert_true(l->ok > 1000);
	assert_int_equal(l->failed, 0);
	assert_int_equal(before.accepted, 1);
	assert_int_equal(rpc_keys_stats(keys).accepted, 1);
	assert_memory_equal(rpc_keys_get(keys).key[0], key_b, 32);
}

static void test_a_key_that_was_forgotten_is_refused(void **state)
{
	struct rpc_key_set old = { .n = 1 }, now = rpc_keys_get(keys);
	struct load *l = load_start("Who", RPC_WRITE);

	memcpy(old.key[0], key_a, 32);
	rpc_keys_set(keys, &old);
	load_run(l, 300);
	load_stop(l);
	assert_int_equal(l->ok, 0);
	assert_true(l->failed > 0);
	assert_int_equal(l->last_failure, STATUS_UNAVAILABLE);
	rpc_keys_set(keys, &now);
	l = load_start("Who", RPC_WRITE);
	turn(1500);
	load_run(l, 300);
	load_stop(l);
	assert_true(l->ok > 0);
	assert_int_equal(l->failed, 0);
}

static void start(void)
{
	char url[64];

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(dir, sizeof(dir), "/tmp/crm-fleet-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(hosts, sizeof(hosts), "%s/hosts", dir);
	snprintf(key_file, sizeof(key_file), "%s/key", dir);
	port = 26000 + (int)(getpid() % 49) * 2; /* below those of rpc_test, and of outgoing connections */
	put_keys(key_a, NULL);
	put_hosts(0x1);
	server_start(0);
	server_start(1);
	server_start(EVERYWHERE);
	rpc_nng_start();
	base = event_base_new();
	keys = rpc_keys_open(key_file);
	rpc_keys_watch(keys, base, NULL, NULL);
	rpc_names_file(hosts);
	client = rpc_client_new(base, keys);
	snprintf(url, sizeof(url), "tcp://" HOST ":%d", port);
	fleet = rpc_client_add(client, "fleet", url);
	snprintf(crowd_url, sizeof(crowd_url), "tcp://" CROWD ":%d", port + 1);
	crowd = rpc_client_add(client, "crowd", crowd_url);
}

static void end(void)
{
	for (int i = 0; i < SERVERS; i++)
		if (servers[i])
			server_end(i, SIGKILL);
	unlink(hosts);
	unlink(key_file);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_that_appears_gets_calls),
		cmocka_unit_test(test_an_address_without_a_server_harms_nobody),
		cmocka_unit_test(test_an_address_that_vanishes_finishes_and_may_come_back),
		cmocka_unit_test(test_a_lookup_without_answer_changes_nothing),
		cmocka_unit_test(test_a_rolling_restart_fails_no_call),
		cmocka_unit_test(test_one_that_is_killed_comes_back_at_its_address),
		cmocka_unit_test(test_a_hundred_replacements_leave_nothing_behind),
		cmocka_unit_test(test_keys_rotate_and_no_call_fails),
		cmocka_unit_test(test_a_key_that_was_forgotten_is_refused),
	};
	int failed;

	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		return serve_main(argv);
	log_init("fleet-test", "text", getenv("RPC_TEST_LOG") ? "debug" : "error");
	start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	end();
	/* NNG is not closed with traffic in flight */
	fflush(NULL);
	_exit(failed ? 1 : 0);
}
