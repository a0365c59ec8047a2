/* A bounded LRU of immutable, counted principal entries. */
#include "gateway/principals.h"

#include <stdlib.h>

#include "base/arena.h"

struct principals {
	struct principal_entry *rows; /* least recently used first */
	size_t max;
	uint64_t hits, misses;
};

struct principals *principals_new(size_t max)
{
	struct principals *p = xcalloc(1, sizeof(*p));

	p->max = max;
	return p;
}

void principals_hold(struct principal_entry *e)
{
	e->refs++;
}

void principals_rele(struct principal_entry *e)
{
	if (!e || --e->refs)
		return;
	free((void *)(uintptr_t)e->wire.p);
	free(e);
}

void principals_drop(struct principals *p, struct principal_entry *e)
{
	if (!e->cached)
		return;
	HASH_DEL(p->rows, e);
	e->cached = false;
	principals_rele(e);
}

void principals_free(struct principals *p)
{
	while (p->rows)
		principals_drop(p, p->rows);
	free(p);
}

struct principal_entry *principals_get(struct principals *p, const uint8_t key[32], int64_t now_us)
{
	struct principal_entry *e;

	HASH_FIND(hh, p->rows, key, 32, e);
	if (e && e->until_us <= now_us) {
		principals_drop(p, e);
		e = NULL;
	}
	p->hits += e != NULL;
	p->misses += !e;
	if (!e)
		return NULL;
	if (e->hh.next) { /* to the end: most recently used */
		HASH_DEL(p->rows, e);
		HASH_ADD(hh, p->rows, key, 32, e);
	}
	return e;
}

struct principal_entry *principals_put(struct principals *p, const uint8_t key[32], const struct principal *who, int64_t until_us)
{
	struct principal_entry *e;
	struct buf wire = { 0 };

	HASH_FIND(hh, p->rows, key, 32, e);
	if (e)
		principals_drop(p, e);
	if (HASH_COUNT(p->rows) >= p->max)
		principals_drop(p, p->rows);
	e = xcalloc(1, sizeof(*e) + (who ? who->scope.n : 0));
	memcpy(e->key, key, 32);
	e->refused = !who;
	if (who) {
		e->who = *who;
		if (who->scope.n) {
			memcpy(e->scope, who->scope.p, who->scope.n);
			e->who.scope.p = e->scope;
		}
		principal_encode(who, &wire);
		e->wire = buf_view(&wire); /* the entry owns it now */
	}
	e->until_us = until_us;
	e->refs = 1;
	e->cached = true;
	HASH_ADD(hh, p->rows, key, 32, e);
	return e;
}

struct principals_stats principals_stats(const struct principals *p)
{
	return (struct principals_stats){ HASH_COUNT(p->rows), p->hits, p->misses };
}

size_t principals_count(const struct principals *p)
{
	return HASH_COUNT(p->rows);
}
