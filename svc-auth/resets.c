/* Passwords chosen anew: by whom forgot theirs, at an administrator's wish, and by whom just wants another. */
#include "resets.h"

#include <openssl/crypto.h>

#include "auth.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "changes.h"
#include "common.h"
#include "names.h"
#include "people.h"
#include "pool.h"
#include "post.h"
#include "resource/engine.h"
#include "service/service.h"
#include "session.h"
#include "throttle.h"
#include "token.h"

#define RESET_LIFE "2 hours"
#define WELCOME_LIFE "7 days"
#define RETRY_MS 1000
#define FORGOT_PER_ACCOUNT 10
#define FORGOT_PER_ADDRESS 100
#define CHANGES_PER_ACCOUNT 10
#define TOKEN_TEXT "is used up, expired or was never given out"

static const char *life_of(const char *template)
{
	return strcmp(template, "welcome") == 0 ? WELCOME_LIFE : RESET_LIFE;
}

static enum status new_token(struct rpc_call *call, struct db_conn *db, const char *person_id, const char *template, const char **token, const char **expires)
{
	char hash[BYTEA_TEXT], *text = arena_alloc(&call->arena, REFRESH_TEXT);
	const char *params[] = { person_id, hash, life_of(template) };
	PGresult *res = NULL;
	enum status s;

	token_refresh_new(text);
	token_hash(str_of(text), hash);
	*token = text;
	s = db_exec(db, NULL, "DELETE FROM password_reset WHERE person_id = $1::uuid", 1, params);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "INSERT INTO password_reset (person_id, token_hash, expires_at) VALUES ($1::uuid, $2::bytea, now() + $3::interval)"
			    " RETURNING to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')",
			    3, params);
	if (s == STATUS_OK)
		*expires = col_text(call, res, 0, 0);
	PQclear(res);
	return s;
}

struct words {
	const char *email, *name, *company, *inviter;
};

/* The caller may be nobody (ForgotPassword): then no company and no inviter is named. */
static enum status read_words(struct rpc_call *call, struct db_conn *db, const char *person_id, struct words *w)
{
	const char *params[] = { person_id, param_str(call, call->who.tenant_id), param_str(call, call->who.user_id) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT p.email, coalesce(nullif(p.display, ''), p.email), (SELECT name FROM tenant WHERE id = $2::uuid),"
				" (SELECT coalesce(nullif(display, ''), email) FROM person WHERE id = $3::uuid) FROM person p WHERE p.id = $1::uuid",
				3, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*w = (struct words){ col_text(call, res, 0, 0), col_text(call, res, 0, 1), col_text(call, res, 0, 2), col_text(call, res, 0, 3) };
	PQclear(res);
	return s;
}

enum status reset_mail(struct rpc_call *call, struct db_conn *db, const char *person_id, const char *template)
{
	const char *token = NULL, *expires = NULL;
	struct words w;
	enum status s = read_words(call, db, person_id, &w);

	if (s == STATUS_OK)
		s = new_token(call, db, person_id, template, &token, &expires);
	if (s == STATUS_OK) {
		const struct post_value values[] = { { "name", w.name }, { "company", w.company }, { "inviter", w.inviter },
			{ "link", post_link(call, "reset-password", token) }, { "expires", expires } };

		s = post_add(call, db, w.email, template, values, sizeof(values) / sizeof(*values));
	}
	return s;
}

/* -- Users.ResetPassword */

/* The administrator never learns or chooses a password; sessions in this company end, so that a stolen one is of no use. */
static enum status demand(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key)
{
	struct person p;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = person_take(call, db, key, &p);
	if (s == STATUS_OK)
		s = sessions_end(db, p.id, param_str(call, call->who.tenant_id), NULL, "password reset");
	if (s == STATUS_OK)
		s = reset_mail(call, db, p.id, "password-reset");
	return s == STATUS_OK ? person_event(call, db, "auth.user.password_reset_requested", &p, false) : s;
}

void users_reset_password(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = demand(call, db, req->key);
	handler_end_once(call, db, s, NULL);
}

/* -- Auth.ForgotPassword */

struct forgotten {
	struct rpc_call *call;
	const char *email;
};

static enum status find_person(struct rpc_call *call, struct db_conn *db, const char *email, const char **id)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT id FROM person WHERE lower(email) = lower($1)", 1, &email);

