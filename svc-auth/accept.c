/* Invitations.Accept: the token of the mail becomes a membership and a session. */
#include "auth.h"

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "common.h"
#include "names.h"
#include "password.h"
#include "people.h"
#include "pool.h"
#include "resource/engine.h"
#include "service/service.h"
#include "session.h"
#include "throttle.h"
#include "token.h"

#define RETRY_MS 1000
#define TRIES 10 /* of the password, per address and invitation */

struct accepting {
	struct rpc_call *call;
	const Crm__V1__AcceptRequest *req;
	char token[BYTEA_TEXT];
	const char *invitation_id, *tenant_id, *email, *display, *role;
	const char *user_id, *old_hash; /* user_id NULL: nobody has this address yet; old_hash NULL: no password yet */
	char fresh_id[UUID_TEXT + 1], hash[PASSWORD_HASH_MAX];
};

static enum status read_invitation(struct accepting *a, struct db_conn *db)
{
	const char *token = a->token;
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT id, tenant_id, email, display, role FROM invitation_by_hash($1::bytea)", 1, &token);

	if (s == STATUS_OK && PQntuples(res) == 0) {
		rpc_violate(a->call, "token", "exists", "is used up, expired or was never given out", NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_OK) {
		a->invitation_id = col_text(a->call, res, 0, 0);
		a->tenant_id = col_text(a->call, res, 0, 1);
		a->email = col_text(a->call, res, 0, 2);
		a->display = col_text(a->call, res, 0, 3);
		a->role = col_text(a->call, res, 0, 4);
	}
	PQclear(res);
	return s;
}

static enum status read_person(struct accepting *a, struct db_conn *db)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT p.id, c.password_hash FROM person p LEFT JOIN credential c ON c.person_id = p.id WHERE lower(p.email) = lower($1)", 1,
				&a->email);

	if (s == STATUS_OK && PQntuples(res)) {
		a->user_id = col_text(a->call, res, 0, 0);
		if (password_is_hash(PQgetvalue(res, 0, 1)))
			a->old_hash = col_text(a->call, res, 0, 1);
	}
	PQclear(res);
	return s;
}

/* -- the last step */

static enum status write_person(struct accepting *a, struct db_conn *db)
{
	struct names names = { a->req->display && *a->req->display ? a->req->display : a->display, NULL, NULL };
	const char *params[6];
	enum status s = STATUS_OK;

	if (!a->user_id) {
		names_complete(&a->call->arena, &names);
		a->user_id = a->fresh_id;
		params[0] = a->user_id;
		params[1] = a->email;
		params[2] = names.display;
		params[3] = names.given;
		params[4] = names.family;
		s = db_exec(db, NULL,
			    "INSERT INTO person (id, email, display, given, family) VALUES ($1::uuid, $2, nullif($3, ''), nullif($4, ''), nullif($5, ''))", 5,
			    params);
	}
	params[0] = a->user_id;
	params[1] = a->hash;
	if (s == STATUS_OK && *a->hash)
		s = db_exec(db, NULL,
			    "INSERT INTO credential (person_id, password_hash) VALUES ($1::uuid, $2)"
			    " ON CONFLICT (person_id) DO UPDATE SET password_hash = excluded.password_hash, changed_at = now()",
			    2, params);
	return s;
}

static enum status write_member(struct accepting *a, struct db_conn *db)
{
	int64_t seq = 0;
	enum status s = handler_seq(a->call, db, a->tenant_id, "user", &seq);

	if (s == STATUS_OK) {
		const char *params[] = { a->tenant_id, a->user_id, param_i64(a->call, seq), a->role };

		s = db_exec(db, NULL,
			    "INSERT INTO membership (tenant_id, user_id, seq, role) VALUES ($1::uuid, $2::uuid, $3::bigint, $4)"
			    " ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role, status = 'active', granted = '{}', denied = '{}', row_scopes = '{}',"
			    " deleted_at = NULL, version = membership.version + 1, updated_at = now() WHERE membership.status = 'deleted'",
			    4, params);
	}
	return s;
}

