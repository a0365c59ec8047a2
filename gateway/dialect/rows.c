/* One page of an export: items as rows of CSV or as elements of a JSON array. */
#include "base/wire.h"
#include "gateway/dialect/plan.h"

/* A spreadsheet takes these for the beginning of a formula (OWASP: CSV injection). */
static bool is_formula(struct str s)
{
	return s.n && memchr("=+-@\t\r", s.p[0], 6) != NULL;
}

static void put_cell(struct buf *out, struct str s)
{
	bool quote = false;

	for (size_t i = 0; i < s.n && !quote; i++)
		quote = s.p[i] == '"' || s.p[i] == ',' || s.p[i] == '\n' || s.p[i] == '\r';
	if (quote)
		buf_c(out, '"');
	if (is_formula(s))
		buf_c(out, '\'');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"')
			buf_c(out, '"');
		buf_c(out, s.p[i]);
	}
	if (quote)
		buf_c(out, '"');
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
static void put_value(struct buf *out, struct str json, struct buf *scratch)
{
	if (str_eq(json, STR("null")))
		return;
	if (json.n && (json.p[0] == '-' || (json.p[0] >= '0' && json.p[0] <= '9'))) {
		buf_str(out, json);
		return;
	}
	if (json.n < 2 || json.p[0] != '"') {
		put_cell(out, json);
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
	put_cell(out, buf_view(scratch));
}

static void csv_head(const struct resource_plan *res, struct buf *out)
{
	bool any = false;

	for (size_t i = 0; i < res->n; i++) {
		if (res->members[i].wo)
			continue;
		if (any)
			buf_c(out, ',');
		any = true;
		put_cell(out, res->members[i].name);
	}
	buf_z(out, "\r\n");
}

static bool csv_row(const struct encode_run *run, const struct resource_plan *res, struct str wire, struct buf *out)
{
	struct buf value = { 0 }, scratch = { 0 };
	bool good = true, any = false;

	for (size_t i = 0; i < res->n && good; i++) {
		if (res->members[i].wo)
			continue;
		if (any)
			buf_c(out, ',');
		any = true;
		buf_clear(&value);
		good = encode_member(run, res, &res->members[i], wire, &value);
		put_value(out, buf_view(&value), &scratch);
	}
	buf_z(out, "\r\n");
	buf_fini(&value);
	buf_fini(&scratch);
	return good;
}

static bool json_row(const struct encode_run *run, const struct resource_plan *res, struct str wire, bool first, struct buf *out)
{
	buf_z(out, first ? "\n" : ",\n");
	return encode_resource(run, res, wire, out);
}

bool export_rows(const struct encode_input *in, struct str reply, enum export_format format, bool first, struct buf *out, struct exported *info)
{
	const struct route_impl *r = in->match->route->impl;
	struct encode_run run = { in, r->dialect, r->pub.rpc->service, false };
	struct wire_reader reader = wire_read(reply);
	struct wire_field w;
	bool good = true;

	*info = (struct exported){ .next_cursor = STR("") };
	if (first && format == EXPORT_CSV)
		csv_head(r->out, out);
	else if (first)
		buf_c(out, '[');
	while (good && wire_next(&reader, &w)) {
		if (w.number == LIST_REPLY_NEXT_CURSOR && w.type == WIRE_BYTES)
			info->next_cursor = w.bytes;
		if (w.number != LIST_REPLY_ITEM || w.type != WIRE_BYTES)
			continue;
		good = format == EXPORT_CSV ? csv_row(&run, r->out, w.bytes, out) : json_row(&run, r->out, w.bytes, first && info->rows == 0, out);
		info->rows++;
	}
	return good && !reader.bad;
}

void export_close(enum export_format format, struct buf *out)
{
	if (format == EXPORT_JSON)
		buf_z(out, "\n]\n");
}
