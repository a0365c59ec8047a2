/*
 * A workbook that is written row by row, by libxlsxwriter in its mode of constant memory: rows go to a file without a name, and closing
 * makes the .xlsx of them. Cells are numbers or inline texts, never formulas. After 1,048,576 rows another sheet begins, with the head again.
 * Threading: one thread at a time; xlsx_close may take seconds and belongs on a thread that may block.
 */
#ifndef CRM_GATEWAY_DIALECT_XLSX_H
#define CRM_GATEWAY_DIALECT_XLSX_H

#include "base/buf.h"
#include "base/str.h"

struct xlsx;

/* dir: where the files without a name are. NULL: they cannot be made. */
struct xlsx *xlsx_new(const char *dir);
/* The next cell of the row. Text is cut at 32,767 characters, the most that a cell holds; a number of more than 15 digits becomes text. */
void xlsx_text(struct xlsx *x, struct str s);
void xlsx_number(struct xlsx *x, struct str digits);
void xlsx_skip(struct xlsx *x);
/* The row is complete. The first one is the head: it is written again on top of further sheets. */
void xlsx_row(struct xlsx *x);
/* False: something could not be written, or the file would be too large (1 GiB of text). */
bool xlsx_good(const struct xlsx *x);
bool xlsx_too_large(const struct xlsx *x);
/* The finished file, read from its start; -1: it could not be written. Gives x back. */
int xlsx_close(struct xlsx *x);
void xlsx_abort(struct xlsx *x);

#endif
