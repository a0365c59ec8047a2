/* Carries the outbox of this service's schema to the bus, in order, and remembers how far it is. */
#include "events/relay.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "events/bus.h"
#include "events/entity.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "schema/schema.h"
#include "telemetry/trace.h"

#define BATCH 500
#define STATEMENT_TIMEOUT_MS 30000
#define GATHER_MS 5          /* after a wake-up: one batch for the writes of a moment */
#define IDLE_MIN_MS 50
#define IDLE_MAX_MS 1000
#define STANDBY_MS 1000
#define FAILURE_MIN_MS 200
#define FAILURE_MAX_MS 800 /* back within 1 s of what it waits for */
#define LAG_EVERY_US (5 * 1000000)
#define STOP_SECONDS 5

struct position {
	uint64_t xid;
	int64_t id, stream_seq;
};

static struct relay {
	char *schema, *database_url, *bus_url, topic[80], source[80];
	struct schema *messages;
	pthread_t thread;
	int wake_fd;
	bool stop;          /* atomic */
	bool running;       /* atomic */
	/* the thread's own */
	PGconn *conn;
	bool active;        /* conn holds the lock */
	struct bus_producer *producer;
	bool topic_ready;
	struct position at;
	struct arena arena;
	struct buf encoded;
	int64_t lag_at;
	/* under lock */
	pthread_mutex_t lock;
	struct relay_stats stats;
} relay = { .wake_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

struct relay_stats relay_stats(void)
{
	struct relay_stats s;

	pthread_mutex_lock(&relay.lock);
	s = relay.stats;
	pthread_mutex_unlock(&relay.lock);
	return s;
}

static void stats_round(bool active, bool healthy, uint64_t published)
{
	pthread_mutex_lock(&relay.lock);
	relay.stats.active = active;
	relay.stats.healthy = healthy;
	relay.stats.published += published;
	relay.stats.failures += !healthy;
	pthread_mutex_unlock(&relay.lock);
}

enum { C_XID, C_ID, C_EVENT_ID, C_TENANT, C_TYPE, C_ENTITY, C_ENTITY_ID, C_ENTITY_SEQ, C_VERSION, C_BEFORE, C_AFTER, C_USER, C_API_KEY, C_REQUEST,
	C_TRACEPARENT, C_DIALECT, C_CLIENT_IP, C_USER_AGENT, C_TIME };

static const char select_sql[] =
    "SELECT xid, id, event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, user_id, api_key_id, request_id,"
    " traceparent, dialect, client_ip, user_agent, (extract(epoch FROM created_at) * 1000000)::bigint"
    " FROM %1$s.outbox WHERE (xid, id) > ($1::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
    " ORDER BY xid, id LIMIT $3::bigint";

/* -- connection, lock, position */

static void disconnect(void)
{
	PQfinish(relay.conn);
	relay.conn = NULL;
	relay.active = false;
}

static enum status exec(PGresult **r, const char *fmt, int n, const char *const *params)
{
	char sql[1500];

	/* every statement names its schema as %1$s; the name is checked at start */
	snprintf(sql, sizeof sql, fmt, relay.schema);
	return pgconn_exec(relay.conn, r, sql, n, params);
}

static enum status lock_try(void)
{
	PGresult *r = NULL;
	enum status s = exec(&r, "SELECT pg_try_advisory_lock(hashtext('crm.relay'), hashtext('%1$s'))", 0, NULL);

	if (s != STATUS_OK)
		return s;
	relay.active = PQgetvalue(r, 0, 0)[0] == 't';
	PQclear(r);
	return STATUS_OK;
}

static enum status position_load(void)
{
	PGresult *r = NULL;
	enum status s = exec(&r, "SELECT xid, id, stream_seq FROM %1$s.outbox_position", 0, NULL);

	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) != 1 || !str_to_u64(str_of(PQgetvalue(r, 0, 0)), &relay.at.xid) || !str_to_i64(str_of(PQgetvalue(r, 0, 1)), &relay.at.id) ||
	    !str_to_i64(str_of(PQgetvalue(r, 0, 2)), &relay.at.stream_seq))
		s = STATUS_INTERNAL;
	PQclear(r);
	return s;
}

