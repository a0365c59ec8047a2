/* Flat and exact words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "words.h"

static const struct schema_permission table[] = {
	{ "public", 0 }, { "customers.read", 8 }, { "customers.write", 9 }, { "customers.delete", 10 }, { "customers.export", 11 }, { "leads.read", 15 },
	{ "leads.write", 16 }, { "leads.delete", 17 }, { "users.read", 23 }, { "users.write", 24 }, { "users.delete", 25 }, { "roles.write", 27 },
};

static bool may(const struct perms *p, unsigned bit)
{
	return p->bits[bit / 64] >> (bit % 64) & 1;
}

static struct perms role_of(const char *array)
{
	struct perms p = { { 0, 0 } };

	perms_apply(&p, array, false);
	return p;
}

static struct perms made(const struct perms *role, char **words, size_t n)
{
	struct perms p;
	const char *bad;

	assert_true(words_perms(role, words, n, &p, &bad));
	return p;
}

static void test_a_verb_is_what_the_role_says_of_it(void **state)
{
	struct perms role = role_of("{customers.read,customers.write,customers.export,leads.read,users.read}"), p;
	char *read[] = { "read" }, *both[] = { "read", "write" };

	p = made(&role, read, 1);
	assert_true(may(&p, 8) && may(&p, 11) && may(&p, 15) && may(&p, 23));
	assert_false(may(&p, 9));
	p = made(&role, both, 2);
	assert_memory_equal(&p, &role, sizeof(p));
}

static void test_a_verb_that_the_role_lacks_is_for_business_only(void **state)
{
	struct perms role = role_of("{customers.read,leads.read,users.read}"), p;
	char *words[] = { "write", "delete" };

	p = made(&role, words, 2);
	assert_true(may(&p, 9) && may(&p, 10) && may(&p, 16) && may(&p, 17));
	assert_false(may(&p, 24) || may(&p, 25) || may(&p, 27) || may(&p, 8));
}

static void test_manage_is_all_of_one_and_exact_words_are_themselves(void **state)
{
	struct perms none = { { 0, 0 } }, p;
	char *words[] = { "manage_customers", "leads.read" };

	p = made(&none, words, 2);
	assert_int_equal(p.bits[0], 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 15);
}

static void test_exact_words_come_back_as_they_went(void **state)
{
	struct perms role = role_of("{customers.read,customers.write,users.read}"), none = { { 0, 0 } }, p;
	char *words[128];
	size_t n = words_of(&role, words);

	assert_int_equal(n, 3);
	p = made(&none, words, n);
	assert_memory_equal(&p, &role, sizeof(p));
}

static void test_unknown_words_are_named(void **state)
{
	struct perms none = { { 0, 0 } }, p;
	char *words[] = { "leads.read", "fly" }, *other[] = { "manage_moon" }, *low[] = { "public" };
	const char *bad = NULL;

	assert_false(words_perms(&none, words, 2, &p, &bad));
	assert_string_equal(bad, "fly");
	assert_false(words_perms(&none, other, 1, &p, &bad));
	assert_false(words_perms(&none, low, 1, &p, &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_verb_is_what_the_role_says_of_it), cmocka_unit_test(test_a_verb_that_the_role_lacks_is_for_business_only),
		cmocka_unit_test(test_manage_is_all_of_one_and_exact_words_are_themselves), cmocka_unit_test(test_exact_words_come_back_as_they_went),
		cmocka_unit_test(test_unknown_words_are_named),
	};

	roles_init(table, sizeof(table) / sizeof(*table));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
