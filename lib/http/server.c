/* The server: listeners, who may connect, the pool of exchanges, draining. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uthash.h>

#include "base/log.h"
#include "http/conn.h"

struct ip_count {
	uint8_t key[16];
	unsigned n;
	UT_hash_handle hh;
};

static void on_turn(evutil_socket_t fd, short what, void *arg);
static void on_accept_again(evutil_socket_t fd, short what, void *arg);

struct http_server *http_server_new(struct event_base *base, const struct http_app *app, void *tls_ctx)
{
	struct http_server *s = xcalloc(1, sizeof(*s));

	s->base = base;
	s->app = *app;
	s->tls = tls_ctx;
	if (tls_ctx)
		signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write() */
	s->wait = (struct http_deadlines){
		.handshake_us = HTTP_HANDSHAKE_US, .head_us = HTTP_HEAD_US, .body_us = HTTP_BODY_US, .idle_us = HTTP_IDLE_US,
		.write_us = HTTP_WRITE_US, .linger_us = HTTP_LINGER_US,
	};
	s->max_open = HTTP_CONNECTIONS_MAX;
	s->max_per_ip = HTTP_CONNECTIONS_PER_IP;
	s->read_buf = xmalloc(HTTP_READ_SIZE);
	s->run_tail = &s->run;
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	event_assign(&s->turn_ev, base, -1, 0, on_turn, s);
	event_assign(&s->accept_ev, base, -1, 0, on_accept_again, s);
	return s;
}

void http_server_limit(struct http_server *s, unsigned connections, unsigned per_ip)
{
	if (connections)
		s->max_open = connections;
	if (per_ip)
		s->max_per_ip = per_ip;
}

struct http_stats http_server_stats(const struct http_server *s)
{
	struct http_stats out;

#define LOAD(name) out.name = __atomic_load_n(&s->stats.name, __ATOMIC_RELAXED)
	LOAD(accepted);
	LOAD(requests);
	LOAD(rejected);
	LOAD(timeouts);
	LOAD(bytes_in);
	LOAD(bytes_out);
	LOAD(open);
	LOAD(too_many);
#undef LOAD
	return out;
}

/* ---- pool of exchanges ---- */

struct xchg *http_server_take(struct http_server *s)
{
	struct xchg *x = s->pool;

	if (!x) {
		x = xmalloc(sizeof(*x));
		x->x.arena = (struct arena){ 0 };
		x->body = (struct buf){ 0 };
		x->next = NULL;
		return x;
	}
	s->pool = x->next;
	s->n_pool--;
	return x;
}

static void xchg_free(struct xchg *x)
{
	arena_fini(&x->x.arena);
	buf_fini(&x->body);
	free(x);
}

void http_server_give(struct http_server *s, struct xchg *x)
{
	s->body_bytes -= x->body.n;
	buf_clear(&x->body);
	if (x->body.cap > HTTP_BODY_KEEP)
		buf_fini(&x->body);
	if (s->n_pool >= HTTP_POOL_MAX) {
		xchg_free(x);
		return;
	}
	arena_reset(&x->x.arena);
	x->next = s->pool;
	s->pool = x;
	s->n_pool++;
}

/* ---- what waits for the end of the callback that is running ---- */

static void conn_free(struct http_conn *c)
{
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

void http_server_run_later(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->queued)
		return;
	c->queued = true;
	c->run_next = NULL;
	*s->run_tail = c;
	s->run_tail = &c->run_next;
	event_active(&s->turn_ev, EV_TIMEOUT, 0);
}

void http_server_bury(struct http_conn *c)
{
	struct http_server *s = c->server;

	c->dead_next = s->dead;
	s->dead = c;
	event_active(&s->turn_ev, EV_TIMEOUT, 0);
}

static void run_list(struct http_server *s)
{
	struct http_conn *c = s->run, *next;

	s->run = NULL;
	s->run_tail = &s->run;
	for (; c; c = next) {
		next = c->run_next;
		c->queued = false;
		http_conn_run(c);
	}
}

