/* What all handlers that change members share: finding, authority, the last administrator, telling the gateways. */
#include "people.h"

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "pool.h"
#include "row_scopes.h"
#include "service/service.h"
#include "session.h"

#define RETRY_MS 1000

static const char *tenant_of(struct rpc_call *call)
{
	return param_str(call, call->who.tenant_id);
}

/* Not FOR UPDATE: logins refer to the tenant's row while they insert their session. */
enum status people_lock(struct rpc_call *call, struct db_conn *db)
{
	const char *tenant = tenant_of(call);

	return db_exec(db, NULL, "SELECT FROM tenant WHERE id = $1::uuid FOR NO KEY UPDATE", 1, &tenant);
}

Crm__V1__Ref person_ref(const struct person *p)
{
	Crm__V1__Ref ref = CRM__V1__REF__INIT;

	ref.id = (char *)p->id;
	ref.has_seq = 1;
	ref.seq = p->seq;
	ref.name = p->user->display ? p->user->display : (char *)p->email;
	ref.email = (char *)p->email;
	return ref;
}

bool caller_covers(const struct rpc_call *call, const struct perms *p)
{
	return !(p->bits[0] & ~call->who.permissions[0]) && !(p->bits[1] & ~call->who.permissions[1]);
}

static enum status lock_rows(struct rpc_call *call, struct db_conn *db, const char *const params[2])
{
	PGresult *res = NULL;
	const char *id = NULL;
	enum status s = db_exec(db, &res,
				"SELECT user_id FROM membership WHERE (user_id = $1::uuid OR seq = $2::bigint) AND status <> 'deleted' FOR UPDATE", 2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		id = col_text(call, res, 0, 0);
	PQclear(res);
	return s == STATUS_OK ? db_exec(db, NULL, "SELECT FROM person WHERE id = $1::uuid FOR UPDATE", 1, &id) : s;
}

static enum status is_elsewhere(struct rpc_call *call, struct db_conn *db, struct person *p)
{
	const char *params[] = { p->id, tenant_of(call) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT count(*) FROM memberships_of($1::uuid) WHERE tenant_id <> $2::uuid AND status <> 'deleted' AND tenant_status <> 'deleted'",
				2, params);

