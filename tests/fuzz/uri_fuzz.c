/* Paths and queries: what is decoded is UTF-8 without NUL, and segments hold no separators. */
#include <stdlib.h>

#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct str s)
{
	if ((s.n > 0 && memchr(s.p, 0, s.n)) || !str_is_utf8(s))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str raw = { (const char *)data, size }, out, name, value;
	struct uri_path path = { raw };
	struct uri_query query = { raw };
	struct arena a = { 0 };
	bool bad = false;

	if (uri_decode(&a, raw, false, &out))
		check_text(out);
	while (uri_path_next(&path, &out)) {
		if (!uri_decode_segment(&a, out, &value))
			continue;
		check_text(value);
		if (value.n > 0 && (memchr(value.p, '/', value.n) || memchr(value.p, '\\', value.n)))
			abort();
	}
	while (uri_query_next(&a, &query, &name, &value, &bad)) {
		check_text(name);
		check_text(value);
	}
	arena_fini(&a);
	return 0;
}
