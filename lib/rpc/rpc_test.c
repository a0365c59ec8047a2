/* The hop end to end: real NNG over loopback, servers in processes of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "rpc/client.h"
#include "rpc/frame.h"
#include "rpc/nng_threads.h"
#include "rpc/rpc.h"

/* One process per server, all forked before NNG starts: it does not survive a fork. */
enum { ECHO_A, ECHO_B, WRONG_KEY, VICTIM, STOPPED, DRAINED, SICK, LEAVER_A, LEAVER_B, SERVERS };

#define CONTRACT "what it can do"

static const uint8_t right_key[32] = { 1, 2, 3 }, other_key[32] = { 9 };
static pid_t server_pid[SERVERS];
static struct event_base *base;
static struct rpc_client *client;
static int services[SERVERS], pair, leavers, nobody;

/* Twenty of our own, so that two runs and a stack may stand side by side; below the range of outgoing connections. */
static int server_port(int i)
{
	static int first;

	if (!first) /* asked before the first fork: the servers have the same */
		first = 26100 + (int)(getpid() % 300) * 20;
	return first + i;
}

/* -- the servers */

struct later {
	struct rpc_call *call;
	struct event *ev;
};

static void later_cb(evutil_socket_t fd, short what, void *arg)
{
	struct later *l = arg;

	rpc_reply_ok(l->call, STR("late"));
	event_free(l->ev);
	free(l);
}

static void reply_later(struct event_base *b, struct rpc_call *c, int ms)
{
	struct later *l = xmalloc(sizeof(*l));
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	l->call = c;
	l->ev = event_new(b, -1, 0, later_cb, l);
	event_add(l->ev, &tv);
}

static void *worker_main(void *arg)
{
	struct rpc_call *c = arg;

	rpc_reply_ok(c, c->payload);
	return NULL;
}

static struct event_base *server_base;
static struct rpc_server *server;
static volatile sig_atomic_t drain_asked, sick_asked, leave_asked;

static void drained(void *arg)
{
	_exit(7);
}

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		drain_asked = 1;
	else if (sig == SIGHUP)
		leave_asked = 1;
	else
		sick_asked = !sick_asked;
}

static void watch_cb(evutil_socket_t fd, short what, void *arg)
{
	if (leave_asked)
		rpc_server_leave(server);
	if (drain_asked == 1) {
		drain_asked = 2;
		rpc_server_drain(server, drained, NULL);
	}
}

static void reply_who(struct rpc_call *c)
{
	char *s = arena_printf(&c->arena, "%.*s|%.*s|%lld|%d%d%d|%.*s|%.*s|%.*s|%.*s", STR_FMT(c->who.tenant_id), STR_FMT(c->who.role),
	    (long long)c->who.tenant_seq, rpc_may(&c->who, 3), rpc_may(&c->who, 64), rpc_may(&c->who, 4), STR_FMT(c->request_id),
	    STR_FMT(c->dialect), STR_FMT(c->idempotency_key), STR_FMT(c->client_ip));

	rpc_reply_ok(c, str_of(s));
}

