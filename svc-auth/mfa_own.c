/* The caller's own second factor, and an administrator who takes a lost one away. */
#include "auth.h"

#include "base/log.h"
#include "mfa.h"
#include "password.h"
#include "people.h"
#include "pool.h"
#include "resource/engine.h"
#include "service/service.h"

#define RETRY_MS 1000
#define THERE_IS_ONE "A second factor is set up already: disable it first"
#define NOTHING_ASKED "Ask for a secret first"
#define IS_DEMANDED "%s asks its members for a second factor"

/* What is done when it is proven who asks: by the password, or by a code. */
struct proof {
	struct rpc_call *call;
	const char *person, *password, *hash, *code;
	void (*act)(struct proof *p, struct db_conn *db); /* answers; the transaction is begun */
};

/* A key acts for a person but is not that person. */
static bool refuse_key(struct rpc_call *call)
{
	if (call->who.api_key_id.n)
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
	return call->who.api_key_id.n > 0;
}

static void proven(struct db_conn *db, void *arg)
{
	struct proof *p = arg;
	enum status s = db_begin(db, p->call->who.tenant_id);

	log_context(p->call->traceparent, p->call->request_id, (struct str){ "", 0 });
	if (s == STATUS_OK && !p->password)
		s = mfa_verify(p->call, db, p->person, p->code);
	if (s == STATUS_AUTH_FAILED) {
		handler_violation(p->call, db, STATUS_VALIDATION_ERROR, "code", "match", "is wrong or was used already");
		return;
	}
	mfa_try_back(p->call, p->person);
	if (s != STATUS_OK)
		handler_fail(p->call, db, s);
	else
		p->act(p, db);
}

/* The proof was never looked at, so the try does not count. */
static void too_busy(struct proof *p)
{
	mfa_try_back(p->call, p->person);
	rpc_reply_retry(p->call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

static void check_password(void *arg)
{
	struct proof *p = arg;

	log_context(p->call->traceparent, p->call->request_id, (struct str){ "", 0 });
	if (!password_verify(p->hash, str_of(p->password)))
		handler_violation(p->call, NULL, STATUS_VALIDATION_ERROR, "password", "match", "is not your password");
	else if (!db_work(service_db(), proven, p))
		too_busy(p);
}

static enum status read_hash(struct proof *p, struct db_conn *db)
{
	PGresult *res = NULL;
	enum status s = db_begin(db, p->call->who.tenant_id);

	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT password_hash FROM credential WHERE person_id = $1::uuid", 1, &p->person);
	if (s == STATUS_OK && PQntuples(res) && password_is_hash(PQgetvalue(res, 0, 0)))
		p->hash = col_text(p->call, res, 0, 0);
	PQclear(res);
	return s == STATUS_OK ? db_commit(db) : s;
}

/* Wrong passwords and wrong codes count together. */
static void prove(struct rpc_call *call, struct db_conn *db, const char *password, const char *code, void (*act)(struct proof *p, struct db_conn *db))
{
	struct proof *p = ARENA_NEW(&call->arena, struct proof);
	uint32_t wait;
	enum status s;

	*p = (struct proof){ .call = call, .person = param_str(call, call->who.user_id), .password = password, .code = code, .act = act };
	if (!password && !code) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "password", "required", "or a code is required");
		return;
	}
	wait = mfa_try(call, p->person);
	if (wait) {
		rpc_reply_retry(call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait);
	} else if (!password) {
		proven(db, p);
	} else {
		s = read_hash(p, db);
		if (s != STATUS_OK)
			handler_fail(call, db, s);
		else if (!pool_submit(check_password, p))
			too_busy(p);
	}
}

void auth_get_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__Mfa out;
	enum status s;

	if (refuse_key(call))
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = mfa_show(call, db, param_str(call, call->who.user_id), &out);
	handler_end(call, db, s, &out);
}

static void enrol(struct proof *p, struct db_conn *db)
{
	Crm__V1__MfaEnrolment out;
	enum status s = mfa_enrol(p->call, db, p->person, &out);

	if (s == STATUS_CONFLICT)
		handler_refuse(p->call, db, s, THERE_IS_ONE);
	else
		handler_end(p->call, db, s, &out);
}

