/* Inside lib/resource: many rows made by one statement, for bulk create and imports. Steps: open, put rows, build, write; fini of sql.b. */
#ifndef CRM_RESOURCE_BULK_H
#define CRM_RESOURCE_BULK_H

#include "resource/internal.h"

struct bulk_item {
	enum status outcome; /* when it is not done */
	struct str status;   /* wire bytes of its Status when it was refused */
	bool done;
	struct str entity;
	const char *id;      /* ids_only */
};

struct bulk {
	const struct bound *b;
	const char *event;
	struct rpc_call *call;
	struct actor actor;
	struct bulk_item *items;
	size_t n, n_good, n_done;
	struct buf rows, tags; /* JSON arrays; '[' first */
	struct sql sql;
	bool has_tag_names;
	bool ids_only;         /* what was made is not read back */
	bool strict;           /* what is there already fails the statement, which says by what */
};

void bulk_open(struct bulk *k, size_t n);
void bulk_row_put(struct bulk *k, size_t n, const struct values *v);
/* The statement; rows and tags are given back. */
void bulk_build(struct bulk *k);
/* In a transaction: numbers, rows, events; items say what each came to. Not OK: the statement as a whole failed, explained in the call. */
enum status bulk_rows_write(struct bulk *k, struct db_conn *db) MUST_CHECK;

#endif
