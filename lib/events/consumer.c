/* Reads the bus and has the effect of each event exactly once: inbox, effect and commit in one transaction. */
#include "events/consumer.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/fault.h"
#include "base/log.h"
#include "events/bus.h"
#include "events/pgconn.h"
#include "telemetry/trace.h"

#define BATCH 250
#define POLL_MS 500
#define TRIES 5
#define TRY_PAUSE_MS 50 /* 50, 100, 200, 400 between the five: those behind it wait less than 1 s */
#define FAILURE_MIN_MS 200
#define FAILURE_MAX_MS 800 /* back within 1 s of what it waits for */
#define STATEMENT_TIMEOUT_MS 30000
#define STUCK_US (60LL * 1000000)
#define DEAD_US (180LL * 1000000)
#define STOP_SECONDS 5
#define REASON_MAX 200

struct item {
	struct event event;
	const struct bus_message *message;
	bool valid; /* decodes */
	bool fresh; /* not in the inbox yet */
	bool handled; /* by the transaction in hand */
	struct trace_context parent; /* of the publisher; sampled: recorded here */
	struct span *span;           /* open while its transaction is; NULL: not traced */
	char traceparent[TRACEPARENT + 1]; /* of the span: the event carries it, so that what it causes is its child */
};

struct consumer {
	char *name, *bus_url, *database_url, *schema;
	char **topics;
	size_t n_topics;
	enum status (*handle)(void *arg, PGconn *conn, const struct event *const *events, size_t n);
	void (*committed)(void *arg, const struct event *const *events, size_t n);
	void *arg;

	pthread_t thread, watchdog;
	bool stop;           /* atomic */
	int64_t moved_at;    /* atomic, monotonic */
	bool through;        /* atomic: the last round got through */

	/* the thread's own */
	PGconn *conn;
	struct bus_consumer *bus;
	struct bus_producer *dead_letters;
	bool topics_ready;
	struct item *items;      /* [BATCH] */
	const struct event **run; /* [BATCH] */
	struct trace_context others[TRACE_SHARED_MOST]; /* whose statements these are, too */
	size_t n;

	pthread_mutex_t lock; /* guards stats, front_us */
	int64_t front_us;     /* wall clock: when the oldest event in hand came to be; 0: the last look found nothing */
	struct consumer_stats stats;
};

static bool stopping(struct consumer *c)
{
	return __atomic_load_n(&c->stop, __ATOMIC_ACQUIRE);
}

static void moved(struct consumer *c)
{
	__atomic_store_n(&c->moved_at, clock_mono_us(), __ATOMIC_RELEASE);
}

static void count(struct consumer *c, uint64_t *what, uint64_t n)
{
	pthread_mutex_lock(&c->lock);
	*what += n;
	pthread_mutex_unlock(&c->lock);
}

static void pause_ms(struct consumer *c, int ms)
{
	for (int64_t until = clock_mono_us() + ms * 1000LL; clock_mono_us() < until && !stopping(c);) {
		moved(c);
		poll(NULL, 0, 50);
	}
}

/* -- the inbox */

/* Text of an array of the ids of items[from..to): ids are checked, so no quoting is needed. */
static void ids_print(struct consumer *c, size_t from, size_t to, struct buf *b)
{
	buf_c(b, '{');
	for (size_t i = from; i < to; i++) {
		if (!c->items[i].valid)
			continue;
		if (b->n > 1)
			buf_c(b, ',');
		buf_str(b, c->items[i].event.id);
	}
	buf_c(b, '}');
}

static void mark_fresh(struct consumer *c, size_t from, size_t to, struct str id)
{
	for (size_t i = from; i < to; i++) {
		/* an id that stands twice in a batch is fresh once */
		if (c->items[i].valid && str_ieq(c->items[i].event.id, id)) {
			c->items[i].fresh = true;
			return;
		}
	}
}

static enum status inbox_insert(struct consumer *c, size_t from, size_t to)
{
	struct buf ids = { 0 };
	char sql[300];
	const char *params[2] = { c->name };
	PGresult *r = NULL;
	enum status s;

