/*
 * Dialects at run time: declarations (proto/dialect.proto) checked against the contracts and compiled to plans, and the
 * two functions that use a plan: request → RPC payload, reply payload → JSON. No network, no clock, no state.
 *
 * A struct dialects is an immutable snapshot, counted: a request holds the one it started with, SIGHUP makes a new one.
 * Threading: everything here may be used by any thread.
 */
#ifndef CRM_GATEWAY_DIALECT_DIALECT_H
#define CRM_GATEWAY_DIALECT_DIALECT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "gateway/dialect/fragment.h"
#include "schema/schema.h"

struct dialects;

enum rate_key { RATE_IP, RATE_USER, RATE_TENANT };

struct rate_policy {
	const char *name, *match; /* match: "default", "anonymous", "admin" or a name that routes mention */
	enum rate_key key;
	uint32_t quota, window_s, queue;
};

struct dialect {
	const char *name, *title, *version;
	int index;                     /* in the snapshot; not stable across reloads */
	const char *const *hosts;
	size_t n_hosts;
	bool strict, accept_form, accept_text;
	const struct rate_policy *rates;
	size_t n_rates;
	const char *const *origins;    /* CORS; "*" allows any */
	size_t n_origins;
	uint32_t cors_max_age_s;
	struct dialect_impl *impl;
};

struct route {
	struct str method;             /* "GET" */
	const char *template;          /* "/api/leads/{id}": metrics label, OpenAPI path */
	const struct schema_method *rpc;
	int status;                    /* HTTP status of success */
	uint32_t timeout_ms;           /* 0: default */
	const char *rate;              /* policy name or NULL */
	bool reads_body;
	bool creates;                  /* Location is sent when the reply is an entity */
	bool is_list;
	const char *export_name;       /* the list is streamed as a file of this name; NULL: it is not */
	const char *upload_part;       /* this part of the form goes to the blob store before rpc is called; NULL: none */
	const struct schema_method *upload_prepare; /* called before that */
	bool import;                   /* and is a table, whose rows are entities (import.h) */
	bool download;                 /* the reply is a crm.v1.Blob, and its bytes the answer */
	const struct schema_method *export_note; /* called before the first row; NULL: none */
	bool feed;                     /* answered by gateway/feed.c */
	struct route_impl *impl;
};

/* Loads every <dir>/<name>.pb of contracts and of dialects. All or nothing: NULL and *why = "file:route or resource: reason". */
struct dialects *dialects_load(const char *descriptor_dir, const char *dialect_dir, const char **why);
/* A dialect as its parts (fragment.h): base alone may be a whole one. name: for reasons. */
struct dialect_source {
	const char *name;
	struct str base;
	const struct dialect_part *parts;
	size_t n_parts;
};
/* The same from memory; nothing of it is kept. */
struct dialects *dialects_build(const struct schema_set *sets, size_t n_sets, const struct dialect_source *rows, size_t n, const char **why);
struct dialects *dialects_hold(struct dialects *ds);
void dialects_rele(struct dialects *ds);
const struct schema *dialects_schema(const struct dialects *ds);
const struct dialect *dialects_find(const struct dialects *ds, struct str name);
const struct dialect *dialects_by_host(const struct dialects *ds, struct str host);
size_t dialects_all(const struct dialects *ds, const struct dialect *const **rows);
/* The i-th route in the order of the dialect's file; NULL behind the last. */
const struct route *dialect_route(const struct dialect *d, size_t i);
/* Two dialects that share an origin must not claim the same METHOD path. False: *why names both. */
bool dialects_may_share(const struct dialect *const *group, size_t n, const char **why);

#define ROUTE_MAX_PARAMS 8

struct route_match {
	const struct dialect *dialect;
	const struct route *route;
	struct str params[ROUTE_MAX_PARAMS]; /* decoded once, in the order of the template */
};

/*
 * OK; NOT_FOUND; METHOD_NOT_ALLOWED (*allow = "GET, PUT"); BAD_REQUEST (bad escape, NUL, encoded slash). path is raw.
 * Exact: a slash at the end counts. Static segments beat parameters. HEAD matches GET.
 */
enum status dialect_match(const struct dialect *d, struct str method, struct str path, struct arena *a, struct route_match *m, struct str *allow);

/* A reference that another service owns. Decoding needs its id, encoding its name. */
struct ref_key {
	struct str entity; /* "user" */
	struct str id;     /* empty when only seq is known */
	int64_t seq;
};

enum ref_state { REF_FOUND, REF_ABSENT, REF_UNKNOWN };

struct ref_value {
	struct str id, name, email;
	int64_t seq;
};

