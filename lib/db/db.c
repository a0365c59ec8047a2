/* Submissions: copied, queued per kind, handed to the least busy connection, grouped per loop turn, answered in time. */
#include "db/db.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "db/link.h"
#include "db/outcome.h"
#include "db/trace.h"
#include "db/workers.h"
#include "telemetry/metrics.h"

#define NIL_UUID "00000000-0000-0000-0000-000000000000"
#define SWEEP_US 25000
#define DOWN_US 2000000  /* so long without a connection, what waits is answered UNAVAILABLE */
#define STUCK_US 5000000 /* beyond the statement timeout: the connection is dead */

static struct metric waits = { .name = "crm_db_wait_seconds", .help = "How long a submission waited for a connection, a handler for a worker", .type = METRIC_HISTOGRAM,
	.labels = { "kind" }, .bounds = db_wait_bounds, .n_bounds = DB_WAIT_BOUNDS };

const double db_wait_bounds[DB_WAIT_BOUNDS] = { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5 };

/* Made once and kept: the kinds are three. */
struct metric_series *db_wait_series(const char *kind)
{
	return metric_series(&waits, str_of(kind));
}

void db_job_waited(struct job *j)
{
	static struct metric_series *series[2];

	if (!j->put_us)
		return;
	if (!series[j->kind])
		series[j->kind] = db_wait_series(j->kind == DB_READ ? "read" : "write");
	metric_observe(series[j->kind], (double)(clock_mono_us() - j->put_us) / 1e6);
	j->put_us = 0;
}

static void queue_init(struct job_queue *q)
{
	*q = (struct job_queue){ .tail = &q->head };
}

static void queue_put(struct job_queue *q, struct job *j)
{
	j->next = NULL;
	*q->tail = j;
	q->tail = &j->next;
	q->n++;
}

static void queue_put_first(struct job_queue *q, struct job *j)
{
	j->next = q->head;
	if (!q->head)
		q->tail = &j->next;
	q->head = j;
	q->n++;
}

/* The first of the next few that is of this tenant, else the oldest. q is not empty. */
static struct job *queue_take_like(struct job_queue *q, const char *tenant)
{
	struct job **at = &q->head, *j;

	for (int i = 0; i < SAME_TENANT_WITHIN && *at && (strcmp((*at)->tenant, tenant) != 0 || (*at)->alone); i++)
		at = &(*at)->next;
	if (!*at || strcmp((*at)->tenant, tenant) != 0 || (*at)->alone)
		at = &q->head;
	j = *at;
	*at = j->next;
	if (q->tail == &j->next)
		q->tail = at;
	q->n--;
	return j;
}

static struct job *queue_take(struct job_queue *q)
{
	struct job *j = q->head;

	if (!j)
		return NULL;
	q->head = j->next;
	if (!q->head)
		q->tail = &q->head;
	q->n--;
	return j;
}

void db_job_clear(struct job *j)
{
	for (int i = 0; i < j->got; i++)
		PQclear(j->res[i]);
	j->got = 0;
}

static void job_answer(struct job *j)
{
	struct db_result r = { .status = j->status, .constraint = j->constraint, .sqlstate = j->sqlstate, .said = j->said };

	if (j->status == STATUS_OK) {
		r.res = j->res;
		r.n = j->n;
		r.row = j->row;
	}
	j->answered = true;
	if (j->span)
		db_trace_answered(j);
	context_enter(&j->context);
	j->done(j->arg, &r);
	context_leave();
}

void db_job_finish(struct db *d, struct job *j)
{
	if (!j->answered)
		job_answer(j);
	db_job_clear(j);
	free(j->said);
	free(j);
}

void db_job_late(struct db *d, struct job *j)
{
	queue_put(&d->late, j);
	db_turn_later(d);
}

static void job_late(struct db *d, struct job *j, enum status status)
{
	j->status = status;
	db_job_late(d, j);
}

void db_job_again(struct db *d, struct job *j)
{
	db_job_clear(j);
	j->mate = NULL;
	j->mates = 0;
	j->sqlstate[0] = j->constraint[0] = 0;
	free(j->said);
	j->said = NULL;
	if (j->answered)
		db_job_late(d, j);
	else
		queue_put_first(&d->queue[j->kind], j);
}

void db_turn_later(struct db *d)
{
	if (d->turn_pending)
		return;
	d->turn_pending = true;
	event_active(d->turn, EV_TIMEOUT, 0);
}

