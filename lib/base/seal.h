/*
 * AES-256-GCM for texts at rest: 12 bytes of nonce, ciphertext, 16 bytes of tag. Pure functions, any thread.
 */
#ifndef CRM_BASE_SEAL_H
#define CRM_BASE_SEAL_H

#include "base/arena.h"

#define SEAL_KEY 32
#define SEAL_EXTRA 28 /* bytes that a sealed text is longer */

/* out: text.n + SEAL_EXTRA bytes. bound: what it belongs to; opening needs the same. Ends the process when OpenSSL fails. */
void seal(const uint8_t key[SEAL_KEY], struct str bound, struct str text, uint8_t *out);
/* out: sealed.n - SEAL_EXTRA bytes. False: too short, tampered with, bound to something else, or another key. */
bool unseal(const uint8_t key[SEAL_KEY], struct str bound, struct str sealed, uint8_t *out);

/* The same as bytea parameter and column of PostgreSQL ("\x…"), in the arena. */
char *seal_bytea(struct arena *a, const uint8_t key[SEAL_KEY], struct str bound, struct str text);
bool unseal_bytea(struct arena *a, const uint8_t key[SEAL_KEY], struct str bound, struct str bytea, struct str *text);

#endif
