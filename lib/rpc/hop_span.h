/* Inside lib/rpc: the caller's span of a call. Its id is what the service gets as parent. Client's thread. */
#ifndef CRM_RPC_HOP_SPAN_H
#define CRM_RPC_HOP_SPAN_H

#include "rpc/client.h"
#include "telemetry/trace.h"

struct rpc_pending;

/* NULL: r is for no recorded trace. Else r->traceparent is replaced by text, which has to outlive its use. */
struct span *hop_span_begin(struct rpc_request *r, char text[TRACEPARENT + 1]);
/* p->span ends with p's answer. */
void hop_span_end(struct rpc_pending *p, const struct rpc_result *r);

#endif
