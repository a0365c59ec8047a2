/* Access tokens signed with the cached key, refresh tokens and their derived successors, API keys. */
#include "token.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/codec.h"
#include "base/log.h"
#include "keys.h"

#define SIGNATURE_MAX 512
#define API_KEY_PREFIX "crm_live_"

static const char *issuer = "https://crm.local";

void token_init(const char *iss)
{
	issuer = iss;
}

static void put_b64url(struct buf *out, const void *p, size_t n)
{
	buf_need(out, n * 4 / 3 + 4);
	out->n += b64url_encode(p, n, out->p + out->n);
}

static void put_claims(struct buf *b, const struct token_claims *c, int64_t now_s)
{
	char jti[UUID_TEXT + 1];

	uuid7(jti);
	buf_z(b, "{\"iss\":");
	buf_json_str(b, str_of(issuer));
	buf_printf(b, ",\"aud\":\"crm\",\"sub\":\"%s\",\"jti\":\"%s\",\"sid\":\"%s\"", c->user_id, jti, c->session_id);
	buf_printf(b, ",\"iat\":%" PRId64 ",\"nbf\":%" PRId64 ",\"exp\":%" PRId64, now_s, now_s, now_s + c->ttl_s);
	buf_printf(b, ",\"tid\":\"%s\",\"tsq\":%" PRId64 ",\"usq\":%" PRId64 ",\"role\":", c->tenant_id, c->tenant_seq, c->user_seq);
	buf_json_str(b, str_of(c->role));
	buf_printf(b, ",\"perm\":\"%016" PRIx64 ".%016" PRIx64 "\"", c->perms.bits[0], c->perms.bits[1]);
	if (c->limited)
		buf_z(b, ",\"lim\":1");
	buf_printf(b, ",\"nameid\":\"user_%" PRId64 "\",\"tenantid\":\"tenant_%" PRId64 "\"}", c->user_seq, c->tenant_seq);
}

static bool sign(EVP_PKEY *key, struct str input, struct buf *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t sig[SIGNATURE_MAX];
	size_t n = sizeof(sig);
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	    EVP_DigestSign(ctx, sig, &n, (const uint8_t *)input.p, input.n) == 1;

	EVP_MD_CTX_free(ctx);
	if (ok)
		put_b64url(out, sig, n);
	return ok;
}

bool token_access(const struct token_claims *c, int64_t now_us, struct buf *out)
{
	struct buf part = { 0 }, token = { 0 };
	char kid[KEYS_KID_MAX];
	EVP_PKEY *key = keys_current(kid);
	bool ok;

	if (!key) {
		log_error("AUTH-NO-KEY", "no signing key is loaded");
		return false;
	}
	buf_printf(&part, "{\"alg\":\"RS256\",\"typ\":\"at+jwt\",\"kid\":\"%s\"}", kid);
	put_b64url(&token, part.p, part.n);
	buf_clear(&part);
	put_claims(&part, c, now_us / 1000000);
	buf_c(&token, '.');
	put_b64url(&token, part.p, part.n);
	buf_str(out, buf_view(&token));
	buf_c(out, '.');
	ok = sign(key, buf_view(&token), out);
	EVP_PKEY_free(key);
	buf_fini(&part);
	buf_fini(&token);
	return ok;
}

static void refresh_text(const uint8_t raw[32], char out[REFRESH_TEXT])
{
	memcpy(out, "rt_", 3);
	b64url_encode(raw, 32, out + 3);
}

void token_refresh_new(char out[REFRESH_TEXT])
{
	uint8_t raw[32];

	random_bytes(raw, sizeof(raw));
	refresh_text(raw, out);
	OPENSSL_cleanse(raw, sizeof(raw));
}

void token_refresh_successor(const char *token, char out[REFRESH_TEXT])
{
	uint8_t raw[32];

	keys_mac("refresh-successor", str_of(token), raw);
	refresh_text(raw, out);
	OPENSSL_cleanse(raw, sizeof(raw));
}

void token_hash(struct str secret, char out[BYTEA_TEXT])
{
	uint8_t digest[32];

	sha256(secret.p ? secret.p : "", secret.n, digest);
	out[0] = '\\';
	out[1] = 'x';
	hex_encode(digest, sizeof(digest), out + 2);
}

static uint32_t crc32_of(const char *p, size_t n)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < n; i++) {
		crc ^= (uint8_t)p[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

void token_api_key_new(const char *id, char out[API_KEY_TEXT])
{
	uint8_t id_bytes[16], secret[24];
	char id_hex[33], secret_hex[49];
	int n;

	uuid_to_bytes(str_of(id), id_bytes);
	random_bytes(secret, sizeof(secret));
	hex_encode(id_bytes, sizeof(id_bytes), id_hex);
	hex_encode(secret, sizeof(secret), secret_hex);
	n = snprintf(out, API_KEY_TEXT, API_KEY_PREFIX "%s_%s", id_hex, secret_hex);
	snprintf(out + n, API_KEY_TEXT - (size_t)n, "%08" PRIx32, crc32_of(out, (size_t)n));
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(secret_hex, sizeof(secret_hex));
}

bool token_api_key_plausible(struct str key)
{
	char crc[9];

	if (key.n != API_KEY_TEXT - 1 || !str_starts(key, STR(API_KEY_PREFIX)))
		return false;
	snprintf(crc, sizeof(crc), "%08" PRIx32, crc32_of(key.p, key.n - 8));
	return memcmp(key.p + key.n - 8, crc, 8) == 0;
}