	if (s == STATUS_OK && PQntuples(res))
		*id = col_text(call, res, 0, 0);
	PQclear(res);
	return s;
}

/* Whether there is such an account is not told: the answer is the same. */
static void forget(struct db_conn *db, void *arg)
{
	struct forgotten *f = arg;
	struct rpc_call *call = f->call;
	const char *id = NULL;
	enum status s = db_begin(db, (struct str){ "", 0 });

	log_context(call->traceparent, call->request_id, (struct str){ "", 0 });
	if (s == STATUS_OK)
		s = find_person(call, db, f->email, &id);
	if (s == STATUS_OK && id)
		s = reset_mail(call, db, id, "password-reset");
	handler_end(call, db, s, NULL);
}

static void on_forgot_counted(void *arg, uint32_t wait_ms)
{
	struct forgotten *f = arg;

	if (wait_ms)
		rpc_reply_retry(f->call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait_ms);
	else if (!db_work(service_db(), forget, f))
		rpc_reply_retry(f->call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

void auth_forgot_password(struct rpc_call *call)
{
	Crm__V1__ForgotPasswordRequest *req = handler_request(call, &crm__v1__forgot_password_request__descriptor);
	struct throttle_limit limits[2] = { { .limit = FORGOT_PER_ACCOUNT }, { STR("forgot"), FORGOT_PER_ADDRESS } };
	struct forgotten *f;

	if (!req)
		return;
	f = ARENA_NEW(&call->arena, struct forgotten);
	*f = (struct forgotten){ call, email_normalise(&call->arena, str_of(req->email)) };
	if (!f->email) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "email", "email", "must be a valid e-mail address");
		return;
	}
	limits[0].what = str_of(arena_printf(&call->arena, "forgot:%s", f->email));
	throttle_ask_apart(call->client_ip, limits, on_forgot_counted, f);
}

/* -- a new password, by token or by the old one */

struct renewal {
	struct rpc_call *call;
	const char *token, *current, *old_hash, *person_id;
	struct hashing hashing;
};

static enum status tell_all(struct renewal *r, struct db_conn *db, const char *but)
{
	struct member *rows;
	struct words w;
	size_t n;
	enum status s = sessions_end(db, r->person_id, NULL, but, "password changed");

	if (s == STATUS_OK && !but)
		s = change_note(r->call, db, "user", r->person_id, clock_us(), false);
	if (s == STATUS_OK)
		s = member_all(r->call, db, r->person_id, &rows, &n);
	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		struct entity_event e = { .type = "auth.user.password_changed", .entity = "user", .entity_id = r->person_id, .tenant_id = rows[i].tenant_id,
			.user_id = r->person_id, .entity_seq = rows[i].user_seq };

		if (rows[i].deleted)
			continue;
		s = handler_tenant(db, rows[i].tenant_id);
		if (s == STATUS_OK)
			s = handler_event(r->call, db, &e);
	}
	if (s == STATUS_OK)
		s = read_words(r->call, db, r->person_id, &w);
	if (s == STATUS_OK) {
		const struct post_value values[] = { { "name", w.name }, { "link", post_link(r->call, "forgot-password", "") } };

		s = post_add(r->call, db, w.email, "password-changed", values, 2);
	}
	return s;
}

static enum status store(struct renewal *r, struct db_conn *db)
{
	const char *params[] = { r->person_id, r->hashing.hash, r->old_hash };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"INSERT INTO credential (person_id, password_hash) VALUES ($1::uuid, $2) ON CONFLICT (person_id) DO UPDATE"
				" SET password_hash = excluded.password_hash, changed_at = now() WHERE $3::text IS NULL OR credential.password_hash = $3"
				" RETURNING person_id",
				3, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	PQclear(res);
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "DELETE FROM password_reset WHERE person_id = $1::uuid", 1, params);
	return s;
}

/* Uses the token up; it also proves that the mail address is theirs. */
static enum status redeem(struct renewal *r, struct db_conn *db)
{
	char hash[BYTEA_TEXT];
	const char *param = hash;
	PGresult *res = NULL;
	enum status s;

