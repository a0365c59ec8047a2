/* Writes result rows as protobuf wire bytes, straight from PGresult into the reply. */
#include "resource/wire.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/wire.h"
#include "db/row.h"
#include "schema/rows.h"

static bool is_binary(const PGresult *r, int col)
{
	return PQfformat(r, col) == 1;
}

int64_t cell_i64(const PGresult *r, int row, int col)
{
	int64_t v = 0;

	if (is_binary(r, col))
		return row_i64(r, row, col);
	return str_to_i64(row_text(r, row, col), &v) ? v : 0;
}

bool cell_bool(const PGresult *r, int row, int col)
{
	return is_binary(r, col) ? row_bool(r, row, col) : PQgetvalue(r, row, col)[0] == 't';
}

void cell_uuid(const PGresult *r, int row, int col, char out[37])
{
	struct str s = row_text(r, row, col);

	if (is_binary(r, col))
		row_uuid(r, row, col, out);
	else if (!uuid_parse(s, out))
		out[0] = 0;
}

/* "2024-01-15 10:30:00.25+00" as RFC 3339. */
static int64_t us_of_text(struct str s)
{
	char z[48];
	int64_t us = 0;
	size_t n = s.n;

	if (n < 10 || n > 40)
		return 0;
	memcpy(z, s.p, n);
	if (n > 10) {
		z[10] = 'T';
		if (z[n - 3] == '+' || z[n - 3] == '-') {
			memcpy(z + n, ":00", 3);
			n += 3;
		}
	}
	return time_parse((struct str){ z, n }, true, &us) ? us : 0;
}

int64_t cell_us(const PGresult *r, int row, int col)
{
	return is_binary(r, col) ? row_us(r, row, col) : us_of_text(row_text(r, row, col));
}

static double cell_f64(const PGresult *r, int row, int col)
{
	return is_binary(r, col) ? row_f64(r, row, col) : strtod(PQgetvalue(r, row, col), NULL);
}

/* Takes "<digits>:" from the front of s. */
static bool take_number(struct str *s, size_t *n)
{
	const char *colon = memchr(s->p, ':', s->n);
	uint64_t v;

	if (!colon || !str_to_u64((struct str){ s->p, (size_t)(colon - s->p) }, &v) || v > INT64_MAX)
		return false;
	s->n -= (size_t)(colon + 1 - s->p);
	s->p = colon + 1;
	*n = (size_t)v;
	return true;
}

static bool take(struct str *s, size_t n, struct str *out)
{
	if (n > s->n)
		return false;
	*out = (struct str){ s->p, n };
	s->p += n;
	s->n -= n;
	return true;
}

/* "<id>:<seq>:<colour>:<bytes of name>:<name>" */
static bool tag_take(struct str *s, struct buf *b, uint32_t number)
{
	struct str id, colour, name;
	size_t seq, n, at;
	const char *colon;

	if (!take(s, UUID_TEXT + 1, &id) || !take_number(s, &seq))
		return false;
	colon = memchr(s->p, ':', s->n);
	if (!colon || !take(s, (size_t)(colon - s->p), &colour))
		return false;
	s->p++;
	s->n--;
	if (!take_number(s, &n) || !take(s, n, &name))
		return false;
	at = wire_open(b, number);
	wire_put_bytes(b, 1, (struct str){ id.p, UUID_TEXT });
	wire_put_varint(b, 2, seq);
	wire_put_bytes(b, 16, name);
	if (colour.n)
		wire_put_bytes(b, 17, colour);
	wire_close(b, at);
	return true;
}

static void tags_put(struct buf *b, uint32_t number, struct str s)
{
	while (s.n && tag_take(&s, b, number))
		;
}

static void texts_put(struct buf *b, uint32_t number, struct str s)
{
	struct str one;
	size_t n;

	while (s.n && take_number(&s, &n) && take(&s, n, &one))
		wire_put_bytes(b, number, one);
}

/* "<seq>:<name>" */
static void ref_fields_put(struct buf *b, struct str s)
{
	size_t seq;

	if (!take_number(&s, &seq))
		return;
	wire_put_varint(b, 2, seq);
	if (s.n)
		wire_put_bytes(b, 3, s);
}

