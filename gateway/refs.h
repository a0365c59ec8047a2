/*
 * References into other services: names for ids. A small cache per thread, and per request a list of wishes that is
 * asked of each owner in one call.
 *
 * Flow: the dialect engine asks ref_lookup; what the cache does not have is noted as a wish (REF_UNKNOWN). When the engine
 * is done, refs_ask sends one batch per owning service; when refs_done was called, the engine runs again and finds
 * everything known or absent.
 */
#ifndef CRM_GATEWAY_REFS_H
#define CRM_GATEWAY_REFS_H

#include "gateway/faces.h"
#include "rpc/client.h"

#define REFS_CACHE_MAX 20000
#define REFS_TTL_US 5000000
#define REFS_WISHES_MAX 2048
#define REFS_TIMEOUT_MS 1000

struct ref_cache;

struct ref_cache *ref_cache_new(void);
void ref_cache_free(struct ref_cache *c);
void ref_cache_clear(struct ref_cache *c);
size_t ref_cache_count(const struct ref_cache *c);

struct ref_wish {
	struct ref_key key;
	const struct schema_method *owner;
	enum ref_state state; /* REF_UNKNOWN until the owner answered */
	struct ref_value value;
	struct ref_wish *next;
};

/* The references of one request. Everything in the request's arena. */
struct refs {
	struct ref_cache *cache;
	const struct faces *faces;
	struct arena *arena;
	struct str tenant_id;
	int64_t now_us;       /* monotonic */
	struct ref_wish *wishes;
	size_t n_wishes, n_open; /* open: not yet asked */
	unsigned calls;          /* in flight */
	bool failed;             /* an owner did not answer */
	bool settle;             /* what is not known counts as absent: no further asking */
	void (*done)(void *arg);
	void *arg;
};

struct ref_lookup refs_lookup(struct refs *r);

struct ref_call {
	struct rpc_client *rpc;
	struct rpc_request with; /* principal, ids: what each call carries */
};

/* Sends what is wished. refs->done is called once every owner answered or failed; never from inside. False: nothing to ask. */
bool refs_ask(struct refs *r, const struct ref_call *call, void (*done)(void *arg), void *arg);

#endif
