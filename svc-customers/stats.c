/* Accounts.Stats: how many accounts there are, by status, industry and size. */
#include "base/buf.h"
#include "base/wire.h"
#include "svc-customers/ops.h"

enum { BY_ALL = 7, BY_STATUS = 3, BY_INDUSTRY = 5, BY_SIZE = 6 }; /* GROUPING(): a bit per column that is not grouped by */
enum { COL_SET, COL_STATUS, COL_INDUSTRY, COL_SIZE, COL_COUNT, COL_NEW };

static void count_by_put(struct buf *b, uint32_t number, const PGresult *r, int row, int col, uint64_t n)
{
	size_t at;

	if (PQgetisnull(r, row, col))
		return;
	at = wire_open(b, number);
	wire_put_bytes(b, 1, str_of(PQgetvalue(r, row, col)));
	wire_put_varint(b, 2, n);
	wire_close(b, at);
}

static uint64_t number(const PGresult *r, int row, int col)
{
	uint64_t n = 0;

	return str_to_u64(str_of(PQgetvalue(r, row, col)), &n) ? n : 0;
}

static void row_put(struct buf *b, const PGresult *r, int row, uint64_t *active, uint64_t *inactive)
{
	uint64_t n = number(r, row, COL_COUNT);
	const char *status = PQgetvalue(r, row, COL_STATUS);

	switch (number(r, row, COL_SET)) {
	case BY_ALL:
		wire_put_varint(b, 1, n);
		wire_put_varint(b, 4, number(r, row, COL_NEW));
		break;
	case BY_STATUS:
		*active += strcasecmp(status, "active") == 0 ? n : 0;
		*inactive += strcasecmp(status, "inactive") == 0 ? n : 0;
		count_by_put(b, 5, r, row, COL_STATUS, n);
		break;
	case BY_INDUSTRY:
		count_by_put(b, 6, r, row, COL_INDUSTRY, n);
		break;
	case BY_SIZE:
		count_by_put(b, 7, r, row, COL_SIZE, n);
		break;
	}
}

/* The 100 most frequent values of each; one pass over the tenant's accounts. */
static const char stats_sql[] =
    "SELECT s.g, s.status, s.industry, s.size, s.n, s.fresh FROM ("
    "SELECT g.*, row_number() OVER (PARTITION BY g.g ORDER BY g.n DESC, g.status, g.industry, g.size) AS place FROM ("
    "SELECT GROUPING(status, industry, size) AS g, status, industry, size, count(*) AS n,"
    " count(*) FILTER (WHERE created_at >= date_trunc('month', now())) AS fresh"
    " FROM account WHERE deleted_at IS NULL GROUP BY GROUPING SETS ((), (status), (industry), (size))) g) s"
    " WHERE s.place <= 100 ORDER BY s.g, s.place";

void account_stats(struct rpc_call *call, struct db_conn *db)
{
	struct buf out = { 0 };
	PGresult *res = NULL;
	uint64_t active = 0, inactive = 0;
	enum status s = db_begin(db, call->who.tenant_id);

	if (s == STATUS_OK)
		s = db_exec(db, &res, stats_sql, 0, NULL);
	db_rollback(db);
	for (int i = 0; s == STATUS_OK && i < PQntuples(res); i++)
		row_put(&out, res, i, &active, &inactive);
	wire_put_varint(&out, 2, active);
	wire_put_varint(&out, 3, inactive);
	if (s == STATUS_OK)
		rpc_reply_ok(call, buf_view(&out));
	else
		rpc_reply_error(call, s, NULL);
	PQclear(res);
	buf_fini(&out);
}
