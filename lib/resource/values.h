/*
 * What a writer sent, made ready for a statement: validated against the contract, stored forms applied (lower case, person
 * names, defaults), one struct set per column that is written. Everything lives in the call's arena.
 */
#ifndef CRM_RESOURCE_VALUES_H
#define CRM_RESOURCE_VALUES_H

#include "resource/plan.h"

#define VALUES_MAX_TAGS 50
#define VALUES_MAX_SETS 44

/* One of the two keys of an entity, as parameters; both NULL: none was given. */
struct key {
	const char *id, *seq;
};

enum set_how { SET_TEXT, SET_REF, SET_TAGS, SET_SQL };

struct set {
	const struct col *col;
	enum set_how how;
	const char *text; /* SET_TEXT: the parameter, NULL clears; SET_SQL: an expression over the old row t */
	struct key key;   /* SET_REF */
};

struct tag_want {
	struct key key;
	const char *name;
};

struct values {
	struct set sets[VALUES_MAX_SETS];
	size_t n_sets;
	struct tag_want tags[VALUES_MAX_TAGS]; /* for the SET_TAGS set */
	size_t n_tags;
};

/*
 * BAD_REQUEST: not a well-formed message of this type. VALIDATION_ERROR: violations were collected in the call. mask: as in
 * WriteRequest; on create the fields that are present count. v is set to what is written.
 */
enum status values_parse(struct rpc_call *call, const struct plan *p, struct str entity, const uint32_t *mask, size_t n_mask, bool create, struct values *v) MUST_CHECK;

/* The row would be outside of the caller's scope of rows. */
void violate_scope(struct rpc_call *call, const struct plan *p);

/* Reads a Key or Ref. False: malformed wire or an id that is no UUID (k is then empty and *bad set when the latter). */
bool key_parse(struct arena *a, struct str wire, struct key *k, bool *bad);

/* A NUL-terminated copy as PostgreSQL stores it; NULL when the bytes are no UTF-8 or contain a NUL. */
const char *text_param(struct arena *a, struct str s);
/* Lower case, '_' for spaces: the stored form of open word lists. In place. */
void text_lower(char *s);
/* Microseconds as a timestamptz or date parameter; NULL when out of the years 1 to 9999. */
const char *time_param(struct arena *a, int64_t us, bool date);

#endif
