/* The way out of the feed: what stands behind a cursor, and which tenants have something new. Both are one statement on the loop. */
#include "svc-audit/feed.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/wire.h"
#include "proto/audit.pb-c.h"
#include "resource/handler.h"
#include "service/service.h"

#define CURSOR_VERSION 1
#define TYPES_MAX 50
#define LIMIT_DEFAULT 100
#define SCAN_MAX "5000"     /* positions that one call looks at: a filter that fits little must not walk 7 days */
#define BYTES_MAX (4u << 20) /* of events in one reply, after the first */
#define MOVED_MAX 5000
#define FEED_EVENT_CURSOR 12 /* in crm.v1.FeedEvent */

static const struct feed_rules *rules;

void feed_open(const struct feed_rules *r)
{
	rules = r;
}

/* -- cursors */

struct cursor {
	uint8_t version, position[8], mark[4];
};

void feed_cursor_print(int64_t position, const uint8_t event_id[16], char out[FEED_CURSOR_MAX])
{
	struct cursor c = { .version = CURSOR_VERSION };
	uint64_t be = htobe64((uint64_t)position);

	memcpy(c.position, &be, 8);
	if (event_id)
		memcpy(c.mark, event_id + 12, 4); /* the random end of a UUIDv7 */
	b64url_encode(&c, sizeof(c), out);
}

bool feed_cursor_read(struct str text, int64_t *position, uint8_t mark[4])
{
	struct cursor c;
	uint8_t raw[FEED_CURSOR_MAX];
	uint64_t be;

	if (text.n != 18 || b64url_decode(text, raw) != (long)sizeof(c))
		return false;
	memcpy(&c, raw, sizeof(c));
	memcpy(&be, c.position, 8);
	*position = (int64_t)be64toh(be);
	memcpy(mark, c.mark, 4);
	return c.version == CURSOR_VERSION && *position >= 0;
}

/* -- Read */

struct reading {
	bool now;         /* after=now: only a cursor is wanted */
	bool from_oldest; /* no cursor was given */
	int64_t position;
	uint8_t mark[4];
};

static bool is_type(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.");

	return n && (!s[n] || (s[n] == '*' && !s[n + 1]));
}

/* Patterns as a PostgreSQL array for LIKE ANY; NULL: all. */
static const char *patterns(struct rpc_call *call, const Crm__V1__FeedRequest *req)
{
	struct buf b = { 0 };
	char *out;

	if (!req->n_type)
		return NULL;
	buf_c(&b, '{');
	for (size_t i = 0; i < req->n_type; i++) {
		buf_z(&b, i ? ",\"" : "\"");
		for (const char *p = req->type[i]; *p; p++) {
			if (*p == '_')
				buf_z(&b, "\\\\_"); /* of the array and of LIKE */
			else
				buf_c(&b, *p == '*' ? '%' : *p);
		}
		buf_c(&b, '"');
	}
	buf_c(&b, '}');
	out = arena_strdup(&call->arena, buf_view(&b));
	buf_fini(&b);
	return out;
}

static bool request_check(struct rpc_call *call, const Crm__V1__FeedRequest *req, struct reading *r)
{
	const char *after = req->after ? req->after : "";

	if (req->n_type > TYPES_MAX)
		rpc_violate(call, "type", "max_items", "must be at most 50 types", "50");
	for (size_t i = 0; i < req->n_type && i < TYPES_MAX; i++) {
		if (!is_type(req->type[i])) {
			rpc_violate(call, "type", "format", "must be types such as customers.lead.created or customers.lead.*", NULL);
			break;
		}
	}
	r->from_oldest = !*after;
	r->now = strcmp(after, "now") == 0;
	if (!r->from_oldest && !r->now && !feed_cursor_read(str_of(after), &r->position, r->mark))
		rpc_violate(call, "after", "cursor", "must be a cursor that the feed gave, or now", NULL);
	if (!call->n_violations)
		return true;
	rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
	return false;
}

/*
 * One row at least: where the feed begins and ends, what stands at the cursor, and how far was looked (end_*); then the events.
 * Everything is of one snapshot, and positions become visible in their order.
 */
