/* The exporter against a collector that takes, refuses, is busy, is silent, or is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "telemetry/metrics.h"
#include "telemetry/trace_export.h"
#include "telemetry/trace_internal.h"

/* One connection after the other; answers are given in turn, the last again and again. "" is silence. */
static struct {
	int fd, port;
	pthread_t thread;
	const char *const *answers;
	atomic_int requests, stop;
	char last[2][200000]; /* the newest two requests */
	int64_t at[16];
} collector;

static size_t read_request(int fd, char *to, size_t room)
{
	size_t n = 0, want = 0;

	while (n < room - 1) {
		ssize_t got = read(fd, to + n, room - 1 - n);
		char *body, *length;

		if (got <= 0)
			return 0;
		n += (size_t)got;
		to[n] = 0;
		body = strstr(to, "\r\n\r\n");
		length = strstr(to, "Content-Length: ");
		if (body && length && !want)
			want = (size_t)(body + 4 - to) + (size_t)strtoul(length + 16, NULL, 10);
		if (want && n >= want)
			return n;
	}
	return 0;
}

static void serve(int fd)
{
	for (;;) {
		char *to = collector.last[atomic_load(&collector.requests) % 2];
		const char *const *answer = collector.answers;
		int i = atomic_load(&collector.requests);

		if (!read_request(fd, to, sizeof(collector.last[0])))
			return;
		collector.at[i % 16] = clock_mono_us();
		for (int k = 0; k < i && answer[1]; k++)
			answer++;
		atomic_fetch_add(&collector.requests, 1);
		while (!**answer && !atomic_load(&collector.stop))
			poll(NULL, 0, 10);
		if (write(fd, *answer, strlen(*answer)) < 0)
			return;
	}
}

static void *collect(void *arg)
{
	struct pollfd p = { .fd = collector.fd, .events = POLLIN };

	while (!atomic_load(&collector.stop)) {
		int fd = poll(&p, 1, 20) > 0 ? accept(collector.fd, NULL, NULL) : -1;

		if (fd < 0)
			continue;
		serve(fd);
		close(fd);
	}
	return NULL;
}

static void collector_start(const char *const *answers)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	char url[60];

	memset(&collector, 0, sizeof(collector));
	collector.answers = answers;
	collector.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(collector.fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(collector.fd, (struct sockaddr *)&at, &n), 0);
	if (answers) {
		assert_int_equal(listen(collector.fd, 5), 0);
		assert_int_equal(pthread_create(&collector.thread, NULL, collect, NULL), 0);
	}
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(at.sin_port)); /* without answers: bound, so nobody else listens there */
	setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url, 1);
	setenv("OTEL_BSP_SCHEDULE_DELAY", "20", 1);
	setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64", 1);
	setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16", 1);
	setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%2Cb, x-other=c", 1);
	trace_start("test");
}

static int collector_end(void **state)
{
	trace_stop();
	atomic_store(&collector.stop, 1);
	if (collector.answers)
		pthread_join(collector.thread, NULL);
	close(collector.fd);
	trace_ring_fini();
	return 0;
}

static void put(int n)
{
	struct trace_context root = { .trace = { 1 }, .sampled = true };
	struct span s;

	for (int i = 0; i < n; i++) {
		span_begin(&s, &root, SPAN_INTERNAL, STR("work"));
		span_end(&s);
	}
}

static void wait_requests(int n, int ms)
{
	for (; atomic_load(&collector.requests) < n && ms > 0; ms -= 5)
		poll(NULL, 0, 5);
	assert_true(atomic_load(&collector.requests) >= n);
}

static int count_of(const char *text, const char *what)
{
	int n = 0;

	for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
		n++;
	return n;
}

/* A line of /metrics; they are counted on since the program began. */
static double number(const char *line)
{
	struct buf b = { 0 };
	char *at;
	double v = 0;

	metrics_print(&b);
	at = strstr(buf_cstr(&b), line);
	if (at)
		v = strtod(at + strlen(line), NULL);
	buf_fini(&b);
	return v;
}

