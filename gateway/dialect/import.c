/* A table as bodies of a POST: which column is which member, and a row through the members of the route's resource. */
#include "base/codec.h"
#include "base/wire.h"
#include "gateway/dialect/decode.h"
#include "gateway/dialect/import.h"
#include "schema/validate.h"

#define REQUEST_COLUMN 7 /* of ImportRequest */
#define NEAR 0.4         /* how near a name must be to be suggested */

struct column {
	struct str name;
	const struct member_plan *member; /* NULL: passed over */
	struct str suggestion;            /* may be empty */
};

struct import_plan {
	const struct route_impl *r;
	struct column *columns;
	size_t n;
};

/* -- names */

/* "E-mail Address" and "emailAddress" are the same. */
static struct str bare(struct arena *a, struct str s)
{
	char *out = arena_alloc(a, s.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 'A' && c <= 'Z')
			out[n++] = (char)(c + 32);
		else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80)
			out[n++] = (char)c;
	}
	return (struct str){ out, n };
}

static bool is_written(const struct member_plan *m)
{
	return (!m->ro || m->imported) && m->n_paths > 0;
}

static const struct member_plan *member_called(const struct resource_plan *res, struct arena *a, struct str name)
{
	struct str wanted = bare(a, name);

	for (size_t i = 0; i < res->n; i++) {
		const struct member_plan *m = &res->members[i];

		if (is_written(m) && wanted.n && (str_eq(bare(a, m->name), wanted) || (m->alias.n && str_eq(bare(a, m->alias), wanted))))
			return m;
	}
	return NULL;
}

static bool is_taken(const struct import_plan *p, const struct member_plan *m)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->columns[i].member == m)
			return true;
	return false;
}

/* How much of the longer text the shorter one is, a beginning more than a middle. */
static double nearness(struct str a, struct str b)
{
	const char *at;

	if (a.n < b.n) {
		struct str c = a;

		a = b;
		b = c;
	}
	at = b.n >= 3 ? memmem(a.p, a.n, b.p, b.n) : NULL;
	return at ? (double)b.n / (double)a.n + (at == a.p ? 0.3 : 0) : 0;
}

static size_t smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* Letters that one must change, add or leave out; of names up to 32 letters. */
static size_t distance(struct str a, struct str b)
{
	size_t row[33];

	if (a.n > 32 || b.n > 32)
		return 32;
	for (size_t k = 0; k <= b.n; k++)
		row[k] = k;
	for (size_t i = 1; i <= a.n; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t k = 1; k <= b.n; k++) {
			size_t above = row[k];

			row[k] = smallest(above + 1, row[k - 1] + 1, corner + (a.p[i - 1] != b.p[k - 1]));
			corner = above;
		}
	}
	return row[b.n];
}

static struct str suggestion(const struct import_plan *p, struct arena *a, struct str name)
{
	const struct resource_plan *res = p->r->import;
	struct str wanted = bare(a, name), best = { "", 0 };
	double best_near = NEAR;

	for (size_t i = 0; i < res->n; i++) {
		const struct member_plan *m = &res->members[i];
		struct str other = bare(a, m->name);
		double near = nearness(wanted, other);

		if (!is_written(m) || is_taken(p, m) || !wanted.n)
			continue;
		if (other.n >= 5 && distance(wanted, other) <= 2)
			near = 1.2 - 0.1 * (double)distance(wanted, other);
		if (near > best_near) {
			best_near = near;
			best = m->name;
		}
	}
	return best;
}

/* -- the head */

static const char *mapped(struct import_plan *p, struct arena *a, const struct json *mapping)
{
	for (const struct json *v = mapping->child; v; v = v->next) {
		struct column *c = NULL;

		for (size_t i = 0; i < p->n && !c; i++)
			if (str_eq(p->columns[i].name, v->key) || str_eq(bare(a, p->columns[i].name), bare(a, v->key)))
				c = &p->columns[i];
		if (!c)
			return arena_printf(a, "the file has no column \"%.*s\"", STR_FMT(v->key));
		if (v->type == JSON_NULL)
			continue;
		c->member = v->type == JSON_STRING ? member_called(p->r->import, a, v->text) : NULL;
		if (!c->member)
			return arena_printf(a, "\"%.*s\" is to be a member that can be written", STR_FMT(v->key));
	}
	return NULL;
}

