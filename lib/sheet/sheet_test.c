/* Tables of others: separators, marks, quotes, limits; workbooks as libxlsxwriter writes them, by hand, and as bombs. */
#include "sheet/sheet.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <xlsxwriter.h>
#include <zip.h>

#include "base/arena.h"
#include "base/buf.h"

/* Rows as "1:a|b\n". */
static bool on_row(void *arg, uint64_t number, const struct sheet_cell *cells, size_t n)
{
	struct buf *out = arg;

	buf_printf(out, "%llu:", (unsigned long long)number);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s%.*s%s", i ? "|" : "", STR_FMT(cells[i].text), cells[i].number ? "#" : "");
	buf_c(out, '\n');
	return true;
}

static bool only_first(void *arg, uint64_t number, const struct sheet_cell *cells, size_t n)
{
	return on_row(arg, number, cells, n) && false;
}

/* In pieces of so many bytes; the rows, or "!why". */
static const char *csv_rows(struct str in, size_t piece, struct buf *out)
{
	struct sheet *s = sheet_csv(on_row, out);
	bool good = true;

	buf_clear(out);
	for (size_t i = 0; good && i < in.n; i += piece)
		good = sheet_feed(s, (struct str){ in.p + i, in.n - i < piece ? in.n - i : piece }, false);
	good = good && sheet_feed(s, (struct str){ "", 0 }, true);
	if (!good)
		buf_printf(out, "!%s", sheet_why(s));
	sheet_free(s);
	return buf_cstr(out);
}

static void csv_is_read_as_it_comes(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "a,b\r\n1,2\r\n", "1:a|b\n2:1|2\n" },
		{ "\xef\xbb\xbf" "a;b\n1,5;2", "1:a|b\n2:1,5|2\n" },
		{ "a\tb\n1\t2\n", "1:a|b\n2:1|2\n" },
		{ "\"x;y\",b\n\"1\n2\",\"say \"\"hi\"\"\"\n", "1:x;y|b\n2:1\n2|say \"hi\"\n" },
		{ "a,b\n\n,\n1,\n", "1:a|b\n3:1|\n" },
		{ "a\n\"open", "1:a\n!ends inside quotation marks" },
		{ "a,b\n1\"2,3\n", "1:a|b\n!has a quotation mark out of place in row 2" },
		{ "\xff\xfe" "a\0", "!is UTF-16; save it as UTF-8" },
		{ "", "" },
	};
	struct buf out = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (size_t piece = 1; piece < 40; piece += 7)
			assert_string_equal(csv_rows(str_of(cases[i].in), piece, &out), cases[i].out);
	buf_fini(&out);
}

static void csv_has_limits(void **state)
{
	struct buf in = { 0 }, out = { 0 };
	struct sheet *s;

	for (int i = 0; i <= SHEET_COLUMNS_MAX; i++)
		buf_z(&in, "x,");
	buf_z(&in, "x\n");
	assert_non_null(strstr(csv_rows(buf_view(&in), 100, &out), "!has more than 200 columns"));
	buf_clear(&in);
	buf_z(&in, "a\n\"");
	for (int i = 0; i < 10000; i++)
		buf_z(&in, "0123456789");
	assert_non_null(strstr(csv_rows(buf_view(&in), 1000, &out), "!has more than 65536 bytes in a cell of row 2"));
	buf_clear(&in);
	for (int i = 0; i < SHEET_ROWS_MAX + 2; i++)
		buf_z(&in, "1\n");
	assert_non_null(strstr(csv_rows(buf_view(&in), 65536, &out), "!has more than 500000 rows"));
	buf_clear(&out);
	s = sheet_csv(only_first, &out);
	assert_false(sheet_feed(s, STR("a\nb\n"), true));
	assert_null(sheet_why(s));
	assert_string_equal(buf_cstr(&out), "1:a\n");
	sheet_free(s);
	buf_fini(&in);
	buf_fini(&out);
}

/* -- workbooks */

static const char *book_rows(int fd, struct buf *out)
{
	struct sheet *s = sheet_xlsx(fd, on_row, out);
	enum sheet_turn t;

	buf_clear(out);
	do
		t = sheet_read(s);
	while (t == SHEET_MORE);
	if (t == SHEET_BAD)
		buf_printf(out, "!%s", sheet_why(s));
	sheet_free(s);
	return buf_cstr(out);
}

static int file_open(char path[40])
{
	snprintf(path, 40, "/tmp/crm-sheet-XXXXXX");
	return mkstemp(path);
}

