/*
 * The hop, caller's side: calls of one loop turn travel to one service instance in one NNG message.
 *
 * One rpc_client per thread. A service has instances (one connection each), as many as there are addresses behind its URLs at the time; a
 * call goes to the healthy instance with the fewest calls in flight. Lanes (read, write, slow) are kept apart because a batch answers when its
 * slowest call is done; at most 4 messages are in flight per lane and instance. No resend. An instance is ejected
 * after 3 timeouts in a row or 1 s without progress while calls wait, and probed (Health.Check) every
 * 100 ms until it answers; a healthy one every 500 ms.
 *
 * Ownership: payload is copied at rpc_client_call; the reply's slices are valid during the callback only.
 * Threading: everything on the client's own thread.
 */
#ifndef CRM_RPC_CLIENT_H
#define CRM_RPC_CLIENT_H

#include "rpc/names.h"
#include "rpc/rpc.h"

struct rpc_client;

enum rpc_lane { RPC_READ, RPC_WRITE, RPC_SLOW, RPC_LANES };

struct rpc_result {
	enum status status;
	struct str text;      /* the service's sentence, may be empty */
	struct str payload;
	struct str status_bytes; /* wire bytes of crm.v1.Status (violations), empty when OK */
	uint32_t retry_after_ms;
	bool replayed;
	bool refused;         /* only inside the hop: the service ends and did not look at it */
	bool unknown;         /* the connection broke: the call may or may not have been executed */
};

typedef void (*rpc_done)(void *arg, const struct rpc_result *r);

struct rpc_request {
	int service;                /* index from rpc_client_add */
	enum rpc_lane lane;
	struct str rpc;
	struct str principal;       /* wire bytes of crm.v1.Principal; empty for public calls */
	struct str request_id, traceparent, dialect, idempotency_key, idempotency_hash, client_ip, user_agent;
	uint32_t timeout_ms;
	uint64_t instance;          /* this one alone, from rpc_seen; 0: the healthy one with the least to do */
	bool may_retry;             /* safe to send again once when the connection broke (reads) */
	struct str payload;
	rpc_done done;
	void *arg;
};

struct rpc_client *rpc_client_new(struct event_base *base, struct rpc_keys *keys); /* keys are borrowed */
/*
 * name "customers"; urls separated by commas. A host name in one stands for all its addresses, whichever they are at the time; an
 * address is an instance for ever. Returns the service's index.
 */
int rpc_client_add(struct rpc_client *c, const char *name, const char *urls);
int rpc_client_find(const struct rpc_client *c, struct str name); /* -1: unknown */

/*
 * done is called exactly once, never from inside this function. No healthy instance: UNAVAILABLE in the next turn, or, when the
 * last one went away less than 1.5 s ago (it ended or its connection broke), as soon as that time is over and none came back.
 */
void rpc_client_call(struct rpc_client *c, const struct rpc_request *r);

/*
 * What is known of an instance: told after each answer to Health.Check that says it is able to serve (alive; contract: the hash that
 * it gives, 0: none), and when it gets no calls any more. instance is never given to another one. NULL: nobody is told.
 */
typedef void (*rpc_seen)(void *arg, int service, uint64_t instance, bool alive, uint64_t contract);
void rpc_client_watch(struct rpc_client *c, rpc_seen seen, void *arg);

struct rpc_service_stats {
	const char *name;        /* the service's; lives as long as the client */
	char url[RPC_URL_BYTES];
	bool healthy;
	uint64_t calls, errors, timeouts, ejections, in_flight, batches;
};
/* Fills up to max rows (one per instance; they come and go, in no order), returns how many there are. */
size_t rpc_client_stats(const struct rpc_client *c, struct rpc_service_stats *rows, size_t max);

#endif
