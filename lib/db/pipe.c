/* Submissions into a pipelined connection, results out of it: which result belongs to whom, and what an error takes with it. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/fault.h"
#include "db/link.h"
#include "db/outcome.h"
#include "db/trace.h"
#include "telemetry/metrics.h"
#include "telemetry/trace_export.h"

#define SET_TENANT STR("SELECT set_config('app.tenant_id', $1, true)")
#define SET_SCOPE STR("SELECT set_config('app.tenant_id', $1, true), set_config('app.scope', $2, true)")
#define MAX_BREAKS 4 /* a restart takes all connections, one after the other: a read may meet several of them */
#define MAX_EMPTY 4  /* NULLs in a row from PQgetResult; one separates two results */

static const double sizes[] = { 1, 2, 4, 8, 16, 32, 64 };
static struct metric segments = { .name = "crm_db_segment_statements", .help = "Statements of a pipeline segment, the one that sets the tenant included", .type = METRIC_HISTOGRAM,
	.bounds = sizes, .n_bounds = sizeof(sizes) / sizeof(sizes[0]) };

static struct slot *slot_push(struct link *l, enum slot_kind kind, struct job *j, struct statement *st)
{
	struct slot *s;

	if (l->tail - l->head > l->mask) {
		struct slot *wider = xcalloc((l->mask + 1) * 2, sizeof(*wider));

		for (unsigned i = 0; i <= l->mask; i++)
			wider[i] = l->slots[(l->head + i) & l->mask];
		free(l->slots);
		l->slots = wider;
		l->head = 0;
		l->tail = l->mask + 1;
		l->mask = l->mask * 2 + 1;
	}
	s = &l->slots[l->tail++ & l->mask];
	*s = (struct slot){ .kind = kind, .job = j, .stmt = st };
	if (st)
		st->users++;
	return s;
}

static struct slot slot_pop(struct link *l)
{
	return l->slots[l->head++ & l->mask];
}

