/*
 * What client.c (calls, deadlines, health), fleet.c (which instances there are) and message.c (one instance, NNG messages) know of each
 * other.
 * All of it lives on the client's thread, but for the fields of rpc_message that are marked.
 */
#ifndef CRM_RPC_CLIENT_PRIV_H
#define CRM_RPC_CLIENT_PRIV_H

#include <nng/nng.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "rpc/client.h"
#include "rpc/frame.h"
#include "rpc/handoff.h"
#include "rpc/mac.h"
#include "rpc/names.h"

enum { RPC_MAX_SERVICES = 16, RPC_MAX_INSTANCES = 64, RPC_MAX_NAMES = 8, RPC_WHEEL = 1024, RPC_LANE_MESSAGES = 4 };

/* A call: in an instance's queue, in a message, or refused and to be answered at the end of the turn. */
struct rpc_pending {
	TAILQ_ENTRY(rpc_pending) wheel;
	TAILQ_ENTRY(rpc_pending) queue;
	struct rpc_pending *spare;
	int service;
	enum rpc_lane lane;
	uint64_t only; /* id of the one instance that may have it; 0: any */
	bool may_retry, retried, queued, parked;
	enum status refusal; /* STATUS_OK: not refused */
	struct rpc_instance *instance;
	struct rpc_message *message;
	unsigned index, slot; /* in the message; of the wheel */
	int64_t due_us;       /* monotonic */
	int64_t park_until_us; /* monotonic; 0: never parked */
	rpc_done done;
	void *arg;
	struct span *span; /* NULL: not traced */
	struct buf body; /* a Call without its id */
};

TAILQ_HEAD(rpc_pending_list, rpc_pending);

/* One NNG message on its way and back. While busy, aio and sent belong to NNG's callback until it hands the node over. */
struct rpc_message {
	struct handoff_node node; /* first */
	struct rpc_instance *instance;
	nng_ctx ctx;
	nng_aio *aio;
	bool sent;         /* NNG took it: from here on it may have been executed */
	int rc;
	nng_msg *reply;
	atomic_bool abort; /* either thread */
	bool busy, probe, timed_out;
	uint8_t mac[RPC_MAC_BYTES];
	struct rpc_mac *key; /* that signed it, held while busy; the reply must be signed with it */
	unsigned n;
	struct rpc_pending *calls[RPC_MAX_CALLS]; /* NULL: answered already */
};

/*
 * A connection to an address. One that was found by a name begins without calls, until its first answer to a probe (joining); when the name loses the
 * address it is gone: it gets calls only when there is no other, and is retired when it has none. A retired one is kept, with its
 * NNG socket, for the next address: nng_close is not safe, and so a thousand addresses in a row need no more memory than those at a time.
 */
struct rpc_instance {
	struct rpc_client *client;
	struct rpc_service *service;
	uint64_t id; /* 1, 2, 3, … of the client's instances; another one for each address that it serves */
	struct rpc_source *source; /* the name that it was found by; NULL: it was given as an address */
	nng_socket socket;
	nng_dialer dialer;
	atomic_uint pipes_up, pipes_down; /* counted on NNG's threads */
	unsigned up_seen, down_seen;
	bool healthy;
	bool joining;
	bool leaving; /* it has said that it will end: used only when there is no other */
	bool gone;
	int64_t gone_us; /* monotonic: since when it is gone, or retired */
	struct rpc_instance *next_retired;
	unsigned timeouts_in_a_row, owed_messages;
	int64_t owed_since_us; /* since when it has owed an answer without giving any; 0: owes none */
	uint64_t in_flight;
	struct rpc_pending_list queue[RPC_LANES];
	unsigned queued[RPC_LANES];
	struct rpc_message messages[RPC_LANES][RPC_LANE_MESSAGES];
	struct rpc_message probe;
	struct rpc_service_stats stats;
};

/* A host name of a service's URLs. */
struct rpc_source {
	struct rpc_name *name;
	unsigned seen; /* the generation of addresses that the instances were made of */
	bool short_of; /* some address has no instance, as there are too many */
};

struct rpc_service {
	char *name;
	struct rpc_source sources[RPC_MAX_NAMES];
	size_t n_sources;
	struct rpc_instance *instances[RPC_MAX_INSTANCES];
	size_t n, next;
	int64_t away_until_us; /* until then calls wait for an instance that went away */
	struct rpc_pending_list parked;
	unsigned n_parked;
};

struct rpc_client {
	struct rpc_macs *macs;
	struct frame_origin origin;
	struct handoff completed;
	struct event *flush_ev, *tick_ev, *probe_ev;
	struct rpc_service services[RPC_MAX_SERVICES];
	size_t n_services;
	struct rpc_instance *instances[RPC_MAX_INSTANCES];
	size_t n_instances;
	uint64_t last_id;
	rpc_seen seen;
	void *seen_arg;
	struct rpc_instance *retired;
	struct rpc_pending_list wheel[RPC_WHEEL], refused;
	unsigned probe_turn;
	bool probe_hurry; /* some instance is ejected: probes come faster, the healthy ones' no more often */
	int64_t tick_us, turned;
	size_t waiting, bytes; /* calls that are not answered, and their encoded size */
	struct rpc_pending *spares;
	size_t n_spares;
	struct buf scratch;
};

/* client.c, for message.c */
void rpc_pending_finish(struct rpc_client *c, struct rpc_pending *p, const struct rpc_result *r);
/* Its instance failed it: another one gets it if that is harmless, else its caller hears UNAVAILABLE. */
void rpc_pending_reroute(struct rpc_pending *p, bool sent);
/* Its instance ends and did not look at it. */
void rpc_pending_refused(struct rpc_pending *p);
void rpc_client_flush_soon(struct rpc_client *c);
void rpc_instance_lost(struct rpc_instance *in);
void rpc_instance_progress(struct rpc_instance *in);
void rpc_instance_health(struct rpc_instance *in, enum status s, struct frame_health h);

/* It is not an instance any more: whoever watches is told. */
void rpc_instance_ends(struct rpc_instance *in);
/* Looks its name up soon, if it has one. */
void rpc_instance_hurry(struct rpc_instance *in);

/* fleet.c, for client.c and message.c */
void rpc_fleet_add(struct rpc_client *c, struct rpc_service *s, const char *url);
/* Makes instances of new addresses, lets those go that have none any more and are done. */
void rpc_fleet_follow(struct rpc_client *c);

/* message.c, for fleet.c and client.c. Not connected yet. Exits when there is no memory. */
struct rpc_instance *rpc_instance_new(struct rpc_client *c);
/* To stats.url. Exits when NNG does not take that. */
void rpc_instance_dial(struct rpc_instance *in);
/* Breaks its connection and makes no other; nothing may be in flight but a probe. */
void rpc_instance_hang_up(struct rpc_instance *in);
/* Is NNG done with it, so that it may dial another address? */
bool rpc_instance_quiet(const struct rpc_instance *in);
void rpc_instance_flush(struct rpc_instance *in);
void rpc_instance_probe(struct rpc_instance *in, unsigned timeout_ms);
/* Every message under way comes back as failed, at once. */
void rpc_instance_abort(struct rpc_instance *in);
void rpc_client_completed_cb(void *arg);

#endif
