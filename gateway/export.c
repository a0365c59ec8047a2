/*
 * A list streamed whole: pages are asked for one after the other by cursor, and printed as they come. At most one page and
 * what the client has not taken yet is in memory; the next page is not asked for while the client lags behind.
 */
#include "base/log.h"
#include "base/wire.h"
#include "gateway/request.h"

#define PENDING_MAX (256u << 10) /* unsent bytes above which the next page waits */
#define LOOK_AGAIN_MS 20
#define LIST_CURSOR 6 /* in crm.v1.ListRequest */

struct export {
	struct request *r;
	enum export_format format;
	struct encode_input in;
	struct str payload;  /* of the first page; in the request's arena */
	struct str reply;    /* the page that is being printed; in page */
	struct buf cursor;   /* of the page to ask for; empty: the first */
	struct arena page;   /* reset for every page */
	uint64_t rows;
	bool begun;
};

static void page_ask(struct export *e);

/* Takes everything down. whole false: something is missing. */
static void finish(struct export *e, bool whole)
{
	struct request *r = e->r;

	r->w->exports--;
	buf_fini(&e->cursor);
	arena_fini(&e->page);
	reply_end(r, 200, whole);
}

/* Before the first byte a refusal is an answer like any other. */
static void refuse(struct export *e, const struct rpc_result *result)
{
	struct request *r = e->r;

	r->w->exports--;
	buf_fini(&e->cursor);
	arena_fini(&e->page);
	request_refuse(r, result);
}

static void begin(struct export *e)
{
	struct request *r = e->r;
	bool csv = e->format == EXPORT_CSV;

	e->begun = true;
	r->extra = str_of(arena_printf(&r->x->arena, "%.*sContent-Disposition: attachment; filename=\"%s.%s\"\r\n", STR_FMT(r->extra), r->route->export_name,
	    csv ? "csv" : "json"));
	reply_begin(r, 200, csv ? "text/csv; charset=utf-8; header=present" : "application/json; charset=utf-8");
}

static void look_again(evutil_socket_t fd, short what, void *arg);

static void go_on(struct export *e)
{
	struct request *r = e->r;
	struct timeval wait = { 0, LOOK_AGAIN_MS * 1000 };

	if (http_gone(r->x)) {
		finish(e, false);
	} else if (http_reply_pending(r->x) > PENDING_MAX) {
		evtimer_assign(&r->timer, r->w->base, look_again, e);
		r->timer_set = true;
		evtimer_add(&r->timer, &wait);
	} else {
		page_ask(e);
	}
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
	go_on(arg);
}

static void page_send(struct export *e, const struct exported *info)
{
	struct buf *body = &e->r->w->body;
	bool last = info->next_cursor.n == 0, sent;

	e->rows += info->rows;
	buf_clear(&e->cursor);
	buf_str(&e->cursor, info->next_cursor);
	if (last)
		export_close(e->format, body);
	if (!e->begun)
		begin(e);
	sent = http_reply_chunk(e->r->x, buf_view(body));
	if (last || !sent)
		finish(e, sent);
	else
		go_on(e);
}

static void page_print(struct export *e);

static void on_refs(void *arg)
{
	struct export *e = arg;

	e->r->refs.settle = true; /* a name that nobody could tell is left out */
	page_print(e);
}

static void malformed(struct export *e)
{
	struct request *r = e->r;

	log_context(r->trace_id, r->request_id, r->caller.tenant_id);
	log_error("REPLY-MALFORMED", "a page of %s could not be read", r->route->rpc->name);
	log_context((struct str){ 0 }, (struct str){ 0 }, (struct str){ 0 });
	if (e->begun)
		finish(e, false);
	else
		refuse(e, &(struct rpc_result){ .status = STATUS_INTERNAL });
}

static void page_print(struct export *e)
{
	struct request *r = e->r;
	struct encode_input in = e->in;
	struct ref_call call = { r->w->rpc, request_call(r) };
	struct exported info;

	buf_clear(&r->w->body);
	in.refs = refs_lookup(&r->refs);
	in.arena = &e->page;
	if (!export_rows(&in, e->reply, e->format, !e->begun, &r->w->body, &info)) {
		malformed(e);
		return;
	}
	if (!r->refs.n_open)
		page_send(e, &info);
	else if (!refs_ask(&r->refs, &call, on_refs, e))
		on_refs(e);
}

static void on_page(void *arg, const struct rpc_result *result)
{
	struct export *e = arg;
	struct request *r = e->r;

	if (result->status != STATUS_OK && !e->begun) {
		refuse(e, result);
	} else if (result->status != STATUS_OK || http_gone(r->x)) {
		if (!http_gone(r->x))
			log_warn("EXPORT-CUT", "an export of %s ends after %llu rows: %s", r->route->rpc->name, (unsigned long long)e->rows, status_name(result->status));
		finish(e, false);
	} else {
		arena_reset(&e->page);
		r->refs = (struct refs){ .cache = r->refs.cache, .faces = r->refs.faces, .arena = &e->page, .tenant_id = r->refs.tenant_id, .now_us = r->refs.now_us };
		e->reply = arena_str(&e->page, result->payload);
		page_print(e);
	}
}

static void call(struct export *e, const struct schema_method *rpc, struct str payload, rpc_done done)
{
	struct rpc_request q = request_call(e->r);

	q.service = rpc_client_find(e->r->w->rpc, str_of(rpc->service));
	if (q.service < 0) {
		done(e, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
		return;
	}
	q.lane = (enum rpc_lane)rpc->lane;
	q.rpc = str_of(rpc->name);
	q.may_retry = rpc->lane == RPC_READ;
	q.payload = payload;
	q.done = done;
	q.arg = e;
	rpc_client_call(e->r->w->rpc, &q);
}

/* The last of a field counts, so the cursor goes behind what the first page was asked with. */
static void page_ask(struct export *e)
{
	struct buf payload = { 0 };

	buf_str(&payload, e->payload);
	if (e->cursor.n)
		wire_put_bytes(&payload, LIST_CURSOR, buf_view(&e->cursor));
	call(e, e->r->route->rpc, buf_view(&payload), on_page);
	buf_fini(&payload);
}

static void on_note(void *arg, const struct rpc_result *result)
{
	struct export *e = arg;

	if (result->status != STATUS_OK)
		refuse(e, result);
	else
		page_ask(e);
}

enum step_result export_start(struct request *r)
{
	struct buf *payload = &r->w->decoded.payload;
	struct export *e;

	if (r->w->exports >= EXPORTS_MAX) {
		buf_fini(payload);
		r->retry_after_s = 2;
		return reply_error(r, STATUS_UNAVAILABLE, "Too many exports are under way, try again");
	}
	e = ARENA_NEW(&r->x->arena, struct export);
	e->r = r;
	e->format = r->w->decoded.format;
	e->in = reply_encode_input(r);
	e->payload = arena_str(&r->x->arena, buf_view(payload));
	buf_fini(payload);
	r->w->exports++;
	if (str_eq(r->x->req.method, STR("HEAD"))) {
		begin(e);
		finish(e, true);
		return STEP_ANSWERED;
	}
	if (r->route->export_note)
		call(e, r->route->export_note, STR(""), on_note);
	else
		page_ask(e);
	return STEP_WAIT;
}
