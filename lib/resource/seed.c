/* The rows that a tenant has from its first use on: a function of the schema, called once per tenant and process. */
#include <stdlib.h>

#include "base/codec.h"
#include "resource/internal.h"

#include <uthash.h>

#define KNOWN_MAX 100000 /* tenants; asking once more costs a statement, so they are simply forgotten then */

struct seeded {
	struct {
		uint8_t tenant[16];
		const char *function;
	} key;
	UT_hash_handle hh;
};

struct seeding {
	const struct bound *b;
	struct rpc_call *call;
	void (*run)(const struct bound *b, struct rpc_call *call);
};

static struct seeded *known;

void seed_fini(void)
{
	struct seeded *s, *next;

	HASH_ITER(hh, known, s, next) {
		HASH_DEL(known, s);
		free(s);
	}
}

static bool key_of(const struct bound *b, const struct rpc_call *call, struct seeded *s)
{
	memset(s, 0, sizeof(*s));
	s->key.function = b->op->resource->seed;
	return uuid_to_bytes(call->who.tenant_id, s->key.tenant);
}

static void remember(const struct seeding *g)
{
	struct seeded *s = xcalloc(1, sizeof(*s)), *old;

	if (!key_of(g->b, g->call, s)) {
		free(s);
		return;
	}
	HASH_FIND(hh, known, &s->key, sizeof(s->key), old);
	if (old) {
		free(s);
		return;
	}
	if (HASH_COUNT(known) >= KNOWN_MAX)
		seed_fini();
	HASH_ADD(hh, known, key, sizeof(s->key), s);
}

static void seed_done(void *arg, const struct db_result *r)
{
	struct seeding *g = arg;

	if (r->status != STATUS_OK) {
		rpc_reply_error(g->call, r->status, NULL);
		return;
	}
	remember(g);
	g->run(g->b, g->call);
}

void seed_run(const struct bound *b, struct rpc_call *call, void (*run)(const struct bound *b, struct rpc_call *call))
{
	struct seeding *g;
	struct seeded want, *have;
	struct buf sql = { 0 };
	struct db_stmt stmt = { 0 };

	if (!key_of(b, call, &want)) {
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
		return;
	}
	HASH_FIND(hh, known, &want.key, sizeof(want.key), have);
	if (have) {
		run(b, call);
		return;
	}
	g = ARENA_NEW(&call->arena, struct seeding);
	*g = (struct seeding){ b, call, run };
	buf_printf(&sql, "SELECT %s()", b->op->resource->seed);
	stmt.sql = buf_view(&sql);
	db_submit(engine.db, DB_WRITE, call->who.tenant_id, &stmt, 1, call->deadline_us, seed_done, g);
	buf_fini(&sql);
}
