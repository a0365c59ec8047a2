/* Rate limiting by GCRA in sharded tables. */
#include "gateway/rates.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"
#include "gateway/siphash.h"

#include <uthash.h>

#define SHARDS 16

struct bucket {
	uint64_t key;
	int64_t full_us; /* theoretical arrival time: when the bucket will be full again */
	UT_hash_handle hh;
};

struct shard {
	pthread_mutex_t lock;
	struct bucket *rows; /* least recently used first */
};

struct rates {
	uint32_t scale;
	struct shard shards[SHARDS];
};

struct rates *rates_new(uint32_t scale)
{
	struct rates *r = xcalloc(1, sizeof(*r));

	r->scale = scale;
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&r->shards[i].lock, NULL);
	return r;
}

static void drop(struct shard *s, struct bucket *b)
{
	HASH_DEL(s->rows, b);
	free(b);
}

void rates_free(struct rates *r)
{
	for (int i = 0; i < SHARDS; i++) {
		while (r->shards[i].rows)
			drop(&r->shards[i], r->shards[i].rows);
		pthread_mutex_destroy(&r->shards[i].lock);
	}
	free(r);
}

/* 64 bits under a secret key: nobody can aim at another subject's bucket. */
static uint64_t bucket_key(const char *dialect, const char *policy, struct str subject)
{
	uint64_t parts[3] = { siphash(dialect, strlen(dialect)), siphash(policy, strlen(policy)), siphash(subject.p, subject.n) };

	return siphash(parts, sizeof(parts));
}

static void forget_some(struct shard *s, int64_t now_us)
{
	for (int i = 0; i < 2 && s->rows && s->rows->full_us <= now_us; i++)
		drop(s, s->rows);
	if (HASH_COUNT(s->rows) >= RATES_MAX / SHARDS)
		drop(s, s->rows);
}

static struct bucket *bucket_of(struct shard *s, uint64_t key, int64_t now_us)
{
	struct bucket *b;

	HASH_FIND(hh, s->rows, &key, sizeof(key), b);
	if (b) {
		HASH_DEL(s->rows, b);
	} else {
		forget_some(s, now_us);
		b = xcalloc(1, sizeof(*b));
		b->key = key;
	}
	HASH_ADD(hh, s->rows, key, sizeof(key), b);
	return b;
}

/* The algorithm itself. full_us + interval is where the bucket would stand after this request. */
static void take(struct bucket *b, const struct rate_policy *p, uint32_t quota, int64_t now_us, struct rate_verdict *v)
{
	int64_t window = (int64_t)p->window_s * 1000000, full = b->full_us > now_us ? b->full_us : now_us;
	int64_t interval = window / quota > 0 ? window / quota : 1, next = full + interval, over = next - now_us - window;
	int64_t lendable = (int64_t)p->queue * interval < RATES_DELAY_MAX_US ? (int64_t)p->queue * interval : RATES_DELAY_MAX_US;
	int64_t left;

	v->refused = over > lendable;
	if (v->refused) {
		v->retry_us = over;
		next = full;
	} else {
		v->delay_us = over > 0 ? over : 0;
		b->full_us = next;
	}
	left = (window - (next - now_us)) / interval;
	v->remaining = left > 0 ? (uint32_t)left : 0;
	if (v->remaining > quota)
		v->remaining = quota;
	v->reset_us = v->remaining ? next : next + interval - window;
	if (v->reset_us < now_us)
		v->reset_us = now_us;
}

struct rate_verdict rates_take(struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, int64_t now_us)
{
	uint64_t quota = (uint64_t)p->quota * r->scale;
	struct rate_verdict v = { .limited = true, .policy = p->name, .window_s = p->window_s };
	uint64_t key = bucket_key(dialect, p->name, subject);
	struct shard *s = &r->shards[key % SHARDS];

	if (!quota || !p->window_s)
		return (struct rate_verdict){ 0 };
	v.limit = quota > UINT32_MAX ? UINT32_MAX : (uint32_t)quota;
	pthread_mutex_lock(&s->lock);
	take(bucket_of(s, key, now_us), p, v.limit, now_us, &v);
	pthread_mutex_unlock(&s->lock);
	return v;
}

void rates_merge(struct rate_verdict *shown, const struct rate_verdict *v)
{
	if (!v->limited)
		return;
	if (!shown->limited || (v->refused && !shown->refused) || (v->refused == shown->refused && v->remaining < shown->remaining))
		*shown = *v;
}

size_t rates_count(struct rates *r)
{
	size_t n = 0;

	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&r->shards[i].lock);
		n += HASH_COUNT(r->shards[i].rows);
		pthread_mutex_unlock(&r->shards[i].lock);
	}
	return n;
}