static void finish_late(struct db *d)
{
	struct job_queue now = d->late;

	if (!now.head)
		return;
	queue_init(&d->late);
	*now.tail = NULL;
	while (now.head) {
		struct job *j = now.head;

		now.head = j->next;
		db_job_finish(d, j);
	}
}

static struct link *least_busy(struct db *d, enum db_kind kind)
{
	int most = kind == DB_READ ? LINK_READS : LINK_WRITES;
	struct link *best = NULL;

	for (int i = 0; i < d->n_links; i++) {
		struct link *l = &d->links[i];

		if (l->kind == kind && l->state == LINK_UP && l->in_flight < most && (!best || l->in_flight < best->in_flight))
			best = l;
	}
	return best;
}

static void close_group(struct db *d)
{
	struct link *l = d->grouping;

	d->grouping = NULL;
	if (l)
		pipe_sync(l);
}

/* False: no connection has room. */
static bool send_read(struct db *d, struct job_queue *q)
{
	bool alone = q->head->alone;
	struct link *l = d->grouping;
	struct job *j;

	if (l && (alone || l->open >= GROUP_READS || l->in_flight >= LINK_READS))
		close_group(d);
	l = d->grouping ? d->grouping : least_busy(d, DB_READ);
	if (!l)
		return false;
	d->grouping = l;
	j = alone ? queue_take(q) : queue_take_like(q, l->tenant);
	if (j->lookup && !j->alone)
		lookup_gather(q, j, LINK_READS - l->in_flight - 1);
	pipe_send(l, j); /* may break the link, which ends the group */
	if (alone)
		close_group(d);
	else
		db_turn_later(d);
	return true;
}

static bool send_write(struct db *d, struct job_queue *q)
{
	struct link *l = least_busy(d, DB_WRITE);

	if (l)
		pipe_send(l, queue_take(q));
	return l != NULL;
}

void db_pump(struct db *d)
{
	for (int kind = DB_READ; kind <= DB_WRITE; kind++) {
		struct job_queue *q = &d->queue[kind];
		bool room = true;

		while (q->head && room) {
			if (q->head->deadline_us && clock_us() > q->head->deadline_us)
				job_late(d, queue_take(q), STATUS_DEADLINE_EXCEEDED);
			else
				room = kind == DB_READ ? send_read(d, q) : send_write(d, q);
		}
	}
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct db *d = arg;

	d->turn_pending = false;
	finish_late(d);
	db_pump(d);
	close_group(d);
}

/* -- time */

static void sweep_queue(struct db *d, enum db_kind kind, int64_t now)
{
	bool down = d->down_since_us[kind] && clock_mono_us() - d->down_since_us[kind] > DOWN_US;
	struct job_queue keep, *q = &d->queue[kind];

	queue_init(&keep);
	for (struct job *j = queue_take(q); j; j = queue_take(q)) {
		if (j->deadline_us && now > j->deadline_us)
			job_late(d, j, STATUS_DEADLINE_EXCEEDED);
		else if (down)
			job_late(d, j, STATUS_UNAVAILABLE);
		else
			queue_put(&keep, j);
	}
	while (keep.head)
		queue_put(q, queue_take(&keep));
}

static void sweep_job(struct job *j, int64_t now)
{
	if (j->answered || !j->deadline_us || now <= j->deadline_us)
		return;
	j->status = STATUS_DEADLINE_EXCEEDED;
	job_answer(j);
}

/* done may submit, which may grow the ring: by index, read anew each time. */
static void sweep_link(struct db *d, struct link *l, int64_t now)
{
	int64_t patience = (int64_t)d->config.statement_timeout_ms * 1000 + STUCK_US;

	for (unsigned i = l->head; i != l->tail; i++) {
		const struct slot *s = &l->slots[i & l->mask];

		if (!s->last)
			continue;
		for (struct job *j = s->job; j; j = j->mate)
			sweep_job(j, now);
	}
	if (l->state == LINK_UP && l->head != l->tail && clock_mono_us() - l->progress_us > patience)
		link_break(l, "no answer to a statement");
}

static bool is_idle(const struct db *d)
{
	for (int i = 0; i < d->n_links; i++) {
		if (d->links[i].head != d->links[i].tail)
			return false;
	}
	return d->queue[DB_READ].n + d->queue[DB_WRITE].n == 0;
}

