/* The connection layer over real sockets: keep-alive, pipelining, deadlines, limits, streaming, draining, TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/resource.h>

#include "http/conn.h"
#include "http/testing.h"
#include "http/tls.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET_CLOSE(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

static struct test_server server;
static struct buf reply;

static int setup(void **state)
{
	test_server_start(&server, NULL);
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

static void say(int fd, const char *z)
{
	test_send(fd, z, strlen(z));
}

/* Sends, reads to EOF or silence into reply. */
static bool ask(int fd, const char *z, int wait_ms)
{
	buf_clear(&reply);
	say(fd, z);
	return test_read(fd, &reply, wait_ms, NULL);
}

static size_t count(const char *what)
{
	const char *at = buf_cstr(&reply);
	size_t n = 0;

	for (; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

static bool replied(const char *what)
{
	return strstr(buf_cstr(&reply), what) != NULL;
}

static void test_reply_has_date_length_and_headers(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET_CLOSE("/x?a=1"), 1000));
	assert_int_equal(test_status(&reply), 200);
	assert_true(replied("\r\nContent-Length: 5\r\n"));
	assert_true(replied("\r\nConnection: close\r\n"));
	assert_true(replied("\r\nX-Test: yes\r\n"));
	assert_true(replied("\r\nDate: ") && replied(" GMT\r\n"));
	assert_true(replied("\r\n\r\nhello"));
	assert_string_equal(server.last, "GET /x a=1 a ");
	close(fd);
}

static void test_connection_is_kept_and_reused(void **state)
{
	int fd = test_connect(&server);

	for (int i = 0; i < 5; i++) {
		buf_clear(&reply);
		say(fd, GET("/x"));
		assert_false(test_read(fd, &reply, 1000, "hello"));
		assert_false(replied("Connection:"));
	}
	close(fd);
}

static void test_http_1_0_closes_unless_asked_to_keep(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, "GET /x HTTP/1.0\r\n\r\n", 1000));
	assert_true(replied("Connection: close"));
	close(fd);
	fd = test_connect(&server);
	assert_false(ask(fd, "GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 100));
	assert_true(replied("Connection: keep-alive"));
	close(fd);
}

static void test_head_has_length_and_no_body(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, "HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1000));
	assert_true(replied("Content-Length: 5\r\n"));
	assert_false(replied("hello"));
	close(fd);
}

static void test_204_has_neither_length_nor_body(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET_CLOSE("/empty"), 1000));
	assert_false(replied("Content-Length"));
	close(fd);
}

static void test_late_replies_keep_the_order_of_pipelined_requests(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET("/late") GET("/x") GET("/late") GET_CLOSE("/x"), 2000));
	assert_int_equal(count("HTTP/1.1 200"), 4);
	assert_int_equal(count("late"), 2);
	assert_true(strstr(buf_cstr(&reply), "late") < strstr(buf_cstr(&reply), "hello"));
	close(fd);
}

static void test_pipeline_is_closed_after_its_limit(void **state)
{
	struct buf many = { 0 };
	int fd = test_connect(&server);

	for (int i = 0; i < HTTP_PIPELINE_MAX + 20; i++)
		buf_z(&many, GET("/x"));
	assert_true(ask(fd, buf_cstr(&many), 1000));
	assert_int_equal(count("HTTP/1.1 200"), HTTP_PIPELINE_MAX);
	assert_int_equal(count("Connection: close"), 1);
	buf_fini(&many);
	close(fd);
}

static void test_expect_gets_continue_then_reply(void **state)
{
	int fd = test_connect(&server);

	buf_clear(&reply);
	say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_false(test_read(fd, &reply, 1000, "100 Continue\r\n\r\n"));
	assert_true(ask(fd, "ok", 1000));
	assert_true(replied("\r\n\r\nok"));
	close(fd);
}

