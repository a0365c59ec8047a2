/*
 * Protobuf wire format, read and written without generated code (protobuf.dev/programming-guides/encoding).
 * The reader never trusts a length; on malformed input it stops and says so.
 */
#ifndef CRM_BASE_WIRE_H
#define CRM_BASE_WIRE_H

#include "base/buf.h"
#include "base/str.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire_field {
	uint32_t number;
	enum wire_type type;
	uint64_t value;   /* VARINT, FIXED64, FIXED32 */
	struct str bytes; /* BYTES */
};

struct wire_reader {
	const uint8_t *p, *end;
	bool bad; /* malformed input was met */
};

static inline struct wire_reader wire_read(struct str s)
{
	const uint8_t *p = (const uint8_t *)(s.p ? s.p : "");

	return (struct wire_reader){ p, p + s.n, false };
}

/* Next field into *f; false at the end or when malformed (then r->bad). */
bool wire_next(struct wire_reader *r, struct wire_field *f);

void wire_varint(struct buf *b, uint64_t v);

static inline void wire_tag(struct buf *b, uint32_t number, enum wire_type type)
{
	wire_varint(b, (uint64_t)number << 3 | type);
}

static inline void wire_put_varint(struct buf *b, uint32_t number, uint64_t v)
{
	wire_tag(b, number, WIRE_VARINT);
	wire_varint(b, v);
}

static inline void wire_put_bytes(struct buf *b, uint32_t number, struct str s)
{
	wire_tag(b, number, WIRE_BYTES);
	wire_varint(b, s.n);
	buf_str(b, s);
}

void wire_put_fixed64(struct buf *b, uint32_t number, uint64_t v);
void wire_put_fixed32(struct buf *b, uint32_t number, uint32_t v);

/* A submessage whose length is not known yet: at = wire_open(b, n); ...; wire_close(b, at). */
size_t wire_open(struct buf *b, uint32_t number);
void wire_close(struct buf *b, size_t at);

#endif
