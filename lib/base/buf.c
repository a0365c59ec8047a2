/* Growing output buffer with the few formats that the hot path prints itself. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

void buf_grow(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;

	while (cap - b->n <= more)
		cap *= 2;
	b->p = xrealloc(b->p, cap);
	b->cap = cap;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n <= 0)
		return;
	buf_need(b, (size_t)n + 1);
	vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
	b->n += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_u64(struct buf *b, uint64_t v)
{
	char digits[20];
	int i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	buf_put(b, digits + i, sizeof(digits) - (size_t)i);
}

void buf_i64(struct buf *b, int64_t v)
{
	if (v < 0)
		buf_c(b, '-');
	buf_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

/* Skips what needs no escape, eight bytes at a time: a word with a control, a quote or a backslash has a bit in found. */
static const char *json_plain(const char *p, const char *end)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;

	while (end - p >= 8) {
		uint64_t x, quote, slash, found;

		memcpy(&x, p, sizeof(x));
		quote = x ^ ones * '"';
		slash = x ^ ones * '\\';
		found = ((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
		if (found & high)
			break;
		p += 8;
	}
	while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\')
		p++;
	return p;
}

void buf_json_str(struct buf *b, struct str s)
{
	static const char hex[] = "0123456789abcdef";
	const char *p = s.p ? s.p : "", *end = p + s.n;

	buf_c(b, '"');
	while (p < end) {
		const char *run = p;

		p = json_plain(p, end);
		buf_put(b, run, (size_t)(p - run));
		if (p == end)
			break;
		switch (*p) {
		case '"': buf_put(b, "\\\"", 2); break;
		case '\\': buf_put(b, "\\\\", 2); break;
		case '\n': buf_put(b, "\\n", 2); break;
		case '\r': buf_put(b, "\\r", 2); break;
		case '\t': buf_put(b, "\\t", 2); break;
		default: {
			char u[6] = { '\\', 'u', '0', '0', hex[(*p >> 4) & 15], hex[*p & 15] };

			buf_put(b, u, sizeof(u));
		}
		}
		p++;
	}
	buf_c(b, '"');
}

void buf_consume(struct buf *b, size_t n)
{
	if (n >= b->n) {
		b->n = 0;
		return;
	}
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

const char *buf_cstr(struct buf *b)
{
	buf_need(b, 1);
	b->p[b->n] = 0;
	return b->p;
}

void buf_fini(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ 0 };
}
