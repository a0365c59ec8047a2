/* Protobuf wire format reader and writer. */
#include "base/wire.h"

static bool read_varint(struct wire_reader *r, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t c;

		if (r->p == r->end)
			return false;
		c = *r->p++;
		v |= (uint64_t)(c & 0x7F) << shift;
		if (!(c & 0x80)) {
			*out = v;
			return true;
		}
	}
	return false;
}

static bool read_fixed(struct wire_reader *r, unsigned n, uint64_t *out)
{
	uint64_t v = 0;

	if ((size_t)(r->end - r->p) < n)
		return false;
	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)r->p[i] << (8 * i);
	r->p += n;
	*out = v;
	return true;
}

bool wire_next(struct wire_reader *r, struct wire_field *f)
{
	uint64_t tag;

	if (r->p == r->end || r->bad)
		return false;
	r->bad = true;
	if (!read_varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF)
		return false;
	f->number = (uint32_t)(tag >> 3);
	f->type = (enum wire_type)(tag & 7);
	f->value = 0;
	f->bytes = (struct str){ 0 };
	switch (f->type) {
	case WIRE_VARINT:
		if (!read_varint(r, &f->value))
			return false;
		break;
	case WIRE_FIXED64:
		if (!read_fixed(r, 8, &f->value))
			return false;
		break;
	case WIRE_FIXED32:
		if (!read_fixed(r, 4, &f->value))
			return false;
		break;
	case WIRE_BYTES:
		if (!read_varint(r, &f->value) || f->value > (uint64_t)(r->end - r->p))
			return false;
		f->bytes = (struct str){ (const char *)r->p, (size_t)f->value };
		r->p += f->value;
		break;
	default:
		return false;
	}
	r->bad = false;
	return true;
}

void wire_varint(struct buf *b, uint64_t v)
{
	uint8_t *p;

	buf_need(b, 10);
	p = (uint8_t *)b->p + b->n;
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	b->n = (size_t)(p - (uint8_t *)b->p);
}

void wire_put_fixed64(struct buf *b, uint32_t number, uint64_t v)
{
	uint8_t le[8];

	for (int i = 0; i < 8; i++)
		le[i] = (uint8_t)(v >> (8 * i));
	wire_tag(b, number, WIRE_FIXED64);
	buf_put(b, le, sizeof(le));
}

void wire_put_fixed32(struct buf *b, uint32_t number, uint32_t v)
{
	uint8_t le[4];

	for (int i = 0; i < 4; i++)
		le[i] = (uint8_t)(v >> (8 * i));
	wire_tag(b, number, WIRE_FIXED32);
	buf_put(b, le, sizeof(le));
}

size_t wire_open(struct buf *b, uint32_t number)
{
	wire_tag(b, number, WIRE_BYTES);
	return b->n;
}

void wire_close(struct buf *b, size_t at)
{
	size_t n = b->n - at;
	char head[10];
	struct buf h = { head, 0, sizeof(head) + 1 };

	wire_varint(&h, n);
	buf_need(b, h.n);
	memmove(b->p + at + h.n, b->p + at, n);
	memcpy(b->p + at, head, h.n);
	b->n += h.n;
}
