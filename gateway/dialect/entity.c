/* Entities of events: as a dialect shows them, or by their contract when no dialect is asked for or it does not show them. */
#include "events/entity.h"

#include "base/codec.h"
#include "base/wire.h"
#include "gateway/dialect/plan.h"

#define DEPTH_MAX 8

enum { CHANGE_KIND = 1, CHANGE_CHANGED = 2, CHANGE_ENTITY = 3 };

/* -- by contract */

/* "owner_name" → "ownerName", "created_us" → "createdAt" */
static void contract_name(const struct schema_field *f, struct buf *b)
{
	struct str s = str_of(f->name);
	bool us = s.n > 3 && memcmp(s.p + s.n - 3, "_us", 3) == 0, upper = false;

	s.n -= us ? 3 : 0;
	buf_c(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c != '_')
			buf_c(b, upper && c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
		upper = c == '_';
	}
	buf_z(b, us ? "At\"" : "\"");
}

static bool is_shown(const struct schema_field *f)
{
	bool json = f->format == FORMAT_JSON_OBJECT || f->format == FORMAT_JSON_VALUE;

	return !f->secret && (f->type != TYPE_BYTES || json);
}

static bool is_time(const struct schema_field *f)
{
	return f->format == FORMAT_TIME || f->format == FORMAT_DATE || (f->type == TYPE_INT64 && strlen(f->name) > 3 && strcmp(f->name + strlen(f->name) - 3, "_us") == 0);
}

static void print_time(const struct schema_field *f, int64_t us, struct buf *b)
{
	buf_c(b, '"');
	if (f->format == FORMAT_DATE)
		date_print(b, us);
	else
		time_print(b, us);
	buf_c(b, '"');
}

static bool message_print(const struct schema_message *m, struct str wire, unsigned depth, struct buf *b);

static bool value_print(const struct schema_field *f, const struct wire_field *w, unsigned depth, struct buf *b)
{
	bool bytes = f->type == TYPE_STRING || f->type == TYPE_BYTES || f->type == TYPE_MESSAGE;

	if (bytes != (w->type == WIRE_BYTES) || f->type == TYPE_DOUBLE)
		return false; /* no entity has a double, and packed numbers neither */
	if (f->type == TYPE_MESSAGE)
		return message_print(f->message, w->bytes, depth + 1, b);
	if (f->type == TYPE_BYTES)
		buf_str(b, w->bytes.n ? w->bytes : STR("null"));
	else if (f->type == TYPE_STRING && f->format == FORMAT_DECIMAL)
		buf_str(b, decimal_is_valid(w->bytes) ? w->bytes : STR("null"));
	else if (f->type == TYPE_STRING)
		buf_json_str(b, w->bytes);
	else if (f->type == TYPE_BOOL)
		buf_z(b, w->value ? "true" : "false");
	else if (is_time(f))
		print_time(f, (int64_t)w->value, b);
	else
		buf_i64(b, (int64_t)w->value);
	return true;
}

/* One pass: whoever wrote the bytes wrote the fields in their order, and repeated ones one behind the other. */
static bool message_print(const struct schema_message *m, struct str wire, unsigned depth, struct buf *b)
{
	struct wire_reader r = wire_read(wire);
	const struct schema_field *list = NULL;
	struct wire_field w;
	bool any = false;

	if (depth > DEPTH_MAX)
		return false;
	buf_c(b, '{');
	while (wire_next(&r, &w)) {
		const struct schema_field *f = w.number <= m->max_number ? m->by_number[w.number] : NULL;

		if (!f || !is_shown(f))
			continue;
		if (f != list) {
			if (list)
				buf_c(b, ']');
			if (any)
				buf_c(b, ',');
			contract_name(f, b);
			buf_z(b, f->repeated ? ":[" : ":");
		} else {
			buf_c(b, ',');
		}
		list = f->repeated ? f : NULL;
		any = true;
		if (!value_print(f, &w, depth, b))
			return false;
	}
	buf_z(b, list ? "]}" : "}");
	return !r.bad;
}

bool contract_print(const struct schema_message *m, struct str wire, struct buf *b)
{
	return message_print(m, wire, 0, b);
}

static void message_schema(const struct schema_message *m, unsigned depth, struct buf *b);

static void value_schema(const struct schema_field *f, unsigned depth, struct buf *b)
{
	if (f->type == TYPE_MESSAGE && depth < DEPTH_MAX)
		message_schema(f->message, depth + 1, b);
	else if (f->type == TYPE_MESSAGE || f->format == FORMAT_JSON_OBJECT)
		buf_z(b, "{\"type\":\"object\"}");
	else if (f->type == TYPE_BYTES)
		buf_z(b, "{}");
	else if (f->type == TYPE_BOOL)
		buf_z(b, "{\"type\":\"boolean\"}");
	else if (is_time(f))
		buf_z(b, f->format == FORMAT_DATE ? "{\"type\":\"string\",\"format\":\"date\"}" : "{\"type\":\"string\",\"format\":\"date-time\"}");
	else if (f->type == TYPE_STRING && f->format == FORMAT_DECIMAL)
		buf_z(b, "{\"type\":\"number\"}");
	else
		buf_z(b, f->type == TYPE_STRING ? "{\"type\":\"string\"}" : "{\"type\":\"integer\"}");
}

