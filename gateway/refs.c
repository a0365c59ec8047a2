/* Reference lookups, batched per owner and cached for seconds. */
#include "gateway/refs.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/wire.h"
#include "gateway/siphash.h"

#include <uthash.h>

#define NAME_MAX_BYTES 1024

/* The tenant is part of the key: one tenant's names never answer for another. */
struct cache_key {
	uint8_t tenant[16], id[16];
	char entity[24];
	int64_t seq;
};

struct cache_row {
	struct cache_key key;
	bool absent;
	int64_t until_us;
	struct ref_value value; /* texts behind the row */
	UT_hash_handle hh;      /* oldest first */
};

struct ref_cache {
	struct cache_row *rows;
};

struct ref_cache *ref_cache_new(void)
{
	return xcalloc(1, sizeof(struct ref_cache));
}

static void drop(struct ref_cache *c, struct cache_row *row)
{
	HASH_DEL(c->rows, row);
	free(row);
}

void ref_cache_clear(struct ref_cache *c)
{
	while (c->rows)
		drop(c, c->rows);
}

void ref_cache_free(struct ref_cache *c)
{
	ref_cache_clear(c);
	free(c);
}

size_t ref_cache_count(const struct ref_cache *c)
{
	return HASH_COUNT(c->rows);
}

static bool key_of(const struct refs *r, const struct ref_key *k, struct cache_key *out)
{
	memset(out, 0, sizeof(*out));
	if (k->entity.n >= sizeof(out->entity) || !uuid_to_bytes(r->tenant_id, out->tenant))
		return false;
	memcpy(out->entity, k->entity.p, k->entity.n);
	if (k->id.n)
		return uuid_to_bytes(k->id, out->id);
	out->seq = k->seq;
	return true;
}

static struct cache_row *find(struct ref_cache *c, const struct cache_key *key, int64_t now_us)
{
	struct cache_row *row;

	HASH_FIND(hh, c->rows, key, sizeof(*key), row);
	if (row && row->until_us <= now_us) {
		drop(c, row);
		row = NULL;
	}
	return row;
}

static struct str copy_behind(char **at, struct str s)
{
	struct str copy = { *at, s.n };

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

static void remember(struct refs *r, const struct ref_key *k, const struct ref_value *v, bool absent)
{
	size_t texts = v->id.n + v->name.n + v->email.n;
	struct cache_row *row, *old;
	struct cache_key key;
	char *at;

	if (!key_of(r, k, &key) || texts > NAME_MAX_BYTES)
		return;
	HASH_FIND(hh, r->cache->rows, &key, sizeof(key), old);
	if (old)
		drop(r->cache, old);
	if (HASH_COUNT(r->cache->rows) >= REFS_CACHE_MAX)
		drop(r->cache, r->cache->rows);
	row = xcalloc(1, sizeof(*row) + texts);
	row->key = key;
	row->absent = absent;
	row->until_us = clock_mono_us() + REFS_TTL_US;
	at = (char *)(row + 1);
	row->value = (struct ref_value){ copy_behind(&at, v->id), copy_behind(&at, v->name), copy_behind(&at, v->email), v->seq };
	HASH_ADD(hh, r->cache->rows, key, sizeof(key), row);
}

static struct ref_value value_in(struct arena *a, const struct ref_value *v)
{
	return (struct ref_value){ arena_str(a, v->id), arena_str(a, v->name), arena_str(a, v->email), v->seq };
}

static struct ref_wish *wish_of(struct refs *r, const struct ref_key *key)
{
	for (struct ref_wish *w = r->wishes; w; w = w->next) {
		if (str_eq(w->key.entity, key->entity) && str_eq(w->key.id, key->id) && (key->id.n || w->key.seq == key->seq))
			return w;
	}
	return NULL;
}

static enum ref_state wish(struct refs *r, const struct ref_key *key)
{
	const struct schema_method *owner = faces_owner(r->faces, key->entity);
	struct ref_wish *w;

	if (!owner || r->settle || r->n_wishes == REFS_WISHES_MAX)
		return REF_ABSENT;
	w = ARENA_NEW(r->arena, struct ref_wish);
	w->key = (struct ref_key){ arena_str(r->arena, key->entity), arena_str(r->arena, key->id), key->seq };
	w->owner = owner;
	w->state = REF_UNKNOWN;
	w->next = r->wishes;
	r->wishes = w;
	r->n_wishes++;
	r->n_open++;
	return REF_UNKNOWN;
}

static enum ref_state lookup(void *arg, const struct ref_key *key, struct ref_value *out)
{
	struct refs *r = arg;
	struct ref_wish *w = wish_of(r, key);
	struct cache_row *row;
	struct cache_key k;

