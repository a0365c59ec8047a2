/* Inside lib/telemetry: the ring of spans, the sampler's numbers, and the OTLP form. */
#ifndef CRM_TELEMETRY_TRACE_INTERNAL_H
#define CRM_TELEMETRY_TRACE_INTERNAL_H

#include "telemetry/trace.h"

enum sampler { SAMPLER_ALWAYS_ON, SAMPLER_ALWAYS_OFF, SAMPLER_RATIO };

struct trace_sampler {
	bool parent_based; /* where there is a parent, its flag decides */
	enum sampler root;
	double ratio;
};

/* Before other threads begin (or in tests): room for this many spans; wake is called by whoever puts the batch-th one. */
void trace_ring_init(size_t room, size_t batch, void (*wake)(void), struct trace_sampler sampler);
void trace_ring_fini(void);
/* The exporter's thread only. False: there is none. */
bool trace_ring_take(struct span *out);
size_t trace_ring_waiting(void);

struct trace_counts {
	uint64_t queued, overflow;
};
struct trace_counts trace_ring_counts(void);

/* The resource and the start of a request; spans follow, separated by commas; then the end. */
void trace_json_begin(struct buf *b, struct str resource_attributes, struct str scope_version);
void trace_json_span(struct buf *b, const struct span *s);
void trace_json_end(struct buf *b);
/* {"key":"k","value":{"stringValue":"v"}} */
void trace_json_text(struct buf *b, struct str key, struct str value);

#endif
