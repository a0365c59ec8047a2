/* The bus forgets what its records say about entities. Blocking, any thread. */
#ifndef CRM_SVC_AUDIT_SCRUB_H
#define CRM_SVC_AUDIT_SCRUB_H

#include <stdbool.h>

#include "base/status.h"

/*
 * ids: text[] literal. Records with such a key stay, without values. changed: an event "….erased" of each of them is on its way; it is
 * waited for (3 s), because what was written before it comes before it. With Kafka nothing is done: it keeps what it has until its
 * retention is over (docs/adr/0020-erasure.md).
 */
enum status bus_scrub(const char *bus_url, const char *ids, bool changed) MUST_CHECK;

#endif
