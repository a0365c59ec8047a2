/*
 * Verification of bearer tokens (JWT, RS256, RFC 9068). Nothing is believed before the signature is checked, except
 * the header's kid, which chooses the key. Pure but for the scratch arena: any thread.
 */
#ifndef CRM_GATEWAY_TOKEN_H
#define CRM_GATEWAY_TOKEN_H

#include "base/arena.h"
#include "gateway/keys.h"
#include "gateway/principal.h"

#define TOKEN_MAX 4096
#define TOKEN_SKEW_S 60              /* clocks of issuer and gateway may differ by this (nbf, iat) */
#define TOKEN_LIFE_MAX_S (25 * 3600) /* longer-lived tokens are refused: revocations are kept this long */

enum token_outcome { TOKEN_GOOD, TOKEN_BAD, TOKEN_UNKNOWN_KEY };

struct token_rules {
	struct str issuer, audience;
	int64_t now_s;
};

/* TOKEN_BAD: *why is a word for the log, never for the client. kid (may be NULL) gets a copy of the key's id. */
enum token_outcome token_verify(const struct keyset *ks, const struct token_rules *rules, struct str token, struct arena *scratch,
    struct principal *out, char kid[KID_MAX + 1], const char **why);

/* The tenant that a token names, whoever made it: nothing of it is checked. False: it names none. */
bool token_claimed_tenant(struct str token, struct arena *scratch, char id[UUID_TEXT + 1]);

#endif
