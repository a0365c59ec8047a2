/* Request to RPC payload: body, path, query and constants into wire bytes, with every violation at once. */
#include "base/wire.h"
#include "gateway/dialect/decode.h"
#include "schema/validate.h"

void decode_violate(struct decoder *d, struct str name, const char *rule, const char *text, const char *param)
{
	struct decoded *out = d->out;

	for (size_t i = 0; i < out->n_violations; i++) {
		if (str_eq(out->violations[i].field, name) && (text == NULL || str_eq(out->violations[i].rule, str_of(rule))))
			return;
	}
	if (out->n_violations == DECODE_MAX_VIOLATIONS)
		return;
	if (!text)
		text = schema_rule_text(d->a, rule, param);
	out->violations[out->n_violations++] = (struct field_violation){ name, str_of(rule), str_of(text), str_of(param ? param : "") };
}

/* A rule of the contract, in the dialect's name; a member that already has a violation keeps that one. */
static void contract_violation(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	struct decoder *d = arg;

	struct str name = name_of_path(d->r, str_of(path), d->a);

	if (d->r->select.patch.n)
		name = str_of(arena_printf(d->a, "%.*s.%.*s", STR_FMT(d->r->select.patch), STR_FMT(name)));
	decode_violate(d, name, rule, NULL, param);
}

static void put_mask(struct decoder *d, struct buf *out, uint32_t *numbers, size_t *n)
{
	const struct schema_message *m = d->r->pub.rpc->entity;
	size_t at = wire_open(out, WRITE_MASK);

	*n = 0;
	for (uint32_t i = 1; i <= m->max_number; i++) {
		if (!d->mask[i])
			continue;
		numbers[(*n)++] = i;
		wire_varint(out, i);
	}
	wire_close(out, at);
}

static void finish_write(struct decoder *d)
{
	const struct schema_message *m = d->r->pub.rpc->entity;
	uint32_t *numbers = arena_alloc(d->a, (m->max_number + 1) * sizeof(*numbers));
	struct buf *out = &d->out->payload;
	size_t n, at, from;
	struct str entity;

	at = wire_open(out, WRITE_ENTITY);
	from = out->n;
	build_print(&d->entity, out);
	entity = arena_str(d->a, (struct str){ out->p + from, out->n - from });
	wire_close(out, at);
	put_mask(d, out, numbers, &n);
	if (d->in->if_match && d->r->input == INPUT_WRITE)
		wire_put_varint(out, WRITE_EXPECTED_VERSION, d->in->if_match);
	schema_validate(m, entity, d->full && !d->r->action, d->a, contract_violation, d);
	if (!d->full || d->r->action)
		schema_validate_mask(m, entity, numbers, n, contract_violation, d);
}

static void finish(struct decoder *d)
{
	struct buf *out = &d->out->payload;

	build_print(&d->root, out);
	buf_str(out, buf_view(&d->extra));
	if (d->mask)
		finish_write(d);
	if (d->r->input == INPUT_KEY && d->in->if_match)
		wire_put_varint(out, KEY_REQUEST_EXPECTED_VERSION, d->in->if_match);
	if (d->r->input == INPUT_PLAIN)
		schema_validate(d->r->pub.rpc->input, arena_str(d->a, buf_view(out)), true, d->a, contract_violation, d);
}

enum status route_decode(const struct decode_input *in, struct decoded *out)
{
	const struct route_impl *r = in->match->route->impl;
	struct decoder d = { .in = in, .out = out, .r = r, .d = r->dialect, .a = in->arena };
	enum status s;

	*out = (struct decoded){ .page = { .page = 1, .limit = r->dialect->limit }, .unknown_fields = STR("") };
	d.clears = (r->input == INPUT_WRITE && !r->creates_entity) || r->input == INPUT_SELECT;
	d.full = !d.clears || r->replace || r->action;
	build_init(&d.root, d.a);
	build_init(&d.entity, d.a);
	if (r->input == INPUT_WRITE || (r->input == INPUT_SELECT && r->body))
		d.mask = arena_zalloc(d.a, r->pub.rpc->entity->max_number + 1);
	s = decode_body(&d);
	if (s == STATUS_OK)
		s = decode_params(&d);
	if (s == STATUS_OK) {
		decode_sets(&d);
		finish(&d);
	}
	buf_fini(&d.extra);
	if (s != STATUS_OK)
		return s;
	if (d.not_found)
		return STATUS_NOT_FOUND;
	return out->n_violations ? STATUS_VALIDATION_ERROR : STATUS_OK;
}
