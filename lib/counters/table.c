/* Buckets in memory: sharded, least recently used first, with a list of those that Redis has not heard of yet. */
#include "internal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"

#include <uthash.h>
#include <utlist.h>

#define SHARDS 16

struct bucket {
	struct counter row;
	int64_t full_us;    /* wall clock */
	int64_t heard_us;   /* when Redis last spoke of it */
	int64_t spent;
	uint32_t epoch;     /* of the connection that spoke of it */
	bool owing;         /* in the shard's list of debts */
	struct bucket *prev, *next;
	UT_hash_handle hh;
};

struct shard {
	pthread_mutex_t lock;
	struct bucket *rows; /* least recently used first */
	struct bucket *debts;
};

struct table {
	size_t most;
	struct shard shards[SHARDS];
};

struct table *table_new(size_t most)
{
	struct table *t = xcalloc(1, sizeof(*t));

	t->most = most;
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&t->shards[i].lock, NULL);
	return t;
}

static struct shard *shard_of(struct table *t, uint64_t id)
{
	return &t->shards[id % SHARDS];
}

static void pay(struct shard *s, struct bucket *b)
{
	if (b->owing)
		DL_DELETE(s->debts, b);
	b->owing = false;
	b->spent = 0;
}

static void drop(struct shard *s, struct bucket *b)
{
	pay(s, b);
	HASH_DEL(s->rows, b);
	free(b);
}

void table_clear(struct table *t)
{
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&t->shards[i].lock);
		while (t->shards[i].rows)
			drop(&t->shards[i], t->shards[i].rows);
		pthread_mutex_unlock(&t->shards[i].lock);
	}
}

void table_free(struct table *t)
{
	table_clear(t);
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_destroy(&t->shards[i].lock);
	free(t);
}

size_t table_count(struct table *t)
{
	size_t n = 0;

	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&t->shards[i].lock);
		n += HASH_COUNT(t->shards[i].rows);
		pthread_mutex_unlock(&t->shards[i].lock);
	}
	return n;
}

static struct bucket *find(struct shard *s, uint64_t id)
{
	struct bucket *b;

	HASH_FIND(hh, s->rows, &id, sizeof(id), b);
	return b;
}

/* keep: the other bucket of the same question, which may be the only one of this shard; NULL: none. */
static void forget_some(struct table *t, struct shard *s, const struct bucket *keep, int64_t now_us)
{
	for (int i = 0; i < 2 && s->rows && s->rows != keep && s->rows->full_us <= now_us && !s->rows->owing; i++)
		drop(s, s->rows);
	while (HASH_COUNT(s->rows) && s->rows != keep && HASH_COUNT(s->rows) >= t->most / SHARDS)
		drop(s, s->rows);
}

static struct bucket *bucket_of(struct table *t, const struct counter *row, const struct bucket *keep, int64_t now_us)
{
	struct shard *s = shard_of(t, row->id);
	struct bucket *b = find(s, row->id);

	if (b) {
		HASH_DEL(s->rows, b);
	} else {
		forget_some(t, s, keep, now_us);
		b = xcalloc(1, sizeof(*b));
	}
	b->row = *row; /* a limit may have changed with a reload */
	HASH_ADD(hh, s->rows, row.id, sizeof(b->row.id), b);
	return b;
}

/* Two buckets are locked in one order, and a shared shard once. */
static void lock_all(struct table *t, const struct counter *rows, size_t n, bool lock)
{
	struct shard *a = shard_of(t, rows[0].id), *b = n > 1 ? shard_of(t, rows[1].id) : NULL, *swap;

	if (b && b < a)
		swap = a, a = b, b = swap;
	if (lock)
		pthread_mutex_lock(&a->lock);
	if (b && b != a)
		(lock ? pthread_mutex_lock : pthread_mutex_unlock)(&b->lock);
	if (!lock)
		pthread_mutex_unlock(&a->lock);
}

static bool has_room(const struct bucket *b, int64_t now_us)
{
	const struct counter_limit *l = &b->row.limit;
	int64_t full = b->full_us > now_us ? b->full_us : now_us;

	return full + counter_interval_us(l) - now_us - l->window_us <= l->lend_us;
}

/*
 * Can others have used up what this view still has? An eighth of the quota is the distance kept from the limit, and an eighth of
 * what is left may be taken before Redis hears of it: up to eight processes that do so at once stay below the quota.
 */
