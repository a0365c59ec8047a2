/* RFC 6238 appendix B (SHA-1) and RFC 4648 section 10, then what is ours: skew, replay, the URI. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "totp.h"

static const uint8_t *const secret = (const uint8_t *)"12345678901234567890";

static void test_vectors_of_the_rfc(void **state)
{
	static const struct {
		int64_t time;
		uint32_t value;
	} rows[] = { { 59, 94287082 }, { 1111111109, 7081804 }, { 1111111111, 14050471 }, { 1234567890, 89005924 }, { 2000000000, 69279037 },
		{ 20000000000, 65353130 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(totp_value(secret, 20, (uint64_t)rows[i].time / TOTP_STEP_S, 8), rows[i].value);
}

/* RFC 4226 appendix D. */
static void test_vectors_of_hotp(void **state)
{
	static const uint32_t rows[] = { 755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(totp_value(secret, 20, i, 6), rows[i]);
}

static void test_base32_vectors(void **state)
{
	static const char *const rows[][2] = { { "", "" }, { "f", "MY" }, { "fo", "MZXQ" }, { "foo", "MZXW6" }, { "foob", "MZXW6YQ" },
		{ "fooba", "MZXW6YTB" }, { "foobar", "MZXW6YTBOI" } };
	struct arena a = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_string_equal(base32(&a, (const uint8_t *)rows[i][0], strlen(rows[i][0])), rows[i][1]);
	arena_fini(&a);
}

static uint64_t check(uint64_t step, int64_t now_s, uint64_t last)
{
	char text[16];

	snprintf(text, sizeof(text), "%06u", totp_value(secret, 20, step, 6));
	return totp_check(secret, str_of(text), now_s, last);
}

static void test_one_step_before_and_after_counts_and_no_more(void **state)
{
	int64_t now = 1234567890;
	uint64_t step = (uint64_t)now / TOTP_STEP_S;

	for (int d = -3; d <= 3; d++)
		assert_int_equal(check(step + (uint64_t)d, now, 0), d >= -1 && d <= 1 ? step + (uint64_t)d : 0);
}

static void test_a_step_that_was_used_and_those_before_it_count_no_more(void **state)
{
	int64_t now = 1234567890;
	uint64_t step = (uint64_t)now / TOTP_STEP_S;

	assert_int_equal(check(step, now, step), 0);
	assert_int_equal(check(step - 1, now, step), 0);
	assert_int_equal(check(step + 1, now, step), step + 1);
}

static void test_what_is_no_code(void **state)
{
	static const char *const rows[] = { "", "1", "12345", "1234567", "abcdef", "      ", "-00001", "000000000000" };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(totp_check(secret, str_of(rows[i]), 59, 0), 0);
}

static void test_the_uri_is_escaped(void **state)
{
	struct arena a = { 0 };

	assert_string_equal(totp_uri(&a, "A&B CRM", "ada+1@example.com", "MZXW6"),
			    "otpauth://totp/A%26B%20CRM:ada%2B1%40example.com?secret=MZXW6&issuer=A%26B%20CRM&algorithm=SHA1&digits=6&period=30");
	arena_fini(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors_of_the_rfc),
		cmocka_unit_test(test_vectors_of_hotp),
		cmocka_unit_test(test_base32_vectors),
		cmocka_unit_test(test_one_step_before_and_after_counts_and_no_more),
		cmocka_unit_test(test_a_step_that_was_used_and_those_before_it_count_no_more),
		cmocka_unit_test(test_what_is_no_code),
		cmocka_unit_test(test_the_uri_is_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
