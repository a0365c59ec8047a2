/* Carries change notices between the instances of a service over LISTEN and NOTIFY. */
#include "resource/notices.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "resource/counts.h"

#define GATHER_MS 20
#define RETRY_MS 500
#define MAX_PENDING 4000
#define MAX_PAYLOAD 7000 /* PostgreSQL allows 8,000 bytes */
#define NOTICE_LEN 96

static struct {
	pthread_t thread;
	bool started;
	atomic_bool stop;
	int wake;
	char *url, channel[64];
	pthread_mutex_t lock;
	char (*pending)[NOTICE_LEN];
	size_t n_pending;
	bool all; /* more than fits: everything may have changed */
	atomic_uint_fast64_t sent, heard;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = -1 };

static void wake(void)
{
	uint64_t one = 1;
	ssize_t n = write(self.wake, &one, sizeof(one));

	(void)n; /* a full counter wakes as well */
}

static bool pending_has(const char *notice)
{
	for (size_t i = self.n_pending; i > 0 && self.n_pending - i < 64; i--)
		if (strcmp(self.pending[i - 1], notice) == 0)
			return true;
	return false;
}

void notices_add(struct str tenant, struct str entity)
{
	char notice[NOTICE_LEN];
	bool first = false;

	if (!self.started || !tenant.n || tenant.n > 40 || entity.n > 50)
		return;
	snprintf(notice, sizeof(notice), "%.*s/%.*s", STR_FMT(tenant), STR_FMT(entity));
	pthread_mutex_lock(&self.lock);
	if (self.n_pending == MAX_PENDING) {
		self.all = true;
	} else if (!pending_has(notice)) {
		first = self.n_pending == 0;
		memcpy(self.pending[self.n_pending++], notice, sizeof(notice));
	}
	pthread_mutex_unlock(&self.lock);
	if (first)
		wake();
}

/* Takes as many notices as fit into one payload; "*" for everything. */
static bool pending_take(struct buf *b)
{
	buf_clear(b);
	pthread_mutex_lock(&self.lock);
	if (self.all) {
		buf_c(b, '*');
		self.all = false;
		self.n_pending = 0;
	}
	while (self.n_pending && b->n < MAX_PAYLOAD) {
		const char *last = self.pending[self.n_pending - 1];

		if (b->n)
			buf_c(b, ' ');
		buf_z(b, last);
		self.n_pending--;
	}
	pthread_mutex_unlock(&self.lock);
	return b->n > 0;
}

static bool send_pending(PGconn *c, struct buf *b)
{
	while (pending_take(b)) {
		const char *params[] = { self.channel, buf_cstr(b) };
		PGresult *r = PQexecParams(c, "SELECT pg_notify($1, $2)", 2, NULL, params, NULL, NULL, 0);
		bool ok = PQresultStatus(r) == PGRES_TUPLES_OK;

		PQclear(r);
		if (!ok) {
			pthread_mutex_lock(&self.lock);
			self.all = true; /* what was taken is lost otherwise */
			pthread_mutex_unlock(&self.lock);
			return false;
		}
		atomic_fetch_add(&self.sent, 1);
	}
	return true;
}

static void heard_one(struct str notice)
{
	const char *slash = memchr(notice.p, '/', notice.n);

	if (notice.n == 1 && notice.p[0] == '*')
		counts_heard((struct str){ 0 }, (struct str){ 0 });
	if (!slash)
		return;
	counts_heard((struct str){ notice.p, (size_t)(slash - notice.p) }, (struct str){ slash + 1, notice.n - (size_t)(slash + 1 - notice.p) });
}

static void heard(const char *payload)
{
	while (*payload) {
		size_t n = strcspn(payload, " ");

		heard_one((struct str){ payload, n });
		payload += n + (payload[n] == ' ');
	}
	atomic_fetch_add(&self.heard, 1);
}

static void drain(PGconn *c)
{
	PGnotify *n = PQnotifies(c);

	for (; n; n = PQnotifies(c)) {
		if (n->be_pid != PQbackendPID(c))
			heard(n->extra);
		PQfreemem(n);
	}
}

/* Waits for a notice from there (true) or from here, at most ms. */
static void wait_for(int fd, int ms)
{
	struct pollfd p[2] = { { .fd = self.wake, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	uint64_t drop;
	int n = poll(p, fd >= 0 ? 2 : 1, ms);

	if (n > 0 && p[0].revents & POLLIN && read(self.wake, &drop, sizeof(drop)) < 0 && errno != EAGAIN)
		log_error("NOTICE-WAKE", "eventfd: %s", strerror(errno));
}

static bool listen_start(PGconn *c)
{
	struct buf b = { 0 };
	PGresult *r;
	bool ok;

	if (PQstatus(c) != CONNECTION_OK)
		return false;
	buf_printf(&b, "LISTEN %s", self.channel);
	r = PQexec(c, buf_cstr(&b));
	ok = PQresultStatus(r) == PGRES_COMMAND_OK;
	PQclear(r);
	buf_fini(&b);
	return ok;
}

static void serve(PGconn *c)
{
	struct buf b = { 0 };

	while (!atomic_load(&self.stop)) {
		if (!send_pending(c, &b))
			break;
		drain(c);
		wait_for(PQsocket(c), 10000);
		if (!PQconsumeInput(c))
			break;
		drain(c);
		/* the first change goes out at once, those that follow it within 20 ms go together */
		if (!send_pending(c, &b))
			break;
		usleep(GATHER_MS * 1000);
	}
	buf_fini(&b);
}

static void *run(void *arg)
{
	while (!atomic_load(&self.stop)) {
		PGconn *c = PQconnectdb(self.url);

		if (listen_start(c)) {
			counts_listening(true);
			serve(c);
			counts_listening(false);
		}
		PQfinish(c);
		if (!atomic_load(&self.stop)) {
			log_warn("NOTICE-CONNECT", "no connection for change notices, trying again");
			wait_for(-1, RETRY_MS);
		}
	}
	return NULL;
}

void notices_start(const char *url, const char *schema)
{
	int rc;

	if (self.started)
		return;
	self.url = xstrdup(url);
	snprintf(self.channel, sizeof(self.channel), "%s_changed", schema);
	self.pending = xcalloc(MAX_PENDING, NOTICE_LEN);
	self.n_pending = 0;
	atomic_store(&self.stop, false);
	self.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	self.started = true;
	rc = self.wake < 0 ? errno : pthread_create(&self.thread, NULL, run, NULL);
	if (rc)
		log_die("NOTICE-START", "cannot start the thread for change notices: %s", strerror(rc));
}

void notices_stop(void)
{
	if (!self.started)
		return;
	atomic_store(&self.stop, true);
	wake();
	pthread_join(self.thread, NULL);
	self.started = false;
	close(self.wake);
	self.wake = -1;
	free(self.url);
	free(self.pending);
}

struct notices_stats notices_stats(void)
{
	return (struct notices_stats){ atomic_load(&self.sent), atomic_load(&self.heard) };
}
