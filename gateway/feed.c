/* Clients of the feed: how they come in, wait, ask together, and go. */
#include "gateway/feed_client.h"

#include <utlist.h>

#include "base/log.h"
#include "base/wire.h"

#define EVERY_MS 100           /* how often svc-audit is asked what moved, while somebody waits */
#define MOVED_TIMEOUT_MS 1000
#define WAIT_MAX_S 30
#define BEAT_US 15000000
#define STREAM_US 3600000000LL /* then the client connects again */
#define RETRY_US 1000000       /* after a read that failed */
#define PENDING_MAX (256u << 10) /* unsent bytes above which a stream is not read for */

/* Numbers of crm.v1.FeedRequest. */
enum { WANT_AFTER = 1, WANT_TYPE = 2, WANT_LIMIT = 3, WANT_WAIT = 4, WANT_DIALECT = 5 };

struct feed {
	struct worker *w;
	struct feed_tenant *tenants;
	struct feed_client *asking; /* read for at the end of this turn */
	struct event *turn, *tick;
	size_t n;
	int64_t cursor; /* of Feed.Moved; 0: none yet */
	bool polling, draining;
};

struct reading {
	struct feed *f;
	struct feed_client *clients;
	struct arena arena;
	struct refs refs;
	struct feed_page page;
};

/* -- how many may wait, all threads together */

struct slots {
	char tenant[UUID_TEXT + 1];
	long n;
	UT_hash_handle hh;
};
static struct slots *slots;
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

static bool slot_take(const char *tenant, long most)
{
	struct slots *s;
	bool taken;

	pthread_mutex_lock(&slots_lock);
	HASH_FIND_STR(slots, tenant, s);
	if (!s) {
		s = xcalloc(1, sizeof(*s));
		memcpy(s->tenant, tenant, UUID_TEXT);
		HASH_ADD_STR(slots, tenant, s);
	}
	taken = s->n < most;
	s->n += taken;
	pthread_mutex_unlock(&slots_lock);
	return taken;
}

static void slot_give(const char *tenant)
{
	struct slots *s;

	pthread_mutex_lock(&slots_lock);
	HASH_FIND_STR(slots, tenant, s);
	if (s && --s->n <= 0) {
		HASH_DEL(slots, s);
		free(s);
	}
	pthread_mutex_unlock(&slots_lock);
}

/* -- clients */

static struct feed_tenant *tenant_hold(struct feed *f, struct str id)
{
	struct feed_tenant *t;

	HASH_FIND(hh, f->tenants, id.p, id.n, t);
	if (!t) {
		t = xcalloc(1, sizeof(*t));
		memcpy(t->id, id.p, id.n < UUID_TEXT ? id.n : UUID_TEXT);
		HASH_ADD_STR(f->tenants, id, t);
	}
	t->clients++;
	return t;
}

/* The client leaves; its request is still to be ended. */
static void leave(struct feed_client *c)
{
	struct feed *f = c->feed;
	struct feed_tenant *t = c->tenant;

	if (c->waits)
		DL_DELETE(t->waiting, c);
	c->waits = false;
	if (c->counted)
		slot_give(t->id);
	f->n--;
	if (--t->clients == 0) {
		HASH_DEL(f->tenants, t);
		free(t);
	}
	if (!f->n)
		f->cursor = 0; /* nobody listens any more: where the next one begins is asked anew */
}

static void stream_end(struct feed_client *c, bool whole)
{
	leave(c);
	reply_end(c->r, 200, whole);
}

/* Before the first byte a refusal is an answer like any other; a stream ends, and its client hears it when it comes again. */
static void refuse(struct feed_client *c, const struct rpc_result *why)
{
	if (c->begun) {
		stream_end(c, true);
		return;
	}
	leave(c);
	request_refuse(c->r, why);
}

static void ask(struct feed_client *c)
{
	struct feed *f = c->feed;

	if (c->waits)
		DL_DELETE(c->tenant->waiting, c);
	c->waits = false;
	DL_APPEND(f->asking, c);
	event_active(f->turn, EV_TIMEOUT, 0);
}

