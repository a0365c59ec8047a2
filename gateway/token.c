/* Bearer tokens: pre-screen, header, signature, claims. */
#include "gateway/token.h"

#include <openssl/err.h>
#include <openssl/rsa.h>

#include "json/json.h"

struct parts {
	struct str header, payload, signature, signed_text;
};

/* The bytes of base64url, and nothing else, in three parts. */
static bool split(struct str token, struct parts *p)
{
	size_t dots[2], n = 0;

	if (token.n > TOKEN_MAX)
		return false;
	for (size_t i = 0; i < token.n; i++) {
		char c = token.p[i];

		if (c == '.') {
			if (n == 2)
				return false;
			dots[n++] = i;
		} else if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) {
			return false;
		}
	}
	if (n != 2)
		return false;
	p->header = (struct str){ token.p, dots[0] };
	p->payload = (struct str){ token.p + dots[0] + 1, dots[1] - dots[0] - 1 };
	p->signature = (struct str){ token.p + dots[1] + 1, token.n - dots[1] - 1 };
	p->signed_text = (struct str){ token.p, dots[1] };
	return p->header.n >= 2 && p->payload.n >= 2 && p->signature.n >= 2;
}

static struct json *parse_part(struct str b64, struct arena *scratch)
{
	uint8_t *bytes = arena_alloc(scratch, b64.n + 1);
	long n = b64url_decode(b64, bytes);
	struct json_error err;
	struct json *doc;

	if (n <= 0)
		return NULL;
	doc = json_parse(scratch, (struct str){ (char *)bytes, (size_t)n }, &err);
	return doc && doc->type == JSON_OBJECT ? doc : NULL;
}

static struct str text_of(const struct json *o, const char *name)
{
	const struct json *v = json_get(o, str_of(name), false);

	return v && v->type == JSON_STRING ? v->text : (struct str){ 0 };
}

/* NULL: the header is as it must be. jku, x5u, jwk and friends are never looked at. */
static const char *header_problem(const struct json *h)
{
	struct str kid = text_of(h, "kid");

	if (!str_eq(text_of(h, "alg"), STR("RS256")))
		return "alg";
	if (!str_eq(text_of(h, "typ"), STR("at+jwt")))
		return "typ";
	if (json_get(h, STR("crit"), false))
		return "crit";
	return kid.n && kid.n <= KID_MAX ? NULL : "kid";
}

/*
 * The context of the key that this thread checked with last: making one costs almost as much as the check. It holds the key, so
 * that no other key can come to lie at its address.
 */
