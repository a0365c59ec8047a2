/*
 * Load for `make bench`: a raw prepared statement over libpq, or HTTP requests over keep-alive connections; every answer is checked.
 *
 *   crm-bench raw  URL CONNECTIONS SECONDS SQL FILE          FILE: one line per execution, parameters separated by tabs ("\N": NULL)
 *   crm-bench http ADDR:PORT CONNECTIONS SECONDS FILE        FILE: status, text that the body must contain, method, target, token, body, a header line; tab-separated, the last two may be missing
 *   crm-bench pace ADDR:PORT CONNECTIONS SECONDS FILE RATE   the same, RATE requests a second whatever the answers take; latency counts from when each was due
 *   crm-bench hash THREADS SECONDS                           argon2id with the parameters of a login
 *
 * Prints one line of JSON: {"rps":…,"p50_ms":…,"p99_ms":…,"errors":…,"requests":…,"first_error":"…"}.
 */
#include <argon2.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"

#define MAX_FIELDS 40
#define MAX_SAMPLES (1 << 22)

struct line {
	char *field[MAX_FIELDS];
	int n;
	struct str request; /* HTTP */
};

static struct line *lines;
static size_t n_lines;
static int64_t end_us;
static uint32_t *samples; /* latencies in microseconds */
static size_t n_samples, requests, errors;
static char first_error[400];

static void note_error(const char *what, struct str detail)
{
	if (errors++ == 0) {
		snprintf(first_error, sizeof(first_error), "%s: %.*s", what, (int)(detail.n < 200 ? detail.n : 200), detail.p ? detail.p : "");
		for (char *p = first_error; *p; p++) {
			if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20)
				*p = '\'';
		}
	}
}

static void load_lines(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!f) {
		perror(path);
		exit(2);
	}
	while ((n = getline(&text, &cap, f)) > 0) {
		struct line *l;
		char *at = xstrndup(text, (size_t)(text[n - 1] == '\n' ? n - 1 : n)), *field;

		lines = xrealloc(lines, (n_lines + 1) * sizeof(*lines));
		l = &lines[n_lines++];
		l->n = 0;
		while (l->n < MAX_FIELDS && (field = strsep(&at, "\t")))
			l->field[l->n++] = field;
	}
	free(text);
	fclose(f);
	if (n_lines == 0) {
		fprintf(stderr, "%s is empty\n", path);
		exit(2);
	}
}

static const struct line *next_line(void)
{
	static __thread uint64_t state;
	uint64_t x = state ? state : (uint64_t)clock_mono_us() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)&state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	state = x;
	return &lines[x % n_lines];
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report(double seconds)
{
	qsort(samples, n_samples, sizeof(*samples), compare);
	printf("{\"rps\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"errors\":%zu,\"requests\":%zu,\"first_error\":\"%s\"}\n", (double)requests / seconds,
	    n_samples ? samples[n_samples / 2] / 1000.0 : 0, n_samples ? samples[n_samples * 99 / 100] / 1000.0 : 0, errors, requests, first_error);
}

/* -- raw statement: a thread per connection, one execution outstanding on each */

struct raw {
	pthread_t thread;
	PGconn *conn;
	uint32_t *samples;
	size_t n, n_errors;
};

static void *raw_run(void *arg)
{
	struct raw *r = arg;

	while (clock_mono_us() < end_us) {
		const struct line *l = next_line();
		const char *params[MAX_FIELDS];
		int64_t start = clock_mono_us();
		PGresult *res;

		for (int i = 0; i < l->n; i++)
			params[i] = strcmp(l->field[i], "\\N") == 0 ? NULL : l->field[i];
		res = PQexecPrepared(r->conn, "s", l->n, params, NULL, NULL, 1);
		if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) == 0) {
			if (r->n_errors++ == 0)
				fprintf(stderr, "raw: %s\n", PQerrorMessage(r->conn));
		}
		PQclear(res);
		if (r->n < MAX_SAMPLES / 64)
			r->samples[r->n] = (uint32_t)(clock_mono_us() - start);
		r->n++;
	}
	return NULL;
}

