/*
 * The hop, service side: an NNG REP socket whose messages carry batches of calls, handed to an event loop.
 *
 * Wire: docs/rpc.md, proto/common.proto (CallBatch, ReplyBatch). A message whose MAC is wrong, that does not parse or that
 * was seen before is answered with an empty authenticated batch and counted (bad_mac); a call past its deadline is answered
 * DEADLINE_EXCEEDED unread.
 *
 * Ownership: a call and its slices (into the received message) and arena live until it is replied to.
 * Threading: dispatch runs on the loop's thread; rpc_reply_* may be called from any thread, exactly once per call.
 */
#ifndef CRM_RPC_RPC_H
#define CRM_RPC_RPC_H

#include <event2/event.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "rpc/keys.h"

struct rpc_server;
struct span;

/* Who acts; slices into the message. */
struct rpc_principal {
	struct str tenant_id, user_id, role, session_id, token_id, api_key_id;
	struct str scope; /* of which rows, for lib/db; empty: all */
	int64_t tenant_seq, user_seq, token_expires_us;
	uint64_t permissions[2];
};

static inline bool rpc_may(const struct rpc_principal *p, unsigned permission)
{
	return permission < 128 && (p->permissions[permission / 64] >> (permission % 64) & 1);
}

struct rpc_violation {
	const char *path, *rule, *message, *param; /* param may be NULL */
};

struct rpc_call {
	struct str rpc, payload;
	struct rpc_principal who;
	struct str request_id, traceparent, dialect, idempotency_key, idempotency_hash, client_ip, user_agent;
	int64_t deadline_us; /* wall clock */
	int64_t started_us;  /* monotonic: when it was handed out; 0 when it was answered unread */
	struct arena arena;
	void *app_data;
	struct span *span;   /* the dispatcher's; NULL: the call is not traced */
	struct rpc_violation violations[16]; /* collected by rpc_violate */
	size_t n_violations;
	const char *status_text;             /* what an error says when rpc_reply_error gets no text; NULL: the status's own */
};

/* Collects a violation for a later VALIDATION_ERROR; strings must live as long as the call. */
void rpc_violate(struct rpc_call *c, const char *path, const char *rule, const char *message, const char *param);

/* The reply's payload is copied. */
void rpc_reply_ok(struct rpc_call *c, struct str payload);
void rpc_reply_replayed(struct rpc_call *c, struct str payload); /* from the idempotency store */
/* text NULL: the call's status_text, else the status's own. Sends the collected violations. */
void rpc_reply_error(struct rpc_call *c, enum status s, const char *text);
void rpc_reply_retry(struct rpc_call *c, enum status s, const char *text, uint32_t retry_after_ms);

typedef void (*rpc_dispatch)(void *arg, struct rpc_call *call);

struct rpc_stats {
	uint64_t messages, calls, bad_mac, expired, in_flight;
};

/*
 * Listens at url ("tcp://127.0.0.1:7101") and calls dispatch on base's thread. keys: borrowed, may change at any time.
 * "Health.Check" is answered here (crm.v1.Health; healthy(arg) false: UNAVAILABLE). Exits the process when it cannot listen.
 */
struct rpc_server *rpc_server_new(struct event_base *base, const char *url, struct rpc_keys *keys, rpc_dispatch dispatch,
    bool (*healthy)(void *arg), void *arg);
struct rpc_stats rpc_server_stats(const struct rpc_server *s);
/* answered is called for each call that is answered, on the thread that answers, before its memory goes. For metrics. */
void rpc_server_observe(struct rpc_server *s, void (*answered)(void *arg, const struct rpc_call *call, enum status status), void *arg);
/*
 * Health.Check says from now on that this service will end, whatever healthy() says: callers turn to another instance where they
 * have one, and whoever comes is served. For the time between the order to end and rpc_server_drain. On the loop's thread.
 */
void rpc_server_leave(struct rpc_server *s);
/*
 * What Health.Contract answers (crm.v1.Contract, copied); Health.Check carries its hash. Before that both say that there is none.
 * On the loop's thread.
 */
void rpc_server_contract(struct rpc_server *s, struct str contract);
/* The hash that Health.Check gives for a contract; never 0. */
uint64_t rpc_contract_hash(struct str contract);
/* Answers new calls UNAVAILABLE from now on; idle(arg) when none is in flight. */
void rpc_server_drain(struct rpc_server *s, void (*idle)(void *arg), void *arg);

#endif