static const char read_sql[] =
    "WITH place AS (SELECT coalesce((SELECT position FROM feed_head), 0) AS head, (SELECT min(position) FROM feed) AS first),"
    " start AS (SELECT head, coalesce(first, head + 1) AS first,"
    "  CASE WHEN $1::text = 'now' THEN head WHEN $1::text = '' THEN coalesce(first, head + 1) - 1 ELSE $1::text::bigint END AS start_at FROM place),"
    " range AS (SELECT *, least(head, start_at + " SCAN_MAX ") AS end_at FROM start),"
    " seen AS (SELECT f.position, f.event_id, f.value FROM range, feed f WHERE f.position > start_at AND f.position <= end_at"
    "  AND ($2::text[] IS NULL OR f.type LIKE ANY ($2::text[])) AND (f.entity = ANY ($3::text[])) IS DISTINCT FROM $4::boolean"
    "  ORDER BY f.position LIMIT $5::bigint)"
    " SELECT r.head, r.first, known.event_id, r.end_at, last.event_id, s.position, s.event_id, s.value FROM range r"
    " LEFT JOIN feed known ON known.position = r.start_at LEFT JOIN feed last ON last.position = r.end_at LEFT JOIN seen s ON true ORDER BY s.position";
enum { C_HEAD, C_FIRST, C_KNOWN, C_END, C_END_ID, C_POSITION, C_ID, C_VALUE };

struct reader {
	struct rpc_call *call;
	struct reading at;
	int64_t limit;
};

/* Results on the loop are binary. */
static int64_t i64_at(const PGresult *res, int row, int col)
{
	uint64_t be = 0;

	if (PQgetlength(res, row, col) == sizeof(be))
		memcpy(&be, PQgetvalue(res, row, col), sizeof(be));
	return (int64_t)be64toh(be);
}

static const uint8_t *id_at(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : (const uint8_t *)PQgetvalue(res, row, col);
}

/* What the cursor names is gone, or was never here: the client has missed something and must know it. */
static bool is_gone(const struct reader *r, const PGresult *res)
{
	const uint8_t *known = id_at(res, 0, C_KNOWN);

	if (r->at.now || r->at.from_oldest)
		return false;
	if (r->at.position > i64_at(res, 0, C_HEAD) || r->at.position < i64_at(res, 0, C_FIRST) - 1)
		return true;
	return known && memcmp(known + 12, r->at.mark, 4) != 0;
}

static void event_put(struct buf *out, struct str value, const char *cursor)
{
	size_t at = wire_open(out, 1);

	buf_str(out, value);
	wire_put_bytes(out, FEED_EVENT_CURSOR, str_of(cursor));
	wire_close(out, at);
}

/* How many events fit; *position, *id: the last that was looked at. */
static void events_put(const struct reader *r, const PGresult *res, struct buf *out, int64_t *position, const uint8_t **id)
{
	int n = PQgetisnull(res, 0, C_POSITION) ? 0 : PQntuples(res), i;
	char cursor[FEED_CURSOR_MAX];

	for (i = 0; i < n; i++) {
		struct str value = { PQgetvalue(res, i, C_VALUE), (size_t)PQgetlength(res, i, C_VALUE) };

		if (i && out->n + value.n > BYTES_MAX)
			break;
		feed_cursor_print(i64_at(res, i, C_POSITION), id_at(res, i, C_ID), cursor);
		event_put(out, value, cursor);
	}
	if (i && (i < n || n == r->limit)) {
		*position = i64_at(res, i - 1, C_POSITION);
		*id = id_at(res, i - 1, C_ID);
	} else {
		*position = i64_at(res, 0, C_END);
		*id = id_at(res, 0, C_END_ID);
	}
}

