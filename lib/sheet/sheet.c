/* What CSV and workbooks have in common: the row that is being read, and its limits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sheet/internal.h"

#define US_DAY 86400000000.0
#define DAYS_TO_1970 25569.0 /* from 1899-12-30 */
#define DAYS_TO_1904 1462.0

void sheet_refuse(struct sheet *s, const char *fmt, ...)
{
	va_list ap;

	if (!sheet_is_good(s))
		return;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
}

bool sheet_is_good(const struct sheet *s)
{
	return !s->why[0] && !s->stopped;
}

const char *sheet_why(const struct sheet *s)
{
	return s->why[0] ? s->why : NULL;
}

void sheet_cell_add(struct sheet *s, struct str text, bool number)
{
	if (!sheet_is_good(s))
		return;
	if (text.n > SHEET_CELL_MAX) {
		sheet_refuse(s, "has more than %u bytes in a cell of row %llu", SHEET_CELL_MAX, (unsigned long long)s->number + 1);
		return;
	}
	if (s->n == SHEET_COLUMNS_MAX) {
		if (text.n)
			sheet_refuse(s, "has more than %d columns", SHEET_COLUMNS_MAX);
		return;
	}
	buf_str(&s->texts, text);
	s->numbers[s->n] = number;
	s->ends[s->n++] = s->texts.n;
}

void sheet_row_end(struct sheet *s)
{
	struct sheet_cell cells[SHEET_COLUMNS_MAX];
	size_t from = 0;

	for (size_t i = 0; i < s->n; i++) {
		cells[i] = (struct sheet_cell){ { s->texts.p + from, s->ends[i] - from }, s->numbers[i] };
		from = s->ends[i];
	}
	if (sheet_is_good(s) && s->texts.n) {
		if (s->rows++ == SHEET_ROWS_MAX + 1) /* the first one says what the columns are */
			sheet_refuse(s, "has more than %d rows", SHEET_ROWS_MAX);
		else
			s->stopped = !s->row(s->arg, s->number, cells, s->n);
	}
	s->n = 0;
	buf_clear(&s->texts);
}

bool sheet_days(const struct sheet *s, struct str number, int64_t *us)
{
	char text[40], *end;
	double days;

	if (!number.n || number.n >= sizeof(text))
		return false;
	memcpy(text, number.p, number.n);
	text[number.n] = 0;
	days = strtod(text, &end);
	if (*end || !isfinite(days) || days < 0 || days > 2958466) /* 9999-12-31 */
		return false;
	*us = llround((days + (s->from_1904 ? DAYS_TO_1904 : 0) - DAYS_TO_1970) * (US_DAY / 1000)) * 1000; /* a day's fraction is exact to a millisecond */
	return true;
}

void sheet_free(struct sheet *s)
{
	if (!s)
		return;
	csv_free_(s->csv);
	book_free(s->book);
	buf_fini(&s->texts);
	free(s);
}