static void a_workbook_of_a_library_is_read(void **state)
{
	char path[40];
	int fd = file_open(path);
	lxw_workbook *book = workbook_new(path);
	lxw_worksheet *sheet = workbook_add_worksheet(book, "One"), *other = workbook_add_worksheet(book, "Two");
	lxw_datetime day = { 2024, 2, 29, 12, 0, 0 };
	lxw_format *format = workbook_add_format(book);
	struct buf out = { 0 };
	struct sheet *s;
	int64_t us;

	format_set_num_format(format, "yyyy-mm-dd hh:mm");
	worksheet_write_string(sheet, 0, 0, "name", NULL);
	worksheet_write_string(sheet, 0, 2, "when", NULL);
	worksheet_write_string(sheet, 2, 0, "Ann & <Lee>", NULL);
	worksheet_write_datetime(sheet, 2, 2, &day, format);
	worksheet_write_number(sheet, 3, 0, 0.1 + 0.2, NULL);
	worksheet_write_number(sheet, 3, 1, 15550123456.0, NULL);
	worksheet_write_boolean(sheet, 3, 2, 1, NULL);
	worksheet_write_formula_num(sheet, 4, 0, "=1+1", NULL, 2);
	worksheet_write_string(other, 0, 0, "not this one", NULL);
	assert_int_equal(workbook_close(book), LXW_NO_ERROR);
	assert_string_equal(book_rows(fd, &out), "1:name||when\n3:Ann & <Lee>||45351.5#\n4:0.3#|15550123456#|true\n5:2#\n");
	s = sheet_csv(on_row, &out);
	assert_true(sheet_days(s, STR("45351.5"), &us));
	assert_true(us == INT64_C(1709208000000000)); /* 2024-02-29T12:00:00Z */
	assert_false(sheet_days(s, STR("1e9"), &us));
	sheet_free(s);
	unlink(path);
	buf_fini(&out);
}

#define BOOK "<workbook xmlns:r='x'><sheets><sheet r:id='r1'/></sheets></workbook>"
#define RELATIONS "<Relationships><Relationship Id='r1' Type='x/worksheet' Target='/xl/s.xml'/><Relationship Id='r2' Type='x/sharedStrings' Target='t.xml'/></Relationships>"

/* A workbook with this sheet and these shared texts. */
static const char *made(const char *sheet, size_t n, const char *texts, struct buf *out)
{
	char path[40];
	int fd = file_open(path), why;
	zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &why);
	const struct {
		const char *name, *text;
		size_t n;
	} parts[] = { { "xl/workbook.xml", BOOK, strlen(BOOK) }, { "xl/_rels/workbook.xml.rels", RELATIONS, strlen(RELATIONS) }, { "xl/s.xml", sheet, n }, { "xl/t.xml", texts, strlen(texts) } };

	for (size_t i = 0; i < 4; i++)
		assert_true(zip_file_add(z, parts[i].name, zip_source_buffer(z, parts[i].text, parts[i].n, 0), ZIP_FL_OVERWRITE) >= 0);
	assert_int_equal(zip_close(z), 0);
	close(fd);
	fd = open(path, O_RDONLY);
	book_rows(fd, out);
	unlink(path);
	return buf_cstr(out);
}

static const char *sheet_of(const char *cells, struct buf *out)
{
	return made(cells, strlen(cells), "<sst><si><t>zero</t></si><si><r><t>o</t></r><r><t>ne</t></r><rPh><t>no</t></rPh></si></sst>", out);
}

static void shared_texts_and_odd_cells(void **state)
{
	struct buf out = { 0 };

	assert_string_equal(sheet_of("<worksheet><sheetData><row><c t='s'><v>1</v></c><c t='s'><v>9</v></c><c t='s'><v>0</v></c></row><row r='7'><c r='B7' t='inlineStr'><is><t>x</t></is></c><c t='e'><v>#N/A</v></c></row></sheetData></worksheet>", &out),
	    "1:one||zero\n7:|x|\n");
	assert_string_equal(sheet_of("<!DOCTYPE x [<!ENTITY a 'b'>]><worksheet/>", &out), "!has a document type in its XML");
	assert_non_null(strstr(sheet_of("<worksheet><row>", &out), "!is no xlsx workbook"));
	assert_non_null(strstr(sheet_of("<w><row><c r='ZZZZ1'><v>1</v></c></row></w>", &out), "!has more than 200 columns"));
	buf_fini(&out);
}

static void bombs_are_refused(void **state)
{
	struct buf big = { 0 }, out = { 0 };
	char path[40];
	int fd = file_open(path);

	while (big.n < 20u << 20)
		buf_z(&big, "<row><c><v>1</v></c></row>");
	assert_non_null(strstr(made(big.p, big.n, "<sst/>", &out), "!is packed more than 100 to 1"));
	assert_true(write(fd, "PK\3\4 not really", 15) == 15);
	assert_string_equal(book_rows(fd, &out), "!is no xlsx workbook");
	unlink(path);
	buf_fini(&big);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(csv_is_read_as_it_comes),
		cmocka_unit_test(csv_has_limits),
		cmocka_unit_test(a_workbook_of_a_library_is_read),
		cmocka_unit_test(shared_texts_and_odd_cells),
		cmocka_unit_test(bombs_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