/*
 * The rows in order, straight from the indexes of the days. Statistics lag behind a table that is only appended to: by them nothing
 * is behind the position, so that sorting looks cheap to the planner, and with a backlog each batch would sort all of it.
 */
static enum status plan_for_order(void)
{
	return exec(NULL, "SELECT set_config('enable_sort', 'off', false), set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),"
		" set_config('plan_cache_mode', 'force_generic_plan', false)", 0, NULL);
}

static enum status read_prepare(void)
{
	char sql[1500];
	PGresult *r;
	enum status s;

	snprintf(sql, sizeof sql, select_sql, relay.schema);
	r = PQprepare(relay.conn, "read", sql, 0, NULL);
	s = pgconn_status(relay.conn, r);
	PQclear(r);
	return s;
}

/* OK with relay.active false: another process of the service relays. */
static enum status connect_and_lock(void)
{
	enum status s;

	if (relay.active)
		return STATUS_OK;
	if (!relay.conn)
		relay.conn = pgconn_open(relay.database_url, "crm-relay", STATEMENT_TIMEOUT_MS);
	if (!relay.conn)
		return STATUS_UNAVAILABLE;
	s = lock_try();
	if (s == STATUS_OK && relay.active)
		s = position_load();
	if (s == STATUS_OK && relay.active)
		s = plan_for_order();
	if (s == STATUS_OK && relay.active)
		s = read_prepare();
	return s;
}

/* -- from rows to events */

static struct str cell(const PGresult *r, int row, int col)
{
	return (struct str){ PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col) };
}

static int64_t cell_number(const PGresult *r, int row, int col)
{
	int64_t v = 0;

	return str_to_i64(cell(r, row, col), &v) ? v : 0;
}

static struct event *event_of_row(const PGresult *r, int row)
{
	struct event *e = ARENA_NEW(&relay.arena, struct event);

	e->id = cell(r, row, C_EVENT_ID);
	e->type = cell(r, row, C_TYPE);
	e->source = str_of(relay.source);
	e->time_us = cell_number(r, row, C_TIME);
	e->tenant_id = cell(r, row, C_TENANT);
	e->entity = cell(r, row, C_ENTITY);
	e->entity_id = cell(r, row, C_ENTITY_ID);
	e->entity_seq = cell_number(r, row, C_ENTITY_SEQ);
	e->version = (uint64_t)cell_number(r, row, C_VERSION);
	e->stream_seq = relay.at.stream_seq + 1 + row;
	e->user_id = cell(r, row, C_USER);
	e->api_key_id = cell(r, row, C_API_KEY);
	e->request_id = cell(r, row, C_REQUEST);
	e->traceparent = cell(r, row, C_TRACEPARENT);
	e->dialect = cell(r, row, C_DIALECT);
	e->client_ip = cell(r, row, C_CLIENT_IP);
	e->user_agent = cell(r, row, C_USER_AGENT);
	return e;
}

/*
 * The row's stored traceparent is the span of the call that wrote it; the event goes out as a child of that, so that whoever consumes it
 * is a child of the publishing. NULL: not traced.
 */
static struct span *publish_span(struct event *e)
{
	struct trace_context parent;
	struct span *s;
	char *text;

	if (!trace_on || !trace_continue(e->traceparent, &parent))
		return NULL;
	s = arena_alloc(&relay.arena, sizeof(*s));
	span_begin(s, &parent, SPAN_PRODUCER, str_of(arena_printf(&relay.arena, "send %s", relay.topic)));
	span_text(s, "messaging.system", bus_is_postgres(relay.bus_url) ? STR("postgresql") : STR("kafka"));
	span_text(s, "messaging.operation.type", STR("send"));
	span_text(s, "messaging.destination.name", str_of(relay.topic));
	span_text(s, "messaging.message.id", e->id);
	span_text(s, "crm.event.type", e->type);
	span_text(s, "crm.tenant.id", e->tenant_id);
	span_int(s, "crm.outbox.wait_us", clock_us() - e->time_us);
	text = arena_alloc(&relay.arena, TRACEPARENT + 1);
	trace_print(&s->at, text);
	e->traceparent = (struct str){ text, TRACEPARENT };
	return s;
}

