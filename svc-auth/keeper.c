/* Housekeeping on a thread of its own: signing keys every 10 seconds, purging every 10 minutes. */
#include "keeper.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "keys.h"

#define STEP_S 10
#define PURGE_EVERY 60
#define START_TRIES 60

static const char *url;
static PGconn *conn;
static pthread_t thread;
static bool running;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static bool connected(void)
{
	if (conn && PQstatus(conn) == CONNECTION_OK)
		return true;
	PQfinish(conn);
	conn = PQconnectdb(url);
	if (PQstatus(conn) != CONNECTION_OK)
		return false;
	PQclear(PQexec(conn, "SET statement_timeout = '30s'"));
	return true;
}

static bool keep(void)
{
	return connected() && keys_refresh(conn);
}

static void purge(void)
{
	PGresult *res = PQexec(conn, "SELECT purge()");

	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

		log_warn("AUTH-PURGE", "purging failed: SQLSTATE %s", state ? state : "none (connection)");
	}
	PQclear(res);
}

static bool rest(void)
{
	struct timespec until;
	bool on;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STEP_S;
	pthread_mutex_lock(&lock);
	if (running)
		pthread_cond_timedwait(&wake, &lock, &until);
	on = running;
	pthread_mutex_unlock(&lock);
	return on;
}

static void *loop(void *unused)
{
	for (unsigned turn = 1; rest(); turn++) {
		if (!keep())
			log_warn("AUTH-KEEPER", "signing keys could not be refreshed; the loaded ones stay in use");
		else if (turn % PURGE_EVERY == 0)
			purge();
	}
	return NULL;
}

void keeper_start(const char *database_url)
{
	int tries = 0;

	url = database_url;
	while (!keep()) {
		if (++tries == START_TRIES)
			log_die("AUTH-KEEPER", "no signing key: the database cannot be reached or the key-encryption key is not the right one");
		sleep(1);
	}
	running = true;
	if (pthread_create(&thread, NULL, loop, NULL))
		log_die("AUTH-KEEPER", "cannot start the keeper thread");
}

void keeper_stop(void)
{
	pthread_mutex_lock(&lock);
	if (!running) {
		pthread_mutex_unlock(&lock);
		return;
	}
	running = false;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	PQfinish(conn);
	conn = NULL;
}

int keeper_rotate(const char *database_url)
{
	char kid[KEYS_KID_MAX];
	const char *why = "the database cannot be reached";
	bool ok;

	url = database_url;
	ok = connected() && keys_rotate(conn, kid, &why);
	if (ok)
		printf("published %s; it signs in about two minutes\n", kid);
	else
		fprintf(stderr, "svc-auth keys rotate: %s\n", why);
	PQfinish(conn);
	conn = NULL;
	return ok ? 0 : 1;
}
