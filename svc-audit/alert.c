/* Rules that fire: a security event, an event of the stream (both in SQL), a line in the log, and mail. */
#include "svc-audit/alert.h"

#include <stdio.h>

#include "base/codec.h"
#include "base/log.h"
#include "events/pgconn.h"
#include "svc-audit/secret.h"

#define PURPOSE "mail"

const char *const alert_templates[] = { "alert" };
const size_t alert_n_templates = sizeof(alert_templates) / sizeof(alert_templates[0]);

static uint64_t fired; /* atomic */

enum { C_RULE, C_NAME, C_SEVERITY, C_TOTAL, C_WINDOW, C_AT, C_TO };

static const char observe_sql[] =
    "SELECT o.fired_rule, o.fired_name, o.fired_severity, o.fired_total, o.fired_window, to_char(o.fired_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), m.address"
    " FROM chain c, LATERAL observe(c.seq - $1::bigint + 1, c.seq) o LEFT JOIN LATERAL unnest(o.mail_to) m(address) ON true"
    " WHERE c.tenant_id = current_setting('app.tenant_id')::uuid";

bool alert_open(struct arena *a, const char *id, struct str hex, struct str *values)
{
	return secret_open(a, PURPOSE, id, hex, values);
}

static enum status mail_add(PGconn *conn, const PGresult *r, int row)
{
	static const struct {
		const char *name;
		int column;
	} values[] = { { "name", C_NAME }, { "severity", C_SEVERITY }, { "events", C_TOTAL }, { "window", C_WINDOW }, { "time", C_AT } };
	struct arena a = { 0 };
	struct buf b = { 0 };
	char id[UUID_TEXT + 1];
	const char *params[] = { id, PQgetvalue(r, row, C_TO), NULL };
	enum status s;

	uuid7(id);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		mail_value_put(&b, values[i].name, PQgetvalue(r, row, values[i].column));
	params[2] = secret_seal(&a, PURPOSE, id, buf_view(&b));
	s = pgconn_exec(conn, NULL, "INSERT INTO mail_queue (id, recipient, template, sealed) VALUES ($1::uuid, $2, 'alert', $3::bytea)", 3, params);
	buf_fini(&b);
	arena_fini(&a);
	return s;
}

/* A row per recipient; a rule without one has a row too. */
static bool is_another(const PGresult *r, int row)
{
	return row == 0 || strcmp(PQgetvalue(r, row, C_RULE), PQgetvalue(r, row - 1, C_RULE)) || strcmp(PQgetvalue(r, row, C_AT), PQgetvalue(r, row - 1, C_AT));
}

enum status alert_observe(PGconn *conn, size_t n, struct str tenant)
{
	char count[24];
	const char *params[] = { count };
	PGresult *r = NULL;
	enum status s;

	snprintf(count, sizeof count, "%zu", n);
	s = pgconn_exec(conn, &r, observe_sql, 1, params);
	for (int i = 0; s == STATUS_OK && i < PQntuples(r); i++) {
		if (is_another(r, i)) {
			log_warn("AUDIT-ALERT", "rule %s of tenant %.*s fired", PQgetvalue(r, i, C_RULE), STR_FMT(tenant));
			__atomic_fetch_add(&fired, 1, __ATOMIC_RELAXED);
		}
		if (!PQgetisnull(r, i, C_TO))
			s = mail_add(conn, r, i);
	}
	PQclear(r);
	return s;
}

uint64_t alerts_fired(void)
{
	return __atomic_load_n(&fired, __ATOMIC_RELAXED);
}
