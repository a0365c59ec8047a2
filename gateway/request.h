/*
 * One request on its way through the steps. It lives in the exchange's arena from worker's handle to reply; what it
 * holds from outside (faces, principal) is given back by the reply.
 */
#ifndef CRM_GATEWAY_REQUEST_H
#define CRM_GATEWAY_REQUEST_H

#include <event2/event_struct.h>

#include "gateway/conditions.h"
#include "gateway/gateway.h"
#include "gateway/select.h"

struct builtin;
struct span;

/* An answer of svc-auth that a step waits for. */
struct resolving {
	bool asked, answered;
	uint8_t key[32];
	uint64_t generation; /* of the revocations when it was asked */
	int64_t asked_us;    /* wall clock */
	enum status status;
	struct principal_entry *entry; /* held */
};

/* What a rate limit waits for. */
struct limiting {
	enum { LIMIT_IDLE, LIMIT_ASKED, LIMIT_ANSWERED } state;
	unsigned done;    /* policies of this step that are through */
	int64_t delay_us;
	struct counter row;
	struct counter_answer answer;
	struct handoff_node node;
};

struct request {
	struct worker *w;
	struct http_exchange *x;
	struct faces *faces; /* held */
	unsigned step;
	struct str request_id, trace_id, traceparent; /* traceparent: of this request, parent of what it causes */
	struct span *span; /* NULL: not traced */
	struct origin origin;
	struct str user_agent;
	int64_t now_us; /* wall clock at arrival */
	struct selection sel;
	const struct route *route; /* NULL: none (yet) */
	const struct builtin *builtin;
	struct str cors_origin; /* Access-Control-Allow-Origin; empty: not allowed or not asked */
	struct rate_verdict rate;
	struct limiting limit;
	struct event timer;     /* rate delay, key wait */
	bool timer_set, key_waited, foreign_tenant;
	struct request *next_waiter;
	struct principal_entry *token, *who; /* held; who: what the call is made as. NULL on public routes */
	struct resolving resolving;
	struct caller caller;
	uint64_t if_match;
	struct str idempotency_key;
	uint8_t idempotency_hash[32];
	char idempotency_scratch[IDEMPOTENCY_KEY_MAX];
	struct refs refs;
	struct page page; /* that the request asked for */
	struct str reply; /* of the service, kept while names are fetched */
	bool replayed;
	/* what the reply says beside its body; empty: nothing */
	struct str allow, location, etag, next, unknown_fields, cache_control;
	struct str extra; /* complete header lines */
	uint32_t retry_after_s;
};

enum step_result { STEP_NEXT, STEP_ANSWERED, STEP_WAIT };

/* steps.c */
struct request *request_new(struct worker *w, struct http_exchange *x);
void request_run(struct request *r);     /* from r->step on, until it is answered or waits */
void request_reject(struct request *r, enum status why, const char *text); /* refused by the HTTP layer */

/* The steps, in the order of steps.c; each in the file named. */
enum step_result step_identify(struct request *r);     /* identify.c */
enum step_result step_select(struct request *r);       /* steps.c */
enum step_result step_cors(struct request *r);         /* cors.c */
enum step_result step_route(struct request *r);        /* steps.c */
enum step_result step_rate_address(struct request *r); /* limit.c */
enum step_result step_token(struct request *r);        /* auth.c */
enum step_result step_tenant(struct request *r);       /* auth.c */
enum step_result step_rate(struct request *r);         /* limit.c */
enum step_result step_permission(struct request *r);   /* steps.c */
enum step_result step_conditions(struct request *r);   /* steps.c */
enum step_result step_decode(struct request *r);       /* call.c */
enum step_result step_call(struct request *r);         /* call.c */

/* cors.c: decides whether the answer may be read by the page that asks. */
void cors_allow(struct request *r);

/* limit.c: on the worker's thread, when shared counters have answered. */
void limit_counted(void *worker);
/* limit.c: one token of the anonymous policy for a credential that is no good. True: refused (and answered). */
bool limit_bad_credential(struct request *r);

/* auth.c: what waits for signing keys goes on. */
void auth_keys_arrived(struct worker *w);

/* auth.c: may the request, which has been waiting, still be answered as whom it was made? Brings r->who up to date. */
bool auth_still_good(struct request *r);

/* call.c: a call with this request's ids and deadline; payload, rpc, lane and done are the caller's to fill. */
struct rpc_request request_call(const struct request *r);
/* call.c: answers with the service's refusal. */
void request_refuse(struct request *r, const struct rpc_result *result);

/* call.c: answers with the service's reply or refusal. */
void request_reply(struct request *r, const struct rpc_result *result);

/* upload.c: a body of this type is streamed, not read (worker.c). */
bool is_form_with_files(struct str content_type);
/* upload.c: streams a part of the body to the blob store; takes the payload from the worker's decoded. */
enum step_result upload_start(struct request *r);
/* download.c: answers with the blob that the service's reply names. */
void download_start(struct request *r, struct str payload);
/* export.c: streams the whole list; takes the payload from the worker's decoded. */
enum step_result export_start(struct request *r);

/* suspect.c: counts a refusal that somebody should know of; token: the claimed one of a forged token. */
void suspect(struct request *r, enum status s);
void suspect_token(struct request *r, const char *why, struct str token);

/* reply.c: each answers the request and ends it. */
enum step_result reply_error(struct request *r, enum status s, const char *text); /* text NULL: the status's own */
enum step_result reply_refusal(struct request *r, enum status s, struct str text, struct str status_bytes, const struct field_violation *v, size_t n);
enum step_result reply_send(struct request *r, int http, const char *content_type, struct str body);
/* A streamed answer: begin, then http_reply_chunk, then end (whole false: the connection is cut, so that nobody takes the part for all). */
void reply_begin(struct request *r, int http, const char *content_type);
void reply_end(struct request *r, int http, bool whole);
struct encode_input reply_encode_input(struct request *r);
struct str request_header(const struct request *r, const char *name);

#endif
