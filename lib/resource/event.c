/* What handlers use: the outbox row of a change they made, reading an entity, committing with notice. */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "events/relay.h"
#include "resource/internal.h"

#define PENDING_MAX 16

/* Entities that the handler's open transaction changed; a worker runs one handler at a time. */
static _Thread_local struct {
	const struct rpc_call *call;
	char entity[PENDING_MAX][52];
	size_t n;
} pending;

static void pending_add(const struct rpc_call *call, const char *entity)
{
	if (pending.call != call) {
		pending.call = call;
		pending.n = 0;
	}
	for (size_t i = 0; i < pending.n; i++)
		if (strcmp(pending.entity[i], entity) == 0)
			return;
	if (pending.n < PENDING_MAX)
		snprintf(pending.entity[pending.n++], sizeof(pending.entity[0]), "%s", entity);
}

/* As much as fits, cut between characters. */
static const char *cstr(char *into, size_t size, struct str s)
{
	size_t n = s.n < size ? s.n : size - 1;

	if (!s.n || memchr(s.p, 0, s.n) || !str_is_utf8(s))
		return NULL;
	while (n < s.n && n > 0 && ((unsigned char)s.p[n] & 0xC0) == 0x80)
		n--;
	snprintf(into, size, "%.*s", (int)n, s.p);
	return into;
}

static const char *uuid_cstr(char into[UUID_TEXT + 1], struct str s)
{
	return uuid_parse(s, into) ? into : NULL;
}

/* Counts: now, so that none taken from here on is believed after the commit, and again in resource_commit. */
void resource_touched(const struct rpc_call *call, const char *entity)
{
	counts_changed(call->who.tenant_id, entity, call->who.user_id);
	pending_add(call, entity);
}

enum status resource_event(struct db_conn *db, const struct rpc_call *call, const char *type, const char *entity, const char *entity_id,
    int64_t entity_seq, uint64_t version, const char *before_json, const char *after_json)
{
	char event[UUID_TEXT + 1], tenant[UUID_TEXT + 1], user[UUID_TEXT + 1], api_key[UUID_TEXT + 1], seq[24], ver[24];
	char request_id[256], traceparent[128], dialect[64], ip[64], agent[1024];

	uuid7(event);
	snprintf(seq, sizeof(seq), "%" PRId64, entity_seq);
	snprintf(ver, sizeof(ver), "%" PRIu64, version);
	const char *const params[] = { event, uuid_cstr(tenant, call->who.tenant_id), type, entity, entity_id, seq, ver, before_json, after_json,
		uuid_cstr(user, call->who.user_id), uuid_cstr(api_key, call->who.api_key_id), cstr(request_id, sizeof(request_id), call->request_id),
		cstr(traceparent, sizeof(traceparent), call->traceparent), cstr(dialect, sizeof(dialect), call->dialect),
		cstr(ip, sizeof(ip), call->client_ip), cstr(agent, sizeof(agent), call->user_agent) };

	resource_touched(call, entity);
	return db_exec(db, NULL,
	    "INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, " SQL_OUTBOX_COLUMNS ")"
	    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)", 16, params);
}

enum status resource_commit(struct db_conn *db, struct rpc_call *call)
{
	enum status s = db_commit(db);

	if (pending.call != call)
		return s;
	for (size_t i = 0; i < pending.n; i++)
		counts_changed(call->who.tenant_id, pending.entity[i], call->who.user_id);
	pending.call = NULL;
	pending.n = 0;
	if (s == STATUS_OK)
		relay_wake();
	return s;
}

static const struct plan *plan_of(const struct resource *r)
{
	for (size_t i = 0; i < engine.n_plans; i++)
		if (engine.plans[i].r == r)
			return &engine.plans[i];
	return NULL;
}

enum status resource_read(struct db_conn *db, struct rpc_call *call, const struct resource *r, const char *id, struct str *entity)
{
	const struct plan *p = plan_of(r);
	struct buf out = { 0 };
	PGresult *res = NULL;
	enum status s;

	if (!p)
		return STATUS_INTERNAL;
	s = db_exec(db, &res, p->by_id.form[0].sql.p, 1, &id);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		entity_put(&out, p, res, 0, 0);
		*entity = arena_str(&call->arena, buf_view(&out));
	}
	PQclear(res);
	buf_fini(&out);
	return s;
}
