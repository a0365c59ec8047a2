/* Texts as bytea parameters, under a key of their purpose. */
#include "seal.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "base/seal.h"
#include "keys.h"

#define TEXT_MAX 16384

static void key_of(const char *purpose, uint8_t key[SEAL_KEY])
{
	keys_mac(purpose, STR("sealing"), key);
}

char *seal_text(struct arena *a, const char *purpose, const char *bound, struct str text)
{
	uint8_t key[SEAL_KEY];
	char *out;

	if (text.n > TEXT_MAX)
		abort();
	key_of(purpose, key);
	out = seal_bytea(a, key, str_of(bound), text);
	OPENSSL_cleanse(key, sizeof(key));
	return out;
}

bool seal_open(struct arena *a, const char *purpose, const char *bound, struct str hex, struct str *text)
{
	uint8_t key[SEAL_KEY];
	bool ok;

	if (hex.n > 2 + 2 * (SEAL_EXTRA + TEXT_MAX))
		return false;
	key_of(purpose, key);
	ok = unseal_bytea(a, key, str_of(bound), hex, text);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}
