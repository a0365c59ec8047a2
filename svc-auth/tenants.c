/* Tenants as their members see them: every member lists and enters their own, an admin changes and deletes. */
#include "auth.h"

#include "base/clock.h"
#include "base/codec.h"
#include "changes.h"
#include "list.h"
#include "resource/engine.h"
#include "session.h"

/* Field numbers of crm.v1.Tenant. */
enum { NAME = 16, DOMAIN = 17, SETTINGS = 18, SIZE = 19, INDUSTRY = 20 };

static struct str tenant_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Tenant t = CRM__V1__TENANT__INIT;

	t.id = col_text(call, res, i, 0);
	t.has_seq = t.has_version = t.has_created_us = t.has_updated_us = 1;
	t.seq = col_i64(res, i, 1);
	t.version = (uint64_t)col_i64(res, i, 2);
	t.created_us = col_i64(res, i, 3);
	t.updated_us = col_i64(res, i, 4);
	t.name = col_text(call, res, i, 5);
	t.domain = col_text(call, res, i, 6);
	t.has_settings = !col_is_null(res, i, 7);
	if (t.has_settings)
		t.settings = (ProtobufCBinaryData){ (size_t)PQgetlength(res, i, 7), (uint8_t *)col_text(call, res, i, 7) };
	t.size = col_text(call, res, i, 8);
	t.industry = col_text(call, res, i, 9);
	t.status = col_text(call, res, i, 10);
	t.role = col_text(call, res, i, 11);
	return handler_pack(call, &t);
}

static const struct list_column tenant_columns[] = {
	{ 2, LIST_NUMBER, "tenant_seq", false },
	{ 4, LIST_NUMBER, SQL_US("tenant_created_at"), false },
	{ 5, LIST_NUMBER, SQL_US("tenant_updated_at"), false },
	{ 16, LIST_TEXT, "name", true },
	{ 17, LIST_TEXT, "domain", true },
	{ 19, LIST_TEXT, "size", false },
	{ 20, LIST_TEXT, "industry", false },
	{ 21, LIST_TEXT, "role", false },
	{ 22, LIST_TEXT, "tenant_status", false },
};

#define TENANT_COLUMNS                                                                                                                  \
	"tenant_id, tenant_seq, tenant_version, " SQL_US("tenant_created_at") ", " SQL_US("tenant_updated_at")                      \
	", name, domain, settings, size, industry, tenant_status, role"

/* memberships_of crosses tenants on purpose: a person sees all of their own and no other. */
static const struct list tenants = {
	.columns = TENANT_COLUMNS,
	.from = "memberships_of($1::uuid) WHERE status = 'active' AND tenant_status <> 'deleted'",
	.id = "tenant_id",
	.known = tenant_columns,
	.n_known = sizeof(tenant_columns) / sizeof(*tenant_columns),
	.default_sort = 2,
	.row = tenant_row,
};

/* An API key belongs to one tenant, whatever else its creator is a member of. */
static const struct list tenant_of_key = {
	.columns = TENANT_COLUMNS,
	.from = "memberships_of($1::uuid) WHERE status = 'active' AND tenant_status <> 'deleted'"
		" AND tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid",
	.id = "tenant_id",
	.known = tenant_columns,
	.n_known = sizeof(tenant_columns) / sizeof(*tenant_columns),
	.default_sort = 2,
	.row = tenant_row,
};

void tenants_list(struct rpc_call *call, struct db_conn *db)
{
	list_run(call, db, call->who.api_key_id.n ? &tenant_of_key : &tenants, param_str(call, call->who.user_id));
}

/* The caller's membership in the tenant that is meant. Nobody else's tenant can be found, by a key none but its own. */
static enum status own(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct member *m)
{
	enum status s;

	if (!key || (!key->id && !key->has_seq))
		return STATUS_BAD_REQUEST;
	s = member_find(call, db, param_str(call, call->who.user_id), key, m);
	if (s == STATUS_OK && call->who.api_key_id.n && !str_eq(str_of(m->tenant_id), call->who.tenant_id))
		return STATUS_NOT_FOUND;
	return s;
}

void tenants_get(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct member m;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = own(call, db, req->key, &m);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		handler_reply(call, m.tenant);
}

static bool may(const struct perms *p, unsigned permission)
{
	return p->bits[permission / 64] >> permission % 64 & 1;
}

/* Only an admin of that tenant whom the permission was not taken from; an API key's scopes may be narrower than its creator. */
static enum status own_as_admin(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, unsigned permission, struct member *m)
{
	enum status s = own(call, db, key, m);

	if (s != STATUS_OK)
		return s;
	if (strcmp(m->role, "admin") != 0 || !may(&m->perms, permission) || (call->who.api_key_id.n && !rpc_may(&call->who, permission)))
		return STATUS_PERMISSION_DENIED;
	return handler_tenant(db, m->tenant_id);
}

#define TENANT_JSON "SELECT to_jsonb(t) FROM tenant t WHERE id = $1::uuid FOR UPDATE"

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const struct member *m, const char *before, const char *after)
{
	struct entity_event e = { .type = type, .entity = "tenant", .entity_id = m->tenant_id, .tenant_id = m->tenant_id, .entity_seq = m->tenant_seq,
		.version = m->tenant->version, .before = before, .after = after };

	return handler_event(call, db, &e);
}

static const char *settings_of(struct rpc_call *call, const Crm__V1__Tenant *t)
{
	return t->has_settings ? param_str(call, (struct str){ (char *)t->settings.data, t->settings.len }) : NULL;
}

