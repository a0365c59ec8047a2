/* Inside lib/resource: the engine's state and how its files call each other. */
#ifndef CRM_RESOURCE_INTERNAL_H
#define CRM_RESOURCE_INTERNAL_H

#include <stdatomic.h>

#include "resource/counts.h"
#include "resource/engine.h"
#include "resource/plan.h"
#include "resource/sql.h"
#include "resource/values.h"
#include "resource/wire.h"

/* An op with what was found for it at start. */
struct bound {
	const struct op *op;
	const struct plan *plan; /* NULL for handlers */
	const char *event;       /* NULL: none is written */
	const char *event_created; /* OP_UPSERT: of a row that was not there */
	const char *event_updated, *event_deleted; /* OP_IMPORT */
	unsigned delete_permission;                /* OP_IMPORT: of who takes it back */
	const struct col *external; /* OP_UPSERT, OP_IMPORT: what rows are known by */
	const struct schema_message *input, *output; /* OP_REPORT */
	struct fixed fixed[4];   /* of op->set */
	size_t n_fixed;
};

struct engine {
	const struct schema *schema;
	struct db *db;
	const char *schema_name;
	const struct op *ops;
	struct bound *bound;
	size_t n_ops;
	struct plan *plans;
	size_t n_plans;
	atomic_bool ready;
	struct buf reply;        /* loop thread's scratch for replies */
	struct buf text;         /* loop thread's scratch for statements */
};

extern struct engine engine;

/* -- get, create, update, delete (write.c), list (list.c), bulk (bulk.c): loop thread */
void get_run(const struct bound *b, struct rpc_call *call);
void write_run(const struct bound *b, struct rpc_call *call);
void list_run(const struct bound *b, struct rpc_call *call);
void bulk_run(const struct bound *b, struct rpc_call *call);
void bulk_write_run(const struct bound *b, struct rpc_call *call);
/* import.c, revert.c */
void import_prepare_run(const struct bound *b, struct rpc_call *call);
void import_run(const struct bound *b, struct rpc_call *call);
void revert_run(const struct bound *b, struct rpc_call *call);
void import_kinds(struct bound *b);
/* The import of this kind ("Leads.Import"); NULL: there is none. */
const struct bound *import_find(const char *kind);
void import_forget(void);
/* A step of such a job (jobs/jobs.h); arg: its struct bound. */
struct job;
enum status bulk_write_step(void *arg, struct db_conn *db, struct job *job);
enum status import_step(void *arg, struct db_conn *db, struct job *job);
enum status revert_step(void *arg, struct db_conn *db, struct job *job);
void refs_run(const struct bound *b, struct rpc_call *call);

/* Wire bytes of a Status with the violations that were collected; the call goes on without them. */
struct str status_take(struct rpc_call *call, enum status s);
/* The call's transaction changes rows of this entity: resource_commit makes it known. */
void resource_touched(const struct rpc_call *call, const char *entity);

/* What is known of a failed statement. said NULL: no refusal of the schema's own. */
struct db_error {
	enum status status;
	const char *constraint, *sqlstate;
	const struct db_said *said;
};
/* Answers a failed statement; a unique violation gets the field of its constraint. */
void reply_db_error(struct rpc_call *call, const struct plan *p, const struct db_error *e);
/* The outcome and violations of a failed statement. */
enum status db_error_explain(struct rpc_call *call, const struct plan *p, const struct db_error *e);
/* What the schema itself says about a refused statement, into the call. */
enum status said_explain(struct rpc_call *call, const struct db_said *said, enum status s);
/* Numbers in text, "29 30": a violation "exists" on each of these fields. */
void violate_missing(struct rpc_call *call, const struct plan *p, struct str numbers);

/* What a write's result row says: OK, NOT_FOUND, PRECONDITION_FAILED or VALIDATION_ERROR with violations. */
enum status write_outcome(struct rpc_call *call, const struct plan *p, const PGresult *res, int row);

/* -- first rows of a tenant (seed.c): loop thread. Calls run(b, call) now or when the tenant has been given them; answers when that fails. */
void seed_run(const struct bound *b, struct rpc_call *call, void (*run)(const struct bound *b, struct rpc_call *call));
void seed_fini(void);

/* -- list statements (query.c), shared with the start-up check */
#define LIST_MAX_FILTERS 20
#define LIST_MAX_VALUES 100 /* of one filter */
#define LIST_MAX_SORT 4
#define LIST_MAX_LIMIT 100
#define LIST_DEFAULT_LIMIT 20
#define EXPORT_LIMIT 500 /* rows a page; each page is one call and one statement */
#define LIST_MAX_SEARCH 200
#define LIST_MAX_CURSOR 6000

enum filter_op { FILTER_EQ, FILTER_NE, FILTER_GTE, FILTER_GT, FILTER_LTE, FILTER_LT, FILTER_IS_NULL, FILTER_OPS };

struct filter {
	const struct col *col;
	enum filter_op op;
	const char **values; /* as parameters */
	size_t n_values;
	struct key *keys;
	size_t n_keys;
};

struct sort_key {
	const struct col *col; /* NULL: id */
	bool desc;
};

struct query {
	struct filter filters[LIST_MAX_FILTERS];
	size_t n_filters;
	struct sort_key keys[LIST_MAX_SORT + 1]; /* the last one is id */
	size_t n_keys;
	const char *search;
	uint32_t limit;
	uint64_t offset;
	const char *const *after; /* a value per key (NULL: SQL NULL): rows behind them; NULL: from the start */
	bool want_total;
	const char *rows;        /* "own", "team": the caller's limit for this entity; NULL: all rows */
};

/* BAD_REQUEST or VALIDATION_ERROR with violations in the call. */
enum status query_parse(struct rpc_call *call, const struct plan *p, struct str wire, struct query *q) MUST_CHECK;
/* " WHERE …" of the filters and a short search; the same for page and count, which add a longer search themselves. */
void query_where(struct sql *q, const struct plan *p, const struct query *l);
/* where: what query_where made, with its parameters already in q. */
void query_page(struct sql *q, const struct plan *p, const struct query *l, struct str where);
/* Ids of all that match, in their order. */
void query_ids(struct sql *q, const struct plan *p, const struct query *l, size_t limit);
void query_count(struct sql *q, const struct plan *p, const struct query *l, struct str where);

/* -- cursors (cursor.c): the sort values of a row, opaque, bound to the sort */
void cursor_put(struct buf *b, const struct plan *p, const struct query *q, const PGresult *res, int row);
bool cursor_parse(struct arena *a, const struct plan *p, const struct query *q, struct str cursor, const char *const **after);

/* -- numbers (seq.c) */
typedef void (*seq_done)(void *arg, enum status s, int64_t seq);
/* Loop thread. done may be called from inside. */
void seq_take(struct rpc_call *call, const char *kind, seq_done done, void *arg);
/* n numbers in the transaction of db. */
enum status seq_lease(struct db_conn *db, const char *tenant, const char *kind, int64_t n, int64_t *first) MUST_CHECK;
uint64_t seq_leases(void);
void seq_fini(void);

/* -- on a worker: writes with an idempotency key (idempotency.c), upserts (upsert.c) */
struct write;
void write_on_worker(struct db_conn *db, void *write);

/* Text of the outbox row that says who exports what (query.c). */
void export_note(struct sql *q, const struct plan *p, const struct actor *a, const char *event, const struct query *l);

/* -- start-up check (check.c) */
void check_start(void);

#endif
