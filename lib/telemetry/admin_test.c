/* The admin port over a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/testing.h"
#include "telemetry/admin.h"

#define PORT 15180

static bool is_ready;
static struct buf reply;

static bool ready(void *arg, struct buf *detail)
{
	buf_printf(detail, "\"db\":\"%s\"", is_ready ? "up" : "down");
	return is_ready;
}

static void more_metrics(void *arg, struct buf *out)
{
	buf_z(out, "t_hook 1\n");
}

static void get_rows(void *arg, struct str query, struct buf *out)
{
	buf_printf(out, "rows %.*s", STR_FMT(query));
}

static struct test_server t;
static struct admin *admin;

static int setup(void **state)
{
	static const struct admin_route routes[] = { { "/rows", "text/plain", get_rows, NULL } };
	struct admin_config c = { .name = "svc-x", .version = "1.2\"3", .ready = ready, .metrics = more_metrics, .routes = routes, .n_routes = 1 };
	char at[32];

	evthread_use_pthreads();
	t.base = event_base_new();
	for (t.port = PORT; !admin && t.port < PORT + 10; t.port++) {
		snprintf(at, sizeof(at), "127.0.0.1:%d", t.port);
		admin = admin_start(t.base, at, &c);
	}
	t.port--;
	if (!admin)
		return -1;
	pthread_create(&t.thread, NULL, test_loop, t.base);
	return 0;
}

static int teardown(void **state)
{
	event_base_loopbreak(t.base);
	pthread_join(t.thread, NULL);
	admin_stop(admin);
	event_base_free(t.base);
	buf_fini(&reply);
	return 0;
}

static int ask(const char *method, const char *target)
{
	struct buf request = { 0 };
	int fd = test_connect(&t);

	buf_printf(&request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, target);
	test_send(fd, request.p, request.n);
	buf_clear(&reply);
	assert_true(test_read(fd, &reply, 1000, NULL));
	buf_fini(&request);
	close(fd);
	return test_status(&reply);
}

static bool replied(const char *what)
{
	return strstr(buf_cstr(&reply), what) != NULL;
}

static void test_livez_is_ok_whatever_readyz_says(void **state)
{
	is_ready = false;
	assert_int_equal(ask("GET", "/livez"), 200);
	assert_int_equal(ask("GET", "/readyz"), 503);
	assert_true(replied("{\"status\":\"not ready\",\"checks\":{\"db\":\"down\"}}"));
	is_ready = true;
	assert_int_equal(ask("GET", "/readyz"), 200);
	assert_true(replied("{\"status\":\"ok\",\"checks\":{\"db\":\"up\"}}"));
}

static void test_metrics_come_with_build_info_and_hook(void **state)
{
	assert_int_equal(ask("GET", "/metrics"), 200);
	assert_true(replied("Content-Type: text/plain; version=0.0.4"));
	assert_true(replied("crm_build_info{program=\"svc-x\",version=\"1.2\\\"3\",revision=\""));
	assert_true(replied("\ncrm_ready 1\n"));
	is_ready = false;
	assert_int_equal(ask("GET", "/metrics"), 200);
	assert_true(replied("\ncrm_ready 0\n"));
	is_ready = true;
	assert_true(replied("\nt_hook 1\n"));
	assert_true(replied("\nprocess_open_fds "));
}

static void test_version_and_extra_rows_are_served(void **state)
{
	assert_int_equal(ask("GET", "/version"), 200);
	assert_true(replied("{\"name\":\"svc-x\",\"version\":\"1.2\\\"3\"}"));
	assert_int_equal(ask("GET", "/rows?a=1"), 200);
	assert_true(replied("\r\n\r\nrows a=1"));
}

static void test_other_paths_and_methods_are_refused(void **state)
{
	assert_int_equal(ask("GET", "/nothing"), 404);
	assert_int_equal(ask("POST", "/livez"), 405);
	assert_int_equal(ask("GET", "livez"), 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_livez_is_ok_whatever_readyz_says),
		cmocka_unit_test(test_metrics_come_with_build_info_and_hook),
		cmocka_unit_test(test_version_and_extra_rows_are_served),
		cmocka_unit_test(test_other_paths_and_methods_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
