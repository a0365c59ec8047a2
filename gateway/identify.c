/* Step: request id, trace context (W3C), the client's address. */
#include "base/clock.h"
#include "gateway/request.h"
#include "gateway/trace.h"
#include "telemetry/trace.h"

#define REQUEST_ID_MAX 64
#define USER_AGENT_MAX 256

static bool id_is_clean(struct str s)
{
	if (!s.n || s.n > REQUEST_ID_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

/* A UUID without its dashes is 32 hex digits: one draw of randomness serves both ids. */
static struct str trace_from_uuid(struct arena *a, const char *uuid)
{
	char *out = arena_alloc(a, 33);
	size_t n = 0;

	for (; *uuid && n < 32; uuid++) {
		if (*uuid != '-')
			out[n++] = *uuid;
	}
	out[n] = 0;
	return (struct str){ out, n };
}

/*
 * What this request is to whom it calls. Recorded: its span. Else the flag says so; while nothing is recorded here at all, the client's
 * flag goes on, as somebody behind us may record.
 */
static struct str traceparent(struct request *r, struct trace_context *c, bool has_parent)
{
	char *out = arena_alloc(&r->x->arena, TRACEPARENT + 1);

	if (!has_parent)
		hex_decode(r->trace_id, c->trace, sizeof(c->trace));
	if (trace_on)
		request_span_begin(r, c);
	if (!r->span) {
		r->w->span = r->w->span * 6364136223846793005u + 1442695040888963407u;
		memcpy(c->span, &r->w->span, sizeof(c->span));
	}
	trace_print(c, out);
	return (struct str){ out, TRACEPARENT };
}

static struct str user_agent(const struct request *r)
{
	struct str ua = request_header(r, "User-Agent");

	if (ua.n > USER_AGENT_MAX)
		ua.n = USER_AGENT_MAX;
	return str_is_utf8(ua) ? ua : (struct str){ 0 };
}

enum step_result step_identify(struct request *r)
{
	struct str id = request_header(r, "X-Request-Id"), parent = request_header(r, "traceparent"), fallback;
	struct arena *a = &r->x->arena;
	int listener = r->x->req.listener;
	struct trace_context trace = { 0 };
	bool has_id = id_is_clean(id), has_parent = parent.n && trace_parse(parent, &trace);
	char *uuid = arena_alloc(a, UUID_TEXT + 1);

	if (!has_id || !has_parent)
		uuid7(uuid);
	r->request_id = has_id ? id : (struct str){ uuid, UUID_TEXT };
	r->trace_id = has_parent ? (struct str){ parent.p + 3, 32 } : trace_from_uuid(a, uuid);
	if (!has_parent)
		trace = (struct trace_context){ 0 };
	r->traceparent = traceparent(r, &trace, has_parent);
	fallback = str_of(r->w->g->listeners[listener >= 0 && (size_t)listener < r->w->g->n_listeners ? listener : 0].address);
	r->origin = proxies_origin(&r->w->g->proxies, &r->x->req, fallback);
	r->user_agent = user_agent(r);
	r->now_us = clock_us();
	return STEP_NEXT;
}
