/*
 * The link to Redis: a thread with a loop of its own and two connections, one for commands, one that listens for rings.
 *
 * Everything that waits for a reply is a job; jobs are answered in order, so the first of the list is the oldest. When it is older
 * than the timeout the connection is dropped, which answers all of them from memory, and made again after a pause.
 */
#include "internal.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <hiredis/adapters/libevent.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "telemetry/metrics.h"

#include <utlist.h>

#define EXPIRE_EVERY_MS 10
#define GREETING_MS 1000
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 2000
#define WARN_EVERY_US 60000000
#define NAME_MAX_BYTES 64
#define ARGS_MAX (4 + COUNTERS_TOGETHER * 6)

static struct metric up = { .name = "crm_counters_shared", .help = "1: limits are counted in Redis; 0: by this process alone", .type = METRIC_GAUGE };
static struct metric asked = { .name = "crm_counters_asked_total", .help = "Questions about a limit, by who decided", .type = METRIC_COUNTER, .labels = { "decided" } };
static struct metric told = { .name = "crm_counters_told_total", .help = "Buckets whose tokens were told to Redis afterwards", .type = METRIC_COUNTER };
static struct metric lost = { .name = "crm_counters_lost_total", .help = "Connections to Redis that were lost, refused or too slow", .type = METRIC_COUNTER };
static const double delays[] = { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05 };
static struct metric delay = { .name = "crm_counters_ask_seconds", .help = "How long Redis took to answer", .type = METRIC_HISTOGRAM, .bounds = delays, .n_bounds = sizeof(delays) / sizeof(*delays) };

struct job {
	struct link *link;
	struct counter rows[COUNTERS_TOGETHER];
	size_t n;
	uint32_t epoch;
	int64_t sent_us;    /* monotonic */
	counters_done done; /* NULL: only settles a debt */
	void *arg;
	struct job *prev, *next;
};

struct link {
	struct link_config config;
	char name[NAME_MAX_BYTES];
	char *host, *user, *password, *db;
	int port;
	struct event_base *base;
	struct event *kicked, *flush, *expire, *again;
	int kick_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* incoming, ring, stopping */
	struct job *incoming;
	bool ring, stopping;
	atomic_uint epoch;    /* 0: not ready */
	atomic_bool owing;    /* a flush is due or under way */
	/* the rest belongs to the thread */
	uint32_t last_epoch;
	redisAsyncContext *commands, *bell;
	char sha[41];
	struct job *sent;
	int pause_ms;
	int64_t warned_us;
	char why[128];
};

uint32_t link_epoch(const struct link *l)
{
	return atomic_load_explicit(&((struct link *)(uintptr_t)l)->epoch, memory_order_relaxed);
}

/* -- other threads */

static void kick(struct link *l)
{
	uint64_t one = 1;

	if (write(l->kick_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warn("COUNTERS-WAKE", "eventfd: %s", strerror(errno));
}

void link_ask(struct link *l, const struct counter *rows, size_t n, counters_done done, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));
	bool first;

	j->link = l;
	memcpy(j->rows, rows, n * sizeof(*rows));
	j->n = n;
	j->done = done;
	j->arg = arg;
	j->sent_us = clock_mono_us();
	pthread_mutex_lock(&l->lock);
	first = !l->incoming;
	DL_APPEND(l->incoming, j);
	pthread_mutex_unlock(&l->lock);
	if (first)
		kick(l);
}

void link_owes(struct link *l)
{
	if (!atomic_exchange(&l->owing, true))
		kick(l);
}

void link_ring(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->ring = true;
	pthread_mutex_unlock(&l->lock);
	kick(l);
}

/* -- jobs */

static void after(struct event *e, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_add(e, &tv);
}

static void count_asked(const char *who)
{
	metric_add(metric_series(&asked, str_of(who)), 1);
}

/* Without Redis, or too late. */
static void answer_here(struct job *j)
{
	struct counter_answer a;
	bool owes = false;

	if (j->done) {
		table_take(j->link->config.table, j->rows, j->n, 0, true, clock_us(), &a, &owes);
		count_asked("here");
		j->done(j->arg, &a);
	}
	free(j);
}

static bool answer_of(const redisReply *r, size_t n, bool *taken, int64_t in_us[COUNTERS_TOGETHER])
{
	if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != n + 1)
		return false;
	for (size_t i = 0; i <= n; i++) {
		if (r->element[i]->type != REDIS_REPLY_INTEGER)
			return false;
		if (i)
			in_us[i - 1] = r->element[i]->integer;
	}
	*taken = r->element[0]->integer == 1;
	return true;
}

