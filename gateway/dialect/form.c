/* application/x-www-form-urlencoded: query strings and form bodies. */
#include "gateway/dialect/plan.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool percent_decode(struct arena *a, struct str raw, bool plus, struct str *out)
{
	char *at, *start;

	if (!raw.n || (!memchr(raw.p, '%', raw.n) && !(plus && memchr(raw.p, '+', raw.n)))) {
		*out = raw;
		return raw.n == 0 || (!memchr(raw.p, 0, raw.n) && str_is_utf8(raw));
	}
	start = at = arena_alloc(a, raw.n);
	for (size_t i = 0; i < raw.n; i++) {
		char c = raw.p[i];

		if (c == '%') {
			if (raw.n - i < 3 || hex(raw.p[i + 1]) < 0 || hex(raw.p[i + 2]) < 0)
				return false;
			c = (char)(hex(raw.p[i + 1]) << 4 | hex(raw.p[i + 2]));
			i += 2;
		} else if (plus && c == '+') {
			c = ' ';
		}
		if (c == 0)
			return false;
		*at++ = c;
	}
	*out = (struct str){ start, (size_t)(at - start) };
	return str_is_utf8(*out);
}

/* `tags[]=a&tags[]=b` and `tags[0]=a&tags[1]=b` are how PHP, Rails and query builders write a list. */
static size_t brackets(struct str name)
{
	size_t n = name.n;

	if (n < 3 || name.p[n - 1] != ']')
		return 0;
	for (n--; n > 1 && name.p[n - 1] >= '0' && name.p[n - 1] <= '9'; n--)
		;
	return n > 1 && name.p[n - 1] == '[' ? name.n - n + 1 : 0;
}

static void pair_read(struct arena *a, struct str raw, struct pair *p)
{
	const char *eq = memchr(raw.p, '=', raw.n);
	struct str name = { raw.p, eq ? (size_t)(eq - raw.p) : raw.n };
	struct str value = { eq ? eq + 1 : "", eq ? (size_t)(raw.p + raw.n - eq - 1) : 0 };

	p->raw = raw;
	if (!percent_decode(a, name, true, &p->name)) {
		p->name = name;
		p->bad = true;
	}
	if (!percent_decode(a, value, true, &p->value)) {
		p->value = value;
		p->bad = true;
	}
	p->name.n -= brackets(p->name);
}

struct pair *form_parse(struct arena *a, struct str text, size_t *n)
{
	size_t most = 1;
	struct pair *pairs;

	for (size_t i = 0; i < text.n; i++)
		most += text.p[i] == '&';
	*n = 0;
	if (most > FORM_MAX_PAIRS)
		return NULL;
	pairs = arena_zalloc(a, most * sizeof(*pairs));
	while (text.n > 0) {
		const char *amp = memchr(text.p, '&', text.n);
		size_t len = amp ? (size_t)(amp - text.p) : text.n;

		if (len > 0)
			pair_read(a, (struct str){ text.p, len }, &pairs[(*n)++]);
		len += amp ? 1 : 0;
		text.p += len;
		text.n -= len;
	}
	return pairs;
}