static bool is_mapped(const struct json *mapping, struct arena *a, struct str name)
{
	for (const struct json *v = mapping ? mapping->child : NULL; v; v = v->next)
		if (str_eq(bare(a, v->key), bare(a, name)))
			return true;
	return false;
}

struct import_plan *import_plan_new(const struct route *route, struct arena *a, const struct sheet_cell *head, size_t n, struct str mapping, struct field_violation *v)
{
	struct import_plan *p = ARENA_NEW(a, struct import_plan);
	struct json_error err = { 0 };
	struct json *map = mapping.n ? json_parse(a, mapping, &err) : NULL;
	const char *why = NULL;
	bool any = false;

	p->r = route->impl;
	p->n = n;
	p->columns = arena_zalloc(a, (n + 1) * sizeof(*p->columns));
	for (size_t i = 0; i < n; i++) {
		if (!str_is_utf8(head[i].text) || head[i].text.n > 200) {
			*v = (struct field_violation){ str_of(route->upload_part), STR("file"), str_of("must be UTF-8, and its first row must say what the columns are"), STR("") };
			return NULL;
		}
		p->columns[i].name = arena_str(a, head[i].text);
	}
	if (mapping.n && (!map || map->type != JSON_OBJECT))
		why = "must be a JSON object of columns and members";
	else if (map)
		why = mapped(p, a, map);
	if (why) {
		*v = (struct field_violation){ STR("mapping"), STR("mapping"), str_of(why), STR("") };
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		const struct member_plan *m = member_called(p->r->import, a, p->columns[i].name);

		if (m && !is_taken(p, m) && !is_mapped(map, a, p->columns[i].name))
			p->columns[i].member = m;
	}
	for (size_t i = 0; i < n; i++) {
		any = any || p->columns[i].member;
		if (!p->columns[i].member && p->columns[i].name.n)
			p->columns[i].suggestion = suggestion(p, a, p->columns[i].name);
	}
	if (any)
		return p;
	*v = (struct field_violation){ str_of(route->upload_part), STR("columns"), str_of("has no column that is known: name them like members, or give a mapping"), STR("") };
	return NULL;
}

static void path_print(struct buf *b, const struct path *p)
{
	for (unsigned i = 0; i < p->n; i++)
		buf_printf(b, "%s%s", i ? "." : "", p->f[i]->name);
}

void import_plan_print(const struct import_plan *p, struct buf *out)
{
	struct buf path = { 0 };

	for (size_t i = 0; i < p->n; i++) {
		const struct column *c = &p->columns[i];
		size_t at = wire_open(out, REQUEST_COLUMN);

		wire_put_bytes(out, 1, c->name);
		if (c->member) {
			buf_clear(&path);
			path_print(&path, &c->member->paths[0]);
			wire_put_bytes(out, 2, c->member->name);
			wire_put_bytes(out, 3, buf_view(&path));
		} else if (c->suggestion.n) {
			wire_put_bytes(out, 4, c->suggestion);
		}
		wire_close(out, at);
	}
	buf_fini(&path);
}

/* -- a row */

static struct json *node(struct arena *a, enum json_type type, struct str text)
{
	struct json *v = ARENA_NEW(a, struct json);

	v->type = type;
	v->text = text;
	return v;
}

static struct str trim(struct str s)
{
	while (s.n && memchr(" \t\r\n", s.p[0], 4)) {
		s.p++;
		s.n--;
	}
	while (s.n && memchr(" \t\r\n", s.p[s.n - 1], 4))
		s.n--;
	return s;
}

