/*
 * Keys of subjects: personal values in an entry's before and after are {"sealed": "…"}, AES-256-GCM under a key of the entity that
 * they are about. What is hashed is the sealed form, so the chain verifies whether the key is there or destroyed.
 */
#ifndef CRM_SVC_AUDIT_SUBJECT_H
#define CRM_SVC_AUDIT_SUBJECT_H

#include <libpq-fe.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "schema/schema.h"

struct event; /* events/event.h */

#define SUBJECT_GONE "[erased]" /* what is shown of a value whose key is gone */

/* The contracts of all services: they say which fields are personal. s stays the caller's. Before threads. */
void subject_init(const struct schema *s);

/*
 * The events of one tenant as they go into the chain, in the caller's transaction with app.tenant_id set; makes keys of subjects that
 * have none. out: n events, those with personal values copied into the arena, the others themselves.
 */
enum status subject_seal(PGconn *c, struct arena *a, const struct event *const *events, size_t n, const struct event **out) MUST_CHECK;

/* A before or after as people read it. wrapped: the column, as PostgreSQL prints bytea; empty: there is no key (any more). In the arena. */
struct str subject_open(struct arena *a, struct str json, struct str entity, struct str id, struct str wrapped);

/* crm.v1.AuditEntry as the view entry_read has it → as it is answered. For struct resource. */
void subject_reveal(struct str entry, struct buf *out);

#endif
