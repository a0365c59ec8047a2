/* One connection: reads, delimits requests, hands them to the app, writes, keeps deadlines. */
#include "http/conn.h"

#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define KEEP_BUFFER 16384

/* ---- deadlines: one timer, moved lazily ---- */

static void timer_arm(struct http_conn *c, int64_t now)
{
	int64_t left = c->deadline_us - now;
	struct timeval tv;

	if (left < 1000)
		left = 1000;
	tv = (struct timeval){ .tv_sec = left / HTTP_SECOND, .tv_usec = left % HTTP_SECOND };
	c->timer_us = now + left;
	event_add(&c->timer_ev, &tv);
}

/* A later deadline costs nothing here: the timer finds out when it fires. */
void http_conn_deadline(struct http_conn *c, int64_t now, int64_t at)
{
	c->deadline_us = at;
	if (c->timer_us == 0 || at < c->timer_us)
		timer_arm(c, now);
}

static void deadline_clear(struct http_conn *c)
{
	c->deadline_us = 0;
}

/* ---- state ---- */

void http_conn_read_start(struct http_conn *c)
{
	if (c->reading || c->eof)
		return;
	c->reading = true;
	event_add(&c->read_ev, NULL);
}

void http_conn_read_stop(struct http_conn *c)
{
	if (!c->reading)
		return;
	c->reading = false;
	event_del(&c->read_ev);
}

static void drop_exchange(struct http_conn *c)
{
	if (!c->x)
		return;
	http_server_give(c->server, c->x);
	c->x = NULL;
}

void http_conn_close(struct http_conn *c)
{
	bool with_app = c->state == CONN_APP;

	if (c->state == CONN_CLOSED)
		return;
	event_del(&c->read_ev);
	event_del(&c->write_ev);
	event_del(&c->timer_ev);
	c->io->fini(c);
	close(c->fd);
	c->fd = -1;
	c->state = CONN_CLOSED;
	http_server_forget(c);
	if (with_app) {
		http_body_lost(c);
		return;
	}
	drop_exchange(c);
	http_server_bury(c);
}

static void conn_linger(struct http_conn *c)
{
	int64_t now = clock_mono_us();

	c->io->shut(c);
	c->state = CONN_LINGER;
	c->in.n = 0;
	http_conn_deadline(c, now, now + c->server->wait.linger_us);
	if (c->eof)
		http_conn_close(c);
	else
		http_conn_read_start(c);
}

static void buffer_shrink(struct buf *b)
{
	if (b->n == 0 && b->cap > KEEP_BUFFER)
		buf_fini(b);
}

/* The reply is out. Closing waits for the client's end, or a reset could overtake the reply. */
static void conn_next(struct http_conn *c)
{
	int64_t now;

	buffer_shrink(&c->out);
	if (c->closing || c->server->draining) {
		conn_linger(c);
		return;
	}
	now = clock_mono_us();
	c->state = CONN_IDLE;
	http_conn_deadline(c, now, now + c->server->wait.idle_us);
	if (c->processing)
		return;
	if (c->in.n > 0 || c->eof || c->io->pending(c))
		http_server_run_later(c);
	http_conn_read_start(c);
}

void http_conn_answered(struct http_conn *c)
{
	drop_exchange(c);
	if (c->state == CONN_CLOSED) {
		http_server_bury(c);
		return;
	}
	c->streaming = false;
	c->served = true;
	c->state = CONN_WRITE;
	if (http_conn_unsent(c) == 0)
		conn_next(c);
}

/* ---- writing ---- */

static void out_keep(struct http_conn *c, const struct iovec *v, int n, size_t skip)
{
	for (int i = 0; i < n; i++) {
		size_t drop = skip < v[i].iov_len ? skip : v[i].iov_len;

		skip -= drop;
		buf_put(&c->out, (const char *)v[i].iov_base + drop, v[i].iov_len - drop);
	}
}

