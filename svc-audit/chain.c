/* The hash chain of a tenant: how an entry is hashed and appended. Checking it is in verify.c. */
#include "svc-audit/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/codec.h"
#include "base/wire.h"
#include "db/array.h"
#include "db/trace.h"
#include "events/pgconn.h"

#define PART 100 /* entries per Sync: their replies fit the server's buffer, so neither side waits for the other */
#define COLUMNS 21

/* -- what is hashed */

static struct str last_word(struct str s)
{
	const char *dot = s.n ? memrchr(s.p, '.', s.n) : NULL;

	return dot ? (struct str){ dot + 1, s.n - (size_t)(dot + 1 - s.p) } : s;
}

/* "customers.lead.created" without an entity: "lead". */
static struct str middle_word(struct str type)
{
	struct str action = last_word(type);

	return action.n < type.n ? last_word((struct str){ type.p, type.n - action.n - 1 }) : type;
}

void chain_entry_of(const struct event *e, struct chain_entry *out)
{
	*out = (struct chain_entry){
		.id = e->id,
		.user_id = e->user_id,
		.created_us = e->time_us,
		.resource_seq = e->entity_seq,
		.resource_version = (int64_t)e->version,
		.type = e->type,
		.action = last_word(e->type),
		.resource = e->entity.n ? e->entity : middle_word(e->type),
		.resource_id = e->entity_id,
		.api_key_id = e->api_key_id,
		.ip = e->client_ip,
		.user_agent = e->user_agent,
		.request_id = e->request_id,
		.dialect = e->dialect,
		.before = e->before,
		.after = e->after,
		.changed = e->changed,
		.n_changed = e->n_changed,
	};
}

static void put_text(struct buf *b, uint32_t number, struct str s)
{
	if (s.n)
		wire_put_bytes(b, number, s);
}

static void put_uuid(struct buf *b, uint32_t number, struct str s)
{
	uint8_t raw[16];

	if (s.n == sizeof raw)
		wire_put_bytes(b, number, s);
	else if (s.n && uuid_to_bytes(s, raw))
		wire_put_bytes(b, number, (struct str){ (const char *)raw, sizeof raw });
}

static void put_number(struct buf *b, uint32_t number, int64_t v)
{
	if (v)
		wire_put_varint(b, number, (uint64_t)v);
}

void chain_canonical(struct buf *b, const struct chain_entry *e)
{
	put_uuid(b, CANON_ID, e->id);
	put_number(b, CANON_TIME, e->created_us);
	put_text(b, CANON_TYPE, e->type);
	put_text(b, CANON_ACTION, e->action);
	put_text(b, CANON_RESOURCE, e->resource);
	put_text(b, CANON_RESOURCE_ID, e->resource_id);
	put_number(b, CANON_RESOURCE_SEQ, e->resource_seq);
	put_number(b, CANON_RESOURCE_VERSION, e->resource_version);
	put_uuid(b, CANON_USER, e->user_id);
	put_text(b, CANON_API_KEY, e->api_key_id);
	put_text(b, CANON_IP, e->ip);
	put_text(b, CANON_USER_AGENT, e->user_agent);
	put_text(b, CANON_REQUEST, e->request_id);
	put_text(b, CANON_DIALECT, e->dialect);
	for (size_t i = 0; i < e->n_changed; i++)
		wire_put_bytes(b, CANON_CHANGED, e->changed[i]);
	put_text(b, CANON_BEFORE, e->before);
	put_text(b, CANON_AFTER, e->after);
}

void chain_hash(const uint8_t tenant[16], int64_t n, const uint8_t previous[32], struct str canonical, uint8_t out[32])
{
	static const char domain[13] = "\0crm-audit-v1";
	char small[4096], *all, *at;
	size_t size = sizeof(domain) + 16 + 8 + 32 + canonical.n;

	at = all = size <= sizeof(small) ? small : xmalloc(size);
	at = (char *)memcpy(at, domain, sizeof(domain)) + sizeof(domain);
	at = (char *)memcpy(at, tenant, 16) + 16;
	for (int i = 0; i < 8; i++)
		*at++ = (char)((uint64_t)n >> (56 - 8 * i));
	at = (char *)memcpy(at, previous, 32) + 32;
	if (canonical.n)
		memcpy(at, canonical.p, canonical.n);
	sha256(all, size, out);
	if (all != small)
		free(all);
}

/* -- appending */

struct appender {
	PGconn *conn;
	struct arena arena;
	char tenant[UUID_TEXT + 1];
	uint8_t tenant_raw[16];
	int64_t seq;       /* of the last entry */
	uint8_t hash[32];
	char hash_hex[65];
};

static enum status head_lock(struct appender *a)
{
	const char *params[] = { a->tenant };
	PGresult *r = NULL;
	enum status s = pgconn_exec(a->conn, NULL, "INSERT INTO chain (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", 1, params);

	if (s == STATUS_OK)
		s = pgconn_exec(a->conn, &r, "SELECT seq, hash FROM chain WHERE tenant_id = $1 FOR UPDATE", 1, params);
	if (s != STATUS_OK)
		return s;
	if (PQntuples(r) != 1 || !str_to_i64(str_of(PQgetvalue(r, 0, 0)), &a->seq) || !hex_decode(str_of(PQgetvalue(r, 0, 1)), a->hash, 32))
		s = STATUS_INTERNAL;
	PQclear(r);
	hex_encode(a->hash, 32, a->hash_hex);
	return s;
}

