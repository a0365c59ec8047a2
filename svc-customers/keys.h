/* Reading Keys of requests and finding the rows they mean, for the handlers of this service. */
#ifndef CRM_SVC_CUSTOMERS_KEYS_H
#define CRM_SVC_CUSTOMERS_KEYS_H

#include "db/db.h"
#include "rpc/rpc.h"

struct entity_key {
	const char *id, *seq; /* as parameters; both NULL: none was given */
	bool bad;             /* no key of any entity */
};

/* wire: bytes of a Key. */
struct entity_key entity_key_read(struct rpc_call *call, struct str wire);
/* Finds the live row; id gets its UUID. NOT_FOUND when there is none. */
enum status entity_find(struct db_conn *db, const char *table, const struct entity_key *k, char id[37]) MUST_CHECK;

/*
 * The events of the rows of a result whose columns are id, seq, version, before and after (to_jsonb, NULL where there is
 * none). s: the outcome of the statement, passed on when it failed. Frees res.
 */
enum status entity_events(struct db_conn *db, struct rpc_call *call, const char *type, const char *entity, enum status s, PGresult *res) MUST_CHECK;

#endif
