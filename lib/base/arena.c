/* Region allocator: a list of chunks, the newest being filled. */
#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_FIRST 4096
#define ALIGNMENT 16

struct arena_chunk {
	struct arena_chunk *older;
	size_t size;
	_Alignas(ALIGNMENT) char data[];
};

static void die_of_memory(void)
{
	fputs("out of memory\n", stderr);
	abort();
}

void *xmalloc(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		die_of_memory();
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		die_of_memory();
	return p;
}

void *xrealloc(void *old, size_t n)
{
	void *p = realloc(old, n ? n : 1);

	if (!p)
		die_of_memory();
	return p;
}

char *xstrndup(const char *s, size_t n)
{
	char *p = xmalloc(n + 1);

	memcpy(p, s, n);
	p[n] = 0;
	return p;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

void arena_init(struct arena *a)
{
	*a = (struct arena){ 0 };
}

static void arena_grow(struct arena *a, size_t n)
{
	size_t size = a->head ? a->head->size * 2 : CHUNK_FIRST;
	struct arena_chunk *c;

	if (size > 1 << 20)
		size = 1 << 20;
	if (size < n)
		size = n;
	c = xmalloc(sizeof(*c) + size);
	c->older = a->head;
	c->size = size;
	a->head = c;
	a->at = c->data;
	a->end = c->data + size;
}

void *arena_alloc(struct arena *a, size_t n)
{
	void *p;

	if (n > SIZE_MAX / 2)
		die_of_memory();
	n = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if ((size_t)(a->end - a->at) < n)
		arena_grow(a, n);
	p = a->at;
	a->at += n;
	return p;
}

void *arena_zalloc(struct arena *a, size_t n)
{
	return memset(arena_alloc(a, n), 0, n);
}

void *arena_dup(struct arena *a, const void *p, size_t n)
{
	void *copy = arena_alloc(a, n);

	if (n)
		memcpy(copy, p, n);
	return copy;
}

char *arena_strdup(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = 0;
	return p;
}

struct str arena_str(struct arena *a, struct str s)
{
	return (struct str){ arena_strdup(a, s), s.n };
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	p = arena_alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *c = a->head;

	while (c && c->older) {
		struct arena_chunk *older = c->older;

		free(c);
		c = older;
	}
	a->head = c;
	a->at = c ? c->data : NULL;
	a->end = c ? c->data + c->size : NULL;
}

void arena_fini(struct arena *a)
{
	arena_reset(a);
	free(a->head);
	*a = (struct arena){ 0 };
}
