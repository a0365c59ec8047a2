/* Percent-decoding, path segments and query pairs. */
#include "http/uri.h"

static int hex_value(char c)
{
	unsigned char b = (unsigned char)c;

	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static bool needs_decoding(struct str raw, bool plus_is_space)
{
	return memchr(raw.p, '%', raw.n) || (plus_is_space && memchr(raw.p, '+', raw.n));
}

static bool is_text(struct str s)
{
	return !memchr(s.p, 0, s.n) && str_is_utf8(s);
}

bool uri_decode(struct arena *a, struct str raw, bool plus_is_space, struct str *out)
{
	char *to;
	size_t n = 0;

	*out = raw;
	if (raw.n == 0)
		return true;
	if (!needs_decoding(raw, plus_is_space))
		return is_text(raw);
	to = arena_alloc(a, raw.n + 1);
	for (size_t i = 0; i < raw.n; i++) {
		int high, low;

		if (raw.p[i] != '%') {
			to[n++] = plus_is_space && raw.p[i] == '+' ? ' ' : raw.p[i];
			continue;
		}
		if (raw.n - i < 3)
			return false;
		high = hex_value(raw.p[i + 1]);
		low = hex_value(raw.p[i + 2]);
		if (high < 0 || low < 0)
			return false;
		to[n++] = (char)(high << 4 | low);
		i += 2;
	}
	to[n] = 0;
	*out = (struct str){ to, n };
	return is_text(*out);
}

bool uri_decode_segment(struct arena *a, struct str raw, struct str *out)
{
	if (!uri_decode(a, raw, false, out))
		return false;
	for (size_t i = 0; i < out->n; i++) {
		unsigned char b = (unsigned char)out->p[i];

		if (b < 0x20 || b == 0x7F || b == '/' || b == '\\')
			return false;
	}
	return !str_eq(*out, STR(".")) && !str_eq(*out, STR(".."));
}

bool uri_path_next(struct uri_path *p, struct str *segment)
{
	size_t n = 1;

	if (p->rest.n == 0 || p->rest.p[0] != '/')
		return false;
	while (n < p->rest.n && p->rest.p[n] != '/')
		n++;
	*segment = (struct str){ p->rest.p + 1, n - 1 };
	p->rest = (struct str){ p->rest.p + n, p->rest.n - n };
	return true;
}

/* The next non-empty piece between ampersands. */
static struct str next_piece(struct uri_query *q)
{
	while (q->rest.n > 0) {
		const char *amp = memchr(q->rest.p, '&', q->rest.n);
		size_t n = amp ? (size_t)(amp - q->rest.p) : q->rest.n;
		struct str piece = { q->rest.p, n };
		size_t skip = amp ? n + 1 : n;

		q->rest = (struct str){ q->rest.p + skip, q->rest.n - skip };
		if (n > 0)
			return piece;
	}
	return (struct str){ 0 };
}

bool uri_query_next(struct arena *a, struct uri_query *q, struct str *name, struct str *value, bool *bad)
{
	struct str piece = next_piece(q), raw_value = STR("");
	const char *equals;

	*bad = false;
	if (piece.n == 0)
		return false;
	equals = memchr(piece.p, '=', piece.n);
	if (equals) {
		raw_value = (struct str){ equals + 1, piece.n - (size_t)(equals + 1 - piece.p) };
		piece.n = (size_t)(equals - piece.p);
	}
	if (uri_decode(a, piece, true, name) && uri_decode(a, raw_value, true, value))
		return true;
	*bad = true;
	return false;
}
