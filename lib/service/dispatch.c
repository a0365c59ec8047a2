/* Calls to ops: look-up, permission, then the generic resource, the loop or a worker thread. */
#include "service/dispatch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/statements.h"
#include "resource/engine.h"
#include "telemetry/context.h"
#include "telemetry/metrics.h"

/* Numbers of crm.v1.Permission that are no permission. */
enum { PERMISSION_PUBLIC = 0, PERMISSION_AUTHENTICATED = 1, PERMISSION_INTERNAL = 2 };

#define RETRY_MS 250

struct entry {
	struct entry *next; /* in the bucket */
	uint64_t hash;
	struct str rpc;
	const struct op *op;
	const struct schema_method *method;
	struct metric_series *duration;
	struct metric_series *calls[STATUS_COUNT];
};

struct dispatch {
	struct db *db;
	bool open;
	struct entry *entries;
	size_t n;
	struct entry **buckets;
	size_t mask;
};

struct handler_job {
	struct rpc_call *call;
	const struct op *op;
};

static struct metric duration = { .name = "crm_rpc_server_duration_seconds", .help = "Time from hand-out to answer", .type = METRIC_HISTOGRAM,
	.labels = { "rpc" } };
static struct metric calls = { .name = "crm_rpc_server_calls_total", .help = "Calls answered", .type = METRIC_COUNTER, .labels = { "rpc", "status" } };

/* -- start-up */

static size_t ops_named(const struct op *ops, size_t n, const char *rpc)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += strcmp(ops[i].rpc, rpc) == 0;
	return found;
}

static const char *op_mismatch(struct arena *a, const struct schema *s, const char *service, const struct op *op)
{
	const struct schema_method *m = schema_method_find(s, str_of(op->rpc));

	if (!m || strcmp(m->service, service) != 0)
		return arena_printf(a, "op %s has no method in proto/%s.proto", op->rpc, service);
	if (op->kind == OP_HANDLER && !op->handler)
		return arena_printf(a, "op %s has no handler", op->rpc);
	if (op->kind == OP_LOOP && !op->on_loop)
		return arena_printf(a, "op %s has no on_loop", op->rpc);
	if (op->kind < OP_REPORT && !op->resource)
		return arena_printf(a, "op %s has no resource", op->rpc);
	return NULL;
}

const char *dispatch_mismatch(struct arena *a, const struct schema *s, const char *service, const struct op *ops, size_t n)
{
	const struct schema_method *rows;
	size_t n_rows = schema_methods(s, &rows), found;
	const char *why = NULL;

	for (size_t i = 0; i < n && !why; i++)
		why = op_mismatch(a, s, service, &ops[i]);
	for (size_t i = 0; i < n_rows && !why; i++) {
		if (strcmp(rows[i].service, service) != 0)
			continue;
		found = ops_named(ops, n, rows[i].name);
		if (found != 1)
			why = arena_printf(a, "method %s of proto/%s.proto has %s", rows[i].name, service, found ? "more than one op" : "no op");
	}
	return why;
}

static void entry_init(struct dispatch *d, struct entry *e, const struct schema *s, const struct op *op)
{
	e->op = op;
	e->rpc = str_of(op->rpc);
	e->hash = statements_hash(e->rpc);
	e->method = schema_method_find(s, e->rpc);
	e->duration = metric_series(&duration, e->rpc);
	e->next = d->buckets[e->hash & d->mask];
	d->buckets[e->hash & d->mask] = e;
}

struct dispatch *dispatch_new(const struct schema *s, struct db *db, const char *service, const struct op *ops, size_t n)
{
	struct dispatch *d = xcalloc(1, sizeof(*d));
	struct arena a = { 0 };
	const char *why = dispatch_mismatch(&a, s, service, ops, n);

	if (why)
		log_die("SERVICE-OPS", "%s", why);
	d->db = db;
	d->n = n;
	d->mask = 255;
	while (d->mask < n * 2)
		d->mask = d->mask * 2 + 1;
	d->entries = xcalloc(n, sizeof(*d->entries));
	d->buckets = xcalloc(d->mask + 1, sizeof(*d->buckets));
	for (size_t i = 0; i < n; i++)
		entry_init(d, &d->entries[i], s, &ops[i]);
	arena_fini(&a);
	return d;
}

void dispatch_free(struct dispatch *d)
{
	free(d->entries);
	free(d->buckets);
	free(d);
}

void dispatch_open(struct dispatch *d)
{
	d->open = true;
}

static struct entry *find(const struct dispatch *d, struct str rpc)
{
	uint64_t hash = statements_hash(rpc);
	struct entry *e = d->buckets[hash & d->mask];

