/* Password hashes by libargon2, with OWASP's floor of parameters and a stand-in for accounts that do not exist. */
#include "password.h"

#include <argon2.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"

#define MEMORY_KIB 19456
#define PASSES 2
#define LANES 1
#define REGION ((size_t)MEMORY_KIB * 1024)
#define IDLE_US 10000000
#define SALT 16
#define HASH 32
#define CURRENT_PREFIX "$argon2id$v=19$m=19456,t=2,p=1$"

#define SALT_TEXT (SALT * 4 / 3 + 3)
#define HASH_TEXT (HASH * 4 / 3 + 3)

static char dummy[PASSWORD_HASH_MAX];
static pthread_once_t dummy_once = PTHREAD_ONCE_INIT;

/* -- memory: mapped once and kept, because to map and fill 19 MiB anew costs half as much again as the hash */

static struct region {
	uint8_t *p; /* NULL: not mapped yet */
	bool used;
	int64_t last_us;
} regions[PASSWORD_REGIONS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint8_t *region_map(void)
{
	void *p = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int region_take(uint8_t **memory, size_t n)
{
	*memory = NULL;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < PASSWORD_REGIONS && n <= REGION && !*memory; i++) {
		struct region *r = &regions[i];

		if (!r->p)
			r->p = region_map();
		if (!r->p || r->used)
			continue;
		r->used = true;
		*memory = r->p;
	}
	pthread_mutex_unlock(&lock);
	if (!*memory)
		*memory = malloc(n); /* other parameters, or more threads than ours */
	return *memory ? ARGON2_OK : ARGON2_MEMORY_ALLOCATION_ERROR;
}

/* libargon2 has wiped it. */
static void region_give(uint8_t *memory, size_t n)
{
	bool ours = false;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < PASSWORD_REGIONS; i++) {
		if (regions[i].p != memory)
			continue;
		regions[i].used = false;
		regions[i].last_us = clock_mono_us();
		ours = true;
	}
	pthread_mutex_unlock(&lock);
	if (!ours)
		free(memory);
}

void password_trim(void)
{
	int64_t now = clock_mono_us();

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < PASSWORD_REGIONS; i++) {
		struct region *r = &regions[i];

		if (r->p && !r->used && r->last_us && now - r->last_us > IDLE_US) {
			madvise(r->p, REGION, MADV_DONTNEED);
			r->last_us = 0;
		}
	}
	pthread_mutex_unlock(&lock);
}

/* -- the encoded form: $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>, base64 without padding */

struct encoded {
	uint8_t salt[64], hash[64];
	size_t n_salt, n_hash;
	uint32_t memory_kib, passes, lanes;
};

static void put_base64(const uint8_t *p, size_t n, char *out)
{
	b64url_encode(p, n, out);
	for (; *out; out++)
		*out = *out == '-' ? '+' : *out == '_' ? '/' : *out;
}

static bool get_base64(const char *text, size_t n, uint8_t *out, size_t *n_out)
{
	char copy[87];
	long got;

	if (n < 2 || n >= sizeof(copy)) /* 86 digits are 64 bytes */
		return false;
	for (size_t i = 0; i < n; i++)
		copy[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
	got = b64url_decode((struct str){ copy, n }, out);
	*n_out = got > 0 ? (size_t)got : 0;
	return got > 0;
}

static bool read_encoded(const char *text, struct encoded *e)
{
	int at = 0;
	const char *salt, *dollar;

	if (sscanf(text, "$argon2id$v=19$m=%" SCNu32 ",t=%" SCNu32 ",p=%" SCNu32 "$%n", &e->memory_kib, &e->passes, &e->lanes, &at) != 3 || !at)
		return false;
	salt = text + at;
	dollar = strchr(salt, '$');
	return dollar && get_base64(salt, (size_t)(dollar - salt), e->salt, &e->n_salt) && get_base64(dollar + 1, strlen(dollar + 1), e->hash, &e->n_hash);
}

static argon2_context context(struct str password, struct encoded *e, uint8_t *out)
{
	return (argon2_context){ .out = out, .outlen = (uint32_t)e->n_hash, .pwd = (uint8_t *)(uintptr_t)password.p, .pwdlen = (uint32_t)password.n, .salt = e->salt,
		.saltlen = (uint32_t)e->n_salt, .t_cost = e->passes, .m_cost = e->memory_kib, .lanes = e->lanes, .threads = e->lanes,
		.version = ARGON2_VERSION_13, .allocate_cbk = region_take, .free_cbk = region_give };
}

bool password_hash(struct str password, char out[PASSWORD_HASH_MAX])
{
	struct encoded e = { .n_salt = SALT, .n_hash = HASH, .memory_kib = MEMORY_KIB, .passes = PASSES, .lanes = LANES };
	argon2_context c = context(password, &e, e.hash);
	char salt[SALT_TEXT], hash[HASH_TEXT];
	int rc;

	random_bytes(e.salt, SALT);
	rc = argon2id_ctx(&c);
	if (rc != ARGON2_OK) {
		log_error("AUTH-HASH", "%s", argon2_error_message(rc));
		return false;
	}
	put_base64(e.salt, SALT, salt);
	put_base64(e.hash, HASH, hash);
	snprintf(out, PASSWORD_HASH_MAX, CURRENT_PREFIX "%s$%s", salt, hash);
	return true;
}

static void dummy_make(void)
{
	uint8_t secret[32];

	random_bytes(secret, sizeof(secret));
	if (!password_hash((struct str){ (char *)secret, sizeof(secret) }, dummy))
		log_die("AUTH-HASH", "no memory for password hashing");
	OPENSSL_cleanse(secret, sizeof(secret));
}

static int check(const char *text, struct str password)
{
	uint8_t out[64];
	struct encoded e = { 0 };
	argon2_context c;
	int rc = ARGON2_DECODING_FAIL;

	if (read_encoded(text, &e)) {
		c = context(password, &e, out);
		rc = argon2id_verify_ctx(&c, (const char *)e.hash);
	}
	OPENSSL_cleanse(out, sizeof(out));
	return rc;
}

bool password_verify(const char *hash, struct str password)
{
	bool known = hash != NULL;
	int rc;

	pthread_once(&dummy_once, dummy_make);
	rc = check(known ? hash : dummy, password);
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
