/* What one member may do beyond or below the role: Users.GetPermissions, SetPermissions. */
#include "overrides.h"

#include "auth.h"
#include "resource/engine.h"
#include "words.h"

static const char *array_of(struct rpc_call *call, const struct perms *p)
{
	char *words[128];

	return param_array(call, words, words_of(p, words));
}

enum status overrides_of(struct rpc_call *call, const struct perms *role, char *const *words, size_t n, struct overrides *out)
{
	struct perms want, more, less;
	const char *bad;

	if (!words_perms(role, words, n, &want, &bad)) {
		rpc_violate(call, "grant", "in", "must be permissions", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	if (!caller_covers(call, &want))
		return STATUS_PERMISSION_DENIED;
	for (int i = 0; i < 2; i++) {
		more.bits[i] = want.bits[i] & ~role->bits[i];
		less.bits[i] = role->bits[i] & ~want.bits[i];
	}
	*out = (struct overrides){ array_of(call, &more), array_of(call, &less), want };
	return STATUS_OK;
}

enum status overrides_write(struct rpc_call *call, struct db_conn *db, const char *user_id, const struct overrides *o)
{
	const char *params[] = { param_str(call, call->who.tenant_id), user_id, o->granted, o->denied };

	return db_exec(db, NULL,
		       "UPDATE membership SET granted = $3::text[], denied = $4::text[], version = version + 1, updated_at = now()"
		       " WHERE tenant_id = $1::uuid AND user_id = $2::uuid",
		       4, params);
}

static void tell(struct rpc_call *call, const struct person *p, const char *granted, const char *denied)
{
	Crm__V1__MemberPermissions out = CRM__V1__MEMBER_PERMISSIONS__INIT;
	Crm__V1__Ref ref = person_ref(p);
	char *words[128];

	out.user = &ref;
	out.role = (char *)p->role;
	out.permission = words;
	out.n_permission = words_of(&p->perms, words);
	out.n_granted = words_of_array(call, granted, &out.granted);
	out.n_denied = words_of_array(call, denied, &out.denied);
	handler_reply(call, &out);
}

static enum status read_overrides(struct rpc_call *call, struct db_conn *db, const char *id, const char **granted, const char **denied)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT granted, denied FROM user_view WHERE id = $1::uuid", 1, &id);

	if (s == STATUS_OK && PQntuples(res) == 1) {
		*granted = col_text(call, res, 0, 0);
		*denied = col_text(call, res, 0, 1);
	}
	PQclear(res);
	return s;
}

void users_get_permissions(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	const char *granted = NULL, *denied = NULL;
	struct person p;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = person_see(call, db, req->key, &p);
	if (s == STATUS_OK)
		s = read_overrides(call, db, p.id, &granted, &denied);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		tell(call, &p, granted, denied);
}

static enum status set_permissions(struct rpc_call *call, struct db_conn *db, const Crm__V1__SetPermissionsRequest *req, struct person *now, struct overrides *o)
{
	struct person p;
	struct perms role;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = person_take(call, db, req->key, &p);
	if (s == STATUS_OK)
		s = role_read(call, db, p.role, &role);
	if (s == STATUS_OK)
		s = overrides_of(call, &role, req->permission, req->n_permission, o);
	if (s == STATUS_OK)
		s = overrides_write(call, db, p.id, o);
	if (s == STATUS_OK)
		s = people_keep_admin(call, db);
	if (s == STATUS_OK)
		s = people_announce(call, db, p.id, NULL);
	if (s == STATUS_OK)
		s = person_event(call, db, "auth.user.permissions_changed", &p, false);
	return s == STATUS_OK ? person_see(call, db, req->key, now) : s;
}

void users_set_permissions(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__SetPermissionsRequest *req = handler_request(call, &crm__v1__set_permissions_request__descriptor);
	struct overrides o = { 0 };
	struct person now;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = set_permissions(call, db, req, &now, &o);
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	if (s == STATUS_VALIDATION_ERROR && call->n_violations && strcmp(call->violations[0].path, "grant") == 0)
		call->violations[0].path = "permission";
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		tell(call, &now, o.granted, o.denied);
}
