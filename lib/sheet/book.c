/* The first sheet of an xlsx workbook: libzip unpacks, expat reads, the limits of sheet.h hold. */
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zip.h>

#include "base/codec.h"
#include "sheet/internal.h"

#define PIECE (64u << 10)
#define BIG (1u << 20)
#define NAME_MAX_BYTES 300

struct book {
	int fd;
	zip_t *zip;
	zip_file_t *part;      /* that is being read */
	XML_Parser xml;
	uint64_t unpacked;
	char relation[80];     /* of the first sheet, in the workbook */
	char sheet[NAME_MAX_BYTES], shared[NAME_MAX_BYTES];
	bool begun;
	/* shared texts */
	struct buf texts;
	size_t *ends, n_ends, cap_ends;
	/* the cell */
	struct buf text;
	bool in_value, in_phonetic, in_cell;
	char type;             /* s shared, i inline, x text, b bool, e error, n number */
	size_t column;
};

/* -- the package */

static bool open_zip(struct sheet *s, struct book *b)
{
	int fd = dup(b->fd), why;
	uint64_t all = 0;
	zip_int64_t n;

	if (fd >= 0 && lseek(fd, 0, SEEK_SET) == 0)
		b->zip = zip_fdopen(fd, ZIP_CHECKCONS, &why);
	if (!b->zip) {
		if (fd >= 0)
			close(fd);
		sheet_refuse(s, "is no xlsx workbook");
		return false;
	}
	n = zip_get_num_entries(b->zip, 0);
	if (n < 0 || n > SHEET_ENTRIES_MAX)
		sheet_refuse(s, "holds more than %d files", SHEET_ENTRIES_MAX);
	for (zip_int64_t i = 0; i < n && sheet_is_good(s); i++) {
		zip_stat_t st;

		if (zip_stat_index(b->zip, (zip_uint64_t)i, 0, &st) != 0 || !(st.valid & ZIP_STAT_SIZE) || !(st.valid & ZIP_STAT_COMP_SIZE))
			sheet_refuse(s, "is no xlsx workbook");
		else if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) && st.encryption_method != ZIP_EM_NONE)
			sheet_refuse(s, "is encrypted");
		else if (st.size > BIG && st.size / SHEET_RATIO_MAX > st.comp_size)
			sheet_refuse(s, "is packed more than %d to 1", SHEET_RATIO_MAX);
		else if (st.size > SHEET_EXPANDED_MAX || (all += st.size) > SHEET_EXPANDED_MAX)
			sheet_refuse(s, "is larger than %llu MB when it is unpacked", SHEET_EXPANDED_MAX >> 20);
	}
	return sheet_is_good(s);
}

/* -- XML */

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
	sheet_refuse(arg, "has a document type in its XML");
}

static void part_close(struct book *b)
{
	if (b->part)
		zip_fclose(b->part);
	if (b->xml)
		XML_ParserFree(b->xml);
	b->part = NULL;
	b->xml = NULL;
}

static bool part_open(struct sheet *s, const char *name, XML_StartElementHandler start, XML_EndElementHandler end, XML_CharacterDataHandler text)
{
	struct book *b = s->book;

	b->part = zip_fopen(b->zip, name, 0);
	if (!b->part) {
		sheet_refuse(s, "is no xlsx workbook: it has no %.60s", name);
		return false;
	}
	b->xml = XML_ParserCreateNS(NULL, '|');
	if (!b->xml)
		abort();
	XML_SetUserData(b->xml, s);
	XML_SetStartDoctypeDeclHandler(b->xml, on_doctype);
	XML_SetElementHandler(b->xml, start, end);
	XML_SetCharacterDataHandler(b->xml, text);
	return true;
}

static enum sheet_turn part_read(struct sheet *s)
{
	struct book *b = s->book;
	void *to = XML_GetBuffer(b->xml, PIECE);
	zip_int64_t n;

