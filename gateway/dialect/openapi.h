/* The parts of dialect_openapi; for the openapi*.c files only. A small JSON writer: key and item put commas themselves. */
#ifndef CRM_GATEWAY_DIALECT_OPENAPI_H
#define CRM_GATEWAY_DIALECT_OPENAPI_H

#include "gateway/dialect/plan.h"

static inline void oa_item(struct buf *b)
{
	char last = b->n ? b->p[b->n - 1] : '{';

	if (last != '{' && last != '[' && last != ':')
		buf_c(b, ',');
}

static inline void oa_key_str(struct buf *b, struct str k)
{
	oa_item(b);
	buf_json_str(b, k);
	buf_c(b, ':');
}

static inline void oa_key(struct buf *b, const char *k)
{
	oa_key_str(b, str_of(k));
}

static inline void oa_text(struct buf *b, const char *k, struct str v)
{
	oa_key(b, k);
	buf_json_str(b, v);
}

/* openapi_schema.c: JSON Schema of what encoders print and read. */
enum oa_side { OA_OUT, OA_IN, OA_CHANGE, OA_SIDES };

struct oa {
	const struct dialects *ds;
	const struct dialect_impl *d;
	struct arena arena;
	struct buf *b;
	bool *used[OA_SIDES]; /* per side and resource */
};

void oa_encoder(struct oa *o, const struct encoder *e, const struct schema_field *f, enum oa_side side, const struct schema_field *rules);
void oa_resource_ref(struct oa *o, const struct resource_plan *res, enum oa_side side);
void oa_resources(struct oa *o);
/* A shape or error template as a schema; r may be NULL (errors). */
void oa_template(struct oa *o, const char *template, const struct route_impl *r);
void oa_error_schema(struct oa *o);

#endif