	ids_print(c, from, to, &ids);
	params[1] = buf_cstr(&ids);
	snprintf(sql, sizeof sql, "INSERT INTO %s.inbox (consumer, event_id) SELECT $1, i FROM (SELECT DISTINCT unnest($2::uuid[]) AS i ORDER BY 1) AS ids"
		" ON CONFLICT DO NOTHING RETURNING event_id", c->schema);
	s = pgconn_exec(c->conn, &r, sql, 2, params);
	buf_fini(&ids);
	if (s != STATUS_OK)
		return s;
	for (size_t i = from; i < to; i++)
		c->items[i].fresh = false;
	for (int i = 0; i < PQntuples(r); i++)
		mark_fresh(c, from, to, str_of(PQgetvalue(r, i, 0)));
	PQclear(r);
	return STATUS_OK;
}

/* -- the effect */

static enum status tenant_set(struct consumer *c, struct str tenant)
{
	char id[UUID_TEXT + 1];
	const char *params[] = { id };

	if (!uuid_parse(tenant, id))
		return STATUS_BAD_REQUEST;
	return pgconn_exec(c->conn, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params);
}

/* -- traces: a span per event; the statements of a batch are in the trace of each, up to TRACE_SHARED_MOST */

static void spans_begin(struct consumer *c, size_t from, size_t to)
{
	char name[100];

	for (size_t i = from; i < to; i++) {
		struct item *it = &c->items[i];

		it->handled = false;
		if (!it->parent.sampled)
			continue;
		snprintf(name, sizeof name, "process %s", it->message->record.topic);
		it->span = xmalloc(sizeof(*it->span));
		span_begin(it->span, &it->parent, SPAN_CONSUMER, str_of(name));
		trace_print(&it->span->at, it->traceparent);
		it->event.traceparent = (struct str){ it->traceparent, TRACEPARENT };
	}
}

/* What follows is done for the traced events of items[from..to), of this tenant (empty: of all). */
static void spans_enter(struct consumer *c, size_t from, size_t to, struct str tenant)
{
	const struct span *first = NULL;
	size_t n = 0;

	for (size_t i = from; i < to; i++) {
		struct span *s = c->items[i].span;

		if (!s || (tenant.n && !str_ieq(c->items[i].event.tenant_id, tenant)))
			continue;
		if (!first)
			first = s;
		else if (n < TRACE_SHARED_MOST)
			c->others[n++] = s->at;
		else
			span_link(s, &first->at); /* there are its statements */
	}
	trace_here = first ? first->at : (struct trace_context){ 0 };
	trace_share(c->others, n);
}

static void span_finish(struct consumer *c, struct item *it, size_t n, enum status s)
{
	span_text(it->span, "messaging.system", bus_is_postgres(c->bus_url) ? STR("postgresql") : STR("kafka"));
	span_text(it->span, "messaging.operation.type", STR("process"));
	span_text(it->span, "messaging.destination.name", str_of(it->message->record.topic));
	span_text(it->span, "messaging.consumer.group.name", str_of(c->name));
	span_text(it->span, "messaging.message.id", it->event.id);
	span_int(it->span, "messaging.batch.message_count", (int64_t)n);
	span_text(it->span, "crm.event.type", it->event.type);
	span_text(it->span, "crm.tenant.id", it->event.tenant_id);
	it->span->error = s != STATUS_OK;
	span_end(it->span);
}

/* A batch that failed is tried again event by event: those are the spans that tell. */
static void spans_end(struct consumer *c, size_t from, size_t to, enum status s)
{
	trace_here.sampled = false;
	trace_share(NULL, 0);
	for (size_t i = from; i < to; i++) {
		struct item *it = &c->items[i];

		if (it->span && it->handled && (s == STATUS_OK || to - from == 1))
			span_finish(c, it, to - from, s);
		free(it->span);
		it->span = NULL;
	}
}

