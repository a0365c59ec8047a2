/* Rows of exports: cells, quotes, formulas, pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wire.h"
#include "gateway/dialect/testing.h"

static struct dialects *ds;
static struct arena arena;

struct page_text {
	struct buf out;
	struct exported info;
	bool good;
};

static void entry_put(struct buf *list, const char *agent, const char *after)
{
	size_t at = wire_open(list, 1);

	wire_put_bytes(list, 1, STR("01920000-0000-7000-8000-0000000000aa"));
	wire_put_varint(list, 2, 7);
	wire_put_bytes(list, 17, STR("created"));
	if (agent)
		wire_put_bytes(list, 25, str_of(agent));
	if (after)
		wire_put_bytes(list, 30, str_of(after));
	wire_close(list, at);
}

static struct page_text rows(struct buf *list, enum export_format format, bool first)
{
	struct route_match m;
	struct str allow;
	struct page_text p = { .good = false };
	struct encode_input in = { .match = &m, .arena = &arena, .who = { .tenant_id = STR("01920000-0000-7000-8000-0000000000bb") } };

	assert_int_equal(dialect_match(dialects_find(ds, STR("backend")), STR("GET"), STR("/api/v1/audit/export"), &arena, &m, &allow), STATUS_OK);
	p.good = export_rows(&in, buf_view(list), format, first, &p.out, NULL, &p.info);
	buf_c(&p.out, 0);
	buf_fini(list);
	*list = (struct buf){ 0 };
	return p;
}

static void one_agent(const char *agent, const char *cell)
{
	struct buf list = { 0 };
	struct page_text p;
	char expected[300];

	entry_put(&list, agent, NULL);
	p = rows(&list, EXPORT_CSV, false);
	snprintf(expected, sizeof(expected), ",,%s,,", cell);
	assert_true(p.good);
	if (!strstr(p.out.p, expected))
		fail_msg("no cell %s in %s", expected, p.out.p);
	buf_fini(&p.out);
}

static void first_page_has_a_head(void **state)
{
	struct buf list = { 0 };
	struct page_text p;

	entry_put(&list, NULL, NULL);
	wire_put_bytes(&list, 3, STR("next"));
	p = rows(&list, EXPORT_CSV, true);
	assert_int_equal(strncmp(p.out.p, "id,action,event,resource,", 25), 0);
	assert_int_equal(p.info.rows, 1);
	assert_int_equal(p.info.next_cursor.n, 4);
	assert_non_null(strstr(p.out.p, "\r\n01920000-0000-7000-8000-0000000000aa,created,"));
	buf_fini(&p.out);
	p = rows(&list, EXPORT_CSV, false);
	assert_string_equal(p.out.p, "");
	buf_fini(&p.out);
}

static void cells_are_quoted_and_never_formulas(void **state)
{
	one_agent("plain", "plain");
	one_agent("a,b", "\"a,b\"");
	one_agent("say \"x\"", "\"say \"\"x\"\"\"");
	one_agent("two\r\nlines", "\"two\r\nlines\"");
	one_agent("=1+1", "'=1+1");
	one_agent("+49 30", "'+49 30");
	one_agent("-x", "'-x");
	one_agent("@SUM(A1)", "'@SUM(A1)");
	one_agent("\t=1", "\"'\t'=1\"");
	one_agent("=\"a\",b", "\"'=\"\"a\"\",b\"");
	one_agent("back\\slash \x01 end", "back\\slash \x01 end");
	one_agent("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
}

static void stored_json_is_one_cell(void **state)
{
	struct buf list = { 0 };
	struct page_text p;

	entry_put(&list, NULL, "{\"a\":\"x,\\\"y\\\"\"}");
	p = rows(&list, EXPORT_CSV, false);
	assert_non_null(strstr(p.out.p, ",\"{\"\"a\"\":\"\"x,\\\"\"y\\\"\"\"\"}\","));
	buf_fini(&p.out);
}

static void json_pages_make_one_array(void **state)
{
	struct buf list = { 0 };
	struct page_text p;
	const char *second;

	entry_put(&list, "a", NULL);
	entry_put(&list, "b", NULL);
	p = rows(&list, EXPORT_JSON, true);
	assert_int_equal(strncmp(p.out.p, "[\n{\"id\":", 8), 0);
	second = strstr(p.out.p, "},\n{\"id\":");
	assert_non_null(second);
	buf_fini(&p.out);
	entry_put(&list, "c", NULL);
	p = rows(&list, EXPORT_JSON, false);
	assert_int_equal(strncmp(p.out.p, ",\n{\"id\":", 8), 0);
	p.out.n--;
	export_close(EXPORT_JSON, &p.out);
	assert_memory_equal(p.out.p + p.out.n - 4, "}\n]\n", 4);
	buf_fini(&p.out);
	p = rows(&list, EXPORT_JSON, true);
	assert_string_equal(p.out.p, "[");
	buf_fini(&p.out);
}

static void malformed_pages_are_refused(void **state)
{
	struct buf list = { 0 };
	struct page_text p;

	wire_put_bytes(&list, 1, STR("\x0a\xff"));
	p = rows(&list, EXPORT_CSV, false);
	assert_false(p.good);
	buf_fini(&p.out);
	buf_z(&list, "\x0a\x7f");
	p = rows(&list, EXPORT_JSON, false);
	assert_false(p.good);
	buf_fini(&p.out);
}

static void each_is_refused(const char *start, const char *const *ends, size_t n, const char *word)
{
	char text[600];

	for (size_t i = 0; i < n; i++) {
		const char *why;

		snprintf(text, sizeof(text), "%s%s", start, ends[i]);
		why = testing_mistake(text);
		assert_non_null(why);
		if (!strstr(why, word))
			fail_msg("another mistake: %s", why);
		free((void *)why);
	}
}

static void mistakes_of_declarations_are_refused(void **state)
{
	static const char start[] = "error { template: '{\"e\":\"$code\"}' } resource { name: \"r\" message: \"crm.v1.AuditEntry\" f { j: \"id\" as: \"id:audit_entry\" } } route { on: \"GET /x\" rpc: \"AuditLogs.List\" ";
	static const char *const ends[] = { "out: \"r\" wrap: \"l\" export { name: \"x\" } } shape { name: \"l\" template: '{}' }", "out: \"r\" export { name: \"X y\" } }", "out: \"r\" export { name: \"x\" note: \"AuditLogs.Get\" } }" };

	each_is_refused(start, ends, 3, "export: ");
}

static void mistakes_of_uploads_and_downloads_are_refused(void **state)
{
	static const char start[] = "error { template: '{\"e\":\"$code\"}' } resource { name: \"r\" message: \"crm.v1.User\" f { j: \"id\" as: \"id:user\" } } route { on: ";
	static const char *const ends[] = { "\"POST /x\" rpc: \"Users.SetAvatar\" out: \"r\" upload { part: \"\" prepare: \"Users.PrepareAvatar\" } }",
		"\"POST /x\" rpc: \"Users.SetAvatar\" out: \"r\" upload { part: \"x\" prepare: \"Users.Get\" } }", "\"POST /x\" rpc: \"Users.SetAvatar\" out: \"r\" upload { part: \"x\" } }",
		"\"GET /x\" rpc: \"Users.SetAvatar\" out: \"r\" upload { part: \"x\" prepare: \"Users.PrepareAvatar\" } }", "\"GET /x\" rpc: \"Users.Get\" out: \"r\" download: true }",
		"\"POST /x\" rpc: \"Users.GetAvatar\" download: true }" };

	each_is_refused(start, ends, sizeof(ends) / sizeof(*ends), "load: ");
}

static int start(void **state)
{
	const char *why = NULL;

	ds = dialects_load("build/gen/descriptors", "build/gen/dialects", &why);
	if (!ds)
		fail_msg("%s", why);
	return 0;
}

static int end(void **state)
{
	dialects_rele(ds);
	arena_fini(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_page_has_a_head),
		cmocka_unit_test(cells_are_quoted_and_never_formulas),
		cmocka_unit_test(stored_json_is_one_cell),
		cmocka_unit_test(json_pages_make_one_array),
		cmocka_unit_test(malformed_pages_are_refused),
		cmocka_unit_test(mistakes_of_declarations_are_refused),
		cmocka_unit_test(mistakes_of_uploads_and_downloads_are_refused),
	};

	return cmocka_run_group_tests(tests, start, end);
}
