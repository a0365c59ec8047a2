/* Register: a person, their tenant and their first session. Hashes on the pool, writes on a worker. */
#include "auth.h"

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "common.h"
#include "names.h"
#include "password.h"
#include "pool.h"
#include "resource/engine.h"
#include "service/service.h"
#include "session.h"

#define RETRY_MS 1000
#define FIRST_ROLE "admin"

struct registration {
	struct rpc_call *call;
	Crm__V1__RegisterRequest *req;
	const char *email;
	char user_id[UUID_TEXT + 1], tenant_id[UUID_TEXT + 1];
	char hash[PASSWORD_HASH_MAX];
};

/* NOT_FOUND is never meant here; DUPLICATE: somebody has this e-mail. */
static enum status add_person(struct registration *g, struct db_conn *db)
{
	struct names names = { g->req->display, g->req->given, g->req->family };
	PGresult *res = NULL;
	enum status s;
	const char *params[6];

	names_complete(&g->call->arena, &names);
	params[0] = g->user_id;
	params[1] = g->email;
	params[2] = names.display;
	params[3] = names.given;
	params[4] = names.family;
	params[5] = g->hash;
	s = db_exec(db, &res,
		    "WITH p AS (INSERT INTO person (id, email, display, given, family)"
		    " VALUES ($1::uuid, $2, nullif($3, ''), nullif($4, ''), nullif($5, '')) ON CONFLICT ((lower(email))) DO NOTHING RETURNING id)"
		    " INSERT INTO credential (person_id, password_hash) SELECT id, $6 FROM p RETURNING person_id",
		    6, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_DUPLICATE;
	PQclear(res);
	return s;
}

static const char *tenant_name(const struct registration *g)
{
	if (g->req->tenant_name && *g->req->tenant_name)
		return g->req->tenant_name;
	if (g->req->company_name && *g->req->company_name)
		return g->req->company_name;
	return email_domain(g->email);
}

static enum status add_tenant(struct registration *g, struct db_conn *db)
{
	const char *params[] = { g->tenant_id, tenant_name(g), email_domain(g->email), g->req->company_size, g->req->industry };
	int64_t seq;
	enum status s = db_exec(db, NULL, "INSERT INTO tenant (id, name, domain, size, industry) VALUES ($1::uuid, $2, $3, $4, $5)", 5, params);

	if (s == STATUS_OK)
		s = handler_seq(g->call, db, g->tenant_id, "user", &seq);
	if (s == STATUS_OK) {
		const char *member[] = { g->tenant_id, g->user_id, param_i64(g->call, seq), FIRST_ROLE };

		s = db_exec(db, NULL, "INSERT INTO membership (tenant_id, user_id, seq, role) VALUES ($1::uuid, $2::uuid, $3::bigint, $4)", 4,
			    member);
	}
	return s;
}

static enum status note(struct registration *g, struct db_conn *db, const struct session_reply *r)
{
	const char *id = g->user_id;
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT to_jsonb(v) FROM user_view v WHERE id = $1::uuid", 1, &id);
	struct entity_event e = { .type = "auth.user.registered", .entity = "user", .entity_id = id, .tenant_id = g->tenant_id, .user_id = id,
		.entity_seq = r->member.user_seq, .version = 1 };

	if (s == STATUS_OK) {
		e.after = PQgetvalue(res, 0, 0);
		s = handler_event(g->call, db, &e);
	}
	PQclear(res);
	return s;
}

static enum status write_all(struct registration *g, struct db_conn *db, struct session_reply *r)
{
	enum status s = db_begin(db, str_of(g->tenant_id));

	if (s == STATUS_OK)
		s = add_person(g, db);
	if (s == STATUS_OK)
		s = add_tenant(g, db);
	if (s == STATUS_OK)
		s = member_in(g->call, db, g->user_id, g->tenant_id, &r->member);
	if (s == STATUS_OK)
		s = session_open(g->call, db, r);
	if (s == STATUS_OK)
		s = user_read(g->call, db, g->user_id, &r->member.perms, &r->user);
	if (s == STATUS_OK)
		s = note(g, db, r);
	return s == STATUS_OK ? resource_commit(db, g->call) : s;
}

static void create(struct db_conn *db, void *arg)
{
	struct registration *g = arg;
	struct session_reply r = { .policy = policy_of(g->req->policy, false) };
	enum status s;

	log_context(g->call->traceparent, g->call->request_id, str_of(g->tenant_id));
	s = write_all(g, db, &r);
	if (s == STATUS_DUPLICATE)
		handler_violation(g->call, db, s, "email", "unique", "is already registered");
	else if (s != STATUS_OK)
		handler_fail(g->call, db, s);
	else
		session_answer(g->call, &r);
}

static void hash(void *arg)
{
	struct registration *g = arg;

	log_context(g->call->traceparent, g->call->request_id, (struct str){ "", 0 });
	if (g->call->deadline_us && clock_us() > g->call->deadline_us)
		rpc_reply_error(g->call, STATUS_DEADLINE_EXCEEDED, NULL);
	else if (!password_hash(str_of(g->req->password), g->hash) || !db_work(service_db(), create, g))
		rpc_reply_retry(g->call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

static bool acceptable(struct rpc_call *call, const Crm__V1__RegisterRequest *req, const char *email)
{
	if (!email)
		rpc_violate(call, "email", "email", "must be a valid e-mail address", NULL);
	if (!req->password || !*req->password)
		rpc_violate(call, "password", "required", "is required", NULL);
	else
		password_acceptable(call, "password", req->password);
	if (req->password2 && (!req->password || !str_eq_secret(str_of(req->password), str_of(req->password2))))
		rpc_violate(call, "password2", "match", "must be the same as the password", NULL);
	return call->n_violations == 0;
}

void auth_register(struct rpc_call *call)
{
	Crm__V1__RegisterRequest *req = handler_request(call, &crm__v1__register_request__descriptor);
	struct registration *g;
	const char *email;

	if (!req)
		return;
	email = email_normalise(&call->arena, str_of(req->email));
	if (!acceptable(call, req, email)) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	g = ARENA_NEW(&call->arena, struct registration);
	g->call = call;
	g->req = req;
	g->email = email;
	uuid7(g->user_id);
	uuid7(g->tenant_id);
	if (!pool_submit(hash, g))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}
