/* Passwords that everybody tries first: a sorted file, mapped. Threading: open first, then any thread. */
#ifndef CRM_AUTH_COMMON_H
#define CRM_AUTH_COMMON_H

#include "rpc/rpc.h"

#define PASSWORD_MAX_BYTES 1024

/* One password a line, lower case, in the order of `LC_ALL=C sort`. Exits with a sentence when it cannot be read or is not so. */
void common_open(const char *path);
/* Case (of ASCII) is ignored. False for everything while no file is open. */
bool common_has(struct str password);

/*
 * The rules for a password that is chosen: not too long in bytes, not common. Its least length is the contract's. False: the
 * call has a violation on path; answer VALIDATION_ERROR.
 */
bool password_acceptable(struct rpc_call *call, const char *path, const char *password);

#endif
