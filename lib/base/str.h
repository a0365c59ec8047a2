/* A slice of bytes that somebody else owns: pointer and length, not terminated. */
#ifndef CRM_BASE_STR_H
#define CRM_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
#define STR_FMT(s) (int)(s).n, (s).p /* for "%.*s" */

static inline struct str str_of(const char *z)
{
	return (struct str){ z, z ? strlen(z) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case-insensitive. */
static inline bool str_ieq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

/* Strict decimal: digits only (one leading '-' if negative is allowed), no overflow, nothing after. */
bool str_to_i64(struct str s, int64_t *out);
bool str_to_u64(struct str s, uint64_t *out);

/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). RFC 3629. */
bool str_is_utf8(struct str s);

/* Compares in time that depends on the length only. For secrets. */
bool str_eq_secret(struct str a, struct str b);

#endif
