/* Step: request id, trace context (W3C), the client's address. */
#include "base/clock.h"
#include "gateway/request.h"

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

static bool is_hex(struct str s)
{
	bool any = false;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		any = any || c != '0';
	}
	return any;
}

/* "00-<32 hex>-<16 hex>-<2 hex>"; all zeroes are no id. */
static bool parent_is_clean(struct str t)
{
	if (t.n != 55 || !str_starts(t, STR("00-")) || t.p[35] != '-' || t.p[52] != '-')
		return false;
	return is_hex((struct str){ t.p + 3, 32 }) && is_hex((struct str){ t.p + 36, 16 }) &&
	    (is_hex((struct str){ t.p + 53, 2 }) || (t.p[53] == '0' && t.p[54] == '0'));
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

static struct str traceparent(struct request *r, struct str trace, struct str flags)
{
	char *out = arena_alloc(&r->x->arena, 56), span[17];

	r->w->span = r->w->span * 6364136223846793005u + 1442695040888963407u;
	hex_encode(&r->w->span, 8, span);
	memcpy(out, "00-", 3);
	memcpy(out + 3, trace.p, 32);
	out[35] = '-';
	memcpy(out + 36, span, 16);
	out[52] = '-';
	memcpy(out + 53, flags.p, 2);
	out[55] = 0;
	return (struct str){ out, 55 };
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
	bool has_id = id_is_clean(id), has_parent = parent_is_clean(parent);
	char *uuid = arena_alloc(a, UUID_TEXT + 1);

	if (!has_id || !has_parent)
		uuid7(uuid);
	r->request_id = has_id ? id : (struct str){ uuid, UUID_TEXT };
	r->trace_id = has_parent ? (struct str){ parent.p + 3, 32 } : trace_from_uuid(a, uuid);
	r->traceparent = traceparent(r, r->trace_id, has_parent ? (struct str){ parent.p + 53, 2 } : STR("00"));
	fallback = str_of(r->w->g->listeners[listener >= 0 && (size_t)listener < r->w->g->n_listeners ? listener : 0].address);
	r->origin = proxies_origin(&r->w->g->proxies, &r->x->req, fallback);
	r->user_agent = user_agent(r);
	r->now_us = clock_us();
	return STEP_NEXT;
}
