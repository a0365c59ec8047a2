/* Forward-only migrations: each file once, in order, one process at a time, nobody waiting long for a lock of ours. */
#include "db/migrate.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"

#define LOCK_TRIES 60   /* a table that is never free needs an operator */
#define TURN_S 300      /* another process is migrating */
#define SAY_S 5         /* a line so often while waiting */
#define WATCH_MS 200

struct migration_run {
	const struct migrate_config *config;
	PGconn *c, *watch;
	struct arena arena;
	char state[6], error[1000]; /* of the last statement that failed */
	bool cancelled;
};

/* -- the connection */

static const char *first_line(struct migration_run *m, const char *text)
{
	return arena_strdup(&m->arena, (struct str){ text, strcspn(text, "\n") });
}

static PGconn *dial(const struct migrate_config *config)
{
	const char *const keys[] = { "connect_timeout", "fallback_application_name", "dbname", NULL };
	const char *const values[] = { "5", "crm-migrate", config->url, NULL };

	return PQconnectdbParams(keys, values, 1);
}

static void check_url(const struct migrate_config *config)
{
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(config->url, &error);

	if (!options)
		log_die("MIGRATE-CONNECT", "schema %s: the URL is not one: %s", config->schema, error ? error : "no memory");
	PQconninfoFree(options);
}

/* The database may be starting, or its roles may be on their way. */
static void open_connection(struct migration_run *m)
{
	int64_t began = clock_mono_us(), said = began - SAY_S * 1000000, now;

	check_url(m->config);
	for (;;) {
		m->c = dial(m->config);
		if (PQstatus(m->c) == CONNECTION_OK)
			return;
		now = clock_mono_us();
		if (now - began >= m->config->wait_s * 1000000)
			log_die("MIGRATE-CONNECT", "schema %s: no database within %ld s: %s", m->config->schema, m->config->wait_s, first_line(m, PQerrorMessage(m->c)));
		if (now - said >= SAY_S * 1000000) {
			log_info("MIGRATE-WAIT", "schema %s: the database is not there yet (%d of %ld s): %s", m->config->schema, (int)((now - began) / 1000000),
			    m->config->wait_s, first_line(m, PQerrorMessage(m->c)));
			said = now;
		}
		PQfinish(m->c);
		usleep(500000);
	}
}

static void must(struct migration_run *m, const char *what, const char *sql)
{
	PGresult *r = PQexec(m->c, sql);
	ExecStatusType s = PQresultStatus(r);

	if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK)
		log_die("MIGRATE-FAILED", "schema %s, %s: %s", m->config->schema, what, PQerrorMessage(m->c));
	PQclear(r);
}

/* A session's lock, asked for again and again: who waited inside of a statement would hold up CREATE INDEX CONCURRENTLY. */
static void take_turn(struct migration_run *m)
{
	const char *sql = arena_printf(&m->arena, "SELECT pg_try_advisory_lock(hashtext('crm.migrate'), hashtext('%s'))", m->config->schema);
	int64_t began = clock_mono_us(), said = began, now = began;

	for (; now - began < TURN_S * 1000000L; now = clock_mono_us()) {
		PGresult *r = PQexec(m->c, sql);
		bool ours = PQresultStatus(r) == PGRES_TUPLES_OK && PQgetvalue(r, 0, 0)[0] == 't';

		PQclear(r);
		if (ours)
			return;
		if (PQstatus(m->c) != CONNECTION_OK)
			break;
		if (now - said >= SAY_S * 1000000) {
			log_info("MIGRATE-WAIT", "schema %s: another process is migrating (%d s)", m->config->schema, (int)((now - began) / 1000000));
			said = now;
		}
		usleep(100000);
	}
	log_die("MIGRATE-LOCK", "schema %s: another process has been migrating for too long: %s", m->config->schema, PQerrorMessage(m->c));
}

static void set_session(struct migration_run *m)
{
	must(m, "session", arena_printf(&m->arena,
	    "SET client_min_messages = warning; SET search_path = %s, extensions; SET statement_timeout = 0; SET lock_timeout = '2s'", m->config->schema));
}

/* The column came later than the table; ADD COLUMN IF NOT EXISTS would lock out readers each time. */
static void make_table(struct migration_run *m)
{
	must(m, "version table", arena_printf(&m->arena,
	    "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), oldest_program integer);"
	    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'migration'::regclass AND attname = 'oldest_program')"
	    " THEN ALTER TABLE migration ADD COLUMN oldest_program integer; END IF; END $$;"
	    "GRANT SELECT ON migration TO %s_app, %s_relay", m->config->schema, m->config->schema));
}