static enum status head_move(struct appender *a)
{
	char seq[24];
	const char *params[] = { a->tenant, seq, a->hash_hex };

	snprintf(seq, sizeof seq, "%lld", (long long)a->seq);
	return pgconn_exec(a->conn, NULL, "UPDATE chain SET seq = $2, hash = $3 WHERE tenant_id = $1", 3, params);
}

static const char *text_or_null(struct appender *a, struct str s)
{
	return s.n ? arena_strdup(&a->arena, s) : NULL;
}

static const char *number_or_null(struct appender *a, int64_t v)
{
	return v ? arena_printf(&a->arena, "%lld", (long long)v) : NULL;
}

static const char *array_of(struct appender *a, const struct str *items, size_t n)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		db_array_put(&b, items[i]);
	return db_array_end(&b, &a->arena);
}

static const char *time_of(struct appender *a, int64_t us)
{
	struct buf b = { 0 };
	char *out;

	time_print(&b, us);
	out = arena_strdup(&a->arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

static const char insert_sql[] =
    "INSERT INTO entry (tenant_id, seq, id, created_at, type, action, resource, resource_id, resource_seq, resource_version, user_id, api_key_id,"
    " ip, user_agent, request_id, dialect, changed, before, after, previous_hash, hash, canonical)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/* Advances the chain by e and queues its INSERT. False: the connection is broken. */
static bool entry_send(struct appender *a, const struct chain_entry *e)
{
	struct buf canonical = { 0 };
	char previous[65];
	const char *values[COLUMNS + 1];
	int lengths[COLUMNS + 1] = { 0 }, formats[COLUMNS + 1] = { 0 };
	int sent;

	chain_canonical(&canonical, e);
	memcpy(previous, a->hash_hex, sizeof previous);
	a->seq++;
	chain_hash(a->tenant_raw, a->seq, a->hash, buf_view(&canonical), a->hash);
	hex_encode(a->hash, 32, a->hash_hex);
	memcpy(values,
	    (const char *[]){ a->tenant, number_or_null(a, a->seq), text_or_null(a, e->id), time_of(a, e->created_us), text_or_null(a, e->type),
		text_or_null(a, e->action), text_or_null(a, e->resource), text_or_null(a, e->resource_id), number_or_null(a, e->resource_seq),
		number_or_null(a, e->resource_version), text_or_null(a, e->user_id), text_or_null(a, e->api_key_id), text_or_null(a, e->ip),
		text_or_null(a, e->user_agent), text_or_null(a, e->request_id), text_or_null(a, e->dialect), array_of(a, e->changed, e->n_changed),
		text_or_null(a, e->before), text_or_null(a, e->after), previous, a->hash_hex, canonical.p },
	    sizeof values);
	lengths[COLUMNS] = (int)canonical.n;
	formats[COLUMNS] = 1;
	sent = PQsendQueryPrepared(a->conn, "", COLUMNS + 1, values, lengths, formats, 0);
	buf_fini(&canonical);
	return sent == 1;
}

/* Reads to the Sync; the first failure is the outcome. */
static enum status replies_read(PGconn *c)
{
	enum status s = STATUS_OK;

	for (;;) {
		PGresult *r = PQgetResult(c);
		ExecStatusType t = PQresultStatus(r);

		if (!r && PQstatus(c) != CONNECTION_OK)
			return STATUS_UNAVAILABLE;
		if (r && t != PGRES_PIPELINE_SYNC && t != PGRES_PIPELINE_ABORTED && s == STATUS_OK)
			s = pgconn_status(c, r);
		PQclear(r);
		if (t == PGRES_PIPELINE_SYNC)
			return s;
	}
}

static enum status part_send(struct appender *a, const struct event *const *events, size_t n)
{
	struct chain_entry e;
	struct sql_span span;
	enum status s = STATUS_OK;

	if (!PQenterPipelineMode(a->conn))
		return STATUS_UNAVAILABLE;
	if (!PQsendPrepare(a->conn, "", sql_span_begin(&span, insert_sql), 0, NULL))
		s = STATUS_UNAVAILABLE;
	for (size_t i = 0; s == STATUS_OK && i < n; i++) {
		chain_entry_of(events[i], &e);
		if (!entry_send(a, &e))
			s = STATUS_UNAVAILABLE;
	}
	if (s == STATUS_OK)
		s = PQpipelineSync(a->conn) ? replies_read(a->conn) : STATUS_UNAVAILABLE;
	if (!PQexitPipelineMode(a->conn) && s == STATUS_OK)
		s = STATUS_UNAVAILABLE;
	if (span.on)
		sql_span_done(&span, s == STATUS_OK ? "" : "XX000", (int64_t)n);
	arena_reset(&a->arena);
	return s;
}

enum status chain_append(PGconn *c, const struct event *const *events, size_t n)
{
	struct appender a = { .conn = c };
	enum status s;

	if (!n)
		return STATUS_OK;
	if (!uuid_parse(events[0]->tenant_id, a.tenant) || !uuid_to_bytes(events[0]->tenant_id, a.tenant_raw))
		return STATUS_BAD_REQUEST;
	s = head_lock(&a);
	for (size_t i = 0; s == STATUS_OK && i < n; i += PART)
		s = part_send(&a, events + i, n - i < PART ? n - i : PART);
	if (s == STATUS_OK)
		s = head_move(&a);
	arena_fini(&a.arena);
	return s;
}
