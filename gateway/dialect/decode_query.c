/* Path and query parameters: into the message, into filters, into paging and order. */
#include "base/wire.h"
#include "gateway/dialect/decode.h"

#define VALUES_MAX 100
#define TEXT_MAX 1000
#define CREATED_US 4 /* the same number in every entity (proto/customers.proto) */

struct paging {
	int64_t page, limit, offset;
	bool has_offset;
	struct str cursor;
	uint32_t sort;
	bool sort_desc, has_order, desc;
	struct str sort_name;
};

struct values {
	struct str v[VALUES_MAX];
	size_t n;
	bool bad, too_many;
};

static struct json text_of(struct str s)
{
	return (struct json){ .type = JSON_STRING, .text = s };
}

static void add(struct values *out, struct str s)
{
	if (s.n == 0)
		return;
	if (out->n == VALUES_MAX)
		out->too_many = true;
	else
		out->v[out->n++] = s;
}

static void add_split(struct values *out, struct str s, bool csv)
{
	while (csv && s.n > 0) {
		const char *comma = memchr(s.p, ',', s.n);

		if (!comma)
			break;
		add(out, (struct str){ s.p, (size_t)(comma - s.p) });
		s.n -= (size_t)(comma - s.p) + 1;
		s.p = comma + 1;
	}
	add(out, s);
}

/* Empty values are as if absent: forms and query builders send them. */
static void values_of(struct decoder *d, const struct param_plan *p, const struct pair *pairs, size_t n, struct values *out)
{
	*out = (struct values){ .n = 0 };
	if (p->path_index >= 0) {
		add_split(out, d->in->match->params[p->path_index], p->enc.csv);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (!str_eq(pairs[i].name, p->name))
			continue;
		out->bad = out->bad || pairs[i].bad;
		add_split(out, pairs[i].value, p->enc.csv);
	}
	if (out->n == 0 && p->has_def)
		add_split(out, p->def, p->enc.csv);
}

/* -- into the message */

static bool in_bounds(struct decoder *d, const struct param_plan *p, int64_t *v)
{
	if (p->has_min && *v < p->min) {
		decode_violate(d, p->name, "gte", NULL, arena_printf(d->a, "%lld", (long long)p->min));
		return false;
	}
	if (p->has_max && *v > p->max)
		*v = p->max;
	return true;
}

static void into_message(struct decoder *d, const struct param_plan *p, const struct values *v)
{
	struct build *b = build_parent(p->path.in_entity ? &d->entity : &d->root, &p->path);
	const struct schema_field *leaf = p->path.f[p->path.n - 1];
	struct spot s = { .enc = &p->enc, .f = leaf, .name = p->name, .loose = true, .in_path = p->path_index >= 0, .end_of_day = p->end_of_day };

	for (size_t i = leaf->repeated ? 0 : v->n - 1; i < v->n; i++) {
		struct json text = text_of(v->v[i]);
		struct scalar x;

		if (!decode_scalar(d, &s, &text, &x))
			continue;
		if (x.kind == SCALAR_INT && !in_bounds(d, p, &x.i))
			continue;
		decode_put(b, leaf, &x);
		if (p->path.in_entity)
			d->mask[p->path.f[0]->number] = 1;
	}
}

/* -- filters */

static void filter_value(struct decoder *d, const struct scalar *x)
{
	struct buf b = { 0 };
	size_t at;

	switch (x->kind) {
	case SCALAR_TEXT: wire_put_bytes(&d->extra, FILTER_VALUE, x->text); return;
	case SCALAR_BOOL: wire_put_bytes(&d->extra, FILTER_VALUE, x->i ? STR("true") : STR("false")); return;
	case SCALAR_KEY:
		if (!x->key.id.n && !x->key.seq) {
			wire_put_bytes(&d->extra, FILTER_VALUE, x->text);
			return;
		}
		at = wire_open(&d->extra, FILTER_KEY);
		if (x->key.id.n)
			wire_put_bytes(&d->extra, KEY_ID, x->key.id);
		if (x->key.seq)
			wire_put_varint(&d->extra, KEY_SEQ, (uint64_t)x->key.seq);
		wire_close(&d->extra, at);
		return;
	case SCALAR_INT: buf_i64(&b, x->i); break;
	case SCALAR_DOUBLE: buf_printf(&b, "%.17g", x->x); break;
	}
	wire_put_bytes(&d->extra, FILTER_VALUE, buf_view(&b));
	buf_fini(&b);
}

