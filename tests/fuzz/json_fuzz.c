/* Bodies of every declared route: the parser, the plans, and the rules of the contract. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/dialect/dialect.h"
#include "gateway/dialect/plan.h"
#include "json/json.h"
#include "schema/validate.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct dialects *ds;
static const struct route_impl *routes[512];
static size_t n_routes;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct dialect *const *rows;
	const char *why = NULL;
	size_t n;

	ds = dialects_load("build/gen/descriptors", "build/gen/dialects", &why);
	if (!ds) {
		fprintf(stderr, "%s\n", why);
		exit(1);
	}
	n = dialects_all(ds, &rows);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < rows[i]->impl->n_routes && n_routes < 512; k++) {
			if (rows[i]->impl->routes[k].body)
				routes[n_routes++] = &rows[i]->impl->routes[k];
		}
	}
	return 0;
}

static enum ref_state known(void *arg, const struct ref_key *key, struct ref_value *out)
{
	*out = (struct ref_value){ STR("018f0000-0000-7000-8000-000000000002"), STR("Ann"), STR("a@b.co"), 7 };
	return key->seq % 3 == 0 ? REF_FOUND : (key->seq % 3 == 1 ? REF_ABSENT : REF_UNKNOWN);
}

/* What was parsed and printed is parsed again to the same text. */
static void round_trip(struct arena *a, struct str text)
{
	struct json_error err;
	struct json *v = json_parse(a, text, &err), *again;
	struct buf one = { 0 }, two = { 0 };

	if (v) {
		json_print(&one, v);
		again = json_parse(a, buf_view(&one), &err);
		if (!again)
			abort();
		json_print(&two, again);
		if (!str_eq(buf_view(&one), buf_view(&two)))
			abort();
	} else if (err.offset > text.n || !err.text) {
		abort();
	}
	buf_fini(&one);
	buf_fini(&two);
}

static void ignore(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
}

static void decode(const struct route_impl *r, struct arena *a, struct str body, bool form)
{
	struct route_match m = { &r->dialect->pub, &r->pub, { STR("5"), STR("5"), STR("5") } };
	struct decode_input in = { .match = &m, .body = body, .arena = a, .refs = { NULL, known },
		.content_type = form ? STR("application/x-www-form-urlencoded") : STR("application/json") };
	struct encode_input out = { .match = &m, .arena = a, .path = STR("/"), .query = STR(""), .now_us = 1 };
	struct decoded d;
	struct buf error = { 0 };
	struct json_error err;
	enum status s = route_decode(&in, &d);

	if (s == STATUS_OK && !schema_validate(r->pub.rpc->input, buf_view(&d.payload), false, a, ignore, NULL))
		abort();
	if (s != STATUS_OK) {
		dialect_error(m.dialect, m.route, &out, s, STR(""), body, d.violations, d.n_violations, &error);
		if (!json_parse(a, buf_view(&error), &err))
			abort();
	}
	buf_fini(&error);
	buf_fini(&d.payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena a = { 0 };
	struct str body;

	if (n < 2)
		return 0;
	body = (struct str){ (const char *)data + 2, n - 2 };
	round_trip(&a, body);
	decode(routes[data[0] % n_routes], &a, body, data[1] == 'f');
	arena_fini(&a);
	return 0;
}
