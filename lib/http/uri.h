/*
 * Paths and query strings: split first, decode each piece exactly once, refuse what has no single meaning.
 *
 * Results point into the raw text when nothing had to be decoded, else into the arena. Pure: any thread.
 */
#ifndef CRM_HTTP_URI_H
#define CRM_HTTP_URI_H

#include "base/arena.h"
#include "base/str.h"

/*
 * Decodes %XX (and '+' to a space when plus_is_space). False: a bad or cut-off escape, a NUL, or bytes that are not UTF-8.
 * Slashes may come out of it: use uri_decode_segment for a path.
 */
bool uri_decode(struct arena *a, struct str raw, bool plus_is_space, struct str *out);

/* As uri_decode without plus, and refuses an encoded slash or backslash, control characters, "." and "..". */
bool uri_decode_segment(struct arena *a, struct str raw, struct str *out);

/* The raw segments of a path that starts with '/': "/a//b/" gives "a", "", "b", "". For each: struct uri_path p = { path }. */
struct uri_path {
	struct str rest; /* begins with '/' or is empty */
};
bool uri_path_next(struct uri_path *p, struct str *segment);

/* Pairs of a query string or an application/x-www-form-urlencoded body, decoded; empty pieces ("a=1&&b=2") are skipped. */
struct uri_query {
	struct str rest;
};
/* False at the end; also with *bad set when a pair cannot be decoded (then stop). "name" without '=' has an empty value. */
bool uri_query_next(struct arena *a, struct uri_query *q, struct str *name, struct str *value, bool *bad);

#endif
