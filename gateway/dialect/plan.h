/*
 * What a dialect is compiled to; for the files of this folder only. Everything lives in the arena of the snapshot and is
 * read-only once the snapshot is published.
 */
#ifndef CRM_GATEWAY_DIALECT_PLAN_H
#define CRM_GATEWAY_DIALECT_PLAN_H

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/dialect/dialect.h"
#include "proto/dialect.pb-c.h"
#include "schema/schema.h"

#define PATH_MAX_DEPTH 4
#define MEMBER_MAX_PATHS 3
#define RESOURCE_MAX_SLOTS 250
#define RESOURCE_MAX_DEPTH 8
#define LIST_MAX_ITEMS 1000
#define SELECT_MAX_IDS 10000
#define OFFSET_MAX 10000000
#define SEQ_MAX ((INT64_C(1) << 53) - 1)

/* Numbers of the messages in proto/common.proto that the gateway builds and reads itself. */
enum { KEY_ID = 1, KEY_SEQ = 2, REF_NAME = 3, REF_EMAIL = 4 };
enum { WRITE_KEY = 1, WRITE_ENTITY = 2, WRITE_MASK = 3, WRITE_EXPECTED_VERSION = 4, KEY_REQUEST_EXPECTED_VERSION = 2 };
enum { SELECT_KEY = 1, SELECT_WHERE = 5, SELECT_TAG_MODE = 6 }; /* of BulkWriteRequest, which has WRITE_ENTITY and WRITE_MASK too */
enum { LIST_FILTER = 1, LIST_SORT = 2, LIST_SEARCH = 3, LIST_LIMIT = 4, LIST_OFFSET = 5, LIST_CURSOR = 6, LIST_WANT_TOTAL = 7 };
enum { FILTER_FIELD = 1, FILTER_OP = 2, FILTER_VALUE = 3, FILTER_KEY = 4, SORT_FIELD = 1, SORT_DESC = 2 };
enum { LIST_REPLY_ITEM = 1, LIST_REPLY_TOTAL = 2, LIST_REPLY_NEXT_CURSOR = 3, BULK_ITEM = 1, BULK_REPLY_RESULT = 3, BULK_RESULT_ITEM = 3 };
enum { STATUS_MESSAGE = 2, STATUS_VIOLATION = 3, VIOLATION_PATH = 1, VIOLATION_RULE = 2, VIOLATION_MESSAGE = 3, VIOLATION_PARAM = 4 };

/* A path in a message: a chain of fields. */
struct path {
	const struct schema_field *f[PATH_MAX_DEPTH];
	unsigned n;
	bool in_entity; /* of a WriteRequest: f[0] is a field of the entity */
};

enum encoding { ENC_STR, ENC_INT, ENC_NUM, ENC_BOOL, ENC_DEC, ENC_JSON, ENC_TS, ENC_DATE, ENC_LOWER, ENC_TITLE, ENC_MAP, ENC_FLAG, ENC_ID,
	ENC_REF, ENC_REFOBJ, ENC_RES, ENC_TAGS, ENC_CONST, ENC_STATUS, ENC_MEMBER, ENC_CHANGE };
enum tags_mode { TAGS_NAMES, TAGS_OBJECTS, TAGS_IDS };
enum caller_part { CALLER_NONE, CALLER_TENANT, CALLER_USER };

struct word_map {
	const char *name;
	struct word_row {
		struct str core, face;
	} *rows;
	size_t n;
};

/* One member of a refobj or tags:objects: its key text and what it shows. */
enum ref_part { PART_ID, PART_SEQ, PART_NAME, PART_EMAIL, PART_COLOR };
struct ref_member {
	struct str key; /* `"id":` with a comma or brace in front */
	enum ref_part part;
};

struct encoder {
	enum encoding kind;
	enum tags_mode tags;
	const struct word_map *map;
	const char *entity; /* ID, REF, REFOBJ, TAGS ("tag") */
	const char *owner;  /* service that answers RefsRequest for the entity; NULL: nobody */
	struct str prefix;  /* "lead_": how PID ids start */
	const struct resource_plan *res;
	struct ref_member members[5];
	unsigned n_members;
	bool wants_name, wants_email;
	uint32_t name_number, email_number, color_number; /* in the message of the field, 0: none */
	struct str json;    /* CONST */
	struct str yes, no; /* FLAG */
	bool csv;
	unsigned scale;     /* DEC: digits behind the point at least */
};

