/* The way into the feed: events become rows, in the consumer's transaction. */
#include "base/codec.h"
#include "base/wire.h"
#include "events/event.h"
#include "events/pgconn.h"
#include "svc-audit/feed.h"

/* Numbers of crm.v1.FeedEvent and crm.v1.FeedChange. */
enum { F_ID = 1, F_TYPE, F_SOURCE, F_SUBJECT, F_TIME, F_TENANT, F_USER, F_REQUEST, F_TRACEPARENT, F_VERSION, F_DATA };
enum { C_KIND = 1, C_CHANGED, C_ENTITY };

static void put(struct buf *b, uint32_t number, struct str s)
{
	if (s.n)
		wire_put_bytes(b, number, s);
}

/* Address, program and values before the change stay behind: they are the audit log's. */
static void encode(struct buf *b, const struct event *e)
{
	size_t at;

	put(b, F_ID, e->id);
	put(b, F_TYPE, e->type);
	put(b, F_SOURCE, e->source);
	put(b, F_SUBJECT, e->entity_id);
	wire_put_varint(b, F_TIME, (uint64_t)e->time_us);
	put(b, F_TENANT, e->tenant_id);
	put(b, F_USER, e->user_id);
	put(b, F_REQUEST, e->request_id);
	put(b, F_TRACEPARENT, e->traceparent);
	if (e->version)
		wire_put_varint(b, F_VERSION, e->version);
	if (!e->entity.n)
		return;
	at = wire_open(b, F_DATA);
	put(b, C_KIND, e->entity);
	for (size_t i = 0; i < e->n_changed; i++)
		put(b, C_CHANGED, e->changed[i]);
	put(b, C_ENTITY, e->data);
	wire_close(b, at);
}

static void hex_put(struct buf *b, struct str s)
{
	buf_need(b, 2 * s.n + 1);
	hex_encode(s.p, s.n, b->p + b->n);
	b->n += 2 * s.n;
}

static void row_put(struct buf *rows, struct buf *value, const struct event *e)
{
	buf_clear(value);
	encode(value, e);
	buf_z(rows, rows->n > 1 ? ",{\"i\":" : "{\"i\":");
	buf_json_str(rows, e->id);
	buf_z(rows, ",\"t\":");
	buf_json_str(rows, e->type);
	buf_z(rows, ",\"e\":");
	buf_json_str(rows, e->entity.n ? e->entity : STR(""));
	buf_z(rows, ",\"v\":\"");
	hex_put(rows, buf_view(value));
	buf_z(rows, "\"}");
}

/* One statement per tenant and batch: the head moves by n and holds its row until the commit, so positions are dense and in order. */
static const char append_sql[] =
    "WITH head AS (INSERT INTO feed_head (tenant_id, position) VALUES ($1::uuid, $2::bigint)"
    " ON CONFLICT (tenant_id) DO UPDATE SET position = feed_head.position + $2::bigint, xid = pg_current_xact_id() RETURNING position)"
    " INSERT INTO feed (tenant_id, position, event_id, type, entity, value)"
    " SELECT $1::uuid, head.position - $2::bigint + r.n, r.i, r.t, r.e, decode(r.v, 'hex')"
    " FROM head, ROWS FROM (json_to_recordset($3::json) AS (i uuid, t text, e text, v text)) WITH ORDINALITY AS r (i, t, e, v, n)";

enum status feed_append(void *arg, PGconn *conn, const struct event *const *events, size_t n)
{
	struct buf rows = { 0 }, value = { 0 };
	char tenant[UUID_TEXT + 1], count[24];
	const char *params[] = { tenant, count, NULL };
	enum status s;

	if (!uuid_parse(events[0]->tenant_id, tenant))
		return STATUS_BAD_REQUEST;
	snprintf(count, sizeof count, "%zu", n);
	buf_c(&rows, '[');
	for (size_t i = 0; i < n; i++)
		row_put(&rows, &value, events[i]);
	buf_c(&rows, ']');
	params[2] = buf_cstr(&rows);
	s = pgconn_exec(conn, NULL, append_sql, 3, params);
	buf_fini(&rows);
	buf_fini(&value);
	return s;
}
