/* Steps: the body becomes a message, the service is called, its reply becomes the dialect's answer. */
#include "base/log.h"
#include "gateway/feed.h"
#include "gateway/request.h"

struct rpc_request request_call(const struct request *r)
{
	return (struct rpc_request){
		.principal = r->who ? r->who->wire : (struct str){ 0 },
		.request_id = r->request_id,
		.traceparent = r->traceparent,
		.dialect = str_of(r->sel.face->dialect->name),
		.client_ip = r->origin.client_ip,
		.user_agent = r->user_agent,
		.timeout_ms = r->route && r->route->timeout_ms ? r->route->timeout_ms : CALL_TIMEOUT_MS,
		.arg = (void *)(uintptr_t)r,
	};
}

static bool ask_refs(struct request *r, void (*done)(void *arg))
{
	struct ref_call call = { r->w->rpc, request_call(r) };

	return refs_ask(&r->refs, &call, done, r);
}

/* -- the way in */

static void on_inbound_refs(void *arg)
{
	request_run(arg);
}

static struct decode_input decode_input(struct request *r)
{
	const struct http_request *req = &r->x->req;

	return (struct decode_input){
		.match = &r->sel.match,
		.query = req->query,
		.body = req->body,
		.content_type = request_header(r, "Content-Type"),
		.if_match = r->if_match,
		.who = r->caller,
		.refs = refs_lookup(&r->refs),
		.arena = &r->x->arena,
	};
}

static void refs_begin(struct request *r)
{
	if (r->refs.cache)
		return;
	r->refs.cache = r->w->refs;
	r->refs.faces = r->faces;
	r->refs.arena = &r->x->arena;
	r->refs.tenant_id = r->caller.tenant_id;
	r->refs.now_us = r->x->start_us;
}

static enum step_result refuse_body(struct request *r, enum status s)
{
	struct decoded *d = &r->w->decoded;

	buf_fini(&d->payload);
	return reply_refusal(r, s, d->text && s == STATUS_BAD_REQUEST ? str_of(d->text) : (struct str){ 0 }, (struct str){ 0 }, d->violations, d->n_violations);
}

/* The payload is left in the worker's decoded; step_call takes it in the same turn. */
enum step_result step_decode(struct request *r)
{
	struct decoded *d = &r->w->decoded;
	struct decode_input in;
	enum status s;

	if (r->route->reads_body && is_form_with_files(request_header(r, "Content-Type")))
		return reply_error(r, STATUS_UNSUPPORTED_MEDIA_TYPE, NULL); /* it was not read */
	if (r->refs.failed)
		return reply_error(r, STATUS_UNAVAILABLE, NULL); /* whether what the body refers to exists cannot be told */
	refs_begin(r);
	in = decode_input(r);
	s = route_decode(&in, d);
	if (r->refs.n_open) {
		buf_fini(&d->payload);
		if (ask_refs(r, on_inbound_refs))
			return STEP_WAIT;
		return reply_error(r, STATUS_UNAVAILABLE, NULL);
	}
	if (s != STATUS_OK)
		return refuse_body(r, s);
	r->page = d->page;
	r->unknown_fields = d->unknown_fields;
	return STEP_NEXT;
}

/* -- the way out */

/* "/api/leads" + "/" + id; the slash at the end stays where the dialect has one. */
static struct str location(struct request *r, struct str id)
{
	struct str path = r->x->req.path;
	bool slash = path.n && path.p[path.n - 1] == '/';

	return str_of(arena_printf(&r->x->arena, "%.*s%s%.*s%s", STR_FMT(path), slash ? "" : "/", STR_FMT(id), slash ? "/" : ""));
}

static void describe(struct request *r, const struct encoded *info)
{
	if (info->version) {
		buf_clear(&r->w->head);
		conditions_etag(&r->w->head, r->sel.face->dialect->name, info->version);
		r->etag = arena_str(&r->x->arena, buf_view(&r->w->head));
	}
	if (r->route->creates && info->id.n)
		r->location = location(r, info->id);
	r->next = info->next;
}

