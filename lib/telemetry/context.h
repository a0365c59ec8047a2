/*
 * What a thread works on: the ids that its log lines carry and the trace that its spans belong to. Whoever puts work aside (a
 * submission, a queue of jobs) takes the context along and enters it around the work.
 */
#ifndef CRM_TELEMETRY_CONTEXT_H
#define CRM_TELEMETRY_CONTEXT_H

#include "base/log.h"
#include "telemetry/trace.h"

struct context {
	struct log_ids ids;
	struct trace_context trace;
};

static inline void context_take(struct context *c)
{
	c->ids = log_ids;
	c->trace = trace_here;
}

static inline void context_enter(const struct context *c)
{
	log_ids = c->ids;
	trace_here = c->trace;
}

static inline void context_leave(void)
{
	log_context_clear();
	trace_here.sampled = false;
}

#endif
