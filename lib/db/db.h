/*
 * PostgreSQL for a service: a few non-blocking connections in pipeline mode on the event loop for rows, and worker
 * threads with a blocking connection of their own for handlers. docs/db.md has the measured reasons.
 *
 * Rows (loop thread): db_submit sends `set_config('app.tenant_id', tenant, true)` and one to three statements in one
 * pipeline segment with one Sync, which is one implicit transaction; reads of one loop turn share a Sync (up to 16) and
 * are run again one by one when the group fails, and on another connection when theirs breaks. Results are binary.
 * db_lookup is for the commonest read, one row by its key: those of a tenant that wait together become one statement.
 *
 * Handlers (worker thread): straight-line code between db_begin and db_commit.
 *
 * A caller's scope of rows goes with the tenant as app.scope, which row-level security reads (lib/db/schema/003_row_scope.sql).
 * A tenant that is empty counts as the nil UUID, so that a group cannot inherit a neighbour's tenant.
 *
 * Error mapping (db_outcome): 23505 DUPLICATE, 23503/23514 CONFLICT, 40001/40P01 retried once, 57014 DEADLINE_EXCEEDED,
 * class 08/57P0x/55P03/53 UNAVAILABLE; CR409 CONFLICT and CR422 VALIDATION_ERROR are the schema's own refusals, with a sentence
 * (struct db_said); otherwise INTERNAL (logged with SQLSTATE, never with values).
 */
#ifndef CRM_DB_DB_H
#define CRM_DB_DB_H

#include <event2/event.h>
#include <libpq-fe.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

struct db;

#define DB_MAX_PARAMS 64
#define DB_MAX_STMTS 8       /* of one submission */
#define DB_MAX_WAITING 10000 /* submissions that wait for a connection, of each kind; more are answered UNAVAILABLE */
#define DB_MAX_JOBS 256      /* handlers that wait for a worker */

/* A statement: text is the key of the prepared-statement cache and must stay the same pointer-independent text. */
struct db_stmt {
	struct str sql;
	const char *const *params; /* text format, NULL for SQL NULL */
	int n_params;
};

enum db_kind { DB_READ, DB_WRITE };

/* A refusal by a trigger or function of ours: RAISE EXCEPTION 'Only 3 are left' USING ERRCODE = 'CR409', COLUMN = 'items'. */
struct db_said {
	char text[256], field[64], rule[32]; /* MESSAGE, COLUMN, CONSTRAINT; "" when not given */
};

struct db_result {
	enum status status;
	PGresult **res;           /* one per statement, only when OK; freed by the layer after done returns */
	int n;
	int row;                  /* of a lookup: the row of res[0] that it asked for, -1: there is none */
	const char *constraint;   /* violated constraint name or "" */
	const char *sqlstate;     /* "" when OK */
	const struct db_said *said; /* NULL: the schema refused nothing */
};

typedef void (*db_done)(void *arg, const struct db_result *r);

struct db_config {
	const char *url;          /* libpq connection string */
	int read_conns, write_conns, workers;
	int statement_timeout_ms;
};

/* Connects in the background and keeps trying; healthy says whether at least one connection of each kind is up. */
struct db *db_new(struct event_base *base, const struct db_config *c);
bool db_healthy(const struct db *d);
/* Closes the connections, answers what waits with UNAVAILABLE, ends the workers after their job. For drain and tests. */
void db_free(struct db *d);

/* Start-up check, blocking, a connection of its own: would this statement prepare? False: why has PostgreSQL's message. */
bool db_check(const struct db *d, struct str sql, char *why, size_t why_size);

/*
 * Loop thread only. tenant may be empty (RLS shows nothing). Statements and params are copied. deadline_us: wall clock, 0: none.
 * done is called exactly once, never from inside this function; it may submit again.
 * DEADLINE_EXCEEDED and UNAVAILABLE of a write: it may have been done. DB_READ cannot write (25006): an error of another read in its
 * group would undo it after it has been answered.
 */
void db_submit(struct db *d, enum db_kind kind, struct str tenant, const struct db_stmt *stmts, int n, int64_t deadline_us, db_done done, void *arg);
/*
 * The same on behalf of a caller: scope (Principal.scope, copied) limits the rows that the statements see and write; empty: all.
 * A write beyond it is PERMISSION_DENIED with SQLSTATE 42501.
 */
