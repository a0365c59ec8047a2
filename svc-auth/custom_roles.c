/* Roles of the tenant beside the built-in ones, and the catalogue of what there is to give. */
#include "auth.h"

#include <ctype.h>

#include "people.h"
#include "resource/engine.h"
#include "row_scopes.h"
#include "words.h"

#define ROLES_MAX 96 /* own roles of a tenant: with the built-in ones they fit on one page */
#define NAME_MAX_BYTES 50
#define PAGE_DEFAULT 20
#define PAGE_MAX 100

static const struct {
	const char *name, *title, *description;
} builtin[] = {
	{ "admin", "Administrator", "Everything" },
	{ "manager", "Manager", "Everything except deleting users and companies, roles and API keys" },
	{ "agent", "Agent", "Customers, contacts, leads and tags" },
	{ "user", "User", "The same as agent" },
};

#define N_BUILTIN (sizeof(builtin) / sizeof(*builtin))

static void set_words(struct rpc_call *call, Crm__V1__Role *r, const struct perms *p)
{
	r->permission = arena_alloc(&call->arena, 128 * sizeof(char *));
	r->n_permission = words_of(p, r->permission);
}

static Crm__V1__Role *builtin_role(struct rpc_call *call, size_t i)
{
	Crm__V1__Role *r = arena_alloc(&call->arena, sizeof(*r));
	struct perms p;

	crm__v1__role__init(r);
	r->name = (char *)builtin[i].name;
	r->title = (char *)builtin[i].title;
	r->description = (char *)builtin[i].description;
	r->has_built_in = r->built_in = 1;
	roles_builtin(builtin[i].name, &p);
	set_words(call, r, &p);
	return r;
}

#define ROLE_COLUMNS "name, title, permissions, description, row_scopes"
#define ROLE_COLUMNS_N 5

static Crm__V1__Role *role_of_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Role *r = arena_alloc(&call->arena, sizeof(*r));
	struct perms p = { { 0, 0 } };

	crm__v1__role__init(r);
	r->name = col_text(call, res, i, 0);
	r->title = col_is_null(res, i, 1) ? r->name : col_text(call, res, i, 1);
	perms_apply(&p, PQgetvalue(res, i, 2), false);
	set_words(call, r, &p);
	r->description = col_text(call, res, i, 3);
	r->has_row_scopes = 1;
	r->row_scopes = (ProtobufCBinaryData){ (size_t)PQgetlength(res, i, 4), (uint8_t *)col_text(call, res, i, 4) };
	r->has_built_in = 1;
	return r;
}

static enum status count_members(struct db_conn *db, Crm__V1__Role **rows, size_t n)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT role, count(*) FROM membership WHERE status <> 'deleted' GROUP BY role", 0, NULL);

	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		rows[i]->has_members = 1;
		for (int j = 0; j < PQntuples(res); j++) {
			if (strcmp(PQgetvalue(res, j, 0), rows[i]->name) == 0)
				rows[i]->members = col_i64(res, j, 1);
		}
	}
	PQclear(res);
	return s;
}

static enum status all(struct rpc_call *call, struct db_conn *db, Crm__V1__Role **rows, size_t *n)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT " ROLE_COLUMNS " FROM role ORDER BY lower(coalesce(title, name)), name LIMIT 96", 0, NULL);

	*n = 0;
	for (size_t i = 0; i < N_BUILTIN; i++)
		rows[(*n)++] = builtin_role(call, i);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		rows[(*n)++] = role_of_row(call, res, i);
	PQclear(res);
	return s == STATUS_OK ? count_members(db, rows, *n) : s;
}

