/*
 * A list streamed whole: pages are asked for one after the other by cursor, and printed as they come. At most one page and
 * what the client has not taken yet is in memory; the next page is not asked for while the client lags behind.
 * A workbook can only be sent when its last row is known: it grows in a file without a name, is completed on a job thread, then sent.
 */
#include <unistd.h>

#include "base/codec.h"
#include "base/log.h"
#include "base/wire.h"
#include "gateway/dialect/xlsx.h"
#include "gateway/request.h"

#define PENDING_MAX (256u << 10) /* unsent bytes above which the next page waits */
#define LOOK_AGAIN_MS 20
#define LIST_CURSOR 6 /* in crm.v1.ListRequest */

#define FILE_PIECE (256u << 10)

static const struct {
	const char *extension, *type;
} formats[] = {
	[EXPORT_CSV] = { "csv", "text/csv; charset=utf-8; header=present" },
	[EXPORT_JSON] = { "json", "application/json; charset=utf-8" },
	[EXPORT_XLSX] = { "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" },
};

struct export {
	struct job job;      /* first */
	struct request *r;
	struct xlsx *sheet;  /* XLSX, while rows are added */
	int fd;              /* XLSX, once it is complete; else -1 */
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
static void go_on(struct export *e);

static void export_fini(struct export *e)
{
	e->r->w->exports--;
	buf_fini(&e->cursor);
	arena_fini(&e->page);
	xlsx_abort(e->sheet);
	if (e->fd >= 0)
		close(e->fd);
}

/* Takes everything down. whole false: something is missing. */
static void finish(struct export *e, bool whole)
{
	struct request *r = e->r;

	export_fini(e);
	reply_end(r, 200, whole);
}

/* Before the first byte a refusal is an answer like any other. */
static void refuse(struct export *e, const struct rpc_result *result)
{
	struct request *r = e->r;

	export_fini(e);
	request_refuse(r, result);
}

static void begin(struct export *e)
{
	struct request *r = e->r;
	struct buf date = { 0 };

	e->begun = true;
	date_print(&date, r->now_us);
	r->extra = str_of(arena_printf(&r->x->arena, "%.*sContent-Disposition: attachment; filename=\"%s-%s.%s\"\r\n", STR_FMT(r->extra), r->route->export_name,
	    buf_cstr(&date), formats[e->format].extension));
	buf_fini(&date);
	reply_begin(r, 200, formats[e->format].type);
}

/* Somebody is there to send to. While nothing is sent, only the end of the client's side can tell. */
static bool is_wanted(const struct export *e)
{
	return !(e->format == EXPORT_XLSX && !e->begun ? http_half_closed(e->r->x) : http_gone(e->r->x));
}

static void file_piece(struct export *e)
{
	struct buf *piece = &e->r->w->body;
	ssize_t n;

	buf_clear(piece);
	buf_need(piece, FILE_PIECE);
	n = read(e->fd, piece->p, FILE_PIECE);
	if (n > 0)
		http_reply_chunk(e->r->x, (struct str){ piece->p, (size_t)n });
	if (n <= 0)
		finish(e, n == 0);
	else
		go_on(e);
}

static void look_again(evutil_socket_t fd, short what, void *arg);

static void go_on(struct export *e)
{
	struct request *r = e->r;
	struct timeval wait = { 0, LOOK_AGAIN_MS * 1000 };

	if (!is_wanted(e)) {
		finish(e, false);
	} else if (http_reply_pending(r->x) > PENDING_MAX) {
		evtimer_assign(&r->timer, r->w->base, look_again, e);
		r->timer_set = true;
		evtimer_add(&r->timer, &wait);
	} else if (e->fd >= 0) {
		file_piece(e);
	} else {
		page_ask(e);
	}
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
	go_on(arg);
}

static void close_run(struct job *j)
{
	struct export *e = (struct export *)j;

	e->fd = xlsx_close(e->sheet);
	e->sheet = NULL;
}

static void on_closed(struct job *j)
{
	struct export *e = (struct export *)j;

	if (e->fd < 0) {
		log_error("EXPORT-FILE", "an xlsx file could not be completed: is there room in EXPORT_DIR?");
		refuse(e, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
		return;
	}
	begin(e);
	go_on(e);
}

/* The page's rows are in the workbook. */
static void page_kept(struct export *e, const struct exported *info)
{
	e->rows += info->rows;
	buf_clear(&e->cursor);
	buf_str(&e->cursor, info->next_cursor);
	if (!xlsx_good(e->sheet) && xlsx_too_large(e->sheet))
		refuse(e, &(struct rpc_result){ .status = STATUS_PAYLOAD_TOO_LARGE, .text = STR("It is too large for xlsx; use csv or json, or filters") });
	else if (!xlsx_good(e->sheet))
		refuse(e, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
	else if (info->next_cursor.n == 0)
		jobs_submit(&e->job, &e->r->w->jobs_done, close_run, on_closed);
	else
		go_on(e);
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

	log_context(r->traceparent, r->request_id, r->caller.tenant_id);
	log_error("REPLY-MALFORMED", "a page of %s could not be read", r->route->rpc->name);
	log_context_clear();
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
	/* rows of a workbook cannot be taken back: they are added when every name is known */
	if (e->sheet && !r->refs.settle && !export_rows(&in, e->reply, EXPORT_JSON, e->rows == 0, &r->w->body, NULL, &info)) {
		malformed(e);
		return;
	}
	if (!(e->sheet && r->refs.n_open) && !export_rows(&in, e->reply, e->format, e->rows == 0 && !e->begun, &r->w->body, e->sheet, &info)) {
		malformed(e);
		return;
	}
	if (!r->refs.n_open && e->sheet)
		page_kept(e, &info);
	else if (!r->refs.n_open)
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
	} else if (result->status != STATUS_OK || !is_wanted(e)) {
		if (is_wanted(e))
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
	e->fd = -1;
	buf_fini(payload);
	r->w->exports++;
	if (str_eq(r->x->req.method, STR("HEAD"))) {
		begin(e);
		finish(e, true);
		return STEP_ANSWERED;
	}
	if (e->format == EXPORT_XLSX)
		e->sheet = xlsx_new(r->w->g->settings.export_dir);
	if (e->format == EXPORT_XLSX && !e->sheet) {
		log_error("EXPORT-FILE", "EXPORT_DIR=%s cannot hold files", r->w->g->settings.export_dir);
		refuse(e, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
		return STEP_ANSWERED;
	}
	if (r->route->export_note)
		call(e, r->route->export_note, STR(""), on_note);
	else
		page_ask(e);
	return STEP_WAIT;
}
