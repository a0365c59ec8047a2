/*
 * Strict JSON (RFC 8259) into a tree in an arena. Numbers keep their text. Duplicate members, invalid UTF-8, lone
 * surrogates, \u0000, nesting over JSON_MAX_DEPTH, more than JSON_MAX_NODES values and more than JSON_MAX_MEMBERS members
 * of one object are errors.
 */
#ifndef CRM_JSON_JSON_H
#define CRM_JSON_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

#define JSON_MAX_DEPTH 32
#define JSON_MAX_NODES 200000
#define JSON_MAX_MEMBERS 2000

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	struct str text;         /* NUMBER: as written; STRING: unescaped */
	struct str key;          /* when it is a member of an object: unescaped */
	struct json *child, *next; /* ARRAY, OBJECT: first element; sibling */
	size_t n;                /* ARRAY, OBJECT: number of children */
	struct str raw;          /* the bytes of this value in the input */
};

struct json_error {
	size_t offset; /* bytes from the start */
	const char *text;
};

/* NULL: *err says why and where. */
struct json *json_parse(struct arena *a, struct str in, struct json_error *err);
/* Member by name; NULL when absent. ci: ASCII case is ignored (an exact match wins). */
struct json *json_get(const struct json *object, struct str key, bool ci);
/* Appends the value without white space; numbers as they were written. */
void json_print(struct buf *b, const struct json *v);

#endif