static void serve(void *arg, struct rpc_call *c)
{
	pthread_t t;

	if (str_eq(c->rpc, STR("Echo"))) {
		rpc_reply_ok(c, c->payload);
	} else if (str_eq(c->rpc, STR("Who"))) {
		reply_who(c);
	} else if (str_eq(c->rpc, STR("Sleep"))) {
		reply_later(server_base, c, atoi(c->payload.p));
	} else if (str_eq(c->rpc, STR("Worker"))) {
		if (pthread_create(&t, NULL, worker_main, c) != 0)
			abort();
		pthread_detach(t);
	} else if (str_eq(c->rpc, STR("Violate"))) {
		rpc_violate(c, "email", "email", "must be a valid e-mail address", NULL);
		rpc_reply_error(c, STATUS_VALIDATION_ERROR, NULL);
	} else if (str_eq(c->rpc, STR("Busy"))) {
		rpc_reply_retry(c, STATUS_RATE_LIMIT_EXCEEDED, "slowly", 1500);
	} else if (str_eq(c->rpc, STR("Replayed"))) {
		rpc_reply_replayed(c, STR("again"));
	} else if (str_eq(c->rpc, STR("Large"))) {
		rpc_reply_ok(c, (struct str){ arena_zalloc(&c->arena, 5000000), 5000000 });
	} else if (str_eq(c->rpc, STR("Stats"))) {
		struct rpc_stats s = rpc_server_stats(server);

		rpc_reply_ok(c, str_of(arena_printf(&c->arena, "%d %d", (int)s.messages, (int)s.calls)));
	} else if (str_eq(c->rpc, STR("Exit"))) {
		_exit(0);
	} else {
		rpc_reply_error(c, STATUS_NOT_IMPLEMENTED, NULL);
	}
}

static bool server_healthy(void *arg)
{
	return !sick_asked;
}

static void server_main(int i)
{
	struct timeval tv = { 0, 20000 };
	char url[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	signal(SIGHUP, on_signal);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", server_port(i));
	if (getenv("RPC_FEW_THREADS"))
		rpc_nng_start();
	server_base = event_base_new();
	server = rpc_server_new(server_base, url, rpc_keys_of(i == WRONG_KEY ? &other_key : &right_key, 1), serve, server_healthy, NULL);
	if (i == ECHO_A)
		rpc_server_contract(server, str_of(CONTRACT));
	event_add(event_new(server_base, -1, EV_PERSIST, watch_cb, NULL), &tv);
	event_base_dispatch(server_base);
	_exit(1);
}

/* -- the caller */

struct answer {
	int n;
	enum status status;
	bool unknown, replayed;
	uint32_t retry_after_ms;
	size_t payload_n, status_n;
	char payload[256], text[128];
	int64_t took_ms, began;
};

static void answered(void *arg, const struct rpc_result *r)
{
	struct answer *a = arg;

	a->n++;
	a->status = r->status;
	a->unknown = r->unknown;
	a->replayed = r->replayed;
	a->retry_after_ms = r->retry_after_ms;
	a->payload_n = r->payload.n;
	a->status_n = r->status_bytes.n;
	snprintf(a->payload, sizeof(a->payload), "%.*s", r->payload.n > 200 ? 0 : (int)r->payload.n, r->payload.p ? r->payload.p : "");
	snprintf(a->text, sizeof(a->text), "%.*s", (int)r->text.n, r->text.p ? r->text.p : "");
	a->took_ms = (clock_mono_us() - a->began) / 1000;
}

static struct rpc_request request(int service, const char *rpc, const char *payload, uint32_t timeout_ms, struct answer *a)
{
	*a = (struct answer){ .began = clock_mono_us() };
	return (struct rpc_request){ .service = service, .rpc = str_of(rpc), .payload = str_of(payload), .timeout_ms = timeout_ms,
		.done = answered, .arg = a };
}

static void ask(int service, const char *rpc, const char *payload, uint32_t timeout_ms, struct answer *a)
{
	struct rpc_request r = request(service, rpc, payload, timeout_ms, a);

	rpc_client_call(client, &r);
	assert_int_equal(a->n, 0);
}

static void turn(int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static void wait_for(const struct answer *a, int n, int limit_ms)
{
	int64_t until = clock_mono_us() + limit_ms * 1000;
	int got = 0;

	while (got < n && clock_mono_us() < until) {
		turn(5);
		got = 0;
		for (int i = 0; i < n; i++)
			got += a[i].n;
	}
	assert_int_equal(got, n);
}

static void call(int service, const char *rpc, const char *payload, uint32_t timeout_ms, struct answer *a)
{
	ask(service, rpc, payload, timeout_ms, a);
	wait_for(a, 1, (int)timeout_ms + 500);
}

static bool is_healthy(const char *name)
{
	struct rpc_service_stats rows[RPC_MAX_CALLS];
	size_t n = rpc_client_stats(client, rows, RPC_MAX_CALLS);

	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].name, name) == 0)
			return rows[i].healthy;
	return false;
}

