/* A bounded table of what was refused, and to whom. */
#include "gateway/watch.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"
#include "gateway/siphash.h"

#include <uthash.h>

struct row {
	uint64_t key;
	int64_t window;      /* minutes since 1970 */
	uint64_t announced;  /* of this minute, reported already */
	struct watch_report next, sent; /* being counted; on its way while taken */
	bool taken, failed;
	UT_hash_handle hh;
};

struct watch {
	pthread_mutex_t lock;
	struct row *rows;
	struct watch_stats stats;
};

static const struct {
	const char *word;
	uint64_t threshold; /* of a minute */
} kinds[WATCH_KINDS] = {
	[WATCH_TOKEN] = { "token", 1 },
	[WATCH_PERMISSION] = { "permission", 1 },
	[WATCH_TENANT] = { "tenant", 1 },
	[WATCH_RATE] = { "rate", WATCH_STORM },
};

const char *watch_word(enum watch_kind kind)
{
	return kinds[kind].word;
}

struct watch *watch_new(void)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	pthread_mutex_init(&w->lock, NULL);
	return w;
}

static void drop(struct watch *w, struct row *r)
{
	HASH_DEL(w->rows, r);
	free(r);
}

void watch_free(struct watch *w)
{
	struct row *r, *next;

	HASH_ITER(hh, w->rows, r, next)
		drop(w, r);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* As much as fits; controls and broken characters become '?'. */
static void copy(char *into, size_t size, struct str s)
{
	size_t n = s.n < size - 1 ? s.n : size - 1;

	for (size_t i = 0; i < n; i++)
		into[i] = s.p[i] >= 0x20 && s.p[i] < 0x7f ? s.p[i] : '?';
	into[n] = 0;
}

static uint64_t key_of(const struct watch_hit *h)
{
	uint64_t parts[4] = { (uint64_t)h->kind, siphash(h->ip.p, h->ip.n), siphash(h->tenant_id.p, h->tenant_id.n),
		siphash(h->user_id.n ? h->user_id.p : h->api_key_id.p, h->user_id.n ? h->user_id.n : h->api_key_id.n) };

	return siphash(parts, sizeof(parts));
}

static struct row *row_of(struct watch *w, const struct watch_hit *h)
{
	uint64_t key = key_of(h);
	struct row *r;

	HASH_FIND(hh, w->rows, &key, sizeof(key), r);
	if (r || HASH_COUNT(w->rows) >= WATCH_MAX)
		return r;
	r = xcalloc(1, sizeof(*r));
	r->key = key;
	HASH_ADD(hh, w->rows, key, sizeof(key), r);
	return r;
}

static void describe(struct watch_report *p, const struct watch_hit *h)
{
	size_t n;

	*p = (struct watch_report){ .kind = h->kind, .first_us = h->now_us };
	copy(p->tenant_id, sizeof(p->tenant_id), h->tenant_id);
	copy(p->user_id, sizeof(p->user_id), h->user_id);
	copy(p->api_key_id, sizeof(p->api_key_id), h->api_key_id);
	copy(p->ip, sizeof(p->ip), h->ip);
	copy(p->user_agent, sizeof(p->user_agent), h->user_agent);
	copy(p->request_id, sizeof(p->request_id), h->request_id);
	copy(p->dialect, sizeof(p->dialect), h->dialect);
	copy(p->reason, sizeof(p->reason), h->reason);
	copy(p->what, sizeof(p->what), h->method);
	n = strlen(p->what);
	if (h->path.n && n + 2 < sizeof(p->what)) {
		p->what[n] = ' ';
		copy(p->what + n + 1, sizeof(p->what) - n - 1, h->path);
	}
}

void watch_note(struct watch *w, const struct watch_hit *h)
{
	struct row *r;

	pthread_mutex_lock(&w->lock);
	r = row_of(w, h);
	w->stats.noted++;
	if (!r) {
		w->stats.overflow++;
	} else {
		if (!r->next.count)
			describe(&r->next, h);
		if (!r->window)
			r->window = h->now_us / WATCH_WINDOW_US;
		r->next.count++;
		r->next.last_us = h->now_us;
	}
	pthread_mutex_unlock(&w->lock);
}

/* The row's minute is over: what it counted below the threshold is forgotten. True: the row is gone. */
static bool turn(struct watch *w, struct row *r, int64_t now_us)
{
	if (r->taken || r->failed || now_us / WATCH_WINDOW_US == r->window)
		return false;
	if (!r->next.count || (!r->announced && r->next.count < kinds[r->next.kind].threshold)) {
		drop(w, r);
		return true;
	}
	return false;
}

static bool due(const struct row *r, int64_t now_us, bool all)
{
	if (r->failed)
		return true;
	if (r->taken || !r->next.count)
		return false;
	if (r->announced)
		return all || now_us / WATCH_WINDOW_US != r->window;
	return r->next.count >= kinds[r->next.kind].threshold;
}

static void freeze(struct row *r, int64_t now_us)
{
	int64_t window = now_us / WATCH_WINDOW_US;

	r->taken = true;
	if (r->failed) {
		r->failed = false; /* the same again, under the same id */
		return;
	}
	r->sent = r->next;
	uuid7(r->sent.id);
	r->next = (struct watch_report){ .kind = r->next.kind };
	r->announced = window == r->window ? r->announced + r->sent.count : 0;
	r->window = window;
}

size_t watch_take(struct watch *w, int64_t now_us, bool all, const struct watch_report **out, size_t max)
{
	struct row *r, *following;
	size_t n = 0;

	pthread_mutex_lock(&w->lock);
	HASH_ITER(hh, w->rows, r, following) {
		if (turn(w, r, now_us) || n == max || !due(r, now_us, all))
			continue;
		freeze(r, now_us);
		out[n++] = &r->sent;
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

void watch_settle(struct watch *w, bool arrived)
{
	struct row *r, *following;

	pthread_mutex_lock(&w->lock);
	HASH_ITER(hh, w->rows, r, following) {
		if (!r->taken)
			continue;
		r->taken = false;
		r->failed = !arrived;
		w->stats.reported += arrived;
	}
	pthread_mutex_unlock(&w->lock);
}

struct watch_stats watch_stats(struct watch *w)
{
	struct watch_stats s;

	pthread_mutex_lock(&w->lock);
	s = w->stats;
	s.rows = HASH_COUNT(w->rows);
	pthread_mutex_unlock(&w->lock);
	return s;
}
