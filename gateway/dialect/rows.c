/* One page of an export: items as rows of a table (CSV, xlsx) or as elements of a JSON array. */
#include "base/wire.h"
#include "gateway/dialect/import.h"
#include "gateway/dialect/plan.h"
#include "gateway/dialect/xlsx.h"

/* Where cells go: CSV text, or a workbook. */
struct cells {
	struct buf *out;
	struct xlsx *sheet; /* NULL: CSV */
	bool any;           /* in this row */
};

/* How long the sign is that a spreadsheet takes for the beginning of a formula (OWASP: CSV injection); 0: none. With full-width forms. */
static size_t formula_sign(struct str s)
{
	static const struct str wide[] = { STR("\xef\xbc\x9d"), STR("\xef\xbc\x8b"), STR("\xef\xbc\x8d"), STR("\xef\xbc\xa0") };

	if (s.n && memchr("=+-@\t\r", s.p[0], 6))
		return 1;
	for (size_t i = 0; i < sizeof(wide) / sizeof(*wide); i++) {
		if (str_starts(s, wide[i]))
			return wide[i].n;
	}
	return 0;
}

static size_t spaces(struct str s)
{
	size_t n = 0;

	while (n < s.n && (s.p[n] == ' ' || s.p[n] == '\n' || (n + 1 < s.n && (unsigned char)s.p[n] == 0xc2 && (unsigned char)s.p[n + 1] == 0xa0)))
		n += s.p[n] == ' ' || s.p[n] == '\n' ? 1 : 2;
	return n;
}

/* A program that takes another sign for the separator begins a cell behind it, or behind a quote. */
static bool may_begin_cell(char before)
{
	return memchr(",;|\t\"'\r\n", before, 8) != NULL;
}

static void csv_text(struct buf *out, struct str s)
{
	bool quote = false, begins = true;

	for (size_t i = 0; i < s.n && !quote; i++)
		quote = memchr("\",;|\t\r\n", s.p[i], 7) != NULL;
	if (quote)
		buf_c(out, '"');
	for (size_t i = 0; i < s.n; i++) {
		struct str rest = { s.p + i, s.n - i };
		size_t skip = begins ? spaces(rest) : 0;

		if (begins && formula_sign((struct str){ rest.p + skip, rest.n - skip }))
			buf_c(out, '\'');
		if (s.p[i] == '"')
			buf_c(out, '"');
		buf_c(out, s.p[i]);
		begins = may_begin_cell(s.p[i]);
	}
	if (quote)
		buf_c(out, '"');
}

/* As formula_sign behind spaces, of what csv_text has written: behind each line there may be an apostrophe of its own. */
static bool guards_sign(struct str s)
{
	size_t n;

	for (n = spaces((struct str){ s.p, s.n < 2 ? s.n : 2 }); n; n = spaces((struct str){ s.p, s.n < 2 ? s.n : 2 })) {
		bool line = s.p[0] == '\n';

		n = (unsigned char)s.p[0] == 0xc2 ? 2 : 1;
		n += line && s.n > n && s.p[n] == '\'';
		s.p += n;
		s.n -= n;
	}
	return formula_sign(s) > 0;
}

struct str export_unescape(struct str cell, struct arena *a)
{
	char *out;
	size_t n = 0;
	bool begins = true;

	if (!cell.n || !memchr(cell.p, '\'', cell.n))
		return cell;
	out = arena_alloc(a, cell.n);
	for (size_t i = 0; i < cell.n; i++) {
		if (begins && cell.p[i] == '\'' && guards_sign((struct str){ cell.p + i + 1, cell.n - i - 1 }))
			i++;
		out[n++] = cell.p[i];
		begins = may_begin_cell(cell.p[i]);
	}
	return (struct str){ out, n };
}

static void cell_begin(struct cells *c)
{
	if (!c->sheet && c->any)
		buf_c(c->out, ',');
	c->any = true;
}

static void cell_text(struct cells *c, struct str s)
{
	if (c->sheet)
		xlsx_text(c->sheet, s);
	else
		csv_text(c->out, s);
}

static void cell_number(struct cells *c, struct str digits)
{
	if (c->sheet)
		xlsx_number(c->sheet, digits);
	else
		buf_str(c->out, digits);
}

