/*
 * HTTP/1.1 server on libevent events (RFC 9112), one http_server per thread with an event_base of its own.
 *
 * The connection layer knows nothing of dialects: it hands a complete, strictly checked request to app.handle and a
 * refusal (malformed, too large, too slow) to app.reject, and writes what http_reply gives it. One request of a
 * connection is with the app at a time; pipelined ones wait in the input buffer.
 *
 * Ownership: an exchange and everything it points to live from handle/reject until http_reply (or http_reply_end). If the
 * client goes away meanwhile, the exchange stays valid, replies are dropped and http_gone() turns true.
 * Threading: everything on the server's own thread.
 */
#ifndef CRM_HTTP_HTTP_H
#define CRM_HTTP_HTTP_H

#include <event2/event.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

struct http_server;
struct http_conn;

struct http_header {
	struct str name, value; /* as sent, value without surrounding white space */
};

struct http_request {
	struct str method;     /* "GET"; a token, upper or lower case as sent */
	struct str target;     /* as sent; origin-form */
	struct str path;       /* raw path: not decoded, not normalised */
	struct str query;      /* raw, without '?' */
	struct str host;       /* lower case, without port; empty on HTTP/1.0 without Host */
	struct str authority;  /* Host as sent */
	struct str client_ip;  /* numeric */
	struct http_header *headers;
	size_t n_headers;
	struct str body;       /* complete, dechunked */
	bool tls;
	int listener;          /* index given at http_server_listen */
};

struct http_exchange {
	struct http_request req;
	struct arena arena; /* for the app's use; reset after the reply */
	void *app_data;     /* for the app's use; NULL at first */
	struct http_conn *conn;
	int64_t start_us;   /* monotonic: first byte of the head */
	uint64_t sent;      /* bytes of a streamed body so far */
};

struct http_app {
	void *arg;
	/* A request. The app answers now or later with http_reply, exactly once. */
	void (*handle)(void *arg, struct http_exchange *x);
	/* The server refuses the request and will close the connection; the app renders the body (http_reply). req may be partial. */
	void (*reject)(void *arg, struct http_exchange *x, enum status why, const char *text);
	/* Bytes a body of this request may have; called once the head is complete, for requests that have one. NULL: none may. */
	size_t (*body_limit)(void *arg, struct http_exchange *x);
	/* True: handle gets the request at once, without its body, which the app then takes with http_body_start. NULL: never. */
	bool (*streams)(void *arg, struct http_exchange *x);
};

/*
 * A body as it comes, in pieces that live until data returns. end is called once: OK, the whole body was there;
 * PAYLOAD_TOO_LARGE, BAD_REQUEST, REQUEST_TIMEOUT: it will not come, text says why; UNAVAILABLE: the client is gone. end may come while
 * the body is stopped, data does not. Nothing is called after a reply has begun. A reply before the end gives up the rest of the body and with it the connection.
 */
struct http_body_sink {
	void *arg;
	void (*data)(void *arg, struct str data);
	void (*end)(void *arg, enum status s, const char *text);
};

/* False: there is no body to take (it had none, or was not streamed). data and end are called from the next turn of the loop on. */
bool http_body_start(struct http_exchange *x, const struct http_body_sink *sink);
/* While stopped, at most HTTP_PIPELINE_BYTES and the reads of one turn are kept; the rest waits at the client. */
void http_body_stop(struct http_exchange *x);
void http_body_go_on(struct http_exchange *x);

/* First header of that name (any case); empty slice when absent. */
struct str http_header_get(const struct http_request *req, const char *name);

/*
 * status: HTTP number. headers: complete lines "Name: value\r\n…" without Content-Length, Date, Connection (made here).
 * body may be empty (then Content-Length: 0, or none for 204 and 304); HEAD sends no body. Copies what it is given.
 */
void http_reply(struct http_exchange *x, int status, struct str headers, struct str body);

/* A streamed reply, chunked on HTTP/1.1. chunk returns false when the client is gone. pending: bytes not yet written. */
void http_reply_begin(struct http_exchange *x, int status, struct str headers);
/* More than HTTP_WRITE_MAX unsent bytes close the connection: look at http_reply_pending between chunks. */
bool http_reply_chunk(struct http_exchange *x, struct str data);
size_t http_reply_pending(const struct http_exchange *x);
void http_reply_end(struct http_exchange *x);
/* Instead of end: closes the connection, so that the client sees that the reply is not complete. */
void http_reply_abort(struct http_exchange *x);

bool http_gone(const struct http_exchange *x);
/* The client has closed its side: it may still read, but most that do this have gone. */
bool http_half_closed(const struct http_exchange *x);

/* tls may be NULL (an SSL_CTX otherwise, see tls.h; SIGPIPE is then ignored in the process). Does not listen yet. */
struct http_server *http_server_new(struct event_base *base, const struct http_app *app, void *tls_ctx);
/* address "127.0.0.1:5000" or "[::1]:5000"; index is given back in http_request.listener. SO_REUSEPORT. False: *why says it. */
bool http_server_listen(struct http_server *s, const char *address, int index, const char **why);
/*
 * Connections at once, in all and per client address (IPv6: per /64); further ones are closed on arrival. 0 keeps a value.
 * The defaults are in limits.h. Per server, so a process with several threads divides.
 */
void http_server_limit(struct http_server *s, unsigned connections, unsigned per_ip);
/* The port a listener got (for ":0"); 0 when there is no such index. */
int http_server_port(const struct http_server *s, int index);
/*
 * The process will end and its clients are to go elsewhere: everything is accepted and served on, but from now on a reply says Connection:
 * close (once the requests that were pipelined behind it are answered) and its connection ends. For the time before http_server_drain.
 */
void http_server_leave(struct http_server *s);
/* Stop accepting, answer what is in flight with Connection: close. idle(arg) once when the last connection is gone. */
void http_server_drain(struct http_server *s, void (*idle)(void *arg), void *arg);
void http_server_free(struct http_server *s);

struct http_stats {
	uint64_t accepted, requests, rejected, timeouts, bytes_in, bytes_out;
	uint64_t open, too_many;
};
/* May be called from any thread while the server lives. */
struct http_stats http_server_stats(const struct http_server *s);

#endif