static void drop_commands(struct link *l, const char *why);

static void on_answer(redisAsyncContext *ac, void *reply, void *arg)
{
	struct job *j = arg;
	struct link *l = j->link;
	const redisReply *r = reply;
	struct counter_answer a = { .shared = true };
	int64_t in_us[COUNTERS_TOGETHER], now = clock_us();
	bool taken;

	DL_DELETE(l->sent, j);
	if (!answer_of(r, j->n, &taken, in_us)) {
		answer_here(j);
		if (r)
			drop_commands(l, r->type == REDIS_REPLY_ERROR ? r->str : "it answers something else");
		return;
	}
	for (size_t i = 0; i < j->n; i++) {
		table_learn(l->config.table, &j->rows[i], j->epoch, in_us[i], now);
		a.full_us[i] = now + in_us[i];
	}
	metric_observe(metric_series(&delay), (double)(clock_mono_us() - j->sent_us) / 1e6);
	a.refused = !taken;
	if (j->done) {
		count_asked("redis");
		j->done(j->arg, &a);
	}
	free(j);
}

struct args {
	const char *v[ARGS_MAX];
	size_t n[ARGS_MAX];
	int count;
	char text[ARGS_MAX][96];
};

static void arg_text(struct args *a, const char *format, ...)
{
	va_list ap;
	int i = a->count++;

	va_start(ap, format);
	a->n[i] = (size_t)vsnprintf(a->text[i], sizeof(a->text[i]), format, ap);
	va_end(ap);
	a->v[i] = a->text[i];
}

/* debts: one for each of the job's rows. */
static void send_job(struct link *l, struct job *j, const struct debt *debts)
{
	struct args a = { .count = 0 };

	arg_text(&a, "EVALSHA");
	arg_text(&a, "%s", l->sha);
	arg_text(&a, "%zu", j->n);
	for (size_t i = 0; i < j->n; i++)
		arg_text(&a, "%s:%016llx", l->name, (unsigned long long)j->rows[i].id);
	arg_text(&a, "%d", j->done ? 1 : 0);
	for (size_t i = 0; i < j->n; i++) {
		arg_text(&a, "%lld", (long long)counter_interval_us(&j->rows[i].limit));
		arg_text(&a, "%lld", (long long)j->rows[i].limit.window_us);
		arg_text(&a, "%lld", (long long)j->rows[i].limit.lend_us);
		arg_text(&a, "%lld", (long long)debts[i].spent);
		arg_text(&a, "%lld", (long long)debts[i].floor_us);
	}
	j->epoch = atomic_load(&l->epoch);
	DL_APPEND(l->sent, j);
	if (!event_pending(l->expire, EV_TIMEOUT, NULL))
		after(l->expire, EXPIRE_EVERY_MS);
	if (redisAsyncCommandArgv(l->commands, on_answer, j, a.count, a.v, a.n) != REDIS_OK) {
		DL_DELETE(l->sent, j);
		answer_here(j);
	}
}

static void ask_now(struct link *l, struct job *j)
{
	struct debt debts[COUNTERS_TOGETHER];

	if (!atomic_load(&l->epoch)) {
		answer_here(j);
		return;
	}
	for (size_t i = 0; i < j->n; i++)
		table_settle(l->config.table, &j->rows[i], atomic_load(&l->epoch), clock_us(), &debts[i]);
	send_job(l, j, debts);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	struct debt debt;

	atomic_store(&l->owing, false);
	while (atomic_load(&l->epoch) && table_next_debt(l->config.table, atomic_load(&l->epoch), clock_us(), &debt)) {
		struct job *j = xcalloc(1, sizeof(*j));

		*j = (struct job){ .link = l, .rows = { debt.row }, .n = 1, .sent_us = clock_mono_us() };
		metric_add(metric_series(&told), 1);
		send_job(l, j, &debt);
	}
}

static void on_expire(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	if (l->sent && clock_mono_us() - l->sent->sent_us > (COUNTERS_TIMEOUT_MS - EXPIRE_EVERY_MS) * 1000)
		drop_commands(l, "it does not answer in time");
	if (l->sent)
		after(l->expire, EXPIRE_EVERY_MS);
}

/* -- connections */

static void warn(struct link *l, const char *why)
{
	int64_t now = clock_mono_us();

	metric_add(metric_series(&lost), 1);
	if (l->stopping || (l->warned_us && now - l->warned_us < WARN_EVERY_US))
		return;
	l->warned_us = now;
	log_warn("COUNTERS-AWAY", "Redis at %s:%d cannot be used (%s): limits are counted by this process alone", l->host, l->port, why);
}

