/* Settings of a tenant: list, get, create, update, delete. Secret values are sealed and never leave. */
#include "auth.h"

#include "base/codec.h"
#include "base/log.h"
#include "json/json.h"
#include "keys.h"
#include "list.h"
#include "mfa.h"
#include "people.h"
#include "resource/engine.h"
#include "seal.h"

#define PURPOSE "setting"
#define FIRST_TYPE "string"
#define OWN_FROM 100 /* numbers up to it are the product's */
#define MAX_SETTINGS 1000
#define MAX_VALUE 16000

/* Field numbers of crm.v1.Setting. */
enum { KEY = 16, TYPE = 17, VALUE = 18, SECRET = 19, DESCRIPTION = 20 };

#define SETTING_COLUMNS                                                                                                              \
	"v.id, v.seq, v.version, " SQL_US("v.created_at") ", " SQL_US("v.updated_at") ", v.key, v.type, v.value, v.secret, v.description, v.known"

struct row {
	Crm__V1__Setting m;
	const char *json; /* as events have it: without what is secret */
};

static void setting_of_row(struct rpc_call *call, const PGresult *res, int i, Crm__V1__Setting *m)
{
	crm__v1__setting__init(m);
	m->id = col_text(call, res, i, 0);
	m->has_seq = m->has_version = m->has_created_us = m->has_updated_us = m->has_secret = m->has_known = 1;
	m->seq = col_i64(res, i, 1);
	m->version = (uint64_t)col_i64(res, i, 2);
	m->created_us = col_i64(res, i, 3);
	m->updated_us = col_i64(res, i, 4);
	m->key = col_text(call, res, i, 5);
	m->type = col_text(call, res, i, 6);
	m->has_value = !col_is_null(res, i, 7);
	if (m->has_value)
		m->value = (ProtobufCBinaryData){ (size_t)PQgetlength(res, i, 7), (uint8_t *)col_text(call, res, i, 7) };
	m->secret = *PQgetvalue(res, i, 8) == 't';
	m->description = col_text(call, res, i, 9);
	m->known = *PQgetvalue(res, i, 10) == 't';
}

static struct str packed_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__Setting m;

	setting_of_row(call, res, i, &m);
	return handler_pack(call, &m);
}

static const struct list_column columns[] = {
	{ 2, LIST_NUMBER, "v.seq", false },
	{ 4, LIST_NUMBER, SQL_US("v.created_at"), false },
	{ 5, LIST_NUMBER, SQL_US("v.updated_at"), false },
	{ KEY, LIST_TEXT, "v.key", true },
	{ TYPE, LIST_TEXT, "v.type", false },
	{ DESCRIPTION, LIST_TEXT, "v.description", true },
};

static const struct list settings = {
	.columns = SETTING_COLUMNS,
	.from = "setting_view v WHERE true",
	.id = "v.id",
	.known = columns,
	.n_known = sizeof(columns) / sizeof(*columns),
	.default_sort = 2,
	.row = packed_row,
};

void settings_list(struct rpc_call *call, struct db_conn *db)
{
	list_run(call, db, &settings, NULL);
}

static enum status read(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key, struct row *out)
{
	char id[UUID_TEXT + 1];
	bool by_id = key && key->id && uuid_parse(str_of(key->id), id);
	const char *params[] = { by_id ? id : NULL, key && !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT " SETTING_COLUMNS ", to_jsonb(v) FROM setting_view v WHERE v.id = $1::uuid OR v.seq = $2::bigint", 2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		setting_of_row(call, res, 0, &out->m);
		out->json = col_text(call, res, 0, 11);
	}
	PQclear(res);
	return s;
}

static enum status read_id(struct rpc_call *call, struct db_conn *db, const char *id, struct row *out)
{
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = (char *)id;
	return read(call, db, &key, out);
}

void settings_get(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	struct row row;
	enum status s;

	if (!req)
		return;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = read(call, db, req->key, &row);
	handler_end(call, db, s, &row.m);
}

/* -- what fits */

static bool is_whole(struct str s)
{
	int64_t v;

	return str_to_i64(s, &v);
}

