/* Dialects in parts: put together they are what they were, and a part may have only what is its service's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/files.h"
#include "gateway/dialect/dialect.h"
#include "gateway/dialect/table.h"

static struct arena arena;
static struct file_text descriptors[FILES_MOST], dialects[FILES_MOST];
static struct schema_set sets[FILES_MOST];
static size_t n_sets, n_dialects;
static struct schema *schema;

static size_t split(const struct file_text *file, struct dialect_part *parts)
{
	Crm__Dialect__Dialect *d = crm__dialect__dialect__unpack(NULL, file->bytes.n, (const uint8_t *)file->bytes.p);
	const char *why = "";
	size_t n = fragment_split(d, schema, &arena, parts, &why);

	if (!n)
		fail_msg("%s", why);
	crm__dialect__dialect__free_unpacked(d, NULL);
	return n;
}

static struct dialects *build(const struct dialect_source *rows, size_t n)
{
	const char *why = NULL;
	struct dialects *ds = dialects_build(sets, n_sets, rows, n, &why);

	if (!ds)
		fail_msg("%s", why);
	return ds;
}

static void all_of_it(const struct dialects *ds, struct buf *out)
{
	const struct dialect *const *rows;
	size_t n = dialects_all(ds, &rows);

	for (size_t i = 0; i < n; i++) {
		dialect_table(ds, rows[i], out);
		dialect_openapi(ds, rows[i], STR("http://h"), out);
	}
	dialects_asyncapi(ds, "1", STR("http"), STR("h"), out);
}

static void parts_make_the_whole(void **state)
{
	struct dialect_source whole[FILES_MOST], cut[FILES_MOST];
	struct buf a = { 0 }, b = { 0 };
	struct dialects *x, *y;
	size_t in_base = 0, in_parts = 0;

	for (size_t i = 0; i < n_dialects; i++) {
		struct dialect_part *parts = arena_alloc(&arena, (FRAGMENT_SERVICES + 1) * sizeof(*parts));
		size_t n = split(&dialects[i], parts);

		whole[i] = (struct dialect_source){ .name = dialects[i].name, .base = dialects[i].bytes };
		cut[i] = (struct dialect_source){ dialects[i].name, parts[0].bytes, parts + 1, n - 1 };
		in_base += parts[0].bytes.n;
		for (size_t k = 1; k < n; k++)
			in_parts += parts[k].bytes.n;
	}
	x = build(whole, n_dialects);
	y = build(cut, n_dialects);
	all_of_it(x, &a);
	all_of_it(y, &b);
	assert_true(a.n > 100000);
	assert_string_equal(buf_cstr(&a), buf_cstr(&b));
	assert_true(in_parts > 5 * in_base); /* they are what is cut off, not the rest */
	dialects_rele(x);
	dialects_rele(y);
	buf_fini(&a);
	buf_fini(&b);
}

/* The wire form of a dialect that is written down as text. */
static struct str compiled(const char *text)
{
	char dir[] = "/tmp/fragment-test-XXXXXX", command[200];
	struct file_text files[FILES_MOST];
	const char *why = "";
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "protoc -Iproto --encode=crm.dialect.Dialect proto/dialect.proto > %s/x.pb", dir);
	f = popen(command, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(pclose(f), 0);
	assert_int_equal(files_read(&arena, dir, files, &why), 1);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	return files[0].bytes;
}

#define BASE "name: \"t\" error { template: '{}' } shape { name: \"one\" template: '{\"a\":\"$item\"}' } "
#define LEAD "name: \"t\" " LEAD_ROW
#define LEAD_ROW "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"phone\" p: \"phone\" } } "
#define GET_LEAD "route { on: \"GET /l/{id}\" rpc: \"Leads.Get\" out: \"lead\" wrap: \"one\" } "

/* Why these two parts cannot be put into BASE, or NULL. */
static const char *mistake(const char *customers, const char *sales)
{
	struct dialect_part parts[] = { { "customers", compiled(customers) }, { "sales", compiled(sales) } };
	struct dialect_source row = { "t", compiled(BASE), parts, 2 };
	const char *why = NULL;
	struct dialects *ds = dialects_build(sets, n_sets, &row, 1, &why);

	dialects_rele(ds);
	return why;
}

static void refuses(const char *customers, const char *sales, const char *sentence)
{
	const char *why = mistake(customers, sales);

	if (!why || !strstr(why, sentence))
		fail_msg("expected '%s', got '%s'", sentence, why ? why : "no mistake");
	free((void *)why);
}