/* True when the file was applied before; exits when it was another text then. */
static bool is_applied(struct migration_run *m, const struct migrate_file *f)
{
	const char *params[] = { f->name };
	PGresult *r = PQexecParams(m->c, "SELECT checksum FROM migration WHERE name = $1", 1, NULL, params, NULL, NULL, 0);
	bool found;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		log_die("MIGRATE-FAILED", "schema %s, %s: %s", m->config->schema, f->name, PQerrorMessage(m->c));
	found = PQntuples(r) == 1;
	if (found && strcmp(PQgetvalue(r, 0, 0), f->checksum) != 0)
		log_die("MIGRATE-CHANGED", "schema %s: %s/%s was changed after it was applied; put the change into a new file", m->config->schema, m->config->dir, f->name);
	PQclear(r);
	return found;
}

/* -- statements, watched from a second connection: lock_timeout bounds each wait of ours, not what several statements of a file hold together */

static bool others_wait(struct migration_run *m)
{
	const char *params[2];
	char pid[16], ms[16];
	PGresult *r;
	bool yes;

	if (!m->config->block_ms)
		return false;
	if (!m->watch)
		m->watch = dial(m->config);
	snprintf(pid, sizeof(pid), "%d", PQbackendPID(m->c));
	snprintf(ms, sizeof(ms), "%ld", m->config->block_ms);
	params[0] = pid;
	params[1] = ms;
	r = PQexecParams(m->watch, "SELECT FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - $2::int * interval '1 ms' AND $1::int = ANY (pg_blocking_pids(pid)) LIMIT 1",
	    2, NULL, params, NULL, NULL, 0);
	yes = PQntuples(r) > 0;
	if (PQstatus(m->watch) != CONNECTION_OK) {
		PQfinish(m->watch);
		m->watch = NULL;
	}
	PQclear(r);
	return yes;
}

static void cancel(struct migration_run *m)
{
	PGcancel *c = PQgetCancel(m->c);
	char error[256];

	m->cancelled = true;
	if (!c || !PQcancel(c, error, sizeof(error)))
		log_warn("MIGRATE-WAIT", "schema %s: a statement that others wait for could not be cancelled", m->config->schema);
	PQfreeCancel(c);
}

static void wait_result(struct migration_run *m)
{
	while (PQisBusy(m->c)) {
		struct pollfd p = { .fd = PQsocket(m->c), .events = POLLIN };
		int n = poll(&p, 1, WATCH_MS);

		if (n == 0 && others_wait(m))
			cancel(m);
		if (n > 0 && !PQconsumeInput(m->c))
			return;
	}
}

static bool note_result(struct migration_run *m, const PGresult *r)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	ExecStatusType s = PQresultStatus(r);

	if (s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || s == PGRES_EMPTY_QUERY)
		return true;
	if (s == PGRES_COPY_IN || s == PGRES_COPY_OUT || s == PGRES_COPY_BOTH)
		log_die("MIGRATE-FAILED", "schema %s: COPY is not for migrations", m->config->schema);
	snprintf(m->state, sizeof(m->state), "%s", state ? state : "");
	snprintf(m->error, sizeof(m->error), "%s", PQresultErrorMessage(r));
	return false;
}

static bool run(struct migration_run *m, const char *sql)
{
	bool good = PQsendQuery(m->c, sql) == 1;
	PGresult *r;

	m->state[0] = 0;
	if (!good)
		snprintf(m->error, sizeof(m->error), "%s", PQerrorMessage(m->c));
	for (;;) {
		wait_result(m);
		r = PQgetResult(m->c);
		if (!r)
			return good;
		good = note_result(m, r) && good;
		PQclear(r);
	}
}

/* -- one file */

static const char *record_of(struct migration_run *m, const struct migrate_file *f)
{
	return arena_printf(&m->arena, "INSERT INTO migration (name, checksum, oldest_program) VALUES ('%s', '%s', nullif(%d, 0))", f->name, f->checksum, f->oldest_program);
}

static bool try_inside(struct migration_run *m, const struct migrate_file *f)
{
	must(m, "begin", "BEGIN");
	if (run(m, f->sql) && run(m, record_of(m, f)) && run(m, "COMMIT"))
		return true;
	must(m, "rollback", "ROLLBACK");
	return false;
}

