/* Handlers: a bounded queue, worker threads, and straight-line transactions on a blocking connection. */
#include "db/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/fault.h"
#include "base/log.h"
#include "db/outcome.h"
#include "db/statements.h"
#include "db/trace.h"
#include "telemetry/context.h"
#include "telemetry/metrics.h"

#define NIL_UUID "00000000-0000-0000-0000-000000000000"
#define RECONNECT_US 200000 /* at most so often per worker */
#define AGAIN_MAX 32         /* statements that a worker keeps prepared */

struct db_conn {
	struct workers *w;
	pthread_t thread;
	PGconn *c;
	struct statements again; /* of db_exec_again */
	int64_t tried_us;
	bool in_tx;
	struct str scope;   /* of the job */
	enum status failed; /* STATUS_OK: nothing has failed since begin */
	char sqlstate[6], constraint[64];
	bool has_said;
	struct db_said said;
};

struct worker_job {
	int64_t put_us; /* monotonic */
	void (*run)(struct db_conn *c, void *arg);
	void *arg;
	struct context context; /* of who put it there */
};

struct workers {
	char *url;
	int n, statement_timeout_ms;
	struct db_conn *conns;
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct worker_job jobs[DB_MAX_JOBS];
	unsigned head, tail;
	bool stopping;
	unsigned running;
	struct metric_series *waits;
	uint64_t run, statements, errors, reconnects;
};

static void count(uint64_t *at)
{
	__atomic_add_fetch(at, 1, __ATOMIC_RELAXED);
}

static void ignore_notice(void *arg, const char *message)
{
}

static void disconnect(struct db_conn *c)
{
	if (c->c)
		PQfinish(c->c);
	c->c = NULL;
	c->in_tx = false;
	statements_clear(&c->again);
}

static bool connect_again(struct db_conn *c)
{
	struct db_connect_params p;

	if (c->c && PQstatus(c->c) == CONNECTION_OK)
		return true;
	if (c->tried_us && clock_mono_us() - c->tried_us < RECONNECT_US)
		return false;
	if (c->tried_us)
		count(&c->w->reconnects);
	disconnect(c);
	db_connect_params(&p, c->w->url, c->w->statement_timeout_ms, false, "crm-handler");
	c->c = PQconnectdbParams(p.keys, p.values, 1);
	c->tried_us = clock_mono_us();
	PQsetNoticeProcessor(c->c, ignore_notice, NULL);
	if (PQstatus(c->c) == CONNECTION_OK)
		return true;
	log_warn("DB-DOWN", "a worker cannot connect: %.*s", (int)strcspn(PQerrorMessage(c->c), "\n"), PQerrorMessage(c->c));
	disconnect(c);
	return false;
}

static enum status fail(struct db_conn *c, enum status status, const char *sqlstate)
{
	c->failed = status;
	snprintf(c->sqlstate, sizeof(c->sqlstate), "%s", sqlstate);
	count(&c->w->errors);
	return status;
}

static enum status fail_result(struct db_conn *c, const PGresult *r, const char *sql)
{
	char sqlstate[6];

	db_outcome_read(r, sqlstate, c->constraint);
	c->has_said = db_outcome_said(r, &c->said);
	if (c->scope.n && db_outcome_is_scope(sqlstate))
		return fail(c, STATUS_PERMISSION_DENIED, sqlstate);
	db_outcome_log(sqlstate, str_of(sql));
	return fail(c, db_outcome(sqlstate), sqlstate);
}

static bool is_good(const PGresult *r)
{
	ExecStatusType s = PQresultStatus(r);

	return s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK;
}

void db_limit(struct db_conn *c, struct str scope)
{
	c->scope = scope;
}

/* BEGIN, the tenant and the scope of rows in one round trip. The tenant is a UUID, so it needs no quoting. */
static enum status begin_once(struct db_conn *c, const char tenant[37])
{
	struct buf sql = { 0 };
	enum status status = STATUS_OK;
	struct sql_span span;
	PGresult *r;
	char *scope = c->scope.n ? PQescapeLiteral(c->c, c->scope.p, c->scope.n) : NULL;

	if (c->scope.n && !scope) /* bytes that are no text: nothing is seen then */
		return fail(c, STATUS_INTERNAL, "22021");
	buf_printf(&sql, "BEGIN; SELECT set_config('app.tenant_id', '%s', true)", tenant);
	if (scope)
		buf_printf(&sql, ", set_config('app.scope', %s, true)", scope);
	PQfreemem(scope);
	r = PQexec(c->c, sql_span_begin(&span, buf_cstr(&sql)));
	sql_span_end(&span, r);
	buf_fini(&sql);
	if (!is_good(r))
		status = fail_result(c, r, "BEGIN");
	PQclear(r);
	c->in_tx = status == STATUS_OK;
	return status;
}

