/*
 * What handlers with logic use: messages in and out of the call's arena, parameters and columns as text, failures, events.
 * Functions that say "replies" answer the call themselves, so handlers read straight down.
 * Threading: the thread that holds the call.
 */
#ifndef CRM_RESOURCE_HANDLER_H
#define CRM_RESOURCE_HANDLER_H

#include <protobuf-c/protobuf-c.h>

#include "proto/common.pb-c.h"
#include "resource/resource.h"

/* The payload as this message, checked by its contract, in the arena. NULL: replied BAD_REQUEST or VALIDATION_ERROR. */
void *handler_request(struct rpc_call *call, const ProtobufCMessageDescriptor *type);
/* Any bytes as this message; NULL when malformed. */
void *handler_unpack(struct rpc_call *call, const ProtobufCMessageDescriptor *type, struct str bytes);
/*
 * The entity of a write, checked by its contract ("crm.v1.User"), as its message. NULL: replied. create: required fields
 * must be there; otherwise only the mask may not clear them.
 */
void *handler_entity(struct rpc_call *call, const Crm__V1__WriteRequest *w, const ProtobufCMessageDescriptor *type, bool create);
/* The field is one of those to write. An empty mask on create means: what is present. */
bool handler_writes(const Crm__V1__WriteRequest *w, uint32_t field);
struct str handler_pack(struct rpc_call *call, const void *message);
/* Replies OK with the message. */
void handler_reply(struct rpc_call *call, const void *message);
void handler_reply_empty(struct rpc_call *call);
/* Rolls back and replies. OK counts as INTERNAL. */
void handler_fail(struct rpc_call *call, struct db_conn *db, enum status s);
/* The same, with a sentence of its own. text NULL: the status's. */
void handler_refuse(struct rpc_call *call, struct db_conn *db, enum status s, const char *text);
/*
 * The end of most handlers: OK commits and replies with the message (NULL: with nothing); anything else, a commit that
 * failed included, rolls back and replies the failure.
 */
void handler_end(struct rpc_call *call, struct db_conn *db, enum status s, const void *message);
/* The same, with a message that is packed already. */
void handler_end_packed(struct rpc_call *call, struct db_conn *db, enum status s, struct str reply);
/* Rolls back and replies VALIDATION_ERROR (or s) with one violation. */
void handler_violation(struct rpc_call *call, struct db_conn *db, enum status s, const char *path, const char *rule, const char *message);

/* Parameters in the arena. NULL or an absent optional gives NULL. */
const char *param_str(struct rpc_call *call, struct str s);
const char *param_i64(struct rpc_call *call, int64_t v);
/* What a Key means, as parameters: one of the two, or neither (no key, or one of no entity). */
struct handler_key {
	const char *id, *seq;
};
struct handler_key handler_key(struct rpc_call *call, const Crm__V1__Key *key);
/* PostgreSQL text[] literal. */
const char *param_array(struct rpc_call *call, char *const *words, size_t n);

/* Column as text in the arena, NULL when NULL. */
char *col_text(struct rpc_call *call, const PGresult *res, int row, int col);
int64_t col_i64(const PGresult *res, int row, int col);
bool col_is_null(const PGresult *res, int row, int col);

/* SQL of a time as microseconds; NULL stays NULL. */
#define SQL_US(column) "(extract(epoch FROM " column ") * 1000000)::bigint"

/* The tenant of the rest of the transaction, for calls that arrive without one. */
enum status handler_tenant(struct db_conn *db, const char *tenant_id) MUST_CHECK;

/* The next number of this kind in the tenant of the transaction. Holds the tenant's counter until commit. */
enum status handler_seq(struct rpc_call *call, struct db_conn *db, const char *tenant_id, const char *kind, int64_t *seq) MUST_CHECK;

struct entity_event {
	const char *type, *entity, *entity_id, *tenant_id, *user_id; /* tenant_id, user_id NULL: the caller's */
	int64_t entity_seq;
	uint64_t version;
	const char *before, *after; /* JSON objects or NULL */
};
enum status handler_event(struct rpc_call *call, struct db_conn *db, const struct entity_event *e) MUST_CHECK;

/*
 * Idempotency keys. handler_begin: a transaction of the caller's tenant; false: the call has been answered already.
 * handler_finish keeps the reply under the call's key, which is a row of the caller's own tenant, and commits. handler_end_once is
 * handler_end with it: commits when s is OK, and replies with message, with nothing (NULL), or with what went wrong.
 */
bool handler_begin(struct rpc_call *call, struct db_conn *db, enum status *s);
enum status handler_finish(struct rpc_call *call, struct db_conn *db, struct str reply) MUST_CHECK;
void handler_end_once(struct rpc_call *call, struct db_conn *db, enum status s, const void *message);
void handler_end_once_packed(struct rpc_call *call, struct db_conn *db, enum status s, struct str reply);

/* *json: the first column of the only row that sql finds for $1. NOT_FOUND: there is none. */
enum status handler_row_json(struct rpc_call *call, struct db_conn *db, const char *sql, const char *id, const char **json) MUST_CHECK;

#endif
