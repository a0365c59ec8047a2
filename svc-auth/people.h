/*
 * Changing members: who is meant, may the caller touch them, and what everybody must hear afterwards.
 *
 * Rules kept here for every handler: nobody changes a member who may do more than they may themselves, nobody gives what they
 * do not have, and a tenant always keeps one active administrator without anything taken away.
 * Everything lives in the call's arena. Threading: a worker thread, inside the handler's transaction.
 */
#ifndef CRM_AUTH_PEOPLE_H
#define CRM_AUTH_PEOPLE_H

#include "password.h"
#include "proto/auth.pb-c.h"
#include "resource/handler.h"
#include "roles.h"

struct person {
	const char *id, *email, *role, *status;
	int64_t seq;
	uint64_t version;
	struct perms perms;      /* what they may do now */
	bool elsewhere;          /* a member of another tenant too: what is theirs alone is not ours to change */
	const char *json;        /* the row, for events */
	Crm__V1__User *user;
};

/* Orders everybody who changes members of the caller's tenant, so that "the last administrator" means something. */
enum status people_lock(struct rpc_call *call, struct db_conn *db) MUST_CHECK;
/* Reads the member, locked. NOT_FOUND; PERMISSION_DENIED when they may do, or see, more than the caller. After people_lock. */
enum status person_take(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct person *out) MUST_CHECK;
/* The same without lock and without asking who the caller is. */
enum status person_see(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct person *out) MUST_CHECK;

/* The member as a reference. Borrows from p. */
Crm__V1__Ref person_ref(const struct person *p);

/* Every permission in p is the caller's as well. */
bool caller_covers(const struct rpc_call *call, const struct perms *p);

/* What the role means in the caller's tenant. NOT_FOUND: there is no such role. */
enum status role_read(struct rpc_call *call, struct db_conn *db, const char *role, struct perms *out) MUST_CHECK;
/* The same, and the caller may give it. Violations are on `path`; VALIDATION_ERROR, PERMISSION_DENIED. */
enum status role_grantable(struct rpc_call *call, struct db_conn *db, const char *role, const char *path, struct perms *out) MUST_CHECK;

/* CONFLICT when the tenant would be left without an administrator. */
enum status people_keep_admin(struct rpc_call *call, struct db_conn *db) MUST_CHECK;

/* Tells the gateways what the member (user_id NULL: every member with the role) may do from now on. */
enum status people_announce(struct rpc_call *call, struct db_conn *db, const char *user_id, const char *role) MUST_CHECK;
/* The same for every member of the team who is limited to some rows: the team is not what it was. */
enum status people_announce_team(struct rpc_call *call, struct db_conn *db, const char *team) MUST_CHECK;
/* Ends the sessions of a person: in one tenant or (NULL) everywhere; all but one, or (NULL) all. */
enum status sessions_end(struct db_conn *db, const char *user_id, const char *tenant_id, const char *but, const char *why) MUST_CHECK;
/* One event about the member, with the row as it is now as `after` (gone: none); the version is the row's. */
enum status person_event(struct rpc_call *call, struct db_conn *db, const char *type, const struct person *before, bool gone) MUST_CHECK;

/* Hashes on the pool, then goes on with `then` on a worker. The call is answered UNAVAILABLE when there is no room for it. */
struct hashing {
	struct rpc_call *call;
	const char *password;
	char hash[PASSWORD_HASH_MAX];
	void (*then)(struct db_conn *db, void *arg);
	void *arg;
};
void hashing_start(struct hashing *h);

/* "{a,b}" as words in the arena. */
size_t words_of_array(struct rpc_call *call, const char *array, char ***words);

#endif