/* All fresh events of the tenant of items[first], which are handled together; they are marked done by fresh = false. */
static enum status handle_tenant(struct consumer *c, size_t first, size_t to)
{
	struct str tenant = c->items[first].event.tenant_id;
	enum status s = tenant_set(c, tenant);
	size_t n = 0;

	for (size_t i = first; i < to; i++) {
		struct item *it = &c->items[i];

		if (!it->fresh || !str_ieq(it->event.tenant_id, tenant))
			continue;
		it->fresh = false;
		it->handled = true;
		c->run[n++] = &it->event;
	}
	return s == STATUS_OK ? c->handle(c->arg, c->conn, c->run, n) : s;
}

/* With the ids of the one event, or of the tenant that they are of, in what is logged, and in their traces. */
static enum status handle_in_context(struct consumer *c, size_t first, size_t from, size_t to)
{
	const struct event *e = &c->items[first].event;
	bool one = to - from == 1;
	enum status s;

	log_context(one ? e->traceparent : (struct str){ 0 }, one ? e->request_id : (struct str){ 0 }, e->tenant_id);
	if (trace_on)
		spans_enter(c, from, to, e->tenant_id);
	log_debug("CONSUMER-EVENTS", "%s: %zu at once, from %.*s %.*s on", c->name, to - from, STR_FMT(e->type), STR_FMT(e->id));
	s = handle_tenant(c, first, to);
	if (trace_on)
		spans_enter(c, from, to, (struct str){ 0 });
	log_context_clear();
	return s;
}

static bool is_before(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n ? strncasecmp(a.p, b.p, n) : 0;

	return order ? order < 0 : a.n < b.n;
}

/* The first event of the tenant with the lowest id whose events are still to be handled; to: there is none. */
static size_t next_tenant(const struct consumer *c, size_t from, size_t to)
{
	size_t first = to;

	for (size_t i = from; i < to; i++) {
		if (c->items[i].fresh && (first == to || is_before(c->items[i].event.tenant_id, c->items[first].event.tenant_id)))
			first = i;
	}
	return first;
}

/*
 * One transaction over items[from..to). Tenant after tenant in the order of their ids: instances that have events of the same tenants take
 * what these have one of, an audit chain, in the same order and never wait for each other in a circle.
 */
static enum status transact(struct consumer *c, size_t from, size_t to)
{
	enum status s;
	size_t fresh = 0, first;

	fault_point("before_inbox");
	s = pgconn_begin(c->conn);
	if (s == STATUS_OK)
		s = inbox_insert(c, from, to);
	for (size_t i = from; s == STATUS_OK && i < to; i++)
		fresh += c->items[i].fresh;
	while (s == STATUS_OK && (first = next_tenant(c, from, to)) < to)
		s = handle_in_context(c, first, from, to);
	if (s == STATUS_OK)
		s = pgconn_commit(c->conn);
	if (s != STATUS_OK) {
		pgconn_rollback(c->conn);
		return PQstatus(c->conn) == CONNECTION_OK ? s : STATUS_UNAVAILABLE;
	}
	fault_point("after_inbox");
	for (size_t i = from; c->committed && i < to; i++)
		c->run[i - from] = &c->items[i].event;
	if (c->committed && to > from)
		c->committed(c->arg, c->run, to - from);
	count(c, &c->stats.events, fresh);
	count(c, &c->stats.duplicates, to - from - fresh);
	return STATUS_OK;
}

static enum status apply(struct consumer *c, size_t from, size_t to)
{
	enum status s;

	if (!trace_on)
		return transact(c, from, to);
	spans_begin(c, from, to);
	spans_enter(c, from, to, (struct str){ 0 });
	s = transact(c, from, to);
	spans_end(c, from, to, s);
	return s;
}

/* -- what cannot be done */

static enum status dead_letter_publish(struct consumer *c, const struct bus_message *m, const char *reason, int tries)
{
	char topic[300], number[3][24];
	struct bus_header headers[BUS_MAX_HEADERS];
	struct bus_record r = m->record;
	enum status s;