static enum status insert(struct rpc_call *call, struct db_conn *db, const Crm__V1__Tenant *in, const char *id)
{
	const char *user = param_str(call, call->who.user_id);
	const char *params[] = { id, in->name, in->domain, settings_of(call, in), in->size, in->industry };
	int64_t seq;
	enum status s = handler_tenant(db, id);

	if (s == STATUS_OK)
		s = db_exec(db, NULL,
			    "INSERT INTO tenant (id, name, domain, settings, size, industry) VALUES ($1::uuid, $2, $3, $4::jsonb, $5, $6)", 6,
			    params);
	if (s == STATUS_OK)
		s = handler_seq(call, db, id, "user", &seq);
	if (s == STATUS_OK) {
		const char *member[] = { id, user, param_i64(call, seq) };

		s = db_exec(db, NULL, "INSERT INTO membership (tenant_id, user_id, seq, role) VALUES ($1::uuid, $2::uuid, $3::bigint, 'admin')", 3,
			    member);
	}
	return s;
}

static enum status create(struct rpc_call *call, struct db_conn *db, const Crm__V1__Tenant *in, struct member *m)
{
	char *id = arena_alloc(&call->arena, UUID_TEXT + 1);
	const char *after = NULL;
	enum status s;

	uuid7(id);
	s = insert(call, db, in, id);
	if (s == STATUS_OK)
		s = member_in(call, db, param_str(call, call->who.user_id), id, m);
	if (s == STATUS_OK)
		s = handler_row_json(call, db, TENANT_JSON, id, &after);
	if (s == STATUS_OK)
		s = note(call, db, "auth.tenant.created", m, NULL, after);
	return s;
}

void tenants_create(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__Tenant *in = w ? handler_entity(call, w, &crm__v1__tenant__descriptor, true) : NULL;
	struct member m = { 0 };
	enum status s;

	if (!in)
		return;
	if (call->who.api_key_id.n) {
		rpc_reply_error(call, STATUS_PERMISSION_DENIED, NULL);
		return;
	}
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = create(call, db, in, &m);
	handler_end_once(call, db, s, m.tenant);
}

static const char *pick(const Crm__V1__WriteRequest *w, uint32_t field, const char *written, const char *old)
{
	return handler_writes(w, field) ? written : old;
}

static enum status update(struct rpc_call *call, struct db_conn *db, const Crm__V1__WriteRequest *w, const Crm__V1__Tenant *in, struct member *m)
{
	const Crm__V1__Tenant *old = m->tenant;
	const char *before = NULL, *after = NULL;
	const char *params[] = { m->tenant_id, pick(w, NAME, in->name, old->name), pick(w, DOMAIN, in->domain, old->domain),
		settings_of(call, handler_writes(w, SETTINGS) ? in : old), pick(w, SIZE, in->size, old->size),
		pick(w, INDUSTRY, in->industry, old->industry), w->has_expected_version ? param_i64(call, (int64_t)w->expected_version) : NULL };
	PGresult *res = NULL;
	enum status s = handler_row_json(call, db, TENANT_JSON, m->tenant_id, &before);

	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "UPDATE tenant SET name = $2, domain = $3, settings = $4::jsonb, size = $5, industry = $6, version = version + 1,"
			    " updated_at = now() WHERE id = $1::uuid AND ($7::bigint IS NULL OR version = $7::bigint) RETURNING id",
			    7, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_PRECONDITION_FAILED;
	PQclear(res);
	if (s == STATUS_OK)
		s = member_in(call, db, m->user_id, m->tenant_id, m);
	if (s == STATUS_OK)
		s = handler_row_json(call, db, TENANT_JSON, m->tenant_id, &after);
	return s == STATUS_OK ? note(call, db, "auth.tenant.updated", m, before, after) : s;
}

void tenants_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__Tenant *in = w ? handler_entity(call, w, &crm__v1__tenant__descriptor, false) : NULL;
	struct member m = { 0 };
	enum status s;

	if (!in || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = own_as_admin(call, db, w->key, CRM__V1__PERMISSION__TENANTS_WRITE, &m);
	if (s == STATUS_OK)
		s = update(call, db, w, in, &m);
	handler_end_once(call, db, s, m.tenant);
}

/* No login, no refresh, no token issued until now works any more; the data stays for 30 days. */
static enum status delete(struct rpc_call *call, struct db_conn *db, const struct member *m, const Crm__V1__KeyRequest *req)
{
	const char *before = NULL;
	const char *params[] = { m->tenant_id, req->has_expected_version ? param_i64(call, (int64_t)req->expected_version) : NULL };
	PGresult *res = NULL;
	enum status s = handler_row_json(call, db, TENANT_JSON, m->tenant_id, &before);

	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "UPDATE tenant SET status = 'deleted', deleted_at = now(), version = version + 1, updated_at = now()"
			    " WHERE id = $1::uuid AND ($2::bigint IS NULL OR version = $2::bigint) RETURNING id",
			    2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_PRECONDITION_FAILED;
	PQclear(res);
	if (s == STATUS_OK)
		s = db_exec(db, NULL,
			    "UPDATE session SET revoked_at = now(), revoked_why = 'tenant deleted' WHERE tenant_id = $1::uuid AND revoked_at IS NULL",
			    1, params);
	if (s == STATUS_OK)
		s = change_note(call, db, "tenant", m->tenant_id, clock_us(), true);
	return s == STATUS_OK ? note(call, db, "auth.tenant.deleted", m, before, NULL) : s;
}

void tenants_delete(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct member m;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = own_as_admin(call, db, req->key, CRM__V1__PERMISSION__TENANTS_DELETE, &m);
	if (s == STATUS_OK)
		s = delete(call, db, &m, req);
	handler_end_once(call, db, s, NULL);
}
