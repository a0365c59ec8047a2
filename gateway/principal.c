/* crm.v1.Principal, written and read by hand. */
#include "gateway/principal.h"

#include "base/wire.h"

enum { TENANT_ID = 1, TENANT_SEQ, USER_ID, USER_SEQ, ROLE, PERMISSIONS_LOW, PERMISSIONS_HIGH, SESSION_ID, TOKEN_ID, API_KEY_ID, EXPIRES, SCOPE };

static void put_text(struct buf *out, uint32_t number, const char *text)
{
	if (*text)
		wire_put_bytes(out, number, str_of(text));
}

void principal_encode(const struct principal *p, struct buf *out)
{
	put_text(out, TENANT_ID, p->tenant_id);
	wire_put_varint(out, TENANT_SEQ, (uint64_t)p->tenant_seq);
	put_text(out, USER_ID, p->user_id);
	wire_put_varint(out, USER_SEQ, (uint64_t)p->user_seq);
	put_text(out, ROLE, p->role);
	wire_put_fixed64(out, PERMISSIONS_LOW, p->permissions[0]);
	wire_put_fixed64(out, PERMISSIONS_HIGH, p->permissions[1]);
	put_text(out, SESSION_ID, p->session_id);
	put_text(out, TOKEN_ID, p->token_id);
	put_text(out, API_KEY_ID, p->api_key_id);
	if (p->expires_us)
		wire_put_varint(out, EXPIRES, (uint64_t)p->expires_us);
	if (p->scope.n)
		wire_put_bytes(out, SCOPE, p->scope);
}

static bool take_text(const struct wire_field *f, char *to, size_t size)
{
	if (f->type != WIRE_BYTES || f->bytes.n >= size || memchr(f->bytes.p, 0, f->bytes.n))
		return false;
	memcpy(to, f->bytes.p, f->bytes.n);
	to[f->bytes.n] = 0;
	return true;
}

static bool take_uuid(const struct wire_field *f, char to[UUID_TEXT + 1])
{
	return f->type == WIRE_BYTES && (f->bytes.n == 0 || uuid_parse(f->bytes, to));
}

static bool take(const struct wire_field *f, struct principal *p)
{
	switch (f->number) {
	case TENANT_ID:
		return take_uuid(f, p->tenant_id);
	case TENANT_SEQ:
		p->tenant_seq = (int64_t)f->value;
		return f->type == WIRE_VARINT;
	case USER_ID:
		return take_uuid(f, p->user_id);
	case USER_SEQ:
		p->user_seq = (int64_t)f->value;
		return f->type == WIRE_VARINT;
	case ROLE:
		return take_text(f, p->role, sizeof(p->role));
	case PERMISSIONS_LOW:
	case PERMISSIONS_HIGH:
		p->permissions[f->number - PERMISSIONS_LOW] = f->value;
		return f->type == WIRE_FIXED64;
	case SESSION_ID:
		return take_uuid(f, p->session_id);
	case TOKEN_ID:
		return take_uuid(f, p->token_id);
	case API_KEY_ID:
		return take_text(f, p->api_key_id, sizeof(p->api_key_id));
	case EXPIRES:
		p->expires_us = (int64_t)f->value;
		return f->type == WIRE_VARINT;
	case SCOPE:
		p->scope = f->bytes;
		return f->type == WIRE_BYTES;
	default:
		return true;
	}
}

bool principal_decode(struct str wire, struct principal *out)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field f;

	memset(out, 0, sizeof(*out));
	while (wire_next(&r, &f)) {
		if (!take(&f, out))
			return false;
	}
	return !r.bad && *out->tenant_id && *out->user_id;
}
