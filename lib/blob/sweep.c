/* The thread that deletes from the blob store what nothing refers to. */
#include "blob/sweep.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

#define TURN_S 1

static struct blob_store *store;
static const char *url;
static PGconn *conn;
static pthread_t thread;
static bool running;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

/* True: there may be more. The row stays locked while the store is asked, so of several instances one does it. */
static bool sweep_one(PGconn *db)
{
	static const char done[] = "DELETE FROM blob_queue WHERE blob = $1",
			  later[] = "UPDATE blob_queue SET tries = tries + 1, due_at = now() + least(3600, 10 * 2 ^ least(tries, 12)) * interval '1 second' WHERE blob = $1";
	char why[BLOB_WHY] = "";
	PGresult *res;
	bool found;

	PQclear(PQexec(db, "BEGIN"));
	res = PQexec(db, "SELECT blob FROM blob_queue WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED");
	found = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;
	if (found) {
		const char *key = PQgetvalue(res, 0, 0);
		bool gone = blob_delete(store, key, why) == BLOB_OK;

		if (!gone)
			log_warn("BLOB-DELETE", "%s stays for now: %s", key, why);
		PQclear(PQexecParams(db, gone ? done : later, 1, NULL, &key, NULL, NULL, 0));
	}
	PQclear(res);
	res = PQexec(db, "COMMIT");
	found = found && PQresultStatus(res) == PGRES_COMMAND_OK;
	PQclear(res);
	return found;
}

static bool connected(void)
{
	if (conn && PQstatus(conn) == CONNECTION_OK)
		return true;
	PQfinish(conn);
	conn = PQconnectdb(url);
	return PQstatus(conn) == CONNECTION_OK;
}

static bool is_on(void)
{
	bool on;

	pthread_mutex_lock(&lock);
	on = running;
	pthread_mutex_unlock(&lock);
	return on;
}

static void rest(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += TURN_S;
	pthread_mutex_lock(&lock);
	if (running)
		pthread_cond_timedwait(&wake, &lock, &until);
	pthread_mutex_unlock(&lock);
}

static void *loop(void *unused)
{
	while (is_on()) {
		while (is_on() && connected() && sweep_one(conn))
			;
		rest();
	}
	return NULL;
}

struct blob_store *blob_sweep_start(const struct blob_options *o, const char *database_url)
{
	const char *why = "";

	if (!*o->url)
		return NULL;
	store = blob_open(o, &why);
	if (!store)
		log_die("BLOB-URL", "BLOB_URL: %s", why);
	url = database_url;
	running = true;
	if (pthread_create(&thread, NULL, loop, NULL))
		log_die("BLOB-THREAD", "cannot start the thread that deletes blobs");
	return store;
}

void blob_sweep_stop(void)
{
	if (!is_on())
		return;
	pthread_mutex_lock(&lock);
	running = false;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	PQfinish(conn);
	conn = NULL; /* the store stays open: others may be reading from it until the process ends */
}
