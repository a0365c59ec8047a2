/* People asked by mail to join: List, Create, Cancel, Resend. */
#include "auth.h"

#include "base/codec.h"
#include "list.h"
#include "names.h"
#include "people.h"
#include "post.h"
#include "resource/engine.h"
#include "token.h"

#define PENDING_MAX "500" /* per tenant */
#define SENT_MAX "20"     /* mails per invitation */
#define LIFE "interval '7 days'"
#define FIRST_ROLE "user"

#define COLUMNS "id, seq, version, " SQL_US("created_at") ", email, role, display, " SQL_US("expires_at") ", invited_by, status"

static void invitation_of_row(struct rpc_call *call, const PGresult *res, int i, Crm__V1__Invitation *v)
{
	crm__v1__invitation__init(v);
	v->id = col_text(call, res, i, 0);
	v->has_seq = v->has_version = v->has_created_us = v->has_expires_us = 1;
	v->seq = col_i64(res, i, 1);
	v->version = (uint64_t)col_i64(res, i, 2);
	v->created_us = col_i64(res, i, 3);
	v->email = col_text(call, res, i, 4);
	v->role = col_text(call, res, i, 5);
	v->display = col_text(call, res, i, 6);
	v->expires_us = col_i64(res, i, 7);
	v->invited_by = arena_alloc(&call->arena, sizeof(*v->invited_by));
	crm__v1__ref__init(v->invited_by);
	v->invited_by->id = col_text(call, res, i, 8);
	v->status = col_text(call, res, i, 9);
}

static struct str row_bytes(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Invitation v;

	invitation_of_row(call, res, i, &v);
	return handler_pack(call, &v);
}

static const struct list_column columns[] = {
	{ 2, LIST_NUMBER, "seq", false },
	{ 4, LIST_NUMBER, SQL_US("created_at"), false },
	{ 16, LIST_TEXT, "email", true },
	{ 17, LIST_TEXT, "role", false },
	{ 18, LIST_TEXT, "display", true },
	{ 19, LIST_NUMBER, SQL_US("expires_at"), false },
};

static const struct list pending = {
	.columns = COLUMNS,
	.from = "invitation WHERE status = 'pending'",
	.id = "id",
	.known = columns,
	.n_known = sizeof(columns) / sizeof(*columns),
	.default_sort = 2,
	.row = row_bytes,
};

void invitations_list(struct rpc_call *call, struct db_conn *db)
{
	list_run(call, db, &pending, NULL);
}

static enum status mail(struct rpc_call *call, struct db_conn *db, const Crm__V1__Invitation *v, const char *token)
{
	const char *params[] = { param_str(call, call->who.tenant_id), param_str(call, call->who.user_id), v->id };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT t.name, coalesce(nullif(p.display, ''), p.email), to_char(i.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')"
				" FROM tenant t, person p, invitation i WHERE t.id = $1::uuid AND p.id = $2::uuid AND i.id = $3::uuid",
				3, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		const struct post_value values[] = { { "company", col_text(call, res, 0, 0) }, { "inviter", col_text(call, res, 0, 1) },
			{ "expires", col_text(call, res, 0, 2) }, { "link", post_link(call, "accept-invitation", token) } };

		s = post_add(call, db, v->email, "invitation", values, sizeof(values) / sizeof(*values));
	}
	PQclear(res);
	return s;
}

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const Crm__V1__Invitation *v, bool gone)
{
	const char *id = v->id;
	struct entity_event e = { .type = type, .entity = "invitation", .entity_id = id, .entity_seq = v->seq, .version = v->version };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT to_jsonb(i) - 'token_hash' FROM invitation i WHERE id = $1::uuid", 1, &id);

	if (s == STATUS_OK && PQntuples(res) == 1) {
		e.after = gone ? NULL : col_text(call, res, 0, 0);
		e.before = gone ? col_text(call, res, 0, 0) : NULL;
		s = handler_event(call, db, &e);
	}
	PQclear(res);
	return s;
}

/* -- Create */

static enum status is_member(struct rpc_call *call, struct db_conn *db, const char *email)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT FROM user_view WHERE lower(email) = lower($1)", 1, &email);

	if (s == STATUS_OK && PQntuples(res)) {
		rpc_violate(call, "email", "unique", "is a member already", NULL);
		s = STATUS_DUPLICATE;
	}
	PQclear(res);
	return s;
}

/* An invitation that ran out makes room for the next. */
static enum status expire(struct db_conn *db, const char *email)
{
	return db_exec(db, NULL,
		       "UPDATE invitation SET status = 'cancelled', updated_at = now() WHERE lower(email) = lower($1) AND status = 'pending' AND expires_at <= now()",
		       1, &email);
}

