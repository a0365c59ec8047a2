/* Both drivers through the same cases; S3 against a server that checks signatures, and in front of it one that fails. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/codec.h"
#include "blob/blob.h"

#define TENANT "01920000-0000-7000-8000-0000000000aa"

static char dir[] = "/tmp/crm-blob-XXXXXX";
static char access_key[64], secret[128], bucket[64], secret_file[64], wrong_file[64];
static pid_t child;
static int port;

struct store {
	const char *name;
	struct blob_store *s;
};

static struct store stores[2];

/* -- servers */

static void secret_write(char path[64], const char *name, const char *text)
{
	FILE *f;

	snprintf(path, 64, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	fclose(f);
}

static struct blob_store *s3_open(int at, const char *key, const char *file, const char *more)
{
	struct blob_options o = { .access_key = key, .secret_key_file = file };
	struct blob_store *s;
	const char *why = "";
	char url[200];

	snprintf(url, sizeof(url), "s3://%s?endpoint=http://127.0.0.1:%d%s", bucket, at, more);
	o.url = url;
	s = blob_open(&o, &why);
	if (!s)
		fail_msg("%s", why);
	return s;
}

static int start_s3(void)
{
	int fd[2];
	char line[300] = "";
	size_t n = 0;
	ssize_t got;

	if (pipe(fd) != 0)
		return -1;
	child = fork();
	if (child == 0) {
		dup2(fd[1], 1);
		execl("/usr/bin/env", "env", "python3", "tests/s3-server", (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	while (n < sizeof(line) - 1 && !strchr(line, '\n')) {
		got = read(fd[0], line + n, sizeof(line) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(fd[0]);
	return sscanf(line, "%d %63s %127s %63s", &port, access_key, secret, bucket) == 4 ? 0 : -1;
}

static int start(void **state)
{
	struct blob_options o = { 0 };
	const char *why = "";
	char url[64];

	signal(SIGPIPE, SIG_IGN);
	setenv("no_proxy", "127.0.0.1", 1);
	if (!mkdtemp(dir))
		return -1;
	if (start_s3() != 0) {
		fprintf(stderr, "the S3 server does not start: deploy/local/install-deps test\n");
		return -1;
	}
	secret_write(secret_file, "secret", secret);
	secret_write(wrong_file, "wrong", "not-the-secret");
	snprintf(url, sizeof(url), "file:%s/blobs", dir);
	o.url = url;
	stores[0] = (struct store){ "file", blob_open(&o, &why) };
	stores[1] = (struct store){ "s3", s3_open(port, access_key, secret_file, "") };
	return stores[0].s ? 0 : -1;
}

static int stop(void **state)
{
	struct buf cmd = { 0 };
	int rc;

	blob_close(stores[0].s);
	blob_close(stores[1].s);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	buf_printf(&cmd, "rm -rf %s", dir);
	rc = system(buf_cstr(&cmd));
	buf_fini(&cmd);
	return rc;
}

/* In front of the real server: answers 503 so many times, or nothing at all, then passes bytes through. */
struct front {
	pthread_t thread;
	int fd, port;
	int refuse;   /* connections that get 503 */
	bool silent;
	int seen;
};

static void pass(int a, int b)
{
	struct timeval wait = { 5, 0 };
	char buf[65536];
	fd_set set;

	for (;;) {
		int from;
		ssize_t n;

		FD_ZERO(&set);
		FD_SET(a, &set);
		FD_SET(b, &set);
		wait = (struct timeval){ 5, 0 };
		if (select((a > b ? a : b) + 1, &set, NULL, NULL, &wait) <= 0)
			return;
		from = FD_ISSET(a, &set) ? a : b;
		n = read(from, buf, sizeof(buf));
		if (n <= 0 || write(from == a ? b : a, buf, (size_t)n) != n)
			return;
	}
}

static void *front_run(void *arg)
{
	static const char refusal[] = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	struct front *f = arg;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char head[65536];
	int c;

	while ((c = accept(f->fd, NULL, NULL)) >= 0) {
		int s = -1;

		f->seen++;
		if (f->silent) {
			while (read(c, head, sizeof(head)) > 0)
				;
		} else if (f->refuse > 0) {
			f->refuse--;
			if (read(c, head, sizeof(head)) > 0 && write(c, refusal, sizeof(refusal) - 1) < 0)
				perror("front");
			shutdown(c, SHUT_WR);
			while (read(c, head, sizeof(head)) > 0)
				;
		} else {
			s = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(s, (struct sockaddr *)&to, sizeof(to)) == 0)
				pass(c, s);
			close(s);
		}
		close(c);
	}
	return NULL;
}

static void front_start(struct front *f)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);

	f->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f->fd, 8), 0);
	getsockname(f->fd, (struct sockaddr *)&at, &n);
	f->port = ntohs(at.sin_port);
	assert_int_equal(pthread_create(&f->thread, NULL, front_run, f), 0);
}

static void front_stop(struct front *f)
{
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->fd);
}