	snprintf(topic, sizeof topic, "%s.dlq", m->record.topic);
	snprintf(number[0], sizeof number[0], "%lld", (long long)m->position.major);
	snprintf(number[1], sizeof number[1], "%lld", (long long)m->position.minor);
	snprintf(number[2], sizeof number[2], "%d", tries);
	r.topic = topic;
	r.headers = headers;
	r.n_headers = 0;
	for (size_t i = 0; i < m->record.n_headers && i < BUS_MAX_HEADERS - 6; i++)
		headers[r.n_headers++] = m->record.headers[i];
	headers[r.n_headers++] = (struct bus_header){ "dlq_reason", str_of(reason) };
	headers[r.n_headers++] = (struct bus_header){ "dlq_consumer", str_of(c->name) };
	headers[r.n_headers++] = (struct bus_header){ "dlq_topic", str_of(m->record.topic) };
	headers[r.n_headers++] = (struct bus_header){ "dlq_position_major", str_of(number[0]) };
	headers[r.n_headers++] = (struct bus_header){ "dlq_position_minor", str_of(number[1]) };
	headers[r.n_headers++] = (struct bus_header){ "dlq_tries", str_of(number[2]) };
	s = bus_topic_create(c->bus_url, topic);
	if (s != STATUS_OK)
		return s;
	if (!c->dead_letters)
		c->dead_letters = bus_producer_new(c->bus_url);
	return bus_producer_publish(c->dead_letters, &r, 1);
}

/* Records of others may lack what our bus asks for. */
static void complete_record(struct bus_message *m, char id[UUID_TEXT + 1])
{
	if (!uuid_parse(m->record.event_id, NULL)) {
		uuid7(id);
		m->record.event_id = (struct str){ id, UUID_TEXT };
	}
	if (!m->record.key.n)
		m->record.key = m->record.event_id;
	if (m->record.value.n > BUS_MAX_VALUE)
		m->record.value.n = BUS_MAX_VALUE;
}

/* Marks the event as done, so that a second delivery does not reach the dlq again. */
static enum status inbox_mark(struct consumer *c, size_t i)
{
	enum status s = pgconn_begin(c->conn);

	if (s == STATUS_OK)
		s = inbox_insert(c, i, i + 1);
	c->items[i].fresh = false;
	if (s == STATUS_OK)
		s = pgconn_commit(c->conn);
	if (s != STATUS_OK)
		pgconn_rollback(c->conn);
	return s;
}

static enum status give_up(struct consumer *c, size_t i, const char *reason, int tries)
{
	char id[UUID_TEXT + 1];
	struct bus_message m = *c->items[i].message;
	enum status s;

	complete_record(&m, id);
	s = dead_letter_publish(c, &m, reason, tries);
	if (s != STATUS_OK)
		return s;
	log_error("CONSUMER-DEAD-LETTER", "%s: event %.*s of %s at %lld/%lld is in %s.dlq after %d tries: %s", c->name, STR_FMT(m.record.event_id),
	    m.record.topic, (long long)m.position.major, (long long)m.position.minor, m.record.topic, tries, reason);
	count(c, &c->stats.dead, 1);
	return c->items[i].valid ? inbox_mark(c, i) : STATUS_OK;
}

/* One event alone: up to TRIES times, then the dlq. Not OK: nothing is known to be done, start over later. */
static enum status apply_alone(struct consumer *c, size_t i)
{
	char reason[REASON_MAX];
	enum status s;

	if (!c->items[i].valid)
		return give_up(c, i, "the record is no event", 0);
	for (int tries = 1;; tries++) {
		s = apply(c, i, i + 1);
		if (s == STATUS_OK || s == STATUS_UNAVAILABLE)
			return s;
		count(c, &c->stats.retries, 1);
		if (tries == TRIES)
			break;
		pause_ms(c, TRY_PAUSE_MS << (tries - 1));
		if (stopping(c))
			return STATUS_UNAVAILABLE;
	}
	snprintf(reason, sizeof reason, "the handler answered %s", status_name(s));
	return give_up(c, i, reason, TRIES);
}

