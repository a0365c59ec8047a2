/* Chunked bodies: whole and byte by byte give the same body and the same end. */
#include <stdlib.h>

#include "base/buf.h"
#include "http/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	enum http_chunked_result result;
	struct buf body;
	size_t used;
};

static void decode(const uint8_t *data, size_t size, size_t step, struct outcome *o)
{
	struct http_chunked c;
	const char *text;

	memset(&c, 0, sizeof(c));
	o->result = HTTP_CHUNKED_MORE;
	for (size_t at = 0; at < size && (o->result == HTTP_CHUNKED_MORE || o->result == HTTP_CHUNKED_DATA); at += step) {
		struct str in = { (const char *)data + at, size - at < step ? size - at : step }, piece;

		while ((o->result = http_chunked_next(&c, &in, &piece, &text)) == HTTP_CHUNKED_DATA)
			buf_str(&o->body, piece);
		if (o->result == HTTP_CHUNKED_DONE)
			o->used = (size_t)(in.p - (const char *)data);
		if (o->result == HTTP_CHUNKED_BAD && !text)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole = { 0 }, by_one = { 0 };

	decode(data, size, size ? size : 1, &whole);
	decode(data, size, 1, &by_one);
	if (whole.result != by_one.result || whole.used != by_one.used || !str_eq(buf_view(&whole.body), buf_view(&by_one.body)))
		abort();
	buf_fini(&whole.body);
	buf_fini(&by_one.body);
	return 0;
}
