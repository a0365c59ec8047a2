/*
 * Security observations: forged tokens, denied permissions, foreign tenants, storms of refused requests. Counted per kind,
 * address, tenant, user and minute in bounded memory, so that an attacker can flood neither the log nor the database; sent to
 * svc-audit (watch_send.c), where each becomes an entry and a security event of its tenant.
 *
 * The first of a minute is sent within a second, what follows in that minute together at its end. What could not be sent is
 * sent again with the same id, so the log has it once. What belongs to no tenant goes to the gateway's own log only.
 * Threading: any thread; a short lock, taken for refused requests only.
 */
#ifndef CRM_GATEWAY_WATCH_H
#define CRM_GATEWAY_WATCH_H

#include "base/codec.h"
#include "base/str.h"

#define WATCH_MAX 1024   /* rows; what finds no place is only counted */
#define WATCH_STORM 100  /* refused requests of a minute that are a storm */
#define WATCH_BATCH 64
#define WATCH_WINDOW_US 60000000LL

enum watch_kind { WATCH_TOKEN, WATCH_PERMISSION, WATCH_TENANT, WATCH_RATE, WATCH_KINDS };

/* One refused request. Slices are copied, cut to what a row holds. tenant_id empty: nobody's. */
struct watch_hit {
	enum watch_kind kind;
	struct str ip, tenant_id, user_id, api_key_id;
	struct str user_agent, request_id, dialect, method, path, reason;
	int64_t now_us;
};

/* What is sent; valid until watch_settle. Texts are of the first request that it counts. */
struct watch_report {
	enum watch_kind kind;
	uint64_t count;
	int64_t first_us, last_us;
	char id[UUID_TEXT + 1], tenant_id[UUID_TEXT + 1], user_id[UUID_TEXT + 1], api_key_id[UUID_TEXT + 1];
	char ip[48], user_agent[160], request_id[68], dialect[16], what[112], reason[40];
};

struct watch;

struct watch *watch_new(void);
void watch_free(struct watch *w);
void watch_note(struct watch *w, const struct watch_hit *h);
/*
 * Up to max reports that are due. all: those of a minute that is not over too, for the end. One sender at a time: it settles what it
 * took before it takes again.
 */
size_t watch_take(struct watch *w, int64_t now_us, bool all, const struct watch_report **out, size_t max);
/* What was taken last has arrived, or is to be taken again. */
void watch_settle(struct watch *w, bool arrived);
const char *watch_word(enum watch_kind kind); /* "token", "permission", "tenant", "rate" */

struct watch_stats {
	uint64_t noted, reported, overflow; /* overflow: found no place */
	size_t rows;
};
struct watch_stats watch_stats(struct watch *w);

#endif
