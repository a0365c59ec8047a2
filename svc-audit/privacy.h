/*
 * Privacy.Export and Privacy.Erase: asks every service that keeps personal fields (methods named <Service>Subjects.Find and .Erase), then
 * does what is the log's part. The steps of an erasure, each of which may be repeated:
 *   1. every service says whom it means, and that it may be;  2. keys are destroyed and what is to be done is written down (erasure);
 *   3. every service empties its rows, outbox and kept replies;  4. the bus forgets values; the erasure is done, and an entry.
 * Threading: the handlers on the loop, steps 2 and 4 on a worker.
 */
#ifndef CRM_SVC_AUDIT_PRIVACY_H
#define CRM_SVC_AUDIT_PRIVACY_H

#include <event2/event.h>

#include "db/db.h"
#include "rpc/rpc.h"
#include "schema/schema.h"

struct privacy_config {
	struct event_base *base;
	const struct schema *contracts; /* of all services; stays the caller's */
	const char *services;           /* "auth=tcp://… customers=tcp://…" */
	const char *hosts_file;         /* for host names in services; "": the system's resolver */
	const char *bus_url;
	struct db *db;
	struct rpc_keys *keys;          /* of the envelope; borrowed */
};

/* Exits when a service of the contracts has no URL. Before calls are accepted. */
void privacy_start(const struct privacy_config *c);

/* OP_LOOPs. */
void privacy_export(struct rpc_call *call);
void privacy_erase(struct rpc_call *call);

#endif