static void row_end(struct cells *c)
{
	if (c->sheet)
		xlsx_row(c->sheet);
	else
		buf_z(c->out, "\r\n");
	c->any = false;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* Our own printer escapes controls only, so \u is below 0x80; of stored JSON other escapes stay as they are. */
static size_t put_escape(struct buf *b, struct str s)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *at = s.n > 1 ? memchr(from, s.p[1], 5) : NULL;

	if (at) {
		buf_c(b, to[at - from]);
		return 2;
	}
	if (s.n > 5 && s.p[1] == 'u' && s.p[2] == '0' && s.p[3] == '0' && hex_digit(s.p[4]) >= 0 && hex_digit(s.p[4]) < 8 && hex_digit(s.p[5]) >= 0) {
		buf_c(b, (char)(hex_digit(s.p[4]) << 4 | hex_digit(s.p[5])));
		return 6;
	}
	if (s.n > 1 && s.p[1] != 'u') {
		buf_c(b, s.p[1]);
		return 2;
	}
	buf_c(b, s.p[0]);
	return 1;
}

/* A JSON value as a cell: texts without their quotes, null as nothing, numbers as they are, the rest as JSON. */
static void put_value(struct cells *c, struct str json, struct buf *scratch)
{
	if (str_eq(json, STR("null"))) {
		if (c->sheet)
			xlsx_skip(c->sheet);
		return;
	}
	if (json.n && (json.p[0] == '-' || (json.p[0] >= '0' && json.p[0] <= '9'))) {
		cell_number(c, json);
		return;
	}
	if (json.n < 2 || json.p[0] != '"') {
		cell_text(c, json);
		return;
	}
	buf_clear(scratch);
	for (size_t i = 1; i + 1 < json.n;) {
		if (json.p[i] == '\\') {
			i += put_escape(scratch, (struct str){ json.p + i, json.n - 1 - i });
		} else {
			buf_c(scratch, json.p[i++]);
		}
	}
	cell_text(c, buf_view(scratch));
}

static bool is_column(const struct member_plan *m)
{
	return !m->wo && !m->detail;
}

static void table_head(const struct resource_plan *res, struct cells *c)
{
	for (size_t i = 0; i < res->n; i++) {
		if (!is_column(&res->members[i]))
			continue;
		cell_begin(c);
		cell_text(c, res->members[i].name);
	}
	row_end(c);
}

static bool table_row(const struct encode_run *run, const struct resource_plan *res, struct str wire, struct cells *c)
{
	struct buf value = { 0 }, scratch = { 0 };
	bool good = true;

	for (size_t i = 0; i < res->n && good; i++) {
		if (!is_column(&res->members[i]))
			continue;
		cell_begin(c);
		buf_clear(&value);
		good = encode_member(run, res, &res->members[i], wire, &value);
		put_value(c, buf_view(&value), &scratch);
	}
	row_end(c);
	buf_fini(&value);
	buf_fini(&scratch);
	return good;
}

static bool json_row(const struct encode_run *run, const struct resource_plan *res, struct str wire, bool first, struct buf *out)
{
	buf_z(out, first ? "\n" : ",\n");
	return encode_resource(run, res, wire, out);
}

bool export_rows(const struct encode_input *in, struct str reply, enum export_format format, bool first, struct buf *out, struct xlsx *sheet, struct exported *info)
{
	const struct route_impl *r = in->match->route->impl;
	struct encode_run run = { in, r->dialect, r->pub.rpc->service, true };
	struct cells cells = { .out = out, .sheet = sheet };
	struct wire_reader reader = wire_read(reply);
	struct wire_field w;
	bool good = true;

	*info = (struct exported){ .next_cursor = STR("") };
	if (first && format != EXPORT_JSON)
		table_head(r->out, &cells);
	else if (first)
		buf_c(out, '[');
	while (good && wire_next(&reader, &w)) {
		if (w.number == LIST_REPLY_NEXT_CURSOR && w.type == WIRE_BYTES)
			info->next_cursor = w.bytes;
		if (w.number != LIST_REPLY_ITEM || w.type != WIRE_BYTES)
			continue;
		good = format != EXPORT_JSON ? table_row(&run, r->out, w.bytes, &cells) : json_row(&run, r->out, w.bytes, first && info->rows == 0, out);
		info->rows++;
	}
	return good && !reader.bad;
}

void export_close(enum export_format format, struct buf *out)
{
	if (format == EXPORT_JSON)
		buf_z(out, "\n]\n");
}
