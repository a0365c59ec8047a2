/* AES-256-GCM for small texts: nonce, ciphertext, tag. */
#include "seal.h"

#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/codec.h"
#include "keys.h"

#define NONCE 12
#define TAG 16
#define TEXT_MAX 16384

static bool run(bool on, const char *purpose, const char *bound, const uint8_t *nonce, struct str in, uint8_t *out, uint8_t *tag)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[32];
	int len = 0, rest = 0;
	bool ok;

	keys_mac(purpose, STR("sealing"), key);
	ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, on) == 1 &&
	    EVP_CipherUpdate(ctx, NULL, &len, (const uint8_t *)bound, (int)strlen(bound)) == 1 &&
	    EVP_CipherUpdate(ctx, out, &len, (const uint8_t *)in.p, (int)in.n) == 1;
	if (ok && !on)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + len, &rest) == 1;
	if (ok && on)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;
	EVP_CIPHER_CTX_free(ctx);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

char *seal_text(struct arena *a, const char *purpose, const char *bound, struct str text)
{
	size_t n = NONCE + text.n + TAG;
	uint8_t *raw = arena_alloc(a, n);
	char *hex = arena_alloc(a, 2 * n + 3);

	random_bytes(raw, NONCE);
	if (text.n > TEXT_MAX || !run(true, purpose, bound, raw, text, raw + NONCE, raw + NONCE + text.n))
		abort();
	hex[0] = '\\';
	hex[1] = 'x';
	hex_encode(raw, n, hex + 2);
	return hex;
}

bool seal_open(struct arena *a, const char *purpose, const char *bound, struct str hex, struct str *text)
{
	size_t n;
	uint8_t *raw;
	char *out;

	if (hex.n < 2 + 2 * (NONCE + TAG) || hex.n > 2 + 2 * (NONCE + TEXT_MAX + TAG) || hex.n % 2 || hex.p[0] != '\\' || hex.p[1] != 'x')
		return false;
	n = (hex.n - 2) / 2;
	raw = arena_alloc(a, n);
	out = arena_alloc(a, n);
	if (!hex_decode((struct str){ hex.p + 2, hex.n - 2 }, raw, n))
		return false;
	*text = (struct str){ out, n - NONCE - TAG };
	return run(false, purpose, bound, raw, (struct str){ (char *)raw + NONCE, text->n }, (uint8_t *)out, raw + n - TAG);
}