void auth_enrol_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__EnrolMfaRequest *req = handler_request(call, &crm__v1__enrol_mfa_request__descriptor);

	if (req && !refuse_key(call))
		prove(call, db, req->password, NULL, enrol);
}

void auth_confirm_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ConfirmMfaRequest *req = handler_request(call, &crm__v1__confirm_mfa_request__descriptor);
	const char *person = param_str(call, call->who.user_id);
	Crm__V1__Mfa out;
	uint32_t wait;
	enum status s;

	if (!req || refuse_key(call))
		return;
	wait = mfa_try(call, person);
	if (wait) {
		rpc_reply_retry(call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait);
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = mfa_confirm(call, db, person, req->code, param_str(call, call->who.session_id), &out);
	if (s == STATUS_AUTH_FAILED) {
		handler_violation(call, db, STATUS_VALIDATION_ERROR, "code", "match", "is wrong or was used already");
		return;
	}
	mfa_try_back(call, person);
	if (s == STATUS_CONFLICT)
		handler_refuse(call, db, s, NOTHING_ASKED);
	else
		handler_end(call, db, s, &out);
}

static void disable(struct proof *p, struct db_conn *db)
{
	Crm__V1__Mfa now;
	enum status s = mfa_show(p->call, db, p->person, &now);

	if (s == STATUS_OK && now.n_required_by) {
		handler_refuse(p->call, db, STATUS_CONFLICT, arena_printf(&p->call->arena, IS_DEMANDED, now.required_by[0]));
		return;
	}
	if (s == STATUS_OK)
		s = mfa_remove(p->call, db, p->person);
	handler_end(p->call, db, s, NULL);
}

void auth_disable_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__MfaProofRequest *req = handler_request(call, &crm__v1__mfa_proof_request__descriptor);

	if (req && !refuse_key(call))
		prove(call, db, req->password, req->code, disable);
}

static void renew(struct proof *p, struct db_conn *db)
{
	Crm__V1__Mfa out;
	enum status s = mfa_show(p->call, db, p->person, &out);

	if (s == STATUS_OK && !out.enabled) {
		handler_refuse(p->call, db, STATUS_CONFLICT, NOTHING_ASKED);
		return;
	}
	if (s == STATUS_OK)
		s = mfa_recovery_new(p->call, db, p->person, &out);
	if (s == STATUS_OK)
		s = mfa_tell(p->call, db, "auth.mfa.recovery_renewed", p->person);
	handler_end(p->call, db, s, &out);
}

void auth_renew_recovery_codes(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__MfaProofRequest *req = handler_request(call, &crm__v1__mfa_proof_request__descriptor);

	if (req && !refuse_key(call))
		prove(call, db, req->password, req->code, renew);
}

/* Who lost phone and codes asks an administrator. Not for oneself: that would be a way around the proof. */
static enum status take_away(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, const char **why)
{
	struct mfa_standing st;
	struct person p;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = person_take(call, db, key, &p);
	if (s == STATUS_OK)
		s = mfa_standing(db, p.id, param_str(call, call->who.tenant_id), &st);
	if (s != STATUS_OK)
		return s;
	if (str_eq(str_of(p.id), call->who.user_id)) {
		*why = "Your own second factor you disable with your password or a code";
		return STATUS_PERMISSION_DENIED;
	}
	if (p.elsewhere) {
		*why = "They belong to several companies: only they can disable their second factor";
		return STATUS_PERMISSION_DENIED;
	}
	s = st.enabled ? mfa_remove(call, db, p.id) : STATUS_NOT_FOUND;
	return s == STATUS_OK ? sessions_end(db, p.id, NULL, NULL, "second factor taken away") : s;
}

void users_disable_mfa(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	const char *why = NULL;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = take_away(call, db, req->key, &why);
	if (why)
		handler_refuse(call, db, s, why);
	else
		handler_end(call, db, s, NULL);
}