enum status db_begin(struct db_conn *c, struct str tenant)
{
	char id[UUID_TEXT + 1] = NIL_UUID;
	enum status status;

	if (c->in_tx)
		db_rollback(c);
	c->failed = STATUS_OK;
	c->sqlstate[0] = c->constraint[0] = 0;
	c->has_said = false;
	if (tenant.n && !uuid_parse(tenant, id))
		return fail(c, STATUS_INTERNAL, "");
	if (!connect_again(c))
		return fail(c, STATUS_UNAVAILABLE, "08001");
	status = begin_once(c, id);
	if (status != STATUS_UNAVAILABLE)
		return status;
	/* PostgreSQL was restarted while this connection was idle; nothing has been done yet. */
	disconnect(c);
	c->tried_us = 0;
	if (!connect_again(c))
		return status;
	c->failed = STATUS_OK;
	c->sqlstate[0] = 0;
	return begin_once(c, id);
}

/* NULL: it is prepared, as *st. Else why it is not. */
static PGresult *prepare(struct db_conn *c, struct str sql, uint64_t hash, struct statement **st)
{
	char away[32];
	PGresult *r;

	if (c->again.n >= AGAIN_MAX) {
		snprintf(away, sizeof(away), "DEALLOCATE %s", c->again.oldest->name);
		statements_drop(&c->again, c->again.oldest);
		PQclear(PQexec(c->c, away));
	}
	*st = statements_add(&c->again, sql, hash);
	r = PQprepare(c->c, (*st)->name, (*st)->sql.p, 0, NULL);
	if (!is_good(r)) {
		statements_drop(&c->again, *st);
		return r;
	}
	PQclear(r);
	return NULL;
}

/* It failed because of how it was prepared: the result's columns are others now, or it is not there. Who changes a schema does that, rarely. */
static bool is_stale(const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	return sqlstate && (strcmp(sqlstate, "0A000") == 0 || strcmp(sqlstate, "26000") == 0);
}

static PGresult *run_again(struct db_conn *c, const char *sql, int n_params, const char *const *params)
{
	struct str text = str_of(sql);
	uint64_t hash = statements_hash(text);
	struct statement *st = statements_find(&c->again, text, hash);
	PGresult *r = st ? NULL : prepare(c, text, hash, &st);

	if (r)
		return r;
	r = PQexecPrepared(c->c, st->name, n_params, params, NULL, NULL, 0);
	if (!is_good(r) && is_stale(r))
		statements_drop(&c->again, st);
	return r;
}

static enum status run(struct db_conn *c, PGresult **res, const char *sql, int n_params, const char *const *params, bool again)
{
	enum status status = STATUS_OK;
	struct sql_span span;
	const char *text;
	PGresult *r;

	if (res)
		*res = NULL;
	if (c->failed != STATUS_OK)
		return c->failed;
	if (!c->in_tx || n_params > DB_MAX_PARAMS)
		return fail(c, STATUS_INTERNAL, "25P01");
	count(&c->w->statements);
	text = sql_span_begin(&span, sql);
	/* with a trace in a comment it is parsed for this one time (adr/0036) */
	r = again && text == sql ? run_again(c, sql, n_params, params) : PQexecParams(c->c, text, n_params, NULL, params, NULL, NULL, 0);
	sql_span_end(&span, r);
	if (!is_good(r))
		status = fail_result(c, r, sql);
	if (status == STATUS_OK && res)
		*res = r;
	else
		PQclear(r);
	return status;
}

enum status db_exec(struct db_conn *c, PGresult **res, const char *sql, int n_params, const char *const *params)
{
	return run(c, res, sql, n_params, params, false);
}

enum status db_exec_again(struct db_conn *c, PGresult **res, const char *sql, int n_params, const char *const *params)
{
	return run(c, res, sql, n_params, params, true);
}

enum status db_commit(struct db_conn *c)
{
	enum status status = c->failed;
	struct sql_span span;
	PGresult *r;

	if (status == STATUS_OK && !c->in_tx)
		return fail(c, STATUS_INTERNAL, "25P01");
	if (status != STATUS_OK) {
		db_rollback(c);
		return status;
	}
	r = PQexec(c->c, sql_span_begin(&span, "COMMIT"));
	sql_span_end(&span, r);
	if (!is_good(r))
		status = fail_result(c, r, "COMMIT");
	else if (strcmp(PQcmdStatus(r), "COMMIT") != 0)
		status = fail(c, STATUS_INTERNAL, "25P02");
	PQclear(r);
	c->in_tx = false;
	if (status == STATUS_OK)
		fault_point("after_commit");
	return status;
}