static void dead_list(struct http_server *s)
{
	struct http_conn *c = s->dead, *next;

	s->dead = NULL;
	for (; c; c = next) {
		next = c->dead_next;
		if (c->queued)
			http_server_bury(c);
		else
			conn_free(c);
	}
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;
	void (*idle)(void *arg) = s->idle;

	run_list(s);
	dead_list(s);
	if (s->draining && idle && !s->conns && !s->dead) {
		s->idle = NULL;
		idle(s->idle_arg);
	}
}

/* ---- who may connect ---- */

static void ip_key(const struct sockaddr_storage *from, uint8_t key[16], char text[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const void *)from;
	const struct sockaddr_in6 *v6 = (const void *)from;

	memset(key, 0, 16);
	memset(text, 0, INET6_ADDRSTRLEN);
	if (from->ss_family == AF_INET) {
		key[0] = 4;
		memcpy(key + 1, &v4->sin_addr, 4);
		inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN);
	} else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		key[0] = 4;
		memcpy(key + 1, v6->sin6_addr.s6_addr + 12, 4);
		inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, INET6_ADDRSTRLEN);
	} else {
		key[0] = 6;
		memcpy(key + 1, &v6->sin6_addr, 8);
		inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN);
	}
}

/* Counts one more connection of that address; NULL when it has enough. */
static struct ip_count *ip_enter(struct http_server *s, const uint8_t key[16])
{
	struct ip_count *ip;

	HASH_FIND(hh, s->ips, key, 16, ip);
	if (ip && ip->n >= s->max_per_ip)
		return NULL;
	if (!ip) {
		ip = xcalloc(1, sizeof(*ip));
		memcpy(ip->key, key, 16);
		HASH_ADD(hh, s->ips, key, 16, ip);
	}
	ip->n++;
	return ip;
}

static void ip_leave(struct http_server *s, struct ip_count *ip)
{
	if (--ip->n > 0)
		return;
	HASH_DEL(s->ips, ip);
	free(ip);
}

void http_server_forget(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
	ip_leave(s, c->ip);
	HTTP_STAT(s, open, -1);
	if (s->draining)
		event_active(&s->turn_ev, EV_TIMEOUT, 0);
}

static void admit(struct http_listener *l, int fd, const struct sockaddr_storage *from)
{
	struct http_server *s = l->server;
	char text[INET6_ADDRSTRLEN];
	struct ip_count *ip = NULL;
	uint8_t key[16];
	int one = 1;

	HTTP_STAT(s, accepted, 1);
	ip_key(from, key, text);
	if (s->stats.open < s->max_open)
		ip = ip_enter(s, key);
	if (!ip) {
		HTTP_STAT(s, too_many, 1);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	HTTP_STAT(s, open, 1);
	http_conn_new(s, fd, l->index, text, ip);
}

/* ---- accepting ---- */

static void listeners_pause(struct http_server *s)
{
	struct timeval tv = { .tv_usec = HTTP_ACCEPT_PAUSE_US };

	for (size_t i = 0; i < s->n_listeners; i++)
		event_del(&s->listeners[i].ev);
	event_add(&s->accept_ev, &tv);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;

	if (s->spare_fd < 0)
		s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->draining)
		return;
	for (size_t i = 0; i < s->n_listeners; i++)
		event_add(&s->listeners[i].ev, NULL);
}

/* Out of descriptors: the spare one lets us hang up on the client that waits, then nobody is accepted for a while. */
static void out_of_descriptors(struct http_listener *l)
{
	struct http_server *s = l->server;
	int fd;

	HTTP_STAT(s, too_many, 1);
	if (s->spare_fd >= 0) {
		close(s->spare_fd);
		fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			close(fd);
		s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	log_warn("HTTP-NO-DESCRIPTORS", "out of file descriptors, %lu connections open", (unsigned long)s->stats.open);
	listeners_pause(s);
}

static bool accept_one(struct http_listener *l)
{
	struct sockaddr_storage from;
	socklen_t n = sizeof(from);
	int fd = accept4(l->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		admit(l, fd, &from);
		return true;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		out_of_descriptors(l);
		return false;
	}
	return errno == ECONNABORTED || errno == EINTR;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct http_listener *l = arg;

	for (int i = 0; i < HTTP_ACCEPTS_PER_TURN; i++)
		if (!accept_one(l))
			return;
}

static const char *listen_on(int fd, const struct sockaddr *at, int n)
{
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0)
		return "SO_REUSEPORT is not supported";
	if (at->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, at, (socklen_t)n) != 0)
		return strerror(errno);
	return listen(fd, HTTP_BACKLOG) == 0 ? NULL : strerror(errno);
}

