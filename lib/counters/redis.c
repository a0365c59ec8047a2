/*
 * The link to Redis: a thread with a loop of its own and two connections, one for commands, one that listens for rings.
 *
 * Everything that waits for a reply is a job; jobs are answered in order, so the first of the list is the oldest. What is older than
 * the timeout is answered from memory, and until a reply comes nobody else is made to wait; after DEAD_MS without one the connection
 * is dropped and made again after a pause.
 */
#include "link.h"

#include <errno.h>
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
#define DEAD_MS 1000
#define ARGS_MAX (4 + COUNTERS_TOGETHER * 6)

static struct metric asked = { .name = "crm_counters_asked_total", .help = "Questions about a limit, by who decided", .type = METRIC_COUNTER, .labels = { "decided" } };
static struct metric told = { .name = "crm_counters_told_total", .help = "Buckets whose tokens were told to Redis afterwards", .type = METRIC_COUNTER };
static const double delays[] = { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05 };
static struct metric delay = { .name = "crm_counters_ask_seconds", .help = "How long Redis took to answer", .type = METRIC_HISTOGRAM, .bounds = delays, .n_bounds = sizeof(delays) / sizeof(*delays) };

uint32_t link_epoch(const struct link *l)
{
	return atomic_load_explicit(&((struct link *)(uintptr_t)l)->epoch, memory_order_relaxed);
}

/* -- other threads */

void link_kick(struct link *l)
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
		link_kick(l);
}

void link_owes(struct link *l)
{
	if (!atomic_exchange(&l->owing, true))
		link_kick(l);
}

void link_ring(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->ring = true;
	pthread_mutex_unlock(&l->lock);
	link_kick(l);
}

/* -- jobs */

void link_after(struct event *e, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_add(e, &tv);
}

static void count_asked(const char *who)
{
	metric_add(metric_series(&asked, str_of(who)), 1);
}

/* Without Redis, or too late. The job stays. */
static void decide_here(struct job *j)
{
	counters_done done = j->done;
	struct counter_answer a;
	bool owes = false;

	j->done = NULL;
	if (!done)
		return;
	table_take(j->link->config.table, j->rows, j->n, 0, true, clock_us(), &a, &owes);
	count_asked("here");
	done(j->arg, &a);
}

static void answer_here(struct job *j)
{
	decide_here(j);
	free(j);
}

static bool is_overdue(const struct job *j)
{
	return j && clock_mono_us() - j->sent_us > (COUNTERS_TIMEOUT_MS - EXPIRE_EVERY_MS) * 1000;
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
			link_drop(l, r->type == REDIS_REPLY_ERROR ? r->str : "it answers something else");
		return;
	}
	if (l->slow && !is_overdue(l->sent))
		link_become_ready(l);
	for (size_t i = 0; i < j->n; i++) {
		if (j->epoch == atomic_load(&l->epoch)) /* otherwise the view has gone its own way meanwhile, and is told instead */
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
		link_after(l->expire, EXPIRE_EVERY_MS);
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

	struct job *j;

	if (is_overdue(l->sent) && !l->slow)
		link_become_slow(l);
	DL_FOREACH(l->sent, j) {
		if (!is_overdue(j))
			break;
		decide_here(j);
	}
	if (l->sent && clock_mono_us() - l->sent->sent_us > DEAD_MS * 1000)
		link_drop(l, "it does not answer");
	if (l->sent)
		link_after(l->expire, EXPIRE_EVERY_MS);
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
		link_after(l->flush, COUNTERS_FLUSH_MS);
	if (stopping)
		stop(l);
}

static void *run(void *arg)
{
	struct link *l = arg;

	link_connect(l);
	event_base_dispatch(l->base);
	return NULL;
}

/* -- beginning and end */
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
	l->again = evtimer_new(l->base, link_on_again, l);
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
	link_register_metrics();
	metric_register(&asked);
	*why = link_read_url(l, config->url);
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
	link_kick(l);
	pthread_join(l->thread, NULL);
	release(l);
}