static bool is_unchanged(const struct request *r)
{
	struct str header;

	if (!r->etag.n || !(str_eq(r->x->req.method, STR("GET")) || str_eq(r->x->req.method, STR("HEAD"))))
		return false;
	header = request_header(r, "If-None-Match");
	return header.n && conditions_none_match(header, r->etag);
}

static void answer(struct request *r, const struct encoded *info)
{
	describe(r, info);
	if (is_unchanged(r))
		reply_send(r, 304, NULL, (struct str){ 0 });
	else if (info->status == 204)
		reply_send(r, 204, NULL, (struct str){ 0 });
	else
		reply_send(r, info->status, "application/json; charset=utf-8", buf_view(&r->w->body));
}

static void encode(struct request *r, struct str payload);

static void on_outbound_refs(void *arg)
{
	struct request *r = arg;

	r->refs.settle = true; /* a name that nobody could tell is left out */
	encode(r, r->reply);
}

/* payload: the service's, or r->reply on the second pass. */
static void encode(struct request *r, struct str payload)
{
	struct encode_input in = reply_encode_input(r);
	struct encoded info = { 0 };

	buf_clear(&r->w->body);
	in.refs = refs_lookup(&r->refs);
	if (!route_encode(&in, payload, &r->w->body, &info)) {
		log_context(r->traceparent, r->request_id, r->caller.tenant_id);
		log_error("REPLY-MALFORMED", "the reply of %s could not be read", r->route->rpc->name);
		log_context_clear();
		reply_error(r, STATUS_INTERNAL, NULL);
		return;
	}
	if (!r->refs.n_open) {
		answer(r, &info);
		return;
	}
	r->reply = arena_str(&r->x->arena, payload);
	if (!ask_refs(r, on_outbound_refs))
		on_outbound_refs(r);
}

void request_refuse(struct request *r, const struct rpc_result *result)
{
	struct str text = result->text;

	r->retry_after_s = (result->retry_after_ms + 999) / 1000;
	if (result->status == STATUS_INTERNAL || (unsigned)result->status >= STATUS_COUNT)
		text = (struct str){ 0 }; /* what went wrong inside stays inside */
	else if (result->unknown && r->route->rpc->lane != RPC_READ)
		text = STR("The connection to the service broke; the request may or may not have been carried out");
	reply_refusal(r, result->status, text, result->status_bytes, NULL, 0);
}

void request_reply(struct request *r, const struct rpc_result *result)
{
	if (result->status != STATUS_OK) {
		request_refuse(r, result);
		return;
	}
	if (r->route->rpc->lane != RPC_READ && strcmp(r->route->rpc->service, "auth") == 0)
		counters_ring(r->w->g->counters); /* it may have ended sessions: the other gateways need not wait for their next poll */
	r->replayed = result->replayed;
	if (r->route->download)
		download_start(r, result->payload);
	else
		encode(r, result->payload);
}

static void on_reply(void *arg, const struct rpc_result *result)
{
	request_reply(arg, result);
}

enum step_result step_call(struct request *r)
{
	const struct schema_method *rpc = r->route->rpc;
	struct rpc_request q = request_call(r);
	struct buf *payload = &r->w->decoded.payload;

	q.service = rpc_client_find(r->w->rpc, str_of(rpc->service));
	if (q.service < 0) {
		buf_fini(payload);
		return reply_error(r, STATUS_UNAVAILABLE, NULL);
	}
	if (r->route->feed)
		return feed_start(r);
	if (r->route->export_name)
		return export_start(r);
	if (r->route->upload_part)
		return upload_start(r);
	q.lane = (enum rpc_lane)rpc->lane;
	q.rpc = str_of(rpc->name);
	q.idempotency_key = r->idempotency_key;
	if (r->idempotency_key.n)
		q.idempotency_hash = (struct str){ (const char *)r->idempotency_hash, sizeof(r->idempotency_hash) };
	q.may_retry = rpc->lane == RPC_READ || r->idempotency_key.n;
	q.payload = buf_view(payload);
	q.done = on_reply;
	rpc_client_call(r->w->rpc, &q);
	buf_fini(payload); /* it was copied */
	return STEP_WAIT;
}
