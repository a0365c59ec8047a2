/* Hourly: days of the outbox are made ahead and dropped, old idempotency keys and inbox rows deleted in bounded batches. */
#include "db/cleaner.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/str.h"
#include "db/outcome.h"

#define EVERY_SECONDS 3600
#define FIRST_SECONDS 60
#define BATCHES 4000      /* of one table in one pass, 20,000,000 rows: more than 5,000 events a second can make; the rest waits for the next */
#define PAUSE_US 20000    /* between batches, so that nobody notices */

static const char *const batches[] = {
	"DELETE FROM idempotency WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency WHERE created_at < now() - interval '24 hours'"
	" ORDER BY created_at LIMIT 5000))",
	"DELETE FROM inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM inbox WHERE done_at < now() - interval '8 days' LIMIT 5000))",
};
#define N_BATCHES (sizeof(batches) / sizeof(batches[0]))

struct cleaner {
	char *url;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
};

static bool is_stopping(struct cleaner *c)
{
	bool stopping;

	if (!c)
		return false;
	pthread_mutex_lock(&c->lock);
	stopping = c->stopping;
	pthread_mutex_unlock(&c->lock);
	return stopping;
}

/* Rows of one batch; -1: failed. */
static long run_batch(PGconn *conn, const char *sql)
{
	PGresult *r = PQexec(conn, sql);
	int64_t n = -1;

	if (PQresultStatus(r) != PGRES_COMMAND_OK || !str_to_i64(str_of(PQcmdTuples(r)), &n))
		log_warn("DB-CLEAN", "%.*s", (int)strcspn(PQerrorMessage(conn), "\n"), PQerrorMessage(conn));
	PQclear(r);
	return n;
}

/* Days of the outbox that were made or dropped; -1: failed. */
static long days(PGconn *conn)
{
	PGresult *r = PQexec(conn, "SELECT made, dropped FROM outbox_housekeep()");
	int64_t made = 0, dropped = 0;

	if (PQresultStatus(r) != PGRES_TUPLES_OK || !str_to_i64(str_of(PQgetvalue(r, 0, 0)), &made) || !str_to_i64(str_of(PQgetvalue(r, 0, 1)), &dropped)) {
		log_warn("DB-CLEAN", "%.*s", (int)strcspn(PQerrorMessage(conn), "\n"), PQerrorMessage(conn));
		made = -1;
	}
	PQclear(r);
	if (made > 0 || dropped > 0)
		log_info("DB-CLEAN", "days of the outbox: %lld made, %lld dropped", (long long)made, (long long)dropped);
	return made < 0 ? -1 : (long)(made + dropped);
}

static long pass(PGconn *conn, struct cleaner *c)
{
	long total = 0, n;

	if (days(conn) < 0)
		return -1;
	for (size_t i = 0; i < N_BATCHES; i++) {
		for (int k = 0; k < BATCHES && !is_stopping(c); k++) {
			n = run_batch(conn, batches[i]);
			if (n < 0)
				return -1;
			total += n;
			if (n == 0)
				break;
			usleep(PAUSE_US);
		}
	}
	return total;
}

long cleaner_pass(PGconn *conn)
{
	return pass(conn, NULL);
}

static bool sleep_until_due(struct cleaner *c, long seconds)
{
	struct timespec t;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += seconds;
	pthread_mutex_lock(&c->lock);
	while (!c->stopping && rc == 0)
		rc = pthread_cond_timedwait(&c->wake, &c->lock, &t);
	pthread_mutex_unlock(&c->lock);
	return !is_stopping(c);
}

static void clean(struct cleaner *c)
{
	struct db_connect_params p;
	PGconn *conn;
	long n = -1;

	db_connect_params(&p, c->url, 30000, false, "crm-cleaner");
	conn = PQconnectdbParams(p.keys, p.values, 1);
	if (PQstatus(conn) == CONNECTION_OK)
		n = pass(conn, c);
	else
		log_warn("DB-CLEAN", "cannot connect, trying again in an hour");
	if (n > 0)
		log_info("DB-CLEAN", "%ld old rows deleted", n);
	PQfinish(conn);
}

static void *cleaner_main(void *arg)
{
	struct cleaner *c = arg;
	long wait = FIRST_SECONDS;

	pthread_setname_np(pthread_self(), "db-cleaner");
	while (sleep_until_due(c, wait)) {
		clean(c);
		wait = EVERY_SECONDS;
	}
	return NULL;
}

struct cleaner *cleaner_start(const char *url)
{
	struct cleaner *c = xcalloc(1, sizeof(*c));
	sigset_t all, before;

	c->url = xstrdup(url);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&c->thread, NULL, cleaner_main, c) != 0)
		log_die("DB-CLEAN", "cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return c;
}

void cleaner_stop(struct cleaner *c)
{
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->wake);
	free(c->url);
	free(c);
}
