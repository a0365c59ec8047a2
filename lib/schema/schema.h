/*
 * Contracts at run time: messages, fields, services and our options, read from descriptor sets
 * (protoc --include_imports --descriptor_set_out). Read-only after loading, so any thread may use it.
 */
#ifndef CRM_SCHEMA_SCHEMA_H
#define CRM_SCHEMA_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

struct schema;

enum schema_type { TYPE_STRING, TYPE_BYTES, TYPE_INT32, TYPE_INT64, TYPE_UINT32, TYPE_UINT64, TYPE_BOOL, TYPE_DOUBLE, TYPE_FIXED32, TYPE_FIXED64, TYPE_ENUM, TYPE_MESSAGE };
enum schema_format { FORMAT_NONE, FORMAT_EMAIL, FORMAT_UUID, FORMAT_URL, FORMAT_PHONE, FORMAT_COLOR, FORMAT_DECIMAL, FORMAT_JSON_OBJECT, FORMAT_SLUG, FORMAT_TIME, FORMAT_DATE, FORMAT_JSON_VALUE };

struct schema_field {
	const char *name;
	uint32_t number;
	enum schema_type type;
	bool repeated;
	const struct schema_message *message; /* TYPE_MESSAGE */
	const char *doc;                      /* comment in the proto file, "" when none */
	/* option (f) */
	bool required, read_only, personal, secret;
	bool has_gte, has_lte;
	uint32_t min_len, max_len;            /* 0: not given */
	enum schema_format format;
	int64_t gte, lte;
	const char **in;                      /* closed set */
	size_t n_in;
	const char *ref;                      /* NULL when it is no reference */
	const char *column;                   /* NULL: by rule from the name */
};

struct schema_message {
	const char *name;   /* "crm.v1.Lead" */
	const char *file;   /* proto file without .proto: "customers"; of a service, or shared */
	const char *entity; /* option (e): "lead"; NULL when none */
	const char *rows;   /* "leads": members may be limited to some of its rows; NULL when not */
	const struct schema_field *about; /* whose personal data its fields are; NULL: its own */
	const struct schema_field *owner; /* the reference that says whose a row is (else created_by); NULL: created_by alone */
	const char *doc;
	const struct schema_field *fields; /* in the order of the file */
	size_t n_fields;
	uint32_t max_number;
	const struct schema_field *const *by_number; /* [max_number + 1], NULL where none */
};

struct schema_method {
	const char *name;    /* "Leads.Create" */
	const char *service; /* proto file without .proto: "customers" names the service program */
	const char *doc;
	const struct schema_message *input, *output, *entity; /* entity NULL when none */
	unsigned permission;
	const char *event;   /* NULL when none */
	int lane;            /* enum rpc_lane */
	const char *refs_of; /* NULL when none */
};

struct schema_permission {
	const char *name; /* "customers.read" */
	unsigned bit;
};

/* Loads the files (or memory); exits the program at start-up with file and reason when one is broken or contradicts another. */
struct schema *schema_load(const char *const *paths, size_t n);
/* Like schema_load, but gives NULL and a reason (heap). For reloading. */
struct schema *schema_try(const char *const *paths, size_t n, const char **why);
/*
 * A descriptor set in memory. owner: the service that it comes from; what "<owner>.proto" says is taken from this set alone, whatever
 * copies other sets have, and no other service's file is taken from it. NULL: of nobody. Files without an owner are merged: fields and
 * permissions may be added, the set with more fields wins, then the earlier one.
 */
struct schema_set {
	const char *name; /* for reasons */
	const char *owner;
	struct str bytes;
};
/* As schema_try. A set with an owner may have services in the owner's file only. */
struct schema *schema_try_sets(const struct schema_set *sets, size_t n, const char **why);
void schema_free(struct schema *s);
/* Appends the set without Google's files, places in the source and what is no comment that schema_load reads. False: it is no descriptor set. */
bool schema_strip(struct str bytes, struct buf *out);
/*
 * May now replace before for those who speak before? Looks at what service's file declares: methods, messages and fields must be there
 * with their numbers, names and types. False: *why names the first that is not (in a).
 */
bool schema_compatible(const struct schema *before, const struct schema *now, const char *service, struct arena *a, const char **why);
/* Does a service of this name have methods? */
bool schema_has_service(const struct schema *s, const char *service);

const struct schema_message *schema_message_find(const struct schema *s, struct str name);
const struct schema_method *schema_method_find(const struct schema *s, struct str name);
const struct schema_field *schema_field_find(const struct schema_message *m, struct str name);
size_t schema_methods(const struct schema *s, const struct schema_method **rows);
size_t schema_permissions(const struct schema *s, const struct schema_permission **rows);
/* "leads": a kind of rows that members may be limited in, by its number; NULL where there is none. */
#define SCHEMA_ROW_KINDS 64
const char *schema_row_kind(const struct schema *s, unsigned number);
/* "customers.read" or NULL. */
const char *schema_permission_name(const struct schema *s, unsigned bit);

#endif
