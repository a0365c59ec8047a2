/* Inside lib/resource: one create, update or delete on its way, on the loop or on a worker. */
#ifndef CRM_RESOURCE_WRITE_H
#define CRM_RESOURCE_WRITE_H

#include "resource/internal.h"

/* Lives in the call's arena; states: parsed, (numbered), submitted, answered. */
struct write {
	const struct bound *b;
	struct rpc_call *call;
	struct actor actor;
	struct key key;
	struct values values;
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

/* The statement is made; fini gives its text back. */
void write_fini(struct write *w);
/* Rows more or less when it succeeds. */
int write_delta(const struct write *w);
/* The reply of a result row: OK with bytes in out, else the outcome with violations in the call. */
enum status write_reply(struct write *w, const PGresult *res, struct buf *out) MUST_CHECK;

#endif