static bool send_deallocate(struct link *l, struct statement *st)
{
	char sql[32];

	snprintf(sql, sizeof(sql), "DEALLOCATE %s", st->name);
	slot_push(l, SLOT_DEALLOCATE, NULL, NULL);
	statements_drop(&l->statements, st);
	return PQsendQueryParams(l->c, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

static bool send_prepare(struct link *l, struct job *j, struct str sql, uint64_t hash, struct statement **st)
{
	bool sent = true;

	if (l->statements.n >= STATEMENTS_MAX)
		sent = send_deallocate(l, l->statements.oldest);
	*st = statements_add(&l->statements, sql, hash);
	slot_push(l, SLOT_PREPARE, j, *st);
	return sent && PQsendPrepare(l->c, (*st)->name, (*st)->sql.p, 0, NULL) == 1;
}

/* With the trace in a comment, which no prepared statement can carry: parsed and planned for this one time (adr/0036). */
static bool send_traced(struct link *l, struct job *j, const struct job_stmt *s, bool last)
{
	struct buf sql = { 0 };
	bool sent;

	sql_comment(&sql, s->sql, &j->traced->at);
	slot_push(l, SLOT_STMT, j, NULL)->last = last;
	l->db->stats.statements++;
	sent = PQsendQueryParams(l->c, buf_cstr(&sql), s->n_params, NULL, s->params, NULL, NULL, 1) == 1;
	buf_fini(&sql);
	return sent;
}

/* The slots are pushed whatever happens, so that a broken link finds every job. */
static bool send_statement(struct link *l, struct job *j, const struct job_stmt *s, enum slot_kind kind, bool last)
{
	struct statement *st = statements_find(&l->statements, s->sql, s->hash);
	bool sent = true;

	if (!st)
		sent = send_prepare(l, j, s->sql, s->hash, &st);
	slot_push(l, kind, j, st)->last = last;
	l->db->stats.statements++;
	l->segment++;
	return sent && PQsendQueryPrepared(l->c, st->name, s->n_params, s->params, NULL, NULL, 1) == 1;
}

/* The setting lasts until the segment's transaction ends, so a neighbour of the same tenant needs none of its own. */
static bool send_tenant(struct link *l, struct job *j)
{
	static uint64_t hash;
	const char *params[] = { j->tenant, j->scope ? j->scope : "" };
	struct job_stmt s = { .sql = SET_TENANT, .params = params, .n_params = 1 };

	if (strcmp(l->tenant, j->tenant) == 0 && !j->scope && !l->scoped)
		return true;
	memcpy(l->tenant, j->tenant, sizeof(l->tenant));
	if (!hash)
		hash = statements_hash(s.sql);
	s.hash = hash;
	if (j->scope || l->scoped) { /* a neighbour's scope must not stay */
		s = (struct job_stmt){ .sql = SET_SCOPE, .params = params, .n_params = 2 };
		s.hash = statements_hash(s.sql);
	}
	l->scoped = j->scope != NULL;
	return send_statement(l, j, &s, SLOT_TENANT, false);
}

static bool send_sync(struct link *l, struct job *j)
{
	slot_push(l, SLOT_SYNC, j, NULL)->last = j != NULL;
	l->open = 0;
	l->tenant[0] = 0;
	l->scoped = false;
	l->db->stats.syncs++;
	metric_observe(metric_series(&segments), l->segment);
	l->segment = 0;
	return PQpipelineSync(l->c) == 1;
}

/* A read is answered when its rows are there; a write when its Sync has come back, which is the commit. */
void pipe_send(struct link *l, struct job *j)
{
	bool sent;

	if (l->head == l->tail)
		l->progress_us = clock_mono_us();
	if (j->lookup)
		lookup_prepare(j);
	db_job_waited(j);
	for (struct job *m = j->mate; m; m = m->mate)
		db_job_waited(m);
	if (trace_on)
		db_trace_sent(j);
	l->in_flight += 1 + j->mates;
	l->open += 1 + j->mates;
	sent = send_tenant(l, j);
	for (int i = 0; i < j->n; i++) {
		bool last = j->kind == DB_READ && i == j->n - 1;

		if (j->traced && trace_sql_comment)
			sent = send_traced(l, j, &j->stmts[i], last) && sent;
		else
			sent = send_statement(l, j, &j->stmts[i], SLOT_STMT, last) && sent;
	}
	j->traced = NULL;
	if (j->kind == DB_WRITE)
		sent = send_sync(l, j) && sent;
	if (!sent)
		link_break(l, PQerrorMessage(l->c));
	else if (j->kind == DB_WRITE)
		link_flush(l);
}

void pipe_sync(struct link *l)
{
	if (l->open == 0)
		return;
	if (l->open > 1)
		l->db->stats.grouped += (uint64_t)l->open;
	if (send_sync(l, NULL))
		link_flush(l);
	else
		link_break(l, PQerrorMessage(l->c));
}

/* What it was that failed: one of a traced submission is not among the prepared ones. */
static struct str failed_sql(const struct job *j, const struct statement *st)
{
	return st ? st->sql : j->got < j->n ? j->stmts[j->got].sql : STR("commit");
}

static void job_failed(struct link *l, struct job *j, struct statement *st, const PGresult *r)
{
	if (j->sqlstate[0])
		return;
	db_outcome_read(r, j->sqlstate, j->constraint);
	if (db_outcome(j->sqlstate) != STATUS_INTERNAL) {
		struct db_said said;

		if (db_outcome_said(r, &said)) {
			j->said = xcalloc(1, sizeof(said));
			*j->said = said;
		}
	}
	if (!(j->scope && db_outcome_is_scope(j->sqlstate)) && (j->retried || !db_outcome_may_retry(j->sqlstate))) {
		context_enter(&j->context);
		db_outcome_log(j->sqlstate, failed_sql(j, st));
		context_leave();
	}
	if (st && db_outcome_is_stale(j->sqlstate))
		statements_drop(&l->statements, st);
}

/* Each once more, alone: who of them was to blame is found out there. */
static void mates_alone(struct link *l, struct job *j)
{
	for (struct job *next; j; j = next) {
		next = j->mate;
		j->alone = true;
		db_job_again(l->db, j);
	}
}

/* The one that was sent owns the result: it is the last. */
static void mates_finish(struct link *l, struct job *j)
{
	lookup_rows(j);
	for (struct job *m = j->mate, *next; m; m = next) {
		next = m->mate;
		m->status = STATUS_OK;
		db_job_finish(l->db, m);
	}
}

static void job_end(struct link *l, struct job *j)
{
	l->in_flight -= 1 + j->mates;
	if (j->got == j->n && !j->sqlstate[0]) {
		if (j->lookup)
			mates_finish(l, j);
		if (j->kind == DB_WRITE)
			fault_point("after_commit");
		j->status = STATUS_OK;
		db_job_finish(l->db, j);
		return;
	}
	if (j->mates) {
		mates_alone(l, j);
		return;
	}
	if (!j->sqlstate[0] || (db_outcome_may_retry(j->sqlstate) && !j->retried)) {
		j->retried = j->retried || j->sqlstate[0];
		j->alone = true;
		db_job_again(l->db, j);
		return;
	}
	l->db->stats.errors++;
	j->status = j->scope && db_outcome_is_scope(j->sqlstate) ? STATUS_PERMISSION_DENIED : db_outcome(j->sqlstate);
	db_job_finish(l->db, j);
}

static bool is_good(ExecStatusType s)
{
	return s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK || s == PGRES_EMPTY_QUERY;
}

/* Takes r for the oldest slot. False: libpq and we disagree, or the server is going away. */
static bool receive(struct link *l, PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);
	bool good = is_good(status), fatal;
	struct slot s = l->slots[l->head & l->mask];
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	fatal = code && (strncmp(code, "57P", 3) == 0 || strncmp(code, "08", 2) == 0);
	if (fatal || (status == PGRES_PIPELINE_SYNC) != (s.kind == SLOT_SYNC)) {
		bool commit_failed = !fatal && s.kind == SLOT_SYNC && status == PGRES_FATAL_ERROR && s.job;

		if (commit_failed)
			job_failed(l, s.job, NULL, r); /* deferred constraint; the Sync's own result follows */
		PQclear(r);
		return commit_failed;
	}
	slot_pop(l);
	if (!good && status != PGRES_PIPELINE_SYNC && status != PGRES_PIPELINE_ABORTED && s.job)
		job_failed(l, s.job, s.stmt, r);
	if (!good && s.kind == SLOT_PREPARE)
		statements_drop(&l->statements, s.stmt);
	if (good && s.kind == SLOT_STMT && s.job->got < s.job->n)
		s.job->res[s.job->got++] = r;
	else
		PQclear(r);
	if (s.stmt)
		statements_unuse(s.stmt);
	if (s.last)
		job_end(l, s.job);
	return true;
}

void pipe_receive(struct link *l)
{
	int empty = 0;

	if (!PQconsumeInput(l->c)) {
		link_break(l, PQerrorMessage(l->c));
		return;
	}
	l->progress_us = clock_mono_us();
	while (l->state == LINK_UP && l->head != l->tail && !PQisBusy(l->c)) {
		PGresult *r = PQgetResult(l->c);

		empty = r ? 0 : empty + 1;
		if (empty > MAX_EMPTY || (r && !receive(l, r))) {
			link_break(l, PQstatus(l->c) == CONNECTION_OK ? "the server is going away or the pipeline is out of step" : PQerrorMessage(l->c));
			return;
		}
	}
	if (l->state == LINK_UP && PQstatus(l->c) != CONNECTION_OK)
		link_break(l, PQerrorMessage(l->c));
}

static void job_abandon(struct link *l, struct job *j)
{
	if (j->kind == DB_READ && j->breaks++ < MAX_BREAKS) {
		db_job_again(l->db, j);
		return;
	}
	j->status = STATUS_UNAVAILABLE;
	snprintf(j->sqlstate, sizeof(j->sqlstate), "08006");
	db_job_clear(j);
	db_job_late(l->db, j);
}

/* The connection is gone: reads run again on another, a write may or may not have been done. */
void pipe_abandon(struct link *l)
{
	while (l->head != l->tail) {
		struct slot s = slot_pop(l);

		if (s.stmt)
			statements_unuse(s.stmt);
		if (!s.last)
			continue;
		for (struct job *j = s.job, *next; j; j = next) {
			next = j->mate;
			job_abandon(l, j);
		}
	}
	l->in_flight = l->open = 0;
	l->segment = 0;
	l->tenant[0] = 0;
	l->scoped = false;
}
