/* Inside lib/sheet: the row that is being read. */
#ifndef CRM_SHEET_INTERNAL_H
#define CRM_SHEET_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "sheet/sheet.h"

struct csv;
struct book;

struct sheet {
	sheet_row row;
	void *arg;
	struct csv *csv;
	struct book *book;
	/* the row: texts one behind the other, ends[i] is where that of column i ends */
	struct buf texts;
	size_t ends[SHEET_COLUMNS_MAX];
	bool numbers[SHEET_COLUMNS_MAX];
	size_t n;
	uint64_t number, rows;
	bool stopped;
	char why[120];
	bool from_1904;
};

/* Says what is wrong; the first thing counts. */
void sheet_refuse(struct sheet *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool sheet_is_good(const struct sheet *s);
/* The next cell of the row. */
void sheet_cell_add(struct sheet *s, struct str text, bool number);
/* The row is whole. */
void sheet_row_end(struct sheet *s);

void csv_free_(struct csv *c);
void book_free(struct book *b);

#endif
