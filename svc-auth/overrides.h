/*
 * Permissions of one member on top of the role: granted beyond it, denied of it.
 * Arrays live in the call's arena. Threading: a worker thread, in the handler's transaction.
 */
#ifndef CRM_AUTH_OVERRIDES_H
#define CRM_AUTH_OVERRIDES_H

#include "people.h"

struct overrides {
	const char *granted, *denied; /* PostgreSQL arrays */
	struct perms perms;           /* what comes out */
};

/* From the words that say the whole set. VALIDATION_ERROR with a violation of "grant"; PERMISSION_DENIED: more than the caller has. */
enum status overrides_of(struct rpc_call *call, const struct perms *role, char *const *words, size_t n, struct overrides *out) MUST_CHECK;
enum status overrides_write(struct rpc_call *call, struct db_conn *db, const char *user_id, const struct overrides *o) MUST_CHECK;

#endif