static enum status insert(struct rpc_call *call, struct db_conn *db, const Crm__V1__Invitation *in, const char *email, const char *role, const char *hash,
    Crm__V1__Invitation *out)
{
	const char *tenant = param_str(call, call->who.tenant_id);
	char id[UUID_TEXT + 1];
	int64_t seq = 0;
	PGresult *res = NULL;
	enum status s = handler_seq(call, db, tenant, "invitation", &seq);

	uuid7(id);
	if (s == STATUS_OK) {
		const char *params[] = { id, tenant, param_i64(call, seq), email, in->display, role, param_str(call, call->who.user_id), hash };

		s = db_exec(db, &res,
			    "INSERT INTO invitation (id, tenant_id, seq, email, display, role, invited_by, token_hash, expires_at)"
			    " SELECT $1::uuid, $2::uuid, $3::bigint, $4, nullif($5, ''), $6, $7::uuid, $8::bytea, now() + " LIFE
			    " WHERE (SELECT count(*) FROM invitation WHERE status = 'pending') < " PENDING_MAX " RETURNING " COLUMNS,
			    8, params);
	}
	if (s == STATUS_DUPLICATE)
		rpc_violate(call, "email", "unique", "is invited already", NULL);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	if (s == STATUS_OK)
		invitation_of_row(call, res, 0, out);
	PQclear(res);
	return s;
}

static enum status create(struct rpc_call *call, struct db_conn *db, const Crm__V1__Invitation *in, const char *email, Crm__V1__Invitation *out)
{
	const char *role = in->role && *in->role ? in->role : FIRST_ROLE;
	char token[REFRESH_TEXT], hash[BYTEA_TEXT];
	struct perms perms;
	enum status s = people_lock(call, db);

	token_refresh_new(token);
	token_hash(str_of(token), hash);
	if (s == STATUS_OK)
		s = role_grantable(call, db, role, "role", &perms);
	if (s == STATUS_OK)
		s = is_member(call, db, email);
	if (s == STATUS_OK)
		s = expire(db, email);
	if (s == STATUS_OK)
		s = insert(call, db, in, email, role, hash, out);
	if (s == STATUS_OK)
		s = mail(call, db, out, token);
	return s == STATUS_OK ? note(call, db, "auth.invitation.created", out, false) : s;
}

void invitations_create(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__Invitation *in = w ? handler_entity(call, w, &crm__v1__invitation__descriptor, true) : NULL, out;
	const char *email;
	enum status s;

	if (!in)
		return;
	email = email_normalise(&call->arena, str_of(in->email));
	if (!email) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "email", "email", "must be a valid e-mail address");
		return;
	}
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = create(call, db, in, email, &out);
	handler_end_once(call, db, s, &out);
}

/* -- Cancel, Resend */

/* Nobody touches an invitation to a role that may do more than they may. */
static enum status take(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, Crm__V1__Invitation *out)
{
	char id[UUID_TEXT + 1];
	bool by_id = key && key->id && uuid_parse(str_of(key->id), id);
	const char *params[] = { by_id ? id : NULL, key && !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	struct perms role;
	PGresult *res = NULL;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT " COLUMNS " FROM invitation WHERE (id = $1::uuid OR seq = $2::bigint) AND status = 'pending' FOR UPDATE", 2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		invitation_of_row(call, res, 0, out);
	PQclear(res);
	return s == STATUS_OK ? role_grantable(call, db, out->role, "role", &role) : s;
}

static enum status cancel(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key)
{
	Crm__V1__Invitation v;
	enum status s = take(call, db, key, &v);
	const char *id = s == STATUS_OK ? v.id : NULL;

	if (s == STATUS_OK)
		s = db_exec(db, NULL, "UPDATE invitation SET status = 'cancelled', version = version + 1, updated_at = now() WHERE id = $1::uuid", 1, &id);
	return s == STATUS_OK ? note(call, db, "auth.invitation.cancelled", &v, true) : s;
}

void invitations_cancel(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = cancel(call, db, req->key);
	handler_end_once(call, db, s, NULL);
}

/* With a new token: the link of the first mail is dead from then on. */
static enum status resend(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, Crm__V1__Invitation *out)
{
	char token[REFRESH_TEXT], hash[BYTEA_TEXT];
	PGresult *res = NULL;
	enum status s = take(call, db, key, out);

	token_refresh_new(token);
	token_hash(str_of(token), hash);
	if (s == STATUS_OK) {
		const char *params[] = { out->id, hash };

		s = db_exec(db, &res,
			    "UPDATE invitation SET token_hash = $2::bytea, expires_at = now() + " LIFE ", sent = sent + 1, version = version + 1,"
			    " updated_at = now() WHERE id = $1::uuid AND sent < " SENT_MAX " RETURNING " COLUMNS,
			    2, params);
	}
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	if (s == STATUS_OK)
		invitation_of_row(call, res, 0, out);
	PQclear(res);
	if (s == STATUS_OK)
		s = mail(call, db, out, token);
	return s == STATUS_OK ? note(call, db, "auth.invitation.resent", out, false) : s;
}

void invitations_resend(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	Crm__V1__Invitation out;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = resend(call, db, req->key, &out);
	handler_end_once(call, db, s, &out);
}
