/*
 * The generic resource: list, get, create, update, delete and bulk create of an entity, from its message in proto/ and one
 * row here. Adding a field is one line in proto, one in SQL, one per dialect; nothing here.
 *
 * Columns: field `x` is column `x`; `x_us` and `x_date` carry their column in the proto rule; a Ref field `x` is `x_id uuid`
 * (created_by, updated_by as they are); an Address is its members as columns; Tags are `tag_ids uuid[]`; bytes fields are
 * jsonb, and so are repeated messages whose rule names a column (schema/rows.h); decimals are numeric. Every table has id, seq, tenant_id, version, created_at, created_by, updated_at, updated_by,
 * deleted_at. Refs to entities of the same service get seq and name by join; refs to others stay bare (the gateway fills them).
 * Every write is one statement: the row, and its outbox row with before and after.
 */
#ifndef CRM_RESOURCE_RESOURCE_H
#define CRM_RESOURCE_RESOURCE_H

#include "db/db.h"
#include "rpc/rpc.h"
#include "schema/schema.h"

#define RESOURCE_SEARCH_MANY 2000 /* hits; a <table>_search may stop behind them: the list is walked then */

/*
 * What a resource's schema must have beside the table (svc-customers/schema): <table>_ref(id uuid) RETURNS text, "seq:name" of a live
 * row, where other entities refer to it; tag_refs(ids uuid[]) RETURNS text where entities have tags.
 */
/*
 * Rules of a table are triggers of its schema. They refuse with a sentence for people: RAISE EXCEPTION 'Only % are left', n USING
 * ERRCODE = 'CR409' (CONFLICT), or ERRCODE = 'CR422', COLUMN = 'lines.0.product' (a violation of this field, rule CONSTRAINT or "invalid").
 */
struct resource {
	const char *message;      /* "crm.v1.Lead" */
	const char *table;        /* "lead"; also the word of the entity */
	const char *from;         /* for reads, instead of table: a view with the same columns; NULL: table */
	const char *filter;       /* field names that List may filter by, separated by spaces */
	const char *sort;         /* field names that List may sort by */
	const char *default_sort; /* "-created_us"; id is always the last key */
	bool person;              /* has display, given, family: kept consistent on every write */
	bool searchable;          /* table has a `search` text column and the function <table>_search(q text) RETURNS SETOF uuid */
	bool hard;                /* no soft delete, no deleted_at (read models) */
	const char *one_of;       /* on create at least one of these must be given: "display given family" */
	const char *lower;        /* fields stored in lower case with '_' for spaces: "status source" */
	const char *defaults;     /* "status=active is_active=true": on create when absent */
	/*
	 * "stage=name": references that nearly every row has, and the column that the target is called by (as in its entity_name). Lists join
	 * them: a join is set up once per statement, the function <table>_ref runs for each row, but costs nothing where there is no reference.
	 */
	const char *joined;
	const char *seed;         /* "stage_seed": SQL function that gives a tenant its first rows; called before its first use, idempotent */
	/* Rewrites an entity that was read (wire bytes) before it is answered. NULL: it is answered as it is. Any thread. */
	void (*reveal)(struct str entity, struct buf *out);
	/* Optional check with an if: may call rpc_violate. present: field numbers that are written. Loop thread. */
	void (*before_write)(struct rpc_call *call, const struct schema_message *m, struct str entity, bool create);
};

/*
 * OP_UPSERT: what is sent is created, or changes the live row with its external_id; events of the service's Create and Update.
 * OP_IMPORT_PREPARE, OP_IMPORT: a table of rows becomes entities by a job, and OP_REVERT takes such a job back (lib/resource/import.h).
 * OP_EXPORT: a list in large pages, whose first one leaves the method's event ("customers.account.exported").
 */
enum op_kind { OP_LIST, OP_GET, OP_CREATE, OP_UPDATE, OP_DELETE, OP_UPSERT, OP_BULK_CREATE, OP_BULK_UPDATE, OP_BULK_DELETE, OP_IMPORT_PREPARE, OP_IMPORT, OP_REVERT, OP_EXPORT, OP_REFS, OP_REPORT, OP_HANDLER, OP_LOOP };

struct op {
	const char *rpc;                 /* "Leads.Create" */
	enum op_kind kind;
	const struct resource *resource; /* for the generic kinds */
	const char *set;                 /* OP_UPDATE: "status=won": columns that this write sets beside what was sent, read-only ones too */
	const char *sql;                 /* OP_REPORT: the statement, see lib/resource/report.h */
	/* OP_HANDLER: straight-line code on a worker thread, must reply exactly once. */
	void (*handler)(struct rpc_call *call, struct db_conn *db);
	/* OP_LOOP: on the loop thread, must not block, must reply (now or later). */
	void (*on_loop)(struct rpc_call *call);
};

#define OPS_RESOURCE(service, res) \
	{ .rpc = service ".List", .kind = OP_LIST, .resource = (res) }, { .rpc = service ".Get", .kind = OP_GET, .resource = (res) }, \
	{ .rpc = service ".Create", .kind = OP_CREATE, .resource = (res) }, { .rpc = service ".Update", .kind = OP_UPDATE, .resource = (res) }, \
	{ .rpc = service ".Delete", .kind = OP_DELETE, .resource = (res) }

/*
 * For handlers that change entities themselves: appends the outbox row in the handler's transaction. before/after: JSON
 * objects of the whole row by column (to_jsonb), NULL when there was or is none; the layer derives the changed fields.
 */
enum status resource_event(struct db_conn *db, const struct rpc_call *call, const char *type, const char *entity, const char *entity_id,
    int64_t entity_seq, uint64_t version, const char *before_json, const char *after_json) MUST_CHECK;

/* Reads one entity inside a handler's transaction as wire bytes of its message, into the call's arena. NOT_FOUND when absent. */
enum status resource_read(struct db_conn *db, struct rpc_call *call, const struct resource *r, const char *id, struct str *entity) MUST_CHECK;

#endif