static void sweep_later(struct db *d)
{
	struct timeval t = { 0, SWEEP_US };

	if (d->sweeping)
		return;
	d->sweeping = true;
	evtimer_add(d->sweep, &t);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct db *d = arg;
	int64_t now = clock_us();

	d->sweeping = false;
	sweep_queue(d, DB_READ, now);
	sweep_queue(d, DB_WRITE, now);
	for (int i = 0; i < d->n_links; i++)
		sweep_link(d, &d->links[i], now);
	finish_late(d);
	if (!is_idle(d))
		sweep_later(d);
}

/* -- submissions */

static size_t stmt_size(const struct db_stmt *s)
{
	size_t n = s->sql.n + 1 + (size_t)s->n_params * sizeof(char *);

	for (int i = 0; i < s->n_params; i++)
		n += s->params[i] ? strlen(s->params[i]) + 1 : 0;
	return n + sizeof(char *);
}

static char *put_text(char *at, const char *p, size_t n)
{
	memcpy(at, p, n);
	at[n] = 0;
	return at + n + 1;
}

static char *copy_stmt(struct job_stmt *to, const struct db_stmt *from, char *at)
{
	at = (char *)(((uintptr_t)at + sizeof(char *) - 1) & ~(uintptr_t)(sizeof(char *) - 1));
	to->params = (const char **)(void *)at;
	to->n_params = from->n_params;
	at += (size_t)from->n_params * sizeof(char *);
	to->sql = (struct str){ at, from->sql.n };
	to->hash = statements_hash(from->sql);
	at = put_text(at, from->sql.p, from->sql.n);
	for (int i = 0; i < from->n_params; i++) {
		to->params[i] = from->params[i] ? at : NULL;
		if (from->params[i])
			at = put_text(at, from->params[i], strlen(from->params[i]));
	}
	return at;
}

static void job_tenant(struct job *j, struct str tenant)
{
	if (!uuid_parse(tenant, j->tenant))
		memcpy(j->tenant, NIL_UUID, sizeof(j->tenant));
}

/* One block of memory: job, statements, parameters. */
static struct job *job_new(struct str tenant, struct str scope, const struct db_stmt *stmts, int n)
{
	size_t size = sizeof(struct job) + (size_t)n * sizeof(struct job_stmt) + (scope.n ? scope.n + 1 : 0);
	struct job *j;
	char *at;

	for (int i = 0; i < n; i++)
		size += stmt_size(&stmts[i]);
	j = xmalloc(size);
	memset(j, 0, sizeof(*j));
	j->n = n;
	at = (char *)&j->stmts[n];
	for (int i = 0; i < n; i++)
		at = copy_stmt(&j->stmts[i], &stmts[i], at);
	if (scope.n) {
		j->scope = at;
		put_text(at, scope.p, scope.n);
	}
	job_tenant(j, tenant);
	return j;
}

/* It is done for whom this thread works for now. */
static void job_context(struct job *j)
{
	context_take(&j->context);
	if (trace_here.sampled)
		db_trace_begin(j);
}

static bool is_acceptable(const struct db_stmt *stmts, int n)
{
	if (n < 1 || n > DB_MAX_STMTS)
		return false;
	for (int i = 0; i < n; i++) {
		if (stmts[i].n_params < 0 || stmts[i].n_params > DB_MAX_PARAMS)
			return false;
	}
	return true;
}

static void job_put(struct db *d, struct job *j)
{
	enum db_kind kind = j->kind;
	struct job_queue *q = &d->queue[kind];

	if (q->n >= DB_MAX_WAITING || (d->down_since_us[kind] && clock_mono_us() - d->down_since_us[kind] > DOWN_US)) {
		job_late(d, j, STATUS_UNAVAILABLE);
		return;
	}
	j->put_us = clock_mono_us();
	queue_put(q, j);
	sweep_later(d);
	/* reads wait for the end of the turn, so that those of one tenant come to stand together */
	if (kind == DB_READ)
		db_turn_later(d);
	else
		db_pump(d);
}

void db_submit(struct db *d, enum db_kind kind, struct str tenant, const struct db_stmt *stmts, int n, int64_t deadline_us, db_done done, void *arg)
{
	db_submit_as(d, kind, tenant, (struct str){ 0 }, stmts, n, deadline_us, done, arg);
}

void db_submit_as(struct db *d, enum db_kind kind, struct str tenant, struct str scope, const struct db_stmt *stmts, int n, int64_t deadline_us,
    db_done done, void *arg)
{
	bool acceptable = is_acceptable(stmts, n);
	struct job *j = job_new(tenant, scope, stmts, acceptable ? n : 0);

	j->kind = kind;
	j->deadline_us = deadline_us;
	j->done = done;
	j->arg = arg;
	job_context(j);
	if (acceptable) {
		job_put(d, j);
		return;
	}
	log_error("DB-SUBMIT", "more than %d statements or %d parameters", DB_MAX_STMTS, DB_MAX_PARAMS);
	job_late(d, j, STATUS_INTERNAL);
}

