/* Settings: where a value comes from, and what is said when it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/settings.h"
#include "base/str.h"

static struct {
	const char *url, *word;
	long number;
	bool flag;
} got;

#define AT(member) offsetof(__typeof__(got), member)
static const struct setting rows[] = {
	{ "T_URL", SETTING_TEXT, AT(url), NULL, "a secret", true, 0, 0 },
	{ "T_WORD", SETTING_TEXT, AT(word), "plain", "no secret", false, 0, 0 },
	{ "T_NUMBER", SETTING_INT, AT(number), "7", "a number", false, 0, 120 },
	{ "T_FLAG", SETTING_BOOL, AT(flag), "false", "a flag", false, 0, 0 },
};
#define N (sizeof(rows) / sizeof(rows[0]))

static char dir[] = "/tmp/crm-settings-XXXXXX", path[64], said[4096];

static void put(const char *text, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

static int fresh(void **state)
{
	static const char *const names[] = { "T_URL", "T_URL_FILE", "T_WORD", "T_WORD_FILE", "T_NUMBER", "T_FLAG" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	free((char *)got.url);
	free((char *)got.word);
	memset(&got, 0, sizeof(got));
	return 0;
}

/* Exit status of a process that loads; what it wrote is in said. */
static int load_apart(void (*what)(void))
{
	int p[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDERR_FILENO);
		dup2(p[1], STDOUT_FILENO);
		what();
		_exit(0);
	}
	close(p[1]);
	for (r = 1; r > 0; n += (size_t)r)
		r = read(p[0], said + n, sizeof(said) - 1 - n);
	said[n] = 0;
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

/* Settings live as long as a process; here it loads several times. */
static void load(void)
{
	free((char *)got.url);
	free((char *)got.word);
	settings_load(rows, N, &got);
}

static void help(void)
{
	char *argv[] = { "t", "--help", NULL };

	settings_args(rows, N, "t", 2, argv);
}

static void test_values_come_from_the_environment_or_the_default(void **state)
{
	setenv("T_URL", "there", 1);
	setenv("T_NUMBER", "120", 1);
	setenv("T_WORD", "", 1);
	load();
	assert_string_equal(got.url, "there");
	assert_string_equal(got.word, "plain");
	assert_int_equal(got.number, 120);
	assert_false(got.flag);
}

static void test_a_secret_comes_from_a_file(void **state)
{
	const char *one;

	put("host=x password='a b'\r\n\n", 24);
	setenv("T_URL_FILE", path, 1);
	setenv("T_URL", "", 1);
	load();
	assert_string_equal(got.url, "host=x password='a b'");
	one = settings_one(rows, N, "T_URL");
	assert_string_equal(one, "host=x password='a b'");
	put("no newline", 10);
	load();
	assert_string_equal(got.url, "no newline");
}

static void test_both_are_refused(void **state)
{
	put("hush-in-file\n", 13);
	setenv("T_URL_FILE", path, 1);
	setenv("T_URL", "hush-in-env", 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "setting T_URL: it and T_URL_FILE are both given"));
	assert_null(strstr(said, "hush"));
}

static void test_a_file_that_cannot_be_used_is_refused(void **state)
{
	static char large[SETTING_FILE_BYTES + 10];

	setenv("T_URL_FILE", "/nonexistent/url", 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "T_URL_FILE: /nonexistent/url cannot be read: No such file"));
	setenv("T_URL_FILE", dir, 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "cannot be read: Is a directory"));
	setenv("T_URL_FILE", path, 1);
	put("a\0b", 3);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "too long or not text"));
	memset(large, 'x', sizeof(large));
	put(large, sizeof(large));
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "too long or not text"));
	put("\n", 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "T_URL: is missing"));
}

static void test_what_is_no_secret_has_no_file(void **state)
{
	put("other", 5);
	setenv("T_URL", "there", 1);
	setenv("T_WORD_FILE", path, 1);
	load();
	assert_string_equal(got.word, "plain");
}

static void test_wrong_values_are_refused(void **state)
{
	setenv("T_URL", "there", 1);
	setenv("T_NUMBER", "121", 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "setting T_NUMBER: out of range"));
	setenv("T_NUMBER", "1x", 1);
	assert_int_equal(load_apart(load), 1);
	assert_non_null(strstr(said, "setting T_NUMBER: not a whole number"));
}

static void test_help_names_the_files(void **state)
{
	assert_int_equal(load_apart(help), 0);
	assert_non_null(strstr(said, "a secret (default: none, must be given; or T_URL_FILE)"));
	assert_non_null(strstr(said, "no secret (default: plain)\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_values_come_from_the_environment_or_the_default, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_a_secret_comes_from_a_file, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_both_are_refused, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_used_is_refused, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_what_is_no_secret_has_no_file, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_wrong_values_are_refused, fresh, fresh),
		cmocka_unit_test_setup_teardown(test_help_names_the_files, fresh, fresh),
	};
	int rc;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/value", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return rc;
}
