/* Roles, overrides and flat words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "roles.h"

static const struct schema_permission table[] = {
	{ "public", 0 }, { "authenticated", 1 }, { "internal", 2 }, { "customers.read", 8 }, { "customers.write", 9 }, { "customers.delete", 10 },
	{ "customers.export", 11 }, { "contacts.read", 12 }, { "contacts.write", 13 }, { "contacts.delete", 14 }, { "leads.read", 15 },
	{ "leads.write", 16 }, { "leads.delete", 17 }, { "tags.read", 18 }, { "tags.write", 19 }, { "territories.read", 20 },
	{ "territories.write", 21 }, { "users.read", 23 }, { "users.write", 24 }, { "users.delete", 25 }, { "roles.read", 26 },
	{ "roles.write", 27 }, { "tenants.read", 28 }, { "tenants.write", 29 }, { "tenants.delete", 30 }, { "api_keys.read", 33 },
	{ "api_keys.write", 34 }, { "far.read", 100 },
};

static struct arena arena;

static bool may(const struct perms *p, unsigned bit)
{
	return p->bits[bit / 64] >> (bit % 64) & 1;
}

static void test_admin_may_all_and_nothing_that_is_no_permission(void **state)
{
	struct perms p = roles_member("admin", NULL, NULL, NULL);

	assert_true(may(&p, 8) && may(&p, 30) && may(&p, 34) && may(&p, 100));
	assert_false(may(&p, 0) || may(&p, 1) || may(&p, 2) || may(&p, 22));
}

static void test_manager_lacks_four(void **state)
{
	struct perms p = roles_member("manager", NULL, NULL, NULL);

	assert_false(may(&p, 30) || may(&p, 25) || may(&p, 27) || may(&p, 34));
	assert_true(may(&p, 10) && may(&p, 29) && may(&p, 33));
}

static void test_agent_and_user_are_the_same(void **state)
{
	struct perms a = roles_member("agent", NULL, NULL, NULL), u = roles_member("user", NULL, NULL, NULL);

	assert_memory_equal(&a, &u, sizeof(a));
	assert_true(may(&a, 9) && may(&a, 19) && may(&a, 23));
	assert_false(may(&a, 10) || may(&a, 21) || may(&a, 24));
}

static void test_overrides_add_and_take_away(void **state)
{
	struct perms p = roles_member("agent", NULL, "{customers.delete}", "{leads.write,\"leads.read\"}");

	assert_true(may(&p, 10));
	assert_false(may(&p, 15) || may(&p, 16));
}

static void test_own_role_has_what_its_row_says(void **state)
{
	struct perms p = roles_member("auditor", "{customers.read,no.such}", NULL, NULL), none = roles_member("ghost", NULL, NULL, NULL);

	assert_true(may(&p, 8));
	assert_int_equal(p.bits[0], 1 << 8);
	assert_int_equal(none.bits[0] | none.bits[1], 0);
}

static void test_row_cannot_redefine_a_built_in_role(void **state)
{
	struct perms p = roles_member("agent", "{tenants.delete}", NULL, NULL);

	assert_false(may(&p, 30));
}

static void assert_words(const struct perms *p, const char *const *want, size_t n_want)
{
	char *got[ROLES_FLAT_MAX];
	size_t n = roles_flat(p, &arena, got);

	assert_int_equal(n, n_want);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(got[i], want[i]);
}

static void test_flat_words_are_in_a_stable_order(void **state)
{
	static const char *const agent[] = { "read", "write", "manage_tags" };
	static const char *const admin[] = { "read", "write", "delete", "manage_customers", "manage_contacts", "manage_leads", "manage_tags",
		"manage_territories", "manage_users", "manage_roles", "manage_tenants", "manage_api_keys" };
	struct perms a = roles_member("agent", NULL, NULL, NULL), all = roles_member("admin", NULL, NULL, NULL), none = { { 0, 0 } };

	assert_words(&a, agent, 3);
	assert_words(&all, admin, 12);
	assert_words(&none, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_admin_may_all_and_nothing_that_is_no_permission), cmocka_unit_test(test_manager_lacks_four),
		cmocka_unit_test(test_agent_and_user_are_the_same), cmocka_unit_test(test_overrides_add_and_take_away),
		cmocka_unit_test(test_own_role_has_what_its_row_says), cmocka_unit_test(test_row_cannot_redefine_a_built_in_role),
		cmocka_unit_test(test_flat_words_are_in_a_stable_order),
	};
	int failed;

	roles_init(table, sizeof(table) / sizeof(*table));
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_fini(&arena);
	return failed;
}
