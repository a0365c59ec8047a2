/*
 * The second factor: one-time codes by time and recovery codes, of a person and not of a membership.
 *
 * Wrong codes count per person and address (five in fifteen minutes, then even a right one is refused) and per challenge (five). A code
 * is asked for only behind a right password, so nobody can be locked out by who has not got that.
 * Everything lives in the call's arena. Threading: a worker thread, inside the handler's transaction, unless said otherwise.
 */
#ifndef CRM_AUTH_MFA_H
#define CRM_AUTH_MFA_H

#include "proto/auth.pb-c.h"
#include "session.h"

#define MFA_TRIES 5             /* wrong codes per person and address in THROTTLE_WINDOW_US; per challenge as well */
#define MFA_TRIES_ANYWHERE 50   /* per person from all addresses together: who knows the password has a botnet, too */
#define MFA_CHALLENGE_S 300
#define MFA_RECOVERY_CODES 10
#define MFA_WRONG "The code is wrong or was used already"

/* The name that authenticator apps show. Lives on. Before the service serves. */
void mfa_init(const char *issuer);

/* Before mfa_standing in a transaction that opens a session: none slips through while the tenant begins to ask for a second factor. */
enum status mfa_order(struct db_conn *db, const char *tenant) MUST_CHECK;
/* Has the person a second factor, and does the tenant ask for one? The transaction must be the tenant's. */
struct mfa_standing {
	bool enabled, required;
};
enum status mfa_standing(struct db_conn *db, const char *person, const char *tenant, struct mfa_standing *out) MUST_CHECK;

/* Counts a try: 0, or milliseconds to wait. Any thread. */
uint32_t mfa_try(const struct rpc_call *call, const char *person);
void mfa_try_back(const struct rpc_call *call, const char *person);

/* Uses the code up. AUTH_FAILED: it is wrong, was used already, or there is no second factor. */
enum status mfa_verify(struct rpc_call *call, struct db_conn *db, const char *person, const char *code) MUST_CHECK;

/* A new secret that protects nothing until it is confirmed. CONFLICT: there is a confirmed one. */
enum status mfa_enrol(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__MfaEnrolment *out) MUST_CHECK;
/* The first right code: from now on codes are asked for. Ends all sessions but one (NULL: all). AUTH_FAILED; CONFLICT: nothing to confirm. */
enum status mfa_confirm(struct rpc_call *call, struct db_conn *db, const char *person, const char *code, const char *but, Crm__V1__Mfa *out) MUST_CHECK;
/* Ten new recovery codes; the old ones are gone. */
enum status mfa_recovery_new(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__Mfa *out) MUST_CHECK;
enum status mfa_remove(struct rpc_call *call, struct db_conn *db, const char *person) MUST_CHECK;
enum status mfa_show(struct rpc_call *call, struct db_conn *db, const char *person, Crm__V1__Mfa *out) MUST_CHECK;

/* In place of a session: fills r->challenge. */
enum status mfa_challenge(struct rpc_call *call, struct db_conn *db, struct session_reply *r, const struct mfa_standing *st) MUST_CHECK;

/* The tenant asks for a second factor from now on: who has none is out, on every gateway. After people_lock. */
enum status mfa_demand(struct rpc_call *call, struct db_conn *db) MUST_CHECK;

/* One event in every tenant of the person. Leaves the transaction in one of them. */
enum status mfa_tell(struct rpc_call *call, struct db_conn *db, const char *type, const char *person) MUST_CHECK;

#endif