static EVP_PKEY_CTX *context_of(EVP_PKEY *key)
{
	static _Thread_local struct {
		EVP_PKEY *key;
		EVP_PKEY_CTX *ctx;
	} last;

	if (last.key == key && last.ctx)
		return last.ctx;
	EVP_PKEY_CTX_free(last.ctx);
	last.key = key;
	last.ctx = EVP_PKEY_CTX_new(key, NULL);
	if (last.ctx && EVP_PKEY_verify_init(last.ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(last.ctx, RSA_PKCS1_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_signature_md(last.ctx, EVP_sha256()) == 1)
		return last.ctx;
	EVP_PKEY_CTX_free(last.ctx);
	last.ctx = NULL;
	return NULL;
}

static bool signature_is_good(EVP_PKEY *key, const struct parts *p, struct arena *scratch)
{
	uint8_t *sig = arena_alloc(scratch, p->signature.n);
	long n = b64url_decode(p->signature, sig);
	uint8_t digest[32];
	EVP_PKEY_CTX *ctx;
	bool good;

	if (n <= 0 || n != EVP_PKEY_get_size(key))
		return false;
	ctx = context_of(key);
	sha256(p->signed_text.p, p->signed_text.n, digest);
	good = ctx && EVP_PKEY_verify(ctx, sig, (size_t)n, digest, sizeof(digest)) == 1;
	if (!good)
		ERR_clear_error(); /* a failed verify leaves its errors for the next TLS read to trip over */
	return good;
}

static bool int_of(const struct json *o, const char *name, int64_t *out)
{
	const struct json *v = json_get(o, str_of(name), false);

	return v && v->type == JSON_NUMBER && str_to_i64(v->text, out) && *out >= 0;
}

static bool audience_fits(const struct json *claims, struct str wanted)
{
	const struct json *aud = json_get(claims, STR("aud"), false);

	if (!aud || !wanted.n)
		return false;
	if (aud->type == JSON_STRING)
		return str_eq(aud->text, wanted);
	if (aud->type != JSON_ARRAY)
		return false;
	for (const struct json *v = aud->child; v; v = v->next) {
		if (v->type == JSON_STRING && str_eq(v->text, wanted))
			return true;
	}
	return false;
}

static const char *times_problem(const struct json *claims, int64_t now, struct principal *out)
{
	int64_t exp, nbf, iat;

	if (!int_of(claims, "exp", &exp) || exp <= now || exp > now + TOKEN_LIFE_MAX_S + TOKEN_SKEW_S)
		return "exp";
	if (!int_of(claims, "nbf", &nbf) || nbf > now + TOKEN_SKEW_S)
		return "nbf";
	if (!int_of(claims, "iat", &iat) || iat > now + TOKEN_SKEW_S || exp - iat > TOKEN_LIFE_MAX_S)
		return "iat";
	out->issued_us = iat * 1000000;
	out->expires_us = exp * 1000000;
	return NULL;
}

static bool hex64(struct str s, uint64_t *out)
{
	uint64_t v = 0;

	if (!s.n || s.n > 16)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return false;
		v = v << 4 | (uint64_t)digit;
	}
	*out = v;
	return true;
}

/* "<hex of bits 0..63>.<hex of bits 64..127>" */
static bool permissions_of(struct str perm, uint64_t out[2])
{
	const char *dot = perm.n ? memchr(perm.p, '.', perm.n) : NULL;

	if (!dot)
		return false;
	return hex64((struct str){ perm.p, (size_t)(dot - perm.p) }, &out[0]) &&
	    hex64((struct str){ dot + 1, perm.n - (size_t)(dot - perm.p) - 1 }, &out[1]);
}

static const char *who_problem(const struct json *claims, struct principal *out)
{
	struct str role = text_of(claims, "role");
	int64_t limited = 0;

	if (!uuid_parse(text_of(claims, "sub"), out->user_id))
		return "sub";
	if (!uuid_parse(text_of(claims, "tid"), out->tenant_id))
		return "tid";
	if (!uuid_parse(text_of(claims, "jti"), out->token_id))
		return "jti";
	if (!uuid_parse(text_of(claims, "sid"), out->session_id))
		return "sid";
	if (!int_of(claims, "tsq", &out->tenant_seq) || !int_of(claims, "usq", &out->user_seq))
		return "seq";
	if (!permissions_of(text_of(claims, "perm"), out->permissions))
		return "perm";
	if (!role.n || role.n > ROLE_MAX || memchr(role.p, 0, role.n))
		return "role";
	memcpy(out->role, role.p, role.n);
	if (json_get(claims, STR("lim"), false) && !int_of(claims, "lim", &limited))
		return "lim";
	out->limited = limited != 0;
	return NULL;
}

static const char *claims_problem(const struct json *claims, const struct token_rules *rules, struct principal *out)
{
	const char *problem;

	if (!rules->issuer.n || !str_eq(text_of(claims, "iss"), rules->issuer))
		return "iss";
	if (!audience_fits(claims, rules->audience))
		return "aud";
	problem = times_problem(claims, rules->now_s, out);
	return problem ? problem : who_problem(claims, out);
}

enum token_outcome token_verify(const struct keyset *ks, const struct token_rules *rules, struct str token, struct arena *scratch,
    struct principal *out, char kid[KID_MAX + 1], const char **why)
{
	struct parts p;
	struct json *header, *claims;
	struct str id;
	EVP_PKEY *key;

	memset(out, 0, sizeof(*out));
	*why = "form";
	if (!split(token, &p))
		return TOKEN_BAD;
	header = parse_part(p.header, scratch);
	*why = header ? header_problem(header) : "header";
	if (*why)
		return TOKEN_BAD;
	id = text_of(header, "kid");
	key = ks ? keyset_find(ks, id) : NULL;
	if (!key)
		return TOKEN_UNKNOWN_KEY;
	*why = "signature";
	if (!signature_is_good(key, &p, scratch))
		return TOKEN_BAD;
	claims = parse_part(p.payload, scratch);
	*why = claims ? claims_problem(claims, rules, out) : "payload";
	if (*why)
		return TOKEN_BAD;
	if (kid) {
		memcpy(kid, id.p, id.n);
		kid[id.n] = 0;
	}
	return TOKEN_GOOD;
}

bool token_claimed_tenant(struct str token, struct arena *scratch, char id[UUID_TEXT + 1])
{
	struct parts p;
	struct json *claims = split(token, &p) ? parse_part(p.payload, scratch) : NULL;

	return claims && uuid_parse(text_of(claims, "tid"), id);
}