static bool is_sure(const struct bucket *b, uint32_t epoch, int64_t now_us)
{
	int64_t interval = counter_interval_us(&b->row.limit), full = b->full_us > now_us ? b->full_us : now_us;
	int64_t left = (b->row.limit.window_us - (full - now_us)) / interval, margin = b->row.limit.quota / 8;

	if (!epoch)
		return true;
	if (b->epoch != epoch || now_us - b->heard_us > COUNTERS_FRESH_US)
		return false;
	return (left > (margin > 8 ? margin : 8) && b->spent < left / 8) || !has_room(b, now_us);
}

static void owe(struct table *t, struct bucket *b, int64_t tokens, uint32_t epoch, bool *owes)
{
	struct shard *s = shard_of(t, b->row.id);

	if (!epoch)
		return; /* the view is told as a floor once there is a connection */
	b->spent += tokens;
	if (!b->owing)
		DL_APPEND(s->debts, b);
	b->owing = true;
	*owes = true;
}

static void charge(struct table *t, struct bucket *b, int64_t tokens, uint32_t epoch, int64_t now_us, bool *owes)
{
	int64_t full = b->full_us > now_us ? b->full_us : now_us;

	if (epoch && b->full_us <= now_us)
		b->epoch = epoch; /* a full bucket has no past that this connection would have to hear of */
	b->full_us = full + tokens * counter_interval_us(&b->row.limit);
	owe(t, b, tokens, epoch, owes);
}

enum table_outcome table_take(struct table *t, const struct counter *rows, size_t n, uint32_t epoch, bool sure, int64_t now_us, struct counter_answer *answer, bool *owes)
{
	struct bucket *b[COUNTERS_TOGETHER];
	bool decided = true, room = true;

	lock_all(t, rows, n, true);
	for (size_t i = 0; i < n; i++)
		b[i] = bucket_of(t, &rows[i], i ? b[0] : NULL, now_us);
	for (size_t i = 0; i < n; i++) {
		decided = decided && (sure || is_sure(b[i], epoch, now_us));
		room = room && has_room(b[i], now_us);
	}
	*answer = (struct counter_answer){ .refused = !room, .shared = false };
	for (size_t i = 0; i < n; i++) {
		if (decided && room)
			charge(t, b[i], 1, epoch, now_us, owes);
		answer->full_us[i] = b[i]->full_us > now_us ? b[i]->full_us : now_us;
	}
	lock_all(t, rows, n, false);
	return decided ? TABLE_DECIDED : TABLE_UNSURE;
}

void table_give_back(struct table *t, const struct counter *rows, size_t n, uint32_t epoch, int64_t now_us, bool *owes)
{
	lock_all(t, rows, n, true);
	for (size_t i = 0; i < n; i++)
		charge(t, bucket_of(t, &rows[i], NULL, now_us), -1, epoch, now_us, owes);
	lock_all(t, rows, n, false);
}

static void debt_of(struct shard *s, struct bucket *b, uint32_t epoch, int64_t now_us, struct debt *debt)
{
	bool known = b->epoch == epoch;

	/* A connection that has not heard of the bucket gets the whole view: Redis may have lost it. */
	*debt = (struct debt){ b->row, known ? b->spent : 0, known || b->full_us <= now_us ? 0 : b->full_us - now_us };
	pay(s, b);
}

void table_settle(struct table *t, const struct counter *row, uint32_t epoch, int64_t now_us, struct debt *debt)
{
	struct shard *s = shard_of(t, row->id);

	pthread_mutex_lock(&s->lock);
	debt_of(s, bucket_of(t, row, NULL, now_us), epoch, now_us, debt);
	pthread_mutex_unlock(&s->lock);
}

bool table_next_debt(struct table *t, uint32_t epoch, int64_t now_us, struct debt *debt)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shards[i];
		bool found;

		pthread_mutex_lock(&s->lock);
		found = s->debts != NULL;
		if (found)
			debt_of(s, s->debts, epoch, now_us, debt);
		pthread_mutex_unlock(&s->lock);
		if (found)
			return true;
	}
	return false;
}

void table_learn(struct table *t, const struct counter *row, uint32_t epoch, int64_t in_us, int64_t now_us)
{
	struct shard *s = shard_of(t, row->id);
	struct bucket *b;

	pthread_mutex_lock(&s->lock);
	b = find(s, row->id);
	if (b) {
		b->full_us = now_us + in_us + b->spent * counter_interval_us(&b->row.limit);
		b->heard_us = now_us;
		b->epoch = epoch;
	}
	pthread_mutex_unlock(&s->lock);
}
