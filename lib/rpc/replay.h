/*
 * Tells a copied message from a new one: per client the highest sequence number and a window of those behind it.
 * Bounded: at most REPLAY_CLIENTS clients; one that was silent for longer than any deadline is forgotten first.
 * Owned by one thread.
 */
#ifndef CRM_RPC_REPLAY_H
#define CRM_RPC_REPLAY_H

#include "rpc/frame.h"

enum { REPLAY_CLIENTS = 512, REPLAY_WINDOW = 1024 };

struct replay_client {
	uint64_t id, top;
	int64_t seen_us;
	uint64_t window[REPLAY_WINDOW / 64];
};

struct replay {
	struct replay_client *clients[REPLAY_CLIENTS];
	size_t n, last; /* last: where the client of the message before was found */
};

/* False: seen before, too old to tell, without an origin, or there are too many clients. */
bool replay_accept(struct replay *r, struct frame_origin o, int64_t now_us);

#endif
