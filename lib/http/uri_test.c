/* Decoding of paths and queries: once, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/uri.h"

static struct arena arena;

static void decodes(struct str raw, bool plus, struct str want)
{
	struct str out;

	assert_true(uri_decode(&arena, raw, plus, &out));
	assert_true(str_eq(out, want));
}

static void test_escapes_are_decoded_once(void **state)
{
	decodes(STR(""), false, STR(""));
	decodes(STR("abc"), false, STR("abc"));
	decodes(STR("a%20b"), false, STR("a b"));
	decodes(STR("%C3%a9"), false, STR("\xC3\xA9"));
	decodes(STR("%2520"), false, STR("%20"));
	decodes(STR("a+b"), false, STR("a+b"));
	decodes(STR("a+b%2B"), true, STR("a b+"));
	decodes(STR("%2F"), false, STR("/"));
}

static void test_bad_escapes_nul_and_broken_utf8_are_refused(void **state)
{
	static const char *const bad[] = { "%", "%4", "a%", "%zz", "%4g", "%00", "a%00b", "%FF", "%C3", "%C0%AF", "%ED%A0%80", "%C3x%A9" };
	struct str out;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (uri_decode(&arena, str_of(bad[i]), true, &out))
			fail_msg("%s was taken", bad[i]);
	assert_false(uri_decode(&arena, STR("a\xFF"), true, &out));
	assert_false(uri_decode(&arena, STR("a\0b"), true, &out));
}

static void test_segments_refuse_what_changes_the_path(void **state)
{
	static const char *const bad[] = { "%2f", "a%2Fb", "%5c", "%5C..", ".", "..", "%2e", "%2E%2e", ".%2e", "%0a", "%7f", "%00" };
	struct str out;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (uri_decode_segment(&arena, str_of(bad[i]), &out))
			fail_msg("%s was taken", bad[i]);
	assert_true(uri_decode_segment(&arena, STR("a%20b...+c"), &out));
	assert_true(str_eq(out, STR("a b...+c")));
}

static void test_path_splits_into_all_its_segments(void **state)
{
	static const char *const want[] = { "a", "", "b%2F", "" };
	struct uri_path p = { STR("/a//b%2F/") };
	struct str s;
	size_t n = 0;

	while (uri_path_next(&p, &s)) {
		assert_true(n < 4);
		assert_true(str_eq(s, str_of(want[n])));
		n++;
	}
	assert_int_equal(n, 4);
	p.rest = STR("*");
	assert_false(uri_path_next(&p, &s));
}

/* "a=1;b=2;" or ending in "bad" */
static const char *pairs(struct str raw)
{
	static struct buf out;
	struct uri_query q = { raw };
	struct str name, value;
	bool bad;

	buf_clear(&out);
	while (uri_query_next(&arena, &q, &name, &value, &bad))
		buf_printf(&out, "%.*s=%.*s;", STR_FMT(name), STR_FMT(value));
	if (bad)
		buf_z(&out, "bad");
	return buf_cstr(&out);
}

static void test_query_gives_decoded_pairs(void **state)
{
	assert_string_equal(pairs(STR("")), "");
	assert_string_equal(pairs(STR("a=1&b=2")), "a=1;b=2;");
	assert_string_equal(pairs(STR("&&a=1&&b&")), "a=1;b=;");
	assert_string_equal(pairs(STR("a=b=c&=d")), "a=b=c;=d;");
	assert_string_equal(pairs(STR("full%20name=J+D%26%3D")), "full name=J D&=;");
	assert_string_equal(pairs(STR("filter[x]=1&filter[x]=2")), "filter[x]=1;filter[x]=2;");
}

static void test_query_stops_at_a_bad_pair(void **state)
{
	assert_string_equal(pairs(STR("a=1&b=%zz&c=3")), "a=1;bad");
	assert_string_equal(pairs(STR("%=1")), "bad");
	assert_string_equal(pairs(STR("a=%FF")), "bad");
}

static int teardown(void **state)
{
	arena_fini(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escapes_are_decoded_once),
		cmocka_unit_test(test_bad_escapes_nul_and_broken_utf8_are_refused),
		cmocka_unit_test(test_segments_refuse_what_changes_the_path),
		cmocka_unit_test(test_path_splits_into_all_its_segments),
		cmocka_unit_test(test_query_gives_decoded_pairs),
		cmocka_unit_test(test_query_stops_at_a_bad_pair),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