/* The sentence for a value that is not of the type; NULL: it is. */
static const char *misfit(struct rpc_call *call, const char *type, struct str value)
{
	struct json_error err;
	const struct json *v = json_parse(&call->arena, value, &err);

	if (!v || v->type == JSON_NULL)
		return "is required";
	if (strcmp(type, "string") == 0)
		return v->type == JSON_STRING ? NULL : "must be a text";
	if (strcmp(type, "boolean") == 0)
		return v->type == JSON_TRUE || v->type == JSON_FALSE ? NULL : "must be true or false";
	if (strcmp(type, "integer") == 0)
		return v->type == JSON_NUMBER && is_whole(v->text) ? NULL : "must be a whole number";
	if (strcmp(type, "decimal") == 0)
		return v->type == JSON_NUMBER && decimal_is_valid(v->text) ? NULL : "must be a decimal number";
	return NULL;
}

static bool key_ok(const char *key)
{
	return *key >= 'a' && *key <= 'z' && !key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789._-")];
}

/* What is to be stored. */
struct setting {
	const char *id, *key, *type, *value, *description; /* value: JSON text, in the clear */
	int64_t seq;
	uint64_t version;
	bool secret;
};

static bool fits(struct rpc_call *call, const struct setting *n)
{
	struct str value = str_of(n->value);
	const char *why = value.n > MAX_VALUE ? "must be at most 16000 bytes" : misfit(call, n->type, value);

	if (why)
		rpc_violate(call, "value", value.n > MAX_VALUE ? "max_len" : "type", why, NULL);
	return !why;
}

/* -- storing */

static const char *bound(struct rpc_call *call, const char *key)
{
	return arena_printf(&call->arena, "%.*s/%s", STR_FMT(call->who.tenant_id), key);
}

static enum status store(struct rpc_call *call, struct db_conn *db, const struct setting *n)
{
	char key_id[KEYS_ID_TEXT];
	const char *params[] = { param_str(call, call->who.tenant_id), n->key, n->id, param_i64(call, n->seq), param_i64(call, (int64_t)n->version), n->type,
		n->secret ? NULL : n->value, n->secret ? seal_text(&call->arena, PURPOSE, bound(call, n->key), str_of(n->value)) : NULL,
		n->secret ? key_id : NULL, n->secret ? "true" : "false", n->description };

	enum status s;

	keys_id(key_id);
	s = db_exec(db, NULL,
		       "INSERT INTO setting (tenant_id, key, id, seq, version, type, value, sealed, key_id, secret, description)"
		       " VALUES ($1::uuid, $2, $3::uuid, $4::bigint, $5::bigint, $6, $7::jsonb, $8::bytea, $9, $10::boolean, nullif($11, ''))"
		       " ON CONFLICT (tenant_id, key) DO UPDATE SET version = excluded.version, type = excluded.type, value = excluded.value,"
		       " sealed = excluded.sealed, key_id = excluded.key_id, secret = excluded.secret, description = excluded.description, updated_at = now()",
		       11, params);
	if (s == STATUS_INTERNAL && strncmp(db_sqlstate(db), "22", 2) == 0) { /* JSON that jsonb has no room for */
		rpc_violate(call, "value", "type", "has a number that is too large", NULL);
		return STATUS_VALIDATION_ERROR;
	}
	return s;
}

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const struct row *before, const struct row *after)
{
	const Crm__V1__Setting *m = after ? &after->m : &before->m;
	struct entity_event e = { .type = type, .entity = "setting", .entity_id = m->id, .entity_seq = m->seq, .version = m->version,
		.before = before ? before->json : NULL, .after = after ? after->json : NULL };

	return handler_event(call, db, &e);
}

/* -- what some settings do */

static bool is_true(const Crm__V1__Setting *m)
{
	return m->has_value && m->value.len == 4 && memcmp(m->value.data, "true", 4) == 0;
}

/* Nobody shuts themselves out. */
static enum status mfa_required_changed(struct rpc_call *call, struct db_conn *db, const struct row *before, const struct row *after, const char **why)
{
	struct mfa_standing st;
	enum status s;

	if (is_true(&before->m) || !is_true(&after->m))
		return STATUS_OK;
	s = mfa_standing(db, param_str(call, call->who.user_id), param_str(call, call->who.tenant_id), &st);
	if (s == STATUS_OK && !st.enabled) {
		*why = "Set up a second factor for yourself first: without it you would be locked out";
		return STATUS_CONFLICT;
	}
	return s == STATUS_OK ? mfa_demand(call, db) : s;
}

static const struct effect {
	const char *key;
	enum status (*changed)(struct rpc_call *call, struct db_conn *db, const struct row *before, const struct row *after, const char **why);
} effects[] = {
	{ "security.mfa_required", mfa_required_changed },
};