/* -- helpers */

static const char *new_key(void)
{
	static char key[BLOB_KEY_MAX];
	char id[UUID_TEXT + 1];

	uuid7(id);
	assert_true(blob_key(key, STR(TENANT), STR("avatar"), str_of(id)));
	return key;
}

static char pattern(size_t i)
{
	return (char)(i * 31 + i / 4093);
}

static void fill(struct buf *b, size_t from, size_t n)
{
	buf_clear(b);
	for (size_t i = from; i < from + n; i++)
		buf_c(b, pattern(i));
}

/* In pieces that fit no boundary. */
static bool put(struct blob_store *s, const char *key, size_t size, char why[BLOB_WHY])
{
	struct blob_put *p = blob_put_begin(s, key, why);
	struct buf b = { 0 };
	bool ok = p != NULL;

	for (size_t at = 0, n; ok && at < size; at += n) {
		n = size - at < 300007 ? size - at : 300007;
		fill(&b, at, n);
		ok = blob_put_write(p, buf_view(&b), why);
	}
	buf_fini(&b);
	if (p && !ok)
		blob_put_abort(p);
	return ok && blob_put_end(p, why);
}

static void check_whole(struct blob_store *s, const char *key, size_t size)
{
	struct buf got = { 0 };
	char why[BLOB_WHY] = "";
	uint64_t at = 0;

	for (;;) {
		buf_clear(&got);
		assert_int_equal(blob_get(s, key, at, 1 << 20, &got, why), BLOB_OK);
		for (size_t i = 0; i < got.n; i++) {
			if (got.p[i] != pattern(at + i))
				fail_msg("byte %zu differs", (size_t)at + i);
		}
		at += got.n;
		if (got.n < 1 << 20)
			break;
	}
	assert_int_equal(at, size);
	buf_fini(&got);
}

/* -- cases of both */

static void what_is_put_is_read(void **state)
{
	static const size_t sizes[] = { 0, 1, 65536, (5 << 20) - 1, 5 << 20, (5 << 20) + 1, 25 << 20 };

	for (size_t d = 0; d < 2; d++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
			const char *key = new_key();
			char why[BLOB_WHY] = "";
			uint64_t size = 7;

			if (!put(stores[d].s, key, sizes[i], why))
				fail_msg("%s, %zu bytes: %s", stores[d].name, sizes[i], why);
			assert_int_equal(blob_head(stores[d].s, key, &size, why), BLOB_OK);
			assert_int_equal(size, sizes[i]);
			check_whole(stores[d].s, key, sizes[i]);
			assert_int_equal(blob_delete(stores[d].s, key, why), BLOB_OK);
			assert_int_equal(blob_head(stores[d].s, key, &size, why), BLOB_ABSENT);
			assert_int_equal(blob_delete(stores[d].s, key, why), BLOB_OK);
		}
	}
}

static void ranges_are_exact(void **state)
{
	static const struct {
		uint64_t from;
		size_t n, got;
	} ranges[] = { { 0, 1, 1 }, { 0, 1000, 1000 }, { 500, 100, 100 }, { 999, 1, 1 }, { 999, 50, 1 }, { 1000, 5, 0 }, { 5000, 5, 0 }, { 3, 0, 0 } };

	for (size_t d = 0; d < 2; d++) {
		const char *key = new_key();
		char why[BLOB_WHY] = "";

		assert_true(put(stores[d].s, key, 1000, why));
		for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
			struct buf got = { 0 };

			if (blob_get(stores[d].s, key, ranges[i].from, ranges[i].n, &got, why) != BLOB_OK)
				fail_msg("%s, range %zu: %s", stores[d].name, i, why);
			assert_int_equal(got.n, ranges[i].got);
			for (size_t k = 0; k < got.n; k++)
				assert_int_equal(got.p[k], pattern(ranges[i].from + k));
			buf_fini(&got);
		}
	}
}

