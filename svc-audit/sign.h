/*
 * Ed25519 signatures over places in a chain: what an attacker who owns the database cannot make.
 *
 * Signed bytes: kind ("crm-audit-checkpoint-v1" or "crm-audit-cut-v1"), 0x00, tenant (16 bytes), number (8, big endian), hash (32),
 * time in microseconds (8, big endian). Keys and signatures travel as hex. Threading: a loaded signer may be used by any thread.
 */
#ifndef CRM_SVC_AUDIT_SIGN_H
#define CRM_SVC_AUDIT_SIGN_H

#include <stdbool.h>
#include <stdint.h>

#define SIGN_HEX 128
#define SIGN_KEY_HEX 64

enum sign_kind { SIGN_CHECKPOINT, SIGN_CUT };

struct sign_place {
	uint8_t tenant[16], hash[32];
	int64_t seq, signed_us;
};

struct signer;

/* path: 64 hex digits, the private seed. Exits with a sentence when it cannot be read. */
struct signer *signer_load(const char *path);
struct signer *signer_new(const uint8_t seed[32]);
void signer_free(struct signer *s);
void signer_public(const struct signer *s, char hex[SIGN_KEY_HEX + 1]);

void sign_place(const struct signer *s, enum sign_kind kind, const struct sign_place *p, char hex[SIGN_HEX + 1]);
bool sign_check(const char *public_hex, enum sign_kind kind, const struct sign_place *p, const char *signature_hex);

#endif
