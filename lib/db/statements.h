/* Inside lib/db: which statements one connection has prepared, by text; bounded, the least recently used goes. */
#ifndef CRM_DB_STATEMENTS_H
#define CRM_DB_STATEMENTS_H

#include "base/str.h"

#define STATEMENTS_MAX 500
#define STATEMENTS_BUCKETS 1024

struct statement {
	struct statement *next;         /* in the bucket */
	struct statement *newer, *older;
	uint64_t hash;
	struct str sql;
	unsigned users;                 /* slots that point here */
	bool dead;                      /* out of the table; freed with the last user */
	char name[16];
};

struct statements {
	struct statement *buckets[STATEMENTS_BUCKETS];
	struct statement *newest, *oldest;
	unsigned n, names;
};

uint64_t statements_hash(struct str sql);
/* NULL: not prepared. */
struct statement *statements_find(struct statements *s, struct str sql, uint64_t hash);
struct statement *statements_add(struct statements *s, struct str sql, uint64_t hash);
/* Takes it out of the table, so that the next use prepares again. Its memory goes when users is 0. */
void statements_drop(struct statements *s, struct statement *st);
void statements_unuse(struct statement *st);
void statements_clear(struct statements *s);

#endif