struct member_plan {
	struct str name, alias; /* alias may be empty */
	struct str key;         /* `,"email":` */
	struct str unset;       /* `,"email":null`; empty: left out */
	struct path paths[MEMBER_MAX_PATHS];
	uint8_t slots[MEMBER_MAX_PATHS];
	unsigned n_paths;
	struct encoder enc;
	enum caller_part caller;
	bool repeated, ro, wo, req, detail, imported;
	const char *doc;
};

struct resource_plan {
	const char *name;
	const struct schema_message *message;
	struct member_plan *members;
	size_t n;
	uint8_t *slot_of; /* [message->max_number + 1]: 0 or slot + 1 */
	unsigned n_slots;
	unsigned depth;   /* resources inside resources */
};

enum var { VAR_NONE, VAR_NOW, VAR_PATH, VAR_TRACE, VAR_REQUEST, VAR_DIALECT, VAR_CODE, VAR_MESSAGE, VAR_HTTP, VAR_VIOLATIONS, VAR_FIELD, VAR_TEXT,
	VAR_RULE, VAR_ITEM, VAR_ITEM_MEMBER, VAR_ITEMS, VAR_TOTAL, VAR_PAGE, VAR_SIZE, VAR_PAGES, VAR_OFFSET, VAR_HAS_NEXT, VAR_HAS_PREV, VAR_NEXT,
	VAR_PREVIOUS, VAR_CURSOR, VAR_COUNT };

/* Literal text, then the value of a variable. */
struct segment {
	struct str text;
	enum var var;
	struct str member; /* VAR_ITEM_MEMBER */
};

struct template {
	struct segment *s;
	size_t n;
	uint64_t uses; /* bit per enum var */
};

enum target { TARGET_PATH, TARGET_FILTER, TARGET_SPECIAL };

struct param_plan {
	struct str name;
	int path_index; /* -1: query */
	enum target target;
	Crm__Dialect__Param__Special special;
	struct path path;
	const struct schema_field *filter;
	unsigned op;
	struct encoder enc;
	bool has_def, has_min, has_max, end_of_day;
	struct str def;
	int64_t min, max;
	const struct resource_plan *sort; /* SORT, ORDERING */
	const char *doc;
};

struct set_plan {
	struct path path;
	struct encoder enc;
	struct str value;
};

/* An outcome that is printed in another way. */
struct other_plan {
	const struct schema_field *when; /* of the reply */
	bool has_is;
	uint64_t is;                     /* the value it must have */
	struct route_impl *as;           /* the route with its own status, out, shape and message */
};

enum input_kind { INPUT_PLAIN, INPUT_KEY, INPUT_LIST, INPUT_WRITE, INPUT_BULK, INPUT_SELECT };
enum output_kind { OUTPUT_EMPTY, OUTPUT_PLAIN, OUTPUT_LIST, OUTPUT_TEXT };

struct route_impl {
	struct route pub;
	struct dialect_impl *dialect;
	const Crm__Dialect__Route *src;
	enum input_kind input;
	enum output_kind output;
	const struct resource_plan *body, *out;
	const struct resource_plan *import; /* of a table's rows */
	const char *wrap; /* name of the shape or NULL */
	struct other_plan *others;
	size_t n_others;
	const struct member_plan *item_member; /* of $item.NAME */
	struct param_plan *params;
	size_t n_params;
	struct set_plan *sets;
	size_t n_sets;
	struct str path_names[ROUTE_MAX_PARAMS];
	size_t n_path_names;
	bool creates_entity, replace, action, has_shape, no_body, want_total;
	struct template shape;
	struct str bulk, message;
	struct {
		struct str ids, filter, patch, mode; /* members; may be empty */
		struct encoder id;
	} select;
	uint32_t id_number, seq_number, version_number; /* of the reply, 0: none */
	const char *entity;
	struct str id_prefix;
	const struct param_plan *page, *offset, *limit, *cursor;
};

/* A segment of paths. */
struct node {
	struct str segment;
	struct node *children, *next; /* static ones */
	struct node *param;
	struct node_route {
		struct route_impl *route;
		struct node_route *next;
	} *here;
};

struct code_plan {
	int http;
	struct str code, message; /* message may be empty */
};

struct rule_text {
	struct str rule, text, message; /* message may be empty */
};

struct dialect_impl {
	struct dialect pub;
	const Crm__Dialect__Dialect *src;
	const struct schema *schema;
	bool ci_keys;
	Crm__Dialect__Dialect__IdStyle id_style;
	struct resource_plan *resources;
	size_t n_resources;
	struct word_map *maps;
	size_t n_maps;
	struct route_impl *routes;
	size_t n_routes;
	struct node root;
	struct template error, violation, empty;
	bool has_violation;
	Crm__Dialect__ErrorShape__Layout layout;
	struct code_plan codes[STATUS_COUNT];
	struct rule_text *texts;
	size_t n_texts;
	uint32_t limit, max_limit;
};