static void wait_on(struct feed_client *c)
{
	if (c->tenant->head > c->position && c->tenant->head != c->asked_head) {
		ask(c); /* it moved while the read was under way */
		return;
	}
	c->waits = true;
	DL_APPEND(c->tenant->waiting, c);
}

/* -- what a read brought */

static void answer_page(struct feed_client *c, struct str body)
{
	leave(c);
	reply_send(c->r, 200, "application/json; charset=utf-8", body);
}

static bool is_gone(const struct feed_client *c)
{
	return http_gone(c->r->x) || (c->begun && http_half_closed(c->r->x));
}

static bool may_wait(const struct feed_client *c)
{
	return !c->feed->draining && clock_mono_us() < c->until_us;
}

static void deliver_page(struct feed_client *c, const struct feed_page *page, struct str body)
{
	if (page->n || !may_wait(c))
		answer_page(c, body);
	else if (page->behind)
		ask(c);
	else
		wait_on(c);
}

static void deliver_stream(struct feed_client *c, const struct feed_page *page, struct str events)
{
	if ((!c->begun && !feed_stream_begin(c)) || (events.n && !feed_stream_put(c, events))) {
		stream_end(c, false);
		return;
	}
	if (page->n)
		c->beat_us = clock_mono_us() + BEAT_US;
	c->again_us = http_reply_pending(c->r->x) > PENDING_MAX ? clock_mono_us() : 0;
	if (!may_wait(c))
		stream_end(c, true);
	else if (page->behind && !c->again_us)
		ask(c);
	else
		wait_on(c);
}

static void deliver(struct feed_client *c, const struct feed_page *page, struct str text)
{
	memcpy(c->cursor, page->cursor.p, page->cursor.n);
	c->cursor[page->cursor.n] = 0;
	c->position = page->position;
	if (is_gone(c)) {
		leave(c);
		reply_end(c->r, 499, false);
	} else if (!auth_still_good(c->r)) {
		refuse(c, &(struct rpc_result){ .status = STATUS_INVALID_TOKEN });
	} else if (c->sse) {
		deliver_stream(c, page, text);
	} else {
		deliver_page(c, page, text);
	}
}

static void reading_free(struct reading *g)
{
	arena_fini(&g->arena);
	free(g);
}

static void refuse_all(struct reading *g, const struct rpc_result *why)
{
	struct feed_client *c, *next;

	DL_FOREACH_SAFE(g->clients, c, next) {
		DL_DELETE(g->clients, c);
		refuse(c, why);
	}
	reading_free(g);
}

static void malformed(struct reading *g)
{
	log_error("REPLY-MALFORMED", "a page of the feed could not be read");
	refuse_all(g, &(struct rpc_result){ .status = STATUS_INTERNAL });
}

/* Those that print alike stand behind each other often enough: the text of the last one is used again. */
static void deliver_all(struct reading *g)
{
	struct buf text = { 0 };
	struct feed_client *c, *next;
	const struct feed_client *last = NULL;
	struct feed_client like;

	DL_FOREACH_SAFE(g->clients, c, next) {
		if (!last || !feed_alike(last, c)) {
			buf_clear(&text);
			if (!feed_page_print(c, &g->page, &text)) {
				buf_fini(&text);
				malformed(g);
				return;
			}
		}
		like = *c;
		last = &like;
		DL_DELETE(g->clients, c);
		deliver(c, &g->page, buf_view(&text));
	}
	buf_fini(&text);
	reading_free(g);
}

static void on_refs(void *arg)
{
	struct reading *g = arg;

	g->refs.settle = true; /* a name that nobody could tell is left out */
	deliver_all(g);
}

/* Names of what other services own are asked for before anything is said; a contract shows ids only. */
static bool refs_wanted(struct reading *g)
{
	struct buf text = { 0 };
	const struct feed_client *last = NULL;
	struct feed_client *c;

	DL_FOREACH(g->clients, c) {
		if (c->shown && (!last || !feed_alike(last, c)))
			(void)feed_page_print(c, &g->page, &text);
		last = c;
		buf_clear(&text);
	}
	buf_fini(&text);
	return g->refs.n_open > 0;
}

