/* Method, path and query of requests, and whatever a service might reply. Input: "METHOD path?query\nreply". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/dialect/dialect.h"
#include "json/json.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct dialects *ds;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *why = NULL;

	ds = dialects_load("build/gen/descriptors", "build/gen/dialects", &why);
	if (!ds) {
		fprintf(stderr, "%s\n", why);
		exit(1);
	}
	return 0;
}

static enum ref_state known(void *arg, const struct ref_key *key, struct ref_value *out)
{
	*out = (struct ref_value){ STR("018f0000-0000-7000-8000-000000000002"), STR("Ann"), STR("a@b.co"), 7 };
	return key->seq % 2 ? REF_FOUND : REF_UNKNOWN;
}

static struct str cut(struct str *s, char at)
{
	const char *p = s->n ? memchr(s->p, at, s->n) : NULL;
	struct str head = { s->p, p ? (size_t)(p - s->p) : s->n };

	s->p += head.n + (p ? 1 : 0);
	s->n -= head.n + (p ? 1 : 0);
	return head;
}

static void serve(const struct route_match *m, struct arena *a, struct str path, struct str query, struct str reply)
{
	struct decode_input in = { .match = m, .query = query, .body = STR("{}"), .content_type = STR("application/json"), .arena = a, .refs = { NULL, known } };
	struct encode_input out = { .match = m, .base_url = STR("http://h"), .path = path, .query = query, .arena = a, .now_us = 1, .refs = { NULL, known } };
	struct decoded d;
	struct encoded info;
	struct buf body = { 0 };

	route_decode(&in, &d);
	out.page = d.page;
	if (!route_encode(&out, reply, &body, &info) && body.n)
		abort();
	buf_fini(&body);
	buf_fini(&d.payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str reply = { (const char *)data, n }, line = cut(&reply, '\n'), method = cut(&line, ' '), path = cut(&line, '?'), allow;
	const struct dialect *const *rows;
	size_t k = dialects_all(ds, &rows);
	struct arena a = { 0 };
	struct route_match m;

	for (size_t i = 0; i < k; i++) {
		if (dialect_match(rows[i], method, path, &a, &m, &allow) == STATUS_OK)
			serve(&m, &a, path, line, reply);
	}
	arena_fini(&a);
	return 0;
}