	if (w) {
		if (w->state == REF_FOUND)
			*out = w->value;
		return w->state == REF_UNKNOWN && r->settle ? REF_ABSENT : w->state;
	}
	if (!key_of(r, key, &k))
		return REF_ABSENT;
	row = find(r->cache, &k, r->now_us);
	if (!row)
		return wish(r, key);
	if (!row->absent)
		*out = value_in(r->arena, &row->value);
	return row->absent ? REF_ABSENT : REF_FOUND;
}

struct ref_lookup refs_lookup(struct refs *r)
{
	return (struct ref_lookup){ r, lookup };
}

/* One call to one owner: its wishes in the order they were sent. */
struct batch {
	struct refs *refs;
	struct ref_wish **asked;
	size_t n;
};

static void put_key(struct buf *b, const struct ref_key *key)
{
	size_t at = wire_open(b, 1);

	if (key->id.n)
		wire_put_bytes(b, 1, key->id);
	else
		wire_put_varint(b, 2, (uint64_t)key->seq);
	wire_close(b, at);
}

static struct ref_value read_ref(struct str wire)
{
	struct wire_reader in = wire_read(wire);
	struct ref_value v = { 0 };
	struct wire_field f;

	while (wire_next(&in, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			v.id = f.bytes;
		else if (f.number == 2 && f.type == WIRE_VARINT)
			v.seq = (int64_t)f.value;
		else if (f.number == 3 && f.type == WIRE_BYTES)
			v.name = f.bytes;
		else if (f.number == 4 && f.type == WIRE_BYTES)
			v.email = f.bytes;
	}
	return v;
}

static void settle_wish(struct refs *r, struct ref_wish *w, struct str wire)
{
	struct ref_value v = read_ref(wire);
	bool absent = !v.id.n && !v.seq;

	w->state = absent ? REF_ABSENT : REF_FOUND;
	w->value = value_in(r->arena, &v);
	remember(r, &w->key, &v, absent);
}

static void on_refs(void *arg, const struct rpc_result *result)
{
	struct batch *b = arg;
	struct refs *r = b->refs;
	struct wire_reader in = wire_read(result->payload);
	struct wire_field f;
	size_t i = 0;

	if (result->status == STATUS_OK) {
		while (wire_next(&in, &f)) {
			if (f.number == 1 && f.type == WIRE_BYTES && i < b->n)
				settle_wish(r, b->asked[i++], f.bytes);
		}
	}
	if (i < b->n)
		r->failed = true;
	if (--r->calls == 0)
		r->done(r->arg);
}

/* Sends all open wishes for one owning method. */
static void ask_owner(struct refs *r, const struct ref_call *call, const struct schema_method *owner)
{
	struct batch *b = ARENA_NEW(r->arena, struct batch);
	struct rpc_request q = call->with;
	struct buf payload = { 0 };

	b->refs = r;
	b->asked = arena_alloc(r->arena, r->n_open * sizeof(struct ref_wish *));
	for (struct ref_wish *w = r->wishes; w; w = w->next) {
		if (w->state != REF_UNKNOWN || w->owner != owner)
			continue;
		w->owner = NULL; /* asked */
		b->asked[b->n++] = w;
		put_key(&payload, &w->key);
	}
	q.service = rpc_client_find(call->rpc, str_of(owner->service));
	q.lane = RPC_READ;
	q.rpc = str_of(owner->name);
	q.timeout_ms = REFS_TIMEOUT_MS;
	q.may_retry = true;
	q.payload = buf_view(&payload);
	q.done = on_refs;
	q.arg = b;
	if (q.service < 0) {
		r->failed = true;
	} else {
		r->calls++;
		rpc_client_call(call->rpc, &q);
	}
	buf_fini(&payload);
}

bool refs_ask(struct refs *r, const struct ref_call *call, void (*done)(void *arg), void *arg)
{
	r->done = done;
	r->arg = arg;
	for (struct ref_wish *w = r->wishes; w && r->n_open; w = w->next) {
		if (w->state == REF_UNKNOWN && w->owner)
			ask_owner(r, call, w->owner);
	}
	r->n_open = 0;
	return r->calls > 0;
}