/* Commands are gone, for whatever reason. */
static void gone(struct link *l, const char *why)
{
	bool was = atomic_exchange(&l->epoch, 0) != 0;

	l->commands = NULL;
	metric_set(metric_series(&up), 0);
	warn(l, why);
	if (was)
		l->pause_ms = PAUSE_MIN_MS;
	if (!l->stopping)
		after(l->again, l->pause_ms);
	l->pause_ms = l->pause_ms * 2 < PAUSE_MAX_MS ? l->pause_ms * 2 : PAUSE_MAX_MS;
}

static void drop_commands(struct link *l, const char *why)
{
	redisAsyncContext *ac = l->commands;

	if (!ac)
		return;
	snprintf(l->why, sizeof(l->why), "%s", why);
	gone(l, l->why);
	redisAsyncFree(ac);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct link *l = ac->data;

	if (ac == l->commands)
		gone(l, status == REDIS_OK ? "it closed the connection" : ac->errstr);
	if (ac == l->bell)
		l->bell = NULL;
	if (!l->bell && l->config.on_ring && !l->stopping && !event_pending(l->again, EV_TIMEOUT, NULL))
		after(l->again, PAUSE_MIN_MS);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	if (status != REDIS_OK)
		on_disconnect(ac, status); /* hiredis frees it without a word */
}

static redisAsyncContext *connect_one(struct link *l, const char **why)
{
	redisAsyncContext *ac = redisAsyncConnect(l->host, l->port);

	*why = "no memory";
	if (!ac)
		return NULL;
	if (ac->err) {
		snprintf(l->why, sizeof(l->why), "%s", ac->errstr);
		*why = l->why;
		redisAsyncFree(ac);
		return NULL;
	}
	ac->data = l;
	redisLibeventAttach(ac, l->base);
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	if (l->user && *l->user)
		redisAsyncCommand(ac, NULL, NULL, "AUTH %s %s", l->user, l->password ? l->password : "");
	else if (l->password)
		redisAsyncCommand(ac, NULL, NULL, "AUTH %s", l->password);
	if (l->db)
		redisAsyncCommand(ac, NULL, NULL, "SELECT %s", l->db);
	return ac;
}

static void on_ring(redisAsyncContext *ac, void *reply, void *arg)
{
	struct link *l = ac->data;

	(void)arg;
	if (reply && !l->stopping)
		l->config.on_ring(l->config.arg); /* also at the subscription itself: something may have been missed */
}

static void open_bell(struct link *l)
{
	const char *why;

	if (!l->config.on_ring || l->bell)
		return;
	l->bell = connect_one(l, &why);
	if (l->bell)
		redisAsyncCommand(l->bell, on_ring, NULL, "SUBSCRIBE %s:ring", l->name);
}

static void on_greeted(redisAsyncContext *ac, void *reply, void *arg)
{
	struct link *l = ac->data;
	const redisReply *r = reply;

	if (!r || ac != l->commands)
		return;
	if (r->type != REDIS_REPLY_STRING || r->len >= (int)sizeof(l->sha)) {
		drop_commands(l, r->type == REDIS_REPLY_ERROR ? r->str : "it does not load scripts");
		return;
	}
	memcpy(l->sha, r->str, (size_t)r->len + 1);
	event_del(l->again);
	if (++l->last_epoch == 0)
		l->last_epoch = 1;
	atomic_store(&l->epoch, l->last_epoch);
	metric_set(metric_series(&up), 1);
	log_info("COUNTERS-SHARED", "limits are shared through Redis at %s:%d", l->host, l->port);
	open_bell(l);
	kick(l);
}

static void open_commands(struct link *l)
{
	const char *why;

	l->commands = connect_one(l, &why);
	if (!l->commands) {
		gone(l, why);
		return;
	}
	redisAsyncCommand(l->commands, on_greeted, NULL, "SCRIPT LOAD %s", counters_script);
	after(l->again, GREETING_MS);
}

/* A pause is over, or a greeting has taken too long. */
static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	if (l->commands && !atomic_load(&l->epoch))
		drop_commands(l, "it does not answer");
	else if (!l->commands)
		open_commands(l);
	else
		open_bell(l);
}

/* -- the thread */