static bool wait_health(const char *name, bool healthy, int limit_ms)
{
	int64_t until = clock_mono_us() + limit_ms * 1000;

	while (is_healthy(name) != healthy && clock_mono_us() < until)
		turn(10);
	return is_healthy(name) == healthy;
}

/* -- tests */

static void test_echo_answers_with_the_payload(void **state)
{
	struct answer a;

	call(services[ECHO_A], "Echo", "hello", 2000, &a);
	assert_int_equal(a.status, STATUS_OK);
	assert_string_equal(a.payload, "hello");
	call(services[ECHO_A], "Echo", "", 2000, &a);
	assert_int_equal(a.status, STATUS_OK);
	assert_int_equal(a.payload_n, 0);
}

static void test_the_envelope_arrives_whole(void **state)
{
	struct answer a;
	struct buf principal = { 0 };
	struct rpc_request r = request(services[ECHO_A], "Who", "", 2000, &a);

	wire_put_bytes(&principal, 1, STR("0190b6a0-0000-7000-8000-000000000001"));
	wire_put_varint(&principal, 2, 42);
	wire_put_bytes(&principal, 5, STR("admin"));
	wire_put_fixed64(&principal, 6, 1ULL << 3);
	wire_put_fixed64(&principal, 7, 1);
	r.principal = buf_view(&principal);
	r.request_id = STR("req-1");
	r.dialect = STR("saas");
	r.idempotency_key = STR("k1");
	r.client_ip = STR("192.0.2.7");
	rpc_client_call(client, &r);
	buf_fini(&principal);
	wait_for(&a, 1, 2000);
	assert_string_equal(a.payload, "0190b6a0-0000-7000-8000-000000000001|admin|42|110|req-1|saas|k1|192.0.2.7");
}

static void test_calls_of_one_turn_share_messages(void **state)
{
	enum { N = 1000 };
	static struct answer a[N];
	struct answer before, after;
	char text[16];
	int m1, c1, m2, c2;

	call(services[ECHO_A], "Stats", "", 2000, &before);
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "%d", i);
		ask(services[ECHO_A], "Echo", text, 5000, &a[i]);
	}
	wait_for(a, N, 5000);
	for (int i = 0; i < N; i++) {
		assert_int_equal(a[i].status, STATUS_OK);
		assert_int_equal(atoi(a[i].payload), i);
	}
	call(services[ECHO_A], "Stats", "", 2000, &after);
	assert_int_equal(sscanf(before.payload, "%d %d", &m1, &c1), 2);
	assert_int_equal(sscanf(after.payload, "%d %d", &m2, &c2), 2);
	assert_true(c2 - c1 >= N);
	assert_true(m2 - m1 <= N / RPC_MAX_CALLS + 8);
}

static void test_errors_carry_text_violations_and_retry(void **state)
{
	struct answer a;

	call(services[ECHO_A], "Violate", "", 2000, &a);
	assert_int_equal(a.status, STATUS_VALIDATION_ERROR);
	assert_true(a.status_n > 20);
	call(services[ECHO_A], "Busy", "", 2000, &a);
	assert_int_equal(a.status, STATUS_RATE_LIMIT_EXCEEDED);
	assert_string_equal(a.text, "slowly");
	assert_int_equal(a.retry_after_ms, 1500);
	call(services[ECHO_A], "Replayed", "", 2000, &a);
	assert_true(a.replayed);
	call(services[ECHO_A], "Nothing", "", 2000, &a);
	assert_int_equal(a.status, STATUS_NOT_IMPLEMENTED);
}

static void test_workers_may_answer_from_their_threads(void **state)
{
	static struct answer a[100];

	for (int i = 0; i < 100; i++)
		ask(services[ECHO_A], "Worker", "w", 5000, &a[i]);
	wait_for(a, 100, 5000);
	for (int i = 0; i < 100; i++)
		assert_string_equal(a[i].payload, "w");
}