static void ref_put(struct buf *b, const struct col *c, const PGresult *res, int row, int col)
{
	char id[37];
	size_t at;

	if (c->kind == COL_REF_LOCAL && PQgetisnull(res, row, col + 1))
		return;
	at = wire_open(b, c->f->number);
	cell_uuid(res, row, col, id);
	wire_put_bytes(b, 1, str_of(id));
	if (c->kind == COL_REF_LOCAL)
		ref_fields_put(b, row_text(res, row, col + 1));
	wire_close(b, at);
}

struct str cell_json(const PGresult *r, int row, int col)
{
	struct str s = row_text(r, row, col);

	return s.n && s.p[0] == 1 ? (struct str){ s.p + 1, s.n - 1 } : s;
}

/* What the service wrote itself: a broken text is a mistake of the database's, and then shows as no rows. */
static void rows_put(struct buf *b, const struct col *c, struct str text)
{
	struct arena a = { 0 };
	struct json_error error;
	const struct json *list = json_parse(&a, text, &error);

	for (const struct json *v = list && list->type == JSON_ARRAY ? list->child : NULL; v; v = v->next) {
		size_t at = wire_open(b, c->f->number);

		if (!message_of_json(b, c->f->message, v))
			log_warn("RESOURCE-ROWS", "%s: a row is no %s", c->column, c->f->message->name);
		wire_close(b, at);
	}
	arena_fini(&a);
}

static void scalar_put(struct buf *b, const struct col *c, const PGresult *res, int row, int col)
{
	uint32_t number = c->f->number;
	double d;
	uint64_t bits;
	char id[37];

	switch (c->kind) {
	case COL_ID:
		cell_uuid(res, row, col, id);
		wire_put_bytes(b, number, str_of(id));
		break;
	case COL_INT:
		wire_put_varint(b, number, (uint64_t)cell_i64(res, row, col));
		break;
	case COL_BOOL:
		wire_put_varint(b, number, cell_bool(res, row, col));
		break;
	case COL_TIME:
	case COL_DATE:
		wire_put_varint(b, number, (uint64_t)cell_us(res, row, col));
		break;
	case COL_JSON:
		wire_put_bytes(b, number, cell_json(res, row, col));
		break;
	case COL_DOUBLE:
		d = cell_f64(res, row, col);
		memcpy(&bits, &d, sizeof(bits));
		wire_put_fixed64(b, number, bits);
		break;
	default:
		wire_put_bytes(b, number, row_text(res, row, col));
	}
}

static void address_put(struct buf *b, const struct col *c, const PGresult *res, int row, int from)
{
	size_t at = 0;

	for (size_t i = 0; i < c->n_members; i++) {
		const struct col *m = &c->members[i];

		if (PQgetisnull(res, row, from + m->at))
			continue;
		if (!at)
			at = wire_open(b, c->f->number);
		scalar_put(b, m, res, row, from + m->at);
	}
	if (at)
		wire_close(b, at);
}

void entity_put(struct buf *b, const struct plan *p, const PGresult *res, int row, int from)
{
	for (size_t i = 0; i < p->n_cols; i++) {
		const struct col *c = &p->cols[i];
		int col = from + c->at;

		if (c->kind == COL_ADDRESS) {
			address_put(b, c, res, row, from);
			continue;
		}
		if (PQgetisnull(res, row, col))
			continue;
		if (c->kind == COL_REF || c->kind == COL_REF_LOCAL)
			ref_put(b, c, res, row, col);
		else if (c->kind == COL_TAGS)
			tags_put(b, c->f->number, row_text(res, row, col));
		else if (c->kind == COL_ROWS)
			rows_put(b, c, cell_json(res, row, col));
		else if (c->kind == COL_TEXTS)
			texts_put(b, c->f->number, row_text(res, row, col));
		else
			scalar_put(b, c, res, row, col);
	}
}

void entity_show(struct buf *b, const struct plan *p, const PGresult *res, int row, int from)
{
	struct buf whole = { 0 };

	if (!p->r->reveal) {
		entity_put(b, p, res, row, from);
		return;
	}
	entity_put(&whole, p, res, row, from);
	p->r->reveal(buf_view(&whole), b);
	buf_fini(&whole);
}