static double wait_number(const char *line, double least)
{
	for (int i = 0; i < 400 && number(line) < least; i++)
		poll(NULL, 0, 10);
	return number(line);
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define DROPPED(reason) "crm_trace_dropped_total{reason=\"" reason "\"} "
#define EXPORTS(result) "crm_trace_exports_total{result=\"" result "\"} "

static void test_a_batch_arrives(void **state)
{
	static const char *const answers[] = { OK, NULL };
	const char *first;

	collector_start(answers);
	put(3);
	wait_requests(1, 2000);
	first = collector.last[0];
	assert_true(strncmp(first, "POST /v1/traces HTTP/1.1\r\n", 26) == 0);
	assert_non_null(strstr(first, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(first, "x-key: a,b\r\n"));
	assert_non_null(strstr(first, "x-other: c\r\n"));
	assert_int_equal(count_of(first, "\"spanId\""), 3);
	assert_non_null(strstr(first, "\"service.name\",\"value\":{\"stringValue\":\"test\"}"));
	assert_true(wait_number("\ncrm_trace_spans_total ", 3) >= 3);
}

static void test_batches_are_bounded(void **state)
{
	static const char *const answers[] = { OK, NULL };

	collector_start(answers);
	put(40);
	wait_requests(3, 2000);
	assert_true(count_of(collector.last[0], "\"spanId\"") <= 16);
	assert_true(count_of(collector.last[1], "\"spanId\"") <= 16);
}

static void test_busy_is_asked_again_when_it_says(void **state)
{
	static const char *const answers[] = { "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n", OK, NULL };
	double busy = number(EXPORTS("busy"));

	collector_start(answers);
	put(2);
	wait_requests(1, 2000);
	wait_requests(2, 5000);
	assert_true(collector.at[1] - collector.at[0] >= 1950000); /* not before, though the own pause would be 1 s */
	assert_string_equal(strstr(collector.last[0], "\r\n\r\n"), strstr(collector.last[1], "\r\n\r\n")); /* the same spans */
	assert_true(number(EXPORTS("busy")) == busy + 1);
}

static void test_refused_is_dropped(void **state)
{
	static const char *const answers[] = { "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", OK, NULL };
	double refused = number(DROPPED("refused"));

	collector_start(answers);
	put(5);
	assert_true(wait_number(DROPPED("refused"), refused + 5) == refused + 5);
	put(1);
	wait_requests(2, 2000);
	assert_int_equal(count_of(collector.last[1], "\"spanId\""), 1);
}

static void test_partly_taken_is_counted(void **state)
{
	static const char *const answers[] = { "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"2\"}}", NULL };
	double rejected = number(DROPPED("rejected"));

	assert_int_equal(strlen(strstr(answers[0], "\r\n\r\n") + 4), 40);
	collector_start(answers);
	put(4);
	assert_true(wait_number(DROPPED("rejected"), rejected + 2) == rejected + 2);
}

/* Many more spans than there is room for, while nothing goes out: nobody waits, and all but the room is dropped and counted. */
static void flood(const char *const *answers)
{
	double full = number(DROPPED("queue_full"));
	int64_t began;

	collector_start(answers);
	put(4);
	poll(NULL, 0, 200); /* the first batch is under way */
	began = clock_mono_us();
	put(20000);
	assert_true(clock_mono_us() - began < 1000000);
	assert_true(wait_number(DROPPED("queue_full"), full + 20000 - 64) >= full + 20000 - 64 - 16);
	assert_true(trace_ring_waiting() <= 64);
	began = clock_mono_us();
	trace_stop();
	assert_true(clock_mono_us() - began < 3500000);
}

static void test_away(void **state)
{
	flood(NULL);
}

static void test_silent(void **state)
{
	static const char *const answers[] = { "", NULL };

	flood(answers);
}

static void test_the_end_sends_what_is_there(void **state)
{
	static const char *const answers[] = { OK, NULL };

	setenv("OTEL_BSP_SCHEDULE_DELAY", "60000", 1);
	collector_start(answers);
	put(10);
	trace_stop();
	assert_true(atomic_load(&collector.requests) >= 1);
	assert_int_equal(trace_ring_waiting(), 0);
}

static void test_off(void **state)
{
	setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "", 1);
	trace_start("test");
	assert_false(trace_on);
	trace_stop();
}

#define TEST(name) cmocka_unit_test_teardown(test_##name, collector_end)

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_off), TEST(a_batch_arrives), TEST(batches_are_bounded), TEST(busy_is_asked_again_when_it_says), TEST(refused_is_dropped),
		TEST(partly_taken_is_counted), TEST(away), TEST(silent), TEST(the_end_sends_what_is_there) };

	log_init("test", "text", "error");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