static void test_a_deadline_is_kept_while_the_message_is_out(void **state)
{
	struct answer a[2];

	ask(services[ECHO_A], "Sleep", "600", 100, &a[0]);
	ask(services[ECHO_A], "Sleep", "600", 3000, &a[1]);
	wait_for(a, 2, 3000);
	assert_int_equal(a[0].status, STATUS_DEADLINE_EXCEEDED);
	assert_true(a[0].took_ms >= 100 && a[0].took_ms < 300);
	assert_int_equal(a[1].status, STATUS_OK);
	assert_true(a[1].took_ms >= 590);
	assert_true(is_healthy("echo"));
}

static void test_lanes_do_not_wait_for_each_other(void **state)
{
	struct answer slow[8], fast;
	struct rpc_request r;

	for (int i = 0; i < 8; i++) {
		r = request(services[ECHO_A], "Sleep", "700", 3000, &slow[i]);
		r.lane = RPC_SLOW;
		rpc_client_call(client, &r);
		turn(1);
	}
	call(services[ECHO_A], "Echo", "x", 1000, &fast);
	assert_int_equal(fast.status, STATUS_OK);
	assert_true(fast.took_ms < 400);
	wait_for(slow, 8, 4000);
}

static void test_large_payloads_go_alone_and_too_large_ones_not_at_all(void **state)
{
	struct answer a, b[2];
	size_t n = 9000000;
	char *big = xcalloc(1, n);
	struct rpc_request r = request(services[ECHO_A], "Echo", "", 3000, &a);

	r.payload = (struct str){ big, 1000000 };
	rpc_client_call(client, &r);
	wait_for(&a, 1, 3000);
	assert_int_equal(a.status, STATUS_OK);
	assert_int_equal(a.payload_n, 1000000);
	a.n = 0;
	r.payload.n = n;
	rpc_client_call(client, &r);
	wait_for(&a, 1, 3000);
	assert_int_equal(a.status, STATUS_PAYLOAD_TOO_LARGE);
	free(big);
	/* two answers of 5 MB do not fit one message: the second becomes an error, the connection stays */
	ask(services[ECHO_A], "Large", "", 3000, &b[0]);
	ask(services[ECHO_A], "Large", "", 3000, &b[1]);
	wait_for(b, 2, 3000);
	assert_int_equal(b[0].payload_n, 5000000);
	assert_int_equal(b[1].status, STATUS_INTERNAL);
	call(services[ECHO_A], "Echo", "alive", 1000, &a);
	assert_string_equal(a.payload, "alive");
}

static void test_least_in_flight_spreads_over_instances(void **state)
{
	static struct answer a[40];
	struct rpc_service_stats rows[RPC_MAX_CALLS];
	size_t n;
	uint64_t on[2] = { 0 };
	int found = 0;

	for (int i = 0; i < 40; i++)
		ask(pair, "Sleep", "100", 3000, &a[i]);
	n = rpc_client_stats(client, rows, RPC_MAX_CALLS);
	for (size_t i = 0; i < n && found < 2; i++)
		if (strcmp(rows[i].name, "pair") == 0)
			on[found++] = rows[i].in_flight;
	assert_int_equal(found, 2);
	assert_int_equal(on[0], 20);
	assert_int_equal(on[1], 20);
	wait_for(a, 40, 3000);
}

static void test_a_wrong_key_gets_no_service(void **state)
{
	struct answer a;

	call(services[WRONG_KEY], "Echo", "secret", 1000, &a);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_int_equal(a.payload_n, 0);
	assert_true(wait_health("wrong-key", false, 2500));
}

static void test_nobody_listening_is_unavailable_within_two_seconds(void **state)
{
	struct answer a;

	call(nobody, "Echo", "x", 5000, &a);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_true(a.took_ms < 2000);
	assert_false(a.unknown);
	call(nobody, "Echo", "x", 5000, &a);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_true(a.took_ms < 200);
}

