/*
 * SipHash-1-3 (Aumasson, Bernstein) with a key drawn at start, for tables whose keys a client can choose.
 * Include before uthash.h: every table of the gateway hashes with it. Threading: siphash_init once, before threads.
 */
#ifndef CRM_GATEWAY_SIPHASH_H
#define CRM_GATEWAY_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

void siphash_init(void);
uint64_t siphash(const void *p, size_t n);
/* Under a key of the caller's, for values that leave the process. */
uint64_t siphash_with(const uint64_t k[2], const void *p, size_t n);

#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned)siphash((keyptr), (keylen)))

#endif
