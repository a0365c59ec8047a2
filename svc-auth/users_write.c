/* People of the tenant: Create, Update, Delete, SetStatus, BulkUpdate. */
#include "auth.h"
#include "avatars.h"

#include "base/codec.h"
#include "base/log.h"
#include "changes.h"
#include "common.h"
#include "names.h"
#include "overrides.h"
#include "people.h"
#include "resets.h"
#include "resource/engine.h"
#include "service/service.h"
#include "session.h"

#define FIRST_ROLE "user"
#define BULK_MAX 100

/* Field numbers of crm.v1.User. */
enum { EMAIL = 16, DISPLAY = 17, GIVEN = 18, FAMILY = 19, ROLE = 20, AVATAR = 21, STATUS = 22, PREFERENCES = 23, GRANT = 29 };

/* -- Create */

struct creation {
	struct rpc_call *call;
	const Crm__V1__User *in;
	const char *email, *role;
	struct names names;
	char id[UUID_TEXT + 1];
	struct hashing hashing;
};

/*
 * A person exists once. Somebody whom another company knows is not ours to make: they are invited and agree themselves.
 * Who left this company and belongs to no other comes back as they are made now.
 */
static enum status come_back(struct creation *c, struct db_conn *db, bool *back)
{
	const char *params[] = { c->email, param_str(c->call, c->call->who.tenant_id) };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"SELECT p.id, (SELECT count(*) FROM memberships_of(p.id) m WHERE m.tenant_id <> $2::uuid OR m.status <> 'deleted'),"
				" EXISTS (SELECT FROM membership m WHERE m.tenant_id = $2::uuid AND m.user_id = p.id)"
				" FROM person p WHERE lower(p.email) = lower($1) FOR UPDATE",
				2, params);

	*back = s == STATUS_OK && PQntuples(res) > 0;
	if (*back && (col_i64(res, 0, 1) > 0 || *PQgetvalue(res, 0, 2) != 't')) {
		rpc_violate(c->call, "email", "unique", "is already registered; send an invitation instead", NULL);
		s = STATUS_DUPLICATE;
	}
	if (*back && s == STATUS_OK)
		memcpy(c->id, PQgetvalue(res, 0, 0), UUID_TEXT + 1);
	PQclear(res);
	return s;
}

static enum status write_person(struct creation *c, struct db_conn *db)
{
	const char *params[] = { c->id, c->email, c->names.display, c->names.given, c->names.family, c->in->avatar };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"INSERT INTO person (id, email, display, given, family, avatar)"
				" VALUES ($1::uuid, $2, nullif($3, ''), nullif($4, ''), nullif($5, ''), nullif($6, ''))"
				" ON CONFLICT (id) DO UPDATE SET display = excluded.display, given = excluded.given, family = excluded.family,"
				" avatar = excluded.avatar, version = person.version + 1, updated_at = now() RETURNING id",
				6, params);

	PQclear(res);
	return s;
}

/* One who comes back must not do so with the password of then. */
static enum status write_credential(struct creation *c, struct db_conn *db)
{
	const char *params[] = { c->id, *c->hashing.hash ? c->hashing.hash : "none" };

	return db_exec(db, NULL,
		       "INSERT INTO credential (person_id, password_hash) VALUES ($1::uuid, $2)"
		       " ON CONFLICT (person_id) DO UPDATE SET password_hash = excluded.password_hash, changed_at = now()",
		       2, params);
}

static enum status write_member(struct creation *c, struct db_conn *db, bool back)
{
	const char *tenant = param_str(c->call, c->call->who.tenant_id), *status = c->in->status && *c->in->status ? c->in->status : "active";
	int64_t seq = 0;
	enum status s = back ? STATUS_OK : handler_seq(c->call, db, tenant, "user", &seq);

	if (s == STATUS_OK) {
		const char *params[] = { tenant, c->id, param_i64(c->call, seq), c->role, status };

		s = db_exec(db, NULL,
			    "INSERT INTO membership (tenant_id, user_id, seq, role, status) VALUES ($1::uuid, $2::uuid, $3::bigint, $4, $5)"
			    " ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role, status = excluded.status, granted = '{}', denied = '{}', row_scopes = '{}',"
			    " deleted_at = NULL, last_login_at = NULL, version = membership.version + 1, updated_at = now()",
			    5, params);
	}
	return s;
}

static enum status write_all(struct creation *c, struct db_conn *db)
{
	struct perms role;
	struct overrides o = { 0 };
	bool back = false;
	enum status s = people_lock(c->call, db);

