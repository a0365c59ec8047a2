/* Spans of statements: what they are called, what they say, and the comment that PostgreSQL sees. */
#include "db/trace.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "db/link.h"
#include "telemetry/trace_export.h"

/* -- names */

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

/* The next word; empty at the end. Quoted text is passed over. */
static struct str next_word(struct str *rest)
{
	struct str word;

	while (rest->n && !is_word(*rest->p)) {
		const char *end = *rest->p == '\'' && rest->n > 1 ? memchr(rest->p + 1, '\'', rest->n - 1) : NULL;
		size_t n = end ? (size_t)(end - rest->p) + 1 : 1;

		rest->p += n;
		rest->n -= n;
	}
	word = (struct str){ rest->p, 0 };
	while (word.n < rest->n && is_word(word.p[word.n]))
		word.n++;
	rest->p += word.n;
	rest->n -= word.n;
	return word;
}

static void name(char out[SQL_SUMMARY], const char *verb, struct str table)
{
	size_t n = strlen(verb);

	memcpy(out, verb, n);
	if (table.n) {
		if (table.n > SQL_SUMMARY - n - 2)
			table.n = SQL_SUMMARY - n - 2;
		out[n++] = ' ';
		memcpy(out + n, table.p, table.n);
		n += table.n;
	}
	out[n] = 0;
}

/* What it writes comes first, else what it reads from, else the function or command. */
void sql_summary(struct str sql, char out[SQL_SUMMARY])
{
	struct str rest = sql, before = { 0 }, w = next_word(&rest), first = w, second = { 0 }, from = { 0 };

	for (; w.n; before = w, w = next_word(&rest)) {
		if (before.p == first.p && !second.n)
			second = w;
		if (str_eq(before, STR("INTO"))) {
			name(out, "INSERT", w);
			return;
		}
		if (str_eq(w, STR("UPDATE")) && !str_eq(before, STR("FOR")) && !str_eq(before, STR("DO")) && !str_eq(before, STR("KEY"))) {
			name(out, "UPDATE", next_word(&rest));
			return;
		}
		if (str_eq(before, STR("DELETE")) && str_eq(w, STR("FROM"))) {
			name(out, "DELETE", next_word(&rest));
			return;
		}
		if (str_eq(before, STR("FROM")) && !from.n && !str_eq(w, STR("SELECT")))
			from = w;
	}
	if (str_eq(first, STR("SELECT")) || str_eq(first, STR("WITH"))) {
		name(out, "SELECT", from.n ? from : second);
		return;
	}
	if (first.n > SQL_SUMMARY - 1)
		first.n = SQL_SUMMARY - 1;
	if (first.n)
		memcpy(out, first.p, first.n);
	out[first.n] = 0;
}

void sql_comment(struct buf *b, struct str sql, const struct trace_context *c)
{
	char text[TRACEPARENT + 1];

	trace_print(c, text);
	buf_need(b, sql.n + TRACEPARENT + 32);
	buf_str(b, sql);
	buf_z(b, " /*traceparent='");
	buf_put(b, text, TRACEPARENT);
	buf_z(b, "'*/");
}

static void begin(struct span *s, const struct trace_context *parent, struct str sql)
{
	char summary[SQL_SUMMARY];

	sql_summary(sql, summary);
	span_begin(s, parent, SPAN_CLIENT, str_of(summary));
	span_text(s, "db.system.name", STR("postgresql"));
}

/* -- blocking connections */

void sql_span_start(struct sql_span *t, const char *sql)
{
	t->sql = (struct buf){ 0 };
	begin(&t->span, &trace_here, str_of(sql));
	if (trace_sql_comment)
		sql_comment(&t->sql, str_of(sql), &t->span.at);
}

void sql_span_done(struct sql_span *t, const char *sqlstate, int64_t rows)
{
	t->span.error = *sqlstate != 0;
	if (*sqlstate)
		span_text(&t->span, "db.response.status_code", str_of(sqlstate));
	else
		span_int(&t->span, "crm.db.rows", rows);
	span_end_shared(&t->span);
	buf_fini(&t->sql);
}

void sql_span_finish(struct sql_span *t, const PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	int64_t rows = 0;

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
		sql_span_done(t, code ? code : "08006", 0);
		return;
	}
	if (!str_to_i64(str_of(PQcmdTuples((PGresult *)(uintptr_t)r)), &rows))
		rows = 0; /* a command that counts none */
	sql_span_done(t, "", rows);
}

/* -- submissions */

void db_trace_begin(struct job *j)
{
	j->span = xmalloc(sizeof(*j->span));
	begin(j->span, &trace_here, j->lookup ? j->lookup->form[0].sql : j->n ? j->stmts[0].sql : STR(""));
	if (j->n > 1)
		span_int(j->span, "crm.db.statements", j->n);
}

/*
 * Who shares a statement keeps a span of its own, because each trace has to show how long its request waited; the statement ran once, so
 * those spans link to the one whose traceparent it carried.
 */
void db_trace_sent(struct job *j)
{
	int64_t now = clock_mono_us();

	j->traced = NULL;
	for (struct job *m = j; m; m = m->mate) {
		if (!m->span)
			continue;
		m->sent_us = now;
		m->shared = 1 + j->mates;
		if (j->traced)
			span_link(m->span, &j->traced->at);
		else
			j->traced = m->span;
	}
}

void db_trace_answered(struct job *j)
{
	struct span *s = j->span;
	int64_t rows = 0;

	j->span = NULL;
	if (j->sent_us)
		span_int(s, "crm.db.wait_us", j->sent_us - s->mono_ns / 1000);
	if (j->shared > 1)
		span_int(s, "crm.db.shared", j->shared);
	if (j->retried || j->breaks)
		span_bool(s, "crm.db.retried", true);
	if (j->lookup)
		rows = j->row >= 0;
	else if (j->status == STATUS_OK && !str_to_i64(str_of(PQcmdTuples(j->res[j->n - 1])), &rows))
		rows = 0;
	if (j->status == STATUS_OK)
		span_int(s, "crm.db.rows", rows);
	s->error = j->status != STATUS_OK && j->status != STATUS_NOT_FOUND;
	if (j->sqlstate[0])
		span_text(s, "db.response.status_code", str_of(j->sqlstate));
	span_end(s);
	free(s);
}