	if (!to)
		abort();
	n = zip_fread(b->part, to, PIECE);
	b->unpacked += n > 0 ? (uint64_t)n : 0;
	if (n < 0)
		sheet_refuse(s, "cannot be unpacked");
	else if (b->unpacked > SHEET_EXPANDED_MAX)
		sheet_refuse(s, "is larger than %llu MB when it is unpacked", SHEET_EXPANDED_MAX >> 20);
	else if (XML_ParseBuffer(b->xml, (int)n, n == 0) != XML_STATUS_OK && sheet_is_good(s))
		sheet_refuse(s, "is no xlsx workbook: %.60s", XML_ErrorString(XML_GetErrorCode(b->xml)));
	if (!sheet_is_good(s))
		return SHEET_BAD;
	return n == 0 ? SHEET_END : SHEET_MORE;
}

static bool part_whole(struct sheet *s, const char *name, XML_StartElementHandler start, XML_EndElementHandler end, XML_CharacterDataHandler text)
{
	enum sheet_turn t = SHEET_BAD;

	if (part_open(s, name, start, end, text)) {
		do
			t = part_read(s);
		while (t == SHEET_MORE);
	}
	part_close(s->book);
	return t == SHEET_END;
}

/* Without its namespace: workbooks come with two of them. */
static const char *local(const XML_Char *name)
{
	const char *bar = strrchr(name, '|');

	return bar ? bar + 1 : name;
}

static const char *attribute(const XML_Char **attributes, const char *name)
{
	for (; *attributes; attributes += 2)
		if (strcmp(local(*attributes), name) == 0)
			return attributes[1];
	return NULL;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "_x000D_" is how a character is written that XML would lose; of those that a text may have it can only be a control. */
static void controls_read(struct buf *b, size_t from)
{
	size_t to = from;

	for (size_t i = from; i < b->n; i++) {
		const char *p = b->p + i;

		if (b->n - i >= 7 && memcmp(p, "_x00", 4) == 0 && hex_digit(p[4]) >= 0 && hex_digit(p[4]) < 8 && hex_digit(p[5]) >= 0 && p[6] == '_' && (p[4] != '0' || p[5] != '0')) {
			b->p[to++] = (char)(hex_digit(p[4]) << 4 | hex_digit(p[5]));
			i += 6;
		} else {
			b->p[to++] = *p;
		}
	}
	b->n = to;
}

/* -- where the sheet is */

static void workbook_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct sheet *s = arg;
	struct book *b = s->book;
	const char *word;

	if (strcmp(local(name), "workbookPr") == 0) {
		word = attribute(attributes, "date1904");
		s->from_1904 = word && (strcmp(word, "1") == 0 || strcmp(word, "true") == 0);
	}
	if (strcmp(local(name), "sheet") != 0 || b->relation[0])
		return;
	word = attribute(attributes, "id");
	if (word)
		snprintf(b->relation, sizeof(b->relation), "%s", word);
}

/* A target is relative to xl/, or begins at the root. */
static void target_put(char out[NAME_MAX_BYTES], const char *target)
{
	snprintf(out, NAME_MAX_BYTES, "%s%s", *target == '/' ? "" : "xl/", *target == '/' ? target + 1 : target);
}

static void relations_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct sheet *s = arg;
	const char *id = attribute(attributes, "Id"), *type = attribute(attributes, "Type"), *target = attribute(attributes, "Target");
	const char *kind = type ? strrchr(type, '/') : NULL;

	if (strcmp(local(name), "Relationship") != 0 || !target)
		return;
	if (id && strcmp(id, s->book->relation) == 0)
		target_put(s->book->sheet, target);
	if (kind && strcmp(kind, "/sharedStrings") == 0)
		target_put(s->book->shared, target);
}

/* -- shared texts */

static void shared_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct book *b = ((struct sheet *)arg)->book;

	if (strcmp(local(name), "t") == 0)
		b->in_value = true;
	else if (strcmp(local(name), "rPh") == 0)
		b->in_phonetic = true;
}