static void a_part_has_only_its_services_own(void **state)
{
	assert_null(mistake(LEAD GET_LEAD, "name: \"t\""));
	refuses(LEAD, "name: \"t\" " GET_LEAD, "an rpc that is not its own: `Leads.Get`");
	refuses("name: \"t\"", LEAD, "a resource of a message that is not its own: `lead`");
	refuses("name: \"u\"", "name: \"t\"", "is of another dialect, `u`");
	refuses("name: \"t\" cors { origin: \"*\" }", "name: \"t\"", "declares what only the gateway may");
	refuses("name: \"t\" rate { name: \"default\" match: \"default\" key: IP quota: 1 window_s: 1 }", "name: \"t\"", "declares what only the gateway may");
	refuses("name: \"t\" title: \"x\"", "name: \"t\"", "declares what only the gateway may");
	refuses("name: \"t\" paging { limit: 100 }", "name: \"t\"", "declares what only the gateway may");
	refuses("name: \"t\" route { on: \"GET /l/{id}\" rpc: \"Leads.Nope\" }", "name: \"t\"", "an rpc that is not its own: `Leads.Nope`");
	refuses(LEAD GET_LEAD, "name: \"t\" resource { name: \"deal\" message: \"crm.v1.Deal\" } route { on: \"GET /l/{x}\" rpc: \"Deals.Get\" out: \"deal\" }", "collides with");
}

static void what_is_shared_is_taken_once(void **state)
{
	const char *set = "paging { set { name: \"p\" q { q: \"page\" special: PAGE } } } ", *other = "paging { set { name: \"p\" q { q: \"seite\" special: PAGE } } } ";
	const char *list = "shape { name: \"list\" template: '[]' }", *base_shape = "shape { name: \"one\" template: '{\"mine\":1}' }";
	char a[500], b[500];

	snprintf(a, sizeof(a), "name: \"t\" %s %s", set, list);
	assert_null(mistake(a, a));
	snprintf(b, sizeof(b), "name: \"t\" %s", other);
	refuses(a, b, "somebody else has another `p`");
	/* of what the base has, the base's is taken, whatever a part says */
	snprintf(a, sizeof(a), "%s %s", LEAD GET_LEAD, base_shape);
	assert_null(mistake(a, "name: \"t\""));
}

static void what_one_service_needs_goes_with_it(void **state)
{
	struct file_text whole = { "t", compiled(BASE "enum_map { name: \"m\" row { core: \"a\" face: \"b\" } } " LEAD_ROW GET_LEAD
	    "resource { name: \"stage\" message: \"crm.v1.Deal\" f { j: \"s\" p: \"title\" as: \"map:m\" } } route { on: \"GET /d/{id}\" rpc: \"Deals.Get\" out: \"stage\" wrap: \"one\" }") };
	struct dialect_part parts[FRAGMENT_SERVICES + 1];
	size_t n = split(&whole, parts);

	assert_int_equal(n, 5);
	assert_string_equal(parts[2].service, "auth");
	assert_string_equal(parts[3].service, "customers");
	assert_string_equal(parts[4].service, "sales");
	for (size_t i = 0; i < n; i++) {
		Crm__Dialect__Dialect *d = crm__dialect__dialect__unpack(NULL, parts[i].bytes.n, (const uint8_t *)parts[i].bytes.p);
		bool uses = i >= 3;

		assert_int_equal(d->n_enum_map, i == 4);         /* sales alone has a use for it */
		assert_int_equal(d->n_shape, i == 0 || uses);    /* two have */
		assert_int_equal(d->n_route, uses);
		assert_int_equal(d->n_resource, uses);
		assert_true((d->error != NULL) == (i == 0));
		crm__dialect__dialect__free_unpacked(d, NULL);
	}
}

static int load(void **state)
{
	const char *why = "";

	n_sets = files_read(&arena, "build/gen/descriptors", descriptors, &why);
	n_dialects = files_read(&arena, "build/gen/dialects", dialects, &why);
	for (size_t i = 0; i < n_sets; i++)
		sets[i] = (struct schema_set){ .name = descriptors[i].name, .bytes = descriptors[i].bytes };
	schema = n_sets && n_dialects ? schema_try_sets(sets, n_sets, &why) : NULL;
	if (!schema)
		fprintf(stderr, "%s\n", why);
	return schema ? 0 : -1;
}

static int unload(void **state)
{
	schema_free(schema);
	arena_fini(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_make_the_whole),
		cmocka_unit_test(a_part_has_only_its_services_own),
		cmocka_unit_test(what_is_shared_is_taken_once),
		cmocka_unit_test(what_one_service_needs_goes_with_it),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
