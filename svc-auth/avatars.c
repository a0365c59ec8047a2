/* PrepareAvatar, SetAvatar, GetAvatar, DeleteAvatar. */
#include "avatars.h"

#include "auth.h"
#include "base/codec.h"
#include "changes.h"
#include "image.h"
#include "people.h"
#include "proto/options.pb-c.h"
#include "session.h"

#define KIND "avatar"
#define BYTES_MAX (5u << 20)
#define UPLOAD_TIME "1 hour" /* from Prepare to Set; then the blob is deleted */

const char *avatar_written(const char *in, const char *old)
{
	size_t n = in ? strlen(in) : 0, k = old ? strlen(old) : 0;

	return k && old[0] == '/' && n > k && strcmp(in + n - k, old) == 0 ? old : in;
}

/* Their own picture, or users.write on somebody who is of this company alone. Locked. */
static enum status take(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct person *p)
{
	enum status s = people_lock(call, db);
	bool own;

	if (s == STATUS_OK)
		s = person_take(call, db, key, p);
	if (s != STATUS_OK)
		return s;
	own = str_eq(str_of(p->id), call->who.user_id);
	if (!own && !rpc_may(&call->who, CRM__V1__PERMISSION__USERS_WRITE))
		return STATUS_PERMISSION_DENIED;
	if (own || !p->elsewhere)
		return STATUS_OK;
	rpc_violate(call, "avatar", "read_only", "belongs to somebody of several companies: only they can change it", NULL);
	return STATUS_VALIDATION_ERROR;
}

/* -- PrepareAvatar */

static enum status prepare(struct rpc_call *call, struct db_conn *db, const Crm__V1__UploadRequest *req, char key[BLOB_KEY_MAX])
{
	char id[UUID_TEXT + 1];
	struct person p;
	enum status s = db_begin(db, call->who.tenant_id);

	uuid7(id);
	if (s == STATUS_OK)
		s = take(call, db, req->key, &p);
	if (s == STATUS_OK && !blob_key(key, call->who.tenant_id, STR(KIND), str_of(id)))
		s = STATUS_INTERNAL;
	if (s == STATUS_OK) {
		const char *params[] = { key, p.id };

		s = db_exec(db, NULL, "INSERT INTO blob_queue (blob, upload_of, due_at) VALUES ($1, $2::uuid, now() + interval '" UPLOAD_TIME "')", 2, params);
	}
	return s == STATUS_OK ? db_commit(db) : s;
}

void users_prepare_avatar(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__UploadRequest *req = handler_request(call, &crm__v1__upload_request__descriptor);
	Crm__V1__UploadTicket out = CRM__V1__UPLOAD_TICKET__INIT;
	char key[BLOB_KEY_MAX];
	enum status s;

	if (!req)
		return;
	s = prepare(call, db, req, key);
	out.blob = key;
	out.has_max_bytes = 1;
	out.max_bytes = BYTES_MAX;
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, &out);
}

/* -- SetAvatar */

/* Takes the key out of the queue: it was given out for this person, and not yet used or too old. */
static enum status claim(struct db_conn *db, const char *blob, const char *user_id)
{
	const char *params[] = { blob, user_id };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "DELETE FROM blob_queue WHERE blob = $1 AND upload_of = $2::uuid AND due_at > now() RETURNING blob", 2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	PQclear(res);
	return s;
}

static enum status write(struct rpc_call *call, struct db_conn *db, const struct person *p, const Crm__V1__UploadRequest *req, const struct image *image)
{
	const char *id = strrchr(req->blob, '/') + 1;
	const char *params[] = { p->id, req->blob, image->type, param_i64(call, (int64_t)req->size), arena_printf(&call->arena, "/v1/users/%s/avatar?v=%s", p->id, id) };
	enum status s = db_exec(db, NULL,
				"UPDATE person SET avatar_blob = $2, avatar_type = $3, avatar_size = $4::bigint, avatar = $5, version = version + 1, updated_at = now()"
				" WHERE id = $1::uuid",
				5, params);

	return s == STATUS_OK ? change_note(call, db, "ref", arena_printf(&call->arena, "user/%s", p->id), 0, false) : s;
}

