/* Dialect selection over faces made by hand, with a small matcher in place of the engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/select.h"

#define ROUTES 8

static const struct {
	const char *dialect, *method, *path;
} table[] = {
	{ "backend", "GET", "/api/v1/customers" }, { "backend", "POST", "/api/v1/auth/login" }, { "backend", "GET", "/api/v1/shared" },
	{ "saas", "GET", "/api/leads" }, { "saas", "POST", "/api/auth/login" }, { "saas", "GET", "/api/leads/{id}" },
	{ "system", "POST", "/api/auth/login/" }, { "system", "GET", "/api/crm/leads/" },
	{ "elevate", "GET", "/api/v1/products" }, { "elevate", "POST", "/api/v1/auth/login" },
	{ "mvp", "GET", "/api/leads" }, { "mvp", "POST", "/api/auth/login" },
	{ "native", "GET", "/v1/events" }, { "native", "GET", "/v1/api-keys" },
};
static const char *const saas_hosts[] = { "api.saas.example" };
static const struct dialect dialects[] = {
	{ .name = "backend" }, { .name = "saas", .hosts = saas_hosts, .n_hosts = 1 }, { .name = "system" }, { .name = "elevate" }, { .name = "mvp" },
	{ .name = "native" },
};
static const char *templates[6][ROUTES];
static struct faces faces;
static struct arena arena;

static enum status match(const struct dialect *d, struct str method, struct str path, struct arena *a, struct route_match *m, struct str *allow)
{
	static const struct route some;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].dialect, d->name) != 0 || !str_eq(str_of(table[i].path), path))
			continue;
		*allow = str_of(table[i].method);
		if (!str_eq(str_of(table[i].method), method))
			return STATUS_METHOD_NOT_ALLOWED;
		*m = (struct route_match){ .dialect = d, .route = &some };
		return STATUS_OK;
	}
	return STATUS_NOT_FOUND;
}

static int setup(void **state)
{
	faces.match = match;
	faces.n = 6;
	for (size_t i = 0; i < faces.n; i++) {
		struct face *f = &faces.rows[i];

		f->dialect = &dialects[i];
		f->templates = templates[i];
		for (size_t k = 0; k < sizeof(table) / sizeof(table[0]); k++) {
			if (strcmp(table[k].dialect, dialects[i].name) == 0)
				templates[i][f->n_templates++] = table[k].path;
		}
		face_measure(f);
	}
	faces.native = &faces.rows[5];
	faces.groups[0] = (struct group){ { &faces.rows[0], &faces.rows[1], &faces.rows[2], &faces.rows[5] }, 4 };
	faces.groups[1] = (struct group){ { &faces.rows[3], &faces.rows[4], &faces.rows[5] }, 3 };
	faces.n_groups = 2;
	return 0;
}

static struct selection choose(int listener, const char *method, const char *path, const char *host, const char *header)
{
	struct select_input in = { listener, str_of(method), str_of(path), str_of(host), str_of(header), &arena };
	struct selection s;

	select_route(&faces, &in, &s);
	return s;
}

static void expect(struct selection s, const char *dialect, enum status outcome)
{
	assert_non_null(s.face);
	assert_string_equal(s.face->dialect->name, dialect);
	assert_int_equal(s.outcome, outcome);
	if (outcome == STATUS_OK)
		assert_string_equal(s.match.dialect->name, dialect);
}

static void test_bases_are_measured(void **state)
{
	assert_true(str_eq(faces.rows[0].base, STR("/api/v1/")) && str_eq(faces.rows[1].base, STR("/api/")));
	assert_true(faces.rows[2].slash && !faces.rows[1].slash);
	assert_true(str_eq(faces.native->base, STR("/v1/")));
}

static void test_the_listener_decides(void **state)
{
	expect(choose(0, "GET", "/api/leads", "", ""), "saas", STATUS_OK);
	expect(choose(1, "GET", "/api/leads", "", ""), "mvp", STATUS_OK);
	expect(choose(0, "POST", "/api/v1/auth/login", "", ""), "backend", STATUS_OK);
	expect(choose(1, "POST", "/api/v1/auth/login", "", ""), "elevate", STATUS_OK);
	expect(choose(0, "POST", "/api/auth/login/", "", ""), "system", STATUS_OK);
	expect(choose(0, "POST", "/api/auth/login", "", ""), "saas", STATUS_OK);
}

static void test_native_answers_everywhere(void **state)
{
	expect(choose(0, "GET", "/v1/events", "", ""), "native", STATUS_OK);
	expect(choose(1, "GET", "/v1/events", "", ""), "native", STATUS_OK);
	expect(choose(1, "GET", "/v1/events", "api.saas.example", ""), "native", STATUS_OK);
	expect(choose(0, "GET", "/v1/nothing", "", ""), "native", STATUS_NOT_FOUND);
}

static void test_host_prefix_and_header_win_over_the_listener(void **state)
{
	struct selection s = choose(1, "GET", "/~saas/api/leads", "", "");

	expect(s, "saas", STATUS_OK);
	assert_true(s.prefixed && str_eq(s.path, STR("/api/leads")));
	expect(choose(1, "GET", "/api/leads", "api.saas.example", ""), "saas", STATUS_OK);
	expect(choose(1, "GET", "/api/leads", "API.SAAS.example", ""), "saas", STATUS_OK);
	expect(choose(0, "GET", "/api/leads", "", "mvp"), "mvp", STATUS_OK);
	expect(choose(0, "GET", "/api/v1/customers", "", "mvp"), "mvp", STATUS_NOT_FOUND);
	expect(choose(1, "GET", "/~system", "", ""), "system", STATUS_NOT_FOUND);
}

static void test_unknown_names_are_refused(void **state)
{
	struct selection s = choose(0, "GET", "/api/leads", "", "klingon");

	expect(s, "saas", STATUS_BAD_REQUEST);
	assert_non_null(s.text);
	assert_int_equal(choose(0, "GET", "/~klingon/api/leads", "", "").outcome, STATUS_NOT_FOUND);
}

static void test_a_wrong_method_is_405_of_the_dialect_that_has_the_path(void **state)
{
	struct selection s = choose(0, "DELETE", "/api/leads", "", "");

	expect(s, "saas", STATUS_METHOD_NOT_ALLOWED);
	assert_true(str_eq(s.allow, STR("GET")));
}

static void test_a_stray_path_gets_the_likeliest_shape(void **state)
{
	expect(choose(0, "GET", "/api/v1/nothing", "", ""), "backend", STATUS_NOT_FOUND);
	expect(choose(0, "GET", "/api/nothing", "", ""), "saas", STATUS_NOT_FOUND);
	expect(choose(0, "GET", "/api/nothing/", "", ""), "system", STATUS_NOT_FOUND);
	expect(choose(0, "GET", "/api/v1/nothing/", "", ""), "system", STATUS_NOT_FOUND);
	expect(choose(1, "GET", "/api/v1/nothing", "", ""), "elevate", STATUS_NOT_FOUND);
	expect(choose(1, "GET", "/api/nothing", "", ""), "mvp", STATUS_NOT_FOUND);
	expect(choose(0, "GET", "/nothing", "", ""), "backend", STATUS_NOT_FOUND);
	expect(choose(1, "GET", "/", "", ""), "elevate", STATUS_NOT_FOUND);
	expect(choose(1, "OPTIONS", "*", "", ""), "elevate", STATUS_NOT_FOUND);
	expect(choose(1, "GET", "", "", ""), "elevate", STATUS_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bases_are_measured),
		cmocka_unit_test(test_the_listener_decides),
		cmocka_unit_test(test_native_answers_everywhere),
		cmocka_unit_test(test_host_prefix_and_header_win_over_the_listener),
		cmocka_unit_test(test_unknown_names_are_refused),
		cmocka_unit_test(test_a_wrong_method_is_405_of_the_dialect_that_has_the_path),
		cmocka_unit_test(test_a_stray_path_gets_the_likeliest_shape),
	};
	int failed = cmocka_run_group_tests(tests, setup, NULL);

	arena_fini(&arena);
	return failed;
}
