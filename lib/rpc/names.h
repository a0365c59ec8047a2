/*
 * Host names in the URLs of services, and the addresses behind them: looked up by one thread of the process for all its callers, every
 * 2 s, and at once (but not more than 5 times a second) when somebody has lost an instance.
 *
 * A lookup that fails or finds nothing changes nothing: the addresses known before stay. Threading: any thread.
 */
#ifndef CRM_RPC_NAMES_H
#define CRM_RPC_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RPC_URL_BYTES = 80,
	RPC_NAME_ADDRESSES = 32, /* of one name; the others are left out, the same ones each time */
};

struct rpc_name;
struct buf;

struct rpc_addresses {
	unsigned generation; /* grows when the set changes; 0: not found yet */
	size_t n;
	char url[RPC_NAME_ADDRESSES][RPC_URL_BYTES]; /* tcp://10.0.0.7:7102, in order */
};

/* Is there a host name in this URL? If not (an address, or no tcp URL at all), it is what it is. */
bool rpc_url_has_name(const char *url);

/*
 * Looks names up in this file (lines of "address name…", as in /etc/hosts) instead of asking the system; read anew for each lookup. path is
 * kept; "" is the system. Before the first rpc_name_watch.
 */
void rpc_names_file(const char *path);

/*
 * The name in url; the same one for the same url, for the life of the process. changed(arg) is called on the thread that looks up, whenever
 * the set has changed, and must only wake somebody. The first call starts that thread, so not before the last fork.
 */
struct rpc_name *rpc_name_watch(const char *url, void (*changed)(void *arg), void *arg);
unsigned rpc_name_generation(const struct rpc_name *n);
void rpc_name_addresses(struct rpc_name *n, struct rpc_addresses *out);
/* Somebody has lost an instance of it. */
void rpc_name_hurry(struct rpc_name *n);

/* crm_rpc_name_lookups_total, crm_rpc_name_failures_total, crm_rpc_names_failing. */
void rpc_names_metrics(struct buf *out);

#endif
