/* Bodies: counted, dechunked, and collected, or handed to the app as they come. */
#include "base/clock.h"
#include "http/conn.h"

static int64_t deadline_of(const struct http_conn *c, uint64_t bytes)
{
	return c->body_since_us + c->server->wait.body_us + (int64_t)(bytes * HTTP_SECOND / HTTP_BODY_BYTES_PER_S);
}

/* -- with the app */

bool http_body_flows(const struct http_conn *c)
{
	return c->state == CONN_APP && c->body_open && c->body_flows;
}

void http_body_fail(struct http_conn *c, enum status why, const char *text)
{
	struct http_body_sink sink = c->sink;

	c->body_open = c->body_flows = false;
	c->closing = c->refused = true;
	if (sink.end)
		sink.end(sink.arg, why, text);
}

void http_body_lost(struct http_conn *c)
{
	if (c->body_open)
		http_body_fail(c, STATUS_UNAVAILABLE, "The client is gone");
}

void http_body_give_up(struct http_conn *c)
{
	if (!c->body_open)
		return;
	c->body_open = c->body_flows = false;
	c->closing = c->refused = true;
}

static void body_whole(struct http_conn *c)
{
	struct http_body_sink sink = c->sink;

	if (!c->body_open) {
		http_conn_dispatch(c);
		return;
	}
	c->body_open = c->body_flows = false;
	c->deadline_us = 0;
	sink.end(sink.arg, STATUS_OK, NULL);
}

static void body_refuse(struct http_conn *c, enum status why, const char *text)
{
	if (c->body_open)
		http_body_fail(c, why, text);
	else
		http_conn_refuse(c, why, text);
}

bool http_body_start(struct http_exchange *x, const struct http_body_sink *sink)
{
	struct http_conn *c = x->conn;
	struct iovec go = { (void *)"HTTP/1.1 100 Continue\r\n\r\n", 25 };

	if (c->state != CONN_APP || !c->body_open)
		return false;
	c->sink = *sink;
	c->body_flows = true;
	if (c->x->head.expect_continue && c->in.n == 0)
		http_conn_write(c, &go, 1);
	http_server_run_later(c);
	return true;
}

void http_body_stop(struct http_exchange *x)
{
	x->conn->body_flows = false;
}

void http_body_go_on(struct http_exchange *x)
{
	struct http_conn *c = x->conn;

	if (c->state != CONN_APP || !c->body_open || c->body_flows)
		return;
	c->body_flows = true;
	http_server_run_later(c);
}

/* -- bytes */

/* False: nothing more of it is to be taken now. */
static bool body_put(struct http_conn *c, struct str data)
{
	struct http_server *s = c->server;

	if (data.n > c->body_max - c->body_got) {
		body_refuse(c, STATUS_PAYLOAD_TOO_LARGE, status_text(STATUS_PAYLOAD_TOO_LARGE));
		return false;
	}
	if (c->body_open) {
		c->body_got += data.n;
		if (data.n)
			c->sink.data(c->sink.arg, data);
		return c->state == CONN_APP && c->body_open;
	}
	if (data.n > HTTP_BODY_MEMORY - s->body_bytes) {
		http_conn_refuse(c, STATUS_UNAVAILABLE, status_text(STATUS_UNAVAILABLE));
		return false;
	}
	buf_str(&c->x->body, data);
	s->body_bytes += data.n;
	c->body_got += data.n;
	return true;
}

static void body_chunked(struct http_conn *c, struct str *in)
{
	struct str data;
	const char *text;
	uint64_t before = c->body_got;

	for (;;) {
		if (c->body_open && !c->body_flows) {
			c->deadline_us = deadline_of(c, c->body_got);
			return;
		}
		switch (http_chunked_next(&c->x->chunked, in, &data, &text)) {
		case HTTP_CHUNKED_DATA:
			if (!body_put(c, data))
				return;
			break;
		case HTTP_CHUNKED_MORE:
			if (c->body_got != before)
				c->deadline_us = deadline_of(c, c->body_got);
			return;
		case HTTP_CHUNKED_DONE:
			body_whole(c);
			return;
		case HTTP_CHUNKED_BAD:
			body_refuse(c, STATUS_BAD_REQUEST, text);
			return;
		}
	}
}

void http_body_feed(struct http_conn *c, struct str *in)
{
	uint64_t left;
	struct str data;

	if (c->x->head.chunked) {
		body_chunked(c, in);
		return;
	}
	left = c->x->head.length - c->body_got;
	data = (struct str){ in->p, in->n < left ? in->n : (size_t)left };
	*in = (struct str){ in->p + data.n, in->n - data.n };
	if (body_put(c, data) && c->body_got == c->x->head.length)
		body_whole(c);
}

/* The app gets the head; what comes meanwhile waits in the input buffer, as a pipelined request would. */
static void stream_begin(struct http_conn *c)
{
	c->body_open = true;
	c->body_flows = false;
	c->sink = (struct http_body_sink){ 0 };
	http_conn_deadline(c, c->body_since_us, deadline_of(c, c->x->head.length));
	http_conn_dispatch(c);
}

void http_body_begin(struct http_conn *c, struct str *in)
{
	const struct http_app *app = &c->server->app;
	struct http_head *h = &c->x->head;
	struct iovec go = { (void *)"HTTP/1.1 100 Continue\r\n\r\n", 25 };
	int64_t now = clock_mono_us();

	c->body_max = app->body_limit ? app->body_limit(app->arg, &c->x->x) : 0;
	if (c->body_max > HTTP_BODY_MEMORY)
		c->body_max = HTTP_BODY_MEMORY;
	if (h->length > c->body_max) {
		http_conn_refuse(c, STATUS_PAYLOAD_TOO_LARGE, status_text(STATUS_PAYLOAD_TOO_LARGE));
		return;
	}
	c->body_got = 0;
	c->body_since_us = now;
	if (h->chunked)
		memset(&c->x->chunked, 0, offsetof(struct http_chunked, trailer));
	if (app->streams && app->streams(app->arg, &c->x->x)) {
		stream_begin(c);
		return;
	}
	c->state = CONN_BODY;
	if (h->expect_continue && in->n == 0 && !http_conn_write(c, &go, 1))
		return;
	if (h->chunked || in->n < h->length)
		http_conn_deadline(c, now, deadline_of(c, h->length));
	if (in->n > 0)
		http_body_feed(c, in);
}
