/*
 * Lists of svc-auth: filters, search, several sort keys, offset or keyset cursor, total, over any FROM with text and
 * number columns. Used for views and functions that the generic resource engine has no table for.
 * Threading: a worker thread; begins and ends the transaction itself and replies.
 */
#ifndef CRM_AUTH_LIST_H
#define CRM_AUTH_LIST_H

#include "proto/auth.pb-c.h"
#include "resource/handler.h"

enum list_type { LIST_TEXT, LIST_NUMBER }; /* times are numbers: microseconds */

struct list_column {
	uint32_t field;      /* number in the entity */
	enum list_type type;
	const char *sql;
	bool searched;       /* List.search looks for its text here, case ignored */
};

struct list {
	const char *columns;       /* select list; what `row` reads */
	const char *from;          /* FROM … WHERE …, complete; may use $1 when param is given */
	const char *id;            /* uuid column, the last sort key */
	const struct list_column *known;
	size_t n_known;
	uint32_t default_sort;     /* field; ascending */
	/* The row as a packed message. */
	struct str (*row)(struct rpc_call *call, const PGresult *res, int row);
};

/* param: value of $1 in from, NULL when from has none. */
void list_run(struct rpc_call *call, struct db_conn *db, const struct list *l, const char *param);

/* The same for an export: large pages, no total; the first page leaves the event in its transaction. */
void list_export(struct rpc_call *call, struct db_conn *db, const struct list *l, const char *event, const char *entity);

#endif
