/* A request as a span, and as a line of the access log: by its route's template, its ids and numbers, never by what the client sent. */
#ifndef CRM_GATEWAY_TRACE_H
#define CRM_GATEWAY_TRACE_H

#include "gateway/request.h"

struct trace_context;

/* Opens r->span when the trace is recorded. c: the client's context, or a new trace without a span; it becomes that of the span. */
void request_span_begin(struct request *r, struct trace_context *c);
/* Ends r->span, which is there, with the answer. */
void request_span_end(struct request *r, int http);
/* bytes: of the body. */
void request_access_log(struct request *r, int http, int64_t took_us, uint64_t bytes);

#endif
