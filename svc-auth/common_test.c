/* The list of common passwords, and the rules for a password that is chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common.h"

#define LIST "svc-auth/passwords/common.txt"

void rpc_violate(struct rpc_call *c, const char *path, const char *rule, const char *message, const char *param)
{
	c->violations[c->n_violations++] = (struct rpc_violation){ path, rule, message, param };
}

static int opened(void **state)
{
	common_open(LIST);
	return 0;
}

static void test_every_line_is_found_and_upper_case_as_well(void **state)
{
	FILE *f = fopen(LIST, "r");
	char line[256];
	int n = 0;

	assert_non_null(f);
	for (; fgets(line, sizeof(line), f); n++) {
		struct str word = { line, strcspn(line, "\n") };

		assert_true(word.n >= 8);
		assert_true(common_has(word));
		for (size_t i = 0; i < word.n; i++)
			line[i] = line[i] >= 'a' && line[i] <= 'z' ? (char)(line[i] - 32) : line[i];
		assert_true(common_has(word));
	}
	fclose(f);
	assert_true(n >= 10000);
}

static void test_what_is_not_there_is_not_found(void **state)
{
	static const char *const rows[] = { "", "!", "zzzzzzzzzzzzzzzzzzzz", "correct horse battery", "password1", "password123", "\n", "12345678\n", "2345678\n12345678" };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(common_has(str_of(rows[i])), strcmp(rows[i], "password1") == 0);
}

static const char *rule_of(const char *password)
{
	struct rpc_call call = { 0 };
	bool ok = password_acceptable(&call, "password", password);

	assert_int_equal(ok, call.n_violations == 0);
	return ok ? "" : call.violations[0].rule;
}

static void test_rules(void **state)
{
	char *text = calloc(1, PASSWORD_MAX_BYTES + 2);

	memset(text, 'x', PASSWORD_MAX_BYTES);
	assert_string_equal(rule_of(text), "");
	text[PASSWORD_MAX_BYTES] = 'x';
	assert_string_equal(rule_of(text), "max_len");
	free(text);
	assert_string_equal(rule_of("PassWord1"), "common");
	assert_string_equal(rule_of("Admin@123"), "");
	assert_string_equal(rule_of("password123"), "");
	assert_string_equal(rule_of("securepassword"), "");
	assert_string_equal(rule_of("secure-password"), "");
	assert_string_equal(rule_of("securePassword123"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_line_is_found_and_upper_case_as_well),
		cmocka_unit_test(test_what_is_not_there_is_not_found),
		cmocka_unit_test(test_rules),
	};

	return cmocka_run_group_tests(tests, opened, NULL);
}
