/* The parts of route_decode; for the decode*.c files only. */
#ifndef CRM_GATEWAY_DIALECT_DECODE_H
#define CRM_GATEWAY_DIALECT_DECODE_H

#include "gateway/dialect/build.h"
#include "gateway/dialect/plan.h"
#include "json/json.h"

struct decoder {
	const struct decode_input *in;
	struct decoded *out;
	const struct route_impl *r;
	const struct dialect_impl *d;
	struct arena *a;
	bool full;        /* create or replacement: required members must be there */
	bool imports;     /* a table is read: what only tables may write is read too */
	bool clears;      /* null clears (updates); otherwise it is as if absent */
	bool not_found;   /* an id in the path that cannot exist */
	struct build root, entity;
	uint8_t *mask;    /* [entity->max_number + 1] */
	struct buf extra; /* wire bytes behind the root's; heap */
};

/* What a value goes into. */
struct spot {
	const struct encoder *enc;
	const struct schema_field *f;
	struct str name;    /* for violations */
	bool loose;         /* text of a query or form: numbers and bools are read from it */
	bool in_path;       /* a bad id is NOT_FOUND rather than a violation */
	bool end_of_day, filter;
};

enum scalar_kind { SCALAR_TEXT, SCALAR_INT, SCALAR_BOOL, SCALAR_DOUBLE, SCALAR_KEY };

struct scalar {
	enum scalar_kind kind;
	struct str text; /* TEXT; KEY: a tag's name when it has no id */
	int64_t i;
	double x;
	struct key key;
};

/* decode.c */
void decode_violate(struct decoder *d, struct str name, const char *rule, const char *text, const char *param);
/* decode_value.c: false when the value is not right (then a violation or not_found has been noted). */
bool decode_scalar(struct decoder *d, const struct spot *s, const struct json *v, struct scalar *out);
void decode_put(struct build *b, const struct schema_field *f, const struct scalar *s);
/* decode_body.c: OK, BAD_REQUEST, UNSUPPORTED_MEDIA_TYPE */
enum status decode_body(struct decoder *d);
/* The members of an entity that are written: they make the mask. prefix: of names in violations, "updates." */
void decode_entity(struct decoder *d, const struct json *v, const char *prefix);
/* An entity whose values are texts: empty ones are absent, numbers and the like are read from them. No mask. */
void decode_loose(struct decoder *d, const struct resource_plan *res, const struct json *v);
/* decode_select.c: the body of a BulkWriteRequest */
void decode_select(struct decoder *d, const struct json *body);
/* decode_query.c: OK or BAD_REQUEST */
enum status decode_params(struct decoder *d);
/* The parameters of a selection, from its filter's members. */
void decode_filter(struct decoder *d, const struct pair *pairs, size_t n);
void decode_sets(struct decoder *d);

#endif
