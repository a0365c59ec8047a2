/* Shared by the handlers of every service: messages, parameters, columns, failures, events. */
#include "resource/handler.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/codec.h"
#include "db/array.h"
#include "resource/internal.h"
#include "schema/validate.h"
#include "service/service.h"

static void *pb_alloc(void *arena, size_t n)
{
	return arena_alloc(arena, n);
}

static void pb_free(void *arena, void *p)
{
	(void)arena;
	(void)p;
}

void *handler_unpack(struct rpc_call *call, const ProtobufCMessageDescriptor *type, struct str bytes)
{
	ProtobufCAllocator alloc = { pb_alloc, pb_free, &call->arena };

	return protobuf_c_message_unpack(type, &alloc, bytes.n, (const uint8_t *)bytes.p);
}

static void violate(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	rpc_violate(arg, path, rule, message, param);
}

/* The gateway has checked all this; a service believes nobody. */
void *handler_request(struct rpc_call *call, const ProtobufCMessageDescriptor *type)
{
	const struct schema_message *rules = schema_message_find(service_schema(), str_of(type->name));
	void *m = handler_unpack(call, type, call->payload);

	if (!m || !rules || !schema_validate(rules, call->payload, true, &call->arena, violate, call)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return NULL;
	}
	if (call->n_violations) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return NULL;
	}
	return m;
}

void *handler_entity(struct rpc_call *call, const Crm__V1__WriteRequest *w, const ProtobufCMessageDescriptor *type, bool create)
{
	struct str bytes = w->has_entity ? (struct str){ (char *)w->entity.data, w->entity.len } : (struct str){ "", 0 };
	const struct schema_message *m = schema_message_find(service_schema(), str_of(type->name));
	void *entity = handler_unpack(call, type, bytes);

	if (!m || !entity || !schema_validate(m, bytes, create, &call->arena, violate, call)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return NULL;
	}
	if (!create && !schema_validate_mask(m, bytes, w->mask, w->n_mask, violate, call)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return NULL;
	}
	if (call->n_violations) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return NULL;
	}
	return entity;
}

bool handler_writes(const Crm__V1__WriteRequest *w, uint32_t field)
{
	for (size_t i = 0; i < w->n_mask; i++) {
		if (w->mask[i] == field)
			return true;
	}
	return false;
}

struct str handler_pack(struct rpc_call *call, const void *message)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *out = arena_alloc(&call->arena, n ? n : 1);

	protobuf_c_message_pack(message, out);
	return (struct str){ (char *)out, n };
}

void handler_reply(struct rpc_call *call, const void *message)
{
	rpc_reply_ok(call, handler_pack(call, message));
}

void handler_reply_empty(struct rpc_call *call)
{
	rpc_reply_ok(call, (struct str){ "", 0 });
}

void handler_refuse(struct rpc_call *call, struct db_conn *db, enum status s, const char *text)
{
	const struct db_said *said = db_said(db);

	if (said)
		s = said_explain(call, said, s);
	db_rollback(db);
	rpc_reply_error(call, s == STATUS_OK ? STATUS_INTERNAL : s, text);
}

void handler_fail(struct rpc_call *call, struct db_conn *db, enum status s)
{
	handler_refuse(call, db, s, NULL);
}

void handler_end(struct rpc_call *call, struct db_conn *db, enum status s, const void *message)
{
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else if (message)
		handler_reply(call, message);
	else
		handler_reply_empty(call);
}

void handler_end_packed(struct rpc_call *call, struct db_conn *db, enum status s, struct str reply)
{
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		rpc_reply_ok(call, reply);
}

void handler_violation(struct rpc_call *call, struct db_conn *db, enum status s, const char *path, const char *rule, const char *message)
{
	if (db)
		db_rollback(db);
	rpc_violate(call, path, rule, message, NULL);
	rpc_reply_error(call, s, NULL);
}

const char *param_str(struct rpc_call *call, struct str s)
{
	return s.n ? arena_strdup(&call->arena, s) : NULL;
}

const char *param_i64(struct rpc_call *call, int64_t v)
{
	return arena_printf(&call->arena, "%" PRId64, v);
}

