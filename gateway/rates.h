/*
 * Rate limits of the dialects: one bucket per (dialect, policy, subject), counted by lib/counters, in this process or together with
 * the other gateways.
 *
 * A quota of q per w seconds is a bucket of q tokens that refills evenly over w. A policy with a queue lends up to that many
 * tokens of the future: the caller must wait delay_us before it goes on. Bounded: beyond RATES_MAX the least recently
 * used bucket is forgotten, and so is one that is full again. Threading: any thread.
 */
#ifndef CRM_GATEWAY_RATES_H
#define CRM_GATEWAY_RATES_H

#include "counters/counters.h"
#include "gateway/dialect/dialect.h"

#define RATES_MAX 262144
#define RATES_DELAY_MAX_US 10000000 /* nobody is kept waiting longer */

struct rates;

struct rate_verdict {
	bool limited;          /* a policy applied: the numbers below are for the headers */
	bool refused;
	const char *policy;
	uint32_t limit, remaining, window_s;
	int64_t reset_us;      /* wall clock: remaining is whole again, or the next token when there is none left */
	int64_t retry_us;      /* refused: from now */
	int64_t delay_us;      /* wait this long, then go on; 0: go on */
};

/* scale: factor on every quota, at least 1. counters: borrowed. key: secret, the same in all gateways that share them. */
struct rates *rates_new(uint32_t scale, struct counters *counters, const uint8_t key[32]);
/*
 * Another key, while limits are taken: all buckets are other ones from now on, so each subject is at its full quota once. Gateways that share
 * counters do it at about the same time and agree again. Any thread.
 */
void rates_rekey(struct rates *r, const uint8_t key[32]);
void rates_free(struct rates *r);
/* Takes one token, decided in this process. subject: "198.51.100.7", a user's id, … */
struct rate_verdict rates_take(struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, int64_t now_us);
/* The same. False: the other gateways may have used the bucket up; then nothing was taken and *row is what to ask counters about. */
bool rates_try(struct rates *r, const char *dialect, const struct rate_policy *p, struct str subject, int64_t now_us, struct rate_verdict *v, struct counter *row);
/* What the answer to that question means. */
struct rate_verdict rates_verdict(const struct rate_policy *p, const struct counter *row, const struct counter_answer *answer, int64_t now_us);
/* Keeps in *shown what constrains the client most. */
void rates_merge(struct rate_verdict *shown, const struct rate_verdict *v);

#endif
