/*
 * A growing output buffer. Always room for one NUL behind the data (buf_cstr).
 * Growth is amortised; memory comes from the heap and is kept across buf_clear for reuse.
 * Not thread safe.
 */
#ifndef CRM_BASE_BUF_H
#define CRM_BASE_BUF_H

#include <stdarg.h>

#include "base/str.h"

struct buf {
	char *p;
	size_t n, cap;
};

void buf_grow(struct buf *b, size_t more); /* slow path of buf_need */

static inline void buf_need(struct buf *b, size_t more)
{
	if (b->cap - b->n <= more)
		buf_grow(b, more);
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
	buf_need(b, n);
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void buf_str(struct buf *b, struct str s)
{
	buf_put(b, s.p, s.n);
}

static inline void buf_z(struct buf *b, const char *z)
{
	buf_put(b, z, strlen(z));
}

static inline void buf_c(struct buf *b, char c)
{
	buf_need(b, 1);
	b->p[b->n++] = c;
}

void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
void buf_i64(struct buf *b, int64_t v);
void buf_u64(struct buf *b, uint64_t v);

/* Appends s as a JSON string with quotes. Bytes must be UTF-8; controls are escaped. RFC 8259. */
void buf_json_str(struct buf *b, struct str s);

/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);

static inline void buf_clear(struct buf *b)
{
	b->n = 0;
}

static inline struct str buf_view(const struct buf *b)
{
	return (struct str){ b->p, b->n };
}

/* NUL-terminated view; valid until the next change. */
const char *buf_cstr(struct buf *b);
void buf_fini(struct buf *b);

#endif
