/* Messages in wire form to JSON, by the plan of a resource: one pass over the bytes, then the members in their order. */
#include <math.h>

#include "base/codec.h"
#include "base/wire.h"
#include "gateway/dialect/plan.h"

/* What was found of one top-level field: its last value, and where its first one starts. */
struct slot {
	const uint8_t *from;
	struct wire_field w;
};

struct message_view {
	const struct schema_message *m;
	struct slot *slots;
	const uint8_t *end;
};

enum outcome { PRINTED, UNSET, MALFORMED };

struct ref_view {
	struct str id, name, email, color;
	int64_t seq;
};

static enum wire_type wire_type_of(const struct schema_field *f)
{
	switch (f->type) {
	case TYPE_STRING:
	case TYPE_BYTES:
	case TYPE_MESSAGE: return WIRE_BYTES;
	case TYPE_DOUBLE:
	case TYPE_FIXED64: return WIRE_FIXED64;
	case TYPE_FIXED32: return WIRE_FIXED32;
	default: return WIRE_VARINT;
	}
}

static bool type_fits(const struct schema_field *f, const struct wire_field *w)
{
	enum wire_type t = wire_type_of(f);

	return w->type == t || (f->repeated && w->type == WIRE_BYTES);
}

static bool view_read(const struct resource_plan *res, struct str wire, struct slot *slots, struct message_view *v)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	const uint8_t *from = r.p;

	memset(slots, 0, res->n_slots * sizeof(*slots));
	*v = (struct message_view){ res->message, slots, r.end };
	for (; wire_next(&r, &w); from = r.p) {
		uint8_t slot = w.number <= res->message->max_number ? res->slot_of[w.number] : 0;

		if (!slot)
			continue;
		if (!type_fits(res->message->by_number[w.number], &w))
			return false;
		slots[slot - 1].w = w;
		if (!slots[slot - 1].from)
			slots[slot - 1].from = from;
	}
	return !r.bad;
}

/* The last field of a path; UNSET when one on the way is missing. */
static enum outcome path_value(const struct path *p, const struct slot *s, struct wire_field *out)
{
	if (!s->from)
		return UNSET;
	*out = s->w;
	for (unsigned i = 1; i < p->n; i++) {
		struct wire_reader r = wire_read(out->bytes);
		struct wire_field w;
		bool found = false;

		while (wire_next(&r, &w)) {
			if (w.number != p->f[i]->number)
				continue;
			if (!type_fits(p->f[i], &w))
				return MALFORMED;
			*out = w;
			found = true;
		}
		if (r.bad)
			return MALFORMED;
		if (!found)
			return UNSET;
	}
	return PRINTED;
}

/* -- numbers and times */

static void print_int(struct buf *b, const struct schema_field *f, uint64_t v)
{
	bool is_unsigned = f->type == TYPE_UINT32 || f->type == TYPE_UINT64;
	bool quoted = is_unsigned ? v > SEQ_MAX : (int64_t)v > SEQ_MAX || (int64_t)v < -SEQ_MAX;

	if (quoted)
		buf_c(b, '"');
	if (is_unsigned)
		buf_u64(b, v);
	else
		buf_i64(b, (int64_t)v);
	if (quoted)
		buf_c(b, '"');
}

static void print_double(struct buf *b, uint64_t bits)
{
	double x;

	memcpy(&x, &bits, sizeof(x));
	if (isfinite(x))
		buf_printf(b, "%.15g", x);
	else
		buf_str(b, STR("null"));
}

static void print_time(struct buf *b, enum encoding kind, int64_t us)
{
	buf_c(b, '"');
	if (kind == ENC_DATE)
		date_print(b, us);
	else
		time_print(b, us);
	buf_c(b, '"');
}

/* -- words */

static void print_mapped(struct buf *b, const struct word_map *m, struct str core)
{
	for (size_t i = 0; i < m->n; i++) {
		if (str_eq(m->rows[i].core, core)) {
			buf_json_str(b, m->rows[i].face);
			return;
		}
	}
	buf_json_str(b, core);
}

static void print_title(const struct encode_run *run, struct buf *b, struct str s)
{
	size_t at = b->n;

	words_title(b, s);
	s = arena_str(run->in->arena, (struct str){ b->p + at, b->n - at });
	b->n = at;
	buf_json_str(b, s);
}

