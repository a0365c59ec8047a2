/* SQLSTATE to outcome, and how every connection of ours is opened. */
#include "db/outcome.h"

#include <stdio.h>

#include "base/log.h"

static bool is(const char *sqlstate, const char *code)
{
	return strcmp(sqlstate, code) == 0;
}

static bool is_class(const char *sqlstate, const char *prefix)
{
	return strncmp(sqlstate, prefix, strlen(prefix)) == 0;
}

enum status db_outcome(const char *s)
{
	if (is(s, "23505"))
		return STATUS_DUPLICATE;
	if (is(s, "23503") || is(s, "23514"))
		return STATUS_CONFLICT;
	if (is(s, "57014"))
		return STATUS_DEADLINE_EXCEEDED;
	if (is_class(s, "08") || is_class(s, "57P") || is_class(s, "53") || is(s, "55P03") || is(s, "25P03"))
		return STATUS_UNAVAILABLE;
	if (is(s, "40001") || is(s, "40P01"))
		return STATUS_UNAVAILABLE;
	if (is(s, "CR409"))
		return STATUS_CONFLICT;
	if (is(s, "CR422"))
		return STATUS_VALIDATION_ERROR;
	return STATUS_INTERNAL;
}

bool db_outcome_is_scope(const char *s)
{
	return is(s, "42501");
}

bool db_outcome_is_stale(const char *s)
{
	return is(s, "26000") || is(s, "0A000");
}

bool db_outcome_may_retry(const char *s)
{
	return is(s, "40001") || is(s, "40P01") || db_outcome_is_stale(s);
}

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

void db_outcome_read(const PGresult *r, char sqlstate[6], char constraint[64])
{
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	copy(sqlstate, 6, code ? code : "08006");
	copy(constraint, 64, PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME));
}

bool db_outcome_said(const PGresult *r, struct db_said *said)
{
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	if (!code || !is_class(code, "CR"))
		return false;
	copy(said->text, sizeof(said->text), PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
	copy(said->field, sizeof(said->field), PQresultErrorField(r, PG_DIAG_COLUMN_NAME));
	copy(said->rule, sizeof(said->rule), PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME));
	return true;
}

void db_outcome_log(const char *sqlstate, struct str sql)
{
	if (db_outcome(sqlstate) == STATUS_INTERNAL)
		log_error("DB-STATEMENT", "SQLSTATE %s from: %.*s", sqlstate, (int)(sql.n < 300 ? sql.n : 300), sql.p);
}

/* "options" of the connection string are kept: ours stand before them. */
static void read_options(const char *url, char *into, size_t size)
{
	PQconninfoOption *all = PQconninfoParse(url, NULL);

	for (PQconninfoOption *o = all; o && o->keyword; o++) {
		if (strcmp(o->keyword, "options") == 0 && o->val)
			snprintf(into, size, " %s", o->val);
	}
	PQconninfoFree(all);
}

void db_connect_params(struct db_connect_params *p, const char *url, int statement_timeout_ms, bool read_only, const char *application)
{
	char extra[200] = "";
	int n = 0;

	read_options(url, extra, sizeof(extra));
	snprintf(p->options, sizeof(p->options),
	    "-c statement_timeout=%d -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000 -c jit=off -c TimeZone=UTC -c DateStyle=ISO"
	    " -c default_transaction_read_only=%s%s",
	    statement_timeout_ms, read_only ? "on" : "off", extra);
#define PUT(k, v) (p->keys[n] = (k), p->values[n++] = (v))
	PUT("dbname", url);
	PUT("options", p->options);
	PUT("application_name", application);
	PUT("client_encoding", "UTF8");
	PUT("connect_timeout", "5");
	PUT("keepalives_idle", "30");
	PUT("keepalives_interval", "10");
	PUT("keepalives_count", "3");
	PUT("tcp_user_timeout", "30000");
#undef PUT
	p->keys[n] = p->values[n] = NULL;
}
