/* The bus driver over PostgreSQL: an append-only table, group positions, LISTEN/NOTIFY to wake readers. */
#include <arpa/inet.h>
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "events/bus_driver.h"
#include "events/pgconn.h"
#include "json/json.h"

#define STATEMENT_TIMEOUT_MS 30000
#define POLL_MIN_MS 25   /* rows that wait for an older transaction to end send no second notification */
#define POLL_MAX_MS 500
#define GATHER_MS 5      /* after a notification: one read for many of them */
#define EXPIRE_EVERY_US (600LL * 1000000)

/* -- producer */

struct producer {
	char *url;
	PGconn *conn;
	struct buf copy;
};

static enum status topic_create(const char *url, const char *topic)
{
	return STATUS_OK; /* a topic is a value in a column */
}

static void *producer_new(const char *url)
{
	struct producer *p = xcalloc(1, sizeof *p);

	p->url = xstrdup(url);
	return p;
}

static void put_i16(struct buf *b, int v)
{
	uint16_t be = htons((uint16_t)v);

	buf_put(b, &be, sizeof be);
}

static void put_field(struct buf *b, struct str s)
{
	uint32_t be = htonl((uint32_t)s.n);

	buf_put(b, &be, sizeof be);
	buf_str(b, s);
}

/* jsonb in binary form is a version byte and the text. */
static void put_headers(struct buf *b, const struct bus_record *r)
{
	size_t at = b->n;
	uint32_t be;

	buf_put(b, "\0\0\0\0\1{", 6);
	for (size_t i = 0; i < r->n_headers; i++) {
		if (i)
			buf_c(b, ',');
		buf_json_str(b, str_of(r->headers[i].name));
		buf_c(b, ':');
		buf_json_str(b, r->headers[i].value);
	}
	buf_c(b, '}');
	be = htonl((uint32_t)(b->n - at - 4));
	memcpy(b->p + at, &be, sizeof be);
}

/* One row of COPY … BINARY; false: the event id is no UUID. */
static bool put_row(struct buf *b, const struct bus_record *r)
{
	uint8_t id[16];

	if (!uuid_to_bytes(r->event_id, id))
		return false;
	put_i16(b, 5);
	put_field(b, str_of(r->topic));
	put_field(b, r->key);
	put_field(b, (struct str){ (const char *)id, sizeof id });
	put_headers(b, r);
	put_field(b, r->value);
	return true;
}

static enum status copy_fill(struct buf *b, const struct bus_record *records, size_t n)
{
	buf_clear(b);
	buf_put(b, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
	for (size_t i = 0; i < n; i++) {
		if (!put_row(b, &records[i]))
			return STATUS_BAD_REQUEST;
	}
	put_i16(b, -1);
	return STATUS_OK;
}

/* Runs the COPY whose bytes are in p->copy. Leaves the connection idle or broken. */
static enum status copy_send(struct producer *p)
{
	enum status s = pgconn_exec(p->conn, NULL, "COPY record (topic, key, event_id, headers, value) FROM STDIN BINARY", 0, NULL);
	PGresult *r;

	if (s != STATUS_OK)
		return s;
	if (PQputCopyData(p->conn, p->copy.p, (int)p->copy.n) != 1 || PQputCopyEnd(p->conn, NULL) != 1)
		return STATUS_UNAVAILABLE;
	for (r = PQgetResult(p->conn); r; r = PQgetResult(p->conn)) {
		if (s == STATUS_OK)
			s = pgconn_status(p->conn, r);
		PQclear(r);
	}
	return s;
}

static enum status publish(void *arg, const struct bus_record *records, size_t n)
{
	struct producer *p = arg;
	enum status s = copy_fill(&p->copy, records, n);

