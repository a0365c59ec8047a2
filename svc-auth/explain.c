/* Auth.Explain: may somebody do that, by which rule, and who else may. */
#include "auth.h"

#include "people.h"
#include "row_scopes.h"

#define ROLES_SHOWN 32

/* "customers.update" is decided by customers.write, and so on; exact permissions speak for themselves. */
static const char *permission_of(struct rpc_call *call, const char *action, unsigned *bit)
{
	static const char *const writes[] = { "create", "update", "edit", "assign", "convert", "invite", "import" };
	static const char *const reads[] = { "list", "get", "view", "search", "stats" };
	const struct schema_permission *rows;
	size_t n = roles_known(&rows), dot = strcspn(action, ".");
	const char *verb = action[dot] ? action + dot + 1 : "", *name;

	for (size_t i = 0; i < sizeof(writes) / sizeof(*writes); i++)
		verb = strcmp(verb, writes[i]) == 0 ? "write" : verb;
	for (size_t i = 0; i < sizeof(reads) / sizeof(*reads); i++)
		verb = strcmp(verb, reads[i]) == 0 ? "read" : verb;
	name = arena_printf(&call->arena, "%.*s.%s", (int)dot, action, verb);
	for (size_t i = 0; i < n; i++) {
		if (rows[i].bit >= 8 && strcmp(rows[i].name, name) == 0) {
			*bit = rows[i].bit;
			return rows[i].name;
		}
	}
	return NULL;
}

static bool has(const struct perms *p, unsigned bit)
{
	return p->bits[bit / 64] >> (bit % 64) & 1;
}

static void judge(struct rpc_call *call, const struct person *p, const struct perms *role, unsigned bit, bool self, Crm__V1__Explanation *out)
{
	bool narrowed = self && has(&p->perms, bit) && !rpc_may(&call->who, bit);

	out->allowed = strcmp(p->status, "active") == 0 && has(&p->perms, bit) && !narrowed;
	if (strcmp(p->status, "active") != 0) {
		out->rule = "inactive";
		out->reason = "The member is not active, so nothing is allowed.";
	} else if (narrowed) {
		out->rule = "scope";
		out->reason = "The API key's scopes leave it out.";
	} else if (has(&p->perms, bit)) {
		out->rule = has(role, bit) ? "role" : "granted";
		out->reason = arena_printf(&call->arena, has(role, bit) ? "The role %s has %s." : "Granted to this member beyond the role %s: %s.", p->role,
					   out->permission);
	} else {
		out->rule = has(role, bit) ? "denied" : "none";
		out->reason = arena_printf(&call->arena, has(role, bit) ? "Taken away from this member although the role %s has %s." : "The role %s lacks %s.",
					   p->role, out->permission);
	}
}

static enum status roles_with(struct rpc_call *call, struct db_conn *db, unsigned bit, Crm__V1__Explanation *out)
{
	static const char *const builtin[] = { "admin", "manager", "agent", "user" };
	PGresult *res = NULL;
	struct perms p;
	enum status s = db_exec(db, &res, "SELECT name FROM role WHERE $1 = ANY (permissions) ORDER BY name LIMIT 28", 1, (const char *[]){ out->permission });

	out->role_with = arena_alloc(&call->arena, ROLES_SHOWN * sizeof(char *));
	for (size_t i = 0; i < 4; i++) {
		if (roles_builtin(builtin[i], &p) && has(&p, bit))
			out->role_with[out->n_role_with++] = (char *)builtin[i];
	}
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		out->role_with[out->n_role_with++] = col_text(call, res, i, 0);
	PQclear(res);
	return s;
}

/* About somebody else only for those who may read users. */
static enum status explain(struct rpc_call *call, struct db_conn *db, const Crm__V1__ExplainRequest *req, unsigned bit, Crm__V1__Explanation *out)
{
	Crm__V1__Key self = CRM__V1__KEY__INIT;
	const Crm__V1__Key *key = req->user && (req->user->id || req->user->has_seq) ? req->user : &self;
	struct perms role;
	struct person p;
	enum status s;

	self.id = (char *)param_str(call, call->who.user_id);
	if (key != &self && !rpc_may(&call->who, CRM__V1__PERMISSION__USERS_READ))
		return STATUS_PERMISSION_DENIED;
	s = person_see(call, db, key, &p);
	if (s == STATUS_OK)
		s = role_read(call, db, p.role, &role);
	if (s != STATUS_OK)
		return s;
	out->role = (char *)p.role;
	out->has_allowed = 1;
	s = member_rows(call, db, p.id, (struct str){ out->permission, strcspn(out->permission, ".") }, (const char **)&out->rows);
	if (s != STATUS_OK)
		return s;
	judge(call, &p, &role, bit, str_eq(str_of(p.id), call->who.user_id), out);
	return roles_with(call, db, bit, out);
}

void auth_explain(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__ExplainRequest *req = handler_request(call, &crm__v1__explain_request__descriptor);
	Crm__V1__Explanation out = CRM__V1__EXPLANATION__INIT;
	unsigned bit = 0;
	enum status s;

	if (!req)
		return;
	out.permission = (char *)permission_of(call, req->action, &bit);
	if (!out.permission) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "action", "in", "must be a permission or an action such as customers.update");
		return;
	}
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = explain(call, db, req, bit, &out);
	handler_end(call, db, s, &out);
}