	if (s == STATUS_OK)
		s = role_grantable(c->call, db, c->role, "role", &role);
	if (s == STATUS_OK && c->in->n_grant)
		s = overrides_of(c->call, &role, c->in->grant, c->in->n_grant, &o);
	if (s == STATUS_OK)
		s = come_back(c, db, &back);
	if (s == STATUS_OK)
		s = write_person(c, db);
	if (s == STATUS_OK)
		s = write_credential(c, db);
	if (s == STATUS_OK)
		s = write_member(c, db, back);
	if (s == STATUS_OK && o.granted)
		s = overrides_write(c->call, db, c->id, &o);
	if (s == STATUS_OK && back)
		s = people_announce(c->call, db, c->id, NULL);
	if (s == STATUS_OK && !*c->hashing.hash)
		s = reset_mail(c->call, db, c->id, "welcome");
	return s;
}

static enum status note_created(struct creation *c, struct db_conn *db, Crm__V1__User **out)
{
	struct entity_event e = { .type = "auth.user.created", .entity = "user", .entity_id = c->id, .version = 1 };
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	struct person now;
	enum status s;

	key.id = c->id;
	s = person_see(c->call, db, &key, &now);
	if (s != STATUS_OK)
		return s;
	e.entity_seq = now.seq;
	e.version = now.version;
	e.after = now.json;
	*out = now.user;
	return handler_event(c->call, db, &e);
}

static void create(struct db_conn *db, void *arg)
{
	struct creation *c = arg;
	Crm__V1__User *out = NULL;
	enum status s;

	log_context(c->call->traceparent, c->call->request_id, c->call->who.tenant_id);
	if (!handler_begin(c->call, db, &s))
		return;
	if (s == STATUS_OK)
		s = write_all(c, db);
	if (s == STATUS_OK)
		s = note_created(c, db, &out);
	handler_end_once(c->call, db, s, out);
}

void users_create(struct rpc_call *call)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__User *in = w ? handler_entity(call, w, &crm__v1__user__descriptor, true) : NULL;
	struct creation *c;

	if (!in)
		return;
	if (in->password && !password_acceptable(call, "password", in->password)) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	c = ARENA_NEW(&call->arena, struct creation);
	*c = (struct creation){ .call = call, .in = in, .role = in->role && *in->role ? in->role : FIRST_ROLE,
		.names = { in->display, in->given, in->family } };
	c->email = email_normalise(&call->arena, str_of(in->email));
	if (!c->email) {
		handler_violation(call, NULL, STATUS_VALIDATION_ERROR, "email", "email", "must be a valid e-mail address");
		return;
	}
	names_complete(&call->arena, &c->names);
	uuid7(c->id);
	c->hashing = (struct hashing){ .call = call, .password = in->password, .then = create, .arg = c };
	if (in->password && *in->password)
		hashing_start(&c->hashing);
	else if (!db_work(service_db(), create, c))
		rpc_reply_retry(call, STATUS_UNAVAILABLE, NULL, 1000);
}

/* -- Update */

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

struct change {
	const Crm__V1__WriteRequest *w;
	const Crm__V1__User *in;
	const char *email, *avatar, *role, *status, *preferences;
	struct names names;
	bool personal, role_changed, status_changed;
};

static struct str bytes_of(const Crm__V1__User *u)
{
	return u->has_preferences ? (struct str){ (char *)u->preferences.data, u->preferences.len } : (struct str){ "", 0 };
}

static void merge_names(struct rpc_call *call, struct change *c, const Crm__V1__User *old)
{
	bool display = handler_writes(c->w, DISPLAY), given = handler_writes(c->w, GIVEN), family = handler_writes(c->w, FAMILY);

	c->names = (struct names){ old->display, old->given, old->family };
	if (display && !same(c->in->display, old->display))
		c->names = (struct names){ c->in->display, NULL, NULL };
	else if (given || family)
		c->names.display = NULL;
	if (given)
		c->names.given = c->in->given;
	if (family)
		c->names.family = c->in->family;
	names_complete(&call->arena, &c->names);
}

/* Role and status that are cleared stay: there is no member without them. */
static enum status merge(struct rpc_call *call, struct change *c, const struct person *p)
{
	const Crm__V1__User *old = p->user, *in = c->in;