	if (s != STATUS_OK)
		return s;
	if (!p->conn)
		p->conn = pgconn_open(p->url, "crm-bus-producer", STATEMENT_TIMEOUT_MS);
	if (!p->conn)
		return STATUS_UNAVAILABLE;
	s = pgconn_begin(p->conn);
	if (s == STATUS_OK)
		s = copy_send(p);
	if (s == STATUS_OK)
		s = pgconn_exec(p->conn, NULL, "NOTIFY bus_record", 0, NULL);
	if (s == STATUS_OK)
		s = pgconn_commit(p->conn);
	if (s == STATUS_OK)
		return s;
	PQfinish(p->conn);
	p->conn = NULL;
	return s;
}

static void producer_free(void *arg)
{
	struct producer *p = arg;

	PQfinish(p->conn);
	buf_fini(&p->copy);
	free(p->url);
	free(p);
}

/* -- consumer */

struct topic {
	char *name;
	uint64_t xid;
	int64_t position; /* of the last record that was read */
};

struct consumer {
	char *url, *group;
	PGconn *conn;
	bool mine;        /* conn holds the group's lock: this is its reader */
	struct topic *topics;
	size_t n_topics;
	size_t first;     /* topic that is read first: it goes round, so that a busy one starves no other */
	int idle_ms;
	int64_t read_at;  /* when the next read is due without a notification, monotonic us */
	int64_t expire_at;
	struct arena arena;
	PGresult *results[BUS_MAX_BATCH]; /* at most one per topic that gave records */
	size_t n_results;
	struct bus_message messages[BUS_MAX_BATCH];
	size_t n;
};

static void *consumer_new(const char *url, const char *group, const char *const *topics, size_t n_topics)
{
	struct consumer *c = xcalloc(1, sizeof *c);

	c->url = xstrdup(url);
	c->group = xstrdup(group);
	c->n_topics = n_topics;
	c->topics = xcalloc(n_topics, sizeof *c->topics);
	for (size_t i = 0; i < n_topics; i++)
		c->topics[i].name = xstrdup(topics[i]);
	c->idle_ms = POLL_MIN_MS;
	return c;
}

static void batch_drop(struct consumer *c)
{
	for (size_t i = 0; i < c->n_results; i++)
		PQclear(c->results[i]);
	c->n_results = 0;
	c->n = 0;
	arena_reset(&c->arena);
}

static void disconnect(struct consumer *c)
{
	PQfinish(c->conn);
	c->conn = NULL;
	c->mine = false;
}

static enum status position_load(struct consumer *c, struct topic *t)
{
	const char *params[] = { c->group, t->name };
	PGresult *r = NULL;
	enum status s = pgconn_exec(c->conn, NULL, "INSERT INTO group_position (group_name, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING", 2, params);

	if (s == STATUS_OK)
		s = pgconn_exec(c->conn, &r, "SELECT xid, position FROM group_position WHERE group_name = $1 AND topic = $2", 2, params);
	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) != 1 || !str_to_u64(str_of(PQgetvalue(r, 0, 0)), &t->xid) || !str_to_i64(str_of(PQgetvalue(r, 0, 1)), &t->position))
		s = STATUS_INTERNAL;
	PQclear(r);
	return s;
}

/* The group's reader is whoever holds its lock on the connection that also moves the position. */
static enum status group_lock(struct consumer *c)
{
	const char *params[] = { c->group };
	PGresult *r = NULL;
	enum status s = pgconn_exec(c->conn, &r, "SELECT pg_try_advisory_lock(hashtext('bus.group'), hashtext($1))", 1, params);

	if (s != STATUS_OK)
		return s;
	c->mine = PQgetvalue(r, 0, 0)[0] == 't';
	PQclear(r);
	return STATUS_OK;
}

/* OK with c->mine false: another process reads for the group. */
static enum status become_reader(struct consumer *c)
{
	enum status s;

	if (!c->conn)
		c->conn = pgconn_open(c->url, "crm-bus-consumer", STATEMENT_TIMEOUT_MS);
	if (!c->conn)
		return STATUS_UNAVAILABLE;
	s = group_lock(c);
	for (size_t i = 0; s == STATUS_OK && c->mine && i < c->n_topics; i++)
		s = position_load(c, &c->topics[i]);
	if (s == STATUS_OK && c->mine)
		s = pgconn_exec(c->conn, NULL, "LISTEN bus_record", 0, NULL);
	if (s != STATUS_OK)
		disconnect(c);
	return s;
}

