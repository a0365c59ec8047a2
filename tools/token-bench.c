/*
 * What checking a bearer token costs a thread of the gateway: seen before (the cache), and seen for the first time (signature, claims).
 *
 *   token-bench SECONDS
 *
 * CPU time of the thread, so that neighbours do not count. The same functions in the same order as gateway/auth.c. Prints one line of JSON:
 * {"cached_us":…,"uncached_us":…,"checks":…}.
 */
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "gateway/keys.h"
#include "gateway/principals.h"
#include "gateway/revocations.h"
#include "gateway/token.h"

#define TOKENS 64 /* different ones, so that it is not always the same line of the processor's cache */
#define DEAD 1000 /* revocations of others */

static struct arena arena;
static EVP_PKEY *key;
static struct keyset *keys;
static struct principals *cache;
static struct revocations *revocations;
static char *tokens[TOKENS];
static uint64_t checks;

static void fail(const char *what)
{
	fprintf(stderr, "token-bench: %s\n", what);
	exit(1);
}

static char *b64(const void *p, size_t n)
{
	char *out = arena_alloc(&arena, n * 2 + 4);

	b64url_encode(p, n, out);
	return out;
}

static char *number_b64(const char *name)
{
	unsigned char bytes[512];
	BIGNUM *bn = NULL;
	int n = EVP_PKEY_get_bn_param(key, name, &bn) == 1 ? BN_bn2bin(bn, bytes) : 0;

	BN_free(bn);
	return b64(bytes, (size_t)n);
}

static char *make_token(int i, int64_t now_s)
{
	static const char header[] = "{\"alg\":\"RS256\",\"typ\":\"at+jwt\",\"kid\":\"eM1Hr4VeMnM0OFhhmt-H5S8zxf8Q5LLypeiMxuccG-c\"}";
	unsigned char sig[512];
	size_t n = sizeof(sig);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	char *claims = arena_printf(&arena,
	    "{\"iss\":\"https://crm.local\",\"aud\":\"crm\",\"sub\":\"01890000-0000-7000-8000-%012x\",\"jti\":\"01890000-0000-7000-8000-000000000002\","
	    "\"sid\":\"01890000-0000-7000-8000-000000000003\",\"tid\":\"01890000-0000-7000-8000-000000000004\",\"iat\":%lld,\"nbf\":%lld,\"exp\":%lld,"
	    "\"tsq\":7,\"usq\":3,\"role\":\"admin\",\"perm\":\"00000007ffffff00.0000000000000000\",\"nameid\":\"user_3\",\"tenantid\":\"tenant_7\"}",
	    (unsigned)i, (long long)now_s, (long long)now_s, (long long)now_s + 900);
	char *head = arena_printf(&arena, "%s.%s", b64(header, sizeof(header) - 1), b64(claims, strlen(claims)));

	if (!ctx || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) != 1 || EVP_DigestSign(ctx, sig, &n, (unsigned char *)head, strlen(head)) != 1)
		fail("cannot sign");
	EVP_MD_CTX_free(ctx);
	return arena_printf(&arena, "%s.%s", head, b64(sig, n));
}

static void set_up(void)
{
	const char *why = NULL;
	char *jwks;

	siphash_init();
	key = EVP_RSA_gen(2048);
	jwks = arena_printf(&arena, "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RS256\",\"use\":\"sig\",\"kid\":\"eM1Hr4VeMnM0OFhhmt-H5S8zxf8Q5LLypeiMxuccG-c\",\"n\":\"%s\",\"e\":\"%s\"}]}",
	    number_b64("n"), number_b64("e"));
	keys = keyset_parse(str_of(jwks), &arena, &why);
	if (!keys)
		fail(why);
	cache = principals_new(20000);
	revocations = revocations_new();
	for (int i = 0; i < DEAD; i++) {
		struct change c = { .kind = CHANGE_SESSION, .id = str_of(arena_printf(&arena, "01890000-0000-7000-9000-%012x", (unsigned)i)), .revoked = true };

		revocations_apply(revocations, &c, 1, false, clock_us());
	}
	for (int i = 0; i < TOKENS; i++)
		tokens[i] = make_token(i, clock_us() / 1000000);
}

static void check_new(struct str token, struct arena *scratch, const uint8_t id[32], int64_t now_us)
{
	struct token_rules rules = { STR("https://crm.local"), STR("crm"), now_us / 1000000 };
	struct principal_entry *e;
	struct principal who;
	const char *why;
	char kid[KID_MAX + 1];
	uint64_t generation;

	arena_reset(scratch);
	if (token_verify(keys, &rules, token, scratch, &who, kid, &why) != TOKEN_GOOD)
		fail(why);
	generation = revocations_generation(revocations);
	if (revocations_check(revocations, &who, UINT64_MAX) == VERDICT_DEAD)
		fail("dead");
	e = principals_put(cache, id, &who, who.expires_us);
	memcpy(e->kid, kid, sizeof(kid));
	e->checked = generation;
}

/* known: it must be in the cache, otherwise it must not be believed from there. */
static void check(struct str token, bool known, struct arena *scratch, int64_t now_us)
{
	struct principal_entry *e;
	uint8_t id[32];

	sha256(token.p, token.n, id);
	e = principals_get(cache, id, now_us);
	if (!known) {
		check_new(token, scratch, id, now_us);
		return;
	}
	if (!e || e->checked != revocations_generation(revocations))
		fail("not in the cache");
	principals_hold(e);
	principals_rele(e);
}

static double cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double measure(bool known, int64_t until_us)
{
	struct arena scratch = { 0 };
	double start = cpu_us();
	uint64_t n = 0;

	while (clock_mono_us() < until_us) {
		for (int i = 0; i < TOKENS; i++)
			check(str_of(tokens[i]), known, &scratch, clock_us());
		n += TOKENS;
	}
	checks += n;
	arena_fini(&scratch);
	return (cpu_us() - start) / (double)n;
}

int main(int argc, char **argv)
{
	int64_t each = argc == 2 ? atoll(argv[1]) * 500000 : 0;
	double uncached, cached;

	if (each <= 0) {
		fprintf(stderr, "usage: token-bench SECONDS\n");
		return 2;
	}
	set_up();
	uncached = measure(false, clock_mono_us() + each);
	cached = measure(true, clock_mono_us() + each);
	printf("{\"cached_us\":%.3f,\"uncached_us\":%.2f,\"checks\":%llu}\n", cached, uncached, (unsigned long long)checks);
	return 0;
}
