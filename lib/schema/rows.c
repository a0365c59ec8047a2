/* Wire bytes to JSON objects by core names, and back. */
#include "schema/rows.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/wire.h"

#define DEPTH_MAX 8

static bool object_put(struct buf *b, const struct schema_message *m, struct str wire, bool written, unsigned depth);

/* JSON allows no zeros in front of a number. */
static void number_put(struct buf *b, struct str s)
{
	if (s.n && s.p[0] == '-') {
		buf_c(b, '-');
		s.p++;
		s.n--;
	}
	while (s.n > 1 && s.p[0] == '0' && s.p[1] != '.') {
		s.p++;
		s.n--;
	}
	buf_str(b, s);
}

static bool text_put(struct buf *b, const struct schema_field *f, struct str s)
{
	if (f->format == FORMAT_DECIMAL && decimal_is_valid(s))
		number_put(b, s);
	else if (f->type == TYPE_BYTES)
		buf_str(b, s.n ? s : STR("null"));
	else if (str_is_utf8(s) && !memchr(s.p ? s.p : "", 0, s.n))
		buf_json_str(b, s);
	else
		return false;
	return true;
}

static bool value_put(struct buf *b, const struct schema_field *f, const struct wire_field *w, bool written, unsigned depth)
{
	double d;

	switch (f->type) {
	case TYPE_STRING:
	case TYPE_BYTES:
		return w->type == WIRE_BYTES && text_put(b, f, w->bytes);
	case TYPE_MESSAGE:
		return w->type == WIRE_BYTES && object_put(b, f->message, w->bytes, written, depth + 1);
	case TYPE_BOOL:
		buf_z(b, w->value ? "true" : "false");
		return w->type == WIRE_VARINT;
	case TYPE_DOUBLE:
		memcpy(&d, &w->value, sizeof(d));
		buf_printf(b, "%.17g", d);
		return w->type == WIRE_FIXED64;
	default:
		buf_printf(b, "%" PRId64, (int64_t)w->value);
		return w->type != WIRE_BYTES;
	}
}

/* The values of one field: of several that are not repeated the last one counts. */
static bool field_put(struct buf *b, const struct schema_field *f, struct str wire, bool written, unsigned depth)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w, last = { 0 };
	size_t n = 0;

	while (wire_next(&r, &w)) {
		if (w.number != f->number)
			continue;
		last = w;
		if (!f->repeated)
			continue;
		buf_c(b, n++ ? ',' : '[');
		if (!value_put(b, f, &w, written, depth))
			return false;
	}
	if (f->repeated)
		buf_z(b, n ? "]" : "[]");
	else if (!value_put(b, f, &last, written, depth))
		return false;
	return true;
}

static bool has_field(struct str wire, uint32_t number, bool *bad)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	bool found = false;

	while (wire_next(&r, &w))
		found = found || w.number == number;
	*bad = r.bad;
	return found;
}

static bool object_put(struct buf *b, const struct schema_message *m, struct str wire, bool written, unsigned depth)
{
	const char *sep = "";
	bool bad = false;

	if (depth > DEPTH_MAX)
		return false;
	buf_c(b, '{');
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];

		if ((written && f->read_only) || !has_field(wire, f->number, &bad)) {
			if (bad)
				return false;
			continue;
		}
		buf_printf(b, "%s\"%s\":", sep, f->name);
		if (!field_put(b, f, wire, written, depth))
			return false;
		sep = ",";
	}
	buf_c(b, '}');
	return true;
}

bool message_to_json(struct buf *b, const struct schema_message *m, struct str wire, bool written)
{
	return object_put(b, m, wire, written, 0);
}

/* -- back */

static bool of_object(struct buf *b, const struct schema_message *m, const struct json *o, unsigned depth);

static bool number_take(struct buf *b, const struct schema_field *f, const struct json *v)
{
	int64_t n;
	double d;
	uint64_t bits;
	char text[64];

	if (v->type != JSON_NUMBER || v->text.n >= sizeof(text))
		return false;
	if (f->type == TYPE_DOUBLE) {
		memcpy(text, v->text.p, v->text.n);
		text[v->text.n] = 0;
		d = strtod(text, NULL);
		memcpy(&bits, &d, sizeof(bits));
		wire_put_fixed64(b, f->number, bits);
		return true;
	}
	if (!str_to_i64(v->text, &n))
		return false;
	wire_put_varint(b, f->number, (uint64_t)n);
	return true;
}

static bool value_take(struct buf *b, const struct schema_field *f, const struct json *v, unsigned depth)
{
	size_t at;

	switch (f->type) {
	case TYPE_STRING:
		if (v->type != JSON_STRING && v->type != JSON_NUMBER)
			return false;
		wire_put_bytes(b, f->number, v->text);
		return true;
	case TYPE_BYTES:
		wire_put_bytes(b, f->number, v->raw);
		return true;
	case TYPE_BOOL:
		wire_put_varint(b, f->number, v->type == JSON_TRUE);
		return v->type == JSON_TRUE || v->type == JSON_FALSE;
	case TYPE_MESSAGE:
		at = wire_open(b, f->number);
		if (!of_object(b, f->message, v, depth + 1))
			return false;
		wire_close(b, at);
		return true;
	default:
		return number_take(b, f, v);
	}
}

static bool of_object(struct buf *b, const struct schema_message *m, const struct json *o, unsigned depth)
{
	if (o->type != JSON_OBJECT || depth > DEPTH_MAX)
		return false;
	for (const struct json *v = o->child; v; v = v->next) {
		const struct schema_field *f = schema_field_find(m, v->key);

		if (!f || v->type == JSON_NULL)
			continue;
		if (!f->repeated) {
			if (!value_take(b, f, v, depth))
				return false;
			continue;
		}
		if (v->type != JSON_ARRAY)
			return false;
		for (const struct json *e = v->child; e; e = e->next)
			if (!value_take(b, f, e, depth))
				return false;
	}
	return true;
}

bool message_of_json(struct buf *b, const struct schema_message *m, const struct json *object)
{
	return of_object(b, m, object, 0);
}