static int raw_main(char **v)
{
	int conns = atoi(v[1]), seconds = atoi(v[2]);
	struct raw *r = xcalloc((size_t)conns, sizeof(*r));
	int64_t start;

	load_lines(v[4]);
	for (int i = 0; i < conns; i++) {
		PGresult *res;

		r[i].conn = PQconnectdb(v[0]);
		res = PQprepare(r[i].conn, "s", v[3], 0, NULL);
		if (PQresultStatus(res) != PGRES_COMMAND_OK) {
			fprintf(stderr, "%s\n", PQerrorMessage(r[i].conn));
			return 2;
		}
		PQclear(res);
		r[i].samples = xcalloc(MAX_SAMPLES / 64, sizeof(uint32_t));
	}
	start = clock_mono_us();
	end_us = start + (int64_t)seconds * 1000000;
	for (int i = 0; i < conns; i++)
		pthread_create(&r[i].thread, NULL, raw_run, &r[i]);
	samples = xcalloc(MAX_SAMPLES, sizeof(*samples));
	for (int i = 0; i < conns; i++) {
		pthread_join(r[i].thread, NULL);
		PQfinish(r[i].conn);
		requests += r[i].n;
		errors += r[i].n_errors;
		for (size_t k = 0; k < r[i].n && k < MAX_SAMPLES / 64 && n_samples < MAX_SAMPLES; k++)
			samples[n_samples++] = r[i].samples[k];
	}
	report((double)(clock_mono_us() - start) / 1e6);
	return errors ? 1 : 0;
}

/* -- HTTP: one thread, epoll, one request outstanding per connection */

struct conn {
	int fd;
	struct buf in;
	const struct line *line; /* NULL: nothing is asked */
	int64_t sent_us;
};

static struct sockaddr_in address;
static bool paced;

static void conn_open(struct conn *c, int ep)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror("connect");
		exit(2);
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
	buf_clear(&c->in);
}

/* The whole request as text: made once per line, so that the measured time is not the generator's. */
static void request_make(struct line *l)
{
	const char *body = l->n > 5 ? l->field[5] : "";
	struct buf out = { 0 };

	buf_printf(&out, "%s %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: crm-bench\r\nAccept: application/json\r\n", l->field[2], l->field[3]);
	if (*l->field[4])
		buf_printf(&out, "Authorization: Bearer %s\r\n", l->field[4]);
	if (l->n > 6)
		buf_printf(&out, "%s\r\n", l->field[6]);
	if (*body)
		buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	buf_printf(&out, "\r\n%s", body);
	l->request = buf_view(&out);
}

static void conn_send(struct conn *c)
{
	c->line = next_line();
	c->sent_us = clock_mono_us();
	if (send(c->fd, c->line->request.p, c->line->request.n, MSG_NOSIGNAL) != (ssize_t)c->line->request.n)
		note_error("send", str_of(strerror(errno)));
}

/* Bytes of the complete response in c->in, 0 when more is needed. */
static size_t response_length(struct conn *c, struct str *body)
{
	const char *head = buf_cstr(&c->in), *end = strstr(head, "\r\n\r\n"), *cl;
	size_t n = 0;

	if (!end)
		return 0;
	cl = memmem(head, (size_t)(end - head), "\r\nContent-Length: ", 18);
	if (cl)
		n = strtoul(cl + 18, NULL, 10);
	*body = (struct str){ end + 4, n };
	return (size_t)(end + 4 - head) + n <= c->in.n ? (size_t)(end + 4 - head) + n : 0;
}

static void check(struct conn *c, struct str body)
{
	const struct line *l = c->line;
	const char *want = l->field[1];

	if (c->in.n < 12 || strncmp(c->in.p + 9, l->field[0], 3) != 0)
		note_error("status", buf_view(&c->in));
	else if (*want && !memmem(body.p, body.n, want, strlen(want)))
		note_error("body", body);
	requests++;
	if (n_samples < MAX_SAMPLES)
		samples[n_samples++] = (uint32_t)(clock_mono_us() - c->sent_us);
}