static void print_member_name(const struct encode_run *run, const struct encoder *e, struct str path, struct buf *b)
{
	const struct resource_plan *res = e->res ? e->res : run->in->match->route->impl->body;
	struct str name = name_in_resource(res, path, run->in->arena);

	buf_json_str(b, name.n ? name : path);
}

static void print_status(const struct encode_run *run, struct buf *b, uint64_t code)
{
	buf_json_str(b, run->d->codes[code < STATUS_COUNT ? code : STATUS_INTERNAL].code);
}

/* -- references */

static bool ref_read(const struct encoder *e, struct str wire, struct ref_view *out)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;

	*out = (struct ref_view){ .seq = 0 };
	while (wire_next(&r, &w)) {
		if (w.number == KEY_SEQ && w.type == WIRE_VARINT)
			out->seq = (int64_t)w.value;
		else if (w.type != WIRE_BYTES)
			continue;
		else if (w.number == KEY_ID)
			out->id = w.bytes;
		else if (w.number == e->name_number)
			out->name = w.bytes;
		else if (w.number == e->email_number)
			out->email = w.bytes;
		else if (w.number == e->color_number)
			out->color = w.bytes;
	}
	return !r.bad;
}

/* What the answering service does not know of another service's entity is asked for. */
static void ref_complete(const struct encode_run *run, const struct encoder *e, struct ref_view *v)
{
	bool uuid = run->d->id_style == CRM__DIALECT__DIALECT__ID_STYLE__UUID;
	bool enough = (uuid ? v->id.n > 0 : v->seq > 0) && (v->name.n || !e->wants_name) && (v->email.n || !e->wants_email);
	struct ref_key key = { str_of(e->entity), v->id, v->seq };
	struct ref_value found = { 0 };

	if (enough || !e->owner || !run->in->refs.get || strcmp(e->owner, run->service) == 0)
		return;
	if (run->in->refs.get(run->in->refs.arg, &key, &found) != REF_FOUND)
		return;
	v->id = v->id.n ? v->id : found.id;
	v->seq = v->seq ? v->seq : found.seq;
	v->name = v->name.n ? v->name : found.name;
	v->email = v->email.n ? v->email : found.email;
}

static void text_or_null(struct buf *b, struct str s)
{
	if (s.n)
		buf_json_str(b, s);
	else
		buf_str(b, STR("null"));
}

static void print_ref_object(const struct encode_run *run, const struct encoder *e, const struct ref_view *v, struct buf *b)
{
	for (unsigned i = 0; i < e->n_members; i++) {
		buf_str(b, e->members[i].key);
		switch (e->members[i].part) {
		case PART_ID: id_print(b, run->d->id_style, e->prefix, v->id, v->seq); break;
		case PART_SEQ: id_print(b, CRM__DIALECT__DIALECT__ID_STYLE__SEQ, e->prefix, v->id, v->seq); break;
		case PART_NAME: text_or_null(b, v->name); break;
		case PART_EMAIL: text_or_null(b, v->email); break;
		case PART_COLOR: text_or_null(b, v->color); break;
		}
	}
	buf_c(b, '}');
}

static enum outcome print_ref(const struct encode_run *run, const struct encoder *e, struct str wire, struct buf *b)
{
	struct ref_view v;

	if (!ref_read(e, wire, &v))
		return MALFORMED;
	if (e->kind == ENC_TAGS && e->tags == TAGS_NAMES) {
		text_or_null(b, v.name);
		return PRINTED;
	}
	if (!v.id.n && v.seq <= 0)
		return UNSET;
	if (e->kind != ENC_TAGS)
		ref_complete(run, e, &v);
	if (e->kind == ENC_REFOBJ || (e->kind == ENC_TAGS && e->tags == TAGS_OBJECTS))
		print_ref_object(run, e, &v, b);
	else
		id_print(b, run->d->id_style, e->prefix, v.id, v.seq);
	return PRINTED;
}

/* -- values */

/* At least `scale` digits behind the point: amounts are "0.00" where a document prints them so. */
static enum outcome print_decimal(struct buf *b, struct str s, unsigned scale)
{
	const char *point;

