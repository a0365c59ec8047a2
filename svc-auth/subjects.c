/* AuthSubjects: members and invitations as people whose data is exported or erased. */
#include "resource/subjects.h"

#include "auth.h"
#include "changes.h"
#include "db/array.h"
#include "people.h"
#include "resource/engine.h"

/* -- Erase */

/* Who is a member elsewhere keeps their name there: only what this tenant has of them goes. */
static enum status person_empty(struct db_conn *db, const char *id)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
	    "WITH old AS (SELECT p.id, p.email FROM person p WHERE p.id = $1::uuid AND NOT EXISTS (SELECT FROM memberships_of($1::uuid) m"
	    " WHERE m.status <> 'deleted' AND m.tenant_status <> 'deleted' AND m.tenant_id <> current_setting('app.tenant_id')::uuid) FOR UPDATE),"
	    " c AS (UPDATE credential SET password_hash = 'erased', changed_at = now() FROM old WHERE person_id = old.id),"
	    " r AS (DELETE FROM password_reset USING old WHERE person_id = old.id),"
	    " s AS (UPDATE session SET client_ip = NULL, user_agent = NULL FROM old WHERE user_id = old.id),"
	    " q AS (DELETE FROM mail_queue USING old WHERE lower(recipient) = lower(old.email))"
	    " UPDATE person p SET email = 'erased-' || p.id || '@erased.invalid', display = '" SUBJECT_ERASED "', given = NULL, family = NULL, avatar = NULL, preferences = NULL,"
	    " version = p.version + 1, updated_at = now() FROM old WHERE p.id = old.id AND p.email NOT LIKE 'erased-%@erased.invalid' RETURNING p.id", 1, &id);

	PQclear(res);
	return s;
}

/* OK with *gone false: they had left before. */
static enum status member_leave(struct rpc_call *call, struct db_conn *db, const char *id, bool *gone)
{
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	struct person p;
	enum status s;

	key.id = (char *)id;
	s = person_take(call, db, &key, &p);
	*gone = s == STATUS_OK;
	if (s == STATUS_NOT_FOUND)
		return STATUS_OK;
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "UPDATE membership SET status = 'deleted', deleted_at = now(), version = version + 1, updated_at = now() WHERE user_id = $1::uuid", 1, &id);
	if (s == STATUS_OK)
		s = sessions_end(db, id, param_str(call, call->who.tenant_id), NULL, "erased");
	if (s == STATUS_OK)
		s = people_keep_admin(call, db);
	return s == STATUS_OK ? people_announce(call, db, id, NULL) : s;
}

static enum status user_erase(struct rpc_call *call, struct db_conn *db, const char *id, struct buf *out)
{
	struct entity_event e = { .type = "auth.user.erased", .entity = "user", .entity_id = id };
	bool gone;
	enum status s = member_leave(call, db, id, &gone);

	if (s == STATUS_OK)
		s = person_empty(db, id);
	if (s == STATUS_OK)
		s = change_note(call, db, "ref", arena_printf(&call->arena, "user/%s", id), 0, false);
	if (s != STATUS_OK || !gone)
		return s;
	subjects_put(out, "user", id, NULL);
	return handler_event(call, db, &e);
}

/* Only members, past ones too, of the caller's tenant. */
static enum status users_erase(struct rpc_call *call, struct db_conn *db, const char *ids, struct buf *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT user_id FROM membership WHERE user_id = ANY($1::uuid[]) ORDER BY user_id", 1, &ids);

	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		s = user_erase(call, db, col_text(call, res, i, 0), out);
	PQclear(res);
	return s == STATUS_OK ? subjects_scrub(db, ids) : s;
}

