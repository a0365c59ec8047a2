/* Inside lib/counters: the table of buckets and the link to Redis. */
#ifndef CRM_COUNTERS_INTERNAL_H
#define CRM_COUNTERS_INTERNAL_H

#include "counters/counters.h"

/* -- table.c: buckets in memory, in shards with a lock each */

struct table;

/* What a link must tell Redis about a bucket. */
struct debt {
	struct counter row;
	int64_t spent;    /* tokens taken (or, negative, given back) since it was last told */
	int64_t floor_us; /* from now: the bucket is no fuller than this. 0 once this connection has heard of the bucket */
};

struct table *table_new(size_t most);
void table_free(struct table *t);
void table_clear(struct table *t);
size_t table_count(struct table *t);

enum table_outcome { TABLE_DECIDED, TABLE_UNSURE };
/* epoch: of the connection to Redis; 0: there is none, so decide in any case and owe nothing. sure: decide in any case. *owes: the first debt of the table. */
enum table_outcome table_take(struct table *t, const struct counter *rows, size_t n, uint32_t epoch, bool sure, int64_t now_us, struct counter_answer *answer, bool *owes);
void table_give_back(struct table *t, const struct counter *rows, size_t n, uint32_t epoch, int64_t now_us, bool *owes);
/* What is owed for this bucket, which counts as told from now on. */
void table_settle(struct table *t, const struct counter *row, uint32_t epoch, int64_t now_us, struct debt *debt);
/* The next bucket that owes something; false: there is none. */
bool table_next_debt(struct table *t, uint32_t epoch, int64_t now_us, struct debt *debt);
/* Redis has spoken: the bucket is full in_us after now. */
void table_learn(struct table *t, const struct counter *row, uint32_t epoch, int64_t in_us, int64_t now_us);

/* -- redis.c: a thread with the connections */

struct link;

struct link_config {
	const char *url, *name;
	struct table *table;
	void (*on_ring)(void *arg);
	void *arg;
};

struct link *link_new(const struct link_config *config, const char **why);
void link_free(struct link *l);
/* 0: Redis does not answer. Another number after every reconnect. */
uint32_t link_epoch(const struct link *l);
void link_ask(struct link *l, const struct counter *rows, size_t n, counters_done done, void *arg);
void link_owes(struct link *l);
void link_ring(struct link *l);

/* script.c: the algorithm as Redis runs it. */
extern const char counters_script[];

#endif