static struct str cell(const PGresult *r, int row, int col)
{
	return (struct str){ PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col) };
}

static int64_t cell_i64(const PGresult *r, int row, int col)
{
	uint64_t be;

	memcpy(&be, PQgetvalue(r, row, col), sizeof be);
	return (int64_t)be64toh(be);
}

static void headers_read(struct consumer *c, struct bus_record *rec, struct str text)
{
	struct bus_header *h;
	struct json_error err;
	const struct json *o = json_parse(&c->arena, text, &err);

	if (!o || o->type != JSON_OBJECT || !o->n)
		return;
	h = arena_alloc(&c->arena, o->n * sizeof *h);
	for (const struct json *v = o->child; v && rec->n_headers < BUS_MAX_HEADERS; v = v->next) {
		if (v->type == JSON_STRING)
			h[rec->n_headers++] = (struct bus_header){ arena_strdup(&c->arena, v->key), v->text };
	}
	rec->headers = h;
}

static void message_read(struct consumer *c, struct topic *t, const PGresult *r, int row)
{
	struct bus_message *m = &c->messages[c->n++];
	char *id = arena_alloc(&c->arena, UUID_TEXT + 1);

	uuid_from_bytes((const uint8_t *)PQgetvalue(r, row, 3), id);
	*m = (struct bus_message){
		.record = { .topic = t->name, .key = cell(r, row, 2), .event_id = { id, UUID_TEXT }, .value = cell(r, row, 5) },
		.position = { cell_i64(r, row, 0), cell_i64(r, row, 1) },
	};
	headers_read(c, &m->record, cell(r, row, 4));
	t->xid = (uint64_t)m->position.major;
	t->position = m->position.minor;
}

static enum status topic_read(struct consumer *c, struct topic *t, size_t max)
{
	char xid[24], position[24], limit[24];
	const char *params[] = { t->name, xid, position, limit };
	PGresult *r;
	enum status s;

	snprintf(xid, sizeof xid, "%llu", (unsigned long long)t->xid);
	snprintf(position, sizeof position, "%lld", (long long)t->position);
	snprintf(limit, sizeof limit, "%zu", max);
	r = PQexecParams(c->conn,
	    "SELECT xid, position, key, event_id, headers::text, value FROM record"
	    " WHERE topic = $1 AND (xid, position) > ($2::xid8, $3::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
	    " ORDER BY xid, position LIMIT $4::bigint",
	    4, NULL, params, NULL, NULL, 1);
	s = pgconn_status(c->conn, r);
	if (s != STATUS_OK || PQntuples(r) == 0) {
		PQclear(r);
		return s;
	}
	c->results[c->n_results++] = r;
	for (int i = 0; i < PQntuples(r); i++)
		message_read(c, t, r, i);
	return STATUS_OK;
}

static enum status read_all(struct consumer *c, size_t max)
{
	enum status s = STATUS_OK;

	for (size_t i = 0; s == STATUS_OK && i < c->n_topics && c->n < max; i++)
		s = topic_read(c, &c->topics[(c->first + i) % c->n_topics], max - c->n);
	c->first = (c->first + 1) % c->n_topics;
	return s;
}

static enum status expire(struct consumer *c)
{
	if (clock_mono_us() < c->expire_at)
		return STATUS_OK;
	c->expire_at = clock_mono_us() + EXPIRE_EVERY_US;
	return pgconn_exec(c->conn, NULL, "SELECT record_expire()", 0, NULL);
}

static bool take_notifies(PGconn *conn)
{
	bool any = false;
	PGnotify *n;

	if (!PQconsumeInput(conn))
		return true; /* the next read finds out */
	for (n = PQnotifies(conn); n; n = PQnotifies(conn)) {
		any = true;
		PQfreemem(n);
	}
	return any;
}

/* The next read is for once, and the ones behind it soon. */
static void hurry(struct consumer *c)
{
	c->idle_ms = POLL_MIN_MS;
	c->read_at = 0;
}

