/*
 * A message being put together: fields in a tree, so that members that share a submessage (address.city, address.zip) meet
 * in it and a later value takes the place of an earlier one. Everything lives in the arena of the request.
 */
#ifndef CRM_GATEWAY_DIALECT_BUILD_H
#define CRM_GATEWAY_DIALECT_BUILD_H

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/dialect/plan.h"

struct build_field;

struct build {
	struct arena *arena;
	struct build_field *first, **tail;
};

void build_init(struct build *b, struct arena *a);
/* On a repeated field each adds an element; otherwise the last one counts. text is not copied. */
void build_text(struct build *b, const struct schema_field *f, struct str text);
void build_varint(struct build *b, const struct schema_field *f, uint64_t v);
void build_double(struct build *b, const struct schema_field *f, double v);
/* The submessage, made when it is not there; a new one each time when the field is repeated. */
struct build *build_sub(struct build *b, const struct schema_field *f);
/* The message that holds the last field of the path. */
struct build *build_parent(struct build *b, const struct path *p);
bool build_has(const struct build *b, const struct schema_field *f);
/* The submessage or NULL. */
struct build *build_peek(const struct build *b, const struct schema_field *f);
void build_drop(struct build *b, const struct schema_field *f);
void build_print(const struct build *b, struct buf *out);

#endif