/* What failed stays readable until the next begin. */
void db_rollback(struct db_conn *c)
{
	if (c->in_tx && c->c)
		PQclear(PQexec(c->c, "ROLLBACK"));
	c->in_tx = false;
	if (c->c && PQtransactionStatus(c->c) != PQTRANS_IDLE)
		disconnect(c);
}

enum status db_savepoint(struct db_conn *c)
{
	return db_exec(c, NULL, "SAVEPOINT here", 0, NULL);
}

enum status db_keep(struct db_conn *c)
{
	return db_exec(c, NULL, "RELEASE SAVEPOINT here", 0, NULL);
}

bool db_undo(struct db_conn *c)
{
	PGresult *r;
	bool good;

	if (!c->in_tx || !c->c)
		return false;
	r = PQexec(c->c, "ROLLBACK TO SAVEPOINT here; RELEASE SAVEPOINT here");
	good = is_good(r);
	PQclear(r);
	if (good) {
		c->failed = STATUS_OK;
		c->sqlstate[0] = c->constraint[0] = 0;
		c->has_said = false;
	}
	return good;
}

const char *db_constraint(const struct db_conn *c)
{
	return c->constraint;
}

const char *db_sqlstate(const struct db_conn *c)
{
	return c->sqlstate;
}

const struct db_said *db_said(const struct db_conn *c)
{
	return c->has_said ? &c->said : NULL;
}

static bool take(struct workers *w, struct worker_job *j)
{
	bool some;

	pthread_mutex_lock(&w->lock);
	while (w->head == w->tail && !w->stopping)
		pthread_cond_wait(&w->some, &w->lock);
	some = w->head != w->tail;
	if (some)
		*j = w->jobs[w->head++ % DB_MAX_JOBS], w->running++;
	pthread_mutex_unlock(&w->lock);
	return some;
}

static void no_more(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->running--;
	pthread_mutex_unlock(&w->lock);
}

static void *worker_main(void *arg)
{
	struct db_conn *c = arg;
	struct worker_job j;

	pthread_setname_np(pthread_self(), "db-worker");
	connect_again(c);
	while (take(c->w, &j)) {
		metric_observe(c->w->waits, (double)(clock_mono_us() - j.put_us) / 1e6);
		context_enter(&j.context);
		j.run(c, j.arg);
		if (c->in_tx)
			db_rollback(c);
		c->failed = STATUS_OK;
		c->scope = (struct str){ 0 };
		count(&c->w->run);
		no_more(c->w);
		context_leave();
	}
	disconnect(c);
	return NULL;
}

/* Signals belong to the loop's thread. */
static void start_threads(struct workers *w)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < w->n; i++) {
		w->conns[i].w = w;
		if (pthread_create(&w->conns[i].thread, NULL, worker_main, &w->conns[i]) != 0)
			log_die("DB-WORKERS", "cannot start a thread");
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct workers *workers_new(const char *url, int n, int statement_timeout_ms)
{
	struct workers *w = xcalloc(1, sizeof(*w));

	w->url = xstrdup(url);
	w->n = n;
	w->statement_timeout_ms = statement_timeout_ms;
	w->conns = xcalloc((size_t)n, sizeof(*w->conns));
	w->waits = db_wait_series("handler");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->some, NULL);
	start_threads(w);
	return w;
}

void workers_free(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->some);
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < w->n; i++)
		pthread_join(w->conns[i].thread, NULL);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->some);
	free(w->conns);
	free(w->url);
	free(w);
}

bool workers_put(struct workers *w, void (*job)(struct db_conn *c, void *arg), void *arg)
{
	bool room;

	pthread_mutex_lock(&w->lock);
	room = !w->stopping && w->tail - w->head < DB_MAX_JOBS;
	if (room) {
		struct worker_job *j = &w->jobs[w->tail++ % DB_MAX_JOBS];

		j->put_us = clock_mono_us();
		j->run = job;
		j->arg = arg;
		context_take(&j->context);
		pthread_cond_signal(&w->some);
	}
	pthread_mutex_unlock(&w->lock);
	return room;
}

void workers_stats(struct workers *w, struct db_stats *s)
{
	pthread_mutex_lock(&w->lock);
	s->jobs_waiting = w->tail - w->head;
	s->jobs_running = w->running;
	s->workers = w->n;
	pthread_mutex_unlock(&w->lock);
	s->jobs = __atomic_load_n(&w->run, __ATOMIC_RELAXED);
	s->statements += __atomic_load_n(&w->statements, __ATOMIC_RELAXED);
	s->errors += __atomic_load_n(&w->errors, __ATOMIC_RELAXED);
	s->reconnects += __atomic_load_n(&w->reconnects, __ATOMIC_RELAXED);
}