static void into_filter(struct decoder *d, const struct param_plan *p, const struct values *v)
{
	struct spot s = { .enc = &p->enc, .f = p->filter, .name = p->name, .loose = true, .in_path = p->path_index >= 0,
		.end_of_day = p->end_of_day, .filter = true };
	size_t at = wire_open(&d->extra, LIST_FILTER);

	wire_put_varint(&d->extra, FILTER_FIELD, p->filter->number);
	wire_put_varint(&d->extra, FILTER_OP, p->op);
	for (size_t i = 0; i < v->n; i++) {
		struct json text = text_of(v->v[i]);
		struct scalar x;

		if (v->v[i].n > TEXT_MAX)
			decode_violate(d, p->name, "max_len", NULL, arena_printf(d->a, "%d", TEXT_MAX));
		else if (decode_scalar(d, &s, &text, &x) && (x.kind != SCALAR_INT || in_bounds(d, p, &x.i)))
			filter_value(d, &x);
	}
	wire_close(&d->extra, at);
}

/* -- paging and order */

static bool number_of(struct decoder *d, const struct param_plan *p, struct str text, int64_t min, int64_t *out)
{
	if (!str_to_i64(text, out)) {
		decode_violate(d, p->name, "type", "must be a whole number", NULL);
		return false;
	}
	if (p->has_min && p->min > min)
		min = p->min;
	if (*out < min) {
		decode_violate(d, p->name, "gte", NULL, arena_printf(d->a, "%lld", (long long)min));
		return false;
	}
	if (p->has_max && *out > p->max)
		*out = p->max;
	return true;
}

bool member_sortable(const struct member_plan *m)
{
	switch (m->enc.kind) {
	case ENC_ID: return true;
	case ENC_RES:
	case ENC_JSON:
	case ENC_CONST:
	case ENC_REF:
	case ENC_REFOBJ:
	case ENC_TAGS: return false;
	default: return m->n_paths > 0 && m->paths[0].n == 1 && !m->repeated && !m->wo;
	}
}

static const char *sort_words(struct decoder *d, const struct resource_plan *res)
{
	const char *text = "";

	for (size_t i = 0; i < res->n; i++) {
		if (member_sortable(&res->members[i]))
			text = arena_printf(d->a, "%s%s%.*s", text, *text ? ", " : "", STR_FMT(res->members[i].name));
	}
	return text;
}

static uint32_t sort_field(struct decoder *d, const struct param_plan *p, struct str word)
{
	const struct resource_plan *res = p->sort;

	for (size_t i = 0; i < res->n; i++) {
		const struct member_plan *m = &res->members[i];

		if (!str_ieq(m->name, word) && !(m->alias.n && str_ieq(m->alias, word)))
			continue;
		if (m->enc.kind == ENC_ID && m->n_paths == 0)
			return KEY_SEQ;
		if (member_sortable(m))
			return m->paths[0].f[0]->number;
	}
	decode_violate(d, p->name, "in", NULL, sort_words(d, res));
	return 0;
}

static void put_sort(struct decoder *d, uint32_t field, bool desc)
{
	size_t at;

	if (!field)
		return;
	at = wire_open(&d->extra, LIST_SORT);
	wire_put_varint(&d->extra, SORT_FIELD, field);
	if (desc)
		wire_put_varint(&d->extra, SORT_DESC, 1);
	wire_close(&d->extra, at);
}

