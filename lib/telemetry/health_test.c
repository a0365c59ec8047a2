/* `<program> health` against a real admin port: exit status and what it says on stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http/testing.h"
#include "telemetry/admin.h"
#include "telemetry/health.h"

#define PORT 15280

static struct test_server t;
static struct admin *admin;
static bool is_ready;
static char said[1024], here[32], url[64];

static bool ready(void *arg, struct buf *detail)
{
	buf_z(detail, "\"db\":\"down\"");
	if (!is_ready)
		buf_z(detail, ",\"reason\":\"no \\\"database\\\" connection\"");
	return is_ready;
}

static int setup(void **state)
{
	struct admin_config c = { .name = "svc-x", .version = "1", .ready = ready };
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
	snprintf(here, sizeof(here), "0.0.0.0:%d", t.port);
	snprintf(url, sizeof(url), "http://localhost:%d", t.port);
	return pthread_create(&t.thread, NULL, test_loop, t.base);
}

static int teardown(void **state)
{
	event_base_loopbreak(t.base);
	pthread_join(t.thread, NULL);
	admin_stop(admin);
	event_base_free(t.base);
	return 0;
}

static int health(const char *listen, const char *a, const char *b)
{
	char *argv[] = { "svc-x", "health", (char *)a, (char *)b, NULL };
	int p[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDERR_FILENO);
		_exit(health_main("svc-x", listen, a ? b ? 4 : 3 : 2, argv));
	}
	close(p[1]);
	for (r = 1; r > 0; n += (size_t)r)
		r = read(p[0], said + n, sizeof(said) - 1 - n);
	said[n] = 0;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_ready_is_0_and_quick(void **state)
{
	int64_t began = clock_mono_us();

	is_ready = true;
	assert_int_equal(health(here, NULL, NULL), 0);
	assert_true(clock_mono_us() - began < 50000);
	assert_string_equal(said, "");
	assert_int_equal(health(NULL, url, NULL), 0);
	assert_int_equal(health("127.0.0.1:1", url, NULL), 0);
}

static void test_not_ready_is_1_with_the_reason(void **state)
{
	char expected[128];

	is_ready = false;
	snprintf(expected, sizeof(expected), "not ready: 127.0.0.1:%d/readyz: 503: no \"database\" connection\n", t.port);
	assert_int_equal(health(here, NULL, NULL), 1);
	assert_string_equal(said, expected);
	assert_int_equal(health(here, "--live", NULL), 0);
	assert_int_equal(health(NULL, "--live", url), 0);
}

static void test_a_path_may_be_given(void **state)
{
	char longer[80];

	is_ready = false;
	snprintf(longer, sizeof(longer), "%s/version", url);
	assert_int_equal(health(here, longer, NULL), 0);
	snprintf(longer, sizeof(longer), "%s/nothing", url);
	assert_int_equal(health(here, longer, NULL), 1);
	assert_non_null(strstr(said, "/nothing: 404: "));
}

static void test_nobody_there_is_1(void **state)
{
	assert_int_equal(health("127.0.0.1:1", NULL, NULL), 1);
	assert_string_equal(said, "not ready: 127.0.0.1:1/readyz: Connection refused\n");
	assert_int_equal(health(NULL, "http://nowhere.invalid:80", NULL), 1);
}

/* Takes connections (the backlog does) and says nothing. */
static void test_silence_is_1_in_time(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int64_t began = clock_mono_us();
	char silent[64];

	assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
	assert_int_equal(listen(fd, 5), 0);
	getsockname(fd, (struct sockaddr *)&at, &n);
	snprintf(silent, sizeof(silent), "127.0.0.1:%d", ntohs(at.sin_port));
	assert_int_equal(health(silent, NULL, NULL), 1);
	assert_non_null(strstr(said, "no answer within 2000 ms"));
	assert_true(clock_mono_us() - began < 3000000);
	close(fd);
}

static void test_wrong_arguments_are_2(void **state)
{
	assert_int_equal(health(NULL, NULL, NULL), 2);
	assert_non_null(strstr(said, "ADMIN_LISTEN is not given"));
	assert_int_equal(health(here, "--nonsense", NULL), 2);
	assert_int_equal(health(here, url, url), 2);
	assert_int_equal(health(here, "localhost:80", NULL), 2);
	assert_int_equal(health(here, "http://:80", NULL), 2);
	assert_int_equal(health(here, "http://host:", NULL), 2);
	assert_int_equal(health(here, "http://host:123456789", NULL), 2);
	assert_int_equal(health(here, "http://[::1", NULL), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready_is_0_and_quick),
		cmocka_unit_test(test_not_ready_is_1_with_the_reason),
		cmocka_unit_test(test_a_path_may_be_given),
		cmocka_unit_test(test_nobody_there_is_1),
		cmocka_unit_test(test_silence_is_1_in_time),
		cmocka_unit_test(test_wrong_arguments_are_2),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
