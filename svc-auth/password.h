/* Password hashes: argon2id in the encoded form that carries its parameters. About 35 ms each: run on the pool only. */
#ifndef CRM_AUTH_PASSWORD_H
#define CRM_AUTH_PASSWORD_H

#include "base/str.h"

#define PASSWORD_HASH_MAX 128
#define PASSWORD_REGIONS 2 /* hashes at once that have memory of their own, 19 MiB each; as many as POOL_THREADS */

/* False only when there is no memory for it. out is NUL-terminated. */
bool password_hash(struct str password, char out[PASSWORD_HASH_MAX]);
/* hash NULL (no such account): spends the same time on a hash nobody knows the password of, and says false. */
bool password_verify(const char *hash, struct str password);
/* False: what stands in for a hash while an account has no password yet. */
bool password_is_hash(const char *hash);
/* Gives back memory of hashes that nobody has used for 10 seconds. Any thread. */
void password_trim(void);
/* Made with other parameters than today's. */
bool password_is_stale(const char *hash);

#endif
