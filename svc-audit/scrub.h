/* The bus and the feed forget what they say about entities. Blocking, any thread. */
#ifndef CRM_SVC_AUDIT_SCRUB_H
#define CRM_SVC_AUDIT_SCRUB_H

#include <stdbool.h>

#include "base/status.h"
#include "resource/handler.h"

/*
 * ids: text[] literal. Records with such a key stay, without values. changed: an event "….erased" of each of them is on its way; it is
 * waited for (3 s), because what was written before it comes before it. With Kafka nothing is done: it keeps what it has until its
 * retention is over (docs/adr/0020-erasure.md).
 */
enum status bus_scrub(const char *bus_url, const char *ids, bool changed) MUST_CHECK;

/* ids: as above. Events in the tenant's feed that name one of them stay, without the entity. In the caller's transaction. */
enum status feed_scrub(struct rpc_call *call, struct db_conn *db, const char *ids) MUST_CHECK;

#endif