static enum status take_effect(struct rpc_call *call, struct db_conn *db, const struct row *before, const struct row *after, const char **why)
{
	for (size_t i = 0; i < sizeof(effects) / sizeof(*effects); i++) {
		if (strcmp(effects[i].key, after->m.key) == 0)
			return effects[i].changed(call, db, before, after, why);
	}
	return STATUS_OK;
}

/* -- Create */

static enum status next_number(struct rpc_call *call, struct db_conn *db, int64_t *seq)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT count(*) FROM setting", 0, NULL);

	if (s == STATUS_OK && col_i64(res, 0, 0) >= MAX_SETTINGS)
		s = STATUS_CONFLICT;
	PQclear(res);
	if (s == STATUS_OK)
		s = handler_seq(call, db, param_str(call, call->who.tenant_id), "setting", seq);
	*seq += OWN_FROM;
	return s;
}

static enum status is_free(struct rpc_call *call, struct db_conn *db, const char *key)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, "SELECT FROM setting_view WHERE key = $1", 1, &key);

	if (s == STATUS_OK && PQntuples(res)) {
		rpc_violate(call, "key", "unique", "is there already", NULL);
		s = STATUS_DUPLICATE;
	}
	PQclear(res);
	return s;
}

static bool new_of(struct rpc_call *call, const Crm__V1__Setting *in, struct setting *n)
{
	*n = (struct setting){ .key = in->key, .type = in->type && *in->type ? in->type : FIRST_TYPE, .version = 1, .secret = in->has_secret && in->secret,
		.value = param_str(call, (struct str){ (char *)in->value.data, in->value.len }), .description = in->description };
	if (!key_ok(in->key))
		rpc_violate(call, "key", "slug", "must begin with a letter and have a-z, 0-9, '.', '_' and '-' only", NULL);
	fits(call, n);
	return call->n_violations == 0;
}

static enum status create(struct rpc_call *call, struct db_conn *db, struct setting *n, struct row *out)
{
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = is_free(call, db, n->key);
	if (s == STATUS_OK)
		s = next_number(call, db, &n->seq);
	if (s == STATUS_OK)
		s = store(call, db, n);
	if (s == STATUS_OK)
		s = read_id(call, db, n->id, out);
	return s == STATUS_OK ? note(call, db, "auth.setting.created", NULL, out) : s;
}

