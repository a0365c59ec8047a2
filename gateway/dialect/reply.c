/* A service's reply in the dialect's shape. */
#include "base/wire.h"
#include "gateway/dialect/plan.h"

struct reply {
	const struct route_impl *r;
	const struct encode_input *in;
	struct encode_run run;
	struct str wire;
	struct str text, next_cursor;
	uint64_t total;
	bool has_total, by_cursor;
};

/* -- what is in it */

static bool read_list(struct reply *p)
{
	struct wire_reader r = wire_read(p->wire);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		if (w.number == LIST_REPLY_TOTAL && w.type == WIRE_VARINT) {
			p->total = w.value;
			p->has_total = true;
		} else if (w.number == LIST_REPLY_NEXT_CURSOR && w.type == WIRE_BYTES) {
			p->next_cursor = w.bytes;
		}
	}
	return !r.bad;
}

static bool read_text(struct reply *p)
{
	struct wire_reader r = wire_read(p->wire);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		if (w.number == 1 && w.type == WIRE_BYTES)
			p->text = w.bytes;
	}
	return !r.bad;
}

static void info_id(struct reply *p, struct encoded *info, struct str id, int64_t seq)
{
	struct buf b = { 0 };
	bool quoted;

	id_print(&b, p->run.d->id_style, p->r->id_prefix, id, seq);
	quoted = b.p[0] == '"';
	if (b.p[0] != 'n')
		info->id = arena_str(p->in->arena, (struct str){ b.p + quoted, b.n - 2 * quoted });
	buf_fini(&b);
}

static bool read_entity(struct reply *p, struct encoded *info)
{
	struct wire_reader r = wire_read(p->wire);
	struct wire_field w;
	struct str id = { "", 0 };
	int64_t seq = 0;

	while (wire_next(&r, &w)) {
		if (w.number == p->r->id_number && w.type == WIRE_BYTES)
			id = w.bytes;
		else if (w.number == p->r->seq_number && w.type == WIRE_VARINT)
			seq = (int64_t)w.value;
		else if (w.number == p->r->version_number && w.type == WIRE_VARINT)
			info->version = w.value;
	}
	if (!r.bad)
		info_id(p, info, id, seq);
	return !r.bad;
}

static bool read_reply(struct reply *p, struct encoded *info)
{
	if (p->r->output == OUTPUT_LIST)
		return read_list(p);
	if (p->r->output == OUTPUT_TEXT)
		return read_text(p);
	return p->r->id_number == 0 || read_entity(p, info);
}

/* -- links */

static bool pair_is(struct arena *a, struct str raw, const struct param_plan *p)
{
	const char *eq = memchr(raw.p, '=', raw.n);
	struct str name = { raw.p, eq ? (size_t)(eq - raw.p) : raw.n };

	return p && percent_decode(a, name, true, &name) && str_eq(name, p->name);
}

static struct str next_pair(struct str *query)
{
	const char *amp = query->n ? memchr(query->p, '&', query->n) : NULL;
	struct str pair = { query->p, amp ? (size_t)(amp - query->p) : query->n };

	query->p += pair.n + (amp ? 1 : 0);
	query->n -= pair.n + (amp ? 1 : 0);
	return pair;
}

