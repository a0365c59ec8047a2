/* Spans of calls, the caller's side: which instance, whether again, how it ended. */
#include "rpc/hop_span.h"

#include <stdlib.h>

#include "base/arena.h"
#include "rpc/client_priv.h"

struct span *hop_span_begin(struct rpc_request *r, char text[TRACEPARENT + 1])
{
	struct trace_context parent;
	struct span *s;

	if (!trace_continue(r->traceparent, &parent))
		return NULL;
	s = xmalloc(sizeof(*s));
	span_begin(s, &parent, SPAN_CLIENT, r->rpc);
	span_text(s, "rpc.system", STR("crm"));
	span_text(s, "rpc.method", r->rpc);
	trace_print(&s->at, text);
	r->traceparent = (struct str){ text, TRACEPARENT };
	return s;
}

void hop_span_end(struct rpc_pending *p, const struct rpc_result *r)
{
	struct span *s = p->span;

	p->span = NULL;
	if (p->instance)
		span_text(s, "crm.instance", str_of(p->instance->stats.url));
	if (p->retried)
		span_bool(s, "crm.retried", true);
	if (r->replayed)
		span_bool(s, "crm.replayed", true);
	span_text(s, "crm.status", str_of(status_name(r->status)));
	s->error = r->status == STATUS_INTERNAL || r->status == STATUS_UNAVAILABLE || r->status == STATUS_DEADLINE_EXCEEDED;
	span_end(s);
	free(s);
}
