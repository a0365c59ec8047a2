/* Password hashes by libargon2, with OWASP's floor of parameters and a stand-in for accounts that do not exist. */
#include "password.h"

#include <argon2.h>
#include <openssl/crypto.h>
#include <pthread.h>

#include "base/codec.h"
#include "base/log.h"

#define MEMORY_KIB 19456
#define PASSES 2
#define LANES 1
#define SALT 16
#define HASH 32
#define CURRENT_PREFIX "$argon2id$v=19$m=19456,t=2,p=1$"

static char dummy[PASSWORD_HASH_MAX];
static pthread_once_t dummy_once = PTHREAD_ONCE_INIT;

bool password_hash(struct str password, char out[PASSWORD_HASH_MAX])
{
	uint8_t salt[SALT];
	int rc;

	random_bytes(salt, sizeof(salt));
	rc = argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password.p, password.n, salt, sizeof(salt), HASH, out, PASSWORD_HASH_MAX);
	if (rc != ARGON2_OK)
		log_error("AUTH-HASH", "%s", argon2_error_message(rc));
	return rc == ARGON2_OK;
}

static void dummy_make(void)
{
	uint8_t secret[32];

	random_bytes(secret, sizeof(secret));
	if (!password_hash((struct str){ (char *)secret, sizeof(secret) }, dummy))
		log_die("AUTH-HASH", "no memory for password hashing");
	OPENSSL_cleanse(secret, sizeof(secret));
}

bool password_verify(const char *hash, struct str password)
{
	bool known = hash != NULL;
	int rc;

	pthread_once(&dummy_once, dummy_make);
	rc = argon2id_verify(known ? hash : dummy, password.p, password.n);
	if (rc != ARGON2_OK && rc != ARGON2_VERIFY_MISMATCH)
		log_error("AUTH-HASH", "%s", argon2_error_message(rc));
	return known && rc == ARGON2_OK;
}

bool password_is_stale(const char *hash)
{
	return strncmp(hash, CURRENT_PREFIX, sizeof(CURRENT_PREFIX) - 1) != 0;
}

bool password_is_hash(const char *hash)
{
	return hash && *hash == '$';
}
