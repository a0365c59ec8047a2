/*
 * Inside lib/service: from the name of a call to the op that serves it. Checks at start-up that contract and ops agree, and
 * at every call that the principal may make it; the gateway has checked before.
 */
#ifndef CRM_SERVICE_DISPATCH_H
#define CRM_SERVICE_DISPATCH_H

#include "db/db.h"
#include "resource/resource.h"
#include "rpc/rpc.h"
#include "schema/schema.h"

struct dispatch;

/* Exits with a sentence when a method of service has no op or several, or an op no method. ops are kept, not copied. */
struct dispatch *dispatch_new(const struct schema *s, struct db *db, const char *service, const struct op *ops, size_t n);
void dispatch_free(struct dispatch *d);
/* Until then every call is answered UNAVAILABLE. */
void dispatch_open(struct dispatch *d);
/* Why ops and contract do not agree, or NULL. The text is in the arena. */
const char *dispatch_mismatch(struct arena *a, const struct schema *s, const char *service, const struct op *ops, size_t n);

/* rpc_dispatch; arg is the struct dispatch. Loop thread. */
void dispatch_call(void *arg, struct rpc_call *call);
/* For rpc_server_observe; any thread. */
void dispatch_observe(void *arg, const struct rpc_call *call, enum status status);

/* May who call a method with this permission? OK, UNAUTHENTICATED or PERMISSION_DENIED. */
enum status dispatch_may(const struct rpc_principal *who, unsigned permission);

#endif
