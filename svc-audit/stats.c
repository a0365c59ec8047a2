/* AuditLogs.Stats and AuditLogs.Compliance: the log over a period, in numbers. */
#include <stdio.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/wire.h"
#include "svc-audit/audit.h"

#define DEFAULT_US (30LL * 24 * 3600 * 1000000)
#define WHERE " WHERE e.created_at >= to_timestamp($1::bigint / 1000000.0) AND e.created_at <= to_timestamp($2::bigint / 1000000.0)"

struct period {
	int64_t from_us, to_us;
	char from[24], to[24];
};

static bool period_read(struct rpc_call *call, struct period *p)
{
	struct wire_reader r = wire_read(call->payload);
	struct wire_field f;

	*p = (struct period){ .to_us = clock_us() };
	while (wire_next(&r, &f)) {
		if (f.number == 1 && f.type == WIRE_VARINT)
			p->from_us = (int64_t)f.value;
		else if (f.number == 2 && f.type == WIRE_VARINT)
			p->to_us = (int64_t)f.value;
	}
	if (!p->from_us)
		p->from_us = p->to_us - DEFAULT_US;
	snprintf(p->from, sizeof p->from, "%lld", (long long)p->from_us);
	snprintf(p->to, sizeof p->to, "%lld", (long long)p->to_us);
	return !r.bad;
}

static void put_number(struct buf *b, uint32_t number, const char *text)
{
	int64_t v = 0;

	wire_put_varint(b, number, str_to_i64(str_of(text), &v) ? (uint64_t)v : 0);
}

static void put_count(struct buf *b, uint32_t number, const char *value, const char *count)
{
	size_t at = wire_open(b, number), ref;

	if (number == 9) {
		ref = wire_open(b, 1);
		wire_put_bytes(b, 1, str_of(value));
		wire_close(b, ref);
	} else {
		wire_put_bytes(b, 1, str_of(value));
	}
	put_number(b, 2, count);
	wire_close(b, at);
}

/* Rows: number of the field, value, count. The 50 most frequent of each; a year of days. */
static const char stats_sql[] =
    "WITH e AS MATERIALIZED (SELECT e.action, e.resource, e.user_id, e.dialect, date_trunc('day', e.created_at AT TIME ZONE 'UTC')::date::text AS day, count(*) AS n"
    " FROM entry e" WHERE " GROUP BY 1, 2, 3, 4, 5)"
    " SELECT 1, NULL, coalesce(sum(n), 0)::bigint FROM e UNION ALL SELECT 2, NULL, count(DISTINCT user_id) FROM e"
    " UNION ALL SELECT 3, NULL, count(*) FROM security_event e" WHERE
    " UNION ALL SELECT 4, NULL, count(*) FROM security_event WHERE status = 'open'"
    " UNION ALL (SELECT 5, action, sum(n)::bigint FROM e GROUP BY action ORDER BY 3 DESC, 2 LIMIT 50)"
    " UNION ALL (SELECT 6, resource, sum(n)::bigint FROM e GROUP BY resource ORDER BY 3 DESC, 2 LIMIT 50)"
    " UNION ALL (SELECT 7, day, sum(n)::bigint FROM e GROUP BY day ORDER BY 2 LIMIT 366)"
    " UNION ALL (SELECT 8, dialect, sum(n)::bigint FROM e WHERE dialect IS NOT NULL GROUP BY dialect ORDER BY 3 DESC, 2 LIMIT 50)"
    " UNION ALL (SELECT 9, user_id::text, sum(n)::bigint FROM e WHERE user_id IS NOT NULL GROUP BY user_id ORDER BY 3 DESC, 2 LIMIT 50)";