	if (s.n == 0)
		return UNSET;
	if (!decimal_is_valid(s))
		return MALFORMED;
	buf_str(b, s);
	if (!scale)
		return PRINTED;
	point = memchr(s.p, '.', s.n);
	if (!point)
		buf_c(b, '.');
	for (size_t n = point ? (size_t)(s.p + s.n - point - 1) : 0; n < scale; n++)
		buf_c(b, '0');
	return PRINTED;
}

/* A path of ours, which services store so that it outlives a change of host: as the whole URL, under the address that was asked. */
static void print_own_url(const struct encode_run *run, struct str path, struct buf *b)
{
	buf_json_str(b, str_of(arena_printf(run->in->arena, "%.*s%.*s", STR_FMT(run->in->base_url), STR_FMT(path))));
}

static enum outcome print_value(const struct encode_run *run, const struct encoder *e, const struct schema_field *f, const struct wire_field *w, struct buf *b)
{
	switch (e->kind) {
	case ENC_STR:
		if (f->format == FORMAT_URL && w->bytes.n && w->bytes.p[0] == '/') {
			print_own_url(run, w->bytes, b);
			return PRINTED;
		}
		buf_json_str(b, w->bytes);
		return PRINTED;
	case ENC_LOWER: buf_json_str(b, w->bytes); return PRINTED;
	case ENC_TS:
	case ENC_DATE: print_time(b, e->kind, (int64_t)w->value); return PRINTED;
	case ENC_INT: print_int(b, f, w->value); return PRINTED;
	case ENC_NUM: print_double(b, w->value); return PRINTED;
	case ENC_BOOL: buf_str(b, w->value ? STR("true") : STR("false")); return PRINTED;
	case ENC_DEC: return print_decimal(b, w->bytes, e->scale);
	case ENC_JSON:
		if (w->bytes.n == 0)
			return UNSET;
		buf_str(b, w->bytes);
		return PRINTED;
	case ENC_TITLE: print_title(run, b, w->bytes); return PRINTED;
	case ENC_MAP: print_mapped(b, e->map, w->bytes); return PRINTED;
	case ENC_FLAG: buf_str(b, str_eq(w->bytes, e->yes) ? STR("true") : STR("false")); return PRINTED;
	case ENC_ID:
	case ENC_REF:
	case ENC_REFOBJ:
	case ENC_TAGS: return print_ref(run, e, w->bytes, b);
	case ENC_RES: return encode_resource(run, e->res, w->bytes, b) ? PRINTED : MALFORMED;
	case ENC_STATUS: print_status(run, b, w->value); return PRINTED;
	case ENC_MEMBER: print_member_name(run, e, w->bytes, b); return PRINTED;
	case ENC_CHANGE: return change_print(run, w->bytes, b) ? PRINTED : MALFORMED;
	case ENC_CONST: break;
	}
	return MALFORMED;
}

static bool read_packed(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t c = *(*p)++;

		v |= (uint64_t)(c & 0x7F) << shift;
		if (!(c & 0x80)) {
			*out = v;
			return true;
		}
	}
	return false;
}

static bool print_packed(const struct encode_run *run, const struct encoder *e, const struct schema_field *f, struct str packed, struct buf *b, bool *any)
{
	const uint8_t *p = (const uint8_t *)packed.p, *end = p + packed.n;
	struct wire_field w = { .number = f->number, .type = WIRE_VARINT };

	while (p < end) {
		if (wire_type_of(f) != WIRE_VARINT || !read_packed(&p, end, &w.value))
			return false;
		if (*any)
			buf_c(b, ',');
		*any = true;
		if (print_value(run, e, f, &w, b) == MALFORMED)
			return false;
	}
	return true;
}

static enum outcome print_list(const struct encode_run *run, const struct member_plan *m, const struct path *p, const struct message_view *v, const struct slot *s, struct buf *b)
{
	const struct schema_field *f = p->f[p->n - 1];
	struct wire_reader r = { s->from, v->end, false };
	struct wire_field w, parent;
	struct path front = *p;
	bool any = false;

	front.n--;
	if (front.n > 0) {
		enum outcome o = path_value(&front, s, &parent);

		if (o != PRINTED)
			return o;
		r = wire_read(parent.bytes);
	}
	buf_c(b, '[');
	while (wire_next(&r, &w)) {
		size_t at = b->n;
		enum outcome o;

		if (w.number != f->number)
			continue;
		if (!type_fits(f, &w))
			return MALFORMED;
		if (w.type == WIRE_BYTES && wire_type_of(f) != WIRE_BYTES) {
			if (!print_packed(run, &m->enc, f, w.bytes, b, &any))
				return MALFORMED;
			continue;
		}
		if (any)
			buf_c(b, ',');
		o = print_value(run, &m->enc, f, &w, b);
		if (o == MALFORMED)
			return o;
		if (o == UNSET)
			b->n = at;
		any = any || o == PRINTED;
	}
	buf_c(b, ']');
	return r.bad ? MALFORMED : PRINTED;
}