/* libevent's parser knows no port 0, which asks the kernel for a free one. */
static bool parse_address(const char *address, struct sockaddr_storage *at, int *n)
{
	const char *colon = strrchr(address, ':');
	struct sockaddr *sa = (struct sockaddr *)at;
	char any[128];

	if (!colon)
		return false;
	if (strcmp(colon, ":0") != 0)
		return evutil_parse_sockaddr_port(address, sa, n) == 0;
	snprintf(any, sizeof(any), "%.*s:1", (int)(colon - address), address);
	if (evutil_parse_sockaddr_port(any, sa, n) != 0)
		return false;
	if (sa->sa_family == AF_INET6)
		((struct sockaddr_in6 *)sa)->sin6_port = 0;
	else
		((struct sockaddr_in *)sa)->sin_port = 0;
	return true;
}

bool http_server_listen(struct http_server *s, const char *address, int index, const char **why)
{
	struct http_listener *l = &s->listeners[s->n_listeners];
	struct sockaddr_storage at = { 0 };
	int n = sizeof(at), fd;

	*why = "too many listeners";
	if (s->n_listeners == HTTP_LISTENERS_MAX)
		return false;
	*why = "not an address with a port, like 127.0.0.1:5000 or [::1]:5000";
	if (!parse_address(address, &at, &n))
		return false;
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	*why = fd < 0 ? strerror(errno) : listen_on(fd, (struct sockaddr *)&at, n);
	if (*why) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	*l = (struct http_listener){ .server = s, .fd = fd, .index = index };
	event_assign(&l->ev, s->base, fd, EV_READ | EV_PERSIST, on_accept, l);
	event_add(&l->ev, NULL);
	s->n_listeners++;
	return true;
}

int http_server_port(const struct http_server *s, int index)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		struct sockaddr_storage at = { 0 };
		socklen_t n = sizeof(at);

		if (s->listeners[i].index != index || getsockname(s->listeners[i].fd, (struct sockaddr *)&at, &n) != 0)
			continue;
		return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port);
	}
	return 0;
}

static void listeners_close(struct http_server *s)
{
	for (size_t i = 0; i < s->n_listeners; i++) {
		event_del(&s->listeners[i].ev);
		close(s->listeners[i].fd);
	}
	s->n_listeners = 0;
	event_del(&s->accept_ev);
}

/* ---- the end ---- */

void http_server_leave(struct http_server *s)
{
	s->leaving = true;
}

void http_server_drain(struct http_server *s, void (*idle)(void *arg), void *arg)
{
	struct http_conn *c, *next;

	/* who is in the backlog has been promised an answer */
	for (size_t i = 0; i < s->n_listeners; i++)
		on_accept(s->listeners[i].fd, EV_READ, &s->listeners[i]);
	listeners_close(s);
	s->draining = true;
	s->idle = idle;
	s->idle_arg = arg;
	for (c = s->conns; c; c = next) {
		next = c->next;
		http_conn_drain(c);
	}
	event_active(&s->turn_ev, EV_TIMEOUT, 0);
}

void http_server_free(struct http_server *s)
{
	struct http_conn *c;
	struct xchg *x;

	if (!s)
		return;
	s->draining = false;
	listeners_close(s);
	while (s->conns) {
		bool with_app;

		c = s->conns;
		with_app = c->state == CONN_APP;
		c->body_open = false; /* the app is no longer there to hear */
		http_conn_close(c);
		if (with_app)
			http_conn_answered(c);
	}
	run_list(s);
	dead_list(s);
	event_del(&s->turn_ev);
	while (s->pool) {
		x = s->pool;
		s->pool = x->next;
		xchg_free(x);
	}
	if (s->spare_fd >= 0)
		close(s->spare_fd);
	buf_fini(&s->scratch);
	free(s->read_buf);
	free(s);
}
