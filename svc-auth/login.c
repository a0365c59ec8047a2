/* Login: throttle on the loop, look up on a worker, verify on the hashing pool, open the session on a worker. */
#include "auth.h"

#include "base/clock.h"
#include "base/log.h"
#include "names.h"
#include "password.h"
#include "pool.h"
#include "resource/engine.h"
#include "service/service.h"
#include "session.h"
#include "throttle.h"

#define RETRY_MS 1000

struct login {
	struct rpc_call *call;
	Crm__V1__LoginRequest *req;
	struct str email;
	const char *user_id, *hash; /* NULL: no such account */
	bool verified;
	char *fresh;                /* a hash with today's parameters, when the stored one is stale */
	uint32_t wait_ms;           /* refused unread: until it is worth trying again */
};

static void give_back(struct login *l)
{
	throttle_give_back(l->call->client_ip, l->email, clock_us());
}

/* We never got to look at the password, so the attempt does not count. */
static void refuse(struct login *l, enum status s)
{
	give_back(l);
	rpc_reply_retry(l->call, s, NULL, s == STATUS_UNAVAILABLE ? RETRY_MS : 0);
}

/* "auth.user.login_failed", or "auth.user.locked" */
static enum status note_failure(struct login *l, struct db_conn *db, const char *type)
{
	struct member *rows;
	size_t n;
	enum status s = db_begin(db, (struct str){ "", 0 });

	/* An unknown account takes the same way as far as there is something to do, so that time tells nothing. */
	if (s == STATUS_OK)
		s = member_all(l->call, db, l->user_id ? l->user_id : "00000000-0000-0000-0000-000000000000", &rows, &n);
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "SET LOCAL synchronous_commit = off", 0, NULL);
	if (s == STATUS_OK && n) {
		struct entity_event e = { .type = type, .entity = "user", .entity_id = l->user_id, .tenant_id = rows[0].tenant_id,
			.user_id = l->user_id, .entity_seq = rows[0].user_seq };

		s = handler_tenant(db, rows[0].tenant_id);
		if (s == STATUS_OK)
			s = handler_event(l->call, db, &e);
	}
	if (s == STATUS_OK)
		return resource_commit(db, l->call);
	db_rollback(db);
	return s;
}

static void fail(struct login *l, struct db_conn *db)
{
	if (note_failure(l, db, "auth.user.login_failed") != STATUS_OK)
		log_warn("AUTH-LOGIN-NOTE", "a failed login could not be recorded");
	rpc_reply_error(l->call, STATUS_AUTH_FAILED, NULL);
}

static enum status enter(struct login *l, struct db_conn *db, struct session_reply *r)
{
	struct rpc_call *call = l->call;
	struct entity_event e = { .type = "auth.user.logged_in", .entity = "user", .entity_id = l->user_id, .user_id = l->user_id };
	enum status s = handler_tenant(db, r->member.tenant_id);

	if (s == STATUS_OK && l->fresh) {
		const char *params[] = { l->user_id, l->fresh, l->hash };

		s = db_exec(db, NULL, "UPDATE credential SET password_hash = $2 WHERE person_id = $1::uuid AND password_hash = $3", 3, params);
	}
	if (s == STATUS_OK)
		s = session_open(call, db, r);
	if (s == STATUS_OK)
		s = user_read(call, db, l->user_id, &r->member.perms, &r->user);
	e.tenant_id = r->member.tenant_id;
	e.entity_seq = r->member.user_seq;
	if (s == STATUS_OK && !r->challenge)
		s = handler_event(call, db, &e);
	return s;
}

static void finish(struct db_conn *db, void *arg)
{
	struct login *l = arg;
	struct session_reply r = { 0 };
	enum status s;

	log_context(l->call->traceparent, l->call->request_id, (struct str){ "", 0 });
	if (!l->verified) {
		fail(l, db);
		return;
	}
	r.policy = policy_of(l->req->policy, l->req->has_remember_me && l->req->remember_me);
	s = db_begin(db, (struct str){ "", 0 });
	if (s == STATUS_OK)
		s = member_find(l->call, db, l->user_id, l->req->tenant, &r.member);
	if (s == STATUS_NOT_FOUND) { /* inactive everywhere it matters: nothing is told apart from a wrong password */
		db_rollback(db);
		fail(l, db);
		return;
	}
	if (s == STATUS_OK)
		s = enter(l, db, &r);
	if (s == STATUS_OK)
		s = resource_commit(db, l->call);
	give_back(l);
	if (s != STATUS_OK)
		handler_fail(l->call, db, s);
	else
		session_answer(l->call, &r);
}

