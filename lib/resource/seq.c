/* Numbers for people: leased per tenant and kind in blocks that grow with use, so that writes of a tenant do not wait for each other. */
#include <inttypes.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/codec.h"
#include "resource/internal.h"

#define BLOCK_MAX 256
#define BUSY_US 1000000 /* a block used up within this asks for a larger one */
#define MAX_LEASES 50000

#define LEASE_SQL                                                                                                                      \
	"INSERT INTO seq_block AS s (tenant_id, kind, next) VALUES ($1::uuid, $2::text, 1 + $3::bigint)"                               \
	" ON CONFLICT (tenant_id, kind) DO UPDATE SET next = s.next + $3::bigint RETURNING s.next - $3::bigint"

struct waiter {
	struct waiter *next;
	seq_done done;
	void *arg;
};

/* States: idle (numbers left or none), leasing (a statement is out, waiters gather). */
struct lease {
	UT_hash_handle hh;
	char key[96];
	int64_t next, end, block, leased_at;
	bool leasing;
	struct waiter *first, **last;
	size_t n_waiting;
};

static struct lease *leases;
static uint64_t lease_count;

static void leases_trim(void)
{
	struct lease *l, *next;

	if (HASH_COUNT(leases) < MAX_LEASES)
		return;
	HASH_ITER(hh, leases, l, next) {
		if (!l->leasing) {
			HASH_DEL(leases, l);
			free(l);
			return;
		}
	}
}

static struct lease *lease_get(struct str tenant, const char *kind)
{
	char key[96];
	struct lease *l;

	snprintf(key, sizeof(key), "%.*s/%s", STR_FMT(tenant), kind);
	HASH_FIND_STR(leases, key, l);
	if (l)
		return l;
	leases_trim();
	l = xcalloc(1, sizeof(*l));
	memcpy(l->key, key, sizeof(key));
	l->last = &l->first;
	HASH_ADD_STR(leases, key, l);
	return l;
}

static struct waiter *waiters_take(struct lease *l)
{
	struct waiter *w = l->first;

	l->first = NULL;
	l->last = &l->first;
	l->n_waiting = 0;
	return w;
}

static void lease_ask(struct lease *l);

static void lease_done(void *arg, const struct db_result *r)
{
	struct lease *l = arg;
	struct waiter *w;

	l->leasing = false;
	w = waiters_take(l);
	if (r->status == STATUS_OK) {
		l->next = cell_i64(r->res[0], 0, 0);
		l->end = l->next + l->block;
		l->leased_at = clock_mono_us();
	}
	while (w) {
		struct waiter *next = w->next;

		if (r->status != STATUS_OK) {
			w->done(w->arg, r->status, 0);
		} else if (l->next < l->end) {
			w->done(w->arg, STATUS_OK, l->next++);
		} else {
			w->next = NULL;
			*l->last = w;
			l->last = &w->next;
			l->n_waiting++;
		}
		w = next;
	}
	if (l->first && !l->leasing)
		lease_ask(l);
}

static int64_t block_size(const struct lease *l)
{
	bool busy = l->leased_at && clock_mono_us() - l->leased_at < BUSY_US;
	int64_t n = busy ? l->block * 2 : 1;

	if (n < (int64_t)l->n_waiting)
		n = (int64_t)l->n_waiting;
	return n > BLOCK_MAX ? BLOCK_MAX : n;
}

static void lease_ask(struct lease *l)
{
	char n[24];
	const char *slash = strchr(l->key, '/');
	struct str tenant = { l->key, (size_t)(slash - l->key) };
	char id[UUID_TEXT + 1];
	const char *params[] = { id, slash + 1, n };
	struct db_stmt stmt = { .sql = STR(LEASE_SQL), .params = params, .n_params = 3 };

	snprintf(id, sizeof(id), "%.*s", STR_FMT(tenant));
	l->block = block_size(l);
	snprintf(n, sizeof(n), "%" PRId64, l->block);
	l->leasing = true;
	lease_count++;
	db_submit(engine.db, DB_WRITE, tenant, &stmt, 1, clock_us() + 2000000, lease_done, l);
}

void seq_take(struct rpc_call *call, const char *kind, seq_done done, void *arg)
{
	struct lease *l = lease_get(call->who.tenant_id, kind);
	struct waiter *w;

	if (!l->leasing && l->next < l->end) {
		done(arg, STATUS_OK, l->next++);
		return;
	}
	w = ARENA_NEW(&call->arena, struct waiter);
	w->done = done;
	w->arg = arg;
	*l->last = w;
	l->last = &w->next;
	l->n_waiting++;
	if (!l->leasing)
		lease_ask(l);
}

enum status seq_lease(struct db_conn *db, const char *tenant, const char *kind, int64_t n, int64_t *first)
{
	char count[24];
	const char *params[] = { tenant, kind, count };
	PGresult *res = NULL;
	enum status s;

	snprintf(count, sizeof(count), "%" PRId64, n);
	s = db_exec(db, &res, LEASE_SQL, 3, params);
	if (s == STATUS_OK)
		*first = cell_i64(res, 0, 0);
	PQclear(res);
	return s;
}

enum status resource_seq(struct db_conn *db, const struct rpc_call *call, const char *kind, int64_t *seq)
{
	char tenant[UUID_TEXT + 1];

	if (!uuid_parse(call->who.tenant_id, tenant))
		return STATUS_INTERNAL;
	return seq_lease(db, tenant, kind, 1, seq);
}

uint64_t seq_leases(void)
{
	return lease_count;
}

void seq_fini(void)
{
	struct lease *l, *next;

	HASH_ITER(hh, leases, l, next) {
		HASH_DEL(leases, l);
		free(l);
	}
}