void db_submit_as(struct db *d, enum db_kind kind, struct str tenant, struct str scope, const struct db_stmt *stmts, int n, int64_t deadline_us,
    db_done done, void *arg);

/*
 * One row by its key. The result may hold the rows of others who asked for the same tenant in the same moment; r->row is the own one.
 * An error of one is no other's: a statement that fails is run again for each of its callers alone.
 */
enum db_key { DB_KEY_UUID, DB_KEY_BIGINT };
#define DB_LOOKUP_MOST 16 /* callers of one statement */
#define DB_LOOKUP_FORMS 4 /* for 1, 4, 8 and 16 of them */

struct db_lookup {
	struct db_stmt_text { struct str sql; uint64_t hash; } form[DB_LOOKUP_FORMS];
	enum db_key key;
	int column; /* of the result: the key; negative: it has none, so each caller gets a statement of its own */
};

/* "<head><expression> = $1<tail>"; head ends in "WHERE ". Any thread. fini frees the texts; not before db_free. */
void db_lookup_init(struct db_lookup *l, const char *head, const char *expression, enum db_key key, const char *tail, int column);
void db_lookup_fini(struct db_lookup *l);
/* As db_submit of a read; key is the text of a UUID or a number and is copied, l is not. No such text: NOT_FOUND. */
void db_lookup(struct db *d, struct str tenant, struct str scope, const struct db_lookup *l, const char *key, int64_t deadline_us, db_done done, void *arg);

/* Runs job(arg) on a worker thread with a connection of its own. False: the queue is full (answer UNAVAILABLE). Any thread. */
struct db_conn;
bool db_work(struct db *d, void (*job)(struct db_conn *c, void *arg), void *arg);

/* Worker thread: the transactions of the rest of this job are limited to the rows of the scope. Borrowed until the job ends. */
void db_limit(struct db_conn *c, struct str scope);
/* Worker thread. begin opens a transaction with the tenant set (empty: none). Every failure is remembered; commit and exec then fail too. */
enum status db_begin(struct db_conn *c, struct str tenant) MUST_CHECK;
/* Text-format results. *res (may be NULL) is the caller's to PQclear. */
enum status db_exec(struct db_conn *c, PGresult **res, const char *sql, int n_params, const char *const *params) MUST_CHECK;
/* The same for a statement that a job runs many times with other parameters: the connection keeps it prepared, and its plan. */
enum status db_exec_again(struct db_conn *c, PGresult **res, const char *sql, int n_params, const char *const *params) MUST_CHECK;
enum status db_commit(struct db_conn *c) MUST_CHECK;
void db_rollback(struct db_conn *c);
/*
 * A place in the open transaction to go back to when what follows may be refused: db_undo forgets what was done and what failed since;
 * db_keep forgets the place. False: the connection is lost, everything failed.
 */
enum status db_savepoint(struct db_conn *c) MUST_CHECK;
enum status db_keep(struct db_conn *c) MUST_CHECK;
bool db_undo(struct db_conn *c);
const char *db_constraint(const struct db_conn *c); /* of the last failure, "" when none */
const char *db_sqlstate(const struct db_conn *c);
const struct db_said *db_said(const struct db_conn *c); /* NULL: the last failure was no refusal of the schema's */

struct db_stats {
	uint64_t statements, errors, reconnects, syncs, grouped; /* grouped: submissions that shared a Sync */
	uint64_t reads_waiting, writes_waiting;                  /* submissions without a connection yet */
	uint64_t jobs, jobs_waiting, jobs_running;               /* handlers run, waiting for a worker, on one */
	int connections, connections_up, workers;
};
struct db_stats db_stats_get(const struct db *d);

/* Migrations: <dir>/NNN_name.sql once each, in order, under an advisory lock, each in a transaction, with a checksum in
 * <schema>.migration. Exits with the file and PostgreSQL's message when one fails. Blocking; before the loop starts. */
void db_migrate(const char *owner_url, const char *schema, const char *dir);

#endif