/* -- rounds */

static void decode(struct consumer *c, const struct bus_message *messages, size_t n)
{
	c->n = n;
	for (size_t i = 0; i < n; i++) {
		c->items[i].message = &messages[i];
		c->items[i].fresh = false;
		c->items[i].valid = event_decode(messages[i].record.value, &c->items[i].event);
		if (!c->items[i].valid || !trace_continue(c->items[i].event.traceparent, &c->items[i].parent))
			c->items[i].parent.sampled = false;
	}
}

static bool all_valid(const struct consumer *c)
{
	for (size_t i = 0; i < c->n; i++) {
		if (!c->items[i].valid)
			return false;
	}
	return true;
}

static enum status apply_batch(struct consumer *c)
{
	enum status s = all_valid(c) ? apply(c, 0, c->n) : STATUS_BAD_REQUEST;

	if (s == STATUS_OK || s == STATUS_UNAVAILABLE)
		return s;
	s = STATUS_OK;
	for (size_t i = 0; s == STATUS_OK && i < c->n; i++) {
		moved(c);
		s = apply_alone(c, i);
		if (s == STATUS_OK)
			s = bus_consumer_commit(c->bus, i + 1);
	}
	return s;
}

/* Stays until the next look, so that the age of what cannot be done grows. */
static void note_front(struct consumer *c, size_t n)
{
	int64_t front = 0;

	for (size_t i = 0; i < n && !front; i++)
		front = c->items[i].valid ? c->items[i].event.time_us : 0;
	pthread_mutex_lock(&c->lock);
	c->front_us = front;
	pthread_mutex_unlock(&c->lock);
}

static enum status topics_make(struct consumer *c)
{
	enum status s = STATUS_OK;

	for (size_t i = 0; s == STATUS_OK && !c->topics_ready && i < c->n_topics; i++)
		s = bus_topic_create(c->bus_url, c->topics[i]);
	if (s == STATUS_OK)
		c->topics_ready = true;
	return s;
}

static enum status connect_both(struct consumer *c)
{
	if (c->conn && PQstatus(c->conn) != CONNECTION_OK) {
		PQfinish(c->conn);
		c->conn = NULL;
	}
	if (!c->conn)
		c->conn = pgconn_open(c->database_url, c->name, STATEMENT_TIMEOUT_MS);
	if (!c->conn)
		return STATUS_UNAVAILABLE;
	if (!c->bus)
		c->bus = bus_consumer_new(c->bus_url, c->name, (const char *const *)c->topics, c->n_topics);
	return topics_make(c);
}

static enum status round_once(struct consumer *c)
{
	const struct bus_message *messages;
	size_t n = 0;
	enum status s = connect_both(c);

	if (s == STATUS_OK)
		s = bus_consumer_poll(c->bus, POLL_MS, BATCH, &messages, &n);
	if (s != STATUS_OK)
		c->topics_ready = false; /* a broker that was replaced has none */
	if (s == STATUS_OK && n == 0)
		note_front(c, 0);
	if (s != STATUS_OK || n == 0)
		return s;
	decode(c, messages, n);
	note_front(c, n);
	s = apply_batch(c);
	if (s == STATUS_OK)
		s = bus_consumer_commit(c->bus, n);
	if (s != STATUS_OK)
		bus_consumer_rewind(c->bus);
	return s;
}

