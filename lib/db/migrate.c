/* Forward-only migrations: each file once, in order, one process at a time, never waiting long for a lock. */
#include "db/migrate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/codec.h"
#include "base/log.h"
#include "db/db.h"

#define MAX_FILES 1000
#define MAX_FILE_BYTES (4u << 20)
#define CONNECT_SECONDS 30
#define LOCK_TRIES 60      /* of 2 s each: a table that is never free for 2 s needs an operator */
#define TURN_TRIES 3000    /* of 100 ms each: another process is migrating */

struct migration_run {
	PGconn *c;
	const char *schema, *dir;
	struct arena arena;
};

static bool is_migration(const char *name)
{
	size_t n = strlen(name);

	return n > 8 && isdigit((unsigned char)name[0]) && isdigit((unsigned char)name[1]) && isdigit((unsigned char)name[2]) && name[3] == '_' &&
	    strcmp(name + n - 4, ".sql") == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int migrate_files(struct arena *a, const char *dir, const char *const **names)
{
	const char **list = arena_alloc(a, MAX_FILES * sizeof(*list));
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	*names = list;
	if (!d)
		return -1;
	for (e = readdir(d); e && n < MAX_FILES; e = readdir(d)) {
		if (is_migration(e->d_name))
			list[n++] = arena_strdup(a, str_of(e->d_name));
	}
	closedir(d);
	qsort(list, (size_t)n, sizeof(*list), by_name);
	return n;
}

static void read_file(const char *path, struct buf *into)
{
	FILE *f = fopen(path, "re");
	char part[8192];
	size_t n;

	if (!f)
		log_die("MIGRATE-READ", "%s: %s", path, strerror(errno));
	do {
		n = fread(part, 1, sizeof(part), f);
		buf_put(into, part, n);
	} while (n > 0 && into->n <= MAX_FILE_BYTES);
	if (ferror(f) || into->n > MAX_FILE_BYTES || (into->n && memchr(into->p, 0, into->n)))
		log_die("MIGRATE-READ", "%s: unreadable, too large or not text", path);
	fclose(f);
}

/* {{schema}} becomes the schema's name. */
static char *with_schema(struct arena *a, struct buf *text, const char *schema)
{
	const char *mark = "{{schema}}", *from = buf_cstr(text), *hit = strstr(from, mark);
	struct buf out = { 0 };
	char *sql;

	for (; hit; hit = strstr(from, mark)) {
		buf_put(&out, from, (size_t)(hit - from));
		buf_z(&out, schema);
		from = hit + strlen(mark);
	}
	buf_z(&out, from);
	sql = arena_strdup(a, buf_view(&out));
	buf_fini(&out);
	return sql;
}

static void connect_owner(struct migration_run *m, const char *url)
{
	for (int second = 0;; second++) {
		m->c = PQconnectdb(url);
		if (PQstatus(m->c) == CONNECTION_OK)
			return;
		if (second >= CONNECT_SECONDS)
			log_die("MIGRATE-CONNECT", "schema %s: %s", m->schema, PQerrorMessage(m->c));
		PQfinish(m->c);
		sleep(1);
	}
}

static void must(struct migration_run *m, const char *what, const char *sql)
{
	PGresult *r = PQexec(m->c, sql);
	ExecStatusType s = PQresultStatus(r);

	if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK)
		log_die("MIGRATE-FAILED", "schema %s, %s: %s", m->schema, what, PQerrorMessage(m->c));
	PQclear(r);
}

static void take_turn(struct migration_run *m)
{
	const char *sql = arena_printf(&m->arena, "SELECT pg_try_advisory_lock(hashtext('crm.migrate'), hashtext('%s'))", m->schema);

	for (int i = 0; i < TURN_TRIES; i++) {
		PGresult *r = PQexec(m->c, sql);
		bool ours = PQresultStatus(r) == PGRES_TUPLES_OK && PQgetvalue(r, 0, 0)[0] == 't';

		PQclear(r);
		if (ours)
			return;
		if (PQstatus(m->c) != CONNECTION_OK)
			break;
		usleep(100000);
	}
	log_die("MIGRATE-LOCK", "schema %s: another process has been migrating for too long: %s", m->schema, PQerrorMessage(m->c));
}