/* Of two that accept at once one finds the invitation pending. */
static enum status use_up(struct accepting *a, struct db_conn *db)
{
	const char *params[] = { a->invitation_id, a->token };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"UPDATE invitation SET status = 'accepted', version = version + 1, updated_at = now()"
				" WHERE id = $1::uuid AND token_hash = $2::bytea AND status = 'pending' AND expires_at > now() RETURNING id",
				2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	PQclear(res);
	return s;
}

static enum status note(struct accepting *a, struct db_conn *db, const struct session_reply *r)
{
	struct entity_event e = { .type = "auth.invitation.accepted", .entity = "user", .entity_id = a->user_id, .tenant_id = a->tenant_id, .user_id = a->user_id,
		.entity_seq = r->member.user_seq, .version = r->user->version };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT to_jsonb(v) FROM user_view v WHERE id = $1::uuid", 1, &a->user_id);

	if (s == STATUS_OK && PQntuples(res)) {
		e.after = col_text(a->call, res, 0, 0);
		s = handler_event(a->call, db, &e);
	}
	PQclear(res);
	return s;
}

/* Acts as the new member of the tenant: the change that lifts an old deactivation is theirs. */
static enum status join(struct accepting *a, struct db_conn *db, struct session_reply *r)
{
	enum status s = db_begin(db, str_of(a->tenant_id));

	a->call->who.tenant_id = str_of(a->tenant_id);
	if (s == STATUS_OK)
		s = people_lock(a->call, db);
	if (s == STATUS_OK)
		s = use_up(a, db);
	if (s == STATUS_OK)
		s = write_person(a, db);
	if (s == STATUS_OK)
		s = write_member(a, db);
	if (s == STATUS_OK)
		s = people_announce(a->call, db, a->user_id, NULL);
	if (s == STATUS_OK)
		s = member_in(a->call, db, a->user_id, a->tenant_id, &r->member);
	if (s == STATUS_OK)
		s = session_open(a->call, db, r);
	if (s == STATUS_OK)
		s = user_read(a->call, db, a->user_id, &r->member.perms, &r->user);
	if (s == STATUS_OK)
		s = note(a, db, r);
	return s == STATUS_OK ? resource_commit(db, a->call) : s;
}

static void finish(struct db_conn *db, void *arg)
{
	struct accepting *a = arg;
	struct session_reply r = { .policy = policy_of(a->req->policy, false) };
	enum status s;

	log_context(a->call->traceparent, a->call->request_id, str_of(a->tenant_id));
	s = join(a, db, &r);
	if (s != STATUS_OK)
		handler_fail(a->call, db, s);
	else
		session_answer(a->call, &r);
}

/* Whoever has an account already shows that it is theirs; the mail alone must not be a way around their password. */
static void check(void *arg)
{
	struct accepting *a = arg;
	struct rpc_call *call = a->call;
	struct str password = str_of(a->req->password);

	log_context(call->traceparent, call->request_id, (struct str){ "", 0 });
	if (a->old_hash && !password_verify(a->old_hash, password)) {
		rpc_reply_error(call, STATUS_AUTH_FAILED, NULL);
		return;
	}
	if ((!a->old_hash && !password_hash(password, a->hash)) || !db_work(service_db(), finish, a))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

void invitations_accept(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__AcceptRequest *req = handler_request(call, &crm__v1__accept_request__descriptor);
	struct accepting *a;
	uint32_t wait;
	enum status s;

	if (!req)
		return;
	a = ARENA_NEW(&call->arena, struct accepting);
	*a = (struct accepting){ .call = call, .req = req };
	token_hash(str_of(req->token), a->token);
	uuid7(a->fresh_id);
	s = db_begin(db, (struct str){ "", 0 });
	if (s == STATUS_OK)
		s = read_invitation(a, db);
	if (s == STATUS_OK)
		s = read_person(a, db);
	if (s == STATUS_OK && !a->old_hash && !password_acceptable(call, "password", req->password))
		s = STATUS_VALIDATION_ERROR;
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK) {
		handler_fail(call, db, s);
		return;
	}
	wait = throttle_take_apart(call->client_ip, str_of(a->invitation_id), TRIES, clock_us());
	if (wait)
		rpc_reply_retry(call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait);
	else if (!pool_submit(check, a))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}
