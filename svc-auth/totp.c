/* RFC 6238. */
#include "totp.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "base/buf.h"

#define SHA1 20

uint32_t totp_value(const uint8_t *secret, size_t n, uint64_t step, unsigned digits)
{
	uint8_t counter[8], mac[SHA1];
	unsigned len = sizeof(mac), at;
	uint32_t value, modulus = 1;

	for (int i = 7; i >= 0; i--, step >>= 8)
		counter[i] = (uint8_t)step;
	HMAC(EVP_sha1(), secret, (int)n, counter, sizeof(counter), mac, &len);
	at = mac[SHA1 - 1] & 15;
	value = (uint32_t)(mac[at] & 0x7f) << 24 | (uint32_t)mac[at + 1] << 16 | (uint32_t)mac[at + 2] << 8 | mac[at + 3];
	for (unsigned i = 0; i < digits; i++)
		modulus *= 10;
	OPENSSL_cleanse(mac, sizeof(mac));
	return value % modulus;
}

uint64_t totp_check(const uint8_t secret[TOTP_SECRET], struct str code, int64_t now_s, uint64_t last_step)
{
	uint64_t now = (uint64_t)now_s / TOTP_STEP_S, found = 0;

	for (uint64_t step = now - TOTP_SKEW; step <= now + TOTP_SKEW; step++) {
		char text[16];

		snprintf(text, sizeof(text), "%0*u", TOTP_DIGITS, totp_value(secret, TOTP_SECRET, step, TOTP_DIGITS));
		if (str_eq_secret(str_of(text), code) && step > last_step)
			found = step;
		OPENSSL_cleanse(text, sizeof(text));
	}
	return found;
}

char *base32(struct arena *a, const uint8_t *p, size_t n)
{
	char *out = arena_alloc(a, (n * 8 + 4) / 5 + 1), *at = out;
	uint32_t bits = 0;
	unsigned have = 0;

	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | p[i];
		for (have += 8; have >= 5; have -= 5)
			*at++ = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits >> (have - 5) & 31];
	}
	if (have)
		*at++ = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[bits << (5 - have) & 31];
	*at = '\0';
	return out;
}

static void put_escaped(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' || c == '_' || c == '~';

		if (plain)
			buf_c(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

char *totp_uri(struct arena *a, const char *issuer, const char *account, const char *secret)
{
	struct buf b = { 0 };
	char *out;

	buf_z(&b, "otpauth://totp/");
	put_escaped(&b, issuer);
	buf_c(&b, ':');
	put_escaped(&b, account);
	buf_printf(&b, "?secret=%s&issuer=", secret);
	put_escaped(&b, issuer);
	buf_printf(&b, "&algorithm=SHA1&digits=%d&period=%d", TOTP_DIGITS, TOTP_STEP_S);
	out = arena_strdup(a, buf_view(&b));
	buf_fini(&b);
	return out;
}
