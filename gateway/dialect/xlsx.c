/* Workbooks by libxlsxwriter. */
#include "gateway/dialect/xlsx.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xlsxwriter.h>

#include "base/arena.h"

#define TEXT_MAX (1ull << 30)
#define CELL_CHARS 32767
#define DIGITS_MAX 15 /* what a double holds */
#define COLUMNS_MAX 256

struct xlsx {
	lxw_workbook *book;
	lxw_worksheet *sheet;
	int fd;
	lxw_row_t row;
	lxw_col_t col;
	uint64_t text;
	bool bad;
	struct buf cell;
	char *head[COLUMNS_MAX]; /* the texts of the head row */
	size_t n_head;
	bool has_head;
	char *dir;
};

static void sheet_add(struct xlsx *x)
{
	x->sheet = workbook_add_worksheet(x->book, NULL);
	x->row = 0;
	x->col = 0;
	x->bad = x->bad || !x->sheet;
}

struct xlsx *xlsx_new(const char *dir)
{
	struct xlsx *x = xcalloc(1, sizeof(*x));
	lxw_workbook_options options = { .constant_memory = LXW_TRUE };
	char path[40];

	x->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (x->fd < 0) {
		free(x);
		return NULL;
	}
	x->dir = xstrdup(dir); /* the library keeps the pointer */
	options.tmpdir = x->dir;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", x->fd);
	x->book = workbook_new_opt(path, &options);
	if (!x->book)
		abort();
	sheet_add(x);
	return x;
}

/* At most so many characters, and NUL behind them. */
static const char *cut(struct xlsx *x, struct str s)
{
	size_t n = 0, chars = 0;

	for (; n < s.n; n++) {
		if (((unsigned char)s.p[n] & 0xc0) != 0x80 && ++chars > CELL_CHARS)
			break;
	}
	buf_clear(&x->cell);
	for (size_t i = 0; i < n; i++)
		buf_c(&x->cell, s.p[i] ? s.p[i] : ' ');
	return buf_cstr(&x->cell);
}

void xlsx_text(struct xlsx *x, struct str s)
{
	const char *text = cut(x, s);
	lxw_error e;

	x->text += x->cell.n + 40; /* and what surrounds it in the sheet */
	if (xlsx_good(x) && s.n) {
		e = worksheet_write_string(x->sheet, x->row, x->col, text, NULL);
		x->bad = x->bad || e != LXW_NO_ERROR;
	}
	if (x->row == 0 && !x->has_head && x->n_head < COLUMNS_MAX)
		x->head[x->n_head++] = xstrdup(text);
	x->col++;
}

void xlsx_number(struct xlsx *x, struct str digits)
{
	size_t n = 0;

	for (size_t i = 0; i < digits.n; i++)
		n += digits.p[i] >= '0' && digits.p[i] <= '9';
	if (n > DIGITS_MAX) {
		xlsx_text(x, digits);
		return;
	}
	x->text += 40;
	if (xlsx_good(x))
		x->bad = worksheet_write_number(x->sheet, x->row, x->col, strtod(cut(x, digits), NULL), NULL) != LXW_NO_ERROR;
	x->col++;
}

void xlsx_skip(struct xlsx *x)
{
	x->col++;
}

void xlsx_row(struct xlsx *x)
{
	x->col = 0;
	x->row++;
	x->has_head = true;
	if (x->row < LXW_ROW_MAX)
		return;
	sheet_add(x);
	for (size_t i = 0; i < x->n_head && x->sheet; i++)
		worksheet_write_string(x->sheet, 0, (lxw_col_t)i, x->head[i], NULL);
	x->row = 1;
}

bool xlsx_too_large(const struct xlsx *x)
{
	return x->text > TEXT_MAX;
}

bool xlsx_good(const struct xlsx *x)
{
	return !x->bad && !xlsx_too_large(x);
}

static void give_back(struct xlsx *x)
{
	for (size_t i = 0; i < x->n_head; i++)
		free(x->head[i]);
	buf_fini(&x->cell);
	free(x->dir);
	free(x);
}

int xlsx_close(struct xlsx *x)
{
	int fd = x->fd;
	bool good = xlsx_good(x);

	good = workbook_close(x->book) == LXW_NO_ERROR && good;
	give_back(x);
	if (good && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	close(fd);
	return -1;
}

void xlsx_abort(struct xlsx *x)
{
	if (!x)
		return;
	lxw_workbook_free(x->book);
	close(x->fd);
	give_back(x);
}
