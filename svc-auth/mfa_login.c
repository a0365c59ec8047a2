/* The second half of a login: the challenge is answered with a code, or used to set a second factor up. */
#include "auth.h"

#include "base/codec.h"
#include "mfa.h"
#include "resource/engine.h"
#include "token.h"

#define NO_CHALLENGE "The challenge has expired, was used up or was never given out: log in again"
#define NO_ENROLMENT "Ask for a secret first, with the same challenge"

struct answering {
	const char *person, *tenant;
	char hash[BYTEA_TEXT];
	bool remember_me;
};

/* Locked, so that parallel answers are counted one by one. AUTH_FAILED: there is none. */
static enum status challenge_take(struct rpc_call *call, struct db_conn *db, const char *token, const char *purpose, struct answering *a)
{
	const char *params[] = { a->hash, purpose };
	PGresult *res = NULL;
	enum status s = db_begin(db, (struct str){ "", 0 });

	token_hash(str_of(token), a->hash);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "SELECT person_id, tenant_id, remember_me FROM mfa_challenge WHERE token_hash = $1::bytea AND purpose = $2 AND expires_at > now()"
			    " FOR UPDATE",
			    2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_AUTH_FAILED;
	if (s == STATUS_OK) {
		a->person = col_text(call, res, 0, 0);
		a->tenant = col_text(call, res, 0, 1);
		a->remember_me = *PQgetvalue(res, 0, 2) == 't';
	}
	PQclear(res);
	return s;
}

static enum status challenge_end(struct db_conn *db, const struct answering *a)
{
	const char *hash = a->hash;

	return db_exec(db, NULL, "DELETE FROM mfa_challenge WHERE token_hash = $1::bytea", 1, &hash);
}

/* One event in the challenge's tenant. */
static enum status note(struct rpc_call *call, struct db_conn *db, const struct answering *a, const struct member *m, const char *type)
{
	struct entity_event e = { .type = type, .entity = "user", .entity_id = a->person, .tenant_id = a->tenant, .user_id = a->person, .entity_seq = m->user_seq };

	return handler_event(call, db, &e);
}

/* The wrong code is counted even when the call's answer is all that comes of it. */
static void wrong(struct rpc_call *call, struct db_conn *db, const struct answering *a)
{
	const char *params[] = { a->hash, param_i64(call, MFA_TRIES) };
	struct member m;
	enum status s = db_exec(db, NULL, "UPDATE mfa_challenge SET tries = tries + 1 WHERE token_hash = $1::bytea", 1, params);

	if (s == STATUS_OK)
		s = db_exec(db, NULL, "DELETE FROM mfa_challenge WHERE token_hash = $1::bytea AND tries >= $2::integer", 2, params);
	if (s == STATUS_OK)
		s = member_in(call, db, a->person, a->tenant, &m);
	if (s == STATUS_OK)
		s = handler_tenant(db, a->tenant);
	if (s == STATUS_OK)
		s = note(call, db, a, &m, "auth.user.login_failed");
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	if (s == STATUS_OK)
		rpc_reply_error(call, STATUS_AUTH_FAILED, MFA_WRONG);
	else
		handler_refuse(call, db, s == STATUS_NOT_FOUND ? STATUS_AUTH_FAILED : s, NULL);
}

/* False: answered. OK: the challenge is there, locked, and the try is counted. */
static bool begin(struct rpc_call *call, struct db_conn *db, const char *token, const char *purpose, struct answering *a)
{
	enum status s = challenge_take(call, db, token, purpose, a);
	uint32_t wait;

	if (s != STATUS_OK) {
		handler_refuse(call, db, s, s == STATUS_AUTH_FAILED ? NO_CHALLENGE : NULL);
		return false;
	}
	wait = mfa_try(call, a->person);
	if (wait) {
		db_rollback(db);
		rpc_reply_retry(call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait);
	}
	return !wait;
}

static enum status enter(struct rpc_call *call, struct db_conn *db, const struct answering *a, struct session_reply *r)
{
	enum status s = challenge_end(db, a);

	if (s == STATUS_OK)
		s = member_in(call, db, a->person, a->tenant, &r->member);
	if (s == STATUS_OK)
		s = handler_tenant(db, a->tenant);
	if (s == STATUS_OK)
		s = session_open(call, db, r);
	if (s == STATUS_OK)
		s = user_read(call, db, a->person, &r->member.perms, &r->user);
	if (s == STATUS_OK)
		s = note(call, db, a, &r->member, "auth.user.logged_in");
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	return s == STATUS_NOT_FOUND ? STATUS_AUTH_FAILED : s;
}

void auth_login_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__LoginMfaRequest *req = handler_request(call, &crm__v1__login_mfa_request__descriptor);
	struct session_reply r = { .proven = true };
	struct answering a;
	enum status s;

	if (!req || !begin(call, db, req->challenge, "login", &a))
		return;
	s = mfa_verify(call, db, a.person, req->code);
	if (s == STATUS_AUTH_FAILED) {
		wrong(call, db, &a);
		return;
	}
	r.policy = policy_of(req->policy, a.remember_me);
	if (s == STATUS_OK)
		s = enter(call, db, &a, &r);
	mfa_try_back(call, a.person);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		session_answer(call, &r);
}

void auth_login_enrol_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__LoginEnrolMfaRequest *req = handler_request(call, &crm__v1__login_enrol_mfa_request__descriptor);
	Crm__V1__MfaEnrolment out;
	struct answering a;
	enum status s;

	if (!req)
		return;
	s = challenge_take(call, db, req->challenge, "enrol", &a);
	if (s == STATUS_AUTH_FAILED) {
		handler_refuse(call, db, s, NO_CHALLENGE);
		return;
	}
	if (s == STATUS_OK)
		s = mfa_enrol(call, db, a.person, &out);
	handler_end(call, db, s, &out);
}

void auth_login_confirm_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__LoginConfirmMfaRequest *req = handler_request(call, &crm__v1__login_confirm_mfa_request__descriptor);
	struct answering a;
	Crm__V1__Mfa out;
	enum status s;

	if (!req || !begin(call, db, req->challenge, "enrol", &a))
		return;
	s = mfa_confirm(call, db, a.person, req->code, NULL, &out);
	if (s == STATUS_AUTH_FAILED) {
		wrong(call, db, &a);
		return;
	}
	if (s == STATUS_OK)
		s = challenge_end(db, &a);
	mfa_try_back(call, a.person);
	if (s == STATUS_CONFLICT)
		handler_refuse(call, db, s, NO_ENROLMENT);
	else
		handler_end(call, db, s, &out);
}
