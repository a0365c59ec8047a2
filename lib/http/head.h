/*
 * The head of a request (RFC 9112 sections 2 to 6), strictly: nothing is repaired and nothing is guessed. Pure functions
 * over bytes: any thread, no allocation.
 */
#ifndef CRM_HTTP_HEAD_H
#define CRM_HTTP_HEAD_H

#include "base/status.h"
#include "base/str.h"
#include "http/http.h"
#include "http/limits.h"

/* Progress of looking for the end of a head in bytes that arrive piece by piece. {0} at first. */
struct http_scan {
	size_t at;    /* bytes seen */
	size_t line;  /* where the current line starts */
	size_t lines; /* complete lines, without the empty one in front */
};

enum http_scan_result { HTTP_SCAN_MORE, HTTP_SCAN_DONE, HTTP_SCAN_BAD };

/*
 * in: everything received since the head began. DONE: *n is the length of the head with its empty line. BAD: *why and
 * *text. One empty line in front of the request line is allowed and is part of the head.
 */
enum http_scan_result http_head_scan(struct http_scan *s, struct str in, size_t *n, enum status *why, const char **text);

struct http_head {
	struct str method, target, path, query, host, authority;
	struct http_header headers[HTTP_HEADERS_MAX];
	size_t n_headers;
	int minor;               /* HTTP/1.minor */
	bool keep_alive;
	bool chunked;
	bool expect_continue;
	bool has_length;
	uint64_t length;         /* Content-Length */
	char host_lower[HTTP_HOST_MAX + 1];
};

/*
 * Parses a whole head that http_head_scan delimited; the slices point into in (host: into *h). Not OK: *text says why and
 * the members filled so far are valid, the rest is empty.
 */
enum status http_head_parse(struct str in, struct http_head *h, const char **text) MUST_CHECK;

/*
 * For a head that is refused before its end is known: fills method and target when the request line is complete and well
 * formed, so that the refusal can be written as the client expects it. The slices point into in.
 */
void http_head_request_line(struct str in, struct http_head *h);

/* RFC 9110 token. False when empty. */
bool http_is_token(struct str s);
/* No control characters but HTAB; bytes from 0x80 are allowed. */
bool http_is_field_value(struct str s);
/* "Name: value" without CRLF; value trimmed. NULL or what is wrong. */
const char *http_header_split(struct str line, struct http_header *out);

/* Name lookup over parsed headers, any case. *n (may be NULL) counts all of that name. */
struct str http_headers_get(const struct http_header *headers, size_t n_headers, const char *name, size_t *n);

#endif