static void test_a_killed_server_leaves_the_outcome_unknown(void **state)
{
	struct answer a, b, c;

	call(services[VICTIM], "Echo", "x", 1000, &a);
	assert_int_equal(a.status, STATUS_OK);
	ask(services[VICTIM], "Sleep", "3000", 5000, &a);
	turn(50);
	kill(server_pid[VICTIM], SIGKILL);
	wait_for(&a, 1, 1000);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_true(a.unknown);
	/* a successor gets its time, once */
	call(services[VICTIM], "Echo", "x", 5000, &b);
	assert_int_equal(b.status, STATUS_UNAVAILABLE);
	assert_false(b.unknown);
	assert_true(b.took_ms > 1000 && b.took_ms < 1700);
	call(services[VICTIM], "Echo", "x", 5000, &c);
	assert_int_equal(c.status, STATUS_UNAVAILABLE);
	assert_true(c.took_ms < 200);
}

static void test_a_stopped_server_is_ejected_and_comes_back(void **state)
{
	struct answer a, b, c;

	call(services[STOPPED], "Echo", "x", 1000, &a);
	assert_int_equal(a.status, STATUS_OK);
	kill(server_pid[STOPPED], SIGSTOP);
	call(services[STOPPED], "Echo", "x", 5000, &a);
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
	assert_true(a.unknown);
	assert_true(a.took_ms < 2000);
	call(services[STOPPED], "Echo", "x", 5000, &b);
	assert_int_equal(b.status, STATUS_UNAVAILABLE);
	assert_true(b.took_ms < 200);
	kill(server_pid[STOPPED], SIGCONT);
	assert_true(wait_health("stopped", true, 2000));
	call(services[STOPPED], "Echo", "back", 1000, &c);
	assert_string_equal(c.payload, "back");
}

static void test_a_sick_server_is_left_alone_until_it_is_well(void **state)
{
	kill(server_pid[SICK], SIGUSR2);
	assert_true(wait_health("sick", false, 2000));
	kill(server_pid[SICK], SIGUSR2);
	assert_true(wait_health("sick", true, 2000));
}

static void test_calls_wait_a_moment_for_whoever_went_away(void **state)
{
	struct answer a[3], late;

	kill(server_pid[SICK], SIGUSR2);
	assert_true(wait_health("sick", false, 2000));
	for (int i = 0; i < 3; i++)
		ask(services[SICK], "Echo", "patience", 5000, &a[i]);
	ask(services[SICK], "Echo", "hurry", 200, &late);
	turn(300);
	assert_int_equal(late.n, 1);
	assert_int_equal(late.status, STATUS_UNAVAILABLE);
	assert_false(late.unknown);
	assert_int_equal(a[0].n, 0);
	kill(server_pid[SICK], SIGUSR2);
	wait_for(a, 3, 1000);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(a[i].status, STATUS_OK);
		assert_string_equal(a[i].payload, "patience");
	}
}

static void test_draining_answers_what_it_has_and_takes_nothing_new(void **state)
{
	struct answer old, fresh;
	int status = 0;

	ask(services[DRAINED], "Sleep", "500", 3000, &old);
	turn(50);
	kill(server_pid[DRAINED], SIGUSR1);
	turn(80);
	call(services[DRAINED], "Echo", "x", 1000, &fresh);
	assert_int_equal(fresh.status, STATUS_UNAVAILABLE);
	wait_for(&old, 1, 2000);
	assert_int_equal(old.status, STATUS_OK);
	assert_string_equal(old.payload, "late");
	for (int i = 0; i < 100 && waitpid(server_pid[DRAINED], &status, WNOHANG) == 0; i++)
		turn(20);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	server_pid[DRAINED] = 0;
}