static bool minus(struct str *word)
{
	if (word->n < 2 || word->p[0] != '-')
		return false;
	word->p++;
	word->n--;
	return true;
}

static void read_ordering(struct decoder *d, const struct param_plan *p, struct str text)
{
	struct values words = { .n = 0 };

	add_split(&words, text, true);
	for (size_t i = 0; i < words.n && i < 5; i++) {
		bool desc = minus(&words.v[i]);

		put_sort(d, sort_field(d, p, words.v[i]), desc);
	}
}

static void read_order(struct decoder *d, const struct param_plan *p, struct str text, struct paging *g)
{
	g->has_order = true;
	g->desc = str_ieq(text, STR("desc")) || str_ieq(text, STR("descending"));
	if (!g->desc && !str_ieq(text, STR("asc")) && !str_ieq(text, STR("ascending")))
		decode_violate(d, p->name, "in", NULL, "asc, desc");
}

static void read_text(struct decoder *d, const struct param_plan *p, struct str text, uint32_t number)
{
	if (text.n > TEXT_MAX)
		decode_violate(d, p->name, "max_len", NULL, arena_printf(d->a, "%d", TEXT_MAX));
	else
		wire_put_bytes(&d->extra, number, text);
}

static void read_special(struct decoder *d, const struct param_plan *p, struct str text, struct paging *g)
{
	switch (p->special) {
	case CRM__DIALECT__PARAM__SPECIAL__PAGE: number_of(d, p, text, 1, &g->page); break;
	case CRM__DIALECT__PARAM__SPECIAL__LIMIT: number_of(d, p, text, 1, &g->limit); break;
	case CRM__DIALECT__PARAM__SPECIAL__OFFSET: g->has_offset = number_of(d, p, text, 0, &g->offset); break;
	case CRM__DIALECT__PARAM__SPECIAL__CURSOR:
		g->cursor = text;
		read_text(d, p, text, LIST_CURSOR);
		break;
	case CRM__DIALECT__PARAM__SPECIAL__SEARCH: read_text(d, p, text, LIST_SEARCH); break;
	case CRM__DIALECT__PARAM__SPECIAL__SORT:
		g->sort_desc = minus(&text);
		g->sort = sort_field(d, p, text);
		break;
	case CRM__DIALECT__PARAM__SPECIAL__ORDER: read_order(d, p, text, g); break;
	case CRM__DIALECT__PARAM__SPECIAL__ORDERING: read_ordering(d, p, text); break;
	case CRM__DIALECT__PARAM__SPECIAL__FORMAT:
		d->out->format = str_ieq(text, STR("json")) ? EXPORT_JSON : str_ieq(text, STR("xlsx")) ? EXPORT_XLSX : EXPORT_CSV;
		if (d->out->format == EXPORT_CSV && !str_ieq(text, STR("csv")))
			decode_violate(d, p->name, "in", NULL, "csv, json, xlsx");
		break;
	default: break;
	}
}

static const struct param_plan *paging_param(const struct route_impl *r, bool by_offset)
{
	if (by_offset)
		return r->offset ? r->offset : r->limit;
	return r->page ? r->page : r->limit;
}

/* Order is a word of its own in most documents: without a field it orders by the time of creation. */
static void finish_sort(struct decoder *d, const struct paging *g)
{
	const struct schema_message *m = d->r->pub.rpc->entity;
	bool has_created = m->max_number >= CREATED_US && m->by_number[CREATED_US] && strcmp(m->by_number[CREATED_US]->name, "created_us") == 0;

	if (g->sort)
		put_sort(d, g->sort, g->has_order ? g->desc : g->sort_desc);
	else if (g->has_order && has_created)
		put_sort(d, CREATED_US, g->desc);
}

