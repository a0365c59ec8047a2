/* The caller about themselves: Profile, UpdateProfile, Permissions. */
#include "auth.h"
#include "avatars.h"

#include "changes.h"
#include "names.h"
#include "resource/engine.h"
#include "session.h"

/* Field numbers of crm.v1.User. */
enum { EMAIL = 16, DISPLAY = 17, GIVEN = 18, FAMILY = 19, ROLE = 20, AVATAR = 21, STATUS = 22, PREFERENCES = 23 };

static enum status add_tenants(struct rpc_call *call, struct db_conn *db, const char *user_id, Crm__V1__User *u)
{
	struct member *rows;
	size_t n;
	enum status s = member_all(call, db, user_id, &rows, &n);

	if (s != STATUS_OK)
		return s;
	u->tenants = arena_alloc(&call->arena, (n ? n : 1) * sizeof(*u->tenants));
	for (size_t i = 0; i < n; i++) {
		bool beyond_key = call->who.api_key_id.n && !str_eq(str_of(rows[i].tenant_id), call->who.tenant_id);

		if (!rows[i].deleted && !beyond_key)
			u->tenants[u->n_tenants++] = rows[i].tenant;
	}
	return STATUS_OK;
}

static enum status read_profile(struct rpc_call *call, struct db_conn *db, Crm__V1__User **u)
{
	const char *id = param_str(call, call->who.user_id);
	struct perms perms = { { call->who.permissions[0], call->who.permissions[1] } };
	enum status s = user_read(call, db, id, &perms, u);

	return s == STATUS_OK ? add_tenants(call, db, id, *u) : s;
}

void auth_profile(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__User *u = NULL;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = read_profile(call, db, &u);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, u);
}

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Clients send the whole profile back: what is not theirs to change may be there as long as it stays the same. */
static bool only_own_fields(struct rpc_call *call, const Crm__V1__WriteRequest *w, const Crm__V1__User *in, const Crm__V1__User *old)
{
	static const char text[] = "cannot be changed here";

	if (handler_writes(w, EMAIL) && !str_ieq(str_of(in->email), str_of(old->email)))
		rpc_violate(call, "email", "read_only", text, NULL);
	if (handler_writes(w, ROLE) && !same(in->role, old->role))
		rpc_violate(call, "role", "read_only", text, NULL);
	if (handler_writes(w, STATUS) && !same(in->status, old->status))
		rpc_violate(call, "status", "read_only", text, NULL);
	return call->n_violations == 0;
}

static struct names merge_names(struct rpc_call *call, const Crm__V1__WriteRequest *w, const Crm__V1__User *in, const Crm__V1__User *old)
{
	bool display = handler_writes(w, DISPLAY), given = handler_writes(w, GIVEN), family = handler_writes(w, FAMILY);
	struct names n = { old->display, old->given, old->family };

	if (display)
		n = (struct names){ in->display, NULL, NULL };
	else if (given || family)
		n.display = NULL;
	if (given)
		n.given = in->given;
	if (family)
		n.family = in->family;
	names_complete(&call->arena, &n);
	return n;
}

static enum status write_person(struct rpc_call *call, struct db_conn *db, const Crm__V1__WriteRequest *w, const Crm__V1__User *in,
    const Crm__V1__User *old)
{
	struct names n = merge_names(call, w, in, old);
	const Crm__V1__User *prefs = handler_writes(w, PREFERENCES) ? in : old;
	struct str text = prefs->has_preferences ? (struct str){ (char *)prefs->preferences.data, prefs->preferences.len } : (struct str){ "", 0 };
	const char *params[] = { old->id, n.display, n.given, n.family, handler_writes(w, AVATAR) ? avatar_written(in->avatar, old->avatar) : old->avatar,
		param_str(call, text) };

	return db_exec(db, NULL,
		       "UPDATE person SET display = nullif($2, ''), given = nullif($3, ''), family = nullif($4, ''), avatar = nullif($5, ''),"
		       " preferences = $6::jsonb, version = version + 1, updated_at = now() WHERE id = $1::uuid",
		       6, params);
}

#define USER_JSON "SELECT to_jsonb(v) FROM user_view v WHERE id = $1::uuid"

/* Gateways keep names of people: they hear that this one changed. */
static enum status note_update(struct rpc_call *call, struct db_conn *db, const char *id, const char *before, uint64_t version)
{
	struct entity_event e = { .type = "auth.user.updated", .entity = "user", .entity_id = id, .entity_seq = call->who.user_seq, .version = version,
		.before = before };
	enum status s = handler_row_json(call, db, USER_JSON, id, &e.after);

	if (s == STATUS_OK)
		s = handler_event(call, db, &e);
	if (s == STATUS_OK)
		s = change_note(call, db, "ref", arena_printf(&call->arena, "user/%s", id), 0, false);
	return s;
}

static enum status lock_and_read(struct rpc_call *call, struct db_conn *db, const char *id, Crm__V1__User **old, const char **before)
{
	enum status s = db_exec(db, NULL, "SELECT FROM person WHERE id = $1::uuid FOR UPDATE", 1, &id);

	if (s == STATUS_OK)
		s = user_read(call, db, id, NULL, old);
	return s == STATUS_OK ? handler_row_json(call, db, USER_JSON, id, before) : s;
}

void auth_profile_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__User *in = w ? handler_entity(call, w, &crm__v1__user__descriptor, false) : NULL, *old = NULL, *now = NULL;
	const char *id = param_str(call, call->who.user_id), *before = NULL;
	enum status s;

	if (!in)
		return;
	if (call->who.api_key_id.n) { /* a person is the same one in all tenants, a key is of one */
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
		return;
	}
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = lock_and_read(call, db, id, &old, &before);
	if (s == STATUS_OK && w->has_expected_version && w->expected_version != old->version)
		s = STATUS_PRECONDITION_FAILED;
	if (s == STATUS_OK && !only_own_fields(call, w, in, old))
		s = STATUS_VALIDATION_ERROR;
	if (s == STATUS_OK)
		s = write_person(call, db, w, in, old);
	if (s == STATUS_OK)
		s = read_profile(call, db, &now);
	if (s == STATUS_OK)
		s = note_update(call, db, id, before, now->version);
	handler_end_once(call, db, s, now);
}

void auth_permissions(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__PermissionList out = CRM__V1__PERMISSION_LIST__INIT;
	struct perms perms = { { call->who.permissions[0], call->who.permissions[1] } };

	(void)db; /* the verified envelope says it all */
	out.permission = arena_alloc(&call->arena, ROLES_FLAT_MAX * sizeof(char *));
	out.n_permission = roles_flat(&perms, &call->arena, out.permission);
	handler_reply(call, &out);
}
