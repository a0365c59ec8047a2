/* Signs the ends of chains and keeps copies in a file that PostgreSQL cannot reach. */
#include "svc-audit/checkpoint.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "events/pgconn.h"

#define LOOK_MS 2000
#define EVERYTHING_US (60LL * 1000000)
#define STATEMENT_TIMEOUT_MS 30000
#define KEEP_US (3600LL * 1000000)
#define ROUND_MAX 500 /* of checkpoint_due() */

static struct {
	pthread_t thread;
	pthread_mutex_t lock; /* guards stop, hinted, stats, unsigned_since */
	pthread_cond_t woken;
	bool running, stop, hinted;
	int64_t unsigned_since; /* monotonic; 0: everything is signed */
	struct checkpoint_stats stats;
	/* the thread's own */
	char *database_url;
	const struct signer *signer;
	int fd;
	PGconn *conn;
	int64_t everything_at; /* monotonic: when even one new entry is signed */
	int64_t hinted_at;
	int64_t keep_at;       /* monotonic: when partitions are looked after */
	bool pending;          /* something was appended since everything was signed */
} me = { .lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER, .fd = -1 };

/* A line is written whole or not at all as far as readers are concerned: they leave out a last line without its end. */
static bool line_write(int fd, const char *tenant, const struct sign_place *p, const char *hash, const char *key, const char *signature)
{
	char line[600];
	int n = snprintf(line, sizeof line, "{\"tenant\":\"%s\",\"seq\":%lld,\"hash\":\"%s\",\"signed_us\":%lld,\"key\":\"%s\",\"signature\":\"%s\"}\n", tenant,
	    (long long)p->seq, hash, (long long)p->signed_us, key, signature);

	return n > 0 && (size_t)n < sizeof line && write(fd, line, (size_t)n) == n;
}

static enum status row_write(PGconn *c, const char *tenant, const struct sign_place *p, const char *hash, const char *signature)
{
	char seq[24], at[24];
	const char *params[] = { tenant, seq, hash, at, signature };
	enum status s = pgconn_begin(c);

	snprintf(seq, sizeof seq, "%lld", (long long)p->seq);
	snprintf(at, sizeof at, "%lld", (long long)p->signed_us);
	if (s == STATUS_OK)
		s = pgconn_exec(c, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, params);
	if (s == STATUS_OK)
		s = pgconn_exec(c, NULL, "INSERT INTO checkpoint (tenant_id, seq, hash, signed_us, signature) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", 5, params);
	if (s == STATUS_OK)
		s = pgconn_commit(c);
	if (s != STATUS_OK)
		pgconn_rollback(c);
	return s;
}

static bool place_read(const PGresult *r, int row, struct sign_place *p)
{
	p->signed_us = clock_us();
	return uuid_to_bytes(str_of(PQgetvalue(r, row, 0)), p->tenant) && str_to_i64(str_of(PQgetvalue(r, row, 1)), &p->seq) &&
	    hex_decode(str_of(PQgetvalue(r, row, 2)), p->hash, sizeof p->hash);
}

/* The file first: an end that only the database knows would be no witness against it. */
static enum status sign_rows(PGconn *c, const struct signer *signer, int fd, const PGresult *r)
{
	int n = PQntuples(r);
	struct sign_place *places = xcalloc((size_t)n, sizeof *places);
	char (*signatures)[SIGN_HEX + 1] = xcalloc((size_t)n, sizeof *signatures), key[SIGN_KEY_HEX + 1];
	enum status s = STATUS_OK;

	signer_public(signer, key);
	for (int i = 0; s == STATUS_OK && i < n; i++) {
		if (!place_read(r, i, &places[i])) {
			s = STATUS_INTERNAL;
			break;
		}
		sign_place(signer, SIGN_CHECKPOINT, &places[i], signatures[i]);
		if (fd >= 0 && !line_write(fd, PQgetvalue(r, i, 0), &places[i], PQgetvalue(r, i, 2), key, signatures[i]))
			s = STATUS_UNAVAILABLE;
	}
	if (s == STATUS_OK && fd >= 0 && fsync(fd) != 0)
		s = STATUS_UNAVAILABLE;
	for (int i = 0; s == STATUS_OK && i < n; i++)
		s = row_write(c, PQgetvalue(r, i, 0), &places[i], PQgetvalue(r, i, 2), signatures[i]);
	free(places);
	free(signatures);
	return s;
}

enum status checkpoint_round(PGconn *c, const struct signer *signer, int fd, bool everything, size_t *n)
{
	const char *params[] = { everything ? "true" : "false" };
	PGresult *r = NULL;
	enum status s = pgconn_exec(c, &r, "SELECT tenant_id, seq, hash FROM checkpoint_due($1)", 1, params);

	*n = 0;
	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) > 0)
		s = sign_rows(c, signer, fd, r);
	if (s == STATUS_OK)
		*n = (size_t)PQntuples(r);
	PQclear(r);
	return s;
}

