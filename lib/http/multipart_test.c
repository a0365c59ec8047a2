/* multipart/form-data: what comes out, in whatever pieces it came in, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/multipart.h"

static struct buf seen;

static bool on_part(void *arg, const struct multipart_part *p)
{
	buf_printf(&seen, "<%.*s|%.*s|%s|%.*s>", STR_FMT(p->name), STR_FMT(p->filename), p->is_file ? "file" : "field",
	    STR_FMT(p->content_type));
	return true;
}

static bool on_data(void *arg, struct str data)
{
	buf_str(&seen, data);
	return true;
}

static bool on_end(void *arg)
{
	buf_z(&seen, "</>");
	return true;
}

static const struct multipart_sink sink = { NULL, on_part, on_data, on_end };

/* NULL and what was seen, or why it was refused; "cut off" when it is not complete. */
static const char *parse(const char *body, size_t n, size_t piece)
{
	static struct multipart m;
	const char *text;

	buf_clear(&seen);
	multipart_init(&m, STR("XyZ"), &sink);
	for (size_t at = 0; at < n; at += piece)
		if (!multipart_feed(&m, (struct str){ body + at, n - at < piece ? n - at : piece }, &text))
			return text;
	return multipart_is_done(&m) ? NULL : "cut off";
}

#define FIELD(name) "--XyZ\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static void gives(const char *body, const char *want)
{
	for (size_t piece = 1; piece <= strlen(body); piece++) {
		assert_null(parse(body, strlen(body), piece));
		assert_string_equal(buf_cstr(&seen), want);
	}
}

static void refused(const char *body)
{
	assert_non_null(parse(body, strlen(body), strlen(body)));
	assert_non_null(parse(body, strlen(body), 1));
}

static void test_fields_and_files_come_out_in_order(void **state)
{
	gives(FIELD("a") "one\r\n--XyZ\r\nContent-Type: text/csv\r\ncontent-disposition: form-data; name=f; filename=\"x \\\"y\\\".csv\"\r\n"
	      "\r\nl1\r\nl2\r\n\r\n--XyZ--\r\n", "<a||field|>one</><f|x \"y\".csv|file|text/csv>l1\r\nl2\r\n</>");
}

static void test_what_looks_like_a_boundary_is_data(void **state)
{
	gives(FIELD("a") "\r\r\n\r\n-\r\n--Xy\r\n--XyY\r\r\n--XyZ--", "<a||field|>\r\r\n\r\n-\r\n--Xy\r\n--XyY\r</>");
}

static void test_empty_values_and_no_parts(void **state)
{
	gives(FIELD("a") "\r\n--XyZ--", "<a||field|></>");
	gives("--XyZ--\r\nepilogue", "");
}

static void test_windows_path_keeps_its_backslashes(void **state)
{
	gives("--XyZ\r\nContent-Disposition: form-data; name=\"a\"; filename=\"C:\\dir\\f.txt\"\r\n\r\n\r\n--XyZ--",
	    "<a|C:\\dir\\f.txt|file|></>");
}

static void test_malformed_bodies_are_refused(void **state)
{
	refused("");
	refused("preamble\r\n--XyZ--");
	refused(FIELD("a") "one");
	refused(FIELD("a") "one\r\n--XyZ");
	refused(FIELD("a") "one\r\n--XyZ-x");
	refused(FIELD("a") "one\r\n--XyZ \r\n");
	refused("--XyZ\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: form-data; name=\"a\"\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Type: a/b\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: form-data\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\n\r\n--XyZ--");
	refused("--XyZ\r\nContent-Disposition: form-data; name=\"\xFF\"\r\n\r\n\r\n--XyZ--");
	refused(FIELD("a") "\r\n" "--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--XyZ--");
}

static void test_limits_hold(void **state)
{
	struct buf b = { 0 };

	for (int i = 0; i < MULTIPART_PARTS_MAX; i++)
		buf_z(&b, FIELD("a") "\r\n");
	buf_z(&b, "--XyZ--");
	assert_null(parse(b.p, b.n, b.n));
	b.n -= 2;
	buf_z(&b, "\r\n" FIELD("a") "\r\n--XyZ--" + 7);
	assert_non_null(parse(b.p, b.n, b.n));
	buf_clear(&b);
	buf_z(&b, "--XyZ\r\nX: ");
	for (int i = 0; i < MULTIPART_HEAD_MAX; i++)
		buf_c(&b, 'x');
	assert_string_equal(parse(b.p, b.n, b.n), "The headers of a part are too large");
	buf_fini(&b);
}

static void test_boundary_is_read_from_the_content_type(void **state)
{
	struct str b;

	assert_true(multipart_boundary(STR("multipart/form-data; boundary=abc"), &b));
	assert_true(str_eq(b, STR("abc")));
	assert_true(multipart_boundary(STR("Multipart/Form-Data; charset=utf-8; Boundary=\"a b:c\""), &b));
	assert_true(str_eq(b, STR("a b:c")));
	assert_false(multipart_boundary(STR("multipart/form-data"), &b));
	assert_false(multipart_boundary(STR("multipart/form-data; boundary="), &b));
	assert_false(multipart_boundary(STR("multipart/form-data; boundary=\"a "), &b));
	assert_false(multipart_boundary(STR("multipart/form-data; boundary=\"a \""), &b));
	assert_false(multipart_boundary(STR("multipart/form-data; boundary=a; boundary=b"), &b));
	assert_false(multipart_boundary(STR("multipart/form-datax; boundary=a"), &b));
	assert_false(multipart_boundary(STR("multipart/mixed; boundary=a"), &b));
	assert_false(multipart_boundary(
	    STR("multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901234567890"), &b));
}

static int teardown(void **state)
{
	buf_fini(&seen);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_and_files_come_out_in_order),
		cmocka_unit_test(test_what_looks_like_a_boundary_is_data),
		cmocka_unit_test(test_empty_values_and_no_parts),
		cmocka_unit_test(test_windows_path_keeps_its_backslashes),
		cmocka_unit_test(test_malformed_bodies_are_refused),
		cmocka_unit_test(test_limits_hold),
		cmocka_unit_test(test_boundary_is_read_from_the_content_type),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
