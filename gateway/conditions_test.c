/* If-Match, If-None-Match, Idempotency-Key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/conditions.h"

static void is_version(const char *header, uint64_t expected)
{
	uint64_t v = 99;

	assert_true(conditions_if_match(str_of(header), &v));
	assert_int_equal(v, expected);
}

static void test_if_match_is_read(void **state)
{
	is_version("\"saas-7\"", 7);
	is_version("W/\"saas-7\"", 7);
	is_version("\"mvp-12\", \"mvp-13\"", 12);
	is_version("  \"elevate-18446744073709551615\"  ", UINT64_MAX);
	is_version("\"3\"", 3);
	is_version("*", 0);
}

static void test_malformed_if_match_is_refused(void **state)
{
	static const char *const bad[] = { "saas-7", "\"saas-7", "\"saas-\"", "\"saas\"", "\"\"", "\"saas-0\"", "\"saas-x7\"", "\"saas7\"", "W/",
		"\"saas-7\" x", "\"saas-7\", x", "\"saas-18446744073709551616\"", "", ",", "\"saas--\"", "**" };
	uint64_t v;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(conditions_if_match(str_of(bad[i]), &v));
}

static void test_if_none_match_compares_weakly(void **state)
{
	assert_true(conditions_none_match(STR("\"saas-7\""), STR("\"saas-7\"")));
	assert_true(conditions_none_match(STR("\"a\", W/\"saas-7\""), STR("\"saas-7\"")));
	assert_true(conditions_none_match(STR("*"), STR("\"saas-7\"")));
	assert_false(conditions_none_match(STR("\"mvp-7\""), STR("\"saas-7\"")));
	assert_false(conditions_none_match(STR("saas-7"), STR("\"saas-7\"")));
}

static void test_etag_names_the_dialect(void **state)
{
	struct buf b = { 0 };

	conditions_etag(&b, "saas", 7);
	assert_true(str_eq(buf_view(&b), STR("\"saas-7\"")));
	buf_fini(&b);
}

static void is_key(const char *header, const char *expected)
{
	char scratch[IDEMPOTENCY_KEY_MAX];
	struct str key;

	assert_true(conditions_idempotency_key(str_of(header), scratch, &key));
	assert_true(str_eq(key, str_of(expected)));
}

static void test_idempotency_keys_are_bare_or_quoted(void **state)
{
	is_key("5d41402abc4b2a76b9719d911017c592", "5d41402abc4b2a76b9719d911017c592");
	is_key("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324");
	is_key("\"a\\\"b\\\\c\"", "a\"b\\c");
	is_key("  spaced  ", "spaced");
}

static void test_bad_idempotency_keys_are_refused(void **state)
{
	static const char *const bad[] = { "", "\"", "\"\"", "\"abc", "\"a\"b\"", "\"a\\x\"", "\"a\\\"", "caf\xc3\xa9", "a\tb" };
	char scratch[IDEMPOTENCY_KEY_MAX], text[512];
	struct str key;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(conditions_idempotency_key(str_of(bad[i]), scratch, &key));
	memset(text, 'k', sizeof(text));
	assert_true(conditions_idempotency_key((struct str){ text, 200 }, scratch, &key));
	assert_false(conditions_idempotency_key((struct str){ text, 201 }, scratch, &key));
	text[0] = text[201] = text[202] = '"';
	assert_true(conditions_idempotency_key((struct str){ text, 202 }, scratch, &key));
	text[201] = 'k';
	assert_false(conditions_idempotency_key((struct str){ text, 203 }, scratch, &key));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_if_match_is_read),
		cmocka_unit_test(test_malformed_if_match_is_refused),
		cmocka_unit_test(test_if_none_match_compares_weakly),
		cmocka_unit_test(test_etag_names_the_dialect),
		cmocka_unit_test(test_idempotency_keys_are_bare_or_quoted),
		cmocka_unit_test(test_bad_idempotency_keys_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
