/* Tables on their way from a form to the blob store. */
#include "gateway/import.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wire.h"
#include "gateway/dialect/import.h"

#define ROWS_AT_ONCE 32       /* in one turn of the loop */
#define ROW_MAX (1u << 20)    /* bytes of an entity */

/* Numbers in proto/common.proto. */
enum { REQUEST_ROWS = 6, REQUEST_MAPPING = 11, ROW_NUMBER = 1, ROW_ENTITY = 2, ROW_STATUS = 3 };

struct row {
	struct row *next;
	uint64_t number;
	size_t n;
	struct sheet_cell cells[];
};

struct import {
	struct request *r;
	struct str mapping;
	/* the job thread's while a job runs, else the loop's */
	struct sheet *sheet;
	struct buf start;     /* bytes before it is known what they are */
	int fd;               /* of a workbook until all of it is there; else -1 */
	bool is_book, more;
	struct arena parsed;
	struct row *first, **last;
	/* the loop's */
	struct import_plan *plan;
	struct arena slice;
	uint64_t rows;
	bool asked;           /* what the next rows refer to has been asked for */
	EVP_MD_CTX *digest;
	struct import_refusal refusal;
};

struct import *import_new(struct request *r, struct str payload)
{
	struct import *m = xcalloc(1, sizeof(*m));
	struct wire_reader reader = wire_read(payload);
	struct wire_field w;

	m->r = r;
	m->fd = -1;
	m->last = &m->first;
	while (wire_next(&reader, &w))
		if (w.number == REQUEST_MAPPING && w.type == WIRE_BYTES)
			m->mapping = w.bytes;
	m->digest = EVP_MD_CTX_new();
	if (!m->digest || EVP_DigestInit_ex(m->digest, EVP_sha256(), NULL) != 1)
		abort();
	return m;
}

void import_free(struct import *m)
{
	if (!m)
		return;
	m->r->refs.arena = &m->r->x->arena; /* the answer may have references of its own */
	m->r->refs.wishes = NULL;
	m->r->refs.n_wishes = m->r->refs.n_open = 0;
	m->r->refs.failed = false;
	sheet_free(m->sheet);
	if (m->fd >= 0)
		close(m->fd);
	buf_fini(&m->start);
	arena_fini(&m->parsed);
	arena_fini(&m->slice);
	EVP_MD_CTX_free(m->digest);
	free(m);
}

const struct import_refusal *import_refusal(const struct import *m)
{
	return &m->refusal;
}

static bool refuse(struct import *m, enum status s, const char *text)
{
	if (m->refusal.status == STATUS_OK) {
		m->refusal.status = s;
		m->refusal.violation = (struct field_violation){ str_of(m->r->route->upload_part), STR("file"), str_of(text ? text : ""), STR("") };
	}
	return false;
}

/* -- parsing: on a job thread */

static bool on_row(void *arg, uint64_t number, const struct sheet_cell *cells, size_t n)
{
	struct import *m = arg;
	struct row *row = arena_alloc(&m->parsed, sizeof(*row) + n * sizeof(*row->cells));

	row->next = NULL;
	row->number = number;
	row->n = n;
	for (size_t i = 0; i < n; i++)
		row->cells[i] = (struct sheet_cell){ arena_str(&m->parsed, cells[i].text), cells[i].number };
	*m->last = row;
	m->last = &row->next;
	return true;
}

static bool keep(struct import *m, struct str piece)
{
	while (piece.n) {
		ssize_t n = write(m->fd, piece.p, piece.n);

		if (n <= 0)
			return refuse(m, STATUS_UNAVAILABLE, NULL);
		piece.p += n;
		piece.n -= (size_t)n;
	}
	return true;
}

