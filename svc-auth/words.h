/* What an administrator writes when they say what somebody may do, as a set of permissions. */
#ifndef CRM_AUTH_WORDS_H
#define CRM_AUTH_WORDS_H

#include "roles.h"

#define WORDS_MAX 200

/*
 * "customers.delete" is itself; "manage_customers" is all of customers; "read", "write", "delete" are what the role says of
 * that verb ("read" also what is neither write nor delete), or, when it says nothing, that verb for what it reads of the
 * tenant's business: never for users, roles, tenants, audit or api_keys. False: *bad is no such word.
 */
bool words_perms(const struct perms *role, char *const *words, size_t n, struct perms *out, const char **bad);

/* The exact words of a set, in the order of enum Permission. Static text. Returns their number. */
size_t words_of(const struct perms *p, char *words[128]);

#endif
