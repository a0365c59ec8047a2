/* Replies: the head, whole bodies and streamed ones. */
#include <stdio.h>
#include <time.h>

#include "http/conn.h"

#define JOIN_MAX 4096 /* bodies up to this are copied behind the head rather than sent as a second piece */

static struct str reason(int status)
{
	switch (status) {
	case 200: return STR("200 OK\r\n");
	case 201: return STR("201 Created\r\n");
	case 202: return STR("202 Accepted\r\n");
	case 204: return STR("204 No Content\r\n");
	case 206: return STR("206 Partial Content\r\n");
	case 207: return STR("207 Multi-Status\r\n");
	case 301: return STR("301 Moved Permanently\r\n");
	case 302: return STR("302 Found\r\n");
	case 303: return STR("303 See Other\r\n");
	case 304: return STR("304 Not Modified\r\n");
	case 307: return STR("307 Temporary Redirect\r\n");
	case 308: return STR("308 Permanent Redirect\r\n");
	case 400: return STR("400 Bad Request\r\n");
	case 401: return STR("401 Unauthorized\r\n");
	case 402: return STR("402 Payment Required\r\n");
	case 403: return STR("403 Forbidden\r\n");
	case 404: return STR("404 Not Found\r\n");
	case 405: return STR("405 Method Not Allowed\r\n");
	case 406: return STR("406 Not Acceptable\r\n");
	case 408: return STR("408 Request Timeout\r\n");
	case 409: return STR("409 Conflict\r\n");
	case 410: return STR("410 Gone\r\n");
	case 411: return STR("411 Length Required\r\n");
	case 412: return STR("412 Precondition Failed\r\n");
	case 413: return STR("413 Content Too Large\r\n");
	case 414: return STR("414 URI Too Long\r\n");
	case 415: return STR("415 Unsupported Media Type\r\n");
	case 422: return STR("422 Unprocessable Content\r\n");
	case 423: return STR("423 Locked\r\n");
	case 428: return STR("428 Precondition Required\r\n");
	case 429: return STR("429 Too Many Requests\r\n");
	case 431: return STR("431 Request Header Fields Too Large\r\n");
	case 500: return STR("500 Internal Server Error\r\n");
	case 501: return STR("501 Not Implemented\r\n");
	case 502: return STR("502 Bad Gateway\r\n");
	case 503: return STR("503 Service Unavailable\r\n");
	case 504: return STR("504 Gateway Timeout\r\n");
	case 505: return STR("505 HTTP Version Not Supported\r\n");
	default: return (struct str){ 0 };
	}
}

/* IMF-fixdate once a second; strftime would follow the locale. */
static void put_date(struct http_server *s, struct buf *out)
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (now.tv_sec != s->date_at) {
		s->date_at = now.tv_sec;
		gmtime_r(&now.tv_sec, &tm);
		s->date_n = (size_t)snprintf(s->date, sizeof(s->date), "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n",
		    days + tm.tm_wday * 3, tm.tm_mday % 100, months + tm.tm_mon * 3, (tm.tm_year + 1900) % 10000, tm.tm_hour % 100,
		    tm.tm_min % 100, tm.tm_sec % 100);
	}
	buf_put(out, s->date, s->date_n);
}

static bool has_no_body(int status)
{
	return status < 200 || status == 204 || status == 304;
}

static void put_start(struct http_conn *c, struct buf *out, int status, struct str headers)
{
	struct str line = reason(status);

	buf_str(out, STR("HTTP/1.1 "));
	if (line.n > 0)
		buf_str(out, line);
	else
		buf_printf(out, "%03d Status\r\n", status % 1000);
	buf_str(out, headers);
	put_date(c->server, out);
	if (c->server->leaving && !http_conn_has_more(c))
		c->closing = true;
	if (c->closing || c->server->draining)
		buf_str(out, STR("Connection: close\r\n"));
	else if (c->x->head.minor == 0)
		buf_str(out, STR("Connection: keep-alive\r\n"));
}