static struct span *record_of_row(const PGresult *r, int row, struct bus_record *out)
{
	struct event *e = event_of_row(r, row);
	const struct schema_message *m = entity_message(relay.messages, e->entity);
	struct span *span = publish_span(e);

	log_context(e->traceparent, e->request_id, e->tenant_id);
	if (!entity_describe(&relay.arena, m, cell(r, row, C_BEFORE), cell(r, row, C_AFTER), e))
		log_error("RELAY-ROW", "event %.*s: its row is no JSON object, it goes out without values", STR_FMT(e->id));
	buf_clear(&relay.encoded);
	event_encode(&relay.encoded, e);
	if (relay.encoded.n > BUS_MAX_VALUE) {
		log_error("RELAY-ROW", "event %.*s is too large for the bus, it goes out without values", STR_FMT(e->id));
		e->before = e->after = e->data = (struct str){ 0 };
		buf_clear(&relay.encoded);
		event_encode(&relay.encoded, e);
	}
	event_record(&relay.arena, e, relay.topic, arena_str(&relay.arena, buf_view(&relay.encoded)), out);
	log_debug("RELAY-EVENT", "%.*s %.*s", STR_FMT(e->type), STR_FMT(e->id));
	log_context_clear();
	return span;
}

/* -- one round */

static enum status rows_read(PGresult **r)
{
	char xid[24], id[24], limit[12];
	const char *params[] = { xid, id, limit };
	enum status s;

	snprintf(xid, sizeof xid, "%llu", (unsigned long long)relay.at.xid);
	snprintf(id, sizeof id, "%lld", (long long)relay.at.id);
	snprintf(limit, sizeof limit, "%d", BATCH);
	*r = PQexecPrepared(relay.conn, "read", 3, params, NULL, NULL, 0);
	s = pgconn_status(relay.conn, *r);
	if (s != STATUS_OK) {
		PQclear(*r);
		*r = NULL;
	}
	return s;
}

/* The old position is in the WHERE: whoever lost the lock without noticing changes nothing. */
static enum status position_store(struct position next)
{
	char text[5][24];
	const char *params[] = { text[0], text[1], text[2], text[3], text[4] };
	PGresult *r = NULL;
	enum status s;

	snprintf(text[0], sizeof text[0], "%llu", (unsigned long long)next.xid);
	snprintf(text[1], sizeof text[1], "%lld", (long long)next.id);
	snprintf(text[2], sizeof text[2], "%lld", (long long)next.stream_seq);
	snprintf(text[3], sizeof text[3], "%llu", (unsigned long long)relay.at.xid);
	snprintf(text[4], sizeof text[4], "%lld", (long long)relay.at.id);
	s = exec(&r,
	    "UPDATE %1$s.outbox_position SET xid = $1::xid8, id = $2::bigint, stream_seq = $3::bigint, updated_at = now()"
	    " WHERE xid = $4::xid8 AND id = $5::bigint",
	    5, params);
	if (s != STATUS_OK)
		return s;
	if (strcmp(PQcmdTuples(r), "1"))
		s = STATUS_CONFLICT;
	PQclear(r);
	if (s == STATUS_OK)
		relay.at = next;
	return s;
}

static enum status publish_rows(const PGresult *r, int n)
{
	struct bus_record *records;
	struct span **spans;
	enum status s;