static void what_is_not_there_is_absent(void **state)
{
	for (size_t d = 0; d < 2; d++) {
		const char *key = new_key();
		char why[BLOB_WHY] = "";
		struct buf got = { 0 };
		uint64_t size;

		assert_int_equal(blob_get(stores[d].s, key, 0, 10, &got, why), BLOB_ABSENT);
		assert_int_equal(blob_head(stores[d].s, key, &size, why), BLOB_ABSENT);
		assert_int_equal(got.n, 0);
		buf_fini(&got);
	}
}

/* Nobody sees half a blob, and an aborted one leaves nothing. */
static void before_its_end_a_blob_is_absent(void **state)
{
	for (size_t d = 0; d < 2; d++) {
		const char *key = new_key();
		char why[BLOB_WHY] = "";
		struct blob_put *p = blob_put_begin(stores[d].s, key, why);
		struct buf b = { 0 };
		uint64_t size;

		assert_non_null(p);
		fill(&b, 0, 6 << 20);
		assert_true(blob_put_write(p, buf_view(&b), why));
		assert_int_equal(blob_head(stores[d].s, key, &size, why), BLOB_ABSENT);
		blob_put_abort(p);
		assert_int_equal(blob_head(stores[d].s, key, &size, why), BLOB_ABSENT);
		buf_fini(&b);
	}
	{
		struct buf cmd = { 0 };

		buf_printf(&cmd, "test -z \"$(find %s/blobs -name '*.part')\"", dir);
		assert_int_equal(system(buf_cstr(&cmd)), 0);
		buf_fini(&cmd);
	}
}

static void keys_are_never_paths(void **state)
{
	static const char *const bad[] = { "", "/", "../../etc/passwd", TENANT "/avatar/../x", TENANT "/avatar/", TENANT "/Avatar/" TENANT,
		TENANT "//" TENANT, TENANT "/a/b/" TENANT, "/" TENANT "/avatar/" TENANT };
	char key[BLOB_KEY_MAX];

	assert_false(blob_key(key, STR(".."), STR("avatar"), STR(TENANT)));
	assert_false(blob_key(key, STR(TENANT), STR("a/b"), STR(TENANT)));
	assert_false(blob_key(key, STR(TENANT), STR("avatar"), STR("../x")));
	assert_true(blob_key(key, STR("01920000-0000-7000-8000-0000000000AA"), STR("avatar"), STR(TENANT)));
	assert_string_equal(key, TENANT "/avatar/" TENANT);
	for (size_t d = 0; d < 2; d++) {
		for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
			char why[BLOB_WHY] = "";
			struct buf got = { 0 };
			uint64_t size;

			assert_null(blob_put_begin(stores[d].s, bad[i], why));
			assert_int_equal(blob_get(stores[d].s, bad[i], 0, 1, &got, why), BLOB_FAILED);
			assert_int_equal(blob_head(stores[d].s, bad[i], &size, why), BLOB_FAILED);
			assert_int_equal(blob_delete(stores[d].s, bad[i], why), BLOB_FAILED);
			assert_string_equal(why, "not a key");
		}
	}
}

static void *put_many(void *arg)
{
	struct blob_store *s = arg;
	char why[BLOB_WHY] = "", key[BLOB_KEY_MAX], id[UUID_TEXT + 1];

	for (int i = 0; i < 5; i++) {
		uuid7(id);
		if (!blob_key(key, STR(TENANT), STR("avatar"), str_of(id)) || !put(s, key, 70000, why))
			return (void *)1;
		check_whole(s, key, 70000);
	}
	return NULL;
}

static void many_threads_share_a_store(void **state)
{
	for (size_t d = 0; d < 2; d++) {
		pthread_t t[4];
		void *bad;

		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&t[i], NULL, put_many, stores[d].s), 0);
		for (int i = 0; i < 4; i++) {
			pthread_join(t[i], &bad);
			assert_null(bad);
		}
	}
}

