/* The table of revocations and epochs, behind a reader-writer lock and a generation. */
#include "gateway/revocations.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "gateway/siphash.h"
#include "gateway/token.h"

#include <uthash.h>

#define KEY_MAX 96 /* kind and id */

struct row {
	char key[KEY_MAX];
	uint64_t generation;
	int64_t seen_us, epoch_us;
	uint64_t permissions[2];
	char role[ROLE_MAX + 1];
	bool revoked, limited;
	UT_hash_handle hh; /* in the order of arrival, oldest first */
};

struct revocations {
	pthread_rwlock_t lock;
	struct row *rows;
	atomic_uint_fast64_t generation;
	bool overflowed;
};

struct revocations *revocations_new(void)
{
	struct revocations *v = xcalloc(1, sizeof(*v));

	pthread_rwlock_init(&v->lock, NULL);
	return v;
}

static void drop(struct revocations *v, struct row *r)
{
	HASH_DEL(v->rows, r);
	free(r);
}

void revocations_free(struct revocations *v)
{
	while (v->rows)
		drop(v, v->rows);
	pthread_rwlock_destroy(&v->lock);
	free(v);
}

static size_t key_of(char key[KEY_MAX], enum change_kind kind, struct str id)
{
	if (!id.n || id.n > KEY_MAX - 1)
		return 0;
	key[0] = (char)('a' + kind);
	memcpy(key + 1, id.p, id.n);
	return id.n + 1;
}

static struct row *find(const struct revocations *v, enum change_kind kind, struct str id)
{
	char key[KEY_MAX];
	size_t n = key_of(key, kind, id);
	struct row *r = NULL;

	if (n && v->rows)
		HASH_FIND(hh, v->rows, key, n, r);
	return r;
}

static void put(struct revocations *v, const struct change *c, uint64_t generation, int64_t now_us)
{
	struct row *r = find(v, c->kind, c->id);
	bool one_shot = c->kind == CHANGE_TOKEN || c->kind == CHANGE_SESSION || c->kind == CHANGE_API_KEY;
	size_t n;

	if (r)
		drop(v, r);
	r = xcalloc(1, sizeof(*r));
	n = key_of(r->key, c->kind, c->id);
	if (!n) {
		free(r);
		return;
	}
	r->generation = generation;
	r->seen_us = now_us;
	r->revoked = c->revoked || one_shot; /* of these only the death is ever told */
	r->limited = c->limited;
	r->epoch_us = c->revoked && !c->epoch_us ? INT64_MAX : c->epoch_us;
	memcpy(r->permissions, c->permissions, sizeof(r->permissions));
	snprintf(r->role, sizeof(r->role), "%.*s", STR_FMT(c->role));
	HASH_ADD_KEYPTR(hh, v->rows, r->key, n, r);
}

static void expire(struct revocations *v, int64_t now_us)
{
	while (v->rows && now_us - v->rows->seen_us > (int64_t)(TOKEN_LIFE_MAX_S + 2 * TOKEN_SKEW_S) * 1000000)
		drop(v, v->rows);
	while (HASH_COUNT(v->rows) > REVOCATIONS_MAX) {
		drop(v, v->rows);
		if (!v->overflowed)
			log_error("REVOCATIONS-FULL", "more than %d revocations are alive; the oldest are forgotten", REVOCATIONS_MAX);
		v->overflowed = true;
	}
}

void revocations_apply(struct revocations *v, const struct change *rows, size_t n, bool more, int64_t now_us)
{
	uint64_t generation = atomic_load(&v->generation);

	if (!n && generation)
		return;
	pthread_rwlock_wrlock(&v->lock);
	for (size_t i = 0; i < n; i++)
		put(v, &rows[i], generation + 1, now_us);
	expire(v, now_us);
	if (generation || !more)
		atomic_store(&v->generation, generation + 1);
	pthread_rwlock_unlock(&v->lock);
}

uint64_t revocations_generation(const struct revocations *v)
{
	return atomic_load(&v->generation);
}

size_t revocations_count(struct revocations *v)
{
	size_t n;

	pthread_rwlock_rdlock(&v->lock);
	n = HASH_COUNT(v->rows);
	pthread_rwlock_unlock(&v->lock);
	return n;
}

static struct row *find_member(const struct revocations *v, const struct principal *who)
{
	char id[2 * UUID_TEXT + 2];
	int n = snprintf(id, sizeof(id), "%s/%s", who->tenant_id, who->user_id);

	return find(v, CHANGE_MEMBER, (struct str){ id, (size_t)n });
}

static bool is_dead(const struct revocations *v, const struct principal *who)
{
	const struct row *user = find(v, CHANGE_USER, str_of(who->user_id)), *tenant = find(v, CHANGE_TENANT, str_of(who->tenant_id));

	return find(v, CHANGE_TOKEN, str_of(who->token_id)) || find(v, CHANGE_SESSION, str_of(who->session_id)) ||
	    (user && who->issued_us < user->epoch_us) || (tenant && who->issued_us < tenant->epoch_us);
}

static enum verdict check_token(const struct revocations *v, struct principal *who)
{
	const struct row *member = find_member(v, who);

	if (is_dead(v, who) || (member && member->revoked))
		return VERDICT_DEAD;
	if (!member)
		return VERDICT_LIVE;
	if (memcmp(member->permissions, who->permissions, sizeof(who->permissions)) == 0 && member->limited == who->limited && (!*member->role || strcmp(member->role, who->role) == 0))
		return VERDICT_LIVE;
	memcpy(who->permissions, member->permissions, sizeof(who->permissions));
	who->limited = member->limited;
	if (*member->role)
		memcpy(who->role, member->role, sizeof(who->role));
	return VERDICT_CHANGED;
}

/* Answers of svc-auth are not patched: whatever concerns them and is newer makes them stale. */
static enum verdict check_resolved(const struct revocations *v, const struct principal *who, uint64_t since)
{
	const struct row *rows[] = {
		find(v, CHANGE_USER, str_of(who->user_id)), find(v, CHANGE_TENANT, str_of(who->tenant_id)), find_member(v, who),
		find(v, CHANGE_API_KEY, str_of(who->api_key_id)),
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i] && rows[i]->generation > since)
			return VERDICT_STALE;
	}
	return VERDICT_LIVE;
}

enum verdict revocations_check(struct revocations *v, struct principal *who, uint64_t since)
{
	enum verdict verdict;

	if (atomic_load(&v->generation) == since)
		return VERDICT_LIVE;
	pthread_rwlock_rdlock(&v->lock);
	verdict = who->kind == PRINCIPAL_TOKEN ? check_token(v, who) : check_resolved(v, who, since);
	pthread_rwlock_unlock(&v->lock);
	return verdict;
}