static void test_body_over_the_limit_is_413_before_and_while_it_comes(void **state)
{
	struct buf big = { 0 };
	int fd = test_connect(&server);

	assert_true(ask(fd, "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100001\r\n\r\n", 1000));
	assert_int_equal(test_status(&reply), 413);
	close(fd);
	fd = test_connect(&server);
	buf_z(&big, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n");
	for (int i = 0; i < 100001; i++)
		buf_c(&big, 'x');
	assert_true(ask(fd, buf_cstr(&big), 1000));
	assert_int_equal(test_status(&reply), 413);
	close(fd);
	buf_fini(&big);
}

static void test_body_at_the_limit_comes_back_whole(void **state)
{
	struct buf big = { 0 };
	int fd = test_connect(&server);

	buf_z(&big, "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n");
	for (int i = 0; i < 100000; i++)
		buf_c(&big, (char)('a' + i % 26));
	assert_true(ask(fd, buf_cstr(&big), 1000));
	assert_true(reply.n > 100000);
	assert_memory_equal(reply.p + reply.n - 100000, big.p + big.n - 100000, 100000);
	close(fd);
	buf_fini(&big);
}

static int refusal_of(const char *start, size_t n, const char *end)
{
	struct buf b = { 0 };
	int fd = test_connect(&server);

	buf_z(&b, start);
	for (size_t i = 0; i < n; i++)
		buf_c(&b, 'x');
	buf_z(&b, end);
	assert_true(ask(fd, buf_cstr(&b), 1000));
	buf_fini(&b);
	close(fd);
	return test_status(&reply);
}

static void test_long_line_head_and_many_headers_are_refused(void **state)
{
	const char *end = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
	struct buf many = { 0 };
	int fd;

	assert_int_equal(refusal_of("GET /", HTTP_LINE_MAX - 14, end), 200);
	assert_int_equal(refusal_of("GET /", HTTP_LINE_MAX - 13, end), 414);
	assert_int_equal(refusal_of("GET /", 100000, ""), 414);
	assert_int_equal(refusal_of("GET / HTTP/1.1\r\nHost: a\r\nX: ", HTTP_HEAD_MAX, "\r\n\r\n"), 431);
	buf_z(&many, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < HTTP_HEADERS_MAX; i++)
		buf_z(&many, "A: b\r\n");
	buf_z(&many, "\r\n");
	fd = test_connect(&server);
	assert_true(ask(fd, buf_cstr(&many), 1000));
	assert_int_equal(test_status(&reply), 431);
	buf_fini(&many);
	close(fd);
}

static void test_slow_head_is_408_however_it_drips(void **state)
{
	int fd = test_connect(&server);

	buf_clear(&reply);
	say(fd, "GET / HTTP/1.1\r\n");
	for (int i = 0; i < 20 && !test_read(fd, &reply, 50, NULL); i++)
		say(fd, "X: y\r\n");
	assert_int_equal(test_status(&reply), 408);
	close(fd);
}

static void test_slow_body_is_408(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 1500));
	assert_int_equal(test_status(&reply), 408);
	close(fd);
}

static void test_idle_connection_is_closed_without_a_word(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, "", 1500));
	assert_int_equal(reply.n, 0);
	close(fd);
}

static void test_empty_line_behind_a_request_is_no_request(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET("/x") "\r\n", 1500));
	assert_int_equal(count("HTTP/1.1"), 1);
	close(fd);
}

static void test_request_that_ends_early_is_dropped(void **state)
{
	int before = __atomic_load_n(&server.handled, __ATOMIC_SEQ_CST), fd = test_connect(&server);

	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
	shutdown(fd, SHUT_WR);
	buf_clear(&reply);
	assert_true(test_read(fd, &reply, 200, NULL));
	assert_int_equal(reply.n, 0);
	assert_int_equal(before, __atomic_load_n(&server.handled, __ATOMIC_SEQ_CST));
	close(fd);
}