/* There are too few to search or sort them. */
void roles_list(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ListRequest *req = handler_request(call, &crm__v1__list_request__descriptor);
	Crm__V1__ListReply out = CRM__V1__LIST_REPLY__INIT;
	Crm__V1__Role *rows[N_BUILTIN + ROLES_MAX];
	size_t n = 0, limit, at;
	enum status s;

	if (!req)
		return;
	if (req->n_filter || req->n_sort || (req->cursor && *req->cursor)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = all(call, db, rows, &n);
	if (s == STATUS_OK)
		s = db_commit(db);
	if (s != STATUS_OK) {
		handler_fail(call, db, s);
		return;
	}
	limit = req->limit ? (req->limit > PAGE_MAX ? PAGE_MAX : req->limit) : PAGE_DEFAULT;
	at = req->has_offset && req->offset < n ? req->offset : (req->has_offset ? n : 0);
	out.item = arena_alloc(&call->arena, (n + 1) * sizeof(*out.item));
	for (; at < n && out.n_item < limit; at++) {
		struct str bytes = handler_pack(call, rows[at]);

		out.item[out.n_item++] = (ProtobufCBinaryData){ bytes.n, (uint8_t *)bytes.p };
	}
	out.has_total = 1;
	out.total = n;
	handler_reply(call, &out);
}

/* -- writing */

static enum status permissions_of(struct rpc_call *call, const Crm__V1__Role *in, struct perms *out)
{
	static const struct perms nothing;
	const char *bad;

	if (!words_perms(&nothing, in->permission, in->n_permission, out, &bad)) {
		rpc_violate(call, "permission", "in", "must be permissions", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	return caller_covers(call, out) ? STATUS_OK : STATUS_PERMISSION_DENIED;
}

/* *out stays when the request says nothing of rows. The caller's own limit must cover what comes of it. */
static enum status rows_of(struct rpc_call *call, const Crm__V1__Role *in, const char **out)
{
	enum status s = in->has_row_scopes ? row_scopes_read(call, in->row_scopes, "row_scopes", out) : STATUS_OK;

	return s == STATUS_OK && !row_scopes_covered(call, *out) ? STATUS_PERMISSION_DENIED : s;
}

/* "Sales Lead" becomes "sales_lead": a word for tokens and paths that never changes afterwards. */
static const char *name_of(struct rpc_call *call, const char *title)
{
	char *name = arena_alloc(&call->arena, NAME_MAX_BYTES + 1);
	size_t n = 0;

	for (const char *c = title; *c && n < NAME_MAX_BYTES; c++) {
		if (isascii((unsigned char)*c) && isalnum((unsigned char)*c))
			name[n++] = (char)tolower((unsigned char)*c);
		else if (n && name[n - 1] != '_')
			name[n++] = '_';
	}
	while (n && name[n - 1] == '_')
		n--;
	name[n] = 0;
	return n ? name : NULL;
}

struct row {
	const char *id, *json;
	uint64_t version;
	Crm__V1__Role *role;
};

static enum status read(struct rpc_call *call, struct db_conn *db, const char *name, struct row *out)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT " ROLE_COLUMNS ", id, version, to_jsonb(r) FROM role r WHERE name = $1 FOR UPDATE", 1, &name);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*out = (struct row){ col_text(call, res, 0, ROLE_COLUMNS_N), col_text(call, res, 0, ROLE_COLUMNS_N + 2), (uint64_t)col_i64(res, 0, ROLE_COLUMNS_N + 1), role_of_row(call, res, 0) };
	PQclear(res);
	return s == STATUS_OK ? count_members(db, &out->role, 1) : s;
}

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const struct row *before, const struct row *after)
{
	const struct row *any = after ? after : before;
	struct entity_event e = { .type = type, .entity = "role", .entity_id = any->id, .version = after ? after->version : before->version + 1,
		.before = before ? before->json : NULL, .after = after ? after->json : NULL };

	return handler_event(call, db, &e);
}

static const char *array_of(struct rpc_call *call, const struct perms *p)
{
	char *words[128];

	return param_array(call, words, words_of(p, words));
}

static enum status insert(struct rpc_call *call, struct db_conn *db, const Crm__V1__Role *in, struct row *out)
{
	const char *name = name_of(call, in->title);
	const char *rows = "{}";
	struct perms p, taken;
	PGresult *res = NULL;
	enum status s = permissions_of(call, in, &p);

	if (s == STATUS_OK && !name) {
		rpc_violate(call, "title", "slug", "must have letters or digits", NULL);
		s = STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_OK && roles_builtin(name, &taken))
		s = STATUS_DUPLICATE;
	if (s == STATUS_OK)
		s = rows_of(call, in, &rows);
	if (s == STATUS_OK) {
		const char *params[] = { param_str(call, call->who.tenant_id), name, in->title, array_of(call, &p), in->description, rows };

		s = db_exec(db, &res,
			    "INSERT INTO role (tenant_id, name, title, permissions, description, row_scopes)"
			    " SELECT $1::uuid, $2, $3, $4::text[], nullif($5, ''), $6::jsonb WHERE (SELECT count(*) FROM role) < 96 RETURNING name",
			    6, params);
		if (s == STATUS_OK && PQntuples(res) == 0)
			s = STATUS_CONFLICT;
		PQclear(res);
	}
	if (s == STATUS_DUPLICATE)
		rpc_violate(call, "title", "unique", "is taken", NULL);
	return s == STATUS_OK ? read(call, db, name, out) : s;
}

/* Validates the role that a request carries. NULL: replied. */
static Crm__V1__RoleRequest *request(struct rpc_call *call, bool named, bool whole)
{
	Crm__V1__RoleRequest *req = handler_request(call, &crm__v1__role_request__descriptor);

	if (!req)
		return NULL;
	if (named && (!req->name || !*req->name)) {
		rpc_reply_error(call, STATUS_NOT_FOUND, NULL);
		return NULL;
	}
	if (whole && (!req->role || !req->role->title || !*req->role->title)) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "role.title", "required", "is required");
		return NULL;
	}
	return req;
}