	if (s == STATUS_OK)
		p->elsewhere = col_i64(res, 0, 0) > 0;
	PQclear(res);
	return s;
}

static void person_of_row(struct rpc_call *call, const PGresult *res, struct person *p)
{
	p->user = user_of_row(call, res, 0);
	p->id = p->user->id;
	p->email = p->user->email;
	p->role = p->user->role;
	p->status = p->user->status;
	p->seq = p->user->seq;
	p->version = p->user->version;
	p->perms = perms_of_row(call, res, 0);
	p->json = col_text(call, res, 0, USER_COLUMNS_N);
}

static enum status read(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, bool lock, struct person *out)
{
	char id[UUID_TEXT + 1];
	bool by_id = key && key->id && uuid_parse(str_of(key->id), id);
	const char *params[] = { by_id ? id : NULL, key && !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	PGresult *res = NULL;
	enum status s = key ? STATUS_OK : STATUS_BAD_REQUEST;

	if (s == STATUS_OK && lock)
		s = lock_rows(call, db, params);
	if (s == STATUS_OK)
		s = db_exec(db, &res,
			    "SELECT " USER_COLUMNS ", to_jsonb(v) FROM user_view v WHERE id = $1::uuid OR seq = $2::bigint", 2,
			    params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		person_of_row(call, res, out);
	PQclear(res);
	return s;
}

enum status person_see(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct person *out)
{
	*out = (struct person){ 0 };
	return read(call, db, key, false, out);
}

enum status person_take(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct person *out)
{
	enum status s;

	*out = (struct person){ 0 };
	s = read(call, db, key, true, out);
	if (s == STATUS_OK && !caller_covers(call, &out->perms))
		s = STATUS_PERMISSION_DENIED;
	if (s == STATUS_OK)
		s = row_scopes_of_member(call, db, out->id);
	return s == STATUS_OK ? is_elsewhere(call, db, out) : s;
}

enum status role_read(struct rpc_call *call, struct db_conn *db, const char *role, struct perms *out)
{
	PGresult *res = NULL;
	enum status s;

	if (roles_builtin(role, out))
		return STATUS_OK;
	s = db_exec(db, &res, "SELECT permissions FROM role WHERE name = $1", 1, &role);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	memset(out, 0, sizeof(*out));
	if (s == STATUS_OK)
		perms_apply(out, PQgetvalue(res, 0, 0), false);
	PQclear(res);
	return s;
}

enum status role_grantable(struct rpc_call *call, struct db_conn *db, const char *role, const char *path, struct perms *out)
{
	enum status s = role_read(call, db, role, out);

	if (s == STATUS_NOT_FOUND) {
		rpc_violate(call, path, "exists", "is no role of this company", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	if (s == STATUS_OK && !caller_covers(call, out))
		s = STATUS_PERMISSION_DENIED;
	return s == STATUS_OK ? row_scopes_of_role(call, db, role) : s;
}

enum status people_keep_admin(struct rpc_call *call, struct db_conn *db)
{
	const char *tenant = tenant_of(call);
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT FROM membership WHERE tenant_id = $1::uuid AND role = 'admin' AND status = 'active' AND denied = '{}' LIMIT 1", 1,
				&tenant);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	PQclear(res);
	return s;
}

/* -- telling the gateways */

static enum status announce_rows(struct rpc_call *call, struct db_conn *db, const PGresult *members)
{
	int n = PQntuples(members);
	size_t size = ((size_t)n + 1) * sizeof(char *);
	char **id = arena_alloc(&call->arena, size), **low = arena_alloc(&call->arena, size), **high = arena_alloc(&call->arena, size),
	     **role = arena_alloc(&call->arena, size), **revoked = arena_alloc(&call->arena, size), **limited = arena_alloc(&call->arena, size);
	const char *params[6];

	for (int i = 0; i < n; i++) {
		const char *name = col_text(call, members, i, 1);
		struct perms p = roles_member(name, col_text(call, members, i, 2), col_text(call, members, i, 3), col_text(call, members, i, 4));

		id[i] = col_text(call, members, i, 0);
		low[i] = (char *)param_i64(call, (int64_t)p.bits[0]);
		high[i] = (char *)param_i64(call, (int64_t)p.bits[1]);
		role[i] = (char *)name;
		revoked[i] = col_text(call, members, i, 5);
		limited[i] = col_text(call, members, i, 6);
	}
	params[0] = param_array(call, id, (size_t)n);
	params[1] = param_array(call, low, (size_t)n);
	params[2] = param_array(call, high, (size_t)n);
	params[3] = param_array(call, role, (size_t)n);
	params[4] = param_array(call, revoked, (size_t)n);
	params[5] = param_array(call, limited, (size_t)n);
	return db_exec(db, NULL,
		       "INSERT INTO change (kind, id, permissions_low, permissions_high, role, revoked, limited)"
		       " SELECT 'member', * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::boolean[])"
		       " ON CONFLICT (kind, id) DO UPDATE SET xid = pg_current_xact_id(), at = now(), permissions_low = excluded.permissions_low,"
		       " permissions_high = excluded.permissions_high, role = excluded.role, revoked = excluded.revoked,"
		       " limited = excluded.limited",
		       6, params);
}

static enum status announce(struct rpc_call *call, struct db_conn *db, const char *user_id, const char *role, const char *team)
{
	const char *params[] = { tenant_of(call), user_id, role, team };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT m.tenant_id || '/' || m.user_id, m.role, r.permissions, m.granted, m.denied, m.status <> 'active',"
				" row_scopes_of(r.row_scopes, m.row_scopes) <> '{}' FROM membership m"
				" LEFT JOIN role r ON r.tenant_id = m.tenant_id AND r.name = m.role"
				" WHERE m.tenant_id = $1::uuid AND ($2::uuid IS NULL OR m.user_id = $2::uuid) AND ($3::text IS NULL OR m.role = $3)"
				" AND ($4::text IS NULL OR (m.team = $4 AND row_scopes_of(r.row_scopes, m.row_scopes) <> '{}'))",
				4, params);

	if (s == STATUS_OK)
		s = announce_rows(call, db, res);
	PQclear(res);
	return s;
}

enum status people_announce(struct rpc_call *call, struct db_conn *db, const char *user_id, const char *role)
{
	return announce(call, db, user_id, role, NULL);
}

enum status people_announce_team(struct rpc_call *call, struct db_conn *db, const char *team)
{
	return announce(call, db, NULL, NULL, team);
}

/* Each session is named to the gateways: a member who comes back must not bring old tokens back to life. */
enum status sessions_end(struct db_conn *db, const char *user_id, const char *tenant_id, const char *but, const char *why)
{
	const char *params[] = { user_id, tenant_id, but, why };

	return db_exec(db, NULL,
		       "WITH dead AS (UPDATE session SET revoked_at = now(), revoked_why = $4 WHERE user_id = $1::uuid AND revoked_at IS NULL"
		       " AND ($2::uuid IS NULL OR tenant_id = $2::uuid) AND ($3::uuid IS NULL OR id <> $3::uuid) RETURNING id)"
		       " INSERT INTO change (kind, id, revoked) SELECT 'session', id::text, true FROM dead"
		       " ON CONFLICT (kind, id) DO UPDATE SET xid = pg_current_xact_id(), at = now(), revoked = true",
		       4, params);
}

enum status person_event(struct rpc_call *call, struct db_conn *db, const char *type, const struct person *before, bool gone)
{
	struct entity_event e = { .type = type, .entity = "user", .entity_id = before->id, .entity_seq = before->seq, .version = before->version + 1,
		.before = before->json };
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	struct person now;
	enum status s;

	if (gone)
		return handler_event(call, db, &e);
	key.id = (char *)before->id;
	s = person_see(call, db, &key, &now);
	if (s != STATUS_OK)
		return s;
	e.version = now.version;
	e.after = now.json;
	return handler_event(call, db, &e);
}

/* -- hashing */

static void hash(void *arg)
{
	struct hashing *h = arg;

	log_context(h->call->traceparent, h->call->request_id, (struct str){ "", 0 });
	if (h->call->deadline_us && clock_us() > h->call->deadline_us)
		rpc_reply_error(h->call, STATUS_DEADLINE_EXCEEDED, NULL);
	else if (!password_hash(str_of(h->password), h->hash) || !db_work(service_db(), h->then, h->arg))
		rpc_reply_retry(h->call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

void hashing_start(struct hashing *h)
{
	if (!pool_submit(hash, h))
		rpc_reply_retry(h->call, STATUS_UNAVAILABLE, NULL, RETRY_MS);
}

size_t words_of_array(struct rpc_call *call, const char *array, char ***words)
{
	size_t n = 0, max = 1;

	for (const char *c = array ? array : ""; *c; c++)
		max += *c == ',';
	*words = arena_alloc(&call->arena, max * sizeof(char *));
	for (const char *s = array ? array : ""; *s;) {
		size_t len = strcspn(s, "{},\"");

		if (len)
			(*words)[n++] = arena_strdup(&call->arena, (struct str){ s, len });
		s += len ? len : 1;
	}
	return n;
}