bool http_conn_write(struct http_conn *c, const struct iovec *v, int n)
{
	ssize_t sent = 0;
	size_t total = 0;
	int64_t now;

	if (c->state == CONN_CLOSED)
		return false;
	for (int i = 0; i < n; i++)
		total += v[i].iov_len;
	if (http_conn_unsent(c) > 0) {
		out_keep(c, v, n, 0);
		return true;
	}
	sent = c->io->writev(c, v, n);
	if (sent == IO_ERROR) {
		http_conn_close(c);
		return false;
	}
	if (sent == IO_AGAIN)
		sent = 0;
	HTTP_STAT(c->server, bytes_out, sent);
	if ((size_t)sent == total)
		return true;
	out_keep(c, v, n, (size_t)sent);
	event_add(&c->write_ev, NULL);
	if (c->state != CONN_BODY && !c->body_open) {
		now = clock_mono_us();
		http_conn_deadline(c, now, now + c->server->wait.write_us);
	}
	return true;
}

static void conn_flush(struct http_conn *c)
{
	struct iovec v = { c->out.p + c->out_at, http_conn_unsent(c) };
	ssize_t sent = c->io->writev(c, &v, 1);
	int64_t now = clock_mono_us();
	bool replying = (c->state == CONN_APP && !c->body_open) || c->state == CONN_WRITE; /* else it was 100 Continue: the body's deadline stays */

	if (sent == IO_ERROR) {
		http_conn_close(c);
		return;
	}
	if (sent > 0) {
		HTTP_STAT(c->server, bytes_out, sent);
		c->out_at += (size_t)sent;
		if (replying)
			http_conn_deadline(c, now, now + c->server->wait.write_us);
	}
	if (http_conn_unsent(c) > 0)
		return;
	c->out.n = c->out_at = 0;
	event_del(&c->write_ev);
	if (replying)
		deadline_clear(c);
	if (c->state == CONN_WRITE)
		conn_next(c);
}

/* ---- requests ---- */

static void request_fill(struct http_conn *c)
{
	struct xchg *x = c->x;
	struct http_request *r = &x->x.req;

	*r = (struct http_request){
		.method = x->head.method, .target = x->head.target, .path = x->head.path, .query = x->head.query,
		.host = x->head.host, .authority = x->head.authority, .client_ip = str_of(c->ip_text),
		.headers = x->head.headers, .n_headers = x->head.n_headers,
		.tls = c->ssl != NULL, .listener = c->listener,
	};
	x->x.conn = c;
	x->x.start_us = c->first_byte_us;
	x->x.app_data = NULL;
	x->x.sent = 0;
}

static void head_clear(struct http_head *h)
{
	h->method = h->target = h->path = h->query = h->host = h->authority = (struct str){ 0 };
	h->n_headers = 0;
	h->minor = 1;
	h->keep_alive = false;
}

static void plain_refusal(struct http_exchange *x, enum status why, const char *text)
{
	http_reply(x, status_http(why), STR("Content-Type: text/plain\r\n"), str_of(text));
}

void http_conn_refuse(struct http_conn *c, enum status why, const char *text)
{
	const struct http_app *app = &c->server->app;

	if (!c->x) {
		c->x = http_server_take(c->server);
		head_clear(&c->x->head);
		request_fill(c);
	}
	HTTP_STAT(c->server, rejected, 1);
	c->closing = c->refused = true;
	c->body_open = false;
	c->state = CONN_APP;
	deadline_clear(c);
	if (app->reject)
		app->reject(app->arg, &c->x->x, why, text);
	else
		plain_refusal(&c->x->x, why, text);
}

void http_conn_dispatch(struct http_conn *c)
{
	const struct http_app *app = &c->server->app;

	HTTP_STAT(c->server, requests, 1);
	c->x->x.req.body = buf_view(&c->x->body);
	c->state = CONN_APP;
	if (!c->body_open)
		deadline_clear(c);
	if (++c->pipelined >= HTTP_PIPELINE_MAX)
		c->closing = true;
	app->handle(app->arg, &c->x->x);
}

/* The head is copied once into the arena: then neither buffer has to stay where it is while the app works. */
static void head_done(struct http_conn *c, struct str *in, size_t n)
{
	struct xchg *x = http_server_take(c->server);
	struct str head = { arena_dup(&x->x.arena, in->p, n), n };
	const char *text;
	enum status s;

	*in = (struct str){ in->p + n, in->n - n };
	c->x = x;
	s = http_head_parse(head, &x->head, &text);
	request_fill(c);
	if (s != STATUS_OK) {
		http_conn_refuse(c, s, text);
		return;
	}
	c->closing = !x->head.keep_alive;
	if (x->head.chunked || x->head.length > 0)
		http_body_begin(c, in);
	else
		http_conn_dispatch(c);
}