static void put_length(struct buf *out, size_t n)
{
	buf_str(out, STR("Content-Length: "));
	buf_u64(out, n);
	buf_str(out, STR("\r\n"));
}

static bool is_head_request(const struct http_exchange *x)
{
	return str_eq(x->req.method, STR("HEAD"));
}

void http_reply(struct http_exchange *x, int status, struct str headers, struct str body)
{
	struct http_conn *c = x->conn;
	struct buf *out = &c->server->scratch;
	struct iovec v[2];
	bool send_body = !has_no_body(status) && !is_head_request(x) && body.n > 0;

	if (c->state == CONN_CLOSED) {
		http_conn_answered(c);
		return;
	}
	http_body_give_up(c);
	buf_clear(out);
	put_start(c, out, status, headers);
	if (!has_no_body(status))
		put_length(out, body.n);
	buf_str(out, STR("\r\n"));
	if (send_body && body.n <= JOIN_MAX)
		buf_str(out, body);
	v[0] = (struct iovec){ out->p, out->n };
	v[1] = (struct iovec){ (void *)body.p, body.n };
	http_conn_write(c, v, send_body && body.n > JOIN_MAX ? 2 : 1);
	http_conn_answered(c);
}

void http_reply_begin(struct http_exchange *x, int status, struct str headers)
{
	struct http_conn *c = x->conn;
	struct buf *out = &c->server->scratch;
	struct iovec v;

	if (c->state == CONN_CLOSED)
		return;
	http_body_give_up(c);
	c->streaming = true;
	c->reply_headless = is_head_request(x) || has_no_body(status);
	c->reply_chunked = c->x->head.minor == 1 && !has_no_body(status);
	if (c->x->head.minor == 0 && !c->reply_headless)
		c->closing = true;
	buf_clear(out);
	put_start(c, out, status, headers);
	if (c->reply_chunked)
		buf_str(out, STR("Transfer-Encoding: chunked\r\n"));
	buf_str(out, STR("\r\n"));
	v = (struct iovec){ out->p, out->n };
	http_conn_write(c, &v, 1);
}

size_t http_reply_pending(const struct http_exchange *x)
{
	return x->conn->state == CONN_CLOSED ? 0 : http_conn_unsent(x->conn);
}

bool http_reply_chunk(struct http_exchange *x, struct str data)
{
	struct http_conn *c = x->conn;
	char size[24];
	struct iovec v[3];
	int n;

	if (c->state == CONN_CLOSED || !c->streaming)
		return false;
	if (data.n == 0 || c->reply_headless)
		return true;
	if (http_conn_unsent(c) + data.n > HTTP_WRITE_MAX && http_conn_unsent(c) > 0) {
		http_conn_close(c);
		return false;
	}
	x->sent += data.n;
	v[0] = (struct iovec){ (void *)data.p, data.n };
	if (!c->reply_chunked)
		return http_conn_write(c, v, 1);
	n = snprintf(size, sizeof(size), "%zx\r\n", data.n);
	v[0] = (struct iovec){ size, (size_t)n };
	v[1] = (struct iovec){ (void *)data.p, data.n };
	v[2] = (struct iovec){ (void *)"\r\n", 2 };
	return http_conn_write(c, v, 3);
}

void http_reply_end(struct http_exchange *x)
{
	struct http_conn *c = x->conn;
	struct iovec v = { (void *)"0\r\n\r\n", 5 };

	if (c->state != CONN_CLOSED && c->reply_chunked && !c->reply_headless)
		http_conn_write(c, &v, 1);
	http_conn_answered(c);
}

void http_reply_abort(struct http_exchange *x)
{
	struct http_conn *c = x->conn;

	if (c->state != CONN_CLOSED)
		http_conn_close(c);
	http_conn_answered(c);
}

bool http_gone(const struct http_exchange *x)
{
	return x->conn->state == CONN_CLOSED;
}

bool http_half_closed(const struct http_exchange *x)
{
	return x->conn->eof || x->conn->state == CONN_CLOSED;
}

struct str http_header_get(const struct http_request *req, const char *name)
{
	return http_headers_get(req->headers, req->n_headers, name, NULL);
}
