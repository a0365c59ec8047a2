/* Accounts.Stats: how many accounts there are, by status, industry and size; one pass over the tenant's accounts. */
#include "svc-customers/ops.h"

/* GROUPING(): a bit per column that is not grouped by. The 100 most frequent values of each. */
#define BY(bits, column) \
	"coalesce((SELECT jsonb_agg(jsonb_build_object('value', " column ", 'count', n) ORDER BY place) FROM s WHERE g = " bits " AND place <= 100 AND " column " IS NOT NULL), '[]')"

const char account_stats_sql[] =
	"WITH s AS (SELECT g.*, row_number() OVER (PARTITION BY g.g ORDER BY g.n DESC, g.status, g.industry, g.size) AS place FROM ("
	"SELECT GROUPING(status, industry, size) AS g, status, industry, size, count(*) AS n,"
	" count(*) FILTER (WHERE created_at >= date_trunc('month', now())) AS fresh"
	" FROM account WHERE deleted_at IS NULL GROUP BY GROUPING SETS ((), (status), (industry), (size))) g)"
	" SELECT jsonb_build_object('total', (SELECT n FROM s WHERE g = 7), 'new_this_month', (SELECT fresh FROM s WHERE g = 7),"
	" 'active', coalesce((SELECT sum(n) FROM s WHERE g = 3 AND lower(status) = 'active'), 0),"
	" 'inactive', coalesce((SELECT sum(n) FROM s WHERE g = 3 AND lower(status) = 'inactive'), 0),"
	" 'by_status', " BY("3", "status") ", 'by_industry', " BY("5", "industry") ", 'by_size', " BY("6", "size") ")";