static bool head_feed(struct http_conn *c, struct str *in)
{
	enum status why;
	const char *text;
	size_t n;

	switch (http_head_scan(&c->scan, *in, &n, &why, &text)) {
	case HTTP_SCAN_MORE:
		return false;
	case HTTP_SCAN_BAD:
		c->x = http_server_take(c->server);
		head_clear(&c->x->head);
		n = in->n < HTTP_LINE_MAX + 4 ? in->n : HTTP_LINE_MAX + 4;
		http_head_request_line((struct str){ arena_dup(&c->x->x.arena, in->p, n), n }, &c->x->head);
		request_fill(c);
		http_conn_refuse(c, why, text);
		return true;
	case HTTP_SCAN_DONE:
		head_done(c, in, n);
		return true;
	}
	return false;
}

/* A request that we have not read yet has begun for who sent it. */
static bool has_arrived(struct http_conn *c)
{
	int n = 0;

	return c->io->pending(c) || (ioctl(c->fd, FIONREAD, &n) == 0 && n > 0);
}

void http_conn_drain(struct http_conn *c)
{
	int64_t now = clock_mono_us();

	if (c->state != CONN_IDLE || c->in.n > 0)
		return;
	if (c->served && !has_arrived(c))
		http_conn_close(c);
	else
		http_conn_deadline(c, now, now + c->server->wait.linger_us);
}

bool http_conn_has_more(const struct http_conn *c)
{
	return c->processing ? c->processing->n > 0 : c->in.n > 0;
}

/* Takes requests off *in until it is used up, a request waits for the app, or the connection ends. */
static void process(struct http_conn *c, struct str *in)
{
	bool more = true;

	c->processing = in;
	while (more && in->n > 0) {
		switch (c->state) {
		case CONN_IDLE:
			c->first_byte_us = clock_mono_us();
			c->scan = (struct http_scan){ 0 };
			c->state = CONN_HEAD;
			break;
		case CONN_HEAD:
			more = head_feed(c, in);
			if (!more)
				http_conn_deadline(c, clock_mono_us(), c->first_byte_us + c->server->wait.head_us);
			break;
		case CONN_BODY:
			http_body_feed(c, in);
			break;
		case CONN_APP:
			more = http_body_flows(c);
			if (more)
				http_body_feed(c, in);
			break;
		default:
			more = false;
		}
	}
	c->processing = NULL;
	if (in->n == 0 && !c->refused)
		c->pipelined = 0;
	if (c->refused || c->state == CONN_CLOSED || c->state == CONN_LINGER)
		in->n = 0;
}

/* Nothing more can come of this input. */
static void check_eof(struct http_conn *c)
{
	if (c->eof && (c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY || c->state == CONN_LINGER || (http_body_flows(c) && c->in.n == 0)))
		http_conn_close(c);
}

static void feed_kept(struct http_conn *c)
{
	struct str in = buf_view(&c->in);
	size_t n = in.n;

	process(c, &in);
	if (c->state != CONN_LINGER)
		buf_consume(&c->in, n - in.n);
	buffer_shrink(&c->in);
}

static void feed(struct http_conn *c, struct str data)
{
	switch (c->state) {
	case CONN_CLOSED:
		return;
	case CONN_LINGER:
		c->lingered += data.n;
		if (c->lingered > HTTP_LINGER_BYTES)
			http_conn_close(c);
		return;
	case CONN_APP:
	case CONN_WRITE:
		if (c->refused)
			return;
		if (http_body_flows(c))
			break;
		buf_str(&c->in, data);
		if (c->in.n >= HTTP_PIPELINE_BYTES)
			http_conn_read_stop(c);
		return;
	default:
		break;
	}
	if (c->in.n > 0) {
		buf_str(&c->in, data);
		feed_kept(c);
	} else {
		process(c, &data);
		buf_str(&c->in, data);
	}
	if (c->state == CONN_APP && c->in.n >= HTTP_PIPELINE_BYTES)
		http_conn_read_stop(c);
}

