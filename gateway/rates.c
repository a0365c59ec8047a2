/* Policies as buckets of lib/counters, and answers of it as what a client is told. */
#include "gateway/rates.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/codec.h"
#include "gateway/siphash.h"

struct rates {
	uint32_t scale;
	struct counters *counters;
	atomic_ullong key[2];
};

void rates_rekey(struct rates *r, const uint8_t key[32])
{
	uint8_t in[48] = "rate buckets", out[32];
	uint64_t half;

	memcpy(in + 16, key, 32);
	sha256(in, sizeof(in), out);
	explicit_bzero(in, sizeof(in));
	for (int i = 0; i < 2; i++) {
		memcpy(&half, out + sizeof(half) * (size_t)i, sizeof(half));
		atomic_store_explicit(&r->key[i], half, memory_order_relaxed);
	}
}

struct rates *rates_new(uint32_t scale, struct counters *counters, const uint8_t key[32])
{
	struct rates *r = xcalloc(1, sizeof(*r));

	rates_rekey(r, key);
	r->scale = scale;
	r->counters = counters;
	return r;
}

void rates_free(struct rates *r)
{
	free(r);
}

/* 64 bits under a secret key: nobody can aim at another subject's bucket. One that is made of an old and a new half of the key is nobody's. */
static uint64_t bucket_id(const struct rates *r, const char *dialect, const char *policy, struct str subject)
{
	const uint64_t key[2] = { atomic_load_explicit(&r->key[0], memory_order_relaxed), atomic_load_explicit(&r->key[1], memory_order_relaxed) };
	uint64_t parts[3] = { siphash_with(key, dialect, strlen(dialect)), siphash_with(key, policy, strlen(policy)), siphash_with(key, subject.p, subject.n) };

	return siphash_with(key, parts, sizeof(parts));
}

/* False: the policy limits nothing. */
static bool row_of(const struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, struct counter *row)
{
	uint64_t quota = (uint64_t)p->quota * r->scale;
	struct counter_limit *l = &row->limit;

	if (!quota || !p->window_s)
		return false;
	row->id = bucket_id(r, dialect, p->name, subject);
	l->quota = quota > UINT32_MAX ? UINT32_MAX : (uint32_t)quota;
	l->window_us = (int64_t)p->window_s * 1000000;
	l->lend_us = (int64_t)p->queue * counter_interval_us(l);
	if (l->lend_us > RATES_DELAY_MAX_US)
		l->lend_us = RATES_DELAY_MAX_US;
	return true;
}

struct rate_verdict rates_verdict(const struct rate_policy *p, const struct counter *row, const struct counter_answer *answer, int64_t now_us)
{
	struct rate_verdict v = { .limited = true, .refused = answer->refused, .policy = p->name, .limit = row->limit.quota, .window_s = p->window_s };
	int64_t window = row->limit.window_us, interval = counter_interval_us(&row->limit), full = answer->full_us[0], left, over;

	over = full + (v.refused ? interval : 0) - now_us - window;
	if (v.refused)
		v.retry_us = over > 0 ? over : 1;
	else if (over > 0)
		v.delay_us = over;
	left = (window - (full - now_us)) / interval;
	v.remaining = left > 0 ? (uint32_t)left : 0;
	if (v.remaining > v.limit)
		v.remaining = v.limit;
	v.reset_us = v.remaining ? full : full + interval - window;
	if (v.reset_us < now_us)
		v.reset_us = now_us;
	return v;
}

bool rates_try(struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, int64_t now_us, struct rate_verdict *v, struct counter *row)
{
	struct counter_answer answer;

	*v = (struct rate_verdict){ 0 };
	if (!row_of(r, dialect, p, subject, row))
		return true;
	if (!counters_take(r->counters, row, 1, now_us, &answer))
		return false;
	*v = rates_verdict(p, row, &answer, now_us);
	return true;
}

struct rate_verdict rates_take(struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, int64_t now_us)
{
	struct counter_answer answer;
	struct counter row;

	if (!row_of(r, dialect, p, subject, &row))
		return (struct rate_verdict){ 0 };
	counters_take_here(r->counters, &row, 1, now_us, &answer);
	return rates_verdict(p, &row, &answer, now_us);
}

void rates_merge(struct rate_verdict *shown, const struct rate_verdict *v)
{
	if (!v->limited)
		return;
	if (!shown->limited || (v->refused && !shown->refused) || (v->refused == shown->refused && v->remaining < shown->remaining))
		*shown = *v;
}
