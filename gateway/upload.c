/*
 * An upload: one part of a multipart body goes to the blob store as it comes. The service says first where (and may refuse), and is told at
 * the end what is there; until then nothing refers to the blob, and it will be deleted if nothing ever does (docs/adr/0017-blobs.md).
 * In memory are two pieces of PIECE bytes, the store's part and the first HEAD_MAX bytes; while the store is slow the client waits.
 * Of a table (Route.import) not the file but its rows go to the store: each piece is parsed, read as the dialect, and what came of it is written.
 */
#include "base/log.h"
#include "base/wire.h"
#include "gateway/import.h"
#include "http/multipart.h"

#define PIECE (256u << 10)
#define HEAD_MAX (128u << 10)   /* for the service to look at: UploadRequest.head */
#define FRAME_MAX (64u << 10)   /* what a body may have beside the file */

/* Numbers in proto/common.proto. */
enum { TICKET_BLOB = 1, TICKET_MAX_BYTES = 2, UPLOAD_BLOB = 2, UPLOAD_FILENAME = 3, UPLOAD_SIZE = 4, UPLOAD_HEAD = 5 };

struct upload {
	struct job job; /* first */
	struct request *r;
	struct str payload, filename; /* in the request's arena */
	char key[BLOB_KEY_MAX];
	uint64_t max, size;
	struct multipart parser;
	bool in_file, seen;  /* inside the part, or it has come */
	bool busy;           /* a job is under way */
	bool ended;          /* no more data will come */
	enum status verdict; /* not OK: nothing is stored any more */
	struct field_violation why_not; /* of a VALIDATION_ERROR */
	const char *text;
	struct buf filling, writing, head;
	struct import *import; /* NULL: the bytes are stored as they are */
	enum { IMPORT_READS, IMPORT_PARSED, IMPORT_WRITTEN } at;
	bool parsed_last;      /* all of the file has been parsed, or is being parsed */
	/* the job's */
	struct blob_store *store;
	struct blob_put *put;
	bool last, good;
	char why[BLOB_WHY];
};

static void go_on(struct upload *u);

/* -- jobs */

static void write_run(struct job *j)
{
	struct upload *u = (struct upload *)j;

	u->good = true;
	if (!u->put)
		u->put = blob_put_begin(u->store, u->key, u->why);
	if (!u->put || !blob_put_write(u->put, buf_view(&u->writing), u->why))
		u->good = false;
	if (u->good && u->last) {
		u->good = blob_put_end(u->put, u->why);
		u->put = NULL;
	}
}

static void parse_run(struct job *j)
{
	struct upload *u = (struct upload *)j;

	import_parse(u->import, buf_view(&u->writing), u->last);
	u->good = true;
}

static void abort_run(struct job *j)
{
	struct upload *u = (struct upload *)j;

	blob_put_abort(u->put);
	u->put = NULL;
	u->good = true;
}

static void on_job(struct job *j)
{
	struct upload *u = (struct upload *)j;

	u->busy = false;
	if (!u->good && u->verdict == STATUS_OK) {
		log_context(u->r->traceparent, u->r->request_id, u->r->caller.tenant_id);
		log_warn("BLOB-PUT", "an upload could not be stored: %s", u->why);
		log_context_clear();
		u->verdict = STATUS_UNAVAILABLE;
	}
	go_on(u);
}

static void refuse_table(struct upload *u)
{
	const struct import_refusal *why = import_refusal(u->import);

	if (u->verdict == STATUS_OK && why->status == STATUS_VALIDATION_ERROR)
		u->why_not = why->violation;
	if (u->verdict == STATUS_OK)
		u->verdict = why->status;
}

static void submit(struct upload *u, void (*run)(struct job *j))
{
	u->busy = true;
	jobs_submit(&u->job, &u->r->w->jobs_done, run, on_job);
}

/* -- what comes */

static void refuse(struct upload *u, enum status s, const char *text)
{
	if (u->verdict != STATUS_OK)
		return;
	u->verdict = s;
	u->text = text;
}

static bool on_part(void *arg, const struct multipart_part *part)
{
	struct upload *u = arg;

	if (!part->is_file || !str_eq(part->name, str_of(u->r->route->upload_part)))
		return true;
	if (u->seen) {
		refuse(u, STATUS_VALIDATION_ERROR, "must be one file");
		return false;
	}
	u->in_file = u->seen = true;
	u->filename = arena_str(&u->r->x->arena, part->filename);
	return true;
}

static bool on_part_data(void *arg, struct str data)
{
	struct upload *u = arg;
	size_t room = HEAD_MAX - u->head.n;

	if (!u->in_file)
		return true;
	if (data.n > u->max - u->size) {
		refuse(u, STATUS_PAYLOAD_TOO_LARGE, NULL);
		return false;
	}
	u->size += data.n;
	if (!u->import)
		buf_put(&u->head, data.p, data.n < room ? data.n : room);
	buf_str(&u->filling, data);
	return true;
}