static void conn_readable(struct conn *c, int ep)
{
	char chunk[65536];
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), 0);
	struct str body;
	size_t length;

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		note_error("closed", (struct str){ 0 });
		close(c->fd);
		conn_open(c, ep);
		c->line = NULL;
		if (!paced)
			conn_send(c);
		return;
	}
	buf_put(&c->in, chunk, (size_t)n);
	length = response_length(c, &body);
	if (length == 0)
		return;
	check(c, body);
	buf_consume(&c->in, length);
	c->line = NULL;
	if (!paced && clock_mono_us() < end_us)
		conn_send(c);
}

/* Sends what is due over connections that wait for nothing. */
static void send_due(struct conn *c, int conns, int64_t *due_us, int64_t every_us)
{
	int64_t now = clock_mono_us();

	for (int i = 0; i < conns && *due_us <= now; i++) {
		if (c[i].line)
			continue;
		conn_send(&c[i]);
		c[i].sent_us = *due_us;
		*due_us += every_us;
	}
}

/* rate 0: the next request as soon as an answer is there. */
static void http_run(struct conn *c, int conns, int ep, int rate)
{
	int64_t due_us = clock_mono_us(), every_us = rate ? 1000000 / rate : 0;

	paced = rate > 0;
	for (int i = 0; i < conns && !paced; i++)
		conn_send(&c[i]);
	while (clock_mono_us() < end_us) {
		struct epoll_event events[256];
		int n;

		if (paced)
			send_due(c, conns, &due_us, every_us);
		n = epoll_wait(ep, events, 256, paced ? 2 : 100);
		for (int i = 0; i < n; i++)
			conn_readable(events[i].data.ptr, ep);
	}
}

static int http_main(char **v, int rate)
{
	int conns = atoi(v[1]), seconds = atoi(v[2]), ep = epoll_create1(0);
	struct conn *c = xcalloc((size_t)conns, sizeof(*c));
	char *colon = strrchr(v[0], ':');
	int64_t start;

	if (!colon)
		return 2;
	*colon = 0;
	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, v[0], &address.sin_addr) != 1)
		return 2;
	load_lines(v[3]);
	for (size_t i = 0; i < n_lines; i++)
		request_make(&lines[i]);
	samples = xcalloc(MAX_SAMPLES, sizeof(*samples));
	for (int i = 0; i < conns; i++)
		conn_open(&c[i], ep);
	start = clock_mono_us();
	end_us = start + (int64_t)seconds * 1000000;
	http_run(c, conns, ep, rate);
	report((double)(clock_mono_us() - start) / 1e6);
	return errors ? 1 : 0;
}

/* -- the hash alone: what a login costs at least */

static void *hash_run(void *arg)
{
	size_t *n = arg;
	uint8_t out[32], salt[16] = { 1 };

	while (clock_mono_us() < end_us) {
		if (argon2id_hash_raw(2, 19456, 1, "password", 8, salt, sizeof(salt), out, sizeof(out)) != ARGON2_OK)
			exit(2);
		*n += 1;
	}
	return NULL;
}

static int hash_main(char **v)
{
	pthread_t threads[64];
	size_t done[64] = { 0 };
	int n = atoi(v[0]) > 64 ? 64 : atoi(v[0]);
	int64_t start = clock_mono_us();

	end_us = start + (int64_t)atoi(v[1]) * 1000000;
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, hash_run, &done[i]);
	for (int i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		requests += done[i];
	}
	report((double)(clock_mono_us() - start) / 1e6);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "raw") == 0)
		return raw_main(argv + 2);
	if (argc == 6 && strcmp(argv[1], "http") == 0)
		return http_main(argv + 2, 0);
	if (argc == 7 && strcmp(argv[1], "pace") == 0)
		return http_main(argv + 2, atoi(argv[6]));
	if (argc == 4 && strcmp(argv[1], "hash") == 0)
		return hash_main(argv + 2);
	fprintf(stderr, "usage: crm-bench hash THREADS SECONDS | crm-bench raw URL CONNECTIONS SECONDS SQL FILE | crm-bench http ADDR:PORT CONNECTIONS SECONDS FILE | crm-bench pace … RATE\n");
	return 2;
}