static void test_half_closed_client_still_gets_its_replies(void **state)
{
	int fd = test_connect(&server);

	say(fd, GET("/late") GET("/x"));
	shutdown(fd, SHUT_WR);
	buf_clear(&reply);
	assert_true(test_read(fd, &reply, 400, NULL));
	assert_int_equal(count("HTTP/1.1 200"), 2);
	close(fd);
}

static void test_client_that_leaves_is_survived(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct linger hard = { 1, 0 };
		int fd = test_connect(&server);

		say(fd, i % 2 ? GET("/late") GET("/late") : GET("/big"));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		usleep(1000);
		close(fd);
	}
	usleep(100000);
	test_connection_is_kept_and_reused(state);
}

static void test_big_reply_reaches_a_slow_reader_whole(void **state)
{
	int fd = test_connect(&server);

	say(fd, GET_CLOSE("/big"));
	usleep(100000);
	buf_clear(&reply);
	assert_true(test_read(fd, &reply, 1000, NULL));
	assert_true(reply.n > 4000000);
	close(fd);
}

static void test_reader_that_takes_nothing_is_cut_off(void **state)
{
	int fd = test_connect(&server);

	say(fd, GET("/big"));
	usleep(700000);
	buf_clear(&reply);
	assert_true(test_read(fd, &reply, 1000, NULL));
	assert_true(reply.n < 4000000);
	close(fd);
}

static void test_streamed_reply_is_chunked_or_closed(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET_CLOSE("/stream"), 1000));
	assert_true(replied("Transfer-Encoding: chunked"));
	assert_int_equal(count("\r\n2710\r\n") + count("2710\r\npppp"), 21 + 19);
	assert_memory_equal(reply.p + reply.n - 7, "\r\n0\r\n\r\n", 7);
	close(fd);
	fd = test_connect(&server);
	assert_true(ask(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 1000));
	assert_false(replied("chunked"));
	assert_true(replied("Connection: close"));
	assert_true(reply.n > 200000 && reply.n < 200400);
	close(fd);
}

static void test_aborted_reply_has_no_end_and_no_successor(void **state)
{
	int fd = test_connect(&server);

	assert_true(ask(fd, GET("/abort") GET_CLOSE("/x"), 1000));
	assert_int_equal(count("HTTP/1.1 200"), 1);
	assert_int_equal(count("4\r\nhalf\r\n"), 1);
	assert_int_equal(count("\r\n0\r\n"), 0);
	close(fd);
	fd = test_connect(&server);
	assert_true(ask(fd, GET_CLOSE("/x"), 1000));
	assert_true(replied("hello"));
	close(fd);
}

static void test_connections_per_address_are_limited(void **state)
{
	struct test_server few;
	int fd[4];

	test_server_start(&few, NULL);
	http_server_limit(few.http, 100, 3);
	test_server_run(&few);
	for (int i = 0; i < 4; i++) {
		fd[i] = test_connect(&few);
		assert_int_equal(ask(fd[i], GET("/x"), 200), i == 3);
	}
	assert_int_equal(http_server_stats(few.http).too_many, 1);
	close(fd[0]);
	usleep(50000);
	close(fd[3]);
	fd[3] = test_connect(&few);
	assert_false(ask(fd[3], GET("/x"), 200));
	for (int i = 1; i < 4; i++)
		close(fd[i]);
	test_server_stop(&few);
}

static void on_idle(void *arg)
{
	__atomic_store_n((int *)arg, 1, __ATOMIC_SEQ_CST);
}

struct drain {
	struct http_server *http;
	int idle;
};

static void start_drain(evutil_socket_t fd, short what, void *arg)
{
	struct drain *d = arg;

	http_server_drain(d->http, on_idle, &d->idle);
}