static void shared_end(void *arg, const XML_Char *name)
{
	struct book *b = ((struct sheet *)arg)->book;

	if (strcmp(local(name), "t") == 0)
		b->in_value = false;
	else if (strcmp(local(name), "rPh") == 0)
		b->in_phonetic = false;
	if (strcmp(local(name), "si") != 0)
		return;
	controls_read(&b->texts, b->n_ends ? b->ends[b->n_ends - 1] : 0);
	if (b->n_ends == b->cap_ends) {
		b->cap_ends = b->cap_ends ? b->cap_ends * 2 : 1024;
		b->ends = xrealloc(b->ends, b->cap_ends * sizeof(*b->ends));
	}
	b->ends[b->n_ends++] = b->texts.n;
}

static void shared_text(void *arg, const XML_Char *text, int n)
{
	struct sheet *s = arg;
	struct book *b = s->book;

	if (!b->in_value || b->in_phonetic)
		return;
	if (b->texts.n + (size_t)n + b->n_ends * sizeof(*b->ends) > SHEET_TEXTS_MAX)
		sheet_refuse(s, "has more than %u MB of different texts; use csv", SHEET_TEXTS_MAX >> 20);
	else
		buf_put(&b->texts, text, (size_t)n);
}

static struct str shared_get(const struct book *b, struct str index)
{
	uint64_t i;
	size_t from;

	if (!str_to_u64(index, &i) || i >= b->n_ends)
		return (struct str){ "", 0 };
	from = i ? b->ends[i - 1] : 0;
	return (struct str){ b->texts.p + from, b->ends[i] - from };
}

/* -- the sheet */

/* "AB12" → 27; without letters the cell is behind the one before. */
static size_t column_of(const char *place, size_t next)
{
	size_t n = 0;

	for (; place && *place >= 'A' && *place <= 'Z' && n < 100000; place++)
		n = n * 26 + (size_t)(*place - 'A') + 1;
	return n ? n - 1 : next;
}

static char type_of(const char *word)
{
	static const struct {
		const char *word;
		char type;
	} types[] = { { "s", 's' }, { "inlineStr", 'i' }, { "str", 'x' }, { "b", 'b' }, { "e", 'e' }, { "d", 'x' } };

	for (size_t i = 0; word && i < sizeof(types) / sizeof(*types); i++)
		if (strcmp(types[i].word, word) == 0)
			return types[i].type;
	return 'n';
}

static void sheet_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct sheet *s = arg;
	struct book *b = s->book;
	const char *word = local(name);
	uint64_t row;

	if (strcmp(word, "row") == 0) {
		const char *r = attribute(attributes, "r");

		s->number = r && str_to_u64(str_of(r), &row) && row > s->number ? row : s->number + 1;
	} else if (strcmp(word, "c") == 0) {
		b->column = column_of(attribute(attributes, "r"), s->n);
		b->type = type_of(attribute(attributes, "t"));
		b->in_cell = true;
		buf_clear(&b->text);
	} else if (b->in_cell && (strcmp(word, "v") == 0 || strcmp(word, "t") == 0)) {
		b->in_value = true;
	} else if (strcmp(word, "rPh") == 0) {
		b->in_phonetic = true;
	}
}

static void sheet_text(void *arg, const XML_Char *text, int n)
{
	struct sheet *s = arg;
	struct book *b = s->book;

	if (!b->in_value || b->in_phonetic)
		return;
	if (b->text.n + (size_t)n > SHEET_CELL_MAX)
		sheet_refuse(s, "has more than %u bytes in a cell of row %llu", SHEET_CELL_MAX, (unsigned long long)s->number);
	else
		buf_put(&b->text, text, (size_t)n);
}

/* 0.1 is kept as 0.10000000000000001, and a long number as 1.55501230E+10: what a spreadsheet shows has 15 digits. */
static struct str number_text(struct book *b)
{
	char *end;
	double x;

