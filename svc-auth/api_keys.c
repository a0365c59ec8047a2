/* API keys: made (the key is shown once), listed, revoked. Only a hash is stored. */
#include "auth.h"

#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/codec.h"
#include "changes.h"
#include "list.h"
#include "resource/engine.h"
#include "session.h"
#include "token.h"

#define MAX_KEYS "200" /* live keys per tenant */
#define MAX_SCOPES 128

#define KEY_COLUMNS                                                                                                                 \
	"id, seq, version, " SQL_US("created_at") ", name, array_to_string(scope, ','), " SQL_US("expires_at") ", " SQL_US("last_used_at")

static void fill_scope(struct rpc_call *call, const char *words, Crm__V1__ApiKey *k)
{
	k->scope = arena_alloc(&call->arena, MAX_SCOPES * sizeof(char *));
	while (words && *words && k->n_scope < MAX_SCOPES) {
		size_t n = strcspn(words, ",");

		k->scope[k->n_scope++] = arena_strdup(&call->arena, (struct str){ words, n });
		words += n + (words[n] == ',');
	}
}

static void key_of_row(struct rpc_call *call, const PGresult *res, int i, Crm__V1__ApiKey *k)
{
	crm__v1__api_key__init(k);
	k->id = col_text(call, res, i, 0);
	k->has_seq = k->has_version = k->has_created_us = 1;
	k->seq = col_i64(res, i, 1);
	k->version = (uint64_t)col_i64(res, i, 2);
	k->created_us = col_i64(res, i, 3);
	k->name = col_text(call, res, i, 4);
	fill_scope(call, col_text(call, res, i, 5), k);
	k->has_expires_us = !col_is_null(res, i, 6);
	k->expires_us = col_i64(res, i, 6);
	k->has_last_used_us = !col_is_null(res, i, 7);
	k->last_used_us = col_i64(res, i, 7);
}

static struct str key_row(struct rpc_call *call, const PGresult *res, int i)
{
	Crm__V1__ApiKey k;

	key_of_row(call, res, i, &k);
	return handler_pack(call, &k);
}

static const struct list_column key_columns[] = {
	{ 2, LIST_NUMBER, "seq", false },
	{ 4, LIST_NUMBER, SQL_US("created_at"), false },
	{ 16, LIST_TEXT, "name", true },
	{ 18, LIST_NUMBER, SQL_US("expires_at"), false },
	{ 19, LIST_NUMBER, SQL_US("last_used_at"), false },
};

static const struct list keys = {
	.columns = KEY_COLUMNS,
	.from = "api_key WHERE revoked_at IS NULL",
	.id = "id",
	.known = key_columns,
	.n_known = sizeof(key_columns) / sizeof(*key_columns),
	.default_sort = 2,
	.row = key_row,
};

void api_keys_list(struct rpc_call *call, struct db_conn *db)
{
	list_run(call, db, &keys, NULL);
}

/* A key never gets what its maker does not have. */
static bool acceptable(struct rpc_call *call, const Crm__V1__ApiKey *in)
{
	for (size_t i = 0; i < in->n_scope; i++) {
		struct perms one = { { 0, 0 } };

		if (i >= MAX_SCOPES || !perms_add_word(&one, str_of(in->scope[i])))
			rpc_violate(call, "scope", "in", "must be permissions", NULL);
		else if ((one.bits[0] & ~call->who.permissions[0]) || (one.bits[1] & ~call->who.permissions[1]))
			rpc_violate(call, "scope", "permission", "must be permissions that you have yourself", NULL);
		if (call->n_violations)
			break;
	}
	if (in->has_expires_us && in->expires_us <= clock_us())
		rpc_violate(call, "expires_us", "future", "must be in the future", NULL);
	return call->n_violations == 0;
}

/*
 * A key made by a key with scopes of its own gets those, not its creator's everything: "empty" would otherwise be a way up.
 */
static const char *scope_param(struct rpc_call *call, const Crm__V1__ApiKey *in)
{
	char *words[MAX_SCOPES];
	const struct schema_permission *rows;
	size_t n = 0, all;

	if (in->n_scope || !call->who.api_key_id.n)
		return param_array(call, in->scope, in->n_scope);
	all = roles_known(&rows);
	for (size_t i = 0; i < all && n < MAX_SCOPES; i++) {
		if (rows[i].bit >= 8 && rpc_may(&call->who, rows[i].bit))
			words[n++] = (char *)rows[i].name;
	}
	return param_array(call, words, n);
}