	token_hash(str_of(r->token), hash);
	s = db_exec(db, &res, "DELETE FROM password_reset WHERE token_hash = $1::bytea AND expires_at > now() RETURNING person_id", 1, &param);
	if (s == STATUS_OK && PQntuples(res) == 0) {
		rpc_violate(r->call, "token", "exists", TOKEN_TEXT, NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_OK)
		r->person_id = col_text(r->call, res, 0, 0);
	PQclear(res);
	return s;
}

/* True: it was answered. */
static bool refuse_password(struct rpc_call *call, const char *password)
{
	if (password_acceptable(call, "password", password))
		return false;
	rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
	return true;
}

static void renew(struct db_conn *db, void *arg)
{
	struct renewal *r = arg;
	struct rpc_call *call = r->call;
	enum status s = db_begin(db, (struct str){ "", 0 });

	log_context(call->traceparent, call->request_id, (struct str){ "", 0 });
	if (s == STATUS_OK && r->token)
		s = redeem(r, db);
	if (s == STATUS_OK)
		s = store(r, db);
	if (s == STATUS_OK)
		s = tell_all(r, db, r->token || !call->who.session_id.n ? NULL : param_str(call, call->who.session_id));
	handler_end(call, db, s, NULL);
}

/* Who has no token has no business hashing; redeem asks again when the token is used up. */
static enum status token_known(struct db_conn *db, struct renewal *r)
{
	char hash[BYTEA_TEXT];
	const char *param = hash;
	PGresult *res = NULL;
	enum status s = db_begin(db, (struct str){ "", 0 });

	token_hash(str_of(r->token), hash);
	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT FROM password_reset WHERE token_hash = $1::bytea AND expires_at > now()", 1, &param);
	if (s == STATUS_OK && PQntuples(res) == 0) {
		rpc_violate(r->call, "token", "exists", TOKEN_TEXT, NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	PQclear(res);
	return s == STATUS_OK ? db_commit(db) : s;
}

void auth_reset_password(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ResetPasswordRequest *req = handler_request(call, &crm__v1__reset_password_request__descriptor);
	struct renewal *r;
	enum status s;

	if (!req || refuse_password(call, req->password))
		return;
	r = ARENA_NEW(&call->arena, struct renewal);
	*r = (struct renewal){ .call = call, .token = req->token };
	r->hashing = (struct hashing){ .call = call, .password = req->password, .then = renew, .arg = r };
	s = token_known(db, r);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		hashing_start(&r->hashing);
}

/* -- Auth.ChangePassword */

static void check_current(void *arg)
{
	struct renewal *r = arg;
	struct rpc_call *call = r->call;

	log_context(call->traceparent, call->request_id, (struct str){ "", 0 });
	if (!password_verify(r->old_hash, str_of(r->current))) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "current", "match", "is not your password");
		return;
	}
	if (!password_hash(str_of(r->hashing.password), r->hashing.hash) || !db_work(service_db(), renew, r))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

void auth_change_password(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ChangePasswordRequest *req = handler_request(call, &crm__v1__change_password_request__descriptor);
	struct renewal *r;
	PGresult *res = NULL;
	uint32_t wait;
	enum status s;

	if (!req)
		return;
	if (call->who.api_key_id.n) { /* a key acts for a person but is not that person */
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
		return;
	}
	if (refuse_password(call, req->password))
		return;
	r = ARENA_NEW(&call->arena, struct renewal);
	*r = (struct renewal){ .call = call, .current = req->current, .person_id = param_str(call, call->who.user_id) };
	r->hashing.password = req->password;
	wait = throttle_take_apart(call->client_ip, str_of(arena_printf(&call->arena, "change:%s", r->person_id)), CHANGES_PER_ACCOUNT, clock_us());
	if (wait) {
		rpc_reply_retry(call, STATUS_RATE_LIMIT_EXCEEDED, NULL, wait);
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT password_hash FROM credential WHERE person_id = $1::uuid", 1, &r->person_id);
	if (s == STATUS_OK && PQntuples(res) && password_is_hash(PQgetvalue(res, 0, 0)))
		r->old_hash = col_text(call, res, 0, 0);
	PQclear(res);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else if (!pool_submit(check_current, r))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}
