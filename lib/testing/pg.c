/* A private PostgreSQL cluster for tests, copied from a prepared one and removed by a watcher when the test is gone. */
#include "testing/pg.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/codec.h"
#include "db/db.h"

#define MAX_URLS 16

struct pg_fixture {
	char dir[64];
	PGconn *super;
	int watcher_stdin;
	pid_t watcher;
	char *urls[MAX_URLS];
	int n_urls;
	char value[4096];
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "test cluster: %s: %s\n", what, why);
	abort();
}

static const char *repo_root(void)
{
	const char *root = getenv("CRM_ROOT");

	return root ? root : ".";
}

static const char *pg_bin(void)
{
	const char *bin = getenv("PG_BIN");

	return bin ? bin : "/usr/lib/postgresql/15/bin";
}

/* PostgreSQL refuses to run as root. */
static char *as_postgres(struct arena *a, const char *command)
{
	if (geteuid() != 0)
		return arena_printf(a, "%s", command);
	return arena_printf(a, "su postgres -s /bin/sh -c \"%s\"", command);
}

static void shell(struct arena *a, const char *command)
{
	const char *line = arena_printf(a, "cd /tmp && { %s ; } </dev/null >/dev/null", command);

	if (system(line) != 0)
		die("command failed", command);
}

static char *start_command(struct arena *a, const char *dir)
{
	char *c = arena_printf(a, "%s/pg_ctl -D %s/data -w -t 30 -l %s/log -o '-k %s' start", pg_bin(), dir, dir, dir);

	return as_postgres(a, c);
}

static char *stop_command(struct arena *a, const char *dir, const char *mode)
{
	return as_postgres(a, arena_printf(a, "%s/pg_ctl -D %s/data -w -t 30 -m %s stop", pg_bin(), dir, mode));
}

static void hash_file(const char *path, char hex[17])
{
	struct buf b = { 0 };
	char part[4096];
	uint8_t sum[32];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		die("cannot read (run from the repository root or set CRM_ROOT)", path);
	do {
		n = fread(part, 1, sizeof(part), f);
		buf_put(&b, part, n);
	} while (n > 0);
	fclose(f);
	sha256(b.p, b.n, sum);
	hex_encode(sum, 8, hex);
	buf_fini(&b);
}

static const char *settings =
    "listen_addresses = ''\n"
    "unix_socket_permissions = 0777\n"
    "fsync = off\n"
    "max_connections = 60\n"
    "shared_buffers = 32MB\n"
    "min_wal_size = 32MB\n"
    "max_wal_size = 256MB\n"
    "log_min_messages = warning\n"
    "autovacuum = off\n";

static void prepare(struct arena *a, const char *dir, const char *bootstrap)
{
	char *conf;
	FILE *f;

	shell(a, arena_printf(a, "rm -rf %s && mkdir -p %s && chmod 755 %s", dir, dir, dir));
	if (geteuid() == 0)
		shell(a, arena_printf(a, "chown postgres %s", dir));
	shell(a, as_postgres(a, arena_printf(a, "%s/initdb -A trust -U postgres -E UTF8 --locale=C.UTF-8 --wal-segsize=4 -N -D %s/data", pg_bin(), dir)));
	conf = arena_printf(a, "%s/data/postgresql.conf", dir);
	f = fopen(conf, "ae");
	if (!f)
		die("cannot write", conf);
	fputs(settings, f);
	fclose(f);
	shell(a, start_command(a, dir));
	shell(a, arena_printf(a, "psql -q -X -v ON_ERROR_STOP=1 -h %s -U postgres -d postgres -f %s", dir, bootstrap));
	shell(a, stop_command(a, dir, "fast"));
}

/* One process prepares, the others wait for it. */
static char *prepared(struct arena *a)
{
	char *root = realpath(repo_root(), NULL), hex[17], *sql, *dir, *lock;
	struct stat st;
	int fd;

	if (!root)
		die("no such folder", repo_root());
	sql = arena_printf(a, "%s/deploy/sql/bootstrap.sql", root);
	hash_file(sql, hex);
	dir = arena_printf(a, "/tmp/crm-test-cluster-%u-%s", (unsigned)geteuid(), hex);
	lock = arena_printf(a, "%s.lock", dir);
	fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) != 0)
		die("cannot lock", lock);
	if (stat(dir, &st) != 0) {
		char *fresh = arena_printf(a, "%s.new", dir);

		prepare(a, fresh, sql);
		if (rename(fresh, dir) != 0)
			die("cannot rename", fresh);
	}
	close(fd);
	free(root);
	return dir;
}

