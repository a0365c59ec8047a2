/*
 * Statements in traces. A span is named by what the statement does and to which table ("SELECT lead"), never by values. Where
 * TRACE_SQL_COMMENT is on, what is sent ends in a comment with the span's traceparent: pg_stat_activity and the log of slow statements then
 * lead to the trace (docs/adr/0036-trace-in-sql.md).
 */
#ifndef CRM_DB_TRACE_H
#define CRM_DB_TRACE_H

#include <libpq-fe.h>

#include "telemetry/trace.h"

/* A statement on a blocking connection. On the stack; begin and end on one thread. */
struct sql_span {
	bool on;
	struct span span;
	struct buf sql;
};

void sql_span_start(struct sql_span *t, const char *sql);
void sql_span_finish(struct sql_span *t, const PGresult *r);
/* The same for what has several results: sqlstate "": all went well. */
void sql_span_done(struct sql_span *t, const char *sqlstate, int64_t rows);

/* The text to send: sql itself unless this thread works for a recorded trace. Valid until sql_span_end. */
static inline const char *sql_span_begin(struct sql_span *t, const char *sql)
{
	t->on = trace_here.sampled;
	if (!t->on)
		return sql;
	sql_span_start(t, sql);
	return t->sql.n ? buf_cstr(&t->sql) : sql;
}

/* r: its result, which may be NULL. */
static inline void sql_span_end(struct sql_span *t, const PGresult *r)
{
	if (t->on)
		sql_span_finish(t, r);
}

/* "INSERT lead": the first word that says what is done, and the table; out is NUL-terminated. */
#define SQL_SUMMARY 64
void sql_summary(struct str sql, char out[SQL_SUMMARY]);
/* Appends sql and the comment with c. */
void sql_comment(struct buf *b, struct str sql, const struct trace_context *c);

/* -- inside lib/db: submissions; loop thread */

struct job;
/* For a submission on behalf of trace_here, which is recorded. */
void db_trace_begin(struct job *j);
/* j and its mates are sent now. */
void db_trace_sent(struct job *j);
/* It is answered; its span ends. */
void db_trace_answered(struct job *j);

#endif
