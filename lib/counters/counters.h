/*
 * Limits: so many tokens per window, counted in the memory of the process or, together with other processes, in Redis.
 *
 * The algorithm is the generic cell rate algorithm. A quota of q per window is a bucket of q tokens that refills evenly; a
 * bucket is one number, the time at which it is full again. lend_us lets callers borrow from the future and wait.
 *
 * Memory is always there and answers at once. With Redis the table in memory is this process's view of the shared buckets:
 * a taker whose view is fresh and far from the limit is answered from it and Redis hears of the token within COUNTERS_FLUSH_MS;
 * otherwise the bucket has to be asked for. When Redis is away, slow or wrong the view decides alone.
 * docs/adr/0015-shared-counters.md says why and what it costs.
 *
 * Threading: everything may be called by any thread after counters_open. done and on_ring run on the thread of the link to Redis
 * (or, when nothing had to be asked for, on the caller's, before the call returns) and must not block.
 */
#ifndef CRM_COUNTERS_COUNTERS_H
#define CRM_COUNTERS_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTERS_TOGETHER 2       /* buckets that one question may be about */
#define COUNTERS_TIMEOUT_MS 50    /* nobody waits longer for Redis */
#define COUNTERS_FLUSH_MS 5       /* tokens taken here are told to Redis at least this often */
#define COUNTERS_FRESH_US 100000  /* a view that is older is not decided from */

struct counters;

struct counter_limit {
	uint32_t quota;     /* at least 1 */
	int64_t window_us;  /* at least 1 */
	int64_t lend_us;    /* how long a taker may be kept waiting; 0: refused at once */
};

struct counter {
	uint64_t id; /* the same in every process that shares it, and not to be guessed: a keyed hash of what is counted */
	struct counter_limit limit;
};

struct counter_answer {
	bool refused; /* by one of the buckets; then none was charged */
	bool shared;  /* Redis said so; false: this process alone */
	int64_t full_us[COUNTERS_TOGETHER]; /* wall clock: when each bucket will be full again, this token included */
};

typedef void (*counters_done)(void *arg, const struct counter_answer *answer);

struct counters_config {
	const char *url;  /* "" or "memory:": this process alone; "redis://[user:password@]host[:port][/db]" */
	const char *name; /* what the keys in Redis begin with: the same in all processes that share limits */
	size_t most;      /* buckets kept in memory; beyond, the least recently used is forgotten */
	void (*on_ring)(void *arg); /* somebody rang, or may have; NULL: does not listen */
	void *arg;
};

/* NULL: *why says what is wrong with the URL. Does not wait for Redis: until it answers, limits are this process's own. */
struct counters *counters_open(const struct counters_config *config, const char **why);
/* What waits is answered first. No other call may be under way. */
void counters_close(struct counters *c);

/* Of now on, in the wall clock's microseconds. interval: what one token costs. */
int64_t counter_interval_us(const struct counter_limit *limit);

/*
 * Takes one token from each of the n buckets, or from none. True: *answer is decided. False: the shared buckets must be asked
 * (counters_ask, counters_wait); nothing was taken.
 */
bool counters_take(struct counters *c, const struct counter *rows, size_t n, int64_t now_us, struct counter_answer *answer);
/* The same, decided here in any case: for callers that cannot wait. What others took in the last moments may be overlooked. */
void counters_take_here(struct counters *c, const struct counter *rows, size_t n, int64_t now_us, struct counter_answer *answer);
/* Asks Redis, at most COUNTERS_TIMEOUT_MS; then, or without Redis, decides here. done is called exactly once. */
void counters_ask(struct counters *c, const struct counter *rows, size_t n, counters_done done, void *arg);
/* The same for threads that may block. */
void counters_wait(struct counters *c, const struct counter *rows, size_t n, struct counter_answer *answer);
/* Puts one token back into each bucket. */
void counters_give_back(struct counters *c, const struct counter *rows, size_t n, int64_t now_us);

/* on_ring is called in every process of this name that listens, this one included. Nothing without Redis: a hint, not a message. */
void counters_ring(struct counters *c);

size_t counters_count(struct counters *c); /* buckets in memory */
bool counters_shared(const struct counters *c); /* Redis is in use and answers */
/* Forgets this process's view. For tests. */
void counters_forget(struct counters *c);

#endif
