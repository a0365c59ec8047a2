/* Cursors of lists: the sort values of the last row of a page, with a mark of the sort they belong to. */
#include <inttypes.h>

#include "base/codec.h"
#include "base/wire.h"
#include "resource/internal.h"

#define CURSOR_VERSION 1

/* Another sort, or another entity, gives another mark. */
static uint32_t mark(const struct plan *p, const struct query *q)
{
	uint8_t hash[32];
	struct buf b = { 0 };
	uint32_t m;

	buf_z(&b, p->entity);
	for (size_t i = 0; i < q->n_keys; i++)
		buf_printf(&b, " %c%u", q->keys[i].desc ? '-' : '+', q->keys[i].col ? q->keys[i].col->f->number : 0);
	sha256(b.p, b.n, hash);
	memcpy(&m, hash, sizeof(m));
	buf_fini(&b);
	return m;
}

static void value_text(struct buf *b, const struct col *c, const PGresult *res, int row, int col)
{
	char id[UUID_TEXT + 1];

	switch (c->kind) {
	case COL_INT:
		buf_i64(b, cell_i64(res, row, col));
		break;
	case COL_TIME:
		time_print(b, cell_us(res, row, col));
		break;
	case COL_DATE:
		date_print(b, cell_us(res, row, col));
		break;
	case COL_BOOL:
		buf_z(b, cell_bool(res, row, col) ? "true" : "false");
		break;
	case COL_ID:
	case COL_REF:
		cell_uuid(res, row, col, id);
		buf_z(b, id);
		break;
	default:
		buf_put(b, PQgetvalue(res, row, col), (size_t)PQgetlength(res, row, col));
	}
}

void cursor_put(struct buf *out, const struct plan *p, const struct query *q, const PGresult *res, int row)
{
	struct buf b = { 0 }, v = { 0 };
	const struct col *id = plan_col_named(p, STR("id"));

	wire_put_varint(&b, 1, CURSOR_VERSION);
	wire_put_fixed32(&b, 2, mark(p, q));
	for (size_t i = 0; i < q->n_keys; i++) {
		const struct col *c = q->keys[i].col ? q->keys[i].col : id;

		if (PQgetisnull(res, row, c->at)) {
			wire_put_varint(&b, 4, 0);
			continue;
		}
		buf_clear(&v);
		value_text(&v, c, res, row, c->at);
		wire_put_bytes(&b, 3, buf_view(&v));
	}
	buf_need(out, b.n * 4 / 3 + 4);
	out->n += b64url_encode(b.p, b.n, out->p + out->n);
	buf_fini(&b);
	buf_fini(&v);
}

static bool value_ok(const struct col *c, struct str s)
{
	int64_t n;

	switch (c ? c->kind : COL_ID) {
	case COL_INT:
		return str_to_i64(s, &n);
	case COL_TIME:
		return time_parse(s, false, &n);
	case COL_DATE:
		return date_parse(s, &n);
	case COL_BOOL:
		return str_eq(s, STR("true")) || str_eq(s, STR("false"));
	case COL_DECIMAL:
		return decimal_is_valid(s);
	case COL_ID:
	case COL_REF:
		return uuid_parse(s, NULL);
	case COL_TEXT:
		return true;
	default:
		return false;
	}
}

bool cursor_parse(struct arena *a, const struct plan *p, const struct query *q, struct str cursor, const char *const **after)
{
	const char **values = arena_zalloc(a, (LIST_MAX_SORT + 1) * sizeof(*values));
	uint8_t *bytes = arena_alloc(a, cursor.n + 4);
	long n = cursor.n <= LIST_MAX_CURSOR ? b64url_decode(cursor, bytes) : -1;
	struct wire_reader r = wire_read((struct str){ (char *)bytes, n > 0 ? (size_t)n : 0 });
	struct wire_field f;
	bool version = false, same = false;
	size_t i = 0;

	*after = values;
	while (wire_next(&r, &f)) {
		if (f.number == 1)
			version = f.type == WIRE_VARINT && f.value == CURSOR_VERSION;
		else if (f.number == 2)
			same = f.type == WIRE_FIXED32 && f.value == mark(p, q);
		else if (i == q->n_keys)
			return false;
		else if (f.number == 3 && f.type == WIRE_BYTES && value_ok(q->keys[i].col, f.bytes))
			values[i] = text_param(a, f.bytes);
		else if (f.number != 4 || (q->keys[i].col ? q->keys[i].col->not_null : true))
			return false;
		if (f.number == 3 && !values[i])
			return false;
		i += f.number >= 3;
	}
	return !r.bad && version && same && i == q->n_keys;
}
