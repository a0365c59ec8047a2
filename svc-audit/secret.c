/* Keys derived from the master key by HMAC-SHA256. */
#include "svc-audit/secret.h"

#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

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
	uint8_t key[SEAL_KEY];
	char *out;

	secret_key(purpose, key);
	out = seal_bytea(a, key, str_of(bound), text);
	OPENSSL_cleanse(key, sizeof(key));
	return out;
}

bool secret_open(struct arena *a, const char *purpose, const char *bound, struct str bytea, struct str *text)
{
	uint8_t key[SEAL_KEY];
	bool ok;

	secret_key(purpose, key);
	ok = unseal_bytea(a, key, str_of(bound), bytea, text);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}