static void finish(struct rpc_call *call, struct db_conn *db, enum status s, const struct row *row)
{
	for (size_t i = 0; i < call->n_violations; i++) { /* the request holds the role as a part of it */
		if (s != STATUS_OK && strchr(call->violations[i].path, '.') == NULL)
			call->violations[i].path = arena_printf(&call->arena, "role.%s", call->violations[i].path);
	}
	handler_end_once(call, db, s, s == STATUS_OK && row ? row->role : NULL);
}

void roles_create(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__RoleRequest *req = request(call, false, true);
	struct row row;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = people_lock(call, db);
	if (s == STATUS_OK)
		s = insert(call, db, req->role, &row);
	if (s == STATUS_OK)
		s = note(call, db, "auth.role.created", NULL, &row);
	finish(call, db, s, &row);
}

/* CONFLICT: what is built in stays as it is. PERMISSION_DENIED: the role may more than the caller. */
static enum status take(struct rpc_call *call, struct db_conn *db, const char *name, struct row *row)
{
	struct perms p;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK && roles_builtin(name, &p))
		return STATUS_CONFLICT;
	if (s == STATUS_OK)
		s = read(call, db, name, row);
	if (s == STATUS_OK)
		s = role_read(call, db, name, &p);
	if (s == STATUS_OK && !caller_covers(call, &p))
		s = STATUS_PERMISSION_DENIED;
	return s == STATUS_OK ? row_scopes_of_role(call, db, name) : s;
}

static enum status change(struct rpc_call *call, struct db_conn *db, const Crm__V1__RoleRequest *req, const struct row *old)
{
	const Crm__V1__Role *in = req->role;
	bool permissions = in->n_permission || (req->has_set_permission && req->set_permission);
	const char *params[] = { req->name, in->title && *in->title ? in->title : old->role->title, NULL,
		in->description ? in->description : old->role->description, (const char *)old->role->row_scopes.data };
	struct perms p = { { 0, 0 } };
	enum status s = permissions ? permissions_of(call, in, &p) : role_read(call, db, req->name, &p);

	params[2] = array_of(call, &p);
	if (s == STATUS_OK)
		s = rows_of(call, in, &params[4]);
	if (s == STATUS_OK)
		s = db_exec(db, NULL,
			    "UPDATE role SET title = $2, permissions = $3::text[], description = nullif($4, ''), row_scopes = $5::jsonb,"
			    " version = version + 1, updated_at = now() WHERE name = $1",
			    5, params);
	return s == STATUS_OK && (permissions || in->has_row_scopes) ? people_announce(call, db, NULL, req->name) : s;
}

void roles_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__RoleRequest *req = request(call, true, false);
	struct row before, after;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = take(call, db, req->name, &before);
	if (s == STATUS_OK && req->role)
		s = change(call, db, req, &before);
	if (s == STATUS_OK)
		s = read(call, db, req->name, &after);
	if (s == STATUS_OK)
		s = note(call, db, "auth.role.updated", &before, &after);
	finish(call, db, s, &after);
}

/* CONFLICT while somebody has it, or is invited to. */
static enum status unused(struct db_conn *db, const char *name)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT FROM membership WHERE role = $1 AND status <> 'deleted' UNION ALL"
				" SELECT FROM invitation WHERE role = $1 AND status = 'pending' AND expires_at > now() LIMIT 1",
				1, &name);

	if (s == STATUS_OK && PQntuples(res))
		s = STATUS_CONFLICT;
	PQclear(res);
	return s;
}

void roles_delete(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__RoleRequest *req = request(call, true, false);
	struct row row;
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = take(call, db, req->name, &row);
	if (s == STATUS_OK)
		s = unused(db, req->name);
	if (s == STATUS_OK) {
		const char *name = req->name;

		s = db_exec(db, NULL, "DELETE FROM role WHERE name = $1", 1, &name);
	}
	if (s == STATUS_OK)
		s = note(call, db, "auth.role.deleted", &row, NULL);
	finish(call, db, s, NULL);
}

void roles_catalogue(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__PermissionCatalogue out = CRM__V1__PERMISSION_CATALOGUE__INIT;
	struct perms everything;
	char *words[128];

	(void)db;
	roles_builtin("admin", &everything);
	out.n_permission = words_of(&everything, words);
	out.permission = arena_alloc(&call->arena, (out.n_permission + 1) * sizeof(*out.permission));
	for (size_t i = 0; i < out.n_permission; i++) {
		Crm__V1__PermissionInfo *p = arena_alloc(&call->arena, sizeof(*p));
		size_t n = strcspn(words[i], ".");

		crm__v1__permission_info__init(p);
		p->name = words[i];
		p->resource = arena_strdup(&call->arena, (struct str){ words[i], n });
		p->action = words[i] + n + (words[i][n] == '.');
		out.permission[i] = p;
	}
	handler_reply(call, &out);
}