static void test_drain_answers_what_is_in_flight_and_ends(void **state)
{
	struct test_server t;
	struct timeval now = { .tv_usec = 5000 };
	struct drain d = { 0 };
	int busy, calm;

	test_server_start(&t, NULL);
	test_server_run(&t);
	d.http = t.http;
	calm = test_connect(&t);
	assert_false(ask(calm, GET("/x"), 100));
	busy = test_connect(&t);
	say(busy, GET("/late") GET("/x"));
	usleep(5000);
	event_base_once(t.base, -1, EV_TIMEOUT, start_drain, &d, &now);
	buf_clear(&reply);
	assert_true(test_read(busy, &reply, 1000, NULL));
	assert_int_equal(count("HTTP/1.1 200"), 1);
	assert_true(replied("Connection: close"));
	assert_true(test_read(calm, &reply, 100, NULL));
	close(calm);
	close(busy);
	usleep(100000);
	assert_int_equal(__atomic_load_n(&d.idle, __ATOMIC_SEQ_CST), 1);
	test_server_stop(&t);
}

static void start_leave(evutil_socket_t fd, short what, void *arg)
{
	struct drain *d = arg;

	http_server_leave(d->http);
}

static void test_leaving_serves_on_and_sends_clients_elsewhere(void **state)
{
	struct test_server t;
	struct timeval now = { 0, 0 };
	struct drain d = { 0 };
	int calm, begun, fresh;

	test_server_start(&t, NULL);
	test_server_run(&t);
	d.http = t.http;
	calm = test_connect(&t);
	begun = test_connect(&t);
	assert_false(ask(calm, GET("/x"), 100));
	assert_false(replied("Connection: close"));
	assert_false(ask(begun, GET("/x"), 100));
	event_base_once(t.base, -1, EV_TIMEOUT, start_leave, &d, &now);
	usleep(20000);
	/* who connects is served, and told; an idle connection stays for its next request */
	fresh = test_connect(&t);
	assert_true(ask(fresh, GET("/x"), 1000));
	assert_true(replied("HTTP/1.1 200") && replied("Connection: close"));
	close(fresh);
	/* what was pipelined is answered, the last of it with the word, whether the app answers at once or later */
	fresh = test_connect(&t);
	assert_true(ask(fresh, GET("/x") GET("/x") GET("/x"), 1000));
	assert_int_equal(count("HTTP/1.1 200"), 3);
	assert_int_equal(count("Connection: close"), 1);
	close(fresh);
	fresh = test_connect(&t);
	assert_true(ask(fresh, GET("/late") GET("/x"), 1000));
	assert_int_equal(count("HTTP/1.1 200"), 2);
	assert_int_equal(count("Connection: close"), 1);
	close(fresh);
	assert_true(ask(calm, GET("/x"), 1000));
	assert_true(replied("HTTP/1.1 200") && replied("Connection: close"));
	/* then the drain: a request that has begun is answered */
	say(begun, "GET /x HT");
	usleep(20000);
	event_base_once(t.base, -1, EV_TIMEOUT, start_drain, &d, &now);
	usleep(20000);
	say(begun, "TP/1.1\r\nHost: x\r\n\r\n");
	buf_clear(&reply);
	assert_true(test_read(begun, &reply, 1000, NULL));
	assert_true(replied("HTTP/1.1 200") && replied("Connection: close"));
	close(begun);
	close(calm);
	usleep(100000);
	assert_int_equal(__atomic_load_n(&d.idle, __ATOMIC_SEQ_CST), 1);
	test_server_stop(&t);
}

/* The loop is busy with something else while the request arrives, and then drains before it reads. */
static void drain_late(evutil_socket_t fd, short what, void *arg)
{
	usleep(50000);
	start_drain(fd, what, arg);
}

static void test_drain_answers_a_request_that_was_sent_but_not_read(void **state)
{
	struct test_server t;
	struct timeval now = { 0, 0 };
	struct drain d = { 0 };
	int fd;

	test_server_start(&t, NULL);
	test_server_run(&t);
	d.http = t.http;
	fd = test_connect(&t);
	assert_false(ask(fd, GET("/x"), 100));
	event_base_once(t.base, -1, EV_TIMEOUT, drain_late, &d, &now);
	usleep(20000);
	assert_true(ask(fd, GET("/x"), 1000));
	assert_true(replied("HTTP/1.1 200") && replied("Connection: close"));
	close(fd);
	usleep(100000);
	assert_int_equal(__atomic_load_n(&d.idle, __ATOMIC_SEQ_CST), 1);
	test_server_stop(&t);
}

