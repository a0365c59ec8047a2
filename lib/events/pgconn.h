/*
 * Blocking libpq connections for the background threads (relay, bus, consumers): no pool, no event loop, one thread each.
 * A dead server is noticed within seconds: connect timeout, keepalives, statement_timeout.
 */
#ifndef CRM_EVENTS_PGCONN_H
#define CRM_EVENTS_PGCONN_H

#include <libpq-fe.h>

#include "base/status.h"

/* NULL when it cannot connect; logged with the words of `what` at most every 10 s per thread. */
PGconn *pgconn_open(const char *url, const char *what, int statement_timeout_ms);
/* Runs one statement with text parameters; *res (may be NULL) is the caller's to PQclear, only when OK. */
enum status pgconn_exec(PGconn *c, PGresult **res, const char *sql, int n_params, const char *const *params) MUST_CHECK;
/* Outcome of a result: OK, CONFLICT (serialization, deadlock), UNAVAILABLE (connection, shutdown,
 * missing tables or grants), INTERNAL; what is not the connection's is logged, without values. */
enum status pgconn_status(PGconn *c, const PGresult *r) MUST_CHECK;
/* BEGIN, COMMIT; rollback never fails (a broken connection has rolled back). */
enum status pgconn_begin(PGconn *c) MUST_CHECK;
enum status pgconn_commit(PGconn *c) MUST_CHECK;
void pgconn_rollback(PGconn *c);

#endif
