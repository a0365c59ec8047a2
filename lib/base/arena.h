/*
 * One region of memory per request: allocate, never free, reset at the end.
 *
 * Out of memory aborts (style.md 15), so no caller checks for NULL. What a client can make grow is
 * limited before it gets here; arena_alloc itself sets no limit. Not thread safe: one owner at a time.
 */
#ifndef CRM_BASE_ARENA_H
#define CRM_BASE_ARENA_H

#include <stdarg.h>

#include "base/str.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *head; /* the chunk being filled; older ones behind it */
	char *at, *end;
};

/* An arena of zero bytes ({0}) is ready to use; init is for clarity. */
void arena_init(struct arena *a);

/* 16-byte aligned, not zeroed. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_zalloc(struct arena *a, size_t n);
void *arena_dup(struct arena *a, const void *p, size_t n);

/* A NUL-terminated copy. */
char *arena_strdup(struct arena *a, struct str s);
struct str arena_str(struct arena *a, struct str s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets everything, keeps the first chunk for the next request. */
void arena_reset(struct arena *a);
/* Gives everything back. */
void arena_fini(struct arena *a);

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))

/* malloc family that aborts instead of returning NULL, for long-lived objects. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);

#endif