/* svc-audit is away: a stream waits for it, a poll is told. */
static void on_failure(struct reading *g, const struct rpc_result *result)
{
	bool passes = result->status == STATUS_UNAVAILABLE || result->status == STATUS_DEADLINE_EXCEEDED || result->status == STATUS_INTERNAL;
	struct feed_client *c, *next;

	DL_FOREACH_SAFE(g->clients, c, next) {
		if (!c->begun || !passes || g->f->draining || http_gone(c->r->x))
			continue;
		DL_DELETE(g->clients, c);
		c->again_us = clock_mono_us() + RETRY_US;
		c->waits = true;
		DL_APPEND(c->tenant->waiting, c);
	}
	refuse_all(g, result);
}

static void on_read(void *arg, const struct rpc_result *result)
{
	struct reading *g = arg;
	struct feed_client *first = g->clients;
	struct ref_call call = { first->r->w->rpc, request_call(first->r) };

	if (result->status != STATUS_OK) {
		on_failure(g, result);
		return;
	}
	g->refs = (struct refs){ .cache = g->f->w->refs, .faces = first->r->faces, .arena = &g->arena, .tenant_id = str_of(first->tenant->id),
		.now_us = clock_mono_us() };
	g->page = (struct feed_page){ .arena = &g->arena, .refs = &g->refs };
	if (!feed_page_read(arena_str(&g->arena, result->payload), &g->page)) {
		malformed(g);
		return;
	}
	if (!g->page.n || !refs_wanted(g) || !refs_ask(&g->refs, &call, on_refs, g))
		on_refs(g);
}

/* -- asking together */

static bool same_question(const struct feed_client *a, const struct feed_client *b)
{
	return a->tenant == b->tenant && a->position == b->position && strcmp(a->cursor, b->cursor) == 0 && str_eq(a->want, b->want) &&
	    memcmp(a->r->who->who.permissions, b->r->who->who.permissions, sizeof(a->r->who->who.permissions)) == 0;
}

static void read_for(struct reading *g)
{
	struct feed_client *first = g->clients;
	struct worker *w = g->f->w;
	struct rpc_request q = request_call(first->r);
	struct buf payload = { 0 };

	buf_str(&payload, first->want);
	if (*first->cursor)
		wire_put_bytes(&payload, WANT_AFTER, str_of(first->cursor));
	q.service = rpc_client_find(w->rpc, STR("audit"));
	q.lane = RPC_READ;
	q.rpc = STR("Feed.Read");
	q.may_retry = true;
	q.payload = buf_view(&payload);
	q.done = on_read;
	q.arg = g;
	if (q.service >= 0)
		rpc_client_call(w->rpc, &q);
	else
		on_failure(g, &(struct rpc_result){ .status = STATUS_UNAVAILABLE });
	buf_fini(&payload);
}

/* One read for all that ask the same. */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct feed *f = arg;

	while (f->asking) {
		struct reading *g = xcalloc(1, sizeof(*g));
		struct feed_client *first = f->asking, *c, *next;

		g->f = f;
		DL_FOREACH_SAFE(f->asking, c, next) {
			if (c != first && !same_question(first, c))
				continue;
			c->asked_head = c->tenant->head;
			c->again_us = 0;
			DL_DELETE(f->asking, c);
			DL_APPEND(g->clients, c);
		}
		read_for(g);
	}
}

/* -- what moved */

static void wake(struct feed_tenant *t)
{
	struct feed_client *c, *next;

	DL_FOREACH_SAFE(t->waiting, c, next) {
		if (c->position < t->head && !c->again_us)
			ask(c);
	}
}

/* What moved between a client's read and the first cursor was told to nobody. */
static void wake_all(struct feed *f)
{
	struct feed_tenant *t, *next_tenant;
	struct feed_client *c, *next;

	HASH_ITER(hh, f->tenants, t, next_tenant) {
		DL_FOREACH_SAFE(t->waiting, c, next)
			ask(c);
	}
}

static void take_moved(struct feed *f, struct str wire)
{
	struct wire_reader r = wire_read(wire);
	struct str tenant = { 0 };
	int64_t position = 0;
	struct feed_tenant *t;
	struct wire_field w;

	while (wire_next(&r, &w)) {
		if (w.number == 1 && w.type == WIRE_BYTES)
			tenant = w.bytes;
		if (w.number == 2 && w.type == WIRE_VARINT)
			position = (int64_t)w.value;
	}
	HASH_FIND(hh, f->tenants, tenant.p, tenant.n, t);
	if (!t || r.bad)
		return;
	t->head = position;
	wake(t);
}

