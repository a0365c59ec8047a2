/* Keys derived from the master key by HMAC-SHA256. */
#include "svc-audit/secret.h"

#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/codec.h"

static uint8_t master_key[SEAL_KEY];

void secret_init(const uint8_t master[SEAL_KEY])
{
	memcpy(master_key, master, SEAL_KEY);
}

void secret_key(const char *purpose, uint8_t out[SEAL_KEY])
{
	unsigned n = SEAL_KEY;

	if (!HMAC(EVP_sha256(), master_key, SEAL_KEY, (const uint8_t *)purpose, strlen(purpose), out, &n))
		abort();
}

char *secret_seal(struct arena *a, const char *purpose, const char *bound, struct str text)
{
	size_t n = text.n + SEAL_EXTRA;
	uint8_t key[SEAL_KEY], *raw = arena_alloc(a, n);
	char *hex = arena_alloc(a, 2 * n + 3);

	secret_key(purpose, key);
	seal(key, str_of(bound), text, raw);
	OPENSSL_cleanse(key, sizeof(key));
	memcpy(hex, "\\x", 2);
	hex_encode(raw, n, hex + 2);
	return hex;
}

bool secret_open(struct arena *a, const char *purpose, const char *bound, struct str hex, struct str *text)
{
	uint8_t key[SEAL_KEY], *raw, *out;
	size_t n;
	bool ok;

	if (hex.n < 2 + 2 * SEAL_EXTRA || hex.n % 2 || hex.p[0] != '\\' || hex.p[1] != 'x')
		return false;
	n = (hex.n - 2) / 2;
	raw = arena_alloc(a, n);
	out = arena_alloc(a, n);
	if (!hex_decode((struct str){ hex.p + 2, hex.n - 2 }, raw, n))
		return false;
	*text = (struct str){ (char *)out, n - SEAL_EXTRA };
	secret_key(purpose, key);
	ok = unseal(key, str_of(bound), (struct str){ (char *)raw, n }, out);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}
