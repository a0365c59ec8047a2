/*
 * The feed: clients that wait for events of their tenant, by long poll or text/event-stream (docs/events.md).
 *
 * What waits is memory and a place in a list: no thread, no call and no connection to a database. One timer per thread asks
 * svc-audit which tenants moved while anybody waits; clients of a tenant that want the same from the same place share one read.
 * Threading: a struct feed belongs to its worker's thread.
 */
#ifndef CRM_GATEWAY_FEED_H
#define CRM_GATEWAY_FEED_H

#include <stddef.h>

#include "gateway/request.h"

struct feed;

struct feed *feed_new(struct worker *w);
/* Takes the payload from the worker's decoded. */
enum step_result feed_start(struct request *r);
/* Tells who waits to come again; what is being read is answered when it is there. */
void feed_drain(struct feed *f);
/* Clients that are with the feed. */
size_t feed_clients(const struct feed *f);

#endif
