/*
 * Totals without a count(*) per list: one cached count per tenant, entity and filter; docs/adr/0005-totals.md.
 *
 * A count is served as long as nothing of the tenant's entity has changed since it was taken, or for less than a second
 * after the first change unless the asker has written since. Otherwise it is counted again, once for all who wait.
 * The unfiltered count follows this process's own creates and deletes without counting again.
 *
 * Threading: counts_changed, counts_begin, counts_heard from any thread; the rest on the loop thread. Callbacks run on the
 * loop thread, never with the lock held.
 */
#ifndef CRM_RESOURCE_COUNTS_H
#define CRM_RESOURCE_COUNTS_H

#include "base/status.h"
#include "base/str.h"

#define COUNTS_MAX_ENTRIES 20000
#define COUNTS_MAX_STREAMS 20000

struct count_entry;

struct counts_key {
	struct str tenant, user;
	const char *entity;
	struct str filter; /* text and values; empty: all */
	bool ttl;          /* written by others than the engine: for a second at most */
};

struct count_wait {
	struct count_wait *next;
	uint64_t need;
	void (*run)(struct count_wait *w, struct count_entry *e);            /* start the statement, then counts_put */
	void (*done)(struct count_wait *w, enum status s, int64_t n);
};

/* True: *n is the total. False: w->done comes later; w->run may come before, also from inside this call. */
bool counts_get(const struct counts_key *k, struct count_wait *w, int64_t *n);
/* The outcome of a statement that run started. */
void counts_put(struct count_entry *e, enum status s, int64_t n);

/* Around every write of this process, so that a count taken meanwhile is not adjusted by it. */
void counts_begin(struct str tenant, const char *entity);
/* committed false: nothing was written for certain. unsure: the outcome is not known. delta: rows more or less. */
enum counts_outcome { COUNTS_ABORTED, COUNTS_COMMITTED, COUNTS_UNSURE };
void counts_end(struct str tenant, const char *entity, struct str user, int delta, enum counts_outcome outcome);
/* Something changed, by how much is not known. */
void counts_changed(struct str tenant, const char *entity, struct str user);
/* From another process; an empty tenant: everything. */
void counts_heard(struct str tenant, struct str entity);
/* Whether changes of other processes are heard of right now. */
void counts_listening(bool on);

struct counts_stats {
	uint64_t run, served, adjusted, entries;
};
struct counts_stats counts_stats(void);
void counts_fini(void);

#endif
