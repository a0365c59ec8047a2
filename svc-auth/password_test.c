/* Password hashes: what libargon2 itself makes and checks of the same text, and memory that is kept and given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <argon2.h>
#include <cmocka.h>
#include <pthread.h>

#include "password.h"

#define PASSWORD STR("correct horse")
#define OTHER STR("correct horsf")

static void test_libargon2_agrees(void **state)
{
	char ours[PASSWORD_HASH_MAX], theirs[256];
	static const uint8_t salt[] = "sixteen bytes ok";

	for (int i = 0; i < 4; i++) {
		assert_true(password_hash(PASSWORD, ours));
		assert_int_equal(argon2id_verify(ours, PASSWORD.p, PASSWORD.n), ARGON2_OK);
		assert_true(password_verify(ours, PASSWORD));
		assert_false(password_verify(ours, OTHER) || password_is_stale(ours));
	}
	/* with parameters, lengths and lanes that are not ours, as imports bring them */
	assert_int_equal(argon2id_hash_encoded(3, 1024, 2, PASSWORD.p, PASSWORD.n, salt, 11, 24, theirs, sizeof(theirs)), ARGON2_OK);
	assert_true(password_verify(theirs, PASSWORD) && password_is_stale(theirs));
	assert_false(password_verify(theirs, OTHER));
	assert_int_equal(argon2id_hash_encoded(1, 65536, 1, PASSWORD.p, PASSWORD.n, salt, 16, 64, theirs, sizeof(theirs)), ARGON2_OK);
	assert_true(password_verify(theirs, PASSWORD));
}

static void test_what_is_no_hash_verifies_nothing(void **state)
{
	static const char *const texts[] = { "", "!", "$", "$argon2id$", "$argon2i$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$aGFzaA", "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ", "$argon2id$v=16$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
		"$argon2id$v=19$m=1024,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2id$v=19$m=1024,t=1,p=1$$aGFzaGhhc2g", "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$=",
		"$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_false(password_verify(texts[i], PASSWORD));
	assert_false(password_verify(NULL, PASSWORD));
}

static void *hash_some(void *arg)
{
	char hash[PASSWORD_HASH_MAX];

	for (int i = 0; i < 3; i++)
		*(bool *)arg = password_hash(PASSWORD, hash) && password_verify(hash, PASSWORD) && !password_verify(hash, OTHER);
	return NULL;
}

static void test_more_threads_than_regions(void **state)
{
	pthread_t threads[PASSWORD_REGIONS + 3];
	bool good[PASSWORD_REGIONS + 3] = { false };

	for (int i = 0; i < PASSWORD_REGIONS + 3; i++)
		pthread_create(&threads[i], NULL, hash_some, &good[i]);
	for (int i = 0; i < PASSWORD_REGIONS + 3; i++) {
		pthread_join(threads[i], NULL);
		assert_true(good[i]);
	}
	password_trim();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libargon2_agrees), cmocka_unit_test(test_what_is_no_hash_verifies_nothing), cmocka_unit_test(test_more_threads_than_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
