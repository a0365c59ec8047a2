/* The body of a bulk operation: which entities are meant, by ids or by a filter, and what is changed in them. */
#include "base/wire.h"
#include "gateway/dialect/decode.h"

static bool is_given(const struct json *v)
{
	return v && v->type != JSON_NULL;
}

static void read_id(struct decoder *d, const struct json *v, unsigned i)
{
	struct spot s = { .enc = &d->r->select.id, .name = str_of(arena_printf(d->a, "%.*s.%u", STR_FMT(d->r->select.ids), i)) };
	struct scalar x;
	size_t at;

	if (!decode_scalar(d, &s, v, &x))
		return;
	at = wire_open(&d->extra, SELECT_KEY);
	if (x.key.id.n)
		wire_put_bytes(&d->extra, KEY_ID, x.key.id);
	if (x.key.seq)
		wire_put_varint(&d->extra, KEY_SEQ, (uint64_t)x.key.seq);
	wire_close(&d->extra, at);
}

static void read_ids(struct decoder *d, const struct json *list)
{
	unsigned i = 0;

	if (list->type != JSON_ARRAY)
		decode_violate(d, d->r->select.ids, "type", "must be a list", NULL);
	else if (!list->n)
		decode_violate(d, d->r->select.ids, "required", NULL, NULL);
	else if (list->n > SELECT_MAX_IDS)
		decode_violate(d, d->r->select.ids, "max_items", NULL, arena_printf(d->a, "%d", SELECT_MAX_IDS));
	else
		for (const struct json *e = list->child; e; e = e->next)
			read_id(d, e, i++);
}

static const struct param_plan *filter_param(const struct decoder *d, struct str name)
{
	for (size_t i = 0; i < d->r->n_params; i++)
		if (d->r->params[i].target != TARGET_PATH && str_eq(d->r->params[i].name, name))
			return &d->r->params[i];
	return NULL;
}

static struct str pair_text(const struct json *v)
{
	if (v->type == JSON_TRUE || v->type == JSON_FALSE)
		return v->type == JSON_TRUE ? STR("true") : STR("false");
	return v->text;
}

/* A value, or a list of them. An empty one narrows nothing down, so it is refused: the operation would meet everything. */
static size_t member_pairs(struct decoder *d, const struct json *v, struct pair *out)
{
	struct str name = str_of(arena_printf(d->a, "%.*s.%.*s", STR_FMT(d->r->select.filter), STR_FMT(v->key)));
	const struct json *e = v->type == JSON_ARRAY ? v->child : v;
	size_t n = 0;

	if (!filter_param(d, v->key)) {
		decode_violate(d, name, "unknown", NULL, NULL);
		return 0;
	}
	for (; e; e = v->type == JSON_ARRAY ? e->next : NULL) {
		if (e->type == JSON_ARRAY || e->type == JSON_OBJECT || e->type == JSON_NULL) {
			decode_violate(d, name, "type", "must be a value or a list of values", NULL);
			return 0;
		}
		if (pair_text(e).n)
			out[n++] = (struct pair){ .name = v->key, .value = pair_text(e) };
	}
	if (!n)
		decode_violate(d, name, "required", NULL, NULL);
	return n;
}

static void read_filter(struct decoder *d, const struct json *filter)
{
	struct pair *pairs;
	size_t n = 0, most = 1, at;

	if (filter->type != JSON_OBJECT) {
		decode_violate(d, d->r->select.filter, "type", "must be an object", NULL);
		return;
	}
	if (!filter->n) {
		decode_violate(d, d->r->select.filter, "required", NULL, NULL);
		return;
	}
	for (const struct json *c = filter->child; c; c = c->next)
		most += c->type == JSON_ARRAY ? c->n : 1;
	pairs = arena_zalloc(d->a, most * sizeof(*pairs));
	for (const struct json *c = filter->child; c; c = c->next)
		n += member_pairs(d, c, pairs + n);
	at = wire_open(&d->extra, SELECT_WHERE);
	decode_filter(d, pairs, n);
	wire_close(&d->extra, at);
}

static void read_mode(struct decoder *d, const struct json *body)
{
	static const char *const modes[] = { "replace", "add", "remove" };
	const struct json *v = json_get(body, d->r->select.mode, d->d->ci_keys);

	if (!is_given(v))
		return;
	for (unsigned i = 0; v->type == JSON_STRING && i < sizeof(modes) / sizeof(*modes); i++) {
		if (!str_eq(v->text, str_of(modes[i])))
			continue;
		wire_put_varint(&d->extra, SELECT_TAG_MODE, i);
		return;
	}
	decode_violate(d, d->r->select.mode, "in", NULL, "add, remove, replace");
}

static bool changes_something(const struct decoder *d)
{
	for (uint32_t i = 0; i <= d->r->pub.rpc->entity->max_number; i++)
		if (d->mask[i])
			return true;
	return false;
}

static void read_changes(struct decoder *d, const struct json *body)
{
	struct str patch = d->r->select.patch;
	const struct json *v = patch.n ? json_get(body, patch, d->d->ci_keys) : body;

	if (is_given(v) && v->type != JSON_OBJECT)
		decode_violate(d, patch, "type", "must be an object", NULL);
	else if (is_given(v))
		decode_entity(d, v, patch.n ? arena_printf(d->a, "%.*s.", STR_FMT(patch)) : "");
	if (!d->out->n_violations && !changes_something(d))
		decode_violate(d, patch.n || !d->r->body->n ? patch : d->r->body->members[0].name, "required", NULL, NULL);
}

void decode_select(struct decoder *d, const struct json *body)
{
	const struct json *ids = json_get(body, d->r->select.ids, d->d->ci_keys);
	const struct json *filter = d->r->select.filter.n ? json_get(body, d->r->select.filter, d->d->ci_keys) : NULL;

	if (is_given(ids) && is_given(filter))
		decode_violate(d, d->r->select.filter, "conflict", "cannot be given together with ids", NULL);
	else if (is_given(filter))
		read_filter(d, filter);
	else if (is_given(ids))
		read_ids(d, ids);
	else
		decode_violate(d, d->r->select.ids, "required", NULL, NULL);
	if (d->r->select.mode.n)
		read_mode(d, body);
	if (d->r->body)
		read_changes(d, body);
}
