/* Bodies that the app takes as they come: stopped, refused, cut off, pipelined. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/conn.h"
#include "http/testing.h"

#define SIZE 3000000

/* What the app did with one body. */
struct taken {
	struct http_exchange *x;
	struct event_base *base;
	struct str path;
	uint64_t bytes, sum;
	unsigned stops;
	bool stopped, ended;
	enum status end;
};

static struct test_server server;
static struct buf reply;
static int ends[STATUS_COUNT]; /* atomic */
static size_t most_kept;       /* input that waited while the app took nothing */

static void answer(struct taken *t, int http)
{
	char text[80];
	struct http_exchange *x = t->x;
	int n = snprintf(text, sizeof(text), "%llu %llu stops %s", (unsigned long long)t->bytes, (unsigned long long)t->sum, t->stops ? "yes" : "no");

	free(t);
	http_reply(x, http, STR(""), (struct str){ text, (size_t)n });
}

static void go_on(evutil_socket_t fd, short what, void *arg)
{
	struct taken *t = arg;

	t->stopped = false;
	if (t->ended) {
		answer(t, t->end == STATUS_OK ? 200 : status_http(t->end));
		return;
	}
	if (!http_gone(t->x) && t->x->conn->in.n > most_kept)
		most_kept = t->x->conn->in.n;
	http_body_go_on(t->x);
}

static void on_data(void *arg, struct str data)
{
	struct taken *t = arg;
	struct timeval soon = { .tv_usec = 1000 };

	assert_false(t->stopped);
	for (size_t i = 0; i < data.n; i++)
		t->sum += (unsigned char)data.p[i] * (t->bytes + i + 1);
	t->bytes += data.n;
	if (str_eq(t->path, STR("/refuse")) && t->bytes > 100000) {
		answer(t, 422);
	} else if (str_eq(t->path, STR("/slow"))) {
		t->stops++;
		t->stopped = true;
		http_body_stop(t->x);
		event_base_once(t->base, -1, EV_TIMEOUT, go_on, t, &soon);
	}
}

static void on_end(void *arg, enum status s, const char *text)
{
	struct taken *t = arg;

	__atomic_add_fetch(&ends[s], 1, __ATOMIC_SEQ_CST);
	t->ended = true;
	t->end = s;
	if (!t->stopped)
		answer(t, s == STATUS_OK ? 200 : status_http(s));
}

static void start_now(evutil_socket_t fd, short what, void *arg)
{
	struct taken *t = arg;
	struct http_body_sink sink = { t, on_data, on_end };

	if (!http_body_start(t->x, &sink))
		answer(t, 400);
}

static void handle(void *arg, struct http_exchange *x)
{
	struct taken *t = calloc(1, sizeof(*t));
	struct timeval later = { .tv_usec = 20000 };

	t->x = x;
	t->base = server.base;
	t->path = x->req.path;
	__atomic_add_fetch(&server.handled, 1, __ATOMIC_SEQ_CST);
	if (str_eq(t->path, STR("/no")))
		answer(t, 401);
	else if (str_eq(t->path, STR("/late")))
		event_base_once(t->base, -1, EV_TIMEOUT, start_now, t, &later);
	else
		start_now(-1, 0, t);
}

static void reject(void *arg, struct http_exchange *x, enum status why, const char *text)
{
	http_reply(x, status_http(why), STR(""), str_of(text));
}

static size_t limit(void *arg, struct http_exchange *x)
{
	return SIZE;
}

static bool streams(void *arg, struct http_exchange *x)
{
	return true;
}

static int setup(void **state)
{
	test_server_start(&server, NULL);
	server.http->app = (struct http_app){ .arg = &server, .handle = handle, .reject = reject, .body_limit = limit, .streams = streams };
	server.http->wait = (struct http_deadlines){ 300000, 300000, 300000, 500000, 300000, 300000 };
	test_server_run(&server);
	return 0;
}

static int teardown(void **state)
{
	test_server_stop(&server);
	buf_fini(&reply);
	return 0;
}

static void *sender(void *arg)
{
	struct buf *b = arg;
	int fd;

	memcpy(&fd, b->p, sizeof(fd));
	test_send(fd, b->p + sizeof(fd), b->n - sizeof(fd));
	return NULL;
}

/* Writes from a thread, for the server may stop reading; then reads until EOF or silence. */
static bool talk(const char *head, struct str body, int wait_ms)
{
	int fd = test_connect(&server);
	struct buf b = { 0 };
	pthread_t thread;
	bool eof;

	buf_put(&b, &fd, sizeof(fd));
	buf_z(&b, head);
	buf_str(&b, body);
	buf_clear(&reply);
	pthread_create(&thread, NULL, sender, &b);
	eof = test_read(fd, &reply, wait_ms, NULL);
	pthread_join(thread, NULL);
	close(fd);
	buf_fini(&b);
	return eof;
}