/* -- compiling (compile*.c): false and c->why on a mistake */
struct compile {
	struct arena *a;
	const struct schema *schema;
	struct dialect_impl *d;
	const char *where; /* "lead.phone" or "PUT /api/leads/{id}" */
	const char *why;
};

bool compile_fail(struct compile *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool compile_dialect(struct compile *c, const Crm__Dialect__Dialect *src);
bool compile_resources(struct compile *c);
bool compile_route(struct compile *c, const Crm__Dialect__Route *src, struct route_impl *r);
bool compile_tree_add(struct compile *c, struct route_impl *r);
const struct resource_plan *plan_resource_find(const struct dialect_impl *d, const char *name);
/* dotted path in m; writing as entity.x of a WriteRequest when entity is given. */
bool compile_path(struct compile *c, const struct schema_message *m, const struct schema_message *entity, const char *text, struct path *out);
/* as may be NULL: the field's type decides. leaf NULL: for const. */
bool compile_encoder(struct compile *c, const char *as, const struct schema_field *leaf, const char *members, struct encoder *e);
/* allowed: bit per enum var. */
bool compile_template(struct compile *c, const char *what, const char *json, uint64_t allowed, struct template *t);

#define VARS_EVERYWHERE (1u << VAR_NOW | 1u << VAR_PATH | 1u << VAR_TRACE | 1u << VAR_REQUEST | 1u << VAR_DIALECT)

/* -- ids (ids.c) */
struct key {
	struct str id; /* lower-case uuid, or empty */
	int64_t seq;
};
/* "lead_" of this dialect. */
struct str id_prefix(struct arena *a, const Crm__Dialect__Dialect *src, const char *entity);
/* Any of the three forms. False: no such form. id is in the arena. */
bool id_read(const struct encoder *e, struct str text, struct arena *a, struct key *out);
/* Prints as JSON; null when the form is not known. */
void id_print(struct buf *b, Crm__Dialect__Dialect__IdStyle style, struct str prefix, struct str id, int64_t seq);

/* -- order (decode_query.c) */
bool member_sortable(const struct member_plan *m);

/* -- names (names.c) */
/* The member or parameter name for a path of the contract; in the arena. */
struct str name_of_path(const struct route_impl *r, struct str path, struct arena *a);
struct str name_in_resource(const struct resource_plan *res, struct str path, struct arena *a);
/* "firstName" → "First name" */
void title_print(struct buf *b, struct str name);
/* "not_started" → "Not Started" */
void words_title(struct buf *b, struct str s);

/* -- query strings and forms (form.c) */
struct pair {
	struct str name, value, raw; /* decoded; raw: as it came, with '=' */
	bool bad;                    /* bad escape, NUL or not UTF-8 */
};
#define FORM_MAX_PAIRS 256
/* NULL: more than FORM_MAX_PAIRS. */
struct pair *form_parse(struct arena *a, struct str text, size_t *n);
bool percent_decode(struct arena *a, struct str raw, bool plus, struct str *out);

/* -- encoding (encode.c) */
struct encode_run {
	const struct encode_input *in;
	const struct dialect_impl *d;
	const char *service; /* that answered */
	bool list;           /* `detail` members are left out */
};
bool encode_resource(const struct encode_run *run, const struct resource_plan *res, struct str wire, struct buf *b);
/* The value of one member alone; null when unset. */
bool encode_member(const struct encode_run *run, const struct resource_plan *res, const struct member_plan *m, struct str wire, struct buf *b);

/* -- entities of events (entity.c) */
/* crm.v1.FeedChange as {"entity":…,"changed":[…]}. False: malformed. */
bool change_print(const struct encode_run *run, struct str wire, struct buf *b);
/* How the dialect shows the entity when it is asked for alone; NULL: not at all. */
const struct resource_plan *entity_resource(const struct dialect_impl *d, const struct schema_message *m);
/* A message by its contract: JSON with the fields' names in camelCase, times as RFC 3339; and the schema of that. False: malformed. */
bool contract_print(const struct schema_message *m, struct str wire, struct buf *b);
void contract_schema(const struct schema_message *m, struct buf *b);

/* Appends the common variables ($now …); false when var is another. */
bool template_common(const struct dialect_impl *d, const struct encode_input *in, enum var v, struct buf *b);

#endif