void settings_create(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__Setting *in = w ? handler_entity(call, w, &crm__v1__setting__descriptor, true) : NULL;
	char id[UUID_TEXT + 1];
	struct setting n;
	struct row row;
	enum status s;

	if (!in)
		return;
	if (!new_of(call, in, &n)) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	uuid7(id);
	n.id = id;
	if (!handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = create(call, db, &n, &row);
	handler_end_once(call, db, s, &row.m);
}

/* -- Update */

/* The value as it is, a secret one opened: it has to fit a new type, or to be sealed again. */
static enum status value_now(struct rpc_call *call, struct db_conn *db, const Crm__V1__Setting *old, const char **value)
{
	const char *key = old->key;
	PGresult *res = NULL;
	struct str text;
	enum status s;

	if (!old->secret) {
		*value = param_str(call, (struct str){ (char *)old->value.data, old->value.len });
		return STATUS_OK;
	}
	s = db_exec(db, &res, "SELECT sealed, key_id FROM setting WHERE key = $1", 1, &key);
	if (s == STATUS_OK && (!PQntuples(res) || !seal_open(&call->arena, PURPOSE, bound(call, key), str_of(PQgetvalue(res, 0, 0)), &text))) {
		log_error("AUTH-SETTING-UNSEAL", "a secret setting cannot be decrypted: is KEY_ENCRYPTION_KEY_FILE the one it was made with?");
		s = STATUS_INTERNAL;
	}
	if (s == STATUS_OK)
		*value = param_str(call, text);
	PQclear(res);
	return s;
}

/* What the product knows keeps its key, its type and its openness; any other keeps its key. */
static void check_fixed(struct rpc_call *call, const Crm__V1__Setting *old, const struct setting *n)
{
	if (strcmp(n->key, old->key) != 0)
		rpc_violate(call, "key", "read_only", "cannot be changed: delete the setting and create another", NULL);
	if (old->known && strcmp(n->type, old->type) != 0)
		rpc_violate(call, "type", "read_only", "of this setting cannot be changed", NULL);
	if (old->known && n->secret)
		rpc_violate(call, "secret", "read_only", "of this setting cannot be changed", NULL);
}

static enum status merge(struct rpc_call *call, struct db_conn *db, const Crm__V1__WriteRequest *w, const Crm__V1__Setting *in, const Crm__V1__Setting *old,
    struct setting *n)
{
	bool typed = in->type && *in->type, given = handler_writes(w, VALUE);
	enum status s = STATUS_OK;

	*n = (struct setting){ .id = old->id, .seq = old->seq, .version = old->version + 1, .key = handler_writes(w, KEY) ? in->key : old->key };
	n->type = !handler_writes(w, TYPE) || (!typed && old->known) ? old->type : typed ? in->type : FIRST_TYPE;
	n->secret = handler_writes(w, SECRET) ? in->has_secret && in->secret : old->secret;
	n->description = handler_writes(w, DESCRIPTION) ? in->description : old->description;
	check_fixed(call, old, n);
	if (given)
		n->value = param_str(call, (struct str){ (char *)in->value.data, in->value.len });
	else if (old->secret && !n->secret)
		rpc_violate(call, "value", "required", "is required: what was secret is never shown", NULL);
	else
		s = value_now(call, db, old, &n->value);
	if (s == STATUS_OK && n->value)
		fits(call, n);
	return s == STATUS_OK && call->n_violations ? STATUS_VALIDATION_ERROR : s;
}

static enum status update(struct rpc_call *call, struct db_conn *db, const Crm__V1__WriteRequest *w, const Crm__V1__Setting *in, struct row *after, const char **why)
{
	struct row before;
	struct setting n;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = read(call, db, w->key, &before);
	if (s == STATUS_OK && w->has_expected_version && w->expected_version != before.m.version)
		s = STATUS_PRECONDITION_FAILED;
	if (s == STATUS_OK)
		s = merge(call, db, w, in, &before.m, &n);
	if (s == STATUS_OK)
		s = store(call, db, &n);
	if (s == STATUS_OK)
		s = read_id(call, db, before.m.id, after);
	if (s == STATUS_OK)
		s = take_effect(call, db, &before, after, why);
	return s == STATUS_OK ? note(call, db, "auth.setting.updated", &before, after) : s;
}

void settings_update(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__Setting *in = w ? handler_entity(call, w, &crm__v1__setting__descriptor, false) : NULL;
	const char *why = NULL;
	struct row row;
	enum status s;

	if (!in || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = update(call, db, w, in, &row, &why);
	if (why)
		handler_refuse(call, db, s, why);
	else
		handler_end_once(call, db, s, &row.m);
}

/* -- Delete: what the product knows goes back to its default */

static enum status reset(struct rpc_call *call, struct db_conn *db, const struct row *before)
{
	const char *params[] = { before->m.key };
	struct row after;
	const char *why = NULL;
	enum status s = db_exec(db, NULL,
				"UPDATE setting s SET value = k.value, version = s.version + 1, updated_at = now() FROM known_setting k"
				" WHERE s.key = $1 AND k.key = s.key AND s.value <> k.value",
				1, params);

	if (s == STATUS_OK)
		s = read_id(call, db, before->m.id, &after);
	if (s == STATUS_OK && after.m.version == before->m.version)
		return STATUS_OK;
	if (s == STATUS_OK)
		s = take_effect(call, db, before, &after, &why);
	return s == STATUS_OK ? note(call, db, "auth.setting.updated", before, &after) : s;
}

static enum status erase(struct rpc_call *call, struct db_conn *db, const Crm__V1__KeyRequest *req)
{
	struct row before;
	enum status s = people_lock(call, db);

	if (s == STATUS_OK)
		s = read(call, db, req->key, &before);
	if (s == STATUS_OK && req->has_expected_version && req->expected_version != before.m.version)
		s = STATUS_PRECONDITION_FAILED;
	if (s != STATUS_OK)
		return s;
	if (before.m.known)
		return reset(call, db, &before);
	s = db_exec(db, NULL, "DELETE FROM setting WHERE id = $1::uuid", 1, (const char *const[]){ before.m.id });
	return s == STATUS_OK ? note(call, db, "auth.setting.deleted", &before, NULL) : s;
}

void settings_delete(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = erase(call, db, req);
	handler_end_once(call, db, s, NULL);
}
