/* Decides where a bucket is decided: in memory, or by asking Redis. */
#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/clock.h"

struct counters {
	struct table *table;
	struct link *link; /* NULL: memory only */
};

int64_t counter_interval_us(const struct counter_limit *limit)
{
	int64_t interval = limit->window_us / limit->quota;

	return interval > 0 ? interval : 1;
}

struct counters *counters_open(const struct counters_config *config, const char **why)
{
	struct counters *c = xcalloc(1, sizeof(*c));
	const char *url = config->url ? config->url : "";
	struct link_config l = { .url = url, .name = config->name, .on_ring = config->on_ring, .arg = config->arg };

	c->table = l.table = table_new(config->most);
	if (!*url || strcasecmp(url, "memory:") == 0)
		return c;
	c->link = link_new(&l, why);
	if (c->link)
		return c;
	table_free(c->table);
	free(c);
	return NULL;
}

void counters_close(struct counters *c)
{
	if (!c)
		return;
	if (c->link)
		link_free(c->link);
	table_free(c->table);
	free(c);
}

static uint32_t epoch_of(const struct counters *c)
{
	return c->link ? link_epoch(c->link) : 0;
}

static bool take(struct counters *c, const struct counter *rows, size_t n, bool sure, int64_t now_us, struct counter_answer *answer)
{
	bool owes = false;
	enum table_outcome outcome = table_take(c->table, rows, n, epoch_of(c), sure, now_us, answer, &owes);

	if (owes)
		link_owes(c->link);
	return outcome == TABLE_DECIDED;
}

bool counters_take(struct counters *c, const struct counter *rows, size_t n, int64_t now_us, struct counter_answer *answer)
{
	return take(c, rows, n, false, now_us, answer);
}

void counters_take_here(struct counters *c, const struct counter *rows, size_t n, int64_t now_us, struct counter_answer *answer)
{
	take(c, rows, n, true, now_us, answer);
}

void counters_ask(struct counters *c, const struct counter *rows, size_t n, counters_done done, void *arg)
{
	struct counter_answer answer;

	if (epoch_of(c)) {
		link_ask(c->link, rows, n, done, arg);
		return;
	}
	take(c, rows, n, true, clock_us(), &answer);
	done(arg, &answer);
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct counter_answer *answer; /* NULL once it is there */
};

static void on_waited(void *arg, const struct counter_answer *answer)
{
	struct waiter *w = arg;

	pthread_mutex_lock(&w->lock);
	*w->answer = *answer;
	w->answer = NULL;
	pthread_cond_signal(&w->answered);
	pthread_mutex_unlock(&w->lock);
}

void counters_wait(struct counters *c, const struct counter *rows, size_t n, struct counter_answer *answer)
{
	struct waiter w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, answer };

	counters_ask(c, rows, n, on_waited, &w);
	pthread_mutex_lock(&w.lock);
	while (w.answer)
		pthread_cond_wait(&w.answered, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.answered);
	pthread_mutex_destroy(&w.lock);
}

void counters_give_back(struct counters *c, const struct counter *rows, size_t n, int64_t now_us)
{
	bool owes = false;

	table_give_back(c->table, rows, n, epoch_of(c), now_us, &owes);
	if (owes)
		link_owes(c->link);
}

void counters_ring(struct counters *c)
{
	if (c->link)
		link_ring(c->link);
}

size_t counters_count(struct counters *c)
{
	return table_count(c->table);
}

bool counters_shared(const struct counters *c)
{
	return epoch_of(c) != 0;
}

void counters_forget(struct counters *c)
{
	table_clear(c->table);
}
