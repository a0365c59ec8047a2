/*
 * Tables that somebody else made: CSV as it comes, and the first sheet of an xlsx workbook. Both give row after row.
 *
 * CSV: UTF-8 with or without a mark at its beginning, RFC 4180 quotes; the separator (comma, semicolon, tab) is the one that the first line has
 * most of. xlsx: expanded part by part and never more than the limits; entities and document types are refused, formulas give their last value.
 * What is behind a limit is refused with a sentence for people. Rows without any text are left out.
 *
 * Threading: a sheet belongs to one thread at a time. Memory: one piece, one row; of a workbook its shared texts too (at most SHEET_TEXTS_MAX).
 */
#ifndef CRM_SHEET_SHEET_H
#define CRM_SHEET_SHEET_H

#include "base/str.h"

#define SHEET_COLUMNS_MAX 200
#define SHEET_ROWS_MAX 500000
#define SHEET_CELL_MAX (64u << 10)       /* bytes of one cell */
#define SHEET_TEXTS_MAX (32u << 20)      /* bytes of a workbook's shared texts */
#define SHEET_ENTRIES_MAX 1000           /* files in a workbook */
#define SHEET_EXPANDED_MAX (200ull << 20) /* bytes of a workbook when it is unpacked */
#define SHEET_RATIO_MAX 100              /* unpacked to packed, of a file of more than 1 MiB */

struct sheet_cell {
	struct str text; /* valid until the function returns */
	bool number;     /* of a workbook: a number, which may mean a date */
};

/* number: of the row in the table, as a spreadsheet shows it (from 1; of CSV: lines with something in them are counted). False: enough. */
typedef bool (*sheet_row)(void *arg, uint64_t number, const struct sheet_cell *cells, size_t n);

struct sheet;

struct sheet *sheet_csv(sheet_row row, void *arg);
/* fd: of the whole file; it is closed by sheet_free. */
struct sheet *sheet_xlsx(int fd, sheet_row row, void *arg);
void sheet_free(struct sheet *s);

/* CSV: the next bytes; last: there are no more. False: sheet_why. */
bool sheet_feed(struct sheet *s, struct str data, bool last);
/* xlsx: reads on for some rows. */
enum sheet_turn { SHEET_MORE, SHEET_END, SHEET_BAD };
enum sheet_turn sheet_read(struct sheet *s);

/* A sentence without a subject: "has more than 500000 rows". NULL: nothing is wrong, or the function that takes rows has had enough. */
const char *sheet_why(const struct sheet *s);
/* Days since 1899-12-30 as microseconds since 1970 (of a workbook that counts from 1904: as that does). */
bool sheet_days(const struct sheet *s, struct str number, int64_t *us);

#endif