/* A workbook is a zip file, whose table of contents comes last. */
static bool begin(struct import *m)
{
	m->is_book = str_starts(buf_view(&m->start), STR("PK\x03\x04"));
	if (!m->is_book) {
		m->sheet = sheet_csv(on_row, m);
		return true;
	}
	m->fd = open(m->r->w->g->settings.export_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return m->fd >= 0 || refuse(m, STATUS_UNAVAILABLE, NULL);
}

static bool sheet_failed(struct import *m)
{
	const char *why = sheet_why(m->sheet);

	return refuse(m, STATUS_VALIDATION_ERROR, why ? why : "cannot be read");
}

static bool book_parse(struct import *m, struct str piece, bool last)
{
	enum sheet_turn t;

	if (!m->sheet && !keep(m, piece))
		return false;
	if (last && !m->sheet) {
		m->sheet = sheet_xlsx(m->fd, on_row, m);
		m->fd = -1;
		m->more = true;
	}
	if (!m->more)
		return true;
	do
		t = sheet_read(m->sheet);
	while (t == SHEET_MORE && !m->first);
	m->more = t == SHEET_MORE;
	return t != SHEET_BAD || sheet_failed(m);
}

bool import_parse(struct import *m, struct str piece, bool last)
{
	struct str bytes = piece;

	if (!m->sheet && m->fd < 0) {
		buf_str(&m->start, piece);
		if (m->start.n < 4 && !last)
			return true;
		if (!begin(m))
			return false;
		bytes = buf_view(&m->start);
	}
	if (m->is_book)
		return book_parse(m, bytes, last);
	return sheet_feed(m->sheet, bytes, last) || sheet_failed(m);
}

bool import_has_more(const struct import *m)
{
	return m->more;
}

/* -- reading as the dialect: on the loop */

static void status_put(struct buf *b, enum status s, const struct decoded *d)
{
	size_t at = wire_open(b, ROW_STATUS), in;

	wire_put_varint(b, 1, s);
	wire_put_bytes(b, 2, str_of(status_text(s)));
	for (size_t i = 0; i < d->n_violations && i < 16; i++) {
		in = wire_open(b, 3);
		wire_put_bytes(b, 1, d->violations[i].field);
		wire_put_bytes(b, 2, d->violations[i].rule);
		wire_put_bytes(b, 3, d->violations[i].text);
		wire_close(b, in);
	}
	wire_close(b, at);
}

/* Its length, and the row. */
static void row_put(struct buf *out, const struct row *row, enum status s, const struct decoded *d)
{
	size_t at = out->n;
	uint32_t n;

	buf_put(out, "\0\0\0\0", 4);
	wire_put_varint(out, ROW_NUMBER, row->number);
	if (s == STATUS_OK && d->payload.n <= ROW_MAX)
		wire_put_bytes(out, ROW_ENTITY, buf_view(&d->payload));
	else
		status_put(out, s == STATUS_OK ? STATUS_PAYLOAD_TOO_LARGE : s, d);
	n = (uint32_t)(out->n - at - 4);
	memcpy(out->p + at, (uint8_t[4]){ (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24) }, 4);
}

static void slice_begin(struct import *m)
{
	struct request *r = m->r;

	arena_reset(&m->slice);
	r->refs = (struct refs){ .cache = r->refs.cache, .faces = r->refs.faces, .arena = &m->slice, .tenant_id = r->refs.tenant_id, .now_us = r->x->start_us };
	m->asked = false;
}

static const struct row *slice_decode(struct import *m, struct buf *out)
{
	struct request *r = m->r;
	struct decode_input in = { .match = &r->sel.match, .who = r->caller, .refs = refs_lookup(&r->refs), .arena = &m->slice };
	struct import_row how = { &in, m->sheet, !m->is_book };
	struct decoded *d = &r->w->decoded;
	const struct row *row = m->first;

	for (int i = 0; row && i < ROWS_AT_ONCE; i++, row = row->next) {
		enum status s = import_row_decode(&how, m->plan, row->cells, row->n, d);

		row_put(out, row, s, d);
		buf_fini(&d->payload);
	}
	return row;
}

static bool head_take(struct import *m)
{
	const struct row *head = m->first;

	m->plan = import_plan_new(m->r->route, &m->r->x->arena, head->cells, head->n, m->mapping, &m->refusal.violation);
	m->first = head->next;
	if (!m->plan)
		m->refusal.status = STATUS_VALIDATION_ERROR;
	return m->plan != NULL;
}

/* The rows up to rest are in out, which was at bytes long before. */
static void slice_keep(struct import *m, const struct row *rest, struct buf *out, size_t at)
{
	for (; m->first != rest; m->first = m->first->next)
		m->rows++;
	if (EVP_DigestUpdate(m->digest, out->p + at, out->n - at) != 1)
		abort();
}

enum import_turn import_decode(struct import *m, struct buf *out, void (*done)(void *arg), void *arg)
{
	struct request *r = m->r;
	const struct row *rest;
	size_t at = out->n;

	if (r->refs.failed) {
		refuse(m, STATUS_UNAVAILABLE, NULL);
		return IMPORT_REFUSED;
	}
	if (m->first && !m->plan && !head_take(m))
		return IMPORT_REFUSED;
	if (m->first) {
		if (!m->asked)
			slice_begin(m);
		rest = slice_decode(m, out);
		if (r->refs.n_open) {
			struct ref_call call = { r->w->rpc, request_call(r) };

			out->n = at;
			m->asked = true;
			if (refs_ask(&r->refs, &call, done, arg))
				return IMPORT_WAIT;
			refuse(m, STATUS_UNAVAILABLE, NULL);
			return IMPORT_REFUSED;
		}
		slice_keep(m, rest, out, at);
		m->asked = false;
	}
	if (m->first)
		return IMPORT_AGAIN;
	m->last = &m->first;
	arena_reset(&m->parsed);
	return IMPORT_DONE;
}

bool import_close(struct import *m, struct buf *out)
{
	if (!m->rows)
		return refuse(m, STATUS_VALIDATION_ERROR, "has no rows behind its first one");
	wire_put_varint(out, REQUEST_ROWS, m->rows);
	import_plan_print(m->plan, out);
	return true;
}

void import_hash(const struct import *m, uint8_t hash[32])
{
	EVP_MD_CTX *all = EVP_MD_CTX_new();

	if (!all || EVP_MD_CTX_copy_ex(all, m->digest) != 1 || EVP_DigestUpdate(all, hash, 32) != 1 || EVP_DigestFinal_ex(all, hash, NULL) != 1)
		abort();
	EVP_MD_CTX_free(all);
}
