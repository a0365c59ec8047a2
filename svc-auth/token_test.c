/* Tokens and signing keys against a real PostgreSQL; access tokens checked with OpenSSL, and the check with libjwt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jwt.h>
#include <openssl/pem.h>

#include "base/codec.h"
#include "json/json.h"
#include "keys.h"
#include "testing/pg.h"
#include "token.h"

static struct pg_fixture *pg;
static PGconn *db;
static struct arena arena;
static const uint8_t kek[32] = { 1, 2, 3 };

static const struct token_claims claims = { .user_id = "0190b8a0-0000-7000-8000-000000000001", .tenant_id = "0190b8a0-0000-7000-8000-000000000002",
	.session_id = "0190b8a0-0000-7000-8000-000000000003", .role = "admin", .user_seq = 7, .tenant_seq = 3, .perms = { { 0xff00, 1 } }, .ttl_s = 900 };

static char *issue(int64_t now_us)
{
	struct buf b = { 0 };
	char *out;

	assert_true(token_access(&claims, now_us, &b));
	out = arena_strdup(&arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

static struct json *part(const char *token, int which)
{
	struct json_error err;
	struct str s = str_of(token);
	char *raw;
	long n;

	for (; which > 0; which--) {
		size_t skip = strcspn(s.p, ".") + 1;

		s = (struct str){ s.p + skip, s.n - skip };
	}
	s.n = strcspn(s.p, ".");
	raw = arena_alloc(&arena, s.n + 1);
	n = b64url_decode(s, (uint8_t *)raw);
	assert_true(n > 0);
	return json_parse(&arena, (struct str){ raw, (size_t)n }, &err);
}

static const char *member(struct json *o, const char *key)
{
	struct json *v = json_get(o, str_of(key), false);

	assert_non_null(v);
	return arena_strdup(&arena, v->text);
}

static EVP_PKEY *public_key(const char *kid)
{
	struct json_error err;
	struct json *doc = json_parse(&arena, str_of(keys_jwks(&arena)), &err), *k;
	char current[KEYS_KID_MAX], thumb[KEYS_KID_MAX];
	EVP_PKEY *key = keys_current(current);

	for (k = json_get(doc, STR("keys"), false)->child; k; k = k->next) {
		if (strcmp(member(k, "kid"), kid) == 0)
			break;
	}
	assert_non_null(k);
	keys_thumbprint(member(k, "n"), member(k, "e"), thumb);
	assert_string_equal(thumb, kid);
	assert_string_equal(current, kid);
	return key;
}

static void test_claims_are_those_agreed_with_the_gateway(void **state)
{
	char *token = issue(1700000000LL * 1000000);
	struct json *head = part(token, 0), *c = part(token, 1);

	assert_string_equal(member(head, "alg"), "RS256");
	assert_string_equal(member(head, "typ"), "at+jwt");
	assert_int_equal(strlen(member(head, "kid")), 43);
	assert_string_equal(member(c, "iss"), "https://crm.local");
	assert_string_equal(member(c, "aud"), "crm");
	assert_string_equal(member(c, "sub"), claims.user_id);
	assert_string_equal(member(c, "sid"), claims.session_id);
	assert_string_equal(member(c, "tid"), claims.tenant_id);
	assert_string_equal(member(c, "tsq"), "3");
	assert_string_equal(member(c, "usq"), "7");
	assert_string_equal(member(c, "iat"), "1700000000");
	assert_string_equal(member(c, "nbf"), "1700000000");
	assert_string_equal(member(c, "exp"), "1700000900");
	assert_string_equal(member(c, "role"), "admin");
	assert_string_equal(member(c, "perm"), "000000000000ff00.0000000000000001");
	assert_string_equal(member(c, "nameid"), "user_7");
	assert_string_equal(member(c, "tenantid"), "tenant_3");
	assert_true(uuid_parse(str_of(member(c, "jti")), NULL));
	assert_string_not_equal(member(c, "jti"), member(part(issue(0), 1), "jti"));
}

static bool evp_verifies(EVP_PKEY *key, const char *token)
{
	const char *dot = strrchr(token, '.');
	uint8_t sig[512];
	long n = b64url_decode(str_of(dot + 1), sig);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = n > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	    EVP_DigestVerify(ctx, sig, (size_t)n, (const uint8_t *)token, (size_t)(dot - token)) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

static void test_openssl_verifies_the_signature(void **state)
{
	char *token = issue(1700000000LL * 1000000);
	EVP_PKEY *key = public_key(member(part(token, 0), "kid"));

	assert_true(evp_verifies(key, token));
	token[strcspn(token, ".") + 10] ^= 1;
	assert_false(evp_verifies(key, token));
	EVP_PKEY_free(key);
}

/* libjwt refuses to decode anything but typ JWT, so it signs and the same check as for our tokens must accept it. */
static void test_libjwt_signs_what_we_verify(void **state)
{
	char kid[KEYS_KID_MAX], *pem = NULL, *token;
	EVP_PKEY *key = keys_current(kid);
	BIO *bio = BIO_new(BIO_s_mem());
	long n;
	jwt_t *jwt = NULL;

	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	n = BIO_get_mem_data(bio, &pem);
	assert_int_equal(jwt_new(&jwt), 0);
	assert_int_equal(jwt_set_alg(jwt, JWT_ALG_RS256, (unsigned char *)pem, (int)n), 0);
	assert_int_equal(jwt_add_grant(jwt, "sub", claims.user_id), 0);
	token = jwt_encode_str(jwt);
	assert_non_null(token);
	assert_true(evp_verifies(key, token));
	free(token);
	jwt_free(jwt);
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static void test_successor_is_always_the_same_and_needs_the_key(void **state)
{
	char token[REFRESH_TEXT], a[REFRESH_TEXT], b[REFRESH_TEXT], c[REFRESH_TEXT];
	uint8_t other[32] = { 9 };

	token_refresh_new(token);
	token_refresh_successor(token, a);
	token_refresh_successor(token, b);
	assert_string_equal(a, b);
	assert_string_not_equal(a, token);
	assert_int_equal(strlen(a), 46);
	keys_init(other);
	token_refresh_successor(token, c);
	keys_init(kek);
	assert_string_not_equal(a, c);
}

static void test_api_key_carries_a_checksum(void **state)
{
	char key[API_KEY_TEXT], broken[API_KEY_TEXT];

	token_api_key_new(claims.user_id, key);
	assert_int_equal(strlen(key), API_KEY_TEXT - 1);
	assert_memory_equal(key, "crm_live_0190b8a0", 17);
	assert_true(token_api_key_plausible(str_of(key)));
	memcpy(broken, key, sizeof(key));
	broken[50] = broken[50] == '0' ? '1' : '0';
	assert_false(token_api_key_plausible(str_of(broken)));
	assert_false(token_api_key_plausible(STR("crm_live_")));
	assert_false(token_api_key_plausible((struct str){ NULL, 0 }));
}

static const char *current_kid(void)
{
	char kid[KEYS_KID_MAX];

	EVP_PKEY_free(keys_current(kid));
	return arena_strdup(&arena, str_of(kid));
}

static void test_private_key_is_not_in_the_clear(void **state)
{
	/* every PKCS#8 RSA key holds the OID of rsaEncryption */
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.signing_key WHERE position('\\x2a864886f70d010101'::bytea in private_key) > 0"), "0");
}

static void test_second_instance_finds_the_key_of_the_first(void **state)
{
	const char *kid = current_kid();

	assert_true(keys_refresh(db));
	assert_string_equal(current_kid(), kid);
	assert_string_equal(pg_fixture_value(pg, "SELECT count(*) FROM auth.signing_key"), "1");
}

static void test_wrong_key_encryption_key_is_noticed(void **state)
{
	uint8_t other[32] = { 9 };
	const char *kid = current_kid();

	pg_fixture_sql(pg, "UPDATE auth.signing_key SET kid = kid || 'x'"); /* looks new, so it is read again */
	assert_false(keys_refresh(db));
	pg_fixture_sql(pg, "UPDATE auth.signing_key SET kid = left(kid, 43)");
	keys_init(other);
	assert_true(keys_refresh(db)); /* loaded already, nothing to decrypt */
	keys_init(kek);
	assert_string_equal(current_kid(), kid);
}

static void test_rotation_publishes_before_it_signs(void **state)
{
	const char *first = current_kid(), *why;
	char next[KEYS_KID_MAX], again[KEYS_KID_MAX];

	pg_fixture_sql(pg, "INSERT INTO auth.tenant (id, name) VALUES ('0190b8a0-0000-7000-8000-000000000002', 'A'), ('0190b8a0-0000-7000-8000-000000000009', 'B')");
	assert_true(keys_rotate(db, next, &why));
	assert_string_equal(pg_fixture_value(pg, "SELECT string_agg(type || ' ' || (after->>'kid' IS NOT NULL), ',') FROM auth.outbox"),
	    "auth.key.published true,auth.signing_key.rotated true,auth.signing_key.rotated true");
	assert_false(keys_rotate(db, again, &why));
	assert_true(keys_refresh(db));
	assert_string_equal(current_kid(), first);
	assert_non_null(strstr(keys_jwks(&arena), next));
	pg_fixture_sql(pg, "UPDATE auth.signing_key SET created_at = created_at - interval '3 minutes'");
	assert_true(keys_refresh(db));
	assert_string_equal(current_kid(), next);
	assert_non_null(strstr(keys_jwks(&arena), first)); /* tokens signed with it are still alive */
	pg_fixture_sql(pg, "UPDATE auth.signing_key SET retired_at = retired_at - interval '25 hours'");
	assert_true(keys_refresh(db));
	assert_null(strstr(keys_jwks(&arena), first));
	assert_string_equal(pg_fixture_value(pg, "SELECT kind FROM auth.change"), "keys");
}

static int setup(void **state)
{
	pg = pg_fixture_start();
	pg_fixture_migrate(pg, "auth", "svc-auth/schema");
	db = PQconnectdb(pg_fixture_url(pg, "auth_app"));
	keys_init(kek);
	return keys_refresh(db) ? 0 : -1;
}

static int teardown(void **state)
{
	PQfinish(db);
	pg_fixture_stop(pg);
	arena_fini(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims_are_those_agreed_with_the_gateway), cmocka_unit_test(test_openssl_verifies_the_signature),
		cmocka_unit_test(test_libjwt_signs_what_we_verify),
		cmocka_unit_test(test_successor_is_always_the_same_and_needs_the_key), cmocka_unit_test(test_api_key_carries_a_checksum),
		cmocka_unit_test(test_private_key_is_not_in_the_clear), cmocka_unit_test(test_second_instance_finds_the_key_of_the_first),
		cmocka_unit_test(test_wrong_key_encryption_key_is_noticed), cmocka_unit_test(test_rotation_publishes_before_it_signs),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