static void mistakes_of_urls_are_named(void **state)
{
	static const char *const bad[] = { "", "ftp://x", "file:", "file:/nowhere/at/all", "s3://", "s3://b", "s3://b?endpoint=ftp://x", "s3://B/c?endpoint=http://x",
		"s3://b?endpoint=http://x&timeout_ms=soon" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct blob_options o = { .url = bad[i] };
		const char *why = NULL;

		assert_null(blob_open(&o, &why));
		assert_non_null(why);
	}
	{
		struct blob_options o = { .url = "s3://b?endpoint=http://x", .access_key = "k", .secret_key_file = "/nowhere" };
		const char *why = NULL;

		assert_null(blob_open(&o, &why));
		assert_non_null(strstr(why, "secret key"));
	}
}

/* -- cases of S3 alone */

static void a_wrong_signature_is_refused(void **state)
{
	struct blob_store *bad = s3_open(port, access_key, wrong_file, "");
	const char *key = new_key();
	char why[BLOB_WHY] = "";
	struct buf got = { 0 };
	uint64_t size;

	assert_true(put(stores[1].s, key, 100, why));
	assert_int_equal(blob_get(bad, key, 0, 10, &got, why), BLOB_FAILED);
	assert_non_null(strstr(why, "SignatureDoesNotMatch"));
	assert_null(strstr(why, secret));
	assert_null(strstr(why, access_key));
	assert_false(put(bad, key, 50, why));
	assert_false(put(bad, key, 6 << 20, why));
	assert_int_equal(blob_head(stores[1].s, key, &size, why), BLOB_OK);
	assert_int_equal(size, 100);
	buf_fini(&got);
	blob_close(bad);
}

static void a_server_that_is_busy_is_asked_again(void **state)
{
	struct front f = { .refuse = 3 };
	struct blob_store *s;
	const char *key = new_key();
	char why[BLOB_WHY] = "";

	front_start(&f);
	s = s3_open(f.port, access_key, secret_file, "");
	if (!put(s, key, 70000, why))
		fail_msg("%s", why);
	assert_int_equal(f.refuse, 0);
	check_whole(stores[1].s, key, 70000);
	f.refuse = 2;
	blob_close(s);
	s = s3_open(f.port, access_key, secret_file, "");
	if (!put(s, key, 6 << 20, why)) /* the parts as well */
		fail_msg("%s", why);
	check_whole(stores[1].s, key, 6 << 20);
	blob_close(s);
	s = s3_open(f.port, access_key, secret_file, "");
	f.refuse = 1000;
	f.seen = 0;
	assert_false(put(s, key, 10, why));
	assert_int_equal(f.seen, 8); /* four tries, and as many to take away what may have arrived */
	assert_non_null(strstr(why, "503"));
	blob_close(s);
	front_stop(&f);
}

static void a_server_that_says_nothing_is_given_up(void **state)
{
	struct front f = { .silent = true };
	struct blob_store *s;
	char why[BLOB_WHY] = "";
	struct buf got = { 0 };
	int64_t from = clock_mono_us(), took;

	front_start(&f);
	s = s3_open(f.port, access_key, secret_file, "&timeout_ms=200");
	assert_int_equal(blob_get(s, new_key(), 0, 10, &got, why), BLOB_FAILED);
	took = clock_mono_us() - from;
	assert_in_range(took, 4 * 200000, 6000000);
	assert_non_null(strstr(why, "4 tries"));
	buf_fini(&got);
	blob_close(s);
	front_stop(&f);
	s = s3_open(1, access_key, secret_file, ""); /* nobody listens */
	assert_int_equal(blob_delete(s, new_key(), why), BLOB_FAILED);
	blob_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_read),
		cmocka_unit_test(ranges_are_exact),
		cmocka_unit_test(what_is_not_there_is_absent),
		cmocka_unit_test(before_its_end_a_blob_is_absent),
		cmocka_unit_test(keys_are_never_paths),
		cmocka_unit_test(many_threads_share_a_store),
		cmocka_unit_test(mistakes_of_urls_are_named),
		cmocka_unit_test(a_wrong_signature_is_refused),
		cmocka_unit_test(a_server_that_is_busy_is_asked_again),
		cmocka_unit_test(a_server_that_says_nothing_is_given_up),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
