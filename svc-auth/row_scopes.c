/* Limits of rows: read, compared with the caller's, told; Users.GetRowAccess, SetRowAccess. */
#include "row_scopes.h"

#include "auth.h"
#include "json/json.h"
#include "resource/engine.h"
#include "service/service.h"

#define TEAM_MAX "100" /* the ids of a team travel with every call of a member who is limited to it */

enum width { OWN, TEAM, ALL, NO_WIDTH };

static enum width width_of(struct str word)
{
	static const char *const words[] = { "own", "team", "all" };

	for (int i = 0; i < NO_WIDTH; i++)
		if (str_eq(word, str_of(words[i])))
			return (enum width)i;
	return NO_WIDTH;
}

static bool is_kind(struct str word)
{
	for (unsigned i = 0; i < SCHEMA_ROW_KINDS; i++) {
		const char *kind = schema_row_kind(service_schema(), i);

		if (kind && str_eq(word, str_of(kind)))
			return true;
	}
	return false;
}

enum status row_scopes_read(struct rpc_call *call, ProtobufCBinaryData json, const char *path, const char **out)
{
	struct str text = { (const char *)json.data, json.len };
	struct json_error err;
	const struct json *o = json_parse(&call->arena, text, &err);
	bool good = o && o->type == JSON_OBJECT;

	for (const struct json *v = good ? o->child : NULL; v; v = v->next)
		good = good && is_kind(v->key) && v->type == JSON_STRING && width_of(v->text) != NO_WIDTH;
	*out = arena_strdup(&call->arena, text);
	if (good)
		return STATUS_OK;
	rpc_violate(call, path, "in", "must say all, team or own for customers, contacts, leads, deals or orders", NULL);
	return STATUS_VALIDATION_ERROR;
}

/* What limits the caller for this kind. */
static enum width width_of_caller(const struct rpc_call *call, const char *kind)
{
	struct str scope = call->who.scope;
	size_t n = strlen(kind);

	for (size_t i = 0; i + n + 2 < scope.n && scope.p[i] != ';'; i++)
		if (scope.p[i] == ' ' && memcmp(scope.p + i + 1, kind, n) == 0 && scope.p[i + n + 1] == '=')
			return scope.p[i + n + 2] == 't' ? TEAM : OWN;
	return ALL;
}

bool row_scopes_covered(struct rpc_call *call, const char *text)
{
	struct json_error err;
	const struct json *o;

	if (!call->who.scope.n)
		return true;
	o = json_parse(&call->arena, str_of(text), &err);
	for (unsigned i = 0; o && i < SCHEMA_ROW_KINDS; i++) {
		const char *kind = schema_row_kind(service_schema(), i);
		const struct json *v = kind ? json_get(o, str_of(kind), false) : NULL;

		if (kind && (v && v->type == JSON_STRING ? width_of(v->text) : ALL) > width_of_caller(call, kind))
			return false;
	}
	return o != NULL;
}

/* sql: one JSON text for $1. */
static enum status covered(struct rpc_call *call, struct db_conn *db, const char *sql, const char *param)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, sql, 1, &param);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK && !row_scopes_covered(call, PQgetvalue(res, 0, 0)))
		s = STATUS_PERMISSION_DENIED;
	PQclear(res);
	return s;
}

enum status row_scopes_of_role(struct rpc_call *call, struct db_conn *db, const char *role)
{
	struct perms p;

	if (!call->who.scope.n)
		return STATUS_OK;
	if (roles_builtin(role, &p))
		return row_scopes_covered(call, "{}") ? STATUS_OK : STATUS_PERMISSION_DENIED;
	return covered(call, db, "SELECT row_scopes FROM role WHERE name = $1", role);
}

#define EFFECTIVE "row_scopes_of(r.row_scopes, m.row_scopes)"
#define FROM_MEMBER " FROM membership m LEFT JOIN role r ON r.tenant_id = m.tenant_id AND r.name = m.role WHERE m.user_id = $1::uuid"

enum status row_scopes_of_member(struct rpc_call *call, struct db_conn *db, const char *user_id)
{
	return call->who.scope.n ? covered(call, db, "SELECT " EFFECTIVE FROM_MEMBER, user_id) : STATUS_OK;
}

enum status member_scope(struct rpc_call *call, struct db_conn *db, const char *user_id, const char **scope)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT member_scope($1::uuid)", 1, &user_id);

	*scope = s == STATUS_OK ? col_text(call, res, 0, 0) : NULL;
	PQclear(res);
	return s;
}

enum status member_rows(struct rpc_call *call, struct db_conn *db, const char *user_id, struct str kind, const char **rows)
{
	const char *params[] = { user_id, param_str(call, kind) };
	PGresult *res = NULL;
	enum status s;

	*rows = NULL;
	if (!is_kind(kind))
		return STATUS_OK;
	s = db_exec(db, &res, "SELECT coalesce(" EFFECTIVE " ->> $2, 'all')" FROM_MEMBER, 2, params);
	if (s == STATUS_OK)
		*rows = PQntuples(res) ? col_text(call, res, 0, 0) : NULL;
	PQclear(res);
	return s;
}

/* -- the two calls */

struct access {
	const char *team, *own, *effective; /* team NULL: none */
};

