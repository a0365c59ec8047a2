/* The body of a request, through the members of the route's resource. */
#include "base/wire.h"
#include "gateway/dialect/decode.h"

/* Where a JSON object goes. */
struct level {
	struct decoder *d;
	const struct resource_plan *res;
	struct build *into;
	const char *prefix; /* of names in violations: "address." */
	bool top;           /* an entity's own members: they make the mask */
	bool loose;
	uint8_t *seen;      /* per member: 1 given, 2 given as null */
};

static void read_object(struct decoder *d, const struct resource_plan *res, const struct json *v, struct build *into, const char *prefix, bool top, bool loose);

static struct str full_name(const struct level *l, struct str name)
{
	return *l->prefix ? str_of(arena_printf(l->d->a, "%s%.*s", l->prefix, STR_FMT(name))) : name;
}

static const struct schema_field *leaf_of(const struct member_plan *m)
{
	return m->paths[0].f[m->paths[0].n - 1];
}

static void mark(const struct level *l, const struct member_plan *m)
{
	if (l->top && l->d->mask)
		l->d->mask[m->paths[0].f[0]->number] = 1;
}

/* A member inside a message that is merged cannot be left out to clear it: the empty text says so. */
static void clear_inside(const struct level *l, const struct member_plan *m)
{
	if (leaf_of(m)->type == TYPE_STRING && !m->repeated)
		build_text(build_parent(l->into, &m->paths[0]), leaf_of(m), (struct str){ "", 0 });
}

static void read_null(const struct level *l, const struct member_plan *m, struct str name)
{
	if (!l->d->clears)
		return;
	if (m->req) {
		decode_violate(l->d, name, "required", NULL, NULL);
		return;
	}
	if (l->top && m->paths[0].n == 1)
		build_drop(l->into, leaf_of(m));
	else
		clear_inside(l, m);
	mark(l, m);
}

static void read_resource(const struct level *l, const struct member_plan *m, const struct json *v, struct build *parent, struct str name)
{
	const char *prefix = arena_printf(l->d->a, "%.*s.", STR_FMT(name));
	const struct schema_field *f = leaf_of(m);
	struct build inner;
	struct buf b = { 0 };

	if (v->type != JSON_OBJECT) {
		decode_violate(l->d, name, "type", "must be an object", NULL);
		return;
	}
	if (f->type == TYPE_MESSAGE) {
		read_object(l->d, m->enc.res, v, build_sub(parent, f), prefix, false, l->loose);
		return;
	}
	build_init(&inner, l->d->a);
	read_object(l->d, m->enc.res, v, &inner, prefix, false, l->loose);
	build_print(&inner, &b);
	build_text(parent, f, arena_str(l->d->a, buf_view(&b)));
	buf_fini(&b);
}

static void read_one(const struct level *l, const struct member_plan *m, const struct json *v, struct str name)
{
	struct build *parent = build_parent(l->into, &m->paths[0]);
	struct spot s = { .enc = &m->enc, .f = leaf_of(m), .name = name, .loose = l->loose };
	struct scalar x;

	if (m->enc.kind == ENC_RES)
		read_resource(l, m, v, parent, name);
	else if (decode_scalar(l->d, &s, v, &x))
		decode_put(parent, s.f, &x);
}

static void read_list(const struct level *l, const struct member_plan *m, const struct json *v, struct str name)
{
	unsigned i = 0;

	if (v->type != JSON_ARRAY && !l->loose) {
		decode_violate(l->d, name, "type", "must be a list", NULL);
		return;
	}
	if (v->n > LIST_MAX_ITEMS) {
		decode_violate(l->d, name, "max_items", NULL, arena_printf(l->d->a, "%d", LIST_MAX_ITEMS));
		return;
	}
	if (v->type != JSON_ARRAY) {
		read_one(l, m, v, name);
		return;
	}
	for (const struct json *e = v->child; e; e = e->next)
		read_one(l, m, e, str_of(arena_printf(l->d->a, "%.*s.%u", STR_FMT(name), i++)));
}

static void read_member(struct level *l, size_t index, const struct json *v)
{
	const struct member_plan *m = &l->res->members[index];
	struct str name = full_name(l, m->name);
	bool any = m->enc.kind == ENC_JSON && leaf_of(m)->format == FORMAT_JSON_VALUE; /* "" and [] are values like others */
	bool empty = !any && v->type == JSON_STRING && v->text.n == 0;

	l->seen[index] = 1;
	if (v->type == JSON_NULL || (l->loose && empty)) {
		l->seen[index] = 2;
		read_null(l, m, name);
		return;
	}
	if (m->req && (empty || (!any && v->type == JSON_ARRAY && v->n == 0))) {
		decode_violate(l->d, name, "required", NULL, NULL);
		return;
	}
	if (empty && l->top && !m->repeated && (m->enc.kind != ENC_STR || leaf_of(m)->format != FORMAT_NONE)) {
		/* clients send "" for a date, a number, an e-mail address or a reference that is not set */
		l->seen[index] = 2;
		read_null(l, m, name);
		return;
	}
	mark(l, m);
	if (m->repeated)
		read_list(l, m, v, name);
	else
		read_one(l, m, v, name);
}

