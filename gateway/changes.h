/*
 * What svc-auth tells this process, polled on the control thread: signing keys, revocations, what members may do, which names
 * changed. One poller per process; its results are published to all threads (revocations.h, keys.h).
 */
#ifndef CRM_GATEWAY_CHANGES_H
#define CRM_GATEWAY_CHANGES_H

#include "gateway/gateway.h"

#define CHANGES_EVERY_MS 300
#define KEYS_EVERY_S 60
#define KEYS_PAUSE_US 1000000 /* at most one unscheduled question for keys in this time */

struct changes;

/* Starts polling at once; rpc has the services. Never fails: while svc-auth is away, what is known stays. */
struct changes *changes_start(struct gateway *g, struct event_base *base, struct rpc_client *rpc);
/* Asks for changes now, or, when that is under way, once more after it. */
void changes_poll(struct changes *c);
/* Asks for the signing keys now, unless that is under way. All workers are woken when the answer is in. */
void changes_fetch_keys(struct changes *c);

/* One crm.v1.ChangesReply. rows: heap, free it; their texts point into wire. False: malformed. */
struct changes_reply {
	int64_t cursor;
	struct change *rows;
	size_t n;
	bool keys, refs; /* signing keys, names of references have changed */
	bool more;       /* there are changes that did not fit */
};
bool changes_parse(struct str wire, struct changes_reply *out);

#endif