/* Every other parameter stays as the client wrote it; those of the other ways of paging go. */
static void link_print(const struct reply *p, const struct param_plan *by, struct str value, struct buf *b)
{
	struct str query = p->in->query;
	char separator = '?';

	buf_str(b, p->in->base_url);
	buf_str(b, p->in->path);
	while (query.n > 0) {
		struct str pair = next_pair(&query);

		if (pair.n == 0 || pair_is(p->in->arena, pair, p->r->page) || pair_is(p->in->arena, pair, p->r->offset) || pair_is(p->in->arena, pair, p->r->cursor))
			continue;
		buf_c(b, separator);
		buf_str(b, pair);
		separator = '&';
	}
	buf_c(b, separator);
	buf_str(b, by->name);
	buf_c(b, '=');
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];
		bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '_' || c == '.' || c == '~';

		if (plain)
			buf_c(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

static struct str link_text(const struct reply *p, const struct param_plan *by, struct str value)
{
	struct buf b = { 0 };
	struct str s;

	link_print(p, by, value, &b);
	s = str_is_utf8(buf_view(&b)) ? arena_str(p->in->arena, buf_view(&b)) : (struct str){ "", 0 };
	buf_fini(&b);
	return s;
}

static struct str number_text(const struct reply *p, uint64_t v)
{
	return str_of(arena_printf(p->in->arena, "%llu", (unsigned long long)v));
}

static bool has_next(const struct reply *p)
{
	if (p->next_cursor.n)
		return true;
	return p->has_total && !p->by_cursor && p->in->page.offset + p->in->page.limit < p->total;
}

static struct str next_link(const struct reply *p)
{
	const struct page *g = &p->in->page;

	if (!has_next(p))
		return (struct str){ "", 0 };
	if (p->r->page && !p->by_cursor)
		return link_text(p, p->r->page, number_text(p, (uint64_t)g->page + 1));
	if (p->r->offset && !p->by_cursor)
		return link_text(p, p->r->offset, number_text(p, g->offset + g->limit));
	return p->r->cursor && p->next_cursor.n ? link_text(p, p->r->cursor, p->next_cursor) : (struct str){ "", 0 };
}

static struct str previous_link(const struct reply *p)
{
	const struct page *g = &p->in->page;

	if (g->offset == 0 || p->by_cursor)
		return (struct str){ "", 0 };
	if (p->r->page)
		return link_text(p, p->r->page, number_text(p, g->page > 1 ? g->page - 1 : 1));
	return p->r->offset ? link_text(p, p->r->offset, number_text(p, g->offset > g->limit ? g->offset - g->limit : 0)) : (struct str){ "", 0 };
}

static bool uses_cursor(const struct reply *p)
{
	struct str query = p->in->query;

	while (query.n > 0) {
		struct str pair = next_pair(&query);

		if (pair.n > p->r->cursor->name.n + 1 && pair_is(p->in->arena, pair, p->r->cursor))
			return true;
	}
	return false;
}

/* -- printing */

static bool print_items(const struct reply *p, struct buf *b)
{
	struct wire_reader r = wire_read(p->wire);
	struct wire_field w;
	bool any = false;

	buf_c(b, '[');
	while (wire_next(&r, &w)) {
		if (w.number != LIST_REPLY_ITEM)
			continue;
		if (any)
			buf_c(b, ',');
		any = true;
		if (w.type != WIRE_BYTES || !encode_resource(&p->run, p->r->out, w.bytes, b))
			return false;
	}
	buf_c(b, ']');
	return !r.bad;
}

static bool print_item_member(const struct reply *p, struct str name, struct buf *b)
{
	for (size_t i = 0; i < p->r->out->n; i++) {
		if (str_eq(p->r->out->members[i].name, name))
			return encode_member(&p->run, p->r->out, &p->r->out->members[i], p->wire, b);
	}
	return false;
}

static void print_text(struct buf *b, struct str s)
{
	if (s.n)
		buf_json_str(b, s);
	else
		buf_str(b, STR("null"));
}

static void print_bool(struct buf *b, bool v)
{
	buf_str(b, v ? STR("true") : STR("false"));
}

static void print_count(const struct reply *p, struct buf *b, uint64_t v)
{
	if (p->has_total)
		buf_u64(b, v);
	else
		buf_str(b, STR("null"));
}

static bool print_var(const struct reply *p, const struct segment *s, struct buf *b)
{
	const struct page *g = &p->in->page;
	uint64_t limit = g->limit ? g->limit : 1;

	switch (s->var) {
	case VAR_NONE: return true;
	case VAR_ITEM: return encode_resource(&p->run, p->r->out, p->wire, b);
	case VAR_ITEM_MEMBER: return print_item_member(p, s->member, b);
	case VAR_ITEMS: return print_items(p, b);
	case VAR_MESSAGE: buf_json_str(b, p->r->message); return true;
	case VAR_TEXT: buf_json_str(b, p->text); return true;
	case VAR_TOTAL: print_count(p, b, p->total); return true;
	case VAR_PAGES: print_count(p, b, p->total / limit + (p->total % limit ? 1 : 0)); return true;
	case VAR_PAGE: buf_u64(b, g->page); return true;
	case VAR_SIZE: buf_u64(b, g->limit); return true;
	case VAR_OFFSET: buf_u64(b, g->offset); return true;
	case VAR_HAS_NEXT: print_bool(b, has_next(p)); return true;
	case VAR_HAS_PREV: print_bool(b, g->offset > 0 || p->by_cursor); return true;
	case VAR_NEXT: print_text(b, next_link(p)); return true;
	case VAR_PREVIOUS: print_text(b, previous_link(p)); return true;
	case VAR_CURSOR: print_text(b, p->next_cursor); return true;
	default: return template_common(p->run.d, p->in, s->var, b);
	}
}

static bool print_shape(const struct reply *p, struct buf *b)
{
	for (size_t i = 0; i < p->r->shape.n; i++) {
		buf_str(b, p->r->shape.s[i].text);
		if (!print_var(p, &p->r->shape.s[i], b))
			return false;
	}
	return true;
}

static bool other_met(const struct other_plan *o, const struct wire_field *f)
{
	if (o->when->number != f->number)
		return false;
	return o->has_is ? f->type == WIRE_VARINT && f->value == o->is : o->when->type != TYPE_BOOL || f->value;
}

/* The route as this reply is printed. A malformed reply is found when it is read. */
static const struct route_impl *as_met(const struct route_impl *r, struct str wire)
{
	struct wire_reader w = wire_read(wire);
	struct wire_field f;

	while (r->n_others && wire_next(&w, &f)) {
		for (size_t i = 0; i < r->n_others; i++) {
			if (other_met(&r->others[i], &f))
				return r->others[i].as;
		}
	}
	return r;
}

bool route_encode(const struct encode_input *in, struct str wire, struct buf *out, struct encoded *info)
{
	const struct route_impl *r = as_met(in->match->route->impl, wire);
	struct reply p = { .r = r, .in = in, .wire = wire, .text = STR(""), .next_cursor = STR("") };
	size_t start = out->n;
	bool ok = true;

	*info = (struct encoded){ .status = r->pub.status, .id = STR(""), .next = STR("") };
	p.run = (struct encode_run){ in, r->dialect, r->pub.rpc->service, r->output == OUTPUT_LIST };
	p.by_cursor = r->cursor && uses_cursor(&p);
	if (!read_reply(&p, info))
		return false;
	if (p.next_cursor.n && r->cursor)
		info->next = link_text(&p, r->cursor, p.next_cursor);
	if (r->no_body)
		return true;
	if (r->has_shape)
		ok = print_shape(&p, out);
	else if (r->out)
		ok = encode_resource(&p.run, r->out, wire, out);
	else
		buf_str(out, STR("{}"));
	if (!ok)
		out->n = start;
	return ok;
}

bool route_encode_item(const struct encode_input *in, struct str item, struct buf *out)
{
	const struct route_impl *r = in->match->route->impl;
	struct encode_run run = { in, r->dialect, r->pub.rpc->service, true };

	return encode_resource(&run, r->out, item, out);
}