	c->email = handler_writes(c->w, EMAIL) ? email_normalise(&call->arena, str_of(in->email ? in->email : "")) : p->email;
	c->avatar = handler_writes(c->w, AVATAR) ? avatar_written(in->avatar, old->avatar) : old->avatar;
	c->role = in->role && *in->role && handler_writes(c->w, ROLE) ? in->role : p->role;
	c->status = in->status && *in->status && handler_writes(c->w, STATUS) ? in->status : p->status;
	c->preferences = param_str(call, bytes_of(handler_writes(c->w, PREFERENCES) ? in : old));
	merge_names(call, c, old);
	if (!c->email) {
		rpc_violate(call, "email", "email", "must be a valid e-mail address", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	c->personal = !str_ieq(str_of(c->email), str_of(p->email)) || !same(c->avatar, old->avatar) || !same(c->names.display, old->display) ||
	    !same(c->names.given, old->given) || !same(c->names.family, old->family) || !same(c->preferences, param_str(call, bytes_of(old)));
	c->role_changed = strcmp(c->role, p->role) != 0;
	c->status_changed = strcmp(c->status, p->status) != 0;
	return STATUS_OK;
}

static enum status update_person(struct rpc_call *call, struct db_conn *db, const struct person *p, const struct change *c)
{
	const char *params[] = { p->id, c->names.display, c->names.given, c->names.family, c->avatar, c->preferences, c->email };
	enum status s;

	if (p->elsewhere) {
		rpc_violate(call, str_ieq(str_of(c->email), str_of(p->email)) ? "display" : "email", "read_only",
			    "belongs to somebody of several companies: only they can change it", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	s = db_exec(db, NULL,
		    "UPDATE person SET display = nullif($2, ''), given = nullif($3, ''), family = nullif($4, ''), avatar = nullif($5, ''),"
		    " preferences = $6::jsonb, email = $7, version = version + 1, updated_at = now() WHERE id = $1::uuid",
		    7, params);
	if (s == STATUS_DUPLICATE)
		rpc_violate(call, "email", "unique", "is already registered", NULL);
	return s == STATUS_OK ? change_note(call, db, "ref", arena_printf(&call->arena, "user/%s", p->id), 0, false) : s;
}

/* What was granted or taken away on top of the old role means nothing on top of the new one. */
static enum status update_role(struct rpc_call *call, struct db_conn *db, const struct person *p, const char *role)
{
	const char *params[] = { param_str(call, call->who.tenant_id), p->id, role };
	struct perms perms;
	enum status s = role_grantable(call, db, role, "role", &perms);

	if (s == STATUS_OK)
		s = db_exec(db, NULL,
			    "UPDATE membership SET role = $3, granted = '{}', denied = '{}', row_scopes = '{}', version = version + 1, updated_at = now()"
			    " WHERE tenant_id = $1::uuid AND user_id = $2::uuid",
			    3, params);
	return s;
}

static enum status update_status(struct rpc_call *call, struct db_conn *db, const struct person *p, const char *status)
{
	const char *params[] = { param_str(call, call->who.tenant_id), p->id, status };
	enum status s = db_exec(db, NULL,
				"UPDATE membership SET status = $3, deleted_at = CASE $3 WHEN 'deleted' THEN now() END, version = version + 1, updated_at = now()"
				" WHERE tenant_id = $1::uuid AND user_id = $2::uuid",
				3, params);

	if (s == STATUS_OK && strcmp(status, "active") != 0)
		s = sessions_end(db, p->id, params[0], NULL, status);
	return s;
}

static enum status update_grant(struct rpc_call *call, struct db_conn *db, const struct person *p, const struct change *c)
{
	struct overrides o;
	struct perms role;
	enum status s = role_read(call, db, c->role, &role);

	if (s == STATUS_OK)
		s = overrides_of(call, &role, c->in->grant, c->in->n_grant, &o);
	return s == STATUS_OK ? overrides_write(call, db, p->id, &o) : s;
}

/* Membership, the rule of the last administrator, the gateways. */
static enum status apply(struct rpc_call *call, struct db_conn *db, const struct person *p, const struct change *c)
{
	bool grant = c->w && handler_writes(c->w, GRANT) && c->in->n_grant;
	enum status s = STATUS_OK;

	if (c->role_changed)
		s = update_role(call, db, p, c->role);
	if (s == STATUS_OK && grant)
		s = update_grant(call, db, p, c);
	if (s == STATUS_OK && c->status_changed)
		s = update_status(call, db, p, c->status);
	if (s != STATUS_OK || (!c->role_changed && !c->status_changed && !grant))
		return s;
	s = people_keep_admin(call, db);
	if (s == STATUS_OK)
		s = people_announce(call, db, p->id, NULL);
	if (s == STATUS_OK && c->role_changed)
		s = person_event(call, db, "auth.user.role_changed", p, false);
	if (s == STATUS_OK && c->status_changed)
		s = person_event(call, db, strcmp(c->status, "active") == 0 ? "auth.user.activated" : "auth.user.deactivated", p, false);
	return s;
}

static enum status update(struct rpc_call *call, struct db_conn *db, const Crm__V1__WriteRequest *w, const Crm__V1__User *in, struct person *now)
{
	struct change c = { .w = w, .in = in };
	struct person p;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = person_take(call, db, w->key, &p);
	if (s == STATUS_OK && w->has_expected_version && w->expected_version != p.version)
		s = STATUS_PRECONDITION_FAILED;
	if (s == STATUS_OK)
		s = merge(call, &c, &p);
	if (s == STATUS_OK && c.personal)
		s = update_person(call, db, &p, &c);
	if (s == STATUS_OK)
		s = apply(call, db, &p, &c);
	if (s == STATUS_OK && c.personal)
		s = person_event(call, db, "auth.user.updated", &p, false);
	return s == STATUS_OK ? person_see(call, db, w->key, now) : s;
}

void users_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__User *in = w ? handler_entity(call, w, &crm__v1__user__descriptor, false) : NULL;
	struct person now = { 0 };
	enum status s;

	if (!in || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = update(call, db, w, in, &now);
	handler_end_once(call, db, s, now.user);
}

/* -- Delete */

static enum status delete(struct rpc_call *call, struct db_conn *db, const Crm__V1__KeyRequest *req)
{
	struct person p;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = person_take(call, db, req->key, &p);
	if (s == STATUS_OK && req->has_expected_version && req->expected_version != p.version)
		s = STATUS_PRECONDITION_FAILED;
	if (s == STATUS_OK)
		s = update_status(call, db, &p, "deleted");
	if (s == STATUS_OK)
		s = people_keep_admin(call, db);
	if (s == STATUS_OK)
		s = people_announce(call, db, p.id, NULL);
	return s == STATUS_OK ? person_event(call, db, "auth.user.deleted", &p, true) : s;
}

void users_delete(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = delete(call, db, req);
	handler_end_once(call, db, s, NULL);
}

/* -- SetStatus, BulkUpdate */

static enum status change_one(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, const char *role, const char *status, bool toggle)
{
	struct change c = { 0 };
	struct person p;
	enum status s = person_take(call, db, key, &p);

	if (s != STATUS_OK)
		return s;
	if (toggle)
		status = strcmp(p.status, "active") == 0 ? "inactive" : "active";
	c.role = role && *role ? role : p.role;
	c.status = status && *status ? status : p.status;
	c.role_changed = strcmp(c.role, p.role) != 0;
	c.status_changed = strcmp(c.status, p.status) != 0;
	return apply(call, db, &p, &c);
}

void users_set_status(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__UserStatusRequest *req = handler_request(call, &crm__v1__user_status_request__descriptor);
	struct person now = { 0 };
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = people_lock(call, db);
	if (s == STATUS_OK)
		s = change_one(call, db, req->key, NULL, req->status, !req->status || !*req->status);
	if (s == STATUS_OK)
		s = person_see(call, db, req->key, &now);
	handler_end_once(call, db, s, now.user);
}

static bool bulk_ok(struct rpc_call *call, const Crm__V1__UsersBulkRequest *req)
{
	if (req->n_key == 0)
		rpc_violate(call, "key", "required", "is required", NULL);
	if (req->n_key > BULK_MAX)
		rpc_violate(call, "key", "max_items", "has too many", "100");
	if (!req->change || ((!req->change->role || !*req->change->role) && (!req->change->status || !*req->change->status)))
		rpc_violate(call, "change", "required", "is required", NULL);
	return call->n_violations == 0;
}

/* All or none: who asks for ten changes does not want seven. */
void users_bulk_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__UsersBulkRequest *req = handler_request(call, &crm__v1__users_bulk_request__descriptor);
	Crm__V1__UsersBulkReply out = CRM__V1__USERS_BULK_REPLY__INIT;
	enum status s;

	if (!req)
		return;
	if (!bulk_ok(call, req)) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = people_lock(call, db);
	for (size_t i = 0; i < req->n_key && s == STATUS_OK; i++)
		s = change_one(call, db, req->key[i], req->change->role, req->change->status, false);
	out.has_updated = 1;
	out.updated = (uint32_t)req->n_key;
	handler_end_once(call, db, s, &out);
}
