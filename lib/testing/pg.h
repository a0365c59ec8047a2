/*
 * A private PostgreSQL for a test program: a cluster in a temporary folder, on a unix socket only, with deploy/sql/bootstrap.sql
 * applied. The cluster is copied from a prepared one (kept under /tmp, made again when bootstrap.sql changes): 1 s per start.
 *
 * It is stopped and removed when the program ends, also when it crashes. Failures abort the test with a sentence. Run from the
 * repository root (or set CRM_ROOT). One thread. fsync is off: durable across a crash of PostgreSQL, not of the machine.
 */
#ifndef CRM_TESTING_PG_H
#define CRM_TESTING_PG_H

#include <libpq-fe.h>

struct pg_fixture;

struct pg_fixture *pg_fixture_start(void);
void pg_fixture_stop(struct pg_fixture *f);

/* Connection string of a role in database crm: "customers_app", "customers_owner", "bus_app", "postgres". Lives as long as f. */
const char *pg_fixture_url(struct pg_fixture *f, const char *role);

/* Runs the common migrations and those of dir (NULL: none) in schema as its owner. */
void pg_fixture_migrate(struct pg_fixture *f, const char *schema, const char *dir);

/* Runs SQL as superuser; several statements are fine. Aborts on an error. */
void pg_fixture_sql(struct pg_fixture *f, const char *sql);
/* First cell of the first row as text, "" when there is none. Lives until the next call. */
const char *pg_fixture_value(struct pg_fixture *f, const char *sql);

/* mode: "fast" or "immediate" (a crash: recovery follows). Returns when it accepts connections again. */
void pg_fixture_restart(struct pg_fixture *f, const char *mode);
void pg_fixture_down(struct pg_fixture *f, const char *mode);
void pg_fixture_up(struct pg_fixture *f);

#endif