static void poll_moved(struct feed *f);

static void on_moved(void *arg, const struct rpc_result *result)
{
	struct feed *f = arg;
	struct wire_reader r = wire_read(result->payload);
	struct wire_field w;
	bool first = f->cursor == 0, more = false;

	f->polling = false;
	if (result->status != STATUS_OK || !f->n)
		return;
	while (wire_next(&r, &w)) {
		if (w.number == 1 && w.type == WIRE_VARINT)
			f->cursor = (int64_t)w.value;
		if (w.number == 2 && w.type == WIRE_BYTES)
			take_moved(f, w.bytes);
		if (w.number == 3 && w.type == WIRE_VARINT)
			more = w.value != 0;
	}
	if (first)
		wake_all(f);
	if (more)
		poll_moved(f);
}

static void poll_moved(struct feed *f)
{
	struct rpc_request q = { .service = rpc_client_find(f->w->rpc, STR("audit")), .lane = RPC_READ, .rpc = STR("Feed.Moved"), .timeout_ms = MOVED_TIMEOUT_MS,
		.may_retry = true, .done = on_moved, .arg = f };
	struct buf payload = { 0 };

	if (f->polling || q.service < 0)
		return;
	wire_put_varint(&payload, 1, (uint64_t)f->cursor);
	q.payload = buf_view(&payload);
	f->polling = true;
	rpc_client_call(f->w->rpc, &q);
	buf_fini(&payload);
}

/* -- the clock */

static void end_wait(struct feed_client *c)
{
	if (c->begun)
		stream_end(c, true);
	else
		ask(c); /* nothing came: the page is empty, and printed like any other */
}

static void look_at(struct feed_client *c, int64_t now)
{
	if (is_gone(c)) {
		leave(c);
		reply_end(c->r, 499, false);
	} else if (!auth_still_good(c->r)) {
		refuse(c, &(struct rpc_result){ .status = STATUS_INVALID_TOKEN });
	} else if (now >= c->until_us) {
		end_wait(c);
	} else if (c->sse && now >= c->beat_us) {
		c->beat_us = now + BEAT_US;
		if (http_reply_pending(c->r->x) < PENDING_MAX && !feed_stream_beat(c))
			stream_end(c, false);
	} else if (c->again_us && now >= c->again_us && http_reply_pending(c->r->x) <= PENDING_MAX / 2) {
		ask(c);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct feed *f = arg;
	struct feed_tenant *t, *next_tenant;
	struct feed_client *c, *next;
	struct timeval tv = { 0, EVERY_MS * 1000 };
	int64_t now = clock_mono_us();

	HASH_ITER(hh, f->tenants, t, next_tenant) {
		t->clients++; /* it stays while its clients are looked at */
		DL_FOREACH_SAFE(t->waiting, c, next)
			look_at(c, now);
		if (--t->clients == 0) {
			HASH_DEL(f->tenants, t);
			free(t);
		}
	}
	if (!f->n)
		return;
	poll_moved(f);
	event_add(f->tick, &tv);
}

/* -- coming in */

/* "30s" or "30" */
static bool wait_read(struct str s, int64_t *seconds)
{
	if (s.n && s.p[s.n - 1] == 's')
		s.n--;
	return str_to_i64(s, seconds) && *seconds >= 0 && *seconds <= WAIT_MAX_S;
}

static enum step_result refuse_param(struct request *r, const char *name, const char *rule, const char *text)
{
	struct field_violation v = { str_of(name), str_of(rule), str_of(text), STR("") };

	return reply_refusal(r, STATUS_VALIDATION_ERROR, (struct str){ 0 }, (struct str){ 0 }, &v, 1);
}

struct wish {
	struct str after, wait, dialect;
	struct buf want;
};

static void wish_read(struct wish *wish, struct str payload)
{
	struct wire_reader r = wire_read(payload);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		switch (w.number) {
		case WANT_AFTER: wish->after = w.bytes; break;
		case WANT_TYPE: wire_put_bytes(&wish->want, WANT_TYPE, w.bytes); break;
		case WANT_LIMIT: wire_put_varint(&wish->want, WANT_LIMIT, w.value); break;
		case WANT_WAIT: wish->wait = w.bytes; break;
		case WANT_DIALECT: wish->dialect = w.bytes; break;
		default: break;
		}
	}
}