static enum status invitations_erase(struct rpc_call *call, struct db_conn *db, const char *ids, struct buf *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
	    "WITH old AS (SELECT id, email FROM invitation WHERE id = ANY($1::uuid[]) AND email NOT LIKE 'erased-%@erased.invalid' FOR UPDATE),"
	    " q AS (DELETE FROM mail_queue USING old WHERE lower(recipient) = lower(old.email))"
	    " UPDATE invitation i SET email = 'erased-' || i.id || '@erased.invalid', display = NULL, version = i.version + 1, updated_at = now(),"
	    " status = CASE i.status WHEN 'pending' THEN 'cancelled' ELSE i.status END FROM old WHERE i.id = old.id RETURNING i.id", 1, &ids);

	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++) {
		struct entity_event e = { .type = "auth.invitation.erased", .entity = "invitation", .entity_id = col_text(call, res, i, 0) };

		subjects_put(out, "invitation", e.entity_id, NULL);
		s = handler_event(call, db, &e);
	}
	PQclear(res);
	return s == STATUS_OK ? subjects_scrub(db, ids) : s;
}

void auth_subjects_erase(struct rpc_call *call, struct db_conn *db)
{
	const Crm__V1__SubjectsRequest *req = handler_request(call, &crm__v1__subjects_request__descriptor);
	struct buf out = { 0 };
	struct str reply;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = people_lock(call, db);
	if (s == STATUS_OK)
		s = users_erase(call, db, subjects_ids(call, req, "user"), &out);
	if (s == STATUS_OK)
		s = invitations_erase(call, db, subjects_ids(call, req, "invitation"), &out);
	reply = arena_str(&call->arena, buf_view(&out));
	buf_fini(&out);
	handler_end_packed(call, db, s, reply);
}

/* -- Find */

static enum status put_rows(struct rpc_call *call, struct db_conn *db, const char *entity, const char *sql, const Crm__V1__SubjectsRequest *req, struct buf *out)
{
	const char *params[] = { subjects_ids(call, req, entity), req->email };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, sql, 2, params);

	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		subjects_put(out, entity, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
	PQclear(res);
	return s;
}

/* Erases the users of the reply in a transaction that is rolled back: who may not be erased is known before anything is lost. */
static enum status rehearse(struct rpc_call *call, struct db_conn *db, struct str reply)
{
	const Crm__V1__SubjectsReply *found = handler_unpack(call, &crm__v1__subjects_reply__descriptor, reply);
	struct buf ids = { 0 }, out = { 0 };
	enum status s = people_lock(call, db);

	for (size_t i = 0; found && i < found->n_subject; i++) {
		if (!strcmp(found->subject[i]->entity, "user"))
			db_array_put(&ids, str_of(found->subject[i]->id));
	}
	if (s == STATUS_OK)
		s = users_erase(call, db, db_array_end(&ids, &call->arena), &out);
	buf_fini(&out);
	return s;
}

void auth_subjects_find(struct rpc_call *call, struct db_conn *db)
{
	const Crm__V1__SubjectsRequest *req = handler_request(call, &crm__v1__subjects_request__descriptor);
	struct buf out = { 0 };
	struct str reply;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = put_rows(call, db, "user",
		    "SELECT p.id, to_jsonb(p) || jsonb_build_object('role', m.role, 'status', m.status, 'member_since', m.created_at, 'last_login_at', m.last_login_at)"
		    " FROM membership m JOIN person p ON p.id = m.user_id WHERE p.id = ANY($1::uuid[]) OR lower(p.email) = lower($2::text)", req, &out);
	if (s == STATUS_OK)
		s = put_rows(call, db, "invitation",
		    "SELECT i.id, jsonb_build_object('email', i.email, 'display', i.display, 'role', i.role, 'status', i.status, 'created_at', i.created_at) FROM invitation i"
		    " WHERE i.id = ANY($1::uuid[]) OR lower(i.email) = lower($2::text) LIMIT 1000", req, &out);
	reply = arena_str(&call->arena, buf_view(&out));
	buf_fini(&out);
	if (s == STATUS_OK && req->has_to_erase && req->to_erase)
		s = rehearse(call, db, reply);
	if (s == STATUS_OK)
		db_rollback(db);
	if (s == STATUS_OK)
		rpc_reply_ok(call, reply);
	else
		handler_fail(call, db, s);
}
