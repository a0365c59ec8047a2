/*
 * The two tokens: access tokens (RS256 JWT, verified by gateways) and refresh tokens (256 random bits, stored as a hash).
 * docs/adr/0006-tokens.md has the claims. Threading: any thread.
 */
#ifndef CRM_AUTH_TOKEN_H
#define CRM_AUTH_TOKEN_H

#include "base/buf.h"
#include "roles.h"

#define REFRESH_TEXT 48
#define BYTEA_TEXT 67 /* "\x", 64 hex digits, NUL */

struct token_claims {
	const char *user_id, *tenant_id, *session_id, *role;
	int64_t user_seq, tenant_seq;
	struct perms perms;
	bool limited; /* not all rows: gateways ask for the scope */
	uint32_t ttl_s;
};

/* issuer lives on. */
void token_init(const char *issuer);

/* Appends the token. False: no signing key, or signing failed. */
bool token_access(const struct token_claims *c, int64_t now_us, struct buf *out);

void token_refresh_new(char out[REFRESH_TEXT]);
/* What the token becomes when it is rotated: always the same, computable only with the service's key. */
void token_refresh_successor(const char *token, char out[REFRESH_TEXT]);

/* SHA-256 as the text of a bytea parameter. */
void token_hash(struct str secret, char out[BYTEA_TEXT]);

/* API keys: crm_live_<32 hex: id>_<48 hex: secret><8 hex: CRC-32 of what stands before>. */
#define API_KEY_TEXT 99
void token_api_key_new(const char *id, char out[API_KEY_TEXT]);
/* Shape and checksum; says nothing about whether the key exists. */
bool token_api_key_plausible(struct str key);

#endif
