/* Prepared statements of one connection: a hash table by text and an age list. */
#include "db/statements.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

uint64_t statements_hash(struct str sql)
{
	uint64_t h = sql.n * UINT64_C(0x9e3779b97f4a7c15), word;
	const char *p = sql.p;
	size_t n = sql.n;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	word = 0;
	if (n)
		memcpy(&word, p, n);
	h = (h ^ word) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 29;
}

static void age_remove(struct statements *s, struct statement *st)
{
	*(st->newer ? &st->newer->older : &s->newest) = st->older;
	*(st->older ? &st->older->newer : &s->oldest) = st->newer;
}

static void age_first(struct statements *s, struct statement *st)
{
	st->newer = NULL;
	st->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = st;
	s->newest = st;
}

struct statement *statements_find(struct statements *s, struct str sql, uint64_t hash)
{
	struct statement *st = s->buckets[hash % STATEMENTS_BUCKETS];

	while (st && !(st->hash == hash && str_eq(st->sql, sql)))
		st = st->next;
	if (st && st != s->newest) {
		age_remove(s, st);
		age_first(s, st);
	}
	return st;
}

struct statement *statements_add(struct statements *s, struct str sql, uint64_t hash)
{
	struct statement *st = xcalloc(1, sizeof(*st));
	struct statement **bucket = &s->buckets[hash % STATEMENTS_BUCKETS];

	st->hash = hash;
	st->sql = (struct str){ xstrndup(sql.p, sql.n), sql.n };
	snprintf(st->name, sizeof(st->name), "s%u", ++s->names);
	st->next = *bucket;
	*bucket = st;
	age_first(s, st);
	s->n++;
	return st;
}

static void statement_free(struct statement *st)
{
	free((char *)st->sql.p);
	free(st);
}

void statements_drop(struct statements *s, struct statement *st)
{
	struct statement **at = &s->buckets[st->hash % STATEMENTS_BUCKETS];

	if (st->dead)
		return;
	while (*at != st)
		at = &(*at)->next;
	*at = st->next;
	age_remove(s, st);
	s->n--;
	st->dead = true;
	if (st->users == 0)
		statement_free(st);
}

void statements_unuse(struct statement *st)
{
	st->users--;
	if (st->dead && st->users == 0)
		statement_free(st);
}

void statements_clear(struct statements *s)
{
	unsigned names = s->names;

	while (s->newest)
		statements_drop(s, s->newest);
	memset(s, 0, sizeof(*s));
	s->names = names;
}