/* A shell that waits for our end of the pipe to close, however that happens, and removes the cluster. */
static void watch(struct arena *a, struct pg_fixture *f)
{
	const char *script = arena_printf(a, "read x; cd /tmp; %s >/dev/null 2>&1; rm -rf %s", stop_command(a, f->dir, "immediate"), f->dir);
	int p[2];

	if (pipe2(p, O_CLOEXEC) != 0)
		die("pipe", f->dir);
	f->watcher = fork();
	if (f->watcher < 0)
		die("fork", f->dir);
	if (f->watcher == 0) {
		setsid();
		dup2(p[0], STDIN_FILENO);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(p[0]);
	f->watcher_stdin = p[1];
}

static void super_connect(struct pg_fixture *f)
{
	if (f->super)
		PQfinish(f->super);
	f->super = PQconnectdb(pg_fixture_url(f, "postgres"));
	if (PQstatus(f->super) != CONNECTION_OK)
		die("connect", PQerrorMessage(f->super));
}

struct pg_fixture *pg_fixture_start(void)
{
	struct pg_fixture *f = xcalloc(1, sizeof(*f));
	struct arena a = { 0 };
	char *from = prepared(&a);

	snprintf(f->dir, sizeof(f->dir), "/tmp/crm-pg-XXXXXX");
	if (!mkdtemp(f->dir))
		die("mkdtemp", f->dir);
	if (chmod(f->dir, 0755) != 0)
		die("chmod", f->dir);
	watch(&a, f);
	shell(&a, arena_printf(&a, "cp -a %s/data %s/data", from, f->dir));
	if (geteuid() == 0)
		shell(&a, arena_printf(&a, "chown postgres %s", f->dir));
	shell(&a, start_command(&a, f->dir));
	super_connect(f);
	arena_fini(&a);
	return f;
}

void pg_fixture_stop(struct pg_fixture *f)
{
	PQfinish(f->super);
	if (write(f->watcher_stdin, "stop\n", 5) != 5)
		die("watcher is gone", f->dir);
	close(f->watcher_stdin);
	waitpid(f->watcher, NULL, 0);
	for (int i = 0; i < f->n_urls; i++)
		free(f->urls[i]);
	free(f);
}

const char *pg_fixture_url(struct pg_fixture *f, const char *role)
{
	struct buf b = { 0 };

	buf_printf(&b, "host=%s dbname=crm user=%s", f->dir, role);
	for (int i = 0; i < f->n_urls; i++) {
		if (strcmp(f->urls[i], buf_cstr(&b)) == 0) {
			buf_fini(&b);
			return f->urls[i];
		}
	}
	if (f->n_urls == MAX_URLS)
		die("too many roles", role);
	f->urls[f->n_urls] = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return f->urls[f->n_urls++];
}

void pg_fixture_migrate(struct pg_fixture *f, const char *schema, const char *dir)
{
	struct arena a = { 0 };
	const char *owner = pg_fixture_url(f, arena_printf(&a, "%s_owner", schema));

	db_migrate(owner, schema, arena_printf(&a, "%s/lib/db/schema", repo_root()));
	if (dir)
		db_migrate(owner, schema, dir[0] == '/' ? dir : arena_printf(&a, "%s/%s", repo_root(), dir));
	arena_fini(&a);
}

void pg_fixture_sql(struct pg_fixture *f, const char *sql)
{
	PGresult *r = PQexec(f->super, sql);
	ExecStatusType s = PQresultStatus(r);

	if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK)
		die(sql, PQerrorMessage(f->super));
	PQclear(r);
}

const char *pg_fixture_value(struct pg_fixture *f, const char *sql)
{
	PGresult *r = PQexec(f->super, sql);

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		die(sql, PQerrorMessage(f->super));
	snprintf(f->value, sizeof(f->value), "%s", PQntuples(r) ? PQgetvalue(r, 0, 0) : "");
	PQclear(r);
	return f->value;
}

void pg_fixture_down(struct pg_fixture *f, const char *mode)
{
	struct arena a = { 0 };

	shell(&a, stop_command(&a, f->dir, mode));
	arena_fini(&a);
}

void pg_fixture_up(struct pg_fixture *f)
{
	struct arena a = { 0 };

	shell(&a, start_command(&a, f->dir));
	super_connect(f);
	arena_fini(&a);
}

void pg_fixture_restart(struct pg_fixture *f, const char *mode)
{
	pg_fixture_down(f, mode);
	pg_fixture_up(f);
}
