/* Nonce, ciphertext, tag. */
#include "base/seal.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "base/codec.h"

#define NONCE 12
#define TAG 16

static bool run(bool on, const uint8_t key[SEAL_KEY], struct str bound, const uint8_t *nonce, struct str in, uint8_t *out, uint8_t *tag)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0, rest = 0;
	bool ok;

	ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, on) == 1 &&
	    EVP_CipherUpdate(ctx, NULL, &len, (const uint8_t *)bound.p, (int)bound.n) == 1 &&
	    EVP_CipherUpdate(ctx, out, &len, (const uint8_t *)in.p, (int)in.n) == 1;
	if (ok && !on)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + len, &rest) == 1;
	if (ok && on)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

void seal(const uint8_t key[SEAL_KEY], struct str bound, struct str text, uint8_t *out)
{
	random_bytes(out, NONCE);
	if (!run(true, key, bound, out, text, out + NONCE, out + NONCE + text.n))
		abort();
}

bool unseal(const uint8_t key[SEAL_KEY], struct str bound, struct str sealed, uint8_t *out)
{
	const uint8_t *p = (const uint8_t *)sealed.p;
	uint8_t tag[TAG];
	size_t n;

	if (sealed.n < SEAL_EXTRA)
		return false;
	n = sealed.n - SEAL_EXTRA;
	memcpy(tag, p + NONCE + n, TAG);
	return run(false, key, bound, p, (struct str){ sealed.p + NONCE, n }, out, tag);
}

char *seal_bytea(struct arena *a, const uint8_t key[SEAL_KEY], struct str bound, struct str text)
{
	size_t n = text.n + SEAL_EXTRA;
	uint8_t *raw = arena_alloc(a, n);
	char *out = arena_alloc(a, 2 * n + 3);

	seal(key, bound, text, raw);
	memcpy(out, "\\x", 2);
	hex_encode(raw, n, out + 2);
	return out;
}

bool unseal_bytea(struct arena *a, const uint8_t key[SEAL_KEY], struct str bound, struct str bytea, struct str *text)
{
	uint8_t *raw, *out;
	size_t n;

	if (bytea.n < 2 + 2 * SEAL_EXTRA || bytea.n % 2 || bytea.p[0] != '\\' || bytea.p[1] != 'x')
		return false;
	n = (bytea.n - 2) / 2;
	raw = arena_alloc(a, n);
	out = arena_alloc(a, n);
	*text = (struct str){ (char *)out, n - SEAL_EXTRA };
	return hex_decode((struct str){ bytea.p + 2, bytea.n - 2 }, raw, n) && unseal(key, bound, (struct str){ (char *)raw, n }, out);
}
