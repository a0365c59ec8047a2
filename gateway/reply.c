/* Every answer of the gateway: headers, errors in the dialect's shape, and the end of the request. */
#include "base/clock.h"
#include "gateway/request.h"
#include "gateway/telemetry.h"
#include "http/http.h"

#define UNKNOWN_FIELDS_MAX 500
#define EXPOSED \
	"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, ETag, Location, Link, " \
	"X-Request-Id, X-CRM-Dialect, X-Unknown-Fields, Idempotency-Replayed"

struct str request_header(const struct request *r, const char *name)
{
	return http_header_get(&r->x->req, name);
}

/* "http://host:5000" */
static struct str base_url(struct request *r)
{
	struct str scheme = r->origin.scheme, authority = r->origin.authority;
	size_t n = scheme.n + 3 + authority.n;
	char *out = arena_alloc(&r->x->arena, n);

	memcpy(out, scheme.p, scheme.n);
	memcpy(out + scheme.n, "://", 3);
	memcpy(out + scheme.n + 3, authority.p, authority.n);
	return (struct str){ out, n };
}

struct encode_input reply_encode_input(struct request *r)
{
	return (struct encode_input){
		.match = &r->sel.match,
		.who = r->caller,
		.page = r->page,
		.base_url = base_url(r),
		.path = r->x->req.path,
		.query = r->x->req.query,
		.trace = r->trace_id,
		.request = r->request_id,
		.now_us = r->now_us,
		.arena = &r->x->arena,
	};
}

/* A value that may hold what a client sent: nothing of it can end the line. */
static void put(struct buf *b, const char *name, struct str value, size_t max)
{
	if (!value.n)
		return;
	buf_z(b, name);
	buf_z(b, ": ");
	for (size_t i = 0; i < value.n && i < max; i++)
		buf_c(b, value.p[i] >= 0x20 && value.p[i] < 0x7f ? value.p[i] : '?');
	buf_z(b, "\r\n");
}

static void put_number(struct buf *b, const char *name, uint64_t value)
{
	buf_z(b, name);
	buf_z(b, ": ");
	buf_u64(b, value);
	buf_z(b, "\r\n");
}

static void put_policy(struct buf *b, const char *start, const char *policy, const char *first, uint64_t x, uint64_t y, const char *second)
{
	buf_z(b, start);
	buf_z(b, policy);
	buf_z(b, first);
	buf_u64(b, x);
	buf_z(b, second);
	buf_u64(b, y);
	buf_z(b, "\r\n");
}

static void put_rate(struct buf *b, const struct rate_verdict *v, int64_t now_us)
{
	int64_t left_s = (v->reset_us - now_us + 999999) / 1000000;

	if (!v->limited)
		return;
	put_number(b, "X-RateLimit-Limit", v->limit);
	put_number(b, "X-RateLimit-Remaining", v->remaining);
	put_number(b, "X-RateLimit-Reset", (uint64_t)((v->reset_us + 999999) / 1000000));
	put_policy(b, "RateLimit-Policy: \"", v->policy, "\";q=", v->limit, v->window_s, ";w=");
	put_policy(b, "RateLimit: \"", v->policy, "\";r=", v->remaining, (uint64_t)(left_s > 0 ? left_s : 0), ";t=");
}

static void put_cors(struct buf *b, const struct request *r)
{
	const struct dialect *d = r->sel.face ? r->sel.face->dialect : NULL;

	if (d && d->n_origins && !str_eq(r->cors_origin, STR("*")))
		buf_z(b, "Vary: Origin\r\n");
	if (!r->cors_origin.n)
		return;
	put(b, "Access-Control-Allow-Origin", r->cors_origin, 300);
	buf_z(b, "Access-Control-Expose-Headers: " EXPOSED "\r\n");
}

static void put_headers(struct request *r, int http, const char *content_type)
{
	struct buf *b = &r->w->head;

	buf_clear(b);
	if (content_type)
		buf_z(b, "Content-Type: "), buf_z(b, content_type), buf_z(b, "\r\n");
	put(b, "X-Request-Id", r->request_id, 64);
	if (r->sel.face)
		put(b, "X-CRM-Dialect", str_of(r->sel.face->dialect->name), 64);
	put(b, "Cache-Control", r->cache_control.n ? r->cache_control : STR("no-store"), 100);
	buf_z(b, "X-Content-Type-Options: nosniff\r\n");
	put_cors(b, r);
	put_rate(b, &r->rate, r->now_us);
	put(b, "ETag", r->etag, 200);
	put(b, "Location", r->location, 2000);
	if (r->next.n)
		put(b, "Link", str_of(arena_printf(&r->x->arena, "<%.*s>; rel=\"next\"", STR_FMT(r->next))), 4000);
	put(b, "Allow", r->allow, 200);
	put(b, "X-Unknown-Fields", r->unknown_fields, UNKNOWN_FIELDS_MAX);
	if (r->replayed)
		buf_z(b, "Idempotency-Replayed: true\r\n");
	if (r->retry_after_s)
		put_number(b, "Retry-After", r->retry_after_s);
	if (http == 401)
		buf_z(b, "WWW-Authenticate: Bearer realm=\"crm\"\r\n");
	buf_str(b, r->extra);
}

/* Gives back what the request holds from outside its arena. */
static void request_end(struct request *r)
{
	if (r->timer_set)
		evtimer_del(&r->timer);
	principals_rele(r->resolving.entry);
	principals_rele(r->token);
	principals_rele(r->who);
	faces_rele(r->faces);
	atomic_fetch_sub_explicit(&r->w->g->in_flight, 1, memory_order_relaxed);
}

enum step_result reply_send(struct request *r, int http, const char *content_type, struct str body)
{
	struct http_exchange *x = r->x;
	struct worker *w = r->w;

	if ((http == 429 || http == 503 || http == 504) && !r->retry_after_s)
		r->retry_after_s = 1;
	put_headers(r, http, content_type);
	telemetry_answered(r, http, body.n);
	request_end(r);
	http_reply(x, http, buf_view(&w->head), body); /* the request is gone with its arena */
	return STEP_ANSWERED;
}

void reply_begin(struct request *r, int http, const char *content_type)
{
	put_headers(r, http, content_type);
	http_reply_begin(r->x, http, buf_view(&r->w->head));
}

void reply_end(struct request *r, int http, bool whole)
{
	struct http_exchange *x = r->x;

	telemetry_answered(r, http, x->sent);
	request_end(r);
	if (whole)
		http_reply_end(x);
	else
		http_reply_abort(x);
}

enum step_result reply_error(struct request *r, enum status s, const char *text)
{
	return reply_refusal(r, s, str_of(text), (struct str){ 0 }, NULL, 0);
}

static bool wants_problem(const struct request *r)
{
	struct str accept = request_header(r, "Accept");

	return accept.n && memmem(accept.p, accept.n, "application/problem+json", 24) != NULL;
}

enum step_result reply_refusal(struct request *r, enum status s, struct str text, struct str status_bytes, const struct field_violation *v, size_t n)
{
	const struct face *face = r->sel.face;
	struct encode_input in = reply_encode_input(r);
	bool problem;
	int http;

	suspect(r, s);
	if (r->faces->native && face != r->faces->native && wants_problem(r))
		face = r->faces->native;
	problem = face == r->faces->native;
	buf_clear(&r->w->body);
	http = dialect_error(face->dialect, r->route, &in, s, text, status_bytes, v, n, &r->w->body);
	r->etag = r->location = r->next = (struct str){ 0 };
	return reply_send(r, http, problem ? "application/problem+json" : "application/json; charset=utf-8", buf_view(&r->w->body));
}