/* What a try that failed left of an index is in the way of the next one, and slows writers down for nothing. */
static void drop_invalid(struct migration_run *m)
{
	PGresult *r = PQexec(m->c, arena_printf(&m->arena,
	    "SELECT format('DROP INDEX CONCURRENTLY %%I.%%I', relnamespace::regnamespace::text, relname) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
	    " WHERE NOT indisvalid AND relkind = 'i' AND relnamespace = '%s'::regnamespace", m->config->schema));

	for (int i = 0; i < PQntuples(r); i++) {
		if (!run(m, PQgetvalue(r, i, 0)))
			log_warn("MIGRATE-WAIT", "schema %s: %s: %s", m->config->schema, PQgetvalue(r, i, 0), m->error);
	}
	PQclear(r);
}

/* Waits for transactions that are open without holding up anybody, so as long as they last. */
static bool try_outside(struct migration_run *m, const struct migrate_file *f)
{
	bool good;

	must(m, "session", "SET lock_timeout = 0");
	drop_invalid(m);
	good = run(m, f->sql) && run(m, record_of(m, f));
	must(m, "session", "SET lock_timeout = '2s'");
	return good;
}

/* lock_not_available, deadlock_detected, and what we have cancelled ourselves */
static bool may_retry(const struct migration_run *m)
{
	return strcmp(m->state, "55P03") == 0 || strcmp(m->state, "40P01") == 0 || (m->cancelled && strcmp(m->state, "57014") == 0);
}

static void apply(struct migration_run *m, const struct migrate_file *f)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		m->cancelled = false;
		if (f->outside ? try_outside(m, f) : try_inside(m, f)) {
			log_info("MIGRATED", "schema %s: %s", m->config->schema, f->name);
			return;
		}
		if (!may_retry(m))
			break;
		log_warn("MIGRATE-WAIT", "schema %s: %s %s; try %d of %d", m->config->schema, f->name, m->cancelled ? "held others up for too long" : "waits for a lock", i + 2, LOCK_TRIES);
		sleep(1);
	}
	log_die("MIGRATE-FAILED", "schema %s, %s/%s: %s", m->config->schema, m->config->dir, f->name, m->error);
}

/* -- all of them */

static bool is_word(const char *s)
{
	return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s);
}

static int begin(struct migration_run *m, const char *const **names)
{
	int n;

	if (!is_word(m->config->schema))
		log_die("MIGRATE-FAILED", "'%s' is no schema name", m->config->schema);
	n = migrate_files(&m->arena, m->config->dir, names);
	if (n < 0)
		log_die("MIGRATE-READ", "%s: %s", m->config->dir, strerror(errno));
	open_connection(m);
	set_session(m);
	return n;
}

static void end(struct migration_run *m)
{
	PQfinish(m->watch);
	PQfinish(m->c);
	arena_fini(&m->arena);
}

void migrate_run(const struct migrate_config *config)
{
	struct migration_run m = { .config = config };
	const char *const *names;
	int n = begin(&m, &names), applied = 0;
	struct migrate_file f;

	take_turn(&m);
	make_table(&m);
	for (int i = 0; i < n; i++) {
		migrate_file_read(&m.arena, config->dir, names[i], config->schema, &f);
		if (is_applied(&m, &f))
			continue;
		apply(&m, &f);
		applied++;
	}
	log_info("MIGRATE-DONE", "schema %s: %s: %d of %d files applied now", config->schema, config->dir, applied, n);
	end(&m);
}

static bool has_table(struct migration_run *m)
{
	PGresult *r = PQexec(m->c, "SELECT FROM pg_class WHERE oid = to_regclass('migration')");
	bool yes = PQntuples(r) == 1;

	PQclear(r);
	return yes;
}

int migrate_pending(const struct migrate_config *config, FILE *out)
{
	struct migration_run m = { .config = config };
	const char *const *names;
	int n = begin(&m, &names), pending = 0;
	bool any = has_table(&m);
	struct migrate_file f;

	for (int i = 0; i < n; i++) {
		migrate_file_read(&m.arena, config->dir, names[i], config->schema, &f);
		if (any && is_applied(&m, &f))
			continue;
		fprintf(out, "%s %s\n", config->schema, f.name);
		pending++;
	}
	end(&m);
	return pending;
}

void db_migrate(const char *owner_url, const char *schema, const char *dir)
{
	struct migrate_config config = { .url = owner_url, .schema = schema, .dir = dir, .wait_s = MIGRATE_WAIT_S, .block_ms = MIGRATE_BLOCK_MS };

	migrate_run(&config);
}
