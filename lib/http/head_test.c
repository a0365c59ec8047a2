/* What the parsers give for good input, and the limits of chunked bodies. Bad heads are in tests/vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/chunked.h"
#include "http/head.h"

static struct http_head h;

static enum status parse(const char *z)
{
	const char *text;

	return http_head_parse(str_of(z), &h, &text);
}

static void is(struct str s, const char *want)
{
	if (!str_eq(s, str_of(want)))
		fail_msg("'%.*s' instead of '%s'", STR_FMT(s), want);
}

static void test_parts_of_the_request_are_found(void **state)
{
	size_t n;

	assert_int_equal(parse("PATCH /a%20b/c?x=1?y HTTP/1.1\r\nhOST: API.Example.com:8080\r\nX-A: \t one two \t\r\nx-a: 3\r\n\r\n"), STATUS_OK);
	is(h.method, "PATCH");
	is(h.target, "/a%20b/c?x=1?y");
	is(h.path, "/a%20b/c");
	is(h.query, "x=1?y");
	is(h.host, "api.example.com");
	is(h.authority, "API.Example.com:8080");
	is(http_headers_get(h.headers, h.n_headers, "x-A", &n), "one two");
	assert_int_equal(n, 2);
	assert_null(http_headers_get(h.headers, h.n_headers, "X", &n).p);
	assert_true(h.keep_alive);
	assert_false(h.chunked || h.has_length || h.expect_continue);
}

static void test_absolute_target_becomes_origin_form(void **state)
{
	assert_int_equal(parse("GET HTTPS://A.example:1/x?y HTTP/1.1\r\nHost: a.EXAMPLE:1\r\n\r\n"), STATUS_OK);
	is(h.target, "/x?y");
	is(h.path, "/x");
	is(h.query, "y");
	is(h.host, "a.example");
	assert_int_equal(parse("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"), STATUS_OK);
	is(h.target, "/");
	assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), STATUS_OK);
	is(h.path, "*");
	is(h.host, "[::1]");
}

static void test_keep_alive_follows_version_and_connection(void **state)
{
	static const struct {
		const char *head;
		bool keep;
	} rows[] = {
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false },
		{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo , CLOSE\t,bar\r\n\r\n", false },
		{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true },
		{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].head), STATUS_OK);
		assert_int_equal(h.keep_alive, rows[i].keep);
	}
}

static void test_framing_is_read(void **state)
{
	assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000042\r\nExpect: 100-Continue\r\n\r\n"), STATUS_OK);
	assert_true(h.has_length && h.length == 42 && h.expect_continue);
	assert_int_equal(parse("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n"), STATUS_OK);
	assert_true(h.chunked && !h.has_length);
	assert_int_equal(parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"), STATUS_OK);
	assert_false(h.expect_continue);
}

static enum http_chunked_result decode(const struct buf *in)
{
	static struct http_chunked c;
	struct str rest = buf_view(in), data;
	enum http_chunked_result r;
	const char *text;

	memset(&c, 0, sizeof(c));
	do
		r = http_chunked_next(&c, &rest, &data, &text);
	while (r == HTTP_CHUNKED_DATA);
	return r;
}

static void put_many(struct buf *b, char c, size_t n)
{
	while (n-- > 0)
		buf_c(b, c);
}

static void test_chunk_extensions_are_limited_each_and_together(void **state)
{
	struct buf b = { 0 };

	buf_z(&b, "1;");
	put_many(&b, 'x', HTTP_CHUNK_LINE_MAX);
	buf_z(&b, "\r\na\r\n0\r\n\r\n");
	assert_int_equal(decode(&b), HTTP_CHUNKED_DONE);
	buf_clear(&b);
	buf_z(&b, "1;");
	put_many(&b, 'x', HTTP_CHUNK_LINE_MAX + 1);
	assert_int_equal(decode(&b), HTTP_CHUNKED_BAD);
	buf_clear(&b);
	for (int i = 0; i < HTTP_CHUNK_EXTENSIONS_MAX / 200 + 1; i++) {
		buf_z(&b, "1;");
		put_many(&b, 'x', 200);
		buf_z(&b, "\r\na\r\n");
	}
	assert_int_equal(decode(&b), HTTP_CHUNKED_BAD);
	buf_fini(&b);
}

static void test_trailers_are_limited(void **state)
{
	struct buf b = { 0 };

	buf_z(&b, "0\r\n");
	for (int i = 0; i < HTTP_TRAILER_FIELDS_MAX; i++)
		buf_z(&b, "A: b\r\n");
	buf_z(&b, "\r\n");
	assert_int_equal(decode(&b), HTTP_CHUNKED_DONE);
	b.n -= 2;
	buf_z(&b, "A: b\r\n\r\n");
	assert_int_equal(decode(&b), HTTP_CHUNKED_BAD);
	buf_clear(&b);
	buf_z(&b, "0\r\nA: ");
	put_many(&b, 'x', HTTP_TRAILERS_MAX);
	assert_int_equal(decode(&b), HTTP_CHUNKED_BAD);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_of_the_request_are_found),
		cmocka_unit_test(test_absolute_target_becomes_origin_form),
		cmocka_unit_test(test_keep_alive_follows_version_and_connection),
		cmocka_unit_test(test_framing_is_read),
		cmocka_unit_test(test_chunk_extensions_are_limited_each_and_together),
		cmocka_unit_test(test_trailers_are_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
