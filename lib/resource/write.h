/* Inside lib/resource: one create, update, delete or upsert on its way, on the loop or on a worker. */
#ifndef CRM_RESOURCE_WRITE_H
#define CRM_RESOURCE_WRITE_H

#include "resource/internal.h"

/* Lives in the call's arena; states: parsed, (numbered), submitted, answered. */
struct write {
	const struct bound *b;
	struct rpc_call *call;
	struct actor actor;
	enum op_kind kind;   /* what it does; OP_UPSERT until the row has been looked for */
	struct key key;
	struct values values;
	struct values *fresh; /* OP_UPSERT: what is written when there is no row yet */
	struct sql sql;
	char id[37];
	char seq[24];
	const char *version; /* expected, NULL: any */
	int seq_at;
};

#define MASK_MAX 64

/* Numbers of the fields that are written. */
struct mask {
	uint32_t numbers[MASK_MAX];
	size_t n;
};
/* Adds a packed list: a run of varints of at most five bytes each. False: malformed, or too many. */
bool mask_packed(struct mask *m, struct str bytes);

/* Shows the counter of repeated keys from the start. */
void idempotency_init(void);

/* Makes the statement of w->kind. Any thread. */
void write_build(struct write *w);
/* OP_UPSERT, on the loop: both sets of values from what was sent. The outcome of values_parse. */
enum status upsert_parse(struct write *w, struct str entity, const uint32_t *mask, size_t n_mask) MUST_CHECK;
/* OP_UPSERT, on a worker, in the transaction of the write: it is a create or an update from here on, and its statement is made. */
enum status upsert_choose(struct write *w, struct db_conn *db) MUST_CHECK;
/* The statement is made; fini gives its text back. */
void write_fini(struct write *w);
/* Rows more or less when it succeeds. */
int write_delta(const struct write *w);
/* The reply of a result row: OK with bytes in out, else the outcome with violations in the call. */
enum status write_reply(struct write *w, const PGresult *res, struct buf *out) MUST_CHECK;

#endif