static bool on_part_end(void *arg)
{
	struct upload *u = arg;

	u->in_file = false;
	return true;
}

static void on_data(void *arg, struct str data)
{
	struct upload *u = arg;
	const char *text = NULL;

	if (u->verdict == STATUS_OK && !multipart_feed(&u->parser, data, &text))
		refuse(u, STATUS_BAD_REQUEST, text); /* unless the sink has said why */
	if (u->busy && u->filling.n >= PIECE)
		http_body_stop(u->r->x);
	else
		go_on(u);
}

static void on_end(void *arg, enum status s, const char *text)
{
	struct upload *u = arg;

	u->ended = true;
	if (s != STATUS_OK)
		refuse(u, s, text);
	else if (!multipart_is_done(&u->parser))
		refuse(u, STATUS_BAD_REQUEST, "The body ends before its last boundary");
	else if (!u->seen || u->size == 0)
		refuse(u, STATUS_VALIDATION_ERROR, u->seen ? "must not be empty" : "is required");
	go_on(u);
}

/* -- what follows from it */

static void upload_fini(struct upload *u)
{
	u->r->w->uploads--;
	buf_fini(&u->filling);
	buf_fini(&u->writing);
	buf_fini(&u->head);
	import_free(u->import);
}

static void answer_refusal(struct upload *u)
{
	struct request *r = u->r;
	struct field_violation v = u->why_not.field.n ? u->why_not : (struct field_violation){ str_of(r->route->upload_part), STR("file"), str_of(u->text ? u->text : ""), STR("") };
	enum status s = u->verdict;
	const char *text = u->text;

	v.text = arena_str(&r->x->arena, v.text); /* the table's sentence goes with it */
	upload_fini(u);
	if (s == STATUS_VALIDATION_ERROR)
		reply_refusal(r, s, (struct str){ 0 }, (struct str){ 0 }, &v, 1);
	else
		reply_error(r, s, text);
}

static void on_set(void *arg, const struct rpc_result *result)
{
	struct upload *u = arg;
	struct request *r = u->r;

	upload_fini(u);
	request_reply(r, result);
}