static void stop(struct link *l)
{
	redisAsyncContext *commands = l->commands, *bell = l->bell;

	atomic_store(&l->epoch, 0);
	l->commands = l->bell = NULL;
	if (commands)
		redisAsyncFree(commands);
	if (bell)
		redisAsyncFree(bell);
	event_base_loopbreak(l->base);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	struct job *jobs, *j, *next;
	uint64_t n;
	bool ring, stopping;

	if (read(l->kick_fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&l->lock);
	jobs = l->incoming;
	l->incoming = NULL;
	ring = l->ring;
	l->ring = false;
	stopping = l->stopping;
	pthread_mutex_unlock(&l->lock);
	DL_FOREACH_SAFE(jobs, j, next) {
		DL_DELETE(jobs, j);
		ask_now(l, j);
	}
	if (ring && atomic_load(&l->epoch))
		redisAsyncCommand(l->commands, NULL, NULL, "PUBLISH %s:ring 1", l->name);
	if (atomic_load(&l->owing) && !event_pending(l->flush, EV_TIMEOUT, NULL))
		after(l->flush, COUNTERS_FLUSH_MS);
	if (stopping)
		stop(l);
}

static void *run(void *arg)
{
	struct link *l = arg;

	open_commands(l);
	event_base_dispatch(l->base);
	return NULL;
}

/* -- beginning and end */

static char *url_part(CURLU *u, CURLUPart which)
{
	char *text = NULL, *copy = NULL;

	if (curl_url_get(u, which, &text, CURLU_URLDECODE) == CURLUE_OK)
		copy = xstrdup(text);
	curl_free(text);
	return copy;
}

static const char *read_url(struct link *l, const char *url)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *port = NULL, *path = NULL, *query = NULL;
	const char *why = NULL;

	if (!u || curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		why = "it is no URL";
	if (!why) {
		scheme = url_part(u, CURLUPART_SCHEME);
		port = url_part(u, CURLUPART_PORT);
		path = url_part(u, CURLUPART_PATH);
		query = url_part(u, CURLUPART_QUERY);
		l->host = url_part(u, CURLUPART_HOST);
		l->user = url_part(u, CURLUPART_USER);
		l->password = url_part(u, CURLUPART_PASSWORD);
		l->port = port ? atoi(port) : 6379;
		if (strcmp(scheme, "rediss") == 0)
			why = "rediss: is not supported by the client library of Debian 12; put a TLS tunnel on this machine in front";
		else if (strcmp(scheme, "redis") != 0 || query || !l->host || !*l->host)
			why = "it is neither memory: nor redis://[user:password@]host[:port][/db]";
		else if (path && strlen(path) > 1 && strspn(path + 1, "0123456789") != strlen(path + 1))
			why = "the database must be a number";
		else if (path && strlen(path) > 1)
			l->db = xstrdup(path + 1);
	}
	free(scheme);
	free(port);
	free(path);
	free(query);
	curl_url_cleanup(u);
	return why;
}

static void release(struct link *l)
{
	struct event *events[] = { l->kicked, l->flush, l->expire, l->again };

	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
		if (events[i])
			event_free(events[i]);
	}
	if (l->base)
		event_base_free(l->base);
	if (l->kick_fd >= 0)
		close(l->kick_fd);
	pthread_mutex_destroy(&l->lock);
	free(l->host);
	free(l->user);
	free(l->db);
	if (l->password)
		explicit_bzero(l->password, strlen(l->password));
	free(l->password);
	free(l);
}

static bool make_events(struct link *l)
{
	l->base = event_base_new();
	l->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!l->base || l->kick_fd < 0)
		return false;
	l->kicked = event_new(l->base, l->kick_fd, EV_READ | EV_PERSIST, on_kick, l);
	l->flush = evtimer_new(l->base, on_flush, l);
	l->expire = evtimer_new(l->base, on_expire, l);
	l->again = evtimer_new(l->base, on_again, l);
	return l->kicked && l->flush && l->expire && l->again && event_add(l->kicked, NULL) == 0;
}

struct link *link_new(const struct link_config *config, const char **why)
{
	struct link *l = xcalloc(1, sizeof(*l));

	l->config = *config;
	l->pause_ms = PAUSE_MIN_MS;
	l->kick_fd = -1;
	pthread_mutex_init(&l->lock, NULL);
	snprintf(l->name, sizeof(l->name), "%s", config->name);
	metric_register(&up);
	metric_set(metric_series(&up), 0);
	metric_register(&asked);
	metric_register(&lost);
	*why = read_url(l, config->url);
	if (!*why && (!make_events(l) || pthread_create(&l->thread, NULL, run, l) != 0))
		*why = "no event loop or thread can be had";
	if (!*why)
		return l;
	release(l);
	return NULL;
}

void link_free(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_mutex_unlock(&l->lock);
	kick(l);
	pthread_join(l->thread, NULL);
	release(l);
}