	while (e && !(e->hash == hash && str_eq(e->rpc, rpc)))
		e = e->next;
	return e;
}

/* -- calls */

/*
 * INTERNAL needs no principal: only who has the envelope key can call at all, and the gateway never routes such a method.
 * One may be there all the same, to say for which tenant the call is.
 */
enum status dispatch_may(const struct rpc_principal *who, unsigned permission)
{
	if (permission == PERMISSION_PUBLIC || permission == PERMISSION_INTERNAL)
		return STATUS_OK;
	if (who->tenant_id.n == 0 || (who->user_id.n == 0 && who->api_key_id.n == 0))
		return STATUS_UNAUTHENTICATED;
	if (permission == PERMISSION_AUTHENTICATED || rpc_may(who, permission))
		return STATUS_OK;
	return STATUS_PERMISSION_DENIED;
}

/*
 * The call's own span, child of the caller's; from here on the call carries it as its traceparent, so that statements, the outbox row and
 * calls to other services are its children. Ends in dispatch_observe.
 */
static void trace_begin(struct rpc_call *call)
{
	struct trace_context parent;
	char *text;

	if (!trace_continue(call->traceparent, &parent))
		return;
	call->span = arena_alloc(&call->arena, sizeof(*call->span));
	span_begin(call->span, &parent, SPAN_SERVER, call->rpc);
	text = arena_alloc(&call->arena, TRACEPARENT + 1);
	trace_print(&call->span->at, text);
	call->traceparent = (struct str){ text, TRACEPARENT };
	trace_here = call->span->at;
}

static void trace_end(const struct rpc_call *call, enum status status)
{
	struct span *s = call->span;

	span_text(s, "rpc.system", STR("crm"));
	span_text(s, "rpc.method", call->rpc);
	span_text(s, "crm.status", str_of(status_name(status)));
	span_text(s, "crm.dialect", call->dialect);
	span_text(s, "crm.tenant.id", call->who.tenant_id);
	span_text(s, "crm.request.id", call->request_id);
	s->error = status == STATUS_INTERNAL || status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE_EXCEEDED;
	span_end(s);
}

static void run_handler(struct db_conn *db, void *arg)
{
	struct handler_job job = *(struct handler_job *)arg;
	struct rpc_call *call = job.call;

	if (call->deadline_us && call->deadline_us <= clock_us()) {
		rpc_reply_error(call, STATUS_DEADLINE_EXCEEDED, NULL); /* its caller is gone: do not begin */
		return;
	}
	db_limit(db, call->who.scope);
	job.op->handler(call, db);
}

static void to_worker(struct dispatch *d, const struct op *op, struct rpc_call *call)
{
	struct handler_job *job = ARENA_NEW(&call->arena, struct handler_job);

	*job = (struct handler_job){ call, op };
	if (!db_work(d->db, run_handler, job))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

static void route(struct dispatch *d, struct rpc_call *call)
{
	const struct entry *e = find(d, call->rpc);
	enum status may;

	if (!e) {
		rpc_reply_error(call, STATUS_NOT_IMPLEMENTED, NULL);
		return;
	}
	may = dispatch_may(&call->who, e->method->permission);
	if (may != STATUS_OK) {
		rpc_reply_error(call, may, NULL);
		return;
	}
	if (!d->open)
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
	else if (e->op->kind == OP_HANDLER)
		to_worker(d, e->op, call);
	else if (e->op->kind == OP_LOOP)
		e->op->on_loop(call);
	else
		resource_dispatch(e->op, call);
}

void dispatch_call(void *arg, struct rpc_call *call)
{
	if (trace_on)
		trace_begin(call);
	log_context(call->traceparent, call->request_id, call->who.tenant_id);
	route(arg, call); /* the call may be gone now; what it left to do has taken the context along */
	context_leave();
}

void dispatch_observe(void *arg, const struct rpc_call *call, enum status status)
{
	struct entry *e = find(arg, call->rpc);
	struct metric_series *s;

	log_debug("RPC-CALL", "%.*s %s", STR_FMT(call->rpc), status_name(status));
	if (call->span)
		trace_end(call, status);
	if (!e || call->started_us == 0 || status < 0 || status >= STATUS_COUNT)
		return;
	s = __atomic_load_n(&e->calls[status], __ATOMIC_ACQUIRE);
	if (!s) {
		s = metric_series(&calls, e->rpc, str_of(status_name(status)));
		__atomic_store_n(&e->calls[status], s, __ATOMIC_RELEASE);
	}
	metric_add(s, 1);
	metric_observe(e->duration, (double)(clock_mono_us() - call->started_us) / 1e6);
}