static void call(struct upload *u, const struct schema_method *rpc, struct str payload, rpc_done done)
{
	struct rpc_request q = request_call(u->r);

	q.service = rpc_client_find(u->r->w->rpc, str_of(rpc->service));
	if (q.service < 0) {
		done(u, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
		return;
	}
	q.lane = (enum rpc_lane)rpc->lane;
	q.rpc = str_of(rpc->name);
	if (u->import && rpc == u->r->route->rpc && u->r->idempotency_key.n) {
		q.idempotency_key = u->r->idempotency_key;
		q.idempotency_hash = (struct str){ (const char *)u->r->idempotency_hash, sizeof(u->r->idempotency_hash) };
	}
	q.payload = payload;
	q.done = done;
	q.arg = u;
	rpc_client_call(u->r->w->rpc, &q);
}

/* The file is in the store: the service makes it part of the entity. */
static void set(struct upload *u)
{
	struct buf b = { 0 };

	buf_str(&b, u->payload);
	wire_put_bytes(&b, UPLOAD_BLOB, str_of(u->key));
	if (u->filename.n)
		wire_put_bytes(&b, UPLOAD_FILENAME, u->filename);
	wire_put_varint(&b, UPLOAD_SIZE, u->size);
	if (!u->import)
		wire_put_bytes(&b, UPLOAD_HEAD, buf_view(&u->head));
	if (u->import && !import_close(u->import, &b)) {
		buf_fini(&b);
		refuse_table(u);
		answer_refusal(u);
		return;
	}
	if (u->import)
		import_hash(u->import, u->r->idempotency_hash);
	call(u, u->r->route->rpc, buf_view(&b), on_set);
	buf_fini(&b);
}

/* What has come is the job's from now on. */
static void take_piece(struct upload *u, void (*run)(struct job *j))
{
	struct buf empty = u->writing;

	buf_clear(&empty);
	u->writing = u->filling;
	u->filling = empty;
	u->last = u->parsed_last = u->ended;
	submit(u, run);
	http_body_go_on(u->r->x);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct upload *u = arg;

	u->busy = false;
	go_on(u);
}

static void on_refs(void *arg)
{
	on_turn(-1, 0, arg);
}

/* The rows of the piece, a few per turn of the loop; then they are written. */
static void table_decode(struct upload *u)
{
	struct timeval soon = { 0, 0 };
	struct request *r = u->r;
	bool good = import_refusal(u->import)->status == STATUS_OK;

	switch (good ? import_decode(u->import, &u->head, on_refs, u) : IMPORT_REFUSED) {
	case IMPORT_WAIT: u->busy = true; return;
	case IMPORT_AGAIN:
		u->busy = true;
		evtimer_assign(&r->timer, r->w->base, on_turn, u);
		r->timer_set = true;
		evtimer_add(&r->timer, &soon);
		return;
	case IMPORT_REFUSED:
		refuse_table(u);
		go_on(u);
		return;
	case IMPORT_DONE: break;
	}
	u->last = u->parsed_last && !import_has_more(u->import);
	u->at = IMPORT_WRITTEN;
	buf_clear(&u->writing);
	buf_str(&u->writing, buf_view(&u->head)); /* head holds the rows: nothing else is kept of a table */
	buf_clear(&u->head);
	submit(u, write_run);
}

static void table_go_on(struct upload *u)
{
	if (u->at == IMPORT_PARSED) {
		table_decode(u);
	} else if (u->at == IMPORT_WRITTEN && u->last) {
		set(u);
	} else if (u->at == IMPORT_WRITTEN && import_has_more(u->import)) {
		buf_clear(&u->writing);
		u->at = IMPORT_PARSED;
		u->last = true;
		submit(u, parse_run);
	} else if (u->ended || u->filling.n >= PIECE) {
		u->at = IMPORT_PARSED;
		take_piece(u, parse_run);
	} else {
		u->at = IMPORT_READS;
	}
}

/* The one place that decides what is next; called after every event. */
static void go_on(struct upload *u)
{
	bool whole;

	if (u->busy)
		return;
	if (u->verdict != STATUS_OK) {
		http_body_stop(u->r->x); /* the rest is given up with the answer */
		if (u->put)
			submit(u, abort_run);
		else
			answer_refusal(u);
		return;
	}
	if (u->import) {
		table_go_on(u);
		return;
	}
	whole = u->ended && u->last;
	if (whole)
		set(u);
	else if (u->ended || u->filling.n >= PIECE)
		take_piece(u, write_run);
}

/* -- the beginning */

bool is_form_with_files(struct str content_type)
{
	return content_type.n >= 19 && strncasecmp(content_type.p, "multipart/form-data", 19) == 0;
}

static bool read_ticket(struct upload *u, struct str payload)
{
	struct wire_reader reader = wire_read(payload);
	struct wire_field w;

	while (wire_next(&reader, &w)) {
		if (w.number == TICKET_BLOB && w.type == WIRE_BYTES && w.bytes.n < sizeof(u->key))
			snprintf(u->key, sizeof(u->key), "%.*s", STR_FMT(w.bytes));
		else if (w.number == TICKET_MAX_BYTES && w.type == WIRE_VARINT)
			u->max = w.value;
	}
	return !reader.bad && *u->key && u->max;
}

static void on_ticket(void *arg, const struct rpc_result *result)
{
	struct upload *u = arg;
	struct request *r = u->r;
	struct http_body_sink sink = { u, on_data, on_end };
	struct str length = request_header(r, "Content-Length");
	uint64_t n;

	if (result->status != STATUS_OK) {
		upload_fini(u);
		request_refuse(r, result);
		return;
	}
	if (!read_ticket(u, result->payload))
		refuse(u, STATUS_INTERNAL, NULL);
	else if (length.n && str_to_u64(length, &n) && n > u->max + FRAME_MAX)
		refuse(u, STATUS_PAYLOAD_TOO_LARGE, NULL);
	else if (!http_body_start(r->x, &sink))
		refuse(u, STATUS_VALIDATION_ERROR, "is required");
	if (u->verdict != STATUS_OK)
		go_on(u);
}

enum step_result upload_start(struct request *r)
{
	static const struct multipart_sink parts = { NULL, on_part, on_part_data, on_part_end };
	struct multipart_sink sink = parts;
	struct buf *payload = &r->w->decoded.payload;
	struct str boundary;
	struct upload *u;
	enum status s = STATUS_OK;

	if (!multipart_boundary(request_header(r, "Content-Type"), &boundary))
		s = STATUS_UNSUPPORTED_MEDIA_TYPE;
	else if (!r->w->g->blobs || r->w->uploads >= UPLOADS_MAX)
		s = STATUS_UNAVAILABLE;
	if (s != STATUS_OK) {
		buf_fini(payload);
		return reply_error(r, s, s == STATUS_UNSUPPORTED_MEDIA_TYPE ? "The body must be multipart/form-data" : NULL);
	}
	r->w->uploads++;
	u = ARENA_NEW(&r->x->arena, struct upload);
	u->r = r;
	u->store = r->w->g->blobs;
	u->payload = arena_str(&r->x->arena, buf_view(payload));
	if (r->route->import)
		u->import = import_new(r, u->payload);
	buf_fini(payload);
	sink.arg = u;
	multipart_init(&u->parser, boundary, &sink);
	call(u, r->route->upload_prepare, u->payload, on_ticket);
	return STEP_WAIT;
}