static void test_running_out_of_descriptors_is_survived(void **state)
{
	struct rlimit old, low;
	int fd[64], n = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	fd[n++] = test_connect(&server);
	low.rlim_cur = (rlim_t)fd[0] + 4;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < 3; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)server.port) };

		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (s < 0)
			break;
		fd[n++] = s;
		connect(s, (struct sockaddr *)&to, sizeof(to));
	}
	usleep(50000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(http_server_stats(server.http).too_many >= 1);
	while (n > 0)
		close(fd[--n]);
	usleep(150000);
	test_connection_is_kept_and_reused(state);
}

/* ---- TLS ---- */

static void pem_write(char path[], X509 *cert, EVP_PKEY *key)
{
	FILE *f = fdopen(mkstemp(path), "w");

	assert_non_null(f);
	if (cert)
		PEM_write_X509(f, cert);
	else
		PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
}

static SSL_CTX *server_ctx(void)
{
	char cert_file[] = "/tmp/http_test_cert_XXXXXX", key_file[] = "/tmp/http_test_key_XXXXXX";
	SSL_CTX *ctx;
	const char *why;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"a", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	pem_write(cert_file, cert, NULL);
	pem_write(key_file, NULL, key);
	ctx = http_tls_new(cert_file, key_file, &why);
	assert_non_null(ctx);
	assert_null(http_tls_new(key_file, cert_file, &why));
	unlink(cert_file);
	unlink(key_file);
	assert_null(http_tls_new(cert_file, key_file, &why));
	assert_true(strlen(why) > 0);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

static size_t tls_ask(SSL_CTX *client, const struct test_server *t, const char *request)
{
	int fd = test_connect(t);
	SSL *ssl = SSL_new(client);
	char piece[16384];
	size_t n = 0;
	int r;

	SSL_set_fd(ssl, fd);
	assert_int_equal(SSL_connect(ssl), 1);
	SSL_write(ssl, request, (int)strlen(request));
	buf_clear(&reply);
	while ((r = SSL_read(ssl, piece, sizeof(piece))) > 0) {
		buf_put(&reply, piece, (size_t)r);
		n += (size_t)r;
	}
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
	SSL_free(ssl);
	close(fd);
	return n;
}

static bool tls_connects(SSL_CTX *client, const struct test_server *t, int version, const char *alpn)
{
	int fd = test_connect(t), ok;
	SSL *ssl = SSL_new(client);

	SSL_set_fd(ssl, fd);
	SSL_set_max_proto_version(ssl, version);
	SSL_set_security_level(ssl, 0);
	SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
	ok = SSL_connect(ssl) == 1;
	SSL_free(ssl);
	close(fd);
	return ok;
}

static void tls_versions_and_protocols(SSL_CTX *client, const struct test_server *t)
{
	assert_true(tls_connects(client, t, TLS1_3_VERSION, "\x02h2\x08http/1.1"));
	assert_true(tls_connects(client, t, TLS1_2_VERSION, "\x08http/1.1"));
	assert_false(tls_connects(client, t, TLS1_3_VERSION, "\x02h2"));
	assert_false(tls_connects(client, t, TLS1_1_VERSION, "\x08http/1.1"));
}

static void test_tls_client_that_leaves_is_survived(void **state)
{
	SSL_CTX *ctx = server_ctx(), *client = SSL_CTX_new(TLS_client_method());
	struct test_server t;

	test_server_start(&t, ctx);
	test_server_run(&t);
	for (int i = 0; i < 10; i++) {
		struct linger hard = { 1, 0 };
		int fd = test_connect(&t);
		SSL *ssl = SSL_new(client);

		SSL_set_fd(ssl, fd);
		assert_int_equal(SSL_connect(ssl), 1);
		SSL_write(ssl, GET("/big") GET("/late"), (int)strlen(GET("/big") GET("/late")));
		if (i % 2)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		usleep(3000);
		SSL_free(ssl);
		close(fd);
	}
	tls_ask(client, &t, GET_CLOSE("/x"));
	assert_int_equal(test_status(&reply), 200);
	test_server_stop(&t);
	SSL_CTX_free(ctx);
	SSL_CTX_free(client);
}

static void test_tls_serves_small_big_pipelined_and_refuses_plain(void **state)
{
	SSL_CTX *ctx = server_ctx(), *client = SSL_CTX_new(TLS_client_method());
	struct test_server t;
	int fd;

	test_server_start(&t, ctx);
	t.http->wait.handshake_us = 300000;
	test_server_run(&t);
	tls_ask(client, &t, GET("/x") GET("/late") GET_CLOSE("/x"));
	assert_int_equal(count("HTTP/1.1 200"), 3);
	assert_true(tls_ask(client, &t, GET_CLOSE("/big")) > 4000000);
	assert_true(tls_ask(client, &t, GET_CLOSE("/stream")) > 200000);
	tls_ask(client, &t, "GET /x HTTP/1.1\r\n\r\n");
	assert_int_equal(test_status(&reply), 400);
	tls_versions_and_protocols(client, &t);
	fd = test_connect(&t);
	assert_true(ask(fd, GET("/x"), 1000));
	assert_false(replied("HTTP"));
	close(fd);
	fd = test_connect(&t);
	assert_true(ask(fd, "", 1000));
	close(fd);
	test_server_stop(&t);
	SSL_CTX_free(ctx);
	SSL_CTX_free(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reply_has_date_length_and_headers),
		cmocka_unit_test(test_connection_is_kept_and_reused),
		cmocka_unit_test(test_http_1_0_closes_unless_asked_to_keep),
		cmocka_unit_test(test_head_has_length_and_no_body),
		cmocka_unit_test(test_204_has_neither_length_nor_body),
		cmocka_unit_test(test_late_replies_keep_the_order_of_pipelined_requests),
		cmocka_unit_test(test_pipeline_is_closed_after_its_limit),
		cmocka_unit_test(test_expect_gets_continue_then_reply),
		cmocka_unit_test(test_body_over_the_limit_is_413_before_and_while_it_comes),
		cmocka_unit_test(test_body_at_the_limit_comes_back_whole),
		cmocka_unit_test(test_long_line_head_and_many_headers_are_refused),
		cmocka_unit_test(test_slow_head_is_408_however_it_drips),
		cmocka_unit_test(test_slow_body_is_408),
		cmocka_unit_test(test_idle_connection_is_closed_without_a_word),
		cmocka_unit_test(test_empty_line_behind_a_request_is_no_request),
		cmocka_unit_test(test_request_that_ends_early_is_dropped),
		cmocka_unit_test(test_half_closed_client_still_gets_its_replies),
		cmocka_unit_test(test_client_that_leaves_is_survived),
		cmocka_unit_test(test_big_reply_reaches_a_slow_reader_whole),
		cmocka_unit_test(test_reader_that_takes_nothing_is_cut_off),
		cmocka_unit_test(test_streamed_reply_is_chunked_or_closed),
		cmocka_unit_test(test_aborted_reply_has_no_end_and_no_successor),
		cmocka_unit_test(test_connections_per_address_are_limited),
		cmocka_unit_test(test_drain_answers_what_is_in_flight_and_ends),
		cmocka_unit_test(test_leaving_serves_on_and_sends_clients_elsewhere),
		cmocka_unit_test(test_drain_answers_a_request_that_was_sent_but_not_read),
		cmocka_unit_test(test_running_out_of_descriptors_is_survived),
		cmocka_unit_test(test_tls_client_that_leaves_is_survived),
		cmocka_unit_test(test_tls_serves_small_big_pipelined_and_refuses_plain),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
