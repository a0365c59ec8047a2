/* Texts as bytea parameters, under a key of their purpose. */
#include "seal.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "base/codec.h"
#include "base/seal.h"
#include "keys.h"

#define TEXT_MAX 16384

static void key_of(const char *purpose, uint8_t key[SEAL_KEY])
{
	keys_mac(purpose, STR("sealing"), key);
}

char *seal_text(struct arena *a, const char *purpose, const char *bound, struct str text)
{
	size_t n = text.n + SEAL_EXTRA;
	uint8_t *raw = arena_alloc(a, n), key[SEAL_KEY];
	char *hex = arena_alloc(a, 2 * n + 3);

	if (text.n > TEXT_MAX)
		abort();
	key_of(purpose, key);
	seal(key, str_of(bound), text, raw);
	OPENSSL_cleanse(key, sizeof(key));
	hex[0] = '\\';
	hex[1] = 'x';
	hex_encode(raw, n, hex + 2);
	return hex;
}

bool seal_open(struct arena *a, const char *purpose, const char *bound, struct str hex, struct str *text)
{
	uint8_t *raw, key[SEAL_KEY];
	char *out;
	size_t n;
	bool ok;

	if (hex.n < 2 + 2 * SEAL_EXTRA || hex.n > 2 + 2 * (SEAL_EXTRA + TEXT_MAX) || hex.n % 2 || hex.p[0] != '\\' || hex.p[1] != 'x')
		return false;
	n = (hex.n - 2) / 2;
	raw = arena_alloc(a, n);
	out = arena_alloc(a, n);
	if (!hex_decode((struct str){ hex.p + 2, hex.n - 2 }, raw, n))
		return false;
	*text = (struct str){ out, n - SEAL_EXTRA };
	key_of(purpose, key);
	ok = unseal(key, str_of(bound), (struct str){ (const char *)raw, n }, (uint8_t *)out);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}