static void count(size_t n, bool failed)
{
	pthread_mutex_lock(&me.lock);
	me.stats.signed_ends += n;
	me.stats.failures += failed;
	pthread_mutex_unlock(&me.lock);
}

static bool connected(void)
{
	if (me.conn && PQstatus(me.conn) != CONNECTION_OK) {
		PQfinish(me.conn);
		me.conn = NULL;
	}
	if (!me.conn)
		me.conn = pgconn_open(me.database_url, "audit-checkpoint", STATEMENT_TIMEOUT_MS);
	return me.conn != NULL;
}

static enum status look(void)
{
	bool everything = clock_mono_us() >= me.everything_at;
	enum status s = STATUS_UNAVAILABLE;
	size_t n = 0;

	if (connected())
		s = checkpoint_round(me.conn, me.signer, me.fd, everything, &n);
	count(n, s != STATUS_OK);
	if (s != STATUS_OK || !everything || n == ROUND_MAX)
		return s;
	me.everything_at = clock_mono_us() + EVERYTHING_US;
	/* the hint comes before the commit: what was hinted just now may not be visible yet */
	if (n == 0 && clock_mono_us() - me.hinted_at > EVERYTHING_US / 2)
		me.pending = false;
	pthread_mutex_lock(&me.lock);
	me.unsigned_since = me.pending ? clock_mono_us() : 0;
	pthread_mutex_unlock(&me.lock);
	return s;
}

/* Waits for the next look; false when it is over. */
static bool wait_turn(void)
{
	struct timespec until;
	bool go;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LOOK_MS / 1000;
	pthread_mutex_lock(&me.lock);
	while (!me.stop && pthread_cond_timedwait(&me.woken, &me.lock, &until) == 0)
		;
	go = !me.stop;
	if (me.hinted && !me.pending)
		me.everything_at = clock_mono_us() + EVERYTHING_US;
	if (me.hinted)
		me.hinted_at = clock_mono_us();
	me.pending = me.pending || me.hinted;
	if (me.pending && !me.unsigned_since)
		me.unsigned_since = clock_mono_us();
	me.hinted = false;
	pthread_mutex_unlock(&me.lock);
	return go;
}

/* Partitions of months to come and of months that are gone. Whether entries come or not. */
static void partitions_keep(void)
{
	PGresult *r = NULL;

	if (clock_mono_us() < me.keep_at || !connected())
		return;
	me.keep_at = clock_mono_us() + KEEP_US;
	if (pgconn_exec(me.conn, &r, "SELECT made, dropped FROM entry_partitions_keep()", 0, NULL) != STATUS_OK)
		log_warn("AUDIT-PARTITIONS", "partitions could not be looked after, again in an hour");
	else if (strcmp(PQgetvalue(r, 0, 0), "0") || strcmp(PQgetvalue(r, 0, 1), "0"))
		log_info("AUDIT-PARTITIONS", "%s made, %s dropped", PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
	PQclear(r);
}

static void *run(void *arg)
{
	while (wait_turn()) {
		partitions_keep();
		if (me.pending && look() != STATUS_OK)
			log_warn("AUDIT-CHECKPOINT", "ends of chains could not be signed, again in %d s", LOOK_MS / 1000);
	}
	PQfinish(me.conn);
	me.conn = NULL;
	return NULL;
}

void checkpoint_start(const char *database_url, const struct signer *signer, const char *path)
{
	sigset_t all, old;

	me.database_url = xstrdup(database_url);
	me.signer = signer;
	me.fd = *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640) : -1;
	if (*path && me.fd < 0)
		log_die("AUDIT-CHECKPOINT", "%s cannot be written", path);
	me.stop = false;
	me.pending = true; /* what a process before this one left unsigned */
	me.everything_at = clock_mono_us();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&me.thread, NULL, run, NULL))
		log_die("AUDIT-CHECKPOINT", "cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	me.running = true;
}

void checkpoint_hint(void)
{
	pthread_mutex_lock(&me.lock);
	me.hinted = true;
	pthread_mutex_unlock(&me.lock);
}

struct checkpoint_stats checkpoint_stats(void)
{
	struct checkpoint_stats s;

	pthread_mutex_lock(&me.lock);
	s = me.stats;
	s.unsigned_seconds = me.unsigned_since ? (double)(clock_mono_us() - me.unsigned_since) / 1e6 : 0;
	pthread_mutex_unlock(&me.lock);
	return s;
}

void checkpoint_stop(void)
{
	if (!me.running)
		return;
	pthread_mutex_lock(&me.lock);
	me.stop = true;
	pthread_cond_signal(&me.woken);
	pthread_mutex_unlock(&me.lock);
	pthread_join(me.thread, NULL);
	if (me.fd >= 0)
		close(me.fd);
	free(me.database_url);
	me.fd = -1;
	me.running = false;
}
