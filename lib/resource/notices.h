/*
 * NOTIFY <schema>_changed between the instances of a service: which entities of which tenants changed. Never in the
 * transaction of the change (its commit would take a lock that all committers share), but after it, many in one, at most
 * every 20 ms. One thread with one connection both listens and notifies.
 */
#ifndef CRM_RESOURCE_NOTICES_H
#define CRM_RESOURCE_NOTICES_H

#include "base/str.h"

void notices_start(const char *url, const char *schema);
void notices_stop(void);
/* Any thread; nothing happens when it was not started. */
void notices_add(struct str tenant, struct str entity);

struct notices_stats {
	uint64_t sent, heard;
};
struct notices_stats notices_stats(void);

#endif