	arena_reset(&relay.arena);
	records = arena_alloc(&relay.arena, (size_t)n * sizeof *records);
	spans = arena_alloc(&relay.arena, (size_t)n * sizeof *spans);
	for (int i = 0; i < n; i++)
		spans[i] = record_of_row(r, i, &records[i]);
	s = bus_producer_publish(relay.producer, records, (size_t)n);
	for (int i = 0; s == STATUS_OK && i < n; i++) /* what failed is published again, as another span */
		if (spans[i])
			span_end(spans[i]);
	return s;
}

static enum status bus_ready(void)
{
	enum status s;

	if (!relay.topic_ready) {
		s = bus_topic_create(relay.bus_url, relay.topic);
		if (s != STATUS_OK)
			return s;
		relay.topic_ready = true;
	}
	if (!relay.producer)
		relay.producer = bus_producer_new(relay.bus_url);
	return STATUS_OK;
}

/* A batch: read, publish, move the position. *n: how many. */
static enum status carry(int *n)
{
	PGresult *r = NULL;
	enum status s = rows_read(&r);
	struct position next = relay.at;

	*n = 0;
	if (s != STATUS_OK)
		return s;
	*n = PQntuples(r);
	if (*n == 0)
		goto out;
	fault_point("before_publish");
	s = bus_ready();
	if (s == STATUS_OK)
		s = publish_rows(r, *n);
	if (s != STATUS_OK) {
		relay.topic_ready = false; /* a broker that was replaced has none */
		goto out;
	}
	fault_point("after_publish");
	next.id = cell_number(r, *n - 1, C_ID);
	next.stream_seq += *n;
	s = str_to_u64(cell(r, *n - 1, C_XID), &next.xid) ? position_store(next) : STATUS_INTERNAL;
out:
	PQclear(r);
	return s;
}

static enum status lag_measure(void)
{
	char xid[24], id[24];
	const char *params[] = { xid, id };
	PGresult *r = NULL;
	enum status s;

	if (clock_mono_us() < relay.lag_at)
		return STATUS_OK;
	relay.lag_at = clock_mono_us() + LAG_EVERY_US;
	snprintf(xid, sizeof xid, "%llu", (unsigned long long)relay.at.xid);
	snprintf(id, sizeof id, "%lld", (long long)relay.at.id);
	s = exec(&r,
	    "SELECT count(*), coalesce((extract(epoch FROM clock_timestamp() - min(created_at)) * 1000)::bigint, 0) FROM"
	    " (SELECT created_at FROM %1$s.outbox WHERE (xid, id) > ($1::xid8, $2::bigint) ORDER BY xid, id LIMIT 100000) waiting",
	    2, params);
	if (s != STATUS_OK)
		return s;
	pthread_mutex_lock(&relay.lock);
	relay.stats.lag_rows = cell_number(r, 0, 0);
	relay.stats.lag_seconds = (double)cell_number(r, 0, 1) / 1000;
	pthread_mutex_unlock(&relay.lock);
	PQclear(r);
	return STATUS_OK;
}

static enum status round_once(int *n)
{
	enum status s = connect_and_lock();

	*n = 0;
	if (s == STATUS_OK && relay.active)
		s = carry(n);
	if (s == STATUS_OK && relay.active)
		s = lag_measure();
	if (s != STATUS_OK)
		disconnect(); /* gives the lock to whoever gets through */
	stats_round(relay.active, s == STATUS_OK, s == STATUS_OK ? (uint64_t)*n : 0);
	return s;
}

/* -- the thread */

/* True when woken. */
static bool sleep_or_wake(int ms)
{
	struct pollfd p = { .fd = relay.wake_fd, .events = POLLIN };
	uint64_t count;
	bool woken = poll(&p, 1, ms) > 0;

	if (woken && read(relay.wake_fd, &count, sizeof count) < 0)
		return false;
	return woken;
}

static int grow(int ms, int min, int max)
{
	ms = ms * 2;
	return ms < min ? min : ms > max ? max : ms;
}