static void verify(void *arg)
{
	struct login *l = arg;
	struct str password = str_of(l->req->password);

	log_context(l->call->traceparent, l->call->request_id, (struct str){ "", 0 });
	if (l->call->deadline_us && clock_us() > l->call->deadline_us) {
		refuse(l, STATUS_DEADLINE_EXCEEDED);
		return;
	}
	l->verified = password_verify(l->hash, password);
	if (l->verified && password_is_stale(l->hash)) {
		l->fresh = arena_alloc(&l->call->arena, PASSWORD_HASH_MAX);
		if (!password_hash(password, l->fresh))
			l->fresh = NULL;
	}
	if (!db_work(service_db(), finish, l))
		refuse(l, STATUS_UNAVAILABLE);
}

static enum status look_up(struct login *l, struct db_conn *db)
{
	const char *email = arena_strdup(&l->call->arena, l->email);
	PGresult *res = NULL;
	enum status s = db_begin(db, (struct str){ "", 0 });

	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "SELECT p.id, c.password_hash FROM person p JOIN credential c ON c.person_id = p.id WHERE lower(p.email) = lower($1)",
			    1, &email);
	if (s == STATUS_OK && PQntuples(res)) {
		l->user_id = col_text(l->call, res, 0, 0);
		l->hash = password_is_hash(PQgetvalue(res, 0, 1)) ? col_text(l->call, res, 0, 1) : NULL;
	}
	PQclear(res);
	if (s == STATUS_OK)
		return db_commit(db);
	db_rollback(db);
	return s;
}

static void find(struct db_conn *db, void *arg)
{
	struct login *l = arg;
	enum status s;

	log_context(l->call->traceparent, l->call->request_id, (struct str){ "", 0 });
	s = look_up(l, db);
	if (s != STATUS_OK)
		refuse(l, s);
	else if (!pool_submit(verify, l))
		refuse(l, STATUS_UNAVAILABLE);
}

/* The guessing limit was reached: noted once in its window, whatever goes on. */
static void lock_out(struct db_conn *db, void *arg)
{
	struct login *l = arg;
	const char *what = arena_printf(&l->call->arena, "lockout %.*s", STR_FMT(l->email));

	log_context(l->call->traceparent, l->call->request_id, (struct str){ "", 0 });
	if (throttle_take_apart(l->call->client_ip, str_of(what), 1, clock_us()) == 0 &&
	    (look_up(l, db) != STATUS_OK || note_failure(l, db, "auth.user.locked") != STATUS_OK))
		log_warn("AUTH-LOCK-NOTE", "a lockout could not be recorded");
	rpc_reply_retry(l->call, STATUS_RATE_LIMIT_EXCEEDED, NULL, l->wait_ms);
}

static void on_counted(void *arg, uint32_t wait_ms)
{
	struct login *l = arg;

	l->wait_ms = wait_ms;
	if (db_work(service_db(), wait_ms ? lock_out : find, l))
		return;
	if (wait_ms)
		rpc_reply_retry(l->call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait_ms);
	else
		refuse(l, STATUS_UNAVAILABLE);
}

void auth_login(struct rpc_call *call)
{
	Crm__V1__LoginRequest *req = handler_request(call, &crm__v1__login_request__descriptor);
	struct login *l;
	const char *email;

	if (!req)
		return;
	if (!req->email || !req->password) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	l = ARENA_NEW(&call->arena, struct login);
	email = email_normalise(&call->arena, str_of(req->email));
	*l = (struct login){ .call = call, .req = req, .email = str_of(email ? email : req->email) };
	throttle_ask(call->client_ip, l->email, on_counted, l);
}