static void on_read(void *arg, const struct db_result *result)
{
	struct reader *r = arg;
	struct buf out = { 0 };
	char cursor[FEED_CURSOR_MAX];
	const uint8_t *id;
	int64_t position;

	if (result->status != STATUS_OK) {
		rpc_reply_error(r->call, result->status, NULL);
		return;
	}
	if (is_gone(r, result->res[0])) {
		rpc_reply_error(r->call, STATUS_GONE, "Events behind this cursor are no longer kept (7 days), so some were missed. Go on without `after`"
			" (from the oldest that is kept) or with after=now, and read what you need from the API");
		return;
	}
	events_put(r, result->res[0], &out, &position, &id);
	feed_cursor_print(position, id, cursor);
	wire_put_varint(&out, 2, (uint64_t)(i64_at(result->res[0], 0, C_HEAD) - position));
	wire_put_bytes(&out, 3, str_of(cursor));
	wire_put_varint(&out, 4, (uint64_t)position);
	rpc_reply_ok(r->call, buf_view(&out));
	buf_fini(&out);
}

void feed_read(struct rpc_call *call)
{
	Crm__V1__FeedRequest *req = handler_request(call, &crm__v1__feed_request__descriptor);
	struct reader *r = arena_zalloc(&call->arena, sizeof(*r));
	struct feed_sight sight;
	const char *params[5];
	struct db_stmt stmt = { { read_sql, sizeof(read_sql) - 1 }, params, 5 };

	if (!req || !request_check(call, req, &r->at))
		return;
	sight = feed_sight(rules, &call->who, &call->arena);
	r->call = call;
	r->limit = req->has_limit ? req->limit : LIMIT_DEFAULT;
	params[0] = r->at.now ? "now" : r->at.from_oldest ? "" : param_i64(call, r->at.position);
	params[1] = patterns(call, req);
	params[2] = sight.words;
	params[3] = sight.everything_else ? "true" : "false";
	params[4] = param_i64(call, r->limit);
	db_submit(service_db(), DB_READ, call->who.tenant_id, &stmt, 1, call->deadline_us, on_read, r);
}

/* -- Moved */

static void moved_put(struct buf *out, const PGresult *res, int row)
{
	size_t at = wire_open(out, 2);
	char id[UUID_TEXT + 1];

	uuid_from_bytes(id_at(res, row, 2), id);
	wire_put_bytes(out, 1, str_of(id));
	wire_put_varint(out, 2, (uint64_t)i64_at(res, row, 3));
	wire_close(out, at);
}

static int64_t number(const PGresult *res, int row, int col)
{
	int64_t v = 0;

	return str_to_i64((struct str){ PQgetvalue(res, row, col), (size_t)PQgetlength(res, row, col) }, &v) ? v : 0;
}

/* Rows: xmin of the snapshot, xid of the row (both as text), tenant and position; one row of NULLs when nothing moved. */
static void on_moved(void *arg, const struct db_result *result)
{
	struct rpc_call *call = arg;
	struct buf out = { 0 };
	const PGresult *res;
	int64_t cursor, last;
	int n;

	if (result->status != STATUS_OK) {
		rpc_reply_error(call, result->status, NULL);
		return;
	}
	res = result->res[0];
	n = PQntuples(res);
	cursor = number(res, 0, 0);
	last = number(res, n - 1, 1);
	for (int i = 0; i < n; i++) {
		if (!PQgetisnull(res, i, 2))
			moved_put(&out, res, i);
	}
	if (n >= MOVED_MAX && last < cursor) /* cut off: go on from the last transaction that was seen */
		cursor = last;
	wire_put_varint(&out, 1, (uint64_t)cursor);
	wire_put_varint(&out, 3, n >= MOVED_MAX);
	rpc_reply_ok(call, buf_view(&out));
	buf_fini(&out);
}

void feed_moved(struct rpc_call *call)
{
	Crm__V1__FeedMovedRequest *req = handler_request(call, &crm__v1__feed_moved_request__descriptor);
	const char *cursor;
	struct db_stmt stmt = { .params = &cursor, .n_params = 1 };

	if (!req)
		return;
	/* without a cursor nothing is told but where to begin */
	cursor = req->has_cursor && req->cursor > 0 ? param_i64(call, req->cursor) : NULL;
	stmt.sql = STR("SELECT s.xmin::text, m.moved::text, m.tenant_id, m.head FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) s"
		       " LEFT JOIN feed_moved($1::text::xid8) m ON true ORDER BY m.moved");
	db_submit(service_db(), DB_READ, (struct str){ "", 0 }, &stmt, 1, call->deadline_us, on_moved, call);
}
