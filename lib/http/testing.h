/*
 * For tests only: a server on a thread of its own and a blocking client. Everything static, so a test includes it.
 * The app answers /x-like paths by what they say; see test_handle.
 */
#ifndef CRM_HTTP_TESTING_H
#define CRM_HTTP_TESTING_H

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/http.h"

struct test_server {
	struct event_base *base;
	struct http_server *http;
	int port;
	pthread_t thread;
	int handled, smuggled, rejected; /* atomic */
	struct http_exchange *held;      /* answered by test_release */
	char last[512];                  /* what the app saw last: method path query host body */
};

static inline void test_late(evutil_socket_t fd, short what, void *arg)
{
	struct http_exchange *x = arg;

	http_reply(x, 200, STR(""), STR("late"));
}

static inline void test_stream(struct http_exchange *x)
{
	static char piece[10000];

	memset(piece, 'p', sizeof(piece));
	http_reply_begin(x, 200, STR("Content-Type: text/plain\r\n"));
	for (int i = 0; i < 20; i++)
		http_reply_chunk(x, (struct str){ piece, sizeof(piece) });
	http_reply_end(x);
}

static inline void test_handle(void *arg, struct http_exchange *x)
{
	struct test_server *t = arg;
	struct http_request *r = &x->req;

	__atomic_add_fetch(&t->handled, 1, __ATOMIC_SEQ_CST);
	if (str_eq(r->path, STR("/smuggled")))
		__atomic_add_fetch(&t->smuggled, 1, __ATOMIC_SEQ_CST);
	snprintf(t->last, sizeof(t->last), "%.*s %.*s %.*s %.*s %.*s", STR_FMT(r->method), STR_FMT(r->path), STR_FMT(r->query),
	    STR_FMT(r->host), (int)(r->body.n < 200 ? r->body.n : 200), r->body.n ? r->body.p : "");
	if (str_eq(r->path, STR("/late"))) {
		struct timeval soon = { .tv_usec = 20000 };

		event_base_once(t->base, -1, EV_TIMEOUT, test_late, x, &soon);
	} else if (str_eq(r->path, STR("/stream"))) {
		test_stream(x);
	} else if (str_eq(r->path, STR("/abort"))) {
		http_reply_begin(x, 200, STR(""));
		http_reply_chunk(x, STR("half"));
		http_reply_abort(x);
	} else if (str_eq(r->path, STR("/big"))) {
		char *big = calloc(1, 4000000);

		http_reply(x, 200, STR(""), (struct str){ big, 4000000 });
		free(big);
	} else if (str_eq(r->path, STR("/empty"))) {
		http_reply(x, 204, STR(""), STR(""));
	} else if (str_eq(r->path, STR("/ip"))) {
		http_reply(x, 200, STR(""), r->client_ip);
	} else {
		http_reply(x, 200, STR("X-Test: yes\r\n"), r->body.n ? r->body : STR("hello"));
	}
}

static inline void test_reject(void *arg, struct http_exchange *x, enum status why, const char *text)
{
	struct test_server *t = arg;

	__atomic_add_fetch(&t->rejected, 1, __ATOMIC_SEQ_CST);
	http_reply(x, status_http(why), STR("X-Reject: yes\r\n"), str_of(text));
}

static inline size_t test_body_limit(void *arg, struct http_exchange *x)
{
	return 100000;
}

static inline void *test_loop(void *arg)
{
	event_base_loop(arg, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

static inline void test_server_start(struct test_server *t, void *tls)
{
	struct http_app app = { .arg = t, .handle = test_handle, .reject = test_reject, .body_limit = test_body_limit };
	const char *why;

	memset(t, 0, sizeof(*t));
	evthread_use_pthreads();
	t->base = event_base_new();
	t->http = http_server_new(t->base, &app, tls);
	if (!http_server_listen(t->http, "127.0.0.1:0", 7, &why)) {
		fprintf(stderr, "listen: %s\n", why);
		abort();
	}
	t->port = http_server_port(t->http, 7);
}

static inline void test_server_run(struct test_server *t)
{
	pthread_create(&t->thread, NULL, test_loop, t->base);
}

static inline void test_server_stop(struct test_server *t)
{
	event_base_loopbreak(t->base);
	pthread_join(t->thread, NULL);
	http_server_free(t->http);
	event_base_free(t->base);
}

static inline int test_connect(const struct test_server *t)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)t->port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		abort();
	return fd;
}

static inline void test_send(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		at += sent;
		n -= (size_t)sent;
	}
}

/* Reads until EOF, wait_ms of silence or until want is found (NULL: not looked for). True when EOF was seen. */
static inline bool test_read(int fd, struct buf *out, int wait_ms, const char *want)
{
	char piece[65536];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, wait_ms) == 1) {
		ssize_t n = recv(fd, piece, sizeof(piece), 0);

		if (n <= 0)
			return true;
		buf_put(out, piece, (size_t)n);
		if (want && strstr(buf_cstr(out), want))
			return false;
	}
	return false;
}

static inline int test_status(struct buf *reply)
{
	return reply->n > 12 ? atoi(buf_cstr(reply) + 9) : 0;
}

#endif
