/*
 * What every thread must know of changes at svc-auth: dead tokens and sessions, epochs of users and tenants, what members
 * may do now. Written by the poller (changes.c), read by all threads; a check costs one atomic load while nothing changed.
 *
 * Bounded: rows older than the longest token's life go, and beyond REVOCATIONS_MAX the oldest go first.
 */
#ifndef CRM_GATEWAY_REVOCATIONS_H
#define CRM_GATEWAY_REVOCATIONS_H

#include "gateway/principal.h"

#define REVOCATIONS_MAX 1000000

enum change_kind { CHANGE_TOKEN, CHANGE_SESSION, CHANGE_USER, CHANGE_TENANT, CHANGE_MEMBER, CHANGE_API_KEY, CHANGE_KINDS };

struct change {
	enum change_kind kind;
	struct str id;          /* "<tenant>/<user>" for a member */
	int64_t epoch_us;       /* user, tenant: what was issued before is dead */
	uint64_t permissions[2]; /* member */
	struct str role;
	bool revoked;
	bool limited;           /* member: not all rows */
};

struct revocations;

struct revocations *revocations_new(void);
void revocations_free(struct revocations *v);

/*
 * The changes of one reply, as one step: readers see all of them or none. more: others follow; a table that starts is not
 * complete before them. now_us: wall clock.
 */
void revocations_apply(struct revocations *v, const struct change *rows, size_t n, bool more, int64_t now_us);
/* Grows with every apply that changed something; 0 until all that was known at the start was applied, even if that is nothing. */
uint64_t revocations_generation(const struct revocations *v);
size_t revocations_count(struct revocations *v);

enum verdict {
	VERDICT_LIVE,
	VERDICT_DEAD,    /* 401 */
	VERDICT_CHANGED, /* a token's member may do something else now: *who was brought up to date */
	VERDICT_STALE,   /* was resolved by svc-auth before a change: ask again */
};

/* since: generation at which *who was made or last checked. */
enum verdict revocations_check(struct revocations *v, struct principal *who, uint64_t since);

#endif