static void prepare_session(struct migration_run *m)
{
	must(m, "session", arena_printf(&m->arena,
	    "SET client_min_messages = warning; SET search_path = %s, extensions; SET statement_timeout = 0; SET lock_timeout = '2s'", m->schema));
	take_turn(m);
	must(m, "version table", arena_printf(&m->arena,
	    "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
	    "GRANT SELECT ON migration TO %s_app, %s_relay", m->schema, m->schema));
}

/* True when the file was applied before; exits when it was another text then. */
static bool is_applied(struct migration_run *m, const char *name, const char *checksum)
{
	const char *params[] = { name };
	PGresult *r = PQexecParams(m->c, "SELECT checksum FROM migration WHERE name = $1", 1, NULL, params, NULL, NULL, 0);
	bool found;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		log_die("MIGRATE-FAILED", "schema %s, %s: %s", m->schema, name, PQerrorMessage(m->c));
	found = PQntuples(r) == 1;
	if (found && strcmp(PQgetvalue(r, 0, 0), checksum) != 0)
		log_die("MIGRATE-CHANGED", "schema %s: %s/%s was changed after it was applied; put the change into a new file", m->schema, m->dir, name);
	PQclear(r);
	return found;
}

static bool run(PGconn *c, const char *sql, char sqlstate[6])
{
	PGresult *r = PQexec(c, sql);
	ExecStatusType s = PQresultStatus(r);
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	snprintf(sqlstate, 6, "%s", code ? code : "");
	PQclear(r);
	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK;
}

static void apply(struct migration_run *m, const char *name, const char *checksum, const char *sql)
{
	const char *record = arena_printf(&m->arena, "INSERT INTO migration (name, checksum) VALUES ('%s', '%s')", name, checksum);
	char sqlstate[6] = "";

	for (int i = 0; i < LOCK_TRIES; i++) {
		must(m, "begin", "BEGIN");
		if (run(m->c, sql, sqlstate) && run(m->c, record, sqlstate) && run(m->c, "COMMIT", sqlstate)) {
			log_info("MIGRATED", "schema %s: %s", m->schema, name);
			return;
		}
		if (strcmp(sqlstate, "55P03") != 0)
			break;
		log_warn("MIGRATE-WAIT", "schema %s: %s waits for a lock", m->schema, name);
		must(m, "rollback", "ROLLBACK");
		sleep(1);
	}
	log_die("MIGRATE-FAILED", "schema %s, %s/%s: %s", m->schema, m->dir, name, PQerrorMessage(m->c));
}

static void migrate_file(struct migration_run *m, const char *name)
{
	struct buf text = { 0 };
	uint8_t sum[32];
	char checksum[65];

	if (strpbrk(name, "'\\"))
		log_die("MIGRATE-FAILED", "%s/%s: the name must not have quotes", m->dir, name);
	read_file(arena_printf(&m->arena, "%s/%s", m->dir, name), &text);
	sha256(text.p, text.n, sum);
	hex_encode(sum, sizeof(sum), checksum);
	if (!is_applied(m, name, checksum))
		apply(m, name, checksum, with_schema(&m->arena, &text, m->schema));
	buf_fini(&text);
}

static bool is_word(const char *s)
{
	return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s);
}

void db_migrate(const char *owner_url, const char *schema, const char *dir)
{
	struct migration_run m = { .schema = schema, .dir = dir };
	const char *const *names;
	int n;

	if (!is_word(schema))
		log_die("MIGRATE-FAILED", "'%s' is no schema name", schema);
	n = migrate_files(&m.arena, dir, &names);
	if (n < 0)
		log_die("MIGRATE-READ", "%s: %s", dir, strerror(errno));
	connect_owner(&m, owner_url);
	prepare_session(&m);
	for (int i = 0; i < n; i++)
		migrate_file(&m, names[i]);
	PQfinish(m.c);
	arena_fini(&m.arena);
}
