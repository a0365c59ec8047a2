/* A request as a span, and as a line of the access log. */
#include "gateway/trace.h"

#include "base/log.h"
#include "telemetry/trace.h"

void request_span_begin(struct request *r, struct trace_context *c)
{
	struct span *s;
	int64_t before;

	c->sampled = trace_sample(c);
	if (!c->sampled)
		return;
	s = arena_alloc(&r->x->arena, sizeof(*s));
	span_begin(s, c, SPAN_SERVER, (struct str){ 0 });
	before = s->mono_ns - r->x->start_us * 1000; /* since the first byte */
	s->mono_ns -= before;
	s->start_ns -= before;
	r->span = s;
	*c = s->at;
}

static struct str method_of(const struct request *r)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(r->x->req.method, str_of(known[i])))
			return str_of(known[i]);
	return STR("HTTP");
}

static struct str dialect_of(const struct request *r)
{
	return r->sel.face ? str_of(r->sel.face->dialect->name) : (struct str){ 0 };
}

void request_span_end(struct request *r, int http)
{
	struct span *s = r->span;
	struct str method = method_of(r), template = r->route ? str_of(r->route->template) : (struct str){ 0 };

	span_name(s, r->route ? str_of(arena_printf(&r->x->arena, "%.*s %.*s", STR_FMT(method), STR_FMT(template))) : method);
	span_text(s, "http.request.method", method);
	span_text(s, "http.route", template);
	span_int(s, "http.response.status_code", http);
	span_text(s, "crm.dialect", dialect_of(r));
	span_text(s, "crm.tenant.id", r->caller.tenant_id);
	span_text(s, "crm.request.id", r->request_id);
	s->error = http >= 500;
	span_end(s);
}

void request_access_log(struct request *r, int http, int64_t took_us, uint64_t bytes)
{
	const struct log_field fields[] = {
		{ "method", method_of(r), 0 },
		{ "route", r->route ? str_of(r->route->template) : STR("none"), 0 },
		{ .key = "status", .number = http },
		{ .key = "duration_ms", .number = (double)took_us / 1000 },
		{ .key = "bytes", .number = (double)bytes },
		{ "dialect", r->sel.face ? dialect_of(r) : STR("none"), 0 },
	};

	log_context(r->traceparent, r->request_id, r->caller.tenant_id);
	log_fields("HTTP-REQUEST", "answered", fields, sizeof(fields) / sizeof(fields[0]));
	log_context_clear();
}
