/*
 * Whose rows a member sees and changes, kind by kind: all, of their team, their own. docs/auth.md, ADR 0016.
 * Everything lives in the call's arena. Threading: a worker thread, inside the handler's transaction.
 */
#ifndef CRM_AUTH_ROW_SCOPES_H
#define CRM_AUTH_ROW_SCOPES_H

#include "people.h"

/* {"leads": "own"} of a request as text for PostgreSQL. VALIDATION_ERROR: a violation on `path`. */
enum status row_scopes_read(struct rpc_call *call, ProtobufCBinaryData json, const char *path, const char **out) MUST_CHECK;
/* The caller may give it: in no kind is it wider than what limits the caller. json: of a role, or of role and member together. */
bool row_scopes_covered(struct rpc_call *call, const char *json);
/* What the role says, "{}" for one that is built in. PERMISSION_DENIED when it is wider than the caller. NOT_FOUND. */
enum status row_scopes_of_role(struct rpc_call *call, struct db_conn *db, const char *role) MUST_CHECK;
/* PERMISSION_DENIED when the member sees more than the caller. */
enum status row_scopes_of_member(struct rpc_call *call, struct db_conn *db, const char *user_id) MUST_CHECK;
/* A member of the transaction's tenant as Principal.scope; NULL: all rows. */
enum status member_scope(struct rpc_call *call, struct db_conn *db, const char *user_id, const char **scope) MUST_CHECK;
/* "all", "team" or "own" of the member for the kind ("leads"); NULL when it is no kind of rows. */
enum status member_rows(struct rpc_call *call, struct db_conn *db, const char *user_id, struct str kind, const char **rows) MUST_CHECK;

#endif
