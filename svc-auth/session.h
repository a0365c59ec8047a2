/*
 * Who somebody is in which tenant, and the session that a login opens: the shared part of Register, Login and Refresh.
 * Everything lives in the call's arena. Threading: a worker thread, inside the handler's transaction.
 */
#ifndef CRM_AUTH_SESSION_H
#define CRM_AUTH_SESSION_H

#include "proto/auth.pb-c.h"
#include "resource/handler.h"
#include "roles.h"

struct member {
	const char *user_id, *tenant_id, *role;
	int64_t tenant_seq, user_seq;
	struct perms perms;
	const char *scope;        /* of rows, NULL: all; member_scope fills it */
	bool active;              /* membership and tenant may be entered */
	bool deleted;             /* the tenant is gone, or they left it */
	Crm__V1__Tenant *tenant;  /* with the member's role and without secrets */
};

/* Every membership of the person, the most recently entered first. */
enum status member_all(struct rpc_call *call, struct db_conn *db, const char *user_id, struct member **rows, size_t *n) MUST_CHECK;
/*
 * The active membership that is meant: by id or seq of its tenant, or (key NULL) the most recently entered one.
 * NOT_FOUND when there is none.
 */
enum status member_find(struct rpc_call *call, struct db_conn *db, const char *user_id, const Crm__V1__Key *tenant, struct member *out) MUST_CHECK;
enum status member_in(struct rpc_call *call, struct db_conn *db, const char *user_id, const char *tenant_id, struct member *out) MUST_CHECK;

/* The member as the contract's User, of the transaction's tenant. NOT_FOUND. flat: the permissions to show, NULL: theirs. */
enum status user_read(struct rpc_call *call, struct db_conn *db, const char *user_id, const struct perms *flat, Crm__V1__User **out) MUST_CHECK;
/* One row of user_view (USER_COLUMNS) as a User. */
#define USER_COLUMNS                                                                                                             \
	"id, seq, version, " SQL_US("created_at") ", " SQL_US("updated_at") ", email, display, given, family, role, avatar, status, " \
	"preferences, " SQL_US("last_login_at") ", tenant_id, tenant_seq, tenant_name, role_permissions, granted, denied"
#define USER_COLUMNS_N 20
/* The row's permissions. */
struct perms perms_of_row(struct rpc_call *call, const PGresult *res, int row);
Crm__V1__User *user_of_row(struct rpc_call *call, const PGresult *res, int row);

struct policy {
	uint32_t access_ttl_s, refresh_ttl_s;
	bool rotate, remember_me;
};
/* Defaults for what is absent, limits on the rest: access 1 min to 24 h, refresh 1 h to 90 days. */
struct policy policy_of(const Crm__V1__TokenPolicy *p, bool remember_me);

struct session_reply {
	const char *session_id, *refresh_token;
	struct policy policy;
	struct member member;
	Crm__V1__User *user;
	bool proven;           /* the second factor was shown already */
	const char *challenge; /* set by session_open: there is no session, this is to be answered first */
	bool must_enrol;       /* … by setting a second factor up */
};

/*
 * Opens a session and its first refresh token, notes the login: fills session_id and refresh_token. When the person has a second
 * factor, or the tenant asks for one, and it was not proven: no session but a challenge. The transaction is of the member's tenant.
 */
enum status session_open(struct rpc_call *call, struct db_conn *db, struct session_reply *r) MUST_CHECK;
/* Ends a family and tells the gateways. OK when it was dead already. */
enum status session_revoke(struct rpc_call *call, struct db_conn *db, const char *session_id, const char *why) MUST_CHECK;
/* After commit: signs the access token and replies. */
void session_answer(struct rpc_call *call, const struct session_reply *r);

#endif
