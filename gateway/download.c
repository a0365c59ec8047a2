/*
 * A blob as the answer: read range by range, the next one when the client has taken the last. It is shown by a browser only when it is a
 * picture of a kind that holds no script, and even then as a document that may do nothing.
 */
#include "base/log.h"
#include "base/wire.h"
#include "gateway/request.h"

#define RANGE (256u << 10)
#define PENDING_MAX (256u << 10) /* unsent bytes above which the next range waits */
#define LOOK_AGAIN_MS 20

/* Numbers in proto/common.proto. */
enum { BLOB_KEY = 1, BLOB_CONTENT_TYPE = 2, BLOB_SIZE = 3, BLOB_FILENAME = 4 };

struct download {
	struct job job; /* first */
	struct request *r;
	char key[BLOB_KEY_MAX];
	struct str type, filename; /* in the request's arena */
	uint64_t at, size;
	bool begun;
	/* the job's */
	struct blob_store *store;
	struct buf range;
	enum blob_outcome outcome;
	char why[BLOB_WHY];
};

static bool is_picture(struct str type)
{
	static const char *const types[] = { "image/png", "image/jpeg", "image/gif", "image/webp" };

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (str_eq(type, str_of(types[i])))
			return true;
	}
	return false;
}

/* What a header may hold of a name: the rest becomes '_'. */
static struct str safe_name(struct arena *a, struct str name)
{
	char *out = arena_dup(a, name.p, name.n);

	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)out[i];

		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '/' || c == ';' || c == '%')
			out[i] = '_';
	}
	return (struct str){ out, name.n < 100 ? name.n : 100 };
}

static void describe(struct download *d)
{
	struct request *r = d->r;
	struct arena *a = &r->x->arena;
	bool shown = is_picture(d->type);

	if (!shown)
		d->type = STR("application/octet-stream");
	r->cache_control = STR("private, no-cache");
	r->extra = str_of(arena_printf(a,
	    "%.*sContent-Disposition: %s; filename=\"%.*s\"\r\nContent-Security-Policy: default-src 'none'; sandbox\r\nCross-Origin-Resource-Policy: same-site\r\n",
	    STR_FMT(r->extra), shown ? "inline" : "attachment", STR_FMT(safe_name(a, d->filename.n ? d->filename : STR("file")))));
}

static void end(struct download *d, bool whole)
{
	struct request *r = d->r;

	buf_fini(&d->range);
	reply_end(r, 200, whole);
}

static void fail(struct download *d, enum status s)
{
	struct request *r = d->r;

	buf_fini(&d->range);
	r->etag = (struct str){ 0 };
	r->cache_control = (struct str){ 0 };
	r->extra = (struct str){ 0 };
	reply_error(r, s, NULL);
}

static void on_range(struct job *j);

static void range_run(struct job *j)
{
	struct download *d = (struct download *)j;
	uint64_t left = d->size - d->at;

	buf_clear(&d->range);
	d->outcome = blob_get(d->store, d->key, d->at, left < RANGE ? (size_t)left : RANGE, &d->range, d->why);
}

static void range_ask(struct download *d)
{
	jobs_submit(&d->job, &d->r->w->jobs_done, range_run, on_range);
}

static void look_again(evutil_socket_t fd, short what, void *arg);

static void go_on(struct download *d)
{
	struct request *r = d->r;
	struct timeval wait = { 0, LOOK_AGAIN_MS * 1000 };

	if (http_gone(r->x)) {
		end(d, false);
	} else if (d->at == d->size) {
		end(d, true);
	} else if (http_reply_pending(r->x) > PENDING_MAX) {
		evtimer_assign(&r->timer, r->w->base, look_again, d);
		r->timer_set = true;
		evtimer_add(&r->timer, &wait);
	} else {
		range_ask(d);
	}
}

static void look_again(evutil_socket_t fd, short what, void *arg)
{
	go_on(arg);
}

static void on_range(struct job *j)
{
	struct download *d = (struct download *)j;
	struct request *r = d->r;
	bool good = d->outcome == BLOB_OK && d->range.n > 0 && d->range.n <= d->size - d->at;

	if (!good) {
		log_context(r->traceparent, r->request_id, r->caller.tenant_id);
		log_warn("BLOB-GET", "a blob could not be read: %s", d->outcome == BLOB_FAILED ? d->why : "it is not there or shorter than it was");
		log_context_clear();
		if (d->begun)
			end(d, false);
		else
			fail(d, d->outcome == BLOB_FAILED ? STATUS_UNAVAILABLE : STATUS_NOT_FOUND);
		return;
	}
	if (!d->begun)
		reply_begin(r, 200, arena_strdup(&r->x->arena, d->type));
	d->begun = true;
	d->at += d->range.n;
	http_reply_chunk(r->x, buf_view(&d->range));
	go_on(d);
}

static bool read_blob(struct download *d, struct str payload)
{
	struct arena *a = &d->r->x->arena;
	struct wire_reader reader = wire_read(payload);
	struct wire_field w;

	while (wire_next(&reader, &w)) {
		if (w.number == BLOB_KEY && w.type == WIRE_BYTES && w.bytes.n < sizeof(d->key))
			snprintf(d->key, sizeof(d->key), "%.*s", STR_FMT(w.bytes));
		else if (w.number == BLOB_CONTENT_TYPE && w.type == WIRE_BYTES)
			d->type = arena_str(a, w.bytes);
		else if (w.number == BLOB_SIZE && w.type == WIRE_VARINT)
			d->size = w.value;
		else if (w.number == BLOB_FILENAME && w.type == WIRE_BYTES)
			d->filename = arena_str(a, w.bytes);
	}
	return !reader.bad && *d->key && d->size;
}

static bool is_unchanged(struct request *r)
{
	struct str header = request_header(r, "If-None-Match");

	return header.n && conditions_none_match(header, r->etag);
}

/* The reply of the service says which blob. */
void download_start(struct request *r, struct str payload)
{
	struct download *d = ARENA_NEW(&r->x->arena, struct download);

	d->r = r;
	d->store = r->w->g->blobs;
	if (!d->store || !read_blob(d, payload)) {
		reply_error(r, d->store ? STATUS_INTERNAL : STATUS_UNAVAILABLE, NULL);
		return;
	}
	describe(d);
	/* a blob never changes, so its name is its version */
	r->etag = str_of(arena_printf(&r->x->arena, "\"%s\"", strrchr(d->key, '/') ? strrchr(d->key, '/') + 1 : d->key));
	if (is_unchanged(r)) {
		reply_send(r, 304, NULL, (struct str){ 0 });
	} else if (str_eq(r->x->req.method, STR("HEAD"))) {
		reply_begin(r, 200, arena_strdup(&r->x->arena, d->type));
		reply_end(r, 200, true);
	} else {
		range_ask(d);
	}
}
