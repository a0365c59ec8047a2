/* CSV by libcsv. */
#include <csv.h>
#include <stdlib.h>

#include "sheet/internal.h"

#define PIECE (16u << 10)       /* how far a cell may grow behind its limit before somebody looks */
#define FIRST_LINE (64u << 10)  /* within which the separator is looked for */

struct csv {
	struct csv_parser p;
	struct buf first; /* what came before the separator was known */
	bool begun;
};

struct sheet *sheet_csv(sheet_row row, void *arg)
{
	struct sheet *s = xcalloc(1, sizeof(*s));

	s->row = row;
	s->arg = arg;
	s->csv = xcalloc(1, sizeof(*s->csv));
	if (csv_init(&s->csv->p, CSV_STRICT | CSV_STRICT_FINI) != 0)
		abort();
	return s;
}

void csv_free_(struct csv *c)
{
	if (!c)
		return;
	csv_free(&c->p);
	buf_fini(&c->first);
	free(c);
}

static void on_cell(void *text, size_t n, void *arg)
{
	sheet_cell_add(arg, (struct str){ text, n }, false);
}

static void on_row(int c, void *arg)
{
	struct sheet *s = arg;

	(void)c;
	s->number++;
	sheet_row_end(s);
}

static char separator_of(struct str line)
{
	static const char signs[] = ",;\t";
	size_t seen[3] = { 0 }, best = 0;
	bool quoted = false;

	for (size_t i = 0; i < line.n && (quoted || (line.p[i] != '\n' && line.p[i] != '\r')); i++) {
		const char *at = line.p[i] ? strchr(signs, line.p[i]) : NULL;

		if (line.p[i] == '"')
			quoted = !quoted;
		else if (at && !quoted)
			seen[at - signs]++;
	}
	for (size_t i = 1; i < 3; i++)
		if (seen[i] > seen[best])
			best = i;
	return signs[best];
}

static void parse(struct sheet *s, struct str data)
{
	struct csv *c = s->csv;

	while (data.n && sheet_is_good(s)) {
		size_t n = data.n < PIECE ? data.n : PIECE;

		if (csv_parse(&c->p, data.p, n, on_cell, on_row, s) != n)
			sheet_refuse(s, "has a quotation mark out of place in row %llu", (unsigned long long)s->number + 1);
		if (c->p.entry_pos > SHEET_CELL_MAX)
			sheet_refuse(s, "has more than %u bytes in a cell of row %llu", SHEET_CELL_MAX, (unsigned long long)s->number + 1);
		data.p += n;
		data.n -= n;
	}
}

static void begin(struct sheet *s)
{
	struct csv *c = s->csv;
	struct str data = buf_view(&c->first);

	c->begun = true;
	if (str_starts(data, STR("\xff\xfe")) || str_starts(data, STR("\xfe\xff")))
		sheet_refuse(s, "is UTF-16; save it as UTF-8");
	if (str_starts(data, STR("\xef\xbb\xbf"))) {
		data.p += 3;
		data.n -= 3;
	}
	csv_set_delim(&c->p, (unsigned char)separator_of(data));
	parse(s, data);
	buf_fini(&c->first);
	c->first = (struct buf){ 0 };
}

bool sheet_feed(struct sheet *s, struct str data, bool last)
{
	struct csv *c = s->csv;

	if (!c->begun) {
		buf_str(&c->first, data);
		if (last || c->first.n >= FIRST_LINE || (c->first.n > 3 && memchr(c->first.p, '\n', c->first.n)))
			begin(s);
	} else {
		parse(s, data);
	}
	if (last && sheet_is_good(s) && csv_fini(&c->p, on_cell, on_row, s) != 0)
		sheet_refuse(s, "ends inside quotation marks");
	return sheet_is_good(s);
}