static void stats_rows(struct buf *out, const PGresult *r)
{
	for (int i = 0; i < PQntuples(r); i++) {
		uint32_t number = (uint32_t)(PQgetvalue(r, i, 0)[0] - '0');

		if (PQgetisnull(r, i, 1))
			put_number(out, number, PQgetvalue(r, i, 2));
		else
			put_count(out, number, PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
	}
}

/* One read of its own transaction; the reply is what print makes of the rows. */
static void answer(struct rpc_call *call, struct db_conn *db, const char *sql, void (*print)(struct buf *out, const PGresult *r, const struct period *p))
{
	struct buf out = { 0 };
	struct period p;
	PGresult *r = NULL;
	enum status s;
	const char *params[2];

	if (!period_read(call, &p)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	params[0] = p.from;
	params[1] = p.to;
	s = db_begin(db, call->who.tenant_id);
	if (s == STATUS_OK)
		s = db_exec(db, &r, sql, 2, params);
	db_rollback(db);
	if (s == STATUS_OK) {
		print(&out, r, &p);
		rpc_reply_ok(call, buf_view(&out));
	} else {
		rpc_reply_error(call, s, NULL);
	}
	PQclear(r);
	buf_fini(&out);
}

static void stats_print(struct buf *out, const PGresult *r, const struct period *p)
{
	stats_rows(out, r);
	wire_put_varint(out, 10, (uint64_t)p->from_us);
	wire_put_varint(out, 11, (uint64_t)p->to_us);
}

void audit_stats(struct rpc_call *call, struct db_conn *db)
{
	answer(call, db, stats_sql, stats_print);
}

/* Columns: number of the field, place in a list or NULL, text, number. Lists come with one row per element. */
static const char compliance_sql[] =
    "WITH e AS MATERIALIZED (SELECT count(*) AS n, count(*) FILTER (WHERE e.action = 'created') AS created, count(*) FILTER (WHERE e.action = 'updated') AS updated,"
    " count(*) FILTER (WHERE e.action = 'deleted') AS deleted, count(*) FILTER (WHERE e.type = 'auth.user.logged_in') AS logins,"
    " count(*) FILTER (WHERE e.type = 'auth.user.login_failed') AS failed, count(*) FILTER (WHERE e.action = 'exported') AS exports,"
    " count(*) FILTER (WHERE e.user_id IS NULL AND e.api_key_id IS NULL) AS nobody FROM entry e" WHERE "),"
    " s AS MATERIALIZED (SELECT severity, status, count(*) AS n FROM security_event e" WHERE " GROUP BY 1, 2),"
    " k AS MATERIALIZED (SELECT seq, signed_us, signature FROM checkpoint WHERE tenant_id = current_setting('app.tenant_id')::uuid ORDER BY seq DESC LIMIT 1)"
    " SELECT v.f, v.t, v.n FROM e, LATERAL (VALUES (4, NULL::text, e.n), (5, NULL, e.created), (6, NULL, e.updated), (7, NULL, e.deleted), (8, NULL, e.logins),"
    " (9, NULL, e.failed), (10, NULL, e.exports), (11, NULL, e.nobody)) v(f, t, n)"
    " UNION ALL SELECT 12, severity, sum(n)::bigint FROM s GROUP BY severity"
    " UNION ALL SELECT 13, NULL, coalesce(sum(n) FILTER (WHERE status = 'open'), 0)::bigint FROM s"
    " UNION ALL SELECT 14, NULL, coalesce(sum(n) FILTER (WHERE status = 'resolved'), 0)::bigint FROM s"
    " UNION ALL SELECT 16, NULL, min(seq) FROM entry HAVING min(seq) IS NOT NULL"
    " UNION ALL SELECT 17, NULL, seq FROM chain WHERE seq > 0 UNION ALL SELECT 18, hash, NULL FROM chain"
    " UNION ALL SELECT 19, NULL, seq FROM k UNION ALL SELECT 20, NULL, signed_us FROM k UNION ALL SELECT 21, signature, NULL FROM k"
    " UNION ALL SELECT 22, NULL, count(*) FROM alert_rule WHERE is_active AND deleted_at IS NULL"
    " UNION ALL SELECT 15, id::text || ' ' || kind || ' ' || legal_hold::text || ' ' || last_removed || ' ' || seq || ' ' ||"
    "  coalesce((extract(epoch FROM last_applied_at) * 1000000)::bigint, 0) || ' ' || name, keep_days FROM retention_policy";

/* "id kind hold removed seq applied name" */
static void put_policy(struct buf *b, const char *text, const char *keep_days)
{
	char id[UUID_TEXT + 1], kind[40], hold[8];
	long long removed = 0, seq = 0, applied = 0;
	size_t at = wire_open(b, 15);
	int name = 0;

	if (sscanf(text, "%36s %39s %7s %lld %lld %lld %n", id, kind, hold, &removed, &seq, &applied, &name) == 6 && name > 0) {
		wire_put_bytes(b, 1, str_of(id));
		wire_put_varint(b, 2, (uint64_t)seq);
		wire_put_bytes(b, 16, str_of(text + name));
		wire_put_bytes(b, 17, str_of(kind));
		put_number(b, 18, keep_days);
		wire_put_varint(b, 19, hold[0] == 't');
		if (applied)
			wire_put_varint(b, 20, (uint64_t)applied);
		wire_put_varint(b, 21, (uint64_t)removed);
	}
	wire_close(b, at);
}

static void compliance_row(struct buf *out, const PGresult *r, int i)
{
	int64_t number = 0;

	if (!str_to_i64(str_of(PQgetvalue(r, i, 0)), &number))
		return;
	if (number == 15)
		put_policy(out, PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
	else if (PQgetisnull(r, i, 1))
		put_number(out, (uint32_t)number, PQgetvalue(r, i, 2));
	else if (PQgetisnull(r, i, 2))
		wire_put_bytes(out, (uint32_t)number, str_of(PQgetvalue(r, i, 1)));
	else
		put_count(out, (uint32_t)number, PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
}

static void compliance_print(struct buf *out, const PGresult *r, const struct period *p)
{
	for (int i = 0; i < PQntuples(r); i++)
		compliance_row(out, r, i);
	wire_put_varint(out, 1, (uint64_t)p->from_us);
	wire_put_varint(out, 2, (uint64_t)p->to_us);
	wire_put_varint(out, 3, (uint64_t)clock_us());
}

void audit_compliance(struct rpc_call *call, struct db_conn *db)
{
	answer(call, db, compliance_sql, compliance_print);
}