/* -- members */

static enum outcome print_path(const struct encode_run *run, const struct member_plan *m, unsigned k, const struct message_view *v, struct buf *b)
{
	const struct path *p = &m->paths[k];
	const struct slot *s = &v->slots[m->slots[k]];
	struct wire_field w;
	enum outcome o;

	if (!s->from)
		return UNSET;
	if (m->repeated)
		return print_list(run, m, p, v, s, b);
	o = path_value(p, s, &w);
	if (o != PRINTED)
		return o;
	if (m->n_paths > 1 && w.type == WIRE_BYTES && w.bytes.n == 0)
		return UNSET;
	return print_value(run, &m->enc, p->f[p->n - 1], &w, b);
}

static enum outcome print_own_id(const struct encode_run *run, const struct resource_plan *res, const struct member_plan *m, const struct message_view *v, struct buf *b)
{
	const struct slot *id = &v->slots[res->slot_of[KEY_ID] - 1], *seq = &v->slots[res->slot_of[KEY_SEQ] - 1];

	id_print(b, run->d->id_style, m->enc.prefix, id->from ? id->w.bytes : (struct str){ "", 0 }, seq->from ? (int64_t)seq->w.value : 0);
	return PRINTED;
}

static enum outcome print_caller(const struct encode_run *run, const struct member_plan *m, struct buf *b)
{
	const struct caller *who = &run->in->who;

	if (m->caller == CALLER_TENANT)
		id_print(b, run->d->id_style, m->enc.prefix, who->tenant_id, who->tenant_seq);
	else
		id_print(b, run->d->id_style, m->enc.prefix, who->user_id, who->user_seq);
	return PRINTED;
}

static enum outcome print_member(const struct encode_run *run, const struct resource_plan *res, const struct member_plan *m, const struct message_view *v, struct buf *b)
{
	size_t at = b->n;

	if (m->caller)
		return print_caller(run, m, b);
	if (m->enc.kind == ENC_CONST) {
		buf_str(b, m->enc.json);
		return PRINTED;
	}
	if (m->n_paths == 0)
		return print_own_id(run, res, m, v, b);
	for (unsigned k = 0; k < m->n_paths; k++) {
		enum outcome o = print_path(run, m, k, v, b);

		if (o != UNSET)
			return o;
		b->n = at;
	}
	return UNSET;
}

bool encode_resource(const struct encode_run *run, const struct resource_plan *res, struct str wire, struct buf *b)
{
	struct slot slots[RESOURCE_MAX_SLOTS];
	struct message_view v;
	size_t start = b->n;

	if (!view_read(res, wire, slots, &v))
		return false;
	for (size_t i = 0; i < res->n; i++) {
		const struct member_plan *m = &res->members[i];
		size_t at = b->n;
		enum outcome o;

		if (m->wo || (m->detail && run->list))
			continue;
		buf_str(b, m->key);
		o = print_member(run, res, m, &v, b);
		if (o == MALFORMED)
			return false;
		if (o == UNSET) {
			b->n = at;
			buf_str(b, m->unset);
		}
	}
	if (b->n == start)
		buf_c(b, '{');
	else
		b->p[start] = '{';
	buf_c(b, '}');
	return true;
}

bool encode_member(const struct encode_run *run, const struct resource_plan *res, const struct member_plan *m, struct str wire, struct buf *b)
{
	struct slot slots[RESOURCE_MAX_SLOTS];
	struct message_view v;
	size_t at = b->n;
	enum outcome o;

	if (!view_read(res, wire, slots, &v))
		return false;
	o = print_member(run, res, m, &v, b);
	if (o == UNSET) {
		b->n = at;
		if (m->unset.n > m->key.n)
			buf_put(b, m->unset.p + m->key.n, m->unset.n - m->key.n);
		else
			buf_str(b, STR("null"));
	}
	return o != MALFORMED;
}
