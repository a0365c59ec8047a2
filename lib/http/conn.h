/* Inside of lib/http: the connection, the server and what their files share. Not for use outside. */
#ifndef CRM_HTTP_CONN_H
#define CRM_HTTP_CONN_H

#include <event2/event_struct.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/uio.h>

#include "http/chunked.h"
#include "http/head.h"
#include "http/http.h"
#include "http/limits.h"

/* An exchange with what only this library sees of it. Pooled per server, so idle connections hold none. */
struct xchg {
	struct http_exchange x; /* first: the app's pointer is this one */
	struct http_head head;
	struct http_chunked chunked;
	struct buf body;
	struct xchg *next;
};

enum conn_state {
	CONN_HANDSHAKE, /* TLS */
	CONN_IDLE,      /* no byte of a next request yet */
	CONN_HEAD,
	CONN_BODY,
	CONN_APP,       /* the exchange is with the app */
	CONN_WRITE,     /* answered, not all bytes are out */
	CONN_LINGER,    /* our side is shut, input is thrown away */
	CONN_CLOSED,    /* no descriptor; the memory waits for the app's reply or the end of the loop turn */
};

#define IO_EOF 0
#define IO_AGAIN (-1)
#define IO_ERROR (-2)

/* How bytes move: plain or TLS. read and writev: bytes moved, IO_EOF (read), IO_AGAIN or IO_ERROR. */
struct http_io {
	ssize_t (*read)(struct http_conn *c, void *p, size_t n);
	ssize_t (*writev)(struct http_conn *c, const struct iovec *v, int n);
	/* Bytes that were taken off the socket and that no event will announce. */
	bool (*pending)(struct http_conn *c);
	void (*shut)(struct http_conn *c); /* no more will be written */
	void (*fini)(struct http_conn *c);
};
extern const struct http_io http_io_plain, http_io_tls;

struct ip_count;

struct http_conn {
	struct http_server *server;
	const struct http_io *io;
	SSL *ssl;
	int fd, listener;
	enum conn_state state;
	bool reading;     /* read_ev is registered */
	const struct str *processing; /* what of the input is not used yet, while that goes on; else NULL */
	bool queued;      /* on server->run */
	bool eof;         /* the client sent its last byte */
	bool served;      /* has answered before: an idle one may be closed at once */
	bool closing;     /* no further request after this reply */
	bool refused;     /* the input is not to be believed any more */
	bool streaming, reply_chunked, reply_headless;
	bool body_open;   /* with the app, and its body has not all been taken */
	bool body_flows;  /* … and the app wants it now */
	struct http_body_sink sink;
	struct event read_ev, write_ev, timer_ev;
	int64_t deadline_us, timer_us; /* 0: none; timer_us: when timer_ev will fire */
	int64_t first_byte_us, body_since_us;
	struct http_scan scan;
	struct buf in, out;
	size_t out_at;
	struct xchg *x;
	uint64_t body_got;
	size_t body_max, lingered;
	unsigned pipelined;
	struct ip_count *ip;
	struct http_conn *prev, *next; /* of server->conns */
	struct http_conn *run_next, *dead_next;
	char ip_text[INET6_ADDRSTRLEN];
};

struct http_listener {
	struct http_server *server;
	int fd, index;
	struct event ev;
};

/* From limits.h; tests shorten them before the first connection. */
struct http_deadlines {
	int64_t handshake_us, head_us, body_us, idle_us, write_us, linger_us;
};

struct http_server {
	struct event_base *base;
	struct http_deadlines wait;
	struct http_app app;
	SSL_CTX *tls;
	struct http_listener listeners[HTTP_LISTENERS_MAX];
	size_t n_listeners;
	unsigned max_open, max_per_ip;
	int spare_fd;
	struct event accept_ev; /* ends the pause after running out of descriptors */
	struct event turn_ev;   /* run and dead lists */
	struct http_conn *conns, *run, **run_tail, *dead;
	struct ip_count *ips;
	struct xchg *pool;
	size_t n_pool;
	size_t body_bytes;
	struct buf scratch;     /* the reply being composed */
	char *read_buf;
	time_t date_at;
	char date[64];          /* "Date: …\r\n" */
	size_t date_n;
	bool leaving, draining;
	void (*idle)(void *arg);
	void *idle_arg;
	struct http_stats stats;
};

/* Statistics have one writer, the server's thread, and readers on any. */
#define HTTP_STAT(s, name, by) \
	__atomic_store_n(&(s)->stats.name, __atomic_load_n(&(s)->stats.name, __ATOMIC_RELAXED) + (uint64_t)(by), __ATOMIC_RELAXED)

/* server.c */
void http_server_forget(struct http_conn *c);
void http_server_run_later(struct http_conn *c);
void http_server_bury(struct http_conn *c);
struct xchg *http_server_take(struct http_server *s);
void http_server_give(struct http_server *s, struct xchg *x);

/* conn.c. Takes the descriptor. */
void http_conn_new(struct http_server *s, int fd, int listener, const char *ip_text, struct ip_count *ip);
void http_conn_close(struct http_conn *c);
/* An idle connection ends now; a new one, or one whose request is on its way, gets a moment to bring it. */
void http_conn_drain(struct http_conn *c);
/* True: input is there behind the request that is with the app. */
bool http_conn_has_more(const struct http_conn *c);
/* The deferred part of a loop turn: input that waited. */
void http_conn_run(struct http_conn *c);
/* Sends or keeps; false when the connection is gone. */
bool http_conn_write(struct http_conn *c, const struct iovec *v, int n);
/* The app has answered: gives the exchange back and goes on with the connection. */
void http_conn_answered(struct http_conn *c);

/* Refuses what is being read: reject() answers and the connection ends. */
void http_conn_refuse(struct http_conn *c, enum status why, const char *text);
/* The request is the app's. */
void http_conn_dispatch(struct http_conn *c);
void http_conn_deadline(struct http_conn *c, int64_t now, int64_t at);
void http_conn_read_start(struct http_conn *c);
void http_conn_read_stop(struct http_conn *c);

/* body.c */
void http_body_begin(struct http_conn *c, struct str *in);
void http_body_feed(struct http_conn *c, struct str *in);
/* Input belongs to a body that the app takes as it comes. */
bool http_body_flows(const struct http_conn *c);
/* The streamed body ends before its end; the app hears it. */
void http_body_fail(struct http_conn *c, enum status why, const char *text);
void http_body_lost(struct http_conn *c);
/* A reply goes out: what has not come of the body will not be read. */
void http_body_give_up(struct http_conn *c);

static inline size_t http_conn_unsent(const struct http_conn *c)
{
	return c->out.n - c->out_at;
}

#endif
