/*
 * Signing keys: RSA 2048, kept in the database encrypted by the key-encryption key, shared by all instances.
 *
 * States: next (published, not used yet), current (signs), old (published until nothing signed with it can be alive). Every
 * change of state happens under one advisory lock, so several instances never race. docs/adr/0006-tokens.md has the times.
 * Threading: keys_init first; keys_refresh and keys_rotate block and belong to the keeper thread or a subcommand; the rest
 * may be used by any thread.
 */
#ifndef CRM_AUTH_KEYS_H
#define CRM_AUTH_KEYS_H

#include <libpq-fe.h>
#include <openssl/evp.h>

#include "base/arena.h"

#define KEYS_KID_MAX 44
#define KEYS_TENANT "00000000-0000-0000-0000-000000000000" /* whose events keys are */
#define KEYS_PUBLISH_AHEAD_S 120
#define KEYS_KEEP_OLD_S (24 * 3600 + 300)

void keys_init(const uint8_t kek[32]);

/*
 * Creates the first key, promotes a next key that was published long enough, forgets old ones, and loads what there is.
 * False: the database or the key-encryption key failed (logged); what was loaded before stays.
 */
bool keys_refresh(PGconn *db);
/* Publishes a next key. kid gets its id. False when there is one already or the database failed (*why says it). */
bool keys_rotate(PGconn *db, char kid[KEYS_KID_MAX], const char **why);

/* The key that signs now, counted: EVP_PKEY_free it. NULL: none is loaded yet. */
EVP_PKEY *keys_current(char kid[KEYS_KID_MAX]);
/* RFC 7517 document of every published key. */
char *keys_jwks(struct arena *a);

/* HMAC-SHA256 of data under a key derived from the key-encryption key for this purpose. */
void keys_mac(const char *purpose, struct str data, uint8_t out[32]);

/* Which key-encryption key this is, without saying anything of it: kept beside what it seals. */
#define KEYS_ID_TEXT 17
void keys_id(char out[KEYS_ID_TEXT]);

/* kid of a key: RFC 7638 thumbprint of its modulus and exponent (base64url). */
void keys_thumbprint(const char *modulus, const char *exponent, char kid[KEYS_KID_MAX]);

#endif