/* Calls that this server has handed out, its own "Stats" among them. */
static int calls_of(int service)
{
	struct answer a;
	int messages, calls;

	call(service, "Stats", "", 2000, &a);
	assert_int_equal(sscanf(a.payload, "%d %d", &messages, &calls), 2);
	return calls;
}

static void some_calls(int service, int n)
{
	for (int i = 0; i < n; i++) {
		struct answer a;

		call(service, "Echo", "x", 1000, &a);
		assert_int_equal(a.status, STATUS_OK);
	}
}

static void test_a_leaving_server_gets_no_calls_while_there_is_another(void **state)
{
	int a = calls_of(services[LEAVER_A]), b = calls_of(services[LEAVER_B]);

	some_calls(leavers, 20);
	assert_int_equal(calls_of(services[LEAVER_A]) - a, 11);
	assert_int_equal(calls_of(services[LEAVER_B]) - b, 11);
	kill(server_pid[LEAVER_A], SIGHUP);
	turn(700);
	a = calls_of(services[LEAVER_A]);
	some_calls(leavers, 20);
	assert_int_equal(calls_of(services[LEAVER_A]) - a, 1);
	/* both leave: better than none */
	kill(server_pid[LEAVER_B], SIGHUP);
	turn(700);
	some_calls(leavers, 20);
	assert_true(is_healthy("leavers"));
}

/* What rpc_seen was told of the two of `pair`. */
static struct {
	uint64_t id[2], contract[2];
	size_t n;
} seen;

static void on_seen(void *arg, int service, uint64_t instance, bool alive, uint64_t contract)
{
	size_t i = 0;

	if (service != pair)
		return;
	while (i < seen.n && seen.id[i] != instance)
		i++;
	assert_true(i < 2 && alive);
	seen.n = i == seen.n ? i + 1 : seen.n;
	seen.id[i] = instance;
	seen.contract[i] = contract;
}

static void ask_one(uint64_t instance, struct answer *a)
{
	struct rpc_request q = request(pair, "Health.Contract", "", 1000, a);

	q.instance = instance;
	rpc_client_call(client, &q);
	wait_for(a, 1, 1500);
}

static void test_instances_say_their_contracts_and_can_be_asked_one_by_one(void **state)
{
	size_t with;
	struct answer a;

	rpc_client_watch(client, on_seen, NULL);
	turn(700);
	rpc_client_watch(client, NULL, NULL);
	assert_int_equal(seen.n, 2);
	assert_true((seen.contract[0] == 0) != (seen.contract[1] == 0)); /* ECHO_A alone has one */
	with = seen.contract[0] ? 0 : 1;
	for (int k = 0; k < 4; k++) {
		ask_one(seen.id[with], &a);
		assert_int_equal(a.status, STATUS_OK);
		assert_string_equal(a.payload, CONTRACT);
		ask_one(seen.id[!with], &a); /* its dispatcher is asked */
		assert_string_not_equal(a.payload, CONTRACT);
	}
	ask_one(UINT64_MAX, &a); /* nobody: not another one instead */
	assert_int_equal(a.status, STATUS_UNAVAILABLE);
}

/* -- a number for docs/rpc.md: RPC_BENCH=1 rpc_test */

struct bench {
	struct rpc_request r;
	long left, done;
};

static void bench_cb(void *arg, const struct rpc_result *r)
{
	struct bench *b = arg;

	assert_int_equal(r->status, STATUS_OK);
	b->done++;
	if (b->left-- > 0)
		rpc_client_call(client, &b->r);
}

static void bench_run(int outstanding, long calls)
{
	static char body[600];
	struct bench b = { .left = calls };
	int64_t began = clock_mono_us();

	b.r = (struct rpc_request){ .service = services[ECHO_A], .rpc = STR("Echo"), .timeout_ms = 5000, .done = bench_cb, .arg = &b,
		.payload = { body, sizeof(body) } };
	for (int i = 0; i < outstanding; i++)
		rpc_client_call(client, &b.r);
	while (b.left > -outstanding)
		event_base_loop(base, EVLOOP_ONCE);
	printf("%d outstanding: %.0f calls/s, %.2f us each\n", outstanding, (double)b.done * 1e6 / (double)(clock_mono_us() - began),
	    (double)(clock_mono_us() - began) / (double)b.done);
}