static size_t member_find(const struct level *l, struct str key)
{
	const struct resource_plan *res = l->res;

	for (size_t i = 0; i < res->n; i++) {
		if (str_eq(res->members[i].name, key) || (res->members[i].alias.n && str_eq(res->members[i].alias, key)))
			return i;
	}
	for (size_t i = 0; l->d->d->ci_keys && i < res->n; i++) {
		if (str_ieq(res->members[i].name, key) || (res->members[i].alias.n && str_ieq(res->members[i].alias, key)))
			return i;
	}
	return res->n;
}

static void unknown(const struct level *l, struct str key)
{
	struct decoder *d = l->d;
	struct str name = full_name(l, key);

	if (l->top && d->r->input == INPUT_SELECT && (str_eq(key, d->r->select.ids) || str_eq(key, d->r->select.filter) || str_eq(key, d->r->select.mode)))
		return;
	if (d->d->pub.strict) {
		decode_violate(d, name, "unknown", NULL, NULL);
		return;
	}
	if (d->out->unknown_fields.n < 500 && name.n < 100)
		d->out->unknown_fields = str_of(arena_printf(d->a, "%.*s%s%.*s", STR_FMT(d->out->unknown_fields), d->out->unknown_fields.n ? "," : "", STR_FMT(name)));
}

/* A replacement clears what it does not name. */
static void replace_rest(const struct level *l)
{
	for (size_t i = 0; i < l->res->n; i++) {
		const struct member_plan *m = &l->res->members[i];
		const struct build *sub;

		if (m->ro || m->n_paths == 0 || l->seen[i] == 1)
			continue;
		mark(l, m);
		sub = m->paths[0].n > 1 ? build_peek(l->into, m->paths[0].f[0]) : NULL;
		if ((sub || !l->top) && !build_has(build_parent(l->into, &m->paths[0]), leaf_of(m)))
			clear_inside(l, m);
	}
}

static void read_object(struct decoder *d, const struct resource_plan *res, const struct json *v, struct build *into, const char *prefix, bool top, bool loose)
{
	struct level l = { d, res, into, prefix, top, loose, arena_zalloc(d->a, res->n + 1) };

	for (const struct json *c = v->child; c; c = c->next) {
		size_t i = member_find(&l, c->key);

		if (i == res->n)
			unknown(&l, c->key);
		else if ((!res->members[i].ro || (d->imports && res->members[i].imported)) && res->members[i].n_paths > 0 && !l.seen[i])
			read_member(&l, i, c);
	}
	for (size_t i = 0; d->full && i < res->n; i++) {
		if (res->members[i].req && l.seen[i] != 1)
			decode_violate(d, full_name(&l, res->members[i].name), "required", NULL, NULL);
	}
	if (d->r->replace && d->clears)
		replace_rest(&l);
}

void decode_entity(struct decoder *d, const struct json *v, const char *prefix)
{
	read_object(d, d->r->body, v, &d->entity, prefix, true, false);
}

void decode_loose(struct decoder *d, const struct resource_plan *res, const struct json *v)
{
	read_object(d, res, v, &d->entity, "", true, true);
}

/* -- many at once */

static void read_bulk(struct decoder *d, const struct json *body)
{
	const struct json *list = body->type == JSON_ARRAY ? body : json_get(body, d->r->bulk, d->d->ci_keys);
	unsigned i = 0;

	if (!list || list->type == JSON_NULL || (list->type == JSON_ARRAY && list->n == 0)) {
		decode_violate(d, d->r->bulk, "required", NULL, NULL);
		return;
	}
	if (list->type != JSON_ARRAY) {
		decode_violate(d, d->r->bulk, "type", "must be a list", NULL);
		return;
	}
	if (list->n > LIST_MAX_ITEMS) {
		decode_violate(d, d->r->bulk, "max_items", NULL, arena_printf(d->a, "%d", LIST_MAX_ITEMS));
		return;
	}
	for (const struct json *e = list->child; e; e = e->next, i++) {
		const char *name = arena_printf(d->a, "%.*s.%u", STR_FMT(d->r->bulk), i);
		struct build item;
		size_t at;

		if (e->type != JSON_OBJECT) {
			decode_violate(d, str_of(name), "type", "must be an object", NULL);
			continue;
		}
		build_init(&item, d->a);
		read_object(d, d->r->body, e, &item, arena_printf(d->a, "%s.", name), false, false);
		at = wire_open(&d->extra, BULK_ITEM);
		build_print(&item, &d->extra);
		wire_close(&d->extra, at);
	}
}