static void make(struct buf *body, uint64_t *sum)
{
	*sum = 0;
	for (size_t i = 0; i < SIZE; i++) {
		buf_c(body, (char)('a' + i % 23));
		*sum += (uint64_t)('a' + i % 23) * (i + 1);
	}
}

static void whole(const char *path, bool stops)
{
	struct buf body = { 0 }, chunked = { 0 };
	char head[200], expected[80];
	uint64_t sum;

	make(&body, &sum);
	snprintf(expected, sizeof(expected), "\r\n\r\n%d %llu stops %s", SIZE, (unsigned long long)sum, stops ? "yes" : "no");
	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", path, SIZE);
	if (!talk(head, buf_view(&body), 3000))
		fail_msg("%s: no end: %.300s", path, buf_cstr(&reply));
	assert_non_null(strstr(buf_cstr(&reply), expected));
	for (size_t at = 0; at < SIZE; at += 9999) {
		size_t n = SIZE - at < 9999 ? SIZE - at : 9999;

		buf_printf(&chunked, "%zx\r\n", n);
		buf_put(&chunked, body.p + at, n);
		buf_z(&chunked, "\r\n");
	}
	buf_z(&chunked, "0\r\n\r\n");
	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", path);
	assert_true(talk(head, buf_view(&chunked), 3000));
	assert_non_null(strstr(buf_cstr(&reply), expected));
	buf_fini(&body);
	buf_fini(&chunked);
}

static void bodies_arrive_whole_however_they_are_taken(void **state)
{
	whole("/now", false);
	whole("/late", false);
	whole("/slow", true);
	assert_in_range(most_kept, 1, HTTP_PIPELINE_BYTES + HTTP_READ_SIZE * HTTP_READS_PER_TURN);
}

static void a_connection_goes_on_behind_a_body(void **state)
{
	static const char one[] = "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", two[] = "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
	struct buf b = { 0 };
	size_t n = 0;

	for (int i = 0; i < 5; i++) {
		buf_z(&b, one);
		buf_z(&b, two);
	}
	assert_false(talk("", buf_view(&b), 250));
	for (const char *at = buf_cstr(&reply); (at = strstr(at, "HTTP/1.1 200")); at++)
		n++;
	assert_int_equal(n, 10);
	buf_fini(&b);
}

static void an_early_answer_gives_up_the_body(void **state)
{
	struct buf body = { 0 };
	uint64_t sum;
	char head[200];

	make(&body, &sum);
	for (int i = 0; i < 2; i++) {
		snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", i ? "/refuse" : "/no", SIZE);
		talk(head, buf_view(&body), 1500);
		assert_int_equal(test_status(&reply), i ? 422 : 401);
		assert_non_null(strstr(buf_cstr(&reply), "\r\nConnection: close\r\n"));
	}
	buf_fini(&body);
}

static void too_much_is_refused_before_and_while_it_comes(void **state)
{
	struct buf body = { 0 };

	assert_true(talk("POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 3000001\r\n\r\n", STR(""), 1500));
	assert_int_equal(test_status(&reply), 413);
	buf_printf(&body, "%x\r\n", SIZE + 1);
	for (size_t i = 0; i <= SIZE; i++)
		buf_c(&body, 'x');
	talk("POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", buf_view(&body), 1500);
	assert_int_equal(test_status(&reply), 413);
	assert_true(talk("POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", STR(""), 1500));
	assert_int_equal(test_status(&reply), 400);
	buf_fini(&body);
}

static void a_body_that_does_not_come_is_408(void **state)
{
	assert_true(talk("POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc", STR(""), 1500));
	assert_int_equal(test_status(&reply), 408);
}

static void a_client_that_leaves_is_heard_of(void **state)
{
	int before = __atomic_load_n(&ends[STATUS_UNAVAILABLE], __ATOMIC_SEQ_CST);

	for (int i = 0; i < 6; i++) {
		static const char *const starts[] = { "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc", "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
			"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc" };
		struct linger hard = { 1, 0 };
		int fd = test_connect(&server);

		test_send(fd, starts[i % 3], strlen(starts[i % 3]));
		usleep(2000);
		if (i >= 3)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(fd);
	}
	usleep(150000);
	assert_in_range(__atomic_load_n(&ends[STATUS_UNAVAILABLE], __ATOMIC_SEQ_CST) - before, 5, 6); /* one may be gone before its body was asked for */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_arrive_whole_however_they_are_taken),
		cmocka_unit_test(a_connection_goes_on_behind_a_body),
		cmocka_unit_test(an_early_answer_gives_up_the_body),
		cmocka_unit_test(too_much_is_refused_before_and_while_it_comes),
		cmocka_unit_test(a_body_that_does_not_come_is_408),
		cmocka_unit_test(a_client_that_leaves_is_heard_of),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
