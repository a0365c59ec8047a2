/* A message being put together. */
#include "gateway/dialect/build.h"

#include "base/wire.h"

struct build_field {
	const struct schema_field *f;
	struct build_field *next;
	enum wire_type type;
	uint64_t value;
	struct str text;
	struct build *sub;
};

void build_init(struct build *b, struct arena *a)
{
	*b = (struct build){ .arena = a };
	b->tail = &b->first;
}

static struct build_field *find(const struct build *b, const struct schema_field *f)
{
	struct build_field *x = b->first;

	while (x && x->f != f)
		x = x->next;
	return x;
}

static struct build_field *slot(struct build *b, const struct schema_field *f)
{
	struct build_field *x = f->repeated ? NULL : find(b, f);

	if (x)
		return x;
	x = ARENA_NEW(b->arena, struct build_field);
	x->f = f;
	*b->tail = x;
	b->tail = &x->next;
	return x;
}

void build_text(struct build *b, const struct schema_field *f, struct str text)
{
	struct build_field *x = slot(b, f);

	x->type = WIRE_BYTES;
	x->text = text;
}

void build_varint(struct build *b, const struct schema_field *f, uint64_t v)
{
	struct build_field *x = slot(b, f);

	x->type = f->type == TYPE_FIXED64 ? WIRE_FIXED64 : (f->type == TYPE_FIXED32 ? WIRE_FIXED32 : WIRE_VARINT);
	x->value = v;
}

void build_double(struct build *b, const struct schema_field *f, double v)
{
	struct build_field *x = slot(b, f);

	x->type = WIRE_FIXED64;
	memcpy(&x->value, &v, sizeof(v));
}

struct build *build_sub(struct build *b, const struct schema_field *f)
{
	struct build_field *x = slot(b, f);

	x->type = WIRE_BYTES;
	if (!x->sub) {
		x->sub = ARENA_NEW(b->arena, struct build);
		build_init(x->sub, b->arena);
	}
	return x->sub;
}

struct build *build_parent(struct build *b, const struct path *p)
{
	for (unsigned i = 0; i + 1 < p->n; i++)
		b = build_sub(b, p->f[i]);
	return b;
}

bool build_has(const struct build *b, const struct schema_field *f)
{
	return find(b, f) != NULL;
}

struct build *build_peek(const struct build *b, const struct schema_field *f)
{
	const struct build_field *x = find(b, f);

	return x ? x->sub : NULL;
}

void build_drop(struct build *b, const struct schema_field *f)
{
	struct build_field **at = &b->first;

	while (*at) {
		if ((*at)->f == f)
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
	b->tail = at;
}

void build_print(const struct build *b, struct buf *out)
{
	for (const struct build_field *x = b->first; x; x = x->next) {
		size_t at;

		switch (x->type) {
		case WIRE_VARINT: wire_put_varint(out, x->f->number, x->value); break;
		case WIRE_FIXED64: wire_put_fixed64(out, x->f->number, x->value); break;
		case WIRE_FIXED32: wire_put_fixed32(out, x->f->number, (uint32_t)x->value); break;
		case WIRE_BYTES:
			if (!x->sub) {
				wire_put_bytes(out, x->f->number, x->text);
				break;
			}
			at = wire_open(out, x->f->number);
			build_print(x->sub, out);
			wire_close(out, at);
			break;
		}
	}
}
