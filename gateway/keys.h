/*
 * The public keys that tokens are signed with, from a JWKS document (RFC 7517). A keyset is an immutable counted
 * snapshot; the store publishes the newest one to all threads.
 */
#ifndef CRM_GATEWAY_KEYS_H
#define CRM_GATEWAY_KEYS_H

#include <openssl/evp.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/str.h"

#define KEYS_MAX 16
#define KID_MAX 128

struct keyset {
	atomic_uint refs;
	size_t n;
	struct {
		char kid[KID_MAX + 1];
		EVP_PKEY *key; /* RSA, 2048 to 8192 bits */
	} rows[KEYS_MAX];
};

/* NULL and *why when the document is malformed or holds no usable key. Keys of other types are left out. */
struct keyset *keyset_parse(struct str jwks, struct arena *scratch, const char **why);
void keyset_hold(struct keyset *ks);
void keyset_rele(struct keyset *ks);
EVP_PKEY *keyset_find(const struct keyset *ks, struct str kid); /* NULL: unknown; lives as long as the set */

struct key_store;

struct key_store *key_store_new(void);
void key_store_publish(struct key_store *s, struct keyset *ks); /* takes the caller's reference */
/* As publish, unless the store holds the same keys already: then every cached token stays as it is. */
void key_store_publish_changed(struct key_store *s, struct keyset *ks);
/* Changes with every publish; 0: nothing was published yet. */
unsigned key_store_generation(const struct key_store *s);
struct keyset *key_store_hold(struct key_store *s); /* NULL when none; the caller gives it back with keyset_rele */
void key_store_free(struct key_store *s);

#endif
