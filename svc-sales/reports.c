/* Figures about deals, one statement each; what a figure means is said beside it in proto/sales.proto. */
#include "svc-sales/ops.h"

/* $1 from, $2 to (microseconds), $3 owner (a Key), $4 limit */
#define AT(param) "to_timestamp(" param "::bigint / 1e6)"
#define FROM(days) "coalesce(" AT("$1") ", now() - interval '" days " days')"
#define TO "coalesce(" AT("$2") ", now())"
#define OWNED "($3::jsonb IS NULL OR d.owner_id = ($3::jsonb->>'id')::uuid)"
#define WEIGHTED "round(sum(d.value * d.probability / 100), 2)"
/* in percent with one digit; NULL when nothing was counted */
#define RATE(part, all) "round(100.0 * (" part ") / NULLIF(" all ", 0), 1)"
#define US(time) "(extract(epoch FROM " time ") * 1000000)::bigint"

const char deals_history_sql[] =
	"SELECT jsonb_build_object('change', coalesce(jsonb_agg(jsonb_build_object("
	" 'from_stage', CASE WHEN f.id IS NOT NULL THEN jsonb_build_object('id', f.id, 'seq', f.seq, 'name', f.name) END,"
	" 'to_stage', jsonb_build_object('id', t.id, 'seq', t.seq, 'name', t.name), 'at_us', " US("c.at") ", 'by', CASE WHEN c.by_user IS NOT NULL THEN jsonb_build_object('id', c.by_user) END,"
	" 'note', c.note) ORDER BY c.id DESC) FILTER (WHERE c.id IS NOT NULL), '[]'))"
	" FROM deal d LEFT JOIN LATERAL (SELECT * FROM stage_change h WHERE h.deal_id = d.id ORDER BY h.id DESC LIMIT 200) c ON true"
	" LEFT JOIN stage f ON f.id = c.from_stage LEFT JOIN stage t ON t.id = c.to_stage"
	" WHERE d.deleted_at IS NULL AND CASE WHEN $1::jsonb ? 'id' THEN d.id = ($1::jsonb->>'id')::uuid ELSE d.seq = ($1::jsonb->>'seq')::bigint END"
	" AND $2::bigint IS NULL GROUP BY d.id";

const char deals_pipeline_sql[] =
	"WITH s AS (SELECT s.id, s.seq, s.name, s.slug, s.position, s.probability, s.kind, count(d.id) AS n, coalesce(sum(d.value), 0) AS value, coalesce(" WEIGHTED ", 0) AS weighted"
	" FROM stage s LEFT JOIN deal d ON d.stage_id = s.id AND d.deleted_at IS NULL AND " OWNED
	" AND ($1::bigint IS NULL OR d.created_at >= " AT("$1") ") AND ($2::bigint IS NULL OR d.created_at <= " AT("$2") ")"
	" WHERE s.deleted_at IS NULL AND $4::bigint IS DISTINCT FROM 0 GROUP BY s.tenant_id, s.id)"
	" SELECT jsonb_build_object('stage', coalesce(jsonb_agg(jsonb_build_object('stage', jsonb_build_object('id', id, 'seq', seq, 'name', name), 'slug', slug, 'probability', probability,"
	" 'kind', kind, 'count', n, 'value', value, 'weighted', weighted) ORDER BY position, seq), '[]'),"
	" 'count', coalesce(sum(n) FILTER (WHERE kind = 'open'), 0), 'value', coalesce(sum(value) FILTER (WHERE kind = 'open'), 0),"
	" 'weighted', coalesce(sum(weighted) FILTER (WHERE kind = 'open'), 0)) FROM s";

const char deals_forecast_sql[] =
	"WITH span AS (SELECT date_trunc('month', coalesce(" AT("$1") ", now())) AS a, date_trunc('month', coalesce(" AT("$2") ", coalesce(" AT("$1") ", now()) + interval '5 months')) AS b),"
	" m AS (SELECT g AS month FROM span, generate_series(span.a, least(span.b, span.a + interval '59 months'), interval '1 month') g),"
	" x AS (SELECT m.month,"
	" count(d.id) FILTER (WHERE d.status = 'open') AS n,"
	" coalesce(round(sum(d.value * d.probability / 100) FILTER (WHERE d.status = 'open'), 2), 0) AS weighted,"
	" coalesce(sum(d.value) FILTER (WHERE d.status = 'open'), 0) AS best_case,"
	" coalesce(sum(d.value) FILTER (WHERE d.status = 'won'), 0) AS closed"
	" FROM m LEFT JOIN deal d ON d.deleted_at IS NULL AND " OWNED " AND CASE d.status WHEN 'open' THEN d.expected_close WHEN 'won' THEN d.closed_on END >= m.month::date"
	" AND CASE d.status WHEN 'open' THEN d.expected_close WHEN 'won' THEN d.closed_on END < (m.month + interval '1 month')::date GROUP BY 1)"
	" SELECT jsonb_build_object('month', jsonb_agg(jsonb_build_object('month', to_char(month, 'YYYY-MM'), 'count', n, 'weighted', weighted, 'best_case', best_case, 'closed', closed) ORDER BY month),"
	" 'weighted', sum(weighted), 'best_case', sum(best_case), 'closed', sum(closed),"
	" 'undated', (SELECT count(*) FROM deal d WHERE d.deleted_at IS NULL AND d.status = 'open' AND d.expected_close IS NULL AND " OWNED "))"
	" FROM x WHERE $4::bigint IS DISTINCT FROM 0";