static void pause_after(enum status s, int n, int *idle_ms, int *failure_ms)
{
	if (s != STATUS_OK) {
		*failure_ms = grow(*failure_ms, FAILURE_MIN_MS, FAILURE_MAX_MS);
		log_warn("RELAY-WAITS", "%s: %s, again in %d ms", relay.topic, status_name(s), *failure_ms);
		for (int64_t until = clock_mono_us() + *failure_ms * 1000LL; clock_mono_us() < until && !__atomic_load_n(&relay.stop, __ATOMIC_ACQUIRE);)
			poll(NULL, 0, 50); /* being woken does not mend it */
		return;
	}
	*failure_ms = 0;
	if (!relay.active) {
		poll(NULL, 0, STANDBY_MS);
		return;
	}
	if (n == BATCH)
		return;
	*idle_ms = n ? IDLE_MIN_MS : grow(*idle_ms, IDLE_MIN_MS, IDLE_MAX_MS);
	if (sleep_or_wake(*idle_ms)) {
		*idle_ms = IDLE_MIN_MS / 2;
		poll(NULL, 0, GATHER_MS);
	}
}

static void *run(void *arg)
{
	int idle_ms = 0, failure_ms = 0, n;

	while (!__atomic_load_n(&relay.stop, __ATOMIC_ACQUIRE)) {
		enum status s = round_once(&n);

		pause_after(s, n, &idle_ms, &failure_ms);
	}
	disconnect();
	bus_producer_free(relay.producer);
	relay.producer = NULL;
	arena_fini(&relay.arena);
	buf_fini(&relay.encoded);
	return NULL;
}

static struct schema *schema_of(const char *dir, const char *schema)
{
	struct arena a = { 0 };
	const char *paths[] = { arena_printf(&a, "%s/common.pb", dir), arena_printf(&a, "%s/%s.pb", dir, schema) };
	struct schema *s = schema_load(paths, 2);

	arena_fini(&a);
	return s;
}

static void check_name(const char *schema)
{
	if (!*schema || strlen(schema) > 40 || schema[strspn(schema, "abcdefghijklmnopqrstuvwxyz_")])
		log_die("RELAY-SCHEMA", "'%s' is no schema name", schema);
}

void relay_start(const struct relay_config *c)
{
	sigset_t all, old;

	check_name(c->schema);
	relay.schema = xstrdup(c->schema);
	relay.database_url = xstrdup(c->relay_database_url);
	relay.bus_url = xstrdup(c->bus_url);
	snprintf(relay.topic, sizeof relay.topic, "crm.%s.v1", c->schema);
	snprintf(relay.source, sizeof relay.source, "/svc-%s", c->schema);
	relay.messages = schema_of(c->descriptor_dir, c->schema);
	if (relay.wake_fd < 0) /* kept after a stop: somebody may still be in relay_wake */
		relay.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (relay.wake_fd < 0)
		log_die("RELAY-START", "eventfd: %m");
	__atomic_store_n(&relay.stop, false, __ATOMIC_RELEASE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&relay.thread, NULL, run, NULL))
		log_die("RELAY-START", "cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	__atomic_store_n(&relay.running, true, __ATOMIC_RELEASE);
}

void relay_wake(void)
{
	static const uint64_t one = 1;

	if (__atomic_load_n(&relay.running, __ATOMIC_ACQUIRE) && write(relay.wake_fd, &one, sizeof one) < 0)
		return; /* the counter is full: it is awake */
}

void relay_stop(void)
{
	struct timespec until;

	if (!__atomic_load_n(&relay.running, __ATOMIC_ACQUIRE))
		return;
	__atomic_store_n(&relay.stop, true, __ATOMIC_RELEASE);
	relay_wake();
	__atomic_store_n(&relay.running, false, __ATOMIC_RELEASE);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	if (pthread_timedjoin_np(relay.thread, NULL, &until)) {
		log_warn("RELAY-STOP", "a batch is still on its way; it will be sent again");
		return;
	}
	schema_free(relay.messages);
	free(relay.schema);
	free(relay.database_url);
	free(relay.bus_url);
	relay.topic_ready = false;
}
