/* Strict JSON: what is accepted, what is refused and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "json/json.h"

static void prints(const char *in, const char *out)
{
	struct arena a = { 0 };
	struct json_error err = { 0 };
	struct json *v = json_parse(&a, str_of(in), &err);
	struct buf b = { 0 };

	if (!v)
		fail_msg("%s: %s at %zu", in, err.text, err.offset);
	json_print(&b, v);
	assert_string_equal(buf_cstr(&b), out);
	buf_fini(&b);
	arena_fini(&a);
}

static void refuses_bytes(struct str in, size_t offset, const char *text)
{
	struct arena a = { 0 };
	struct json_error err = { 0 };

	if (json_parse(&a, in, &err))
		fail_msg("accepted: %.*s", STR_FMT(in));
	assert_string_equal(err.text, text);
	assert_int_equal(err.offset, offset);
	arena_fini(&a);
}

static void refuses(const char *in, size_t offset, const char *text)
{
	refuses_bytes(str_of(in), offset, text);
}

static void values_keep_their_text(void **state)
{
	prints(" { \"a\" : [ 1 , -0.50e+3, true,false , null ] } ", "{\"a\":[1,-0.50e+3,true,false,null]}");
	prints("9007199254740993", "9007199254740993");
	prints("299.99", "299.99");
	prints("[]", "[]");
	prints("{}", "{}");
	prints("\"\\u00e9\\ud83d\\ude00\\n\\/\\\"\"", "\"\xc3\xa9\xf0\x9f\x98\x80\\n/\\\"\"");
}

static void strings_are_escaped_at_every_place(void **state)
{
	static const char specials[] = "\"\\\n\x01\x1f\t";

	for (size_t at = 0; at < 20; at++) {
		for (size_t k = 0; k < sizeof(specials) - 1; k++) {
			struct arena a = { 0 };
			struct json_error err;
			struct json *v;
			struct buf b = { 0 };
			char text[20];

			memset(text, k % 2 ? '\xe9' - 0x80 : ' ', sizeof(text));
			text[at] = specials[k];
			buf_json_str(&b, (struct str){ text, sizeof(text) });
			v = json_parse(&a, buf_view(&b), &err);
			assert_non_null(v);
			assert_true(str_eq(v->text, (struct str){ text, sizeof(text) }));
			buf_fini(&b);
			arena_fini(&a);
		}
	}
}

static void malformed_text_is_refused_with_its_place(void **state)
{
	refuses("", 0, "the text ends too early");
	refuses("{\"a\":", 5, "the text ends too early");
	refuses("[1,]", 3, "not a JSON value");
	refuses("[1 2]", 3, "expected ',' or ']'");
	refuses("{a:1}", 1, "expected a member name in quotes");
	refuses("{\"a\" 1}", 5, "expected ':'");
	refuses("01", 1, "something follows the value");
	refuses("1.", 2, "a number needs digits behind the point");
	refuses("1e", 2, "a number needs digits in its exponent");
	refuses("NaN", 0, "not a JSON value");
	refuses("tru", 0, "not a JSON value");
	refuses("\"a", 1, "the string does not end");
	refuses("\"a\\", 1, "the string does not end");
	refuses("\"\\x\"", 2, "an unknown escape");
	refuses("\"a\nb\"", 2, "a control character in a string");
	refuses("{} x", 3, "something follows the value");
}

static void traps_of_text_are_refused(void **state)
{
	refuses("{\"a\":1,\"a\":2}", 12, "the same member twice");
	refuses("{\"a\":1,\"\\u0061\":2}", 17, "the same member twice");
	refuses("\"\\u0000\"", 7, "\\u0000 is not allowed");
	refuses("\"\\ud800\"", 7, "a lone surrogate");
	refuses("\"\\ude00\"", 7, "a lone surrogate");
	refuses("\"\xff\"", 0, "the text is not valid UTF-8");
	refuses_bytes((struct str){ "\"a\0b\"", 5 }, 2, "a control character in a string");
}

static void limits_hold(void **state)
{
	struct buf b = { 0 };
	struct arena a = { 0 };
	struct json_error err;

	for (int i = 0; i < JSON_MAX_DEPTH; i++)
		buf_c(&b, '[');
	for (int i = 0; i < JSON_MAX_DEPTH; i++)
		buf_c(&b, ']');
	assert_non_null(json_parse(&a, buf_view(&b), &err));
	b.p[0] = ' ';
	buf_clear(&b);
	for (int i = 0; i <= JSON_MAX_DEPTH; i++)
		buf_c(&b, '[');
	assert_null(json_parse(&a, buf_view(&b), &err));
	assert_string_equal(err.text, "nested too deeply");
	buf_clear(&b);
	buf_c(&b, '[');
	for (int i = 0; i < JSON_MAX_NODES; i++)
		buf_z(&b, "1,");
	buf_z(&b, "1]");
	assert_null(json_parse(&a, buf_view(&b), &err));
	assert_string_equal(err.text, "too many values");
	buf_clear(&b);
	buf_c(&b, '{');
	for (int i = 0; i <= JSON_MAX_MEMBERS; i++)
		buf_printf(&b, "%s\"k%d\":1", i ? "," : "", i);
	buf_c(&b, '}');
	assert_null(json_parse(&a, buf_view(&b), &err));
	assert_string_equal(err.text, "too many members");
	buf_fini(&b);
	arena_fini(&a);
}

static void duplicates_are_found_in_large_objects(void **state)
{
	struct buf b = { 0 };
	struct arena a = { 0 };
	struct json_error err;

	buf_c(&b, '{');
	for (int i = 0; i < 500; i++)
		buf_printf(&b, "\"k%d\":1,", i);
	buf_z(&b, "\"k3\":1}");
	assert_null(json_parse(&a, buf_view(&b), &err));
	assert_string_equal(err.text, "the same member twice");
	buf_fini(&b);
	arena_fini(&a);
}

static void members_are_found_by_name(void **state)
{
	struct arena a = { 0 };
	struct json_error err;
	struct json *v = json_parse(&a, STR("{\"Name\":1,\"name\":2,\"x\":{\"y\":[3,4]}}"), &err);

	assert_non_null(v);
	assert_int_equal(v->n, 3);
	assert_true(str_eq(json_get(v, STR("name"), true)->text, STR("2")));
	assert_true(str_eq(json_get(v, STR("NAME"), true)->text, STR("1")));
	assert_null(json_get(v, STR("NAME"), false));
	assert_true(str_eq(json_get(v, STR("x"), false)->raw, STR("{\"y\":[3,4]}")));
	arena_fini(&a);
}

/* 1,900 names that a plain FNV-1a puts into the same place of 4,096; or just 1,900 names. */
static void names_put_into(struct buf *b, bool colliding)
{
	unsigned n = 0;

	buf_c(b, '{');
	for (unsigned i = 0; n < 1900; i++) {
		char name[12];
		uint32_t h = 2166136261u;

		snprintf(name, sizeof(name), "%x", i);
		for (const char *c = name; *c; c++)
			h = (h ^ (unsigned char)*c) * 16777619u;
		if (!colliding || (h & 4095) == 7)
			buf_printf(b, "%s\"%s\":1", n++ ? "," : "", name);
	}
	buf_c(b, '}');
}

static int64_t time_of_parse(struct str text)
{
	int64_t best = INT64_MAX;

	for (int i = 0; i < 5; i++) {
		struct arena a = { 0 };
		struct json_error err;
		int64_t from = clock_mono_us(), took;

		assert_non_null(json_parse(&a, text, &err));
		took = clock_mono_us() - from;
		best = took < best ? took : best;
		arena_fini(&a);
	}
	return best;
}

static void names_made_to_collide_take_no_longer_than_others(void **state)
{
	struct buf evil = { 0 }, plain = { 0 };

	names_put_into(&evil, true);
	names_put_into(&plain, false);
	assert_true(time_of_parse(buf_view(&evil)) < 6 * time_of_parse(buf_view(&plain)));
	buf_fini(&evil);
	buf_fini(&plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_keep_their_text),
		cmocka_unit_test(strings_are_escaped_at_every_place),
		cmocka_unit_test(malformed_text_is_refused_with_its_place),
		cmocka_unit_test(traps_of_text_are_refused),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(duplicates_are_found_in_large_objects),
		cmocka_unit_test(members_are_found_by_name),
		cmocka_unit_test(names_made_to_collide_take_no_longer_than_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
