/* Blocking libpq connections for background threads. */
#include "events/pgconn.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "db/trace.h"

static void log_failure(const char *what, PGconn *c)
{
	static _Thread_local int64_t quiet_until;
	const char *why = c ? PQerrorMessage(c) : "out of memory";

	if (clock_mono_us() < quiet_until)
		return;
	quiet_until = clock_mono_us() + 10 * 1000000;
	log_warn("EVENTS-DB-CONNECT", "%s cannot connect: %.*s", what, (int)strcspn(why, "\n"), why);
}

static void ignore_notice(void *arg, const PGresult *r)
{
}

PGconn *pgconn_open(const char *url, const char *what, int statement_timeout_ms)
{
	char sql[200];
	const char *keys[] = { "dbname", "application_name", "connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
		"tcp_user_timeout", "client_encoding", NULL };
	const char *values[] = { url, what, "5", "10", "5", "3", "20000", "UTF8", NULL };
	PGconn *c = PQconnectdbParams(keys, values, 1);
	PGresult *r;

	if (!c || PQstatus(c) != CONNECTION_OK)
		goto fail;
	PQsetNoticeReceiver(c, ignore_notice, NULL);
	snprintf(sql, sizeof sql, "SET statement_timeout = %d; SET lock_timeout = %d; SET idle_in_transaction_session_timeout = 60000",
	    statement_timeout_ms, statement_timeout_ms);
	r = PQexec(c, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK) {
		PQclear(r);
		goto fail;
	}
	PQclear(r);
	return c;
fail:
	log_failure(what, c);
	PQfinish(c);
	return NULL;
}

enum status pgconn_status(PGconn *c, const PGresult *r)
{
	ExecStatusType t = PQresultStatus(r);
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	const char *why = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	if (t == PGRES_COMMAND_OK || t == PGRES_TUPLES_OK || t == PGRES_COPY_IN || t == PGRES_COPY_OUT || t == PGRES_SINGLE_TUPLE)
		return STATUS_OK;
	if (PQstatus(c) != CONNECTION_OK || !state || !strncmp(state, "08", 2) || !strncmp(state, "57P", 3) || !strncmp(state, "53", 2))
		return STATUS_UNAVAILABLE;
	if (!strcmp(state, "40001") || !strcmp(state, "40P01") || !strcmp(state, "55P03") || !strcmp(state, "57014"))
		return STATUS_CONFLICT;
	log_error("EVENTS-DB-STATEMENT", "SQLSTATE %s: %s", state, why ? why : "");
	/* missing tables and grants are a fault of the deployment, never of one event */
	return !strncmp(state, "42", 2) ? STATUS_UNAVAILABLE : STATUS_INTERNAL;
}

enum status pgconn_exec(PGconn *c, PGresult **res, const char *sql, int n_params, const char *const *params)
{
	struct sql_span span;
	PGresult *r = PQexecParams(c, sql_span_begin(&span, sql), n_params, NULL, params, NULL, NULL, 0);
	enum status s = pgconn_status(c, r);

	sql_span_end(&span, r);
	if (s == STATUS_OK && res)
		*res = r;
	else
		PQclear(r);
	return s;
}

enum status pgconn_begin(PGconn *c)
{
	return pgconn_exec(c, NULL, "BEGIN", 0, NULL);
}

enum status pgconn_commit(PGconn *c)
{
	PGresult *r = NULL;
	enum status s = pgconn_exec(c, &r, "COMMIT", 0, NULL);

	/* COMMIT of a failed transaction succeeds as "ROLLBACK" */
	if (s == STATUS_OK && strcmp(PQcmdStatus(r), "COMMIT"))
		s = STATUS_INTERNAL;
	PQclear(r);
	return s;
}

void pgconn_rollback(PGconn *c)
{
	if (PQtransactionStatus(c) != PQTRANS_IDLE)
		PQclear(PQexec(c, "ROLLBACK"));
}