static enum status access_read(struct rpc_call *call, struct db_conn *db, const char *user_id, struct access *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT m.team, m.row_scopes, " EFFECTIVE FROM_MEMBER, 1, &user_id);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*out = (struct access){ col_text(call, res, 0, 0), col_text(call, res, 0, 1), col_text(call, res, 0, 2) };
	PQclear(res);
	return s;
}

static ProtobufCBinaryData bytes_of(const char *text)
{
	return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

static void tell(struct rpc_call *call, struct db_conn *db, enum status s, const struct person *p, const struct access *a)
{
	Crm__V1__RowAccess out = CRM__V1__ROW_ACCESS__INIT;
	Crm__V1__Ref ref;

	if (s == STATUS_OK)
		s = resource_commit(db, call);
	if (s != STATUS_OK) {
		handler_fail(call, db, s);
		return;
	}
	ref = person_ref(p);
	out.user = &ref;
	out.team = (char *)a->team;
	out.has_row_scopes = out.has_effective = 1;
	out.row_scopes = bytes_of(a->own);
	out.effective = bytes_of(a->effective);
	handler_reply(call, &out);
}

void users_get_row_access(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct access a = { 0 };
	struct person p;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = person_see(call, db, req->key, &p);
	if (s == STATUS_OK)
		s = access_read(call, db, p.id, &a);
	tell(call, db, s, &p, &a);
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Who is limited could widen what they see by moving people into their team, or themselves into another. */
static enum status team_check(struct rpc_call *call, struct db_conn *db, const char *team)
{
	PGresult *res = NULL;
	enum status s = call->who.scope.n ? STATUS_PERMISSION_DENIED : STATUS_OK;

	if (s != STATUS_OK || !team)
		return s;
	s = db_exec(db, &res, "SELECT count(*) < " TEAM_MAX " FROM membership WHERE team = $1", 1, &team);
	if (s == STATUS_OK && *PQgetvalue(res, 0, 0) != 't') {
		rpc_violate(call, "team", "max_items", "must have at most " TEAM_MAX " members", TEAM_MAX);
		s = STATUS_VALIDATION_ERROR;
	}
	PQclear(res);
	return s;
}

static enum status access_write(struct rpc_call *call, struct db_conn *db, const char *user_id, const struct access *a)
{
	const char *params[] = { param_str(call, call->who.tenant_id), user_id, a->team, a->own };

	return db_exec(db, NULL,
		       "UPDATE membership SET team = $3, row_scopes = $4::jsonb, version = version + 1, updated_at = now()"
		       " WHERE tenant_id = $1::uuid AND user_id = $2::uuid",
		       4, params);
}

static enum status note(struct rpc_call *call, struct db_conn *db, const struct person *p, const struct access *before, const struct access *after)
{
	struct entity_event e = { .type = "auth.user.row_access_changed", .entity = "user", .entity_id = p->id, .entity_seq = p->seq, .version = p->version + 1 };
	const struct access *both[] = { before, after };
	const char *json[2];

	for (int i = 0; i < 2; i++) {
		struct buf b = { 0 };

		buf_z(&b, "{\"team\":");
		if (both[i]->team)
			buf_json_str(&b, str_of(both[i]->team));
		else
			buf_z(&b, "null");
		buf_printf(&b, ",\"row_scopes\":%s}", both[i]->own);
		json[i] = arena_strdup(&call->arena, buf_view(&b));
		buf_fini(&b);
	}
	e.before = json[0];
	e.after = json[1];
	return handler_event(call, db, &e);
}

/* now: as it is; becomes what is wanted. */
static enum status change(struct rpc_call *call, struct db_conn *db, const Crm__V1__SetRowAccessRequest *req, const struct person *p, struct access *now)
{
	struct access before = *now;
	enum status s = STATUS_OK;

	if (req->team)
		now->team = *req->team ? req->team : NULL;
	if (req->has_row_scopes)
		s = row_scopes_read(call, req->row_scopes, "row_scopes", &now->own);
	if (s == STATUS_OK && !same(before.team, now->team))
		s = team_check(call, db, now->team);
	if (s == STATUS_OK)
		s = access_write(call, db, p->id, now);
	if (s == STATUS_OK)
		s = row_scopes_of_member(call, db, p->id); /* as it is now: nobody gives what they do not have */
	if (s == STATUS_OK)
		s = people_announce(call, db, p->id, NULL);
	if (s == STATUS_OK && before.team && !same(before.team, now->team))
		s = people_announce_team(call, db, before.team);
	if (s == STATUS_OK && now->team && !same(before.team, now->team))
		s = people_announce_team(call, db, now->team);
	return s == STATUS_OK ? note(call, db, p, &before, now) : s;
}

void users_set_row_access(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__SetRowAccessRequest *req = handler_request(call, &crm__v1__set_row_access_request__descriptor);
	struct access a = { 0 };
	struct person p;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = people_lock(call, db);
	if (s == STATUS_OK)
		s = person_take(call, db, req->key, &p);
	if (s == STATUS_OK)
		s = access_read(call, db, p.id, &a);
	if (s == STATUS_OK)
		s = change(call, db, req, &p, &a);
	if (s == STATUS_OK)
		s = access_read(call, db, p.id, &a);
	tell(call, db, s, &p, &a);
}