static enum status insert(struct rpc_call *call, struct db_conn *db, const Crm__V1__ApiKey *in, const char *id, const char *hash, Crm__V1__ApiKey *out)
{
	const char *tenant = param_str(call, call->who.tenant_id);
	int64_t seq = 0;
	PGresult *res = NULL;
	enum status s = handler_seq(call, db, tenant, "api_key", &seq); /* also orders makers, so that the limit holds */

	if (s == STATUS_OK) {
		const char *params[] = { id, tenant, param_str(call, call->who.user_id), param_i64(call, seq), in->name, scope_param(call, in), hash,
			in->has_expires_us ? param_i64(call, in->expires_us) : NULL };

		s = db_exec(db, &res,
			    "INSERT INTO api_key (id, tenant_id, user_id, seq, name, scope, key_hash, expires_at)"
			    " SELECT $1::uuid, $2::uuid, $3::uuid, $4::bigint, $5, $6::text[], $7::bytea,"
			    " timestamptz 'epoch' + $8::bigint * interval '1 microsecond'"
			    " WHERE (SELECT count(*) FROM api_key WHERE revoked_at IS NULL) < " MAX_KEYS " RETURNING " KEY_COLUMNS,
			    8, params);
	}
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_CONFLICT;
	if (s == STATUS_OK)
		key_of_row(call, res, 0, out);
	PQclear(res);
	return s;
}

#define KEY_JSON "SELECT to_jsonb(k) - 'key_hash' FROM api_key k WHERE id = $1::uuid"

static enum status note(struct rpc_call *call, struct db_conn *db, const char *type, const char *id, int64_t seq, uint64_t version, const char *before,
    const char *after)
{
	struct entity_event e = { .type = type, .entity = "api_key", .entity_id = id, .entity_seq = seq, .version = version, .before = before, .after = after };

	return handler_event(call, db, &e);
}

/* Nothing secret is stored: an answer that is given again under its idempotency key is without the key itself. */
void api_keys_create(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__WriteRequest *w = handler_request(call, &crm__v1__write_request__descriptor);
	Crm__V1__ApiKey *in = w ? handler_entity(call, w, &crm__v1__api_key__descriptor, true) : NULL, out;
	char id[UUID_TEXT + 1], text[API_KEY_TEXT], hash[BYTEA_TEXT];
	const char *after = NULL;
	enum status s;

	if (!in)
		return;
	if (!acceptable(call, in)) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	uuid7(id);
	token_api_key_new(id, text);
	token_hash(str_of(text), hash);
	if (!handler_begin(call, db, &s))
		goto out;
	if (s == STATUS_OK)
		s = insert(call, db, in, id, hash, &out);
	if (s == STATUS_OK)
		s = handler_row_json(call, db, KEY_JSON, id, &after);
	if (s == STATUS_OK)
		s = note(call, db, "auth.api_key.created", id, out.seq, 1, NULL, after);
	if (s == STATUS_OK)
		s = handler_finish(call, db, handler_pack(call, &out));
	if (s != STATUS_OK) {
		handler_fail(call, db, s);
	} else {
		out.key = text;
		handler_reply(call, &out);
	}
out:
	OPENSSL_cleanse(text, sizeof(text));
}

static enum status revoke(struct rpc_call *call, struct db_conn *db, const Crm__V1__Key *key)
{
	char asked[UUID_TEXT + 1];
	bool by_id = key->id && uuid_parse(str_of(key->id), asked);
	const char *params[] = { by_id ? asked : NULL, !by_id && key->has_seq ? param_i64(call, key->seq) : NULL };
	const char *id = NULL, *before = NULL;
	int64_t seq = 0;
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"UPDATE api_key SET revoked_at = now(), version = version + 1"
				" WHERE (id = $1::uuid OR seq = $2::bigint) AND revoked_at IS NULL RETURNING id, seq",
				2, params);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		id = col_text(call, res, 0, 0);
		seq = col_i64(res, 0, 1);
	}
	PQclear(res);
	if (s == STATUS_OK)
		s = handler_row_json(call, db, KEY_JSON, id, &before);
	if (s == STATUS_OK)
		s = change_note(call, db, "api_key", id, 0, true);
	return s == STATUS_OK ? note(call, db, "auth.api_key.revoked", id, seq, 2, before, NULL) : s;
}

void api_keys_revoke(struct rpc_call *call, struct db_conn *db)
{
	Crm__V1__KeyRequest *req = handler_request(call, &crm__v1__key_request__descriptor);
	enum status s;

	if (!req || !handler_begin(call, db, &s))
		return;
	if (s == STATUS_OK)
		s = req->key ? revoke(call, db, req->key) : STATUS_BAD_REQUEST;
	handler_end_once(call, db, s, NULL);
}
