/* Step: cross-origin requests. Preflights end here, before any credential is asked for. */
#include "gateway/request.h"

#define REQUESTED_MAX 1024

static bool origin_allowed(const struct dialect *d, struct str origin, bool *any)
{
	*any = false;
	for (size_t i = 0; i < d->n_origins; i++) {
		if (strcmp(d->origins[i], "*") == 0)
			*any = true;
		else if (str_eq(str_of(d->origins[i]), origin))
			return true;
	}
	return *any;
}

/* A list of header names and nothing else, so that it can be repeated. */
static bool names_are_clean(struct str s)
{
	if (!s.n || s.n > REQUESTED_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == ',' || c == ' '))
			return false;
	}
	return true;
}

static struct str preflight_headers(struct request *r)
{
	struct str wanted = request_header(r, "Access-Control-Request-Headers");

	if (!names_are_clean(wanted))
		wanted = STR("Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-CRM-Dialect, X-Request-Id, X-Tenant-ID");
	return str_of(arena_printf(&r->x->arena,
	    "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
	    "Access-Control-Allow-Headers: %.*s\r\nAccess-Control-Max-Age: %u\r\n",
	    STR_FMT(wanted), (unsigned)r->sel.face->dialect->cors_max_age_s));
}

void cors_allow(struct request *r)
{
	struct str origin = request_header(r, "Origin");
	bool any;

	if (origin.n && origin_allowed(r->sel.face->dialect, origin, &any))
		r->cors_origin = any ? STR("*") : origin;
}

enum step_result step_cors(struct request *r)
{
	cors_allow(r);
	if (!str_eq(r->x->req.method, STR("OPTIONS")) || !request_header(r, "Access-Control-Request-Method").n || !request_header(r, "Origin").n)
		return STEP_NEXT;
	if (r->cors_origin.n)
		r->extra = preflight_headers(r);
	return reply_send(r, 204, NULL, (struct str){ 0 });
}