static void message_schema(const struct schema_message *m, unsigned depth, struct buf *b)
{
	bool any = false;

	buf_z(b, "{\"type\":\"object\",\"properties\":{");
	for (size_t i = 0; i < m->n_fields; i++) {
		const struct schema_field *f = &m->fields[i];

		if (!is_shown(f))
			continue;
		if (any)
			buf_c(b, ',');
		any = true;
		contract_name(f, b);
		buf_z(b, f->repeated ? ":{\"type\":\"array\",\"items\":" : ":");
		value_schema(f, depth, b);
		if (f->repeated)
			buf_c(b, '}');
	}
	buf_z(b, "}}");
}

void contract_schema(const struct schema_message *m, struct buf *b)
{
	message_schema(m, 0, b);
}

/* -- as a dialect shows it */

static bool gives(const struct route_impl *r, const struct schema_message *m)
{
	return r->out && r->out->message == m && str_eq(r->pub.method, STR("GET"));
}

const struct resource_plan *entity_resource(const struct dialect_impl *d, const struct schema_message *m)
{
	const struct resource_plan *of_list = NULL;

	for (size_t i = 0; i < d->n_routes; i++) {
		const struct route_impl *r = &d->routes[i];

		if (!gives(r, m))
			continue;
		if (r->output == OUTPUT_PLAIN)
			return r->out;
		of_list = of_list ? of_list : r->out;
	}
	return of_list;
}

/* -- changes */

struct change {
	struct str kind, entity;
	bool has_entity;
};

static bool change_read(struct str wire, struct change *c)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;

	*c = (struct change){ .kind = STR("") };
	while (wire_next(&r, &w)) {
		if (w.type != WIRE_BYTES)
			continue;
		if (w.number == CHANGE_KIND)
			c->kind = w.bytes;
		if (w.number == CHANGE_ENTITY) {
			c->entity = w.bytes;
			c->has_entity = true;
		}
	}
	return !r.bad;
}

/* The member that a column is shown as, with quotes; false: it is not shown. */
static bool column_print(const struct encode_run *run, const struct schema_message *m, const struct resource_plan *res, struct str column, struct buf *b)
{
	const struct schema_field *f = m ? entity_field_of(m, column) : NULL;
	struct str name;

	if (!m) {
		buf_json_str(b, column);
		return true;
	}
	if (!f || (!res && !is_shown(f)))
		return false;
	if (!res) {
		contract_name(f, b);
		return true;
	}
	name = name_in_resource(res, str_of(f->name), run->in->arena);
	if (name.n)
		buf_json_str(b, name);
	return name.n > 0;
}

/* Several columns may be one member. */
static bool printed_before(struct str list, struct str name)
{
	for (const char *at = list.p; at && at < list.p + list.n; at++) {
		at = memmem(at, (size_t)(list.p + list.n - at), name.p, name.n);
		if (at && (at[-1] == '[' || at[-1] == ','))
			return true;
		if (!at)
			break;
	}
	return false;
}

static bool changed_print(const struct encode_run *run, const struct schema_message *m, const struct resource_plan *res, struct str wire, struct buf *b)
{
	struct wire_reader r = wire_read(wire);
	struct buf name = { 0 };
	struct wire_field w;
	size_t from = b->n;

	buf_c(b, '[');
	while (wire_next(&r, &w)) {
		buf_clear(&name);
		if (w.number != CHANGE_CHANGED || w.type != WIRE_BYTES || !column_print(run, m, res, w.bytes, &name))
			continue;
		if (printed_before((struct str){ b->p + from, b->n - from }, buf_view(&name)))
			continue;
		if (b->p[b->n - 1] != '[')
			buf_c(b, ',');
		buf_str(b, buf_view(&name));
	}
	buf_c(b, ']');
	buf_fini(&name);
	return !r.bad;
}

bool change_print(const struct encode_run *run, struct str wire, struct buf *b)
{
	const struct dialect_impl *shown = run->in->shown ? run->in->shown->impl : NULL;
	const struct resource_plan *res = NULL;
	const struct schema_message *m;
	struct encode_run as_shown = *run;
	struct change c;
	bool good = true;

	if (!change_read(wire, &c))
		return false;
	m = entity_message(run->d->schema, c.kind);
	if (m && shown)
		res = entity_resource(shown, m);
	buf_z(b, "{\"entity\":");
	if (!m || !c.has_entity) {
		buf_z(b, "null");
	} else if (res) {
		as_shown.d = shown;
		as_shown.list = false;
		good = encode_resource(&as_shown, res, c.entity, b);
	} else {
		good = contract_print(m, c.entity, b);
	}
	buf_z(b, ",\"changed\":");
	good = good && changed_print(run, m, res, wire, b);
	buf_c(b, '}');
	return good;
}
