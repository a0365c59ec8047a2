/* Password hashes: argon2id in the encoded form that carries its parameters. About 35 ms each: run on the pool only. */
#ifndef CRM_AUTH_PASSWORD_H
#define CRM_AUTH_PASSWORD_H

#include "base/str.h"

#define PASSWORD_HASH_MAX 128

/* False only when there is no memory for it. out is NUL-terminated. */
bool password_hash(struct str password, char out[PASSWORD_HASH_MAX]);
/* hash NULL (no such account): spends the same time on a hash nobody knows the password of, and says false. */
bool password_verify(const char *hash, struct str password);
/* False: what stands in for a hash while an account has no password yet. */
bool password_is_hash(const char *hash);
/* Made with other parameters than today's. */
bool password_is_stale(const char *hash);

#endif
