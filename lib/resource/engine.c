/* Binds ops to compiled plans and sends each call to the file that does it. */
#include "resource/engine.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "resource/import.h"
#include "resource/internal.h"
#include "resource/notices.h"
#include "resource/report.h"
#include "resource/write.h"

struct engine engine;

static size_t resources_of(const struct op *ops, size_t n, const struct resource **rows)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		bool seen = !ops[i].resource;

		for (size_t k = 0; k < found && !seen; k++)
			seen = rows[k] == ops[i].resource;
		if (!seen)
			rows[found++] = ops[i].resource;
	}
	return found;
}

static const struct plan *plan_of(const struct resource *r)
{
	for (size_t i = 0; i < engine.n_plans; i++)
		if (engine.plans[i].r == r)
			return &engine.plans[i];
	return NULL;
}

static bool is_generic(const struct op *op)
{
	return op->kind != OP_HANDLER && op->kind != OP_LOOP && op->kind != OP_REPORT;
}

static const struct schema_method *sibling(const char *rpc, const char *name)
{
	const struct schema_method *m;
	struct buf b = { 0 };

	buf_printf(&b, "%.*s.%s", (int)strcspn(rpc, "."), rpc, name);
	m = schema_method_find(engine.schema, buf_view(&b));
	buf_fini(&b);
	return m;
}

/* Rows are made and changed by an upsert as by the service's Create and Update: the same events. */
static void upsert_bind(struct bound *b, const struct op *op)
{
	const struct schema_method *create = sibling(op->rpc, "Create"), *update = sibling(op->rpc, "Update");

	b->external = plan_col_named(b->plan, STR("external_id"));
	if (!create || !update || !b->external || b->plan->r->hard)
		log_die("RESOURCE-OP", "%s needs a Create, an Update and a field external_id", op->rpc);
	b->event_created = create->event;
	b->event = update->event;
}

/* Rows are made, changed and, when it is taken back, deleted as by the service's own calls: the same events, and the same right to delete. */
static void import_bind(struct bound *b, const struct op *op)
{
	const struct schema_method *create = sibling(op->rpc, "Create"), *update = sibling(op->rpc, "Update"), *delete = sibling(op->rpc, "Delete");

	if (!create || !update || !delete || b->plan->r->hard)
		log_die("RESOURCE-OP", "%s needs a Create, an Update and a Delete", op->rpc);
	b->event_created = create->event;
	b->event_updated = update->event;
	b->event_deleted = delete->event;
	b->delete_permission = delete->permission;
	b->external = plan_col_named(b->plan, STR("external_id"));
	import_kinds(b);
}

static void bind_one(struct bound *b, const struct op *op)
{
	const struct schema_method *m = schema_method_find(engine.schema, str_of(op->rpc));

	b->op = op;
	b->plan = plan_of(op->resource);
	b->event = m ? m->event : NULL;
	if (is_generic(op) && !b->plan)
		log_die("RESOURCE-OP", "%s is generic and names no resource", op->rpc);
	if (is_generic(op) && !m)
		log_die("RESOURCE-OP", "%s is no method of the contracts", op->rpc);
	if (op->kind == OP_REPORT && (!m || !op->sql || m->input->max_number > REPORT_MAX_PARAMS))
		log_die("RESOURCE-OP", "%s needs a contract with at most %d fields, and a statement", op->rpc, REPORT_MAX_PARAMS);
	if (op->set && op->kind != OP_UPDATE)
		log_die("RESOURCE-OP", "%s: only an update sets columns", op->rpc);
	b->input = m ? m->input : NULL;
	b->output = m ? m->output : NULL;
	if (op->set && b->plan)
		b->n_fixed = plan_fixed(b->plan, op->set, b->fixed, sizeof(b->fixed) / sizeof(b->fixed[0]));
	if (op->kind == OP_UPSERT)
		upsert_bind(b, op);
	if (op->kind == OP_IMPORT)
		import_bind(b, op);
	if (op->kind == OP_BULK_UPDATE || op->kind == OP_BULK_DELETE)
		jobs_kind(op->rpc, bulk_write_step, b);
}

void resource_init(const struct schema *s, struct db *db, const struct op *ops, size_t n, const char *schema_name)
{
	const struct resource **rows = xcalloc(n ? n : 1, sizeof(*rows));

	idempotency_init();
	engine.schema = s;
	engine.db = db;
	engine.schema_name = schema_name;
	engine.ops = ops;
	engine.n_ops = n;
	engine.n_plans = resources_of(ops, n, rows);
	engine.plans = plan_compile(s, rows, engine.n_plans);
	engine.bound = xcalloc(n ? n : 1, sizeof(*engine.bound));
	for (size_t i = 0; i < n; i++)
		bind_one(&engine.bound[i], &ops[i]);
	free(rows);
	atomic_store(&engine.ready, engine.n_plans == 0);
	if (engine.n_plans)
		check_start();
}

void resource_fini(void)
{
	plan_free(engine.plans, engine.n_plans);
	for (size_t i = 0; i < engine.n_ops; i++)
		for (size_t k = 0; k < engine.bound[i].n_fixed; k++)
			free((char *)engine.bound[i].fixed[k].value);
	free(engine.bound);
	import_forget();
	jobs_forget();
	seed_fini();
	buf_fini(&engine.reply);
	buf_fini(&engine.text);
	memset(&engine, 0, sizeof(engine));
	seq_fini();
	counts_fini();
}

