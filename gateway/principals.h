/*
 * Cache of verified principals, by SHA-256 of what was presented, with their wire form ready. One per thread.
 *
 * An entry never changes once made: a request holds it while it waits, the cache may drop or replace it meanwhile.
 */
#ifndef CRM_GATEWAY_PRINCIPALS_H
#define CRM_GATEWAY_PRINCIPALS_H

#include "gateway/principal.h"
#include "gateway/siphash.h"

#include <uthash.h>

struct principal_entry {
	uint8_t key[32];
	struct principal who;
	struct str wire;       /* crm.v1.Principal */
	bool refused;          /* svc-auth does not know it: a short-lived negative answer */
	bool needs_mfa;        /* … or knows it, but the tenant asks for a second factor first */
	int64_t until_us;      /* wall clock */
	uint64_t checked;      /* generation of the revocations; raised by the owner after each check */
	unsigned keys;         /* generation of the key store, likewise */
	char kid[129];         /* key that signed it; empty for resolved ones */
	unsigned refs;
	bool cached;
	UT_hash_handle hh;
	char scope[];          /* the bytes of who.scope */
};

struct principals;

struct principals *principals_new(size_t max);
void principals_free(struct principals *p);
/* NULL: not there, or past until_us. Borrowed: hold it when it has to outlive the turn. */
struct principal_entry *principals_get(struct principals *p, const uint8_t key[32], int64_t now_us);
/* Replaces what is there; the least recently used goes when full. who NULL: refused. Fill in checked, keys and kid yourself. */
struct principal_entry *principals_put(struct principals *p, const uint8_t key[32], const struct principal *who, int64_t until_us);
void principals_drop(struct principals *p, struct principal_entry *e);
void principals_hold(struct principal_entry *e);
void principals_rele(struct principal_entry *e);
struct principals_stats {
	size_t entries;
	uint64_t hits, misses; /* of principals_get */
};
struct principals_stats principals_stats(const struct principals *p);
size_t principals_count(const struct principals *p);

#endif