static void servers_kill(void)
{
	for (int i = 0; i < SERVERS; i++)
		if (server_pid[i] > 0) {
			kill(server_pid[i], SIGKILL);
			waitpid(server_pid[i], NULL, 0);
		}
}

static void start(void)
{
	static const char *const names[SERVERS] = { "echo", "echo-b", "wrong-key", "victim", "stopped", "drained", "sick", "leaver-a", "leaver-b" };
	char urls[128];

	server_port(0);
	for (int i = 0; i < SERVERS; i++) {
		server_pid[i] = fork();
		if (server_pid[i] == 0)
			server_main(i);
	}
	if (getenv("RPC_FEW_THREADS"))
		rpc_nng_start();
	base = event_base_new();
	client = rpc_client_new(base, rpc_keys_of(&right_key, 1));
	for (int i = 0; i < SERVERS; i++) {
		snprintf(urls, sizeof(urls), "tcp://127.0.0.1:%d", server_port(i));
		services[i] = rpc_client_add(client, names[i], xstrdup(urls));
	}
	snprintf(urls, sizeof(urls), "tcp://127.0.0.1:%d,tcp://127.0.0.1:%d", server_port(ECHO_A), server_port(ECHO_B));
	pair = rpc_client_add(client, "pair", urls);
	snprintf(urls, sizeof(urls), "tcp://127.0.0.1:%d,tcp://127.0.0.1:%d", server_port(LEAVER_A), server_port(LEAVER_B));
	leavers = rpc_client_add(client, "leavers", urls);
	snprintf(urls, sizeof(urls), "tcp://127.0.0.1:%d", server_port(SERVERS));
	nobody = rpc_client_add(client, "nobody", urls);
	turn(300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_listening_is_unavailable_within_two_seconds),
		cmocka_unit_test(test_echo_answers_with_the_payload),
		cmocka_unit_test(test_the_envelope_arrives_whole),
		cmocka_unit_test(test_calls_of_one_turn_share_messages),
		cmocka_unit_test(test_errors_carry_text_violations_and_retry),
		cmocka_unit_test(test_workers_may_answer_from_their_threads),
		cmocka_unit_test(test_a_deadline_is_kept_while_the_message_is_out),
		cmocka_unit_test(test_lanes_do_not_wait_for_each_other),
		cmocka_unit_test(test_large_payloads_go_alone_and_too_large_ones_not_at_all),
		cmocka_unit_test(test_least_in_flight_spreads_over_instances),
		cmocka_unit_test(test_a_wrong_key_gets_no_service),
		cmocka_unit_test(test_a_killed_server_leaves_the_outcome_unknown),
		cmocka_unit_test(test_a_stopped_server_is_ejected_and_comes_back),
		cmocka_unit_test(test_a_sick_server_is_left_alone_until_it_is_well),
		cmocka_unit_test(test_calls_wait_a_moment_for_whoever_went_away),
		cmocka_unit_test(test_instances_say_their_contracts_and_can_be_asked_one_by_one),
		cmocka_unit_test(test_a_leaving_server_gets_no_calls_while_there_is_another),
		cmocka_unit_test(test_draining_answers_what_it_has_and_takes_nothing_new),
	};
	int failed;

	log_init("rpc-test", "text", getenv("RPC_TEST_LOG") ? "debug" : "error");
	start();
	if (getenv("RPC_BENCH")) {
		bench_run(1, 20000);
		bench_run(64, 300000);
		bench_run(256, 300000);
		servers_kill();
		fflush(NULL);
		_exit(0);
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	servers_kill();
	/* NNG is not closed with traffic in flight */
	fflush(NULL);
	_exit(failed ? 1 : 0);
}