bool resource_ready(void)
{
	return atomic_load(&engine.ready);
}

static void dispatch(const struct bound *b, struct rpc_call *call)
{
	switch (b->op->kind) {
	case OP_LIST:
	case OP_EXPORT:
		list_run(b, call);
		break;
	case OP_GET:
		get_run(b, call);
		break;
	case OP_BULK_CREATE:
		bulk_run(b, call);
		break;
	case OP_BULK_UPDATE:
	case OP_BULK_DELETE:
		bulk_write_run(b, call);
		break;
	case OP_IMPORT_PREPARE:
		import_prepare_run(b, call);
		break;
	case OP_IMPORT:
		import_run(b, call);
		break;
	case OP_REVERT:
		revert_run(b, call);
		break;
	case OP_REFS:
		refs_run(b, call);
		break;
	case OP_REPORT:
		report_run(b, call);
		break;
	case OP_CREATE:
	case OP_UPDATE:
	case OP_DELETE:
	case OP_UPSERT:
		write_run(b, call);
		break;
	default:
		rpc_reply_error(call, STATUS_NOT_IMPLEMENTED, NULL);
	}
}

void resource_dispatch(const struct op *op, struct rpc_call *call)
{
	const struct bound *b = &engine.bound[op - engine.ops];

	if (!resource_ready()) {
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 500);
		return;
	}
	if (op->resource && op->resource->seed)
		seed_run(b, call, dispatch);
	else
		dispatch(b, call);
}

void resource_listen(const char *url, const char *schema_name)
{
	notices_start(url, schema_name);
}

void resource_unlisten(void)
{
	notices_stop();
}

void resource_changed(struct str tenant, const char *entity, struct str user)
{
	counts_changed(tenant, entity, user);
}

struct resource_stats resource_stats(void)
{
	struct counts_stats c = counts_stats();
	struct notices_stats n = notices_stats();

	return (struct resource_stats){ .counts_run = c.run, .counts_served = c.served, .counts_adjusted = c.adjusted, .counts_entries = c.entries,
		.seq_leases = seq_leases(), .notices_sent = n.sent, .notices_heard = n.heard };
}

/* "lead_email_unique" of table lead is about the column email. */
static const struct col *col_of_constraint(const struct plan *p, const char *constraint, const char *suffix)
{
	size_t table = strlen(p->r->table), n = strlen(constraint), tail = strlen(suffix);

	if (n <= table + 1 + tail || strncmp(constraint, p->r->table, table) != 0 || strcmp(constraint + n - tail, suffix) != 0)
		return NULL;
	struct str column = { constraint + table + 1, n - table - 1 - tail };

	for (size_t i = 0; i < p->n_cols; i++)
		if (p->cols[i].column && str_eq(str_of(p->cols[i].column), column))
			return &p->cols[i];
	return NULL;
}

enum status said_explain(struct rpc_call *call, const struct db_said *said, enum status s)
{
	const char *text = arena_strdup(&call->arena, str_of(said->text));

	if (said->field[0])
		rpc_violate(call, arena_strdup(&call->arena, str_of(said->field)), said->rule[0] ? arena_strdup(&call->arena, str_of(said->rule)) : "invalid", text, NULL);
	if (s != STATUS_VALIDATION_ERROR || !said->field[0])
		call->status_text = text;
	return s;
}

enum status db_error_explain(struct rpc_call *call, const struct plan *p, const struct db_error *e)
{
	enum status s = e->status;
	const struct col *unique = col_of_constraint(p, e->constraint, "_unique");
	const struct col *present = col_of_constraint(p, e->constraint, "_present");

	if (e->said)
		return said_explain(call, e->said, s);
	if (s == STATUS_DUPLICATE && unique)
		rpc_violate(call, unique->f->name, "unique", "is already in use", NULL);
	if (s == STATUS_PERMISSION_DENIED && p->owner && strcmp(e->sqlstate, "42501") == 0) {
		violate_scope(call, p);
		return STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_CONFLICT && present) {
		rpc_violate(call, present->f->name, "required", "is required", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	/* class 22: a value that its column cannot hold */
	if (s == STATUS_INTERNAL && strncmp(e->sqlstate, "22", 2) == 0)
		return STATUS_VALIDATION_ERROR;
	return s;
}

void reply_db_error(struct rpc_call *call, const struct plan *p, const struct db_error *e)
{
	rpc_reply_error(call, db_error_explain(call, p, e), NULL);
}

void violate_missing(struct rpc_call *call, const struct plan *p, struct str numbers)
{
	while (numbers.n) {
		const char *space = memchr(numbers.p, ' ', numbers.n);
		size_t n = space ? (size_t)(space - numbers.p) : numbers.n;
		uint64_t number = 0;
		const struct col *c;

		if (str_to_u64((struct str){ numbers.p, n }, &number) && number <= UINT32_MAX) {
			c = plan_col(p, (uint32_t)number);
			rpc_violate(call, c ? c->f->name : "", "exists", "does not exist", NULL);
		}
		numbers.p += n + (space != NULL);
		numbers.n -= n + (space != NULL);
	}
}