struct handler_key handler_key(struct rpc_call *call, const Crm__V1__Key *key)
{
	struct handler_key k = { 0 };
	char id[UUID_TEXT + 1];

	if (key && key->id && *key->id)
		k.id = uuid_parse(str_of(key->id), id) ? arena_strdup(&call->arena, str_of(id)) : NULL;
	else if (key && key->has_seq && key->seq)
		k.seq = param_i64(call, key->seq);
	return k;
}

const char *param_array(struct rpc_call *call, char *const *words, size_t n)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		db_array_put(&b, str_of(words[i]));
	return db_array_end(&b, &call->arena);
}

bool col_is_null(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col);
}

char *col_text(struct rpc_call *call, const PGresult *res, int row, int col)
{
	if (PQgetisnull(res, row, col))
		return NULL;
	return arena_strdup(&call->arena, (struct str){ PQgetvalue(res, row, col), (size_t)PQgetlength(res, row, col) });
}

int64_t col_i64(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? 0 : strtoll(PQgetvalue(res, row, col), NULL, 10);
}

enum status handler_tenant(struct db_conn *db, const char *tenant_id)
{
	return db_exec(db, NULL, "SELECT set_config('app.tenant_id', $1, true)", 1, &tenant_id);
}

bool handler_begin(struct rpc_call *call, struct db_conn *db, enum status *s)
{
	*s = db_begin(db, call->who.tenant_id);
	if (*s != STATUS_OK || idempotent_begin(db, call) == IDEM_RUN)
		return true;
	db_rollback(db);
	return false;
}

enum status handler_finish(struct rpc_call *call, struct db_conn *db, struct str reply)
{
	/* a handler may have moved to another tenant since; without a key nothing is written there */
	enum status s = call->idempotency_key.n ? handler_tenant(db, param_str(call, call->who.tenant_id)) : STATUS_OK;

	if (s == STATUS_OK)
		s = idempotent_finish(db, call, reply);
	return s == STATUS_OK ? resource_commit(db, call) : s;
}

void handler_end_once(struct rpc_call *call, struct db_conn *db, enum status s, const void *message)
{
	handler_end_once_packed(call, db, s, message && s == STATUS_OK ? handler_pack(call, message) : (struct str){ "", 0 });
}

void handler_end_once_packed(struct rpc_call *call, struct db_conn *db, enum status s, struct str reply)
{
	if (s == STATUS_OK)
		s = handler_finish(call, db, reply);
	if (s != STATUS_OK)
		handler_fail(call, db, s);
	else
		rpc_reply_ok(call, reply);
}

enum status handler_seq(struct rpc_call *call, struct db_conn *db, const char *tenant_id, const char *kind, int64_t *seq)
{
	const char *params[] = { tenant_id, kind };
	PGresult *res = NULL;
	enum status s = db_exec(db, &res,
				"INSERT INTO seq_block (tenant_id, kind, next) VALUES ($1::uuid, $2, 2)"
				" ON CONFLICT (tenant_id, kind) DO UPDATE SET next = seq_block.next + 1 RETURNING next - 1",
				2, params);

	if (s == STATUS_OK)
		*seq = col_i64(res, 0, 0);
	PQclear(res);
	return s;
}

enum status handler_row_json(struct rpc_call *call, struct db_conn *db, const char *sql, const char *id, const char **json)
{
	PGresult *res = NULL;
	enum status s = db_exec(db, &res, sql, 1, &id);

	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK)
		*json = col_text(call, res, 0, 0);
	PQclear(res);
	return s;
}

enum status handler_event(struct rpc_call *call, struct db_conn *db, const struct entity_event *e)
{
	struct rpc_principal who = call->who;
	enum status s;

	if (e->tenant_id)
		call->who.tenant_id = str_of(e->tenant_id);
	if (e->user_id)
		call->who.user_id = str_of(e->user_id);
	s = resource_event(db, call, e->type, e->entity, e->entity_id, e->entity_seq, e->version, e->before, e->after);
	call->who = who;
	return s;
}
