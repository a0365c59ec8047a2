/* Request heads: any cut gives the same answer, and what is accepted has exactly the framing a second look finds. */
#include <stdlib.h>

#include "http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static enum http_scan_result scan_in_steps(struct str in, size_t step, size_t *n)
{
	struct http_scan s = { 0 };
	enum http_scan_result r = HTTP_SCAN_MORE;
	enum status why;
	const char *text;

	for (size_t have = step; r == HTTP_SCAN_MORE; have += step) {
		if (have > in.n)
			have = in.n;
		r = http_head_scan(&s, (struct str){ in.p, have }, n, &why, &text);
		if (have == in.n)
			break;
	}
	return r;
}

static void check_accepted(const struct http_head *h)
{
	size_t lengths, encodings, hosts;

	http_headers_get(h->headers, h->n_headers, "Content-Length", &lengths);
	http_headers_get(h->headers, h->n_headers, "transfer-encoding", &encodings);
	http_headers_get(h->headers, h->n_headers, "HOST", &hosts);
	check(lengths + encodings <= 1 && hosts <= 1);
	check(h->chunked == (encodings == 1) && h->has_length == (lengths == 1));
	check(h->minor == 0 || hosts == 1);
	check(!(h->chunked && h->minor == 0));
	check(http_is_token(h->method) && h->path.n > 0 && (h->path.p[0] == '/' || h->path.p[0] == '*'));
	check(h->host.n == strlen(h->host_lower) || h->host.n == 0);
	for (size_t i = 0; i < h->n_headers; i++)
		check(http_is_token(h->headers[i].name) && http_is_field_value(h->headers[i].value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_head h;
	struct str in = { (const char *)data, size };
	size_t n = 0, n_by_one = 0;
	enum http_scan_result whole = scan_in_steps(in, size ? size : 1, &n), by_one = scan_in_steps(in, 1, &n_by_one);
	const char *text;

	check(whole == by_one || (whole != HTTP_SCAN_DONE && by_one != HTTP_SCAN_DONE));
	check(n == n_by_one);
	if (http_head_parse(in, &h, &text) == STATUS_OK)
		check(whole == HTTP_SCAN_DONE || size > HTTP_HEAD_MAX || n == 0);
	if (whole != HTTP_SCAN_DONE)
		return 0;
	if (http_head_parse((struct str){ in.p, n }, &h, &text) == STATUS_OK)
		check_accepted(&h);
	else
		check(text != NULL);
	return 0;
}