const char deals_leaderboard_sql[] =
	"WITH x AS (SELECT d.owner_id, count(*) FILTER (WHERE d.status = 'won') AS won, coalesce(sum(d.value) FILTER (WHERE d.status = 'won'), 0) AS won_value,"
	" count(*) FILTER (WHERE d.status = 'lost') AS lost FROM deal d WHERE d.deleted_at IS NULL AND d.status <> 'open' AND d.owner_id IS NOT NULL AND " OWNED
	" AND d.closed_on >= " FROM("90") "::date AND d.closed_on <= " TO "::date GROUP BY 1),"
	" r AS (SELECT *, rank() OVER (ORDER BY won_value DESC, won DESC) AS place FROM x ORDER BY place, owner_id LIMIT coalesce($4::bigint, 20))"
	" SELECT jsonb_build_object('row', coalesce(jsonb_agg(jsonb_build_object('owner', jsonb_build_object('id', owner_id), 'won', won, 'won_value', won_value, 'lost', lost,"
	" 'win_rate', " RATE("won", "won + lost") ", 'rank', place) ORDER BY place, owner_id), '[]'), 'from_us', " US(FROM("90")) ", 'to_us', " US(TO) ") FROM r";

#define GROUPED(key, what) \
	"coalesce((SELECT jsonb_agg(jsonb_build_object(" what ", 'count', n, 'value', value, 'won', won, 'won_value', won_value) ORDER BY n DESC, k) FROM" \
	" (SELECT " key " AS k, count(*) AS n, coalesce(sum(value), 0) AS value, count(*) FILTER (WHERE status = 'won') AS won," \
	" coalesce(sum(value) FILTER (WHERE status = 'won'), 0) AS won_value FROM made GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50) g), '[]')"

const char deals_analytics_sql[] =
	"WITH made AS (SELECT d.* FROM deal d WHERE d.deleted_at IS NULL AND " OWNED " AND d.created_at >= " FROM("90") " AND d.created_at <= " TO "),"
	" ended AS (SELECT d.status, d.value, d.closed_on - d.created_at::date AS days FROM deal d WHERE d.deleted_at IS NULL AND " OWNED " AND d.status <> 'open'"
	" AND d.closed_on >= " FROM("90") "::date AND d.closed_on <= " TO "::date),"
	" sums AS (SELECT count(*) FILTER (WHERE status = 'won') AS won, count(*) FILTER (WHERE status = 'lost') AS lost, coalesce(sum(value) FILTER (WHERE status = 'won'), 0) AS won_value,"
	" round(avg(days) FILTER (WHERE status = 'won'), 1) AS days FROM ended),"
	" entered AS (SELECT c.to_stage, c.deal_id, min(c.id) AS first FROM stage_change c JOIN deal d ON d.id = c.deal_id AND d.deleted_at IS NULL AND " OWNED
	" WHERE c.at >= " FROM("90") " AND c.at <= " TO " GROUP BY 1, 2),"
	" steps AS (SELECT s.id, s.seq, s.name, s.slug, s.position, count(e.deal_id) AS entered,"
	" count(e.deal_id) FILTER (WHERE EXISTS (SELECT FROM stage_change l JOIN stage n ON n.id = l.to_stage WHERE l.deal_id = e.deal_id AND l.id > e.first"
	" AND (n.kind = 'won' OR (n.kind = 'open' AND n.position > s.position)))) AS moved_on"
	" FROM stage s LEFT JOIN entered e ON e.to_stage = s.id WHERE s.deleted_at IS NULL AND s.kind = 'open' GROUP BY s.tenant_id, s.id)"
	" SELECT jsonb_build_object('from_us', " US(FROM("90")) ", 'to_us', " US(TO) ", 'created', (SELECT count(*) FROM made), 'won', won, 'lost', lost, 'won_value', won_value,"
	" 'win_rate', " RATE("won", "won + lost") ", 'average_value', round(won_value / NULLIF(won, 0), 2), 'average_cycle_days', days,"
	" 'stage', coalesce((SELECT jsonb_agg(jsonb_build_object('stage', jsonb_build_object('id', id, 'seq', seq, 'name', name), 'slug', slug, 'entered', entered, 'moved_on', moved_on,"
	" 'rate', " RATE("moved_on", "entered") ") ORDER BY position, seq) FROM steps), '[]'),"
	" 'by_source', " GROUPED("source", "'word', k") ", 'by_owner', " GROUPED("owner_id", "'owner', CASE WHEN k IS NOT NULL THEN jsonb_build_object('id', k) END") ")"
	" FROM sums WHERE $4::bigint IS DISTINCT FROM 0";