/* Sleeps until a notification or ms have passed. */
static void wait_news(struct consumer *c, int ms)
{
	struct pollfd p = { .fd = c->mine ? PQsocket(c->conn) : -1, .events = POLLIN };

	/* one may have come along with the last read's rows */
	if (c->mine && (take_notifies(c->conn) || (poll(&p, 1, ms) > 0 && take_notifies(c->conn)))) {
		hurry(c);
		poll(NULL, 0, GATHER_MS);
	} else if (!c->mine) {
		poll(NULL, 0, ms);
	}
}

/* Without news a read is due less and less often, however short the caller's time-outs are. */
static bool is_due(struct consumer *c)
{
	int64_t now = clock_mono_us();

	if (c->mine && take_notifies(c->conn))
		hurry(c);
	if (c->mine && now < c->read_at)
		return false;
	c->read_at = now + c->idle_ms * 1000LL;
	c->idle_ms = c->idle_ms * 2 < POLL_MAX_MS ? c->idle_ms * 2 : POLL_MAX_MS;
	return true;
}

static enum status poll_once(struct consumer *c, size_t max)
{
	enum status s = STATUS_OK;

	if (!c->mine)
		s = become_reader(c);
	if (s != STATUS_OK || !c->mine)
		return s;
	s = read_all(c, max);
	if (s == STATUS_OK)
		s = expire(c);
	if (s != STATUS_OK)
		disconnect(c);
	return s;
}

static enum status consumer_poll(void *arg, int timeout_ms, size_t max, const struct bus_message **messages, size_t *n)
{
	struct consumer *c = arg;
	int64_t until = clock_mono_us() + timeout_ms * 1000LL, left_ms, due_ms;
	enum status s = STATUS_OK;

	batch_drop(c);
	for (;;) {
		if (is_due(c))
			s = poll_once(c, max);
		if (s != STATUS_OK) {
			batch_drop(c);
			return s;
		}
		left_ms = (until - clock_mono_us()) / 1000;
		if (c->n || left_ms <= 0)
			break;
		due_ms = (c->read_at - clock_mono_us()) / 1000 + 1;
		wait_news(c, !c->mine || left_ms < due_ms ? (int)left_ms : due_ms > 0 ? (int)due_ms : 0);
	}
	if (c->n)
		hurry(c);
	*messages = c->messages;
	*n = c->n;
	return STATUS_OK;
}

static enum status position_store(struct consumer *c, const struct bus_message *m)
{
	char xid[24], position[24];
	const char *params[] = { c->group, m->record.topic, xid, position };

	snprintf(xid, sizeof xid, "%lld", (long long)m->position.major);
	snprintf(position, sizeof position, "%lld", (long long)m->position.minor);
	return pgconn_exec(c->conn, NULL,
	    "UPDATE group_position SET xid = $3::xid8, position = $4::bigint, updated_at = now() WHERE group_name = $1 AND topic = $2", 4, params);
}

static enum status consumer_commit(void *arg, size_t n)
{
	struct consumer *c = arg;
	enum status s = STATUS_OK;

	if (!c->mine)
		return STATUS_UNAVAILABLE;
	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		/* records of a topic stand together: its last one says it */
		if (i + 1 == n || c->messages[i + 1].record.topic != c->messages[i].record.topic)
			s = position_store(c, &c->messages[i]);
	}
	if (s != STATUS_OK)
		disconnect(c);
	return s;
}

static void consumer_rewind(void *arg)
{
	struct consumer *c = arg;

	batch_drop(c);
	disconnect(c); /* the next poll connects and loads the positions */
}

static void consumer_free(void *arg)
{
	struct consumer *c = arg;

	batch_drop(c);
	disconnect(c);
	for (size_t i = 0; i < c->n_topics; i++)
		free(c->topics[i].name);
	free(c->topics);
	arena_fini(&c->arena);
	free(c->url);
	free(c->group);
	free(c);
}

const struct bus_driver bus_postgres_driver = {
	.topic_create = topic_create,
	.producer_new = producer_new,
	.publish = publish,
	.producer_free = producer_free,
	.consumer_new = consumer_new,
	.poll = consumer_poll,
	.commit = consumer_commit,
	.rewind = consumer_rewind,
	.consumer_free = consumer_free,
};