/* -- media types */

enum media { MEDIA_JSON, MEDIA_FORM, MEDIA_OTHER };

static bool charset_ok(struct str params)
{
	static const char key[] = "charset=";
	struct str value;

	for (size_t i = 0; i + sizeof(key) - 1 <= params.n; i++) {
		if (strncasecmp(params.p + i, key, sizeof(key) - 1) != 0)
			continue;
		value = (struct str){ params.p + i + sizeof(key) - 1, params.n - i - sizeof(key) + 1 };
		if (value.n && value.p[0] == '"') {
			value.p++;
			value.n--;
		}
		return value.n >= 5 && (strncasecmp(value.p, "utf-8", 5) == 0 || (value.n >= 8 && strncasecmp(value.p, "us-ascii", 8) == 0));
	}
	return true;
}

static enum media media_of(const struct decoder *d, struct str type)
{
	const char *semi = type.n ? memchr(type.p, ';', type.n) : NULL;
	struct str params = { semi, semi ? (size_t)(type.p + type.n - semi) : 0 };

	if (semi)
		type.n = (size_t)(semi - type.p);
	while (type.n && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t'))
		type.n--;
	if (!charset_ok(params))
		return MEDIA_OTHER;
	if (str_ieq(type, STR("application/json")) || (type.n > 5 && strncasecmp(type.p + type.n - 5, "+json", 5) == 0))
		return MEDIA_JSON;
	if (d->d->pub.accept_form && str_ieq(type, STR("application/x-www-form-urlencoded")))
		return MEDIA_FORM;
	if (d->d->pub.accept_text && (type.n == 0 || str_ieq(type, STR("text/plain"))))
		return MEDIA_JSON;
	return MEDIA_OTHER;
}

static struct json *text_node(struct decoder *d, const struct pair *p)
{
	struct json *v = ARENA_NEW(d->a, struct json);

	v->type = JSON_STRING;
	v->text = p->value;
	v->key = p->name;
	return v;
}

/* The same name twice makes a list. */
static void form_add(struct decoder *d, struct json *object, struct json ***tail, const struct pair *p)
{
	struct json *v = text_node(d, p), *old = json_get(object, p->name, false), *first, *last;

	if (!old) {
		**tail = v;
		*tail = &v->next;
		return;
	}
	if (old->type != JSON_ARRAY) {
		first = ARENA_NEW(d->a, struct json);
		*first = *old;
		first->next = NULL;
		old->type = JSON_ARRAY;
		old->child = first;
		old->n = 1;
	}
	for (last = old->child; last->next; last = last->next)
		;
	last->next = v;
	old->n++;
}

static struct json *form_body(struct decoder *d)
{
	struct json *object = ARENA_NEW(d->a, struct json), **tail = &object->child;
	size_t n;
	const struct pair *pairs = form_parse(d->a, d->in->body, &n);

	object->type = JSON_OBJECT;
	for (size_t i = 0; pairs && i < n; i++) {
		if (pairs[i].bad)
			return NULL;
		form_add(d, object, &tail, &pairs[i]);
	}
	return pairs ? object : NULL;
}

static struct json *json_body(struct decoder *d)
{
	struct json_error err = { 0 };
	struct json *v = json_parse(d->a, d->in->body, &err);

	if (!v)
		d->out->text = arena_printf(d->a, "The body is not valid JSON: at byte %zu: %s", err.offset, err.text);
	return v;
}

enum status decode_body(struct decoder *d)
{
	enum media media = d->in->body.n ? media_of(d, d->in->content_type) : MEDIA_JSON;
	struct json nothing = { .type = JSON_OBJECT }, *v = &nothing;

	if (!d->r->pub.reads_body)
		return STATUS_OK;
	if (media == MEDIA_OTHER)
		return STATUS_UNSUPPORTED_MEDIA_TYPE;
	if (d->in->body.n)
		v = media == MEDIA_FORM ? form_body(d) : json_body(d);
	if (!v) {
		d->out->text = d->out->text ? d->out->text : "The body is not a valid form";
		return STATUS_BAD_REQUEST;
	}
	if (v->type != JSON_OBJECT && !(d->r->input == INPUT_BULK && v->type == JSON_ARRAY)) {
		d->out->text = "The body must be a JSON object";
		return STATUS_BAD_REQUEST;
	}
	if (d->r->input == INPUT_BULK)
		read_bulk(d, v);
	else if (d->r->input == INPUT_SELECT)
		decode_select(d, v);
	else
		read_object(d, d->r->body, v, d->r->input == INPUT_WRITE ? &d->entity : &d->root, "", true, media == MEDIA_FORM);
	return STATUS_OK;
}