	if (b->text.n < 16 && decimal_is_valid(buf_view(&b->text)))
		return buf_view(&b->text);
	x = strtod(buf_cstr(&b->text), &end);
	if (*end || !b->text.n)
		return buf_view(&b->text);
	buf_clear(&b->text);
	buf_printf(&b->text, "%.15g", x);
	if (memchr(b->text.p, 'e', b->text.n) && x > -1e21 && x < 1e21) {
		buf_clear(&b->text);
		buf_printf(&b->text, x == (double)(long long)x ? "%.0f" : "%.20f", x);
		while (memchr(b->text.p, '.', b->text.n) && b->text.p[b->text.n - 1] == '0')
			b->text.n--;
	}
	return buf_view(&b->text);
}

static void cell_put(struct sheet *s)
{
	struct book *b = s->book;
	struct str text;

	if (b->type == 'i' || b->type == 'x')
		controls_read(&b->text, 0);
	text = buf_view(&b->text);
	if (b->column >= SHEET_COLUMNS_MAX) {
		if (text.n)
			sheet_refuse(s, "has more than %d columns", SHEET_COLUMNS_MAX);
		return;
	}
	while (s->n < b->column && sheet_is_good(s))
		sheet_cell_add(s, (struct str){ "", 0 }, false);
	if (b->type == 's')
		text = shared_get(b, text);
	else if (b->type == 'b')
		text = str_eq(text, STR("1")) ? STR("true") : STR("false");
	else if (b->type == 'e')
		text = (struct str){ "", 0 };
	else if (b->type == 'n')
		text = number_text(b);
	if (s->n == b->column)
		sheet_cell_add(s, text, b->type == 'n');
}

static void sheet_end(void *arg, const XML_Char *name)
{
	struct sheet *s = arg;
	struct book *b = s->book;
	const char *word = local(name);

	if (strcmp(word, "v") == 0 || strcmp(word, "t") == 0) {
		b->in_value = false;
	} else if (strcmp(word, "rPh") == 0) {
		b->in_phonetic = false;
	} else if (strcmp(word, "c") == 0) {
		b->in_cell = false;
		cell_put(s);
	} else if (strcmp(word, "row") == 0) {
		sheet_row_end(s);
	}
}

/* -- outside */

struct sheet *sheet_xlsx(int fd, sheet_row row, void *arg)
{
	struct sheet *s = xcalloc(1, sizeof(*s));

	s->row = row;
	s->arg = arg;
	s->book = xcalloc(1, sizeof(*s->book));
	s->book->fd = fd;
	return s;
}

static bool book_begin(struct sheet *s)
{
	struct book *b = s->book;

	b->begun = true;
	if (!open_zip(s, b) || !part_whole(s, "xl/workbook.xml", workbook_start, NULL, NULL) ||
	    !part_whole(s, "xl/_rels/workbook.xml.rels", relations_start, NULL, NULL))
		return false;
	if (b->shared[0] && !part_whole(s, b->shared, shared_start, shared_end, shared_text))
		return false;
	b->in_value = b->in_phonetic = false;
	return part_open(s, b->sheet[0] ? b->sheet : "xl/worksheets/sheet1.xml", sheet_start, sheet_end, sheet_text);
}

enum sheet_turn sheet_read(struct sheet *s)
{
	enum sheet_turn t;

	if (!sheet_is_good(s) || (!s->book->begun && !book_begin(s)))
		return SHEET_BAD;
	t = part_read(s);
	if (t != SHEET_MORE)
		part_close(s->book);
	return t;
}

void book_free(struct book *b)
{
	if (!b)
		return;
	part_close(b);
	if (b->zip)
		zip_discard(b->zip);
	close(b->fd);
	buf_fini(&b->texts);
	buf_fini(&b->text);
	free(b->ends);
	free(b);
}