/*
 * get: REF_FOUND fills *out; REF_ABSENT: the owner does not know it; REF_UNKNOWN: not asked yet, the app has noted the wish.
 * When any get answered REF_UNKNOWN, the outcome is thrown away and the same call is made again after asking the owner.
 */
struct ref_lookup {
	void *arg;
	enum ref_state (*get)(void *arg, const struct ref_key *key, struct ref_value *out);
};

struct caller {
	struct str tenant_id, user_id;
	int64_t tenant_seq, user_seq;
};

struct page {
	uint32_t page, limit;
	uint64_t offset;
	bool by_offset; /* limit/offset rather than page numbers */
};

struct field_violation {
	struct str field; /* the dialect's member or parameter name; empty for the body as a whole */
	struct str rule, text, param;
};

enum export_format { EXPORT_CSV, EXPORT_JSON, EXPORT_XLSX };

#define DECODE_MAX_VIOLATIONS 64

struct decoded {
	struct buf payload;          /* wire bytes of rpc->input; heap: buf_fini */
	struct page page;
	enum export_format format;   /* of an export */
	struct field_violation violations[DECODE_MAX_VIOLATIONS];
	size_t n_violations;
	struct str unknown_fields;   /* comma-separated members that were ignored; in the arena */
	const char *text;            /* sentence for a BAD_REQUEST */
};

struct decode_input {
	const struct route_match *match;
	struct str query;            /* raw */
	struct str body, content_type;
	uint64_t if_match;           /* expected version, 0: none */
	struct caller who;
	struct ref_lookup refs;
	struct arena *arena;
};

/* OK; BAD_REQUEST (malformed body); UNSUPPORTED_MEDIA_TYPE; VALIDATION_ERROR (violations); NOT_FOUND (an id that cannot exist). */
enum status route_decode(const struct decode_input *in, struct decoded *out);

struct encode_input {
	const struct route_match *match;
	struct caller who;
	struct page page;            /* from the decode */
	struct str base_url;         /* "http://host:5000", for next and previous */
	struct str path, query;      /* raw, as the client sent them (with the /~dialect prefix) */
	struct str trace, request;   /* ids */
	int64_t now_us;
	const struct dialect *shown; /* in whose words entities of events are; NULL: by their contract */
	struct ref_lookup refs;
	struct arena *arena;
};

struct encoded {
	int status;       /* HTTP status: the route's, unless the reply is one of its other outcomes */
	uint64_t version; /* of the entity; 0: none, no ETag */
	struct str id;    /* as this dialect prints it, for Location; empty: none */
	struct str next;  /* absolute URL of the next page for Link, empty: none */
};

/* reply: wire bytes of rpc->output. Appends the body to out. False: the reply is malformed (INTERNAL). */
bool route_encode(const struct encode_input *in, struct str reply, struct buf *out, struct encoded *info);

/* One item of a list's reply, as the list prints it. False: malformed. */
bool route_encode_item(const struct encode_input *in, struct str item, struct buf *out);

struct exported {
	size_t rows;
	struct str next_cursor; /* slice of the reply; empty: this was the last page */
};

/*
 * Appends the items of one page of an export, with the members that the list shows: CSV (RFC 4180, a head line on the first page, an apostrophe
 * in front of whatever a spreadsheet would take for a formula), the elements of a JSON array with its opening bracket, or rows of sheet (XLSX;
 * NULL otherwise). export_close ends CSV and JSON.
 */
struct xlsx;
bool export_rows(const struct encode_input *in, struct str reply, enum export_format format, bool first, struct buf *out, struct xlsx *sheet, struct exported *info);
void export_close(enum export_format format, struct buf *out);

/*
 * Appends the error body in the dialect's shape and gives its HTTP status. route may be NULL (before routing).
 * status_bytes: crm.v1.Status from a service (its violations are mapped to the dialect's member names through the route's
 * resource); violations: from route_decode. Either may be empty.
 */
int dialect_error(const struct dialect *d, const struct route *route, const struct encode_input *in, enum status s, struct str text,
    struct str status_bytes, const struct field_violation *violations, size_t n, struct buf *out);

/* OpenAPI 3.1 document of the dialect. server_url: "http://127.0.0.1:5000". */
void dialect_openapi(const struct dialects *ds, const struct dialect *d, struct str server_url, struct buf *out);
/* AsyncAPI 3.0 document of the feed and the bus. version: of the product. False: no dialect has a feed. */
bool dialects_asyncapi(const struct dialects *ds, const char *version, struct str scheme, struct str authority, struct buf *out);

#endif