static void *run(void *arg)
{
	struct consumer *c = arg;
	int failure_ms = 0;

	while (!stopping(c)) {
		enum status s = round_once(c);

		moved(c);
		__atomic_store_n(&c->through, s == STATUS_OK, __ATOMIC_RELEASE);
		if (s == STATUS_OK) {
			failure_ms = 0;
			continue;
		}
		count(c, &c->stats.failures, 1);
		failure_ms = failure_ms * 2 < FAILURE_MIN_MS ? FAILURE_MIN_MS : failure_ms * 2 > FAILURE_MAX_MS ? FAILURE_MAX_MS : failure_ms * 2;
		log_warn("CONSUMER-WAITS", "%s: %s, again in %d ms", c->name, status_name(s), failure_ms);
		pause_ms(c, failure_ms);
	}
	bus_consumer_free(c->bus);
	bus_producer_free(c->dead_letters);
	PQfinish(c->conn);
	return NULL;
}

/* librdkafka 2.0.2 and broken networks can hang a thread for ever; a supervisor starts the process again. */
static void *watch(void *arg)
{
	struct consumer *c = arg;
	bool told = false;

	while (!stopping(c)) {
		int64_t still = clock_mono_us() - __atomic_load_n(&c->moved_at, __ATOMIC_ACQUIRE);

		if (still > DEAD_US) {
			log_error("CONSUMER-DEAD", "%s has not moved for %lld s, the process ends", c->name, (long long)(still / 1000000));
			_exit(70);
		}
		if (still > STUCK_US && !told)
			log_error("CONSUMER-STUCK", "%s has not moved for %lld s", c->name, (long long)(still / 1000000));
		told = still > STUCK_US;
		poll(NULL, 0, 200);
	}
	return NULL;
}

static struct consumer *consumer_new(const struct consumer_config *cfg)
{
	struct consumer *c = xcalloc(1, sizeof *c);

	c->name = xstrdup(cfg->name);
	c->bus_url = xstrdup(cfg->bus_url);
	c->database_url = xstrdup(cfg->database_url);
	c->schema = xstrdup(cfg->schema);
	c->n_topics = cfg->n_topics;
	c->topics = xcalloc(cfg->n_topics, sizeof *c->topics);
	for (size_t i = 0; i < cfg->n_topics; i++)
		c->topics[i] = xstrdup(cfg->topics[i]);
	c->handle = cfg->handle;
	c->committed = cfg->committed;
	c->arg = cfg->arg;
	c->items = xcalloc(BATCH, sizeof *c->items);
	c->run = xcalloc(BATCH, sizeof *c->run);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

struct consumer *consumer_start(const struct consumer_config *cfg)
{
	struct consumer *c;
	sigset_t all, old;

	if (!*cfg->name || !cfg->n_topics || !*cfg->schema || cfg->schema[strspn(cfg->schema, "abcdefghijklmnopqrstuvwxyz_")])
		log_die("CONSUMER-START", "consumer '%s' needs a name, a schema and topics", cfg->name);
	c = consumer_new(cfg);
	moved(c);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&c->thread, NULL, run, c) || pthread_create(&c->watchdog, NULL, watch, c))
		log_die("CONSUMER-START", "cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return c;
}

struct consumer_stats consumer_stats(struct consumer *c)
{
	struct consumer_stats s;

	pthread_mutex_lock(&c->lock);
	s = c->stats;
	s.lag_seconds = c->front_us ? (double)(clock_us() - c->front_us) / 1e6 : 0;
	pthread_mutex_unlock(&c->lock);
	s.name = c->name;
	s.healthy = __atomic_load_n(&c->through, __ATOMIC_ACQUIRE) && clock_mono_us() - __atomic_load_n(&c->moved_at, __ATOMIC_ACQUIRE) < STUCK_US;
	return s;
}

void consumer_stop(struct consumer *c)
{
	struct timespec until;

	if (!c)
		return;
	__atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
	pthread_join(c->watchdog, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	if (pthread_timedjoin_np(c->thread, NULL, &until)) {
		log_warn("CONSUMER-STOP", "%s is still busy; what it has in hand comes again", c->name);
		return;
	}
	for (size_t i = 0; i < c->n_topics; i++)
		free(c->topics[i]);
	free(c->topics);
	free(c->items);
	free(c->run);
	free(c->name);
	free(c->bus_url);
	free(c->database_url);
	free(c->schema);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
