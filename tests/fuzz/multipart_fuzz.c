/* multipart/form-data: whole and byte by byte give the same parts; callbacks come in order. First line: the Content-Type. */
#include <stdlib.h>

#include "base/buf.h"
#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct log {
	struct buf text;
	bool open;
};

static bool on_part(void *arg, const struct multipart_part *p)
{
	struct log *l = arg;

	if (l->open || !str_is_utf8(p->name) || !str_is_utf8(p->filename))
		abort();
	l->open = true;
	buf_c(&l->text, '<');
	buf_str(&l->text, p->name);
	buf_str(&l->text, p->filename);
	buf_str(&l->text, p->content_type);
	buf_c(&l->text, '>');
	return true;
}

static bool on_data(void *arg, struct str data)
{
	struct log *l = arg;

	if (!l->open || data.n == 0)
		abort();
	buf_str(&l->text, data);
	return true;
}

static bool on_end(void *arg)
{
	struct log *l = arg;

	if (!l->open)
		abort();
	l->open = false;
	buf_c(&l->text, '!');
	return true;
}

static int parse(struct str boundary, struct str body, size_t step, struct log *l)
{
	static struct multipart m;
	struct multipart_sink sink = { l, on_part, on_data, on_end };
	const char *text;

	multipart_init(&m, boundary, &sink);
	for (size_t at = 0; at < body.n; at += step)
		if (!multipart_feed(&m, (struct str){ body.p + at, body.n - at < step ? body.n - at : step }, &text))
			return -1;
	return multipart_is_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *lf = size ? memchr(data, '\n', size) : NULL;
	struct str type = { (const char *)data, lf ? (size_t)(lf - (const char *)data) : size };
	struct str boundary = STR("b"), body = { type.p + type.n, size - type.n };
	struct log whole = { 0 }, by_one = { 0 };

	if (!multipart_boundary(type, &boundary))
		boundary = STR("b");
	if (lf)
		body = (struct str){ lf + 1, body.n - 1 };
	if (parse(boundary, body, body.n ? body.n : 1, &whole) != parse(boundary, body, 1, &by_one))
		abort();
	if (!str_eq(buf_view(&whole.text), buf_view(&by_one.text)))
		abort();
	buf_fini(&whole.text);
	buf_fini(&by_one.text);
	return 0;
}