static void handshake(struct http_conn *c)
{
	int r, e;

	ERR_clear_error();
	r = SSL_do_handshake(c->ssl);
	if (r == 1) {
		int64_t now = clock_mono_us();

		event_del(&c->write_ev);
		c->state = CONN_IDLE;
		http_conn_deadline(c, now, now + c->server->wait.idle_us);
		return;
	}
	e = SSL_get_error(c->ssl, r);
	if (e == SSL_ERROR_WANT_WRITE) {
		event_add(&c->write_ev, NULL);
		return;
	}
	if (e != SSL_ERROR_WANT_READ)
		http_conn_close(c);
}

static void read_ready(struct http_conn *c)
{
	struct http_server *s = c->server;

	for (int i = 0; i < HTTP_READS_PER_TURN; i++) {
		ssize_t n = c->io->read(c, s->read_buf, HTTP_READ_SIZE);

		if (n == IO_AGAIN)
			return;
		if (n == IO_ERROR) {
			http_conn_close(c);
			return;
		}
		if (n == IO_EOF) {
			c->eof = true;
			http_conn_read_stop(c);
			check_eof(c);
			return;
		}
		HTTP_STAT(s, bytes_in, n);
		feed(c, (struct str){ s->read_buf, (size_t)n });
		if (c->state == CONN_CLOSED || !c->reading || (!c->ssl && n < HTTP_READ_SIZE))
			return;
	}
	if (c->io->pending(c))
		http_server_run_later(c);
}

void http_conn_run(struct http_conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	if (c->in.n > 0)
		feed_kept(c);
	if (c->state == CONN_CLOSED)
		return;
	if (http_body_flows(c) && c->in.n < HTTP_PIPELINE_BYTES)
		http_conn_read_start(c);
	check_eof(c);
	if (c->state != CONN_CLOSED && c->reading && c->io->pending(c))
		read_ready(c);
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	if (c->state == CONN_HANDSHAKE)
		handshake(c);
	if (c->state != CONN_HANDSHAKE && c->state != CONN_CLOSED)
		read_ready(c);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	if (c->state == CONN_HANDSHAKE)
		handshake(c);
	else
		conn_flush(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;
	int64_t now = clock_mono_us();

	c->timer_us = 0;
	if (c->deadline_us == 0)
		return;
	if (c->deadline_us > now) {
		timer_arm(c, now);
		return;
	}
	if (c->state != CONN_LINGER)
		HTTP_STAT(c->server, timeouts, 1);
	/* a lone empty line is what some clients send behind a body: no request has begun that an answer could belong to */
	if (c->state == CONN_APP && c->body_open)
		http_body_fail(c, STATUS_REQUEST_TIMEOUT, status_text(STATUS_REQUEST_TIMEOUT));
	else if ((c->state == CONN_HEAD && c->in.n > 2) || c->state == CONN_BODY)
		http_conn_refuse(c, STATUS_REQUEST_TIMEOUT, status_text(STATUS_REQUEST_TIMEOUT));
	else
		http_conn_close(c);
}

void http_conn_new(struct http_server *s, int fd, int listener, const char *ip_text, struct ip_count *ip)
{
	struct http_conn *c = xcalloc(1, sizeof(*c));
	int64_t now = clock_mono_us();

	c->server = s;
	c->fd = fd;
	c->listener = listener;
	c->ip = ip;
	c->io = s->tls ? &http_io_tls : &http_io_plain;
	c->state = s->tls ? CONN_HANDSHAKE : CONN_IDLE;
	memcpy(c->ip_text, ip_text, sizeof(c->ip_text));
	if (s->tls) {
		c->ssl = SSL_new(s->tls);
		if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
			abort();
		SSL_set_accept_state(c->ssl);
	}
	event_assign(&c->read_ev, s->base, fd, EV_READ | EV_PERSIST, on_read, c);
	event_assign(&c->write_ev, s->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
	event_assign(&c->timer_ev, s->base, -1, 0, on_timer, c);
	c->next = s->conns;
	if (s->conns)
		s->conns->prev = c;
	s->conns = c;
	http_conn_deadline(c, now, now + (s->tls ? s->wait.handshake_us : s->wait.idle_us));
	http_conn_read_start(c);
}