static void client_add(struct feed_client *c)
{
	struct feed *f = c->feed;
	struct timeval tv = { 0, EVERY_MS * 1000 };

	c->tenant = tenant_hold(f, c->r->caller.tenant_id);
	if (!f->n++)
		event_add(f->tick, &tv);
	ask(c);
}

static int64_t end_of(const struct feed_client *c, int64_t wait_s)
{
	int64_t now = clock_mono_us(), token = c->r->who->who.expires_us, end = now + (c->sse ? STREAM_US : wait_s * 1000000);

	if (token && now + token - c->r->now_us < end)
		end = now + token - c->r->now_us;
	return end;
}

static enum step_result client_new(struct request *r, struct wish *wish)
{
	struct feed_client *c = ARENA_NEW(&r->x->arena, struct feed_client);
	struct str accept = request_header(r, "Accept"), last = request_header(r, "Last-Event-ID");
	bool head = str_eq(r->x->req.method, STR("HEAD"));
	int64_t wait_s = 0;

	if (wish->wait.n && !wait_read(wish->wait, &wait_s))
		return refuse_param(r, "wait", "lte", "must be a number of seconds up to 30s");
	if (last.n)
		wish->after = last;
	if (wish->after.n > FEED_CURSOR_MAX)
		return refuse_param(r, "after", "cursor", "must be a cursor that the feed gave, or now");
	if (wish->dialect.n && !str_eq(wish->dialect, STR("native"))) {
		const struct face *face = faces_find(r->faces, wish->dialect);

		if (!face)
			return refuse_param(r, "dialect", "in", "must be the name of a dialect");
		c->shown = face->dialect;
	}
	c->feed = r->w->feed;
	c->r = r;
	c->sse = !head && accept.n && memmem(accept.p, accept.n, "text/event-stream", 17) != NULL;
	if ((c->sse || wait_s) && !head) {
		if (!slot_take(arena_strdup(&r->x->arena, r->caller.tenant_id), r->w->g->settings.feed_clients)) {
			r->retry_after_s = WAIT_MAX_S;
			return reply_error(r, STATUS_RATE_LIMIT_EXCEEDED, "Too many clients of this tenant are waiting for events");
		}
		c->counted = true;
	}
	memcpy(c->cursor, wish->after.p ? wish->after.p : "", wish->after.n);
	c->want = arena_str(&r->x->arena, buf_view(&wish->want));
	c->until_us = end_of(c, head ? 0 : wait_s);
	c->beat_us = clock_mono_us() + BEAT_US;
	client_add(c);
	return STEP_WAIT;
}

enum step_result feed_start(struct request *r)
{
	struct buf *payload = &r->w->decoded.payload;
	struct wish wish = { 0 };
	enum step_result result;

	wish_read(&wish, buf_view(payload));
	result = client_new(r, &wish);
	buf_fini(&wish.want);
	buf_fini(payload);
	return result;
}

struct feed *feed_new(struct worker *w)
{
	struct feed *f = xcalloc(1, sizeof(*f));

	f->w = w;
	f->turn = event_new(w->base, -1, 0, on_turn, f);
	f->tick = event_new(w->base, -1, 0, on_tick, f);
	if (!f->turn || !f->tick)
		log_die("WORKER-START", "no memory for an event");
	return f;
}

size_t feed_clients(const struct feed *f)
{
	return f->n;
}

void feed_drain(struct feed *f)
{
	struct feed_tenant *t, *next_tenant;
	struct feed_client *c, *next;

	f->draining = true;
	HASH_ITER(hh, f->tenants, t, next_tenant) {
		t->clients++;
		DL_FOREACH_SAFE(t->waiting, c, next)
			end_wait(c);
		if (--t->clients == 0) {
			HASH_DEL(f->tenants, t);
			free(t);
		}
	}
}