/* "VIP, Partner; Key" */
static struct json *list_node(struct arena *a, struct str text)
{
	struct json *list = node(a, JSON_ARRAY, STR("")), **tail = &list->child;

	while (text.n) {
		size_t n = 0;
		struct str part;

		while (n < text.n && text.p[n] != ',' && text.p[n] != ';')
			n++;
		part = trim((struct str){ text.p, n });
		if (part.n) {
			*tail = node(a, JSON_STRING, part);
			tail = &(*tail)->next;
			list->n++;
		}
		n += n < text.n;
		text.p += n;
		text.n -= n;
	}
	return list;
}

static bool holds_json(const struct member_plan *m)
{
	switch (m->enc.kind) {
	case ENC_REF:
	case ENC_REFOBJ:
	case ENC_RES:
	case ENC_JSON:
	case ENC_TAGS: return true;
	default: return m->repeated;
	}
}

static struct json *bool_node(struct arena *a, struct str text)
{
	if (str_ieq(text, STR("yes")) || str_ieq(text, STR("y")))
		return node(a, JSON_TRUE, STR(""));
	if (str_ieq(text, STR("no")) || str_ieq(text, STR("n")))
		return node(a, JSON_FALSE, STR(""));
	return node(a, JSON_STRING, text);
}

/* What stands in a cell, as a client would have written it in JSON. */
static struct json *cell_node(const struct import_row *row, const struct member_plan *m, const struct sheet_cell *cell)
{
	struct arena *a = row->in->arena;
	struct str text = row->csv ? export_unescape(cell->text, a) : cell->text;
	struct json_error err;
	struct json *v;
	int64_t us;

	if (holds_json(m) && text.n && (text.p[0] == '{' || text.p[0] == '[')) {
		v = json_parse(a, text, &err);
		if (v)
			return v;
	}
	if (m->repeated)
		return list_node(a, text);
	if ((m->enc.kind == ENC_TS || m->enc.kind == ENC_DATE) && cell->number && sheet_days(row->sheet, text, &us)) {
		struct buf b = { 0 };

		time_print(&b, us);
		text = arena_str(a, buf_view(&b));
		buf_fini(&b);
	}
	if (m->enc.kind == ENC_BOOL || m->enc.kind == ENC_FLAG)
		return bool_node(a, trim(text));
	return node(a, JSON_STRING, m->enc.kind == ENC_STR ? text : trim(text));
}

struct violating {
	struct decoder *d;
	const struct resource_plan *res;
};

static void contract_violation(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	struct violating *v = arg;
	struct str name = name_in_resource(v->res, str_of(path), v->d->a);

	decode_violate(v->d, name.n ? name : str_of(path), rule, NULL, param);
}

enum status import_row_decode(const struct import_row *row, const struct import_plan *p, const struct sheet_cell *cells, size_t n, struct decoded *out)
{
	struct arena *a = row->in->arena;
	struct decoder d = { .in = row->in, .out = out, .r = p->r, .d = p->r->dialect, .a = a, .full = true, .imports = true };
	struct json *object = node(a, JSON_OBJECT, STR("")), **tail = &object->child;
	struct violating v = { &d, p->r->import };
	struct str entity;

	*out = (struct decoded){ .unknown_fields = STR("") };
	for (size_t i = 0; i < n && i < p->n; i++) {
		const struct member_plan *m = p->columns[i].member;

		if (!m || !trim(cells[i].text).n)
			continue;
		*tail = cell_node(row, m, &cells[i]);
		(*tail)->key = m->name;
		tail = &(*tail)->next;
		object->n++;
	}
	build_init(&d.entity, a);
	decode_loose(&d, p->r->import, object);
	build_print(&d.entity, &out->payload);
	entity = arena_str(a, buf_view(&out->payload));
	schema_validate(p->r->pub.rpc->entity, entity, true, a, contract_violation, &v);
	return out->n_violations ? STATUS_VALIDATION_ERROR : STATUS_OK;
}
