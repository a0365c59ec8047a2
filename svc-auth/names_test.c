/* Names and e-mail addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "names.h"

static struct arena arena;

static void test_display_gives_first_token_and_rest(void **state)
{
	struct names n = { "John Smith Jr.", NULL, "" };

	names_complete(&arena, &n);
	assert_string_equal(n.display, "John Smith Jr.");
	assert_string_equal(n.given, "John");
	assert_string_equal(n.family, "Smith Jr.");
}

static void test_parts_give_display(void **state)
{
	struct names both = { NULL, "Ada", "Lovelace" }, one = { "", NULL, "Cher" };

	names_complete(&arena, &both);
	names_complete(&arena, &one);
	assert_string_equal(both.display, "Ada Lovelace");
	assert_string_equal(one.display, "Cher");
}

static void test_all_given_stays_verbatim(void **state)
{
	struct names n = { "Dr. A. L.", "Ada", "Lovelace" };

	names_complete(&arena, &n);
	assert_string_equal(n.display, "Dr. A. L.");
	assert_string_equal(n.given, "Ada");
}

static void test_one_word_has_no_family(void **state)
{
	struct names n = { "Plato", NULL, NULL };

	names_complete(&arena, &n);
	assert_string_equal(n.given, "Plato");
	assert_string_equal(n.family, "");
}

static void test_nothing_stays_nothing(void **state)
{
	struct names n = { NULL, "  ", NULL };

	names_complete(&arena, &n);
	assert_null(n.display);
}

static void test_email_is_trimmed_and_lowered(void **state)
{
	assert_string_equal(email_normalise(&arena, STR("  Ada@Example.COM ")), "ada@example.com");
	assert_string_equal(email_domain("ada@example.com"), "example.com");
}

static void test_email_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "", "@", "a@", "@b", "ab", "a@b@c", "a b@c", "a@b\n", "a@\xff" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_null(email_normalise(&arena, str_of(bad[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_display_gives_first_token_and_rest), cmocka_unit_test(test_parts_give_display),
		cmocka_unit_test(test_all_given_stays_verbatim), cmocka_unit_test(test_one_word_has_no_family),
		cmocka_unit_test(test_nothing_stays_nothing), cmocka_unit_test(test_email_is_trimmed_and_lowered),
		cmocka_unit_test(test_email_that_is_none_is_refused),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	arena_fini(&arena);
	return failed;
}
