/* Inside lib/db: what an error of PostgreSQL means to a caller. */
#ifndef CRM_DB_OUTCOME_H
#define CRM_DB_OUTCOME_H

#include <libpq-fe.h>

#include "base/status.h"
#include "base/str.h"
#include "db/db.h"

enum status db_outcome(const char *sqlstate);
/* Row-level security refused a row: when the writer has a scope, a row beyond it. */
bool db_outcome_is_scope(const char *sqlstate);
/* Would the same submission probably succeed at once? Serialization failure, deadlock, a plan or a prepared statement that is gone. */
bool db_outcome_may_retry(const char *sqlstate);
/* The statement must be prepared again before it is retried. */
bool db_outcome_is_stale(const char *sqlstate);
/* Copies sqlstate ("08006" when r has none) and constraint of a failed result. */
void db_outcome_read(const PGresult *r, char sqlstate[6], char constraint[64]);
/* What a refusal of the schema's own says. False: r is none. */
bool db_outcome_said(const PGresult *r, struct db_said *said);
/* Logs what is no client's doing; never values. */
void db_outcome_log(const char *sqlstate, struct str sql);

/* Connection parameters: url (kept, not copied), with our application name, time-outs and keep-alives. */
struct db_connect_params {
	const char *keys[16], *values[16];
	char options[512];
};
void db_connect_params(struct db_connect_params *p, const char *url, int statement_timeout_ms, bool read_only, const char *application);

#endif