void db_lookup(struct db *d, struct str tenant, struct str scope, const struct db_lookup *l, const char *key, int64_t deadline_us, db_done done, void *arg)
{
	struct job *j = lookup_new(l, key, scope);

	job_tenant(j, tenant);
	j->deadline_us = deadline_us;
	j->done = done;
	j->arg = arg;
	job_context(j);
	if (j->stmts[0].params[0])
		job_put(d, j);
	else
		job_late(d, j, STATUS_NOT_FOUND);
}

/* -- the whole */

static bool is_up(const struct db *d, enum db_kind kind)
{
	for (int i = 0; i < d->n_links; i++) {
		if (d->links[i].kind == kind && d->links[i].state == LINK_UP)
			return true;
	}
	return false;
}

void db_link_changed(struct db *d, enum db_kind kind)
{
	if (is_up(d, kind))
		d->down_since_us[kind] = 0;
	else if (!d->down_since_us[kind])
		d->down_since_us[kind] = clock_mono_us();
}

bool db_healthy(const struct db *d)
{
	return !d->down_since_us[DB_READ] && !d->down_since_us[DB_WRITE];
}

struct db *db_new(struct event_base *base, const struct db_config *c)
{
	struct db *d = xcalloc(1, sizeof(*d));
	int reads = c->read_conns > 0 ? c->read_conns : 1, writes = c->write_conns > 0 ? c->write_conns : 1;

	d->base = base;
	d->config = *c;
	d->url = xstrdup(c->url);
	d->config.url = d->url;
	if (d->config.statement_timeout_ms <= 0)
		d->config.statement_timeout_ms = 10000;
	queue_init(&d->queue[DB_READ]);
	queue_init(&d->queue[DB_WRITE]);
	queue_init(&d->late);
	d->turn = event_new(base, -1, 0, on_turn, d);
	d->sweep = evtimer_new(base, on_sweep, d);
	d->down_since_us[DB_READ] = d->down_since_us[DB_WRITE] = clock_mono_us();
	d->n_links = reads + writes;
	d->links = xcalloc((size_t)d->n_links, sizeof(*d->links));
	for (int i = 0; i < d->n_links; i++)
		link_init(&d->links[i], d, i < reads ? DB_READ : DB_WRITE);
	db_wait_series("read"); /* known before they are needed */
	db_wait_series("write");
	if (c->workers > 0)
		d->workers = workers_new(d->url, c->workers, d->config.statement_timeout_ms);
	return d;
}

void db_free(struct db *d)
{
	d->grouping = NULL;
	for (int i = 0; i < d->n_links; i++)
		link_fini(&d->links[i]);
	for (int kind = DB_READ; kind <= DB_WRITE; kind++) {
		while (d->queue[kind].head)
			job_late(d, queue_take(&d->queue[kind]), STATUS_UNAVAILABLE);
	}
	while (d->late.head)
		finish_late(d);
	if (d->workers)
		workers_free(d->workers);
	event_free(d->turn);
	event_free(d->sweep);
	free(d->links);
	free(d->url);
	free(d);
}

struct db_stats db_stats_get(const struct db *d)
{
	struct db_stats s = d->stats;

	s.reads_waiting = d->queue[DB_READ].n;
	s.writes_waiting = d->queue[DB_WRITE].n;
	s.connections = d->n_links;
	if (d->workers)
		workers_stats(d->workers, &s);
	return s;
}

bool db_work(struct db *d, void (*job)(struct db_conn *c, void *arg), void *arg)
{
	return d->workers && workers_put(d->workers, job, arg);
}

bool db_check(const struct db *d, struct str sql, char *why, size_t why_size)
{
	struct db_connect_params p;
	char *text = xstrndup(sql.p, sql.n);
	PGresult *r;
	PGconn *c;
	bool good;

	db_connect_params(&p, d->url, d->config.statement_timeout_ms, true, "crm-check");
	c = PQconnectdbParams(p.keys, p.values, 1);
	r = PQprepare(c, "", text, 0, NULL);
	good = PQresultStatus(r) == PGRES_COMMAND_OK;
	snprintf(why, why_size, "%s", good ? "" : PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
	free(text);
	return good;
}