static enum status set(struct rpc_call *call, struct db_conn *db, const Crm__V1__UploadRequest *req, const struct image *image, struct person *now)
{
	struct person p;
	enum status s = take(call, db, req->key, &p);

	if (s == STATUS_OK)
		s = claim(db, req->blob, p.id);
	if (s == STATUS_OK)
		s = write(call, db, &p, req, image);
	if (s == STATUS_OK)
		s = person_event(call, db, "auth.user.updated", &p, false);
	return s == STATUS_OK ? person_see(call, db, req->key, now) : s;
}

/* What is no picture is deleted soon, not in an hour. */
static void give_up(struct db_conn *db, struct rpc_call *call, const char *blob)
{
	if (db_begin(db, call->who.tenant_id) != STATUS_OK ||
	    db_exec(db, NULL, "UPDATE blob_queue SET due_at = now(), upload_of = NULL WHERE blob = $1 AND upload_of IS NOT NULL", 1, &blob) != STATUS_OK ||
	    db_commit(db) != STATUS_OK)
		db_rollback(db);
}

void users_set_avatar(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__UploadRequest *req = handler_request(call, &crm__v1__upload_request__descriptor);
	struct image image;
	struct person now;
	const char *why;
	enum status s;

	if (!req)
		return;
	if (!req->blob || !strrchr(req->blob, '/') || !req->has_size || !req->has_head || req->size > BYTES_MAX) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (!image_read((struct str){ (char *)req->head.data, req->head.len }, req->size, &image, &why)) {
		give_up(db, call, req->blob);
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "avatar", "image", why);
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = set(call, db, req, &image, &now);
	handler_end(call, db, s, s == STATUS_OK ? now.user : NULL);
}

/* -- GetAvatar, DeleteAvatar */

static enum status get(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, Crm__V1__Blob *out)
{
	char id[UUID_TEXT + 1];
	bool by_id = key->id && uuid_parse(str_of(key->id), id);
	const char *params[] = { by_id ? id : NULL, !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	PGresult *res = NULL;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "SELECT p.avatar_blob, p.avatar_type, p.avatar_size, 'avatar.' || CASE p.avatar_type WHEN 'image/jpeg' THEN 'jpg' ELSE substr(p.avatar_type, 7) END"
			    " FROM membership m JOIN person p ON p.id = m.user_id"
			    " WHERE (m.user_id = $1::uuid OR m.seq = $2::bigint) AND m.status <> 'deleted' AND p.avatar_blob IS NOT NULL",
			    2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		out->blob = col_text(call, res, 0, 0);
		out->content_type = col_text(call, res, 0, 1);
		out->has_size = 1;
		out->size = (uint64_t)col_i64(res, 0, 2);
		out->filename = col_text(call, res, 0, 3);
	}
	PQclear(res);
	return s == STATUS_OK ? db_commit(db) : s;
}

void users_get_avatar(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	Crm__V1__Blob out = CRM__V1__BLOB__INIT;
	enum status s;

	if (!req)
		return;
	s = req->key ? get(call, db, req->key, &out) : STATUS_BAD_REQUEST;
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, &out);
}

static enum status delete(struct rpc_call *call, struct db_conn *db, const Crm__V1__KeyRequest *req)
{
	struct person p;
	enum status s = take(call, db, req->key, &p);

	if (s == STATUS_OK && req->has_expected_version && req->expected_version != p.version)
		s = STATUS_PRECONDITION_FAILED;
	if (s == STATUS_OK && !p.user->avatar)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		s = db_exec(db, NULL, "UPDATE person SET avatar = NULL, version = version + 1, updated_at = now() WHERE id = $1::uuid", 1, &p.id);
	if (s == STATUS_OK)
		s = change_note(call, db, "ref", arena_printf(&call->arena, "user/%s", p.id), 0, false);
	return s == STATUS_OK ? person_event(call, db, "auth.user.updated", &p, false) : s;
}

void users_delete_avatar(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = delete(call, db, req);
	handler_end_once(call, db, s, NULL);
}
