/* What happens to every request, in this order. */
#include "base/codec.h"
#include "gateway/builtin.h"
#include "gateway/request.h"

struct step {
	const char *name;
	enum step_result (*run)(struct request *r);
};

static const struct step steps[] = {
	{ "identify", step_identify },
	{ "select", step_select },
	{ "cors", step_cors },
	{ "route", step_route },
	{ "rate-address", step_rate_address },
	{ "token", step_token },
	{ "tenant", step_tenant },
	{ "rate", step_rate },
	{ "permission", step_permission },
	{ "conditions", step_conditions },
	{ "decode", step_decode },
	{ "call", step_call },
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

struct request *request_new(struct worker *w, struct http_exchange *x)
{
	struct request *r = ARENA_NEW(&x->arena, struct request);

	r->w = w;
	r->x = x;
	r->faces = worker_faces(w);
	faces_hold(r->faces);
	worker_keys(w);
	atomic_fetch_add_explicit(&w->g->in_flight, 1, memory_order_relaxed);
	return r;
}

void request_run(struct request *r)
{
	while (r->step < STEPS) {
		if (steps[r->step].run(r) != STEP_NEXT)
			return; /* answered (r is gone) or waiting (the same step again, unless it said otherwise) */
		r->step++;
	}
}

void request_reject(struct request *r, enum status why, const char *text)
{
	if (step_identify(r) != STEP_NEXT || step_select(r) != STEP_NEXT)
		return;
	cors_allow(r);
	r->route = NULL; /* the head may be cut off: what it seems to mean is no route */
	reply_error(r, why, text);
}

enum step_result step_select(struct request *r)
{
	const struct http_request *req = &r->x->req;
	struct str host = r->origin.authority.p == req->authority.p ? req->host : r->origin.authority, method = req->method;
	struct select_input in = {
		.listener = req->listener,
		.path = req->path,
		.host = host,
		.header = request_header(r, "X-CRM-Dialect"),
		.arena = &r->x->arena,
	};

	/* A preflight is about the method that will follow. */
	if (str_eq(method, STR("OPTIONS")) && request_header(r, "Access-Control-Request-Method").n)
		method = request_header(r, "Access-Control-Request-Method");
	in.method = method;
	select_route(r->faces, &in, &r->sel);
	if (r->sel.outcome == STATUS_OK)
		r->route = r->sel.match.route;
	else if (r->sel.outcome == STATUS_NOT_FOUND)
		r->builtin = builtin_find(r->sel.path);
	return STEP_NEXT;
}

static bool is_read(struct str method)
{
	return str_eq(method, STR("GET")) || str_eq(method, STR("HEAD"));
}

enum step_result step_route(struct request *r)
{
	bool options = str_eq(r->x->req.method, STR("OPTIONS"));

	if (options && str_eq(r->x->req.path, STR("*"))) { /* about the server, not about a path */
		r->allow = STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
		return reply_send(r, 204, NULL, (struct str){ 0 });
	}
	if (r->builtin && is_read(r->x->req.method))
		return r->builtin->serve(r);
	if (r->builtin) {
		r->allow = STR("GET, HEAD");
		return reply_error(r, STATUS_METHOD_NOT_ALLOWED, NULL);
	}
	if (r->sel.outcome == STATUS_METHOD_NOT_ALLOWED)
		r->allow = r->sel.allow;
	if (options && r->sel.outcome == STATUS_METHOD_NOT_ALLOWED)
		return reply_send(r, 204, NULL, (struct str){ 0 });
	if (r->sel.outcome != STATUS_OK)
		return reply_error(r, r->sel.outcome, r->sel.text);
	return STEP_NEXT;
}

enum step_result step_permission(struct request *r)
{
	unsigned permission = r->route->rpc->permission;

	if (permission == 0)
		return STEP_NEXT;
	if (!r->who)
		return reply_error(r, STATUS_UNAUTHENTICATED, NULL);
	if (permission == 1)
		return STEP_NEXT;
	if (permission == 2 || !principal_may(&r->who->who, permission))
		return reply_error(r, STATUS_PERMISSION_DENIED, NULL);
	return STEP_NEXT;
}

/* What makes two requests the same: the method called, where, and with what. */
static void idempotency_hash(struct request *r)
{
	const struct http_request *req = &r->x->req;
	const char *rpc = r->route->rpc->name;
	struct buf *b = &r->w->body;

	buf_clear(b);
	buf_put(b, rpc, strlen(rpc) + 1);
	buf_str(b, r->sel.path);
	buf_c(b, 0);
	buf_str(b, req->query);
	buf_c(b, 0);
	buf_str(b, req->body);
	sha256(b->p, b->n, r->idempotency_hash);
}

enum step_result step_conditions(struct request *r)
{
	struct str if_match = request_header(r, "If-Match"), key = request_header(r, "Idempotency-Key");

	if (is_read(r->x->req.method))
		return STEP_NEXT;
	if (if_match.n && !conditions_if_match(if_match, &r->if_match))
		return reply_error(r, STATUS_BAD_REQUEST, "If-Match is malformed");
	if (!key.n || r->route->rpc->lane == RPC_READ || !r->who)
		return STEP_NEXT;
	if (!conditions_idempotency_key(key, r->idempotency_scratch, &r->idempotency_key))
		return reply_error(r, STATUS_BAD_REQUEST, "Idempotency-Key must be 1 to 200 printable characters");
	idempotency_hash(r);
	return STEP_NEXT;
}