static void finish_list(struct decoder *d, struct paging *g)
{
	struct page *page = &d->out->page;

	if (d->r->pub.export_name) { /* all of it: a page makes no sense */
		g->limit = d->d->max_limit;
		g->page = 1;
		g->has_offset = false;
	}
	if (g->limit < 1)
		g->limit = d->d->limit;
	if (g->limit > d->d->max_limit)
		g->limit = d->d->max_limit;
	if (g->page < 1)
		g->page = 1;
	if (!g->has_offset) {
		if (g->page > OFFSET_MAX || (g->page - 1) * g->limit > OFFSET_MAX) {
			const struct param_plan *p = paging_param(d->r, false);

			decode_violate(d, p ? p->name : STR("page"), "lte", NULL, arena_printf(d->a, "%lld", (long long)(OFFSET_MAX / g->limit + 1)));
			return;
		}
		g->offset = (g->page - 1) * g->limit;
	} else if (g->offset > OFFSET_MAX) {
		decode_violate(d, paging_param(d->r, true)->name, "lte", NULL, arena_printf(d->a, "%d", OFFSET_MAX));
		return;
	}
	page->limit = (uint32_t)g->limit;
	page->offset = (uint64_t)g->offset;
	page->by_offset = d->r->offset && !d->r->page;
	page->page = (uint32_t)(g->offset / g->limit + 1);
	finish_sort(d, g);
	wire_put_varint(&d->extra, LIST_LIMIT, page->limit);
	if (page->offset && !g->cursor.n)
		wire_put_varint(&d->extra, LIST_OFFSET, page->offset);
	if (d->r->want_total)
		wire_put_varint(&d->extra, LIST_WANT_TOTAL, 1);
}

/* One value by name: a parameter of the query, or a member of a selection's filter. */
static void read_param(struct decoder *d, const struct param_plan *p, const struct pair *pairs, size_t n, struct paging *g)
{
	struct values v;

	values_of(d, p, pairs, n, &v);
	if (v.bad)
		decode_violate(d, p->name, "utf8", NULL, NULL);
	if (v.too_many)
		decode_violate(d, p->name, "max_items", NULL, arena_printf(d->a, "%d", VALUES_MAX));
	if (v.bad || v.too_many || v.n == 0)
		return;
	switch (p->target) {
	case TARGET_PATH: into_message(d, p, &v); break;
	case TARGET_FILTER: into_filter(d, p, &v); break;
	case TARGET_SPECIAL: read_special(d, p, v.v[v.n - 1], g); break;
	}
}

void decode_filter(struct decoder *d, const struct pair *pairs, size_t n)
{
	struct paging g = { .limit = 0 };

	for (size_t i = 0; i < d->r->n_params; i++)
		if (d->r->params[i].target != TARGET_PATH)
			read_param(d, &d->r->params[i], pairs, n, &g);
}

enum status decode_params(struct decoder *d)
{
	struct paging g = { .limit = 0 };
	size_t n;
	const struct pair *pairs = form_parse(d->a, d->in->query, &n);

	if (!pairs) {
		d->out->text = "The query has too many parameters";
		return STATUS_BAD_REQUEST;
	}
	for (size_t i = 0; i < d->r->n_params; i++)
		if (d->r->input != INPUT_SELECT || d->r->params[i].target == TARGET_PATH)
			read_param(d, &d->r->params[i], pairs, n, &g);
	if (d->r->input == INPUT_LIST)
		finish_list(d, &g);
	return STATUS_OK;
}

void decode_sets(struct decoder *d)
{
	for (size_t i = 0; i < d->r->n_sets; i++) {
		const struct set_plan *p = &d->r->sets[i];
		const struct schema_field *leaf = p->path.f[p->path.n - 1];
		struct spot s = { .enc = &p->enc, .f = leaf, .name = str_of(leaf->name), .loose = true };
		struct json text = text_of(p->value);
		struct scalar x;

		if (!decode_scalar(d, &s, &text, &x))
			continue;
		decode_put(build_parent(p->path.in_entity ? &d->entity : &d->root, &p->path), leaf, &x);
		if (p->path.in_entity)
			d->mask[p->path.f[0]->number] = 1;
	}
}
