/*
 * Who acts: what a verified token, an API key or another membership of a user amounts to, and its wire form
 * (crm.v1.Principal), which travels in every call. Pure values: any thread.
 */
#ifndef CRM_GATEWAY_PRINCIPAL_H
#define CRM_GATEWAY_PRINCIPAL_H

#include "base/buf.h"
#include "base/codec.h"
#include "base/str.h"

#define ROLE_MAX 50

enum principal_kind { PRINCIPAL_TOKEN, PRINCIPAL_API_KEY, PRINCIPAL_MEMBER };

struct principal {
	enum principal_kind kind;
	char tenant_id[UUID_TEXT + 1], user_id[UUID_TEXT + 1], session_id[UUID_TEXT + 1], token_id[UUID_TEXT + 1];
	char api_key_id[65]; /* empty strings: none */
	char role[ROLE_MAX + 1];
	int64_t tenant_seq, user_seq;
	int64_t issued_us, expires_us; /* wall clock */
	uint64_t permissions[2];
	bool limited;        /* a token's member does not see all rows: ask svc-auth for the scope */
	struct str scope;    /* of rows; borrowed from what it was decoded from, or from the entry that holds it */
};

static inline bool principal_may(const struct principal *p, unsigned permission)
{
	return permission < 128 && (p->permissions[permission / 64] >> (permission % 64) & 1);
}

void principal_encode(const struct principal *p, struct buf *out);
/* False: malformed, or without tenant or user. issued_us is not on the wire. */
bool principal_decode(struct str wire, struct principal *out);

#endif
