/* Asks services for their contracts and publishes the faces that they make. Control thread. */
#ifndef CRM_GATEWAY_CONTRACT_WATCH_H
#define CRM_GATEWAY_CONTRACT_WATCH_H

#include "gateway/gateway.h"

/* rpc has the services of g in their order; its rpc_seen is taken. Begins at once, never ends. */
void contract_watch_start(struct gateway *g, struct rpc_client *rpc);
/*
 * True in the first 2 s while a service has not told its contract: who is older than the gateway's own files should be known before
 * requests come. A service that is away does not keep the gateway from serving longer.
 */
bool contract_watch_waits(const struct gateway *g);
/* The rows of contracts as JSON members of /readyz, and for /metrics. */
void contract_watch_detail(const struct gateway *g, struct buf *out);
void contract_watch_metrics(const struct gateway *g, struct buf *out);

#endif
