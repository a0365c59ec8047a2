/*
 * The chunked transfer coding (RFC 9112 section 7.1), strictly and incrementally. Extensions and trailers are checked,
 * limited and dropped. Pure: any thread, no allocation.
 */
#ifndef CRM_HTTP_CHUNKED_H
#define CRM_HTTP_CHUNKED_H

#include "base/str.h"
#include "http/limits.h"

struct http_chunked { /* {0} at first */
	int state;
	uint64_t left;      /* bytes of the current chunk still to come, or its size while being read */
	unsigned digits;
	size_t line;        /* bytes of the current line */
	size_t extensions;  /* bytes of all extensions so far */
	size_t trailer_bytes, trailer_fields;
	char trailer[1024]; /* the trailer line being read; a longer one is refused */
};

enum http_chunked_result { HTTP_CHUNKED_MORE, HTTP_CHUNKED_DATA, HTTP_CHUNKED_DONE, HTTP_CHUNKED_BAD };

/*
 * Takes bytes off the front of *in. DATA: *data is a piece of the body, call again. MORE: *in is used up. DONE: the body is
 * complete, *in holds what follows it. BAD: never recover, *text says why.
 */
enum http_chunked_result http_chunked_next(struct http_chunked *c, struct str *in, struct str *data, const char **text);

#endif
