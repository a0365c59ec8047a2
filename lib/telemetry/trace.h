/*
 * Traces: which trace this thread works for, and spans that tell what took how long. Sent as OTLP/HTTP JSON by a thread of its own
 * (trace_export.c) when an endpoint is set (trace_settings); otherwise nothing is recorded and a hot path pays one branch.
 *
 * A span is a struct of its owner's (stack, arena, heap): span_begin, attributes, span_end, which copies it into a bounded ring without
 * waiting; a full ring drops it and counts it. Names, keys and values are ids, templates and numbers: never what a client sent
 * as data, never a person's.
 *
 * Threading: contexts are per thread; a span belongs to one thread at a time, which may change; span_end from any thread.
 */
#ifndef CRM_TELEMETRY_TRACE_H
#define CRM_TELEMETRY_TRACE_H

#include "base/buf.h"
#include "base/str.h"

#define TRACEPARENT 55  /* characters of a traceparent */
#define SPAN_ATTRS 12   /* of one span; more are left out */
#define SPAN_TEXT 400   /* bytes of its name and of its values; what does not fit is cut */

/* W3C trace context. All zeroes: none. */
struct trace_context {
	uint8_t trace[16], span[8]; /* span all zeroes: a trace that has no span yet */
	bool sampled;               /* recorded; only ever true while trace_on */
};

/* Set by trace_start, before other threads begin. */
extern bool trace_on;
/* What this thread works for; who hands work to another thread or callback takes it along (context.h). */
extern __thread struct trace_context trace_here;

/* "00-<32 hex>-<16 hex>-<2 hex>", strictly; c->sampled is the sender's flag. */
bool trace_parse(struct str traceparent, struct trace_context *c);
/* out gets TRACEPARENT characters and a NUL. */
void trace_print(const struct trace_context *c, char out[TRACEPARENT + 1]);
/* The sampler's word: is this trace recorded here? c->span tells whether there is a parent, c->sampled its flag. False while off. */
bool trace_sample(const struct trace_context *c);
/* Both: what a received traceparent means here. False: malformed, or not recorded. */
bool trace_continue(struct str traceparent, struct trace_context *c);

enum span_kind { SPAN_INTERNAL = 1, SPAN_SERVER, SPAN_CLIENT, SPAN_PRODUCER, SPAN_CONSUMER }; /* OTLP's numbers */

struct span_attr {
	const char *key; /* a literal */
	enum { SPAN_ATTR_TEXT, SPAN_ATTR_INT, SPAN_ATTR_BOOL } type;
	uint16_t at, n;  /* of a text: in span.text */
	int64_t number;
};

struct span {
	struct trace_context at; /* its own ids: what children get as parent */
	uint8_t parent[8];       /* all zeroes: a root */
	struct trace_context link; /* all zeroes: none */
	enum span_kind kind;
	bool error;
	int64_t start_ns, mono_ns, end_ns; /* since 1970; monotonic at the start */
	uint16_t name_at, name_n, n_text, n_attrs;
	struct span_attr attrs[SPAN_ATTRS];
	char text[SPAN_TEXT];
};

/* A child of parent (or the root of its trace), from now on. name may be empty until span_name. */
void span_begin(struct span *s, const struct trace_context *parent, enum span_kind kind, struct str name);
void span_name(struct span *s, struct str name);
void span_text(struct span *s, const char *key, struct str value); /* empty: left out */
void span_int(struct span *s, const char *key, int64_t value);
void span_bool(struct span *s, const char *key, bool value);
/* Caused by that span, too. One; later ones replace it. */
void span_link(struct span *s, const struct trace_context *to);
/* Ends now, or at end_ns of span_close, and is handed on. */
void span_end(struct span *s);
void span_close(struct span *s); /* it ends now, span_end comes later */

/*
 * One piece of work for several traces at once (a batch of events): span_end_shared ends a child of trace_here and makes a copy of it for
 * each of these, with ids of its own. Borrowed until trace_share(NULL, 0).
 */
#define TRACE_SHARED_MOST 16
void trace_share(const struct trace_context *others, size_t n);
void span_end_shared(struct span *s);

#endif
