"""Lists and POSTs of deals and orders: what tests/bench/run measures with `--only deals`.

The raw statements leave to the triggers of the schema what these do for the product too: stages, prices, stock, numbers.
"""

import json
import urllib.request

DEAL = ("id, seq, version, created_at, updated_at, created_by, updated_by, custom_fields, external_id, title, description, account_id, contact_id, lead_id, value::text, stage_id, stage_slug, "
        "status, probability, expected_close, closed_on, owner_id, source, stage_note, lines, stage_changed_at")
ORDER = ("id, seq, version, created_at, updated_at, created_by, updated_by, custom_fields, external_id, number, account_id, items, status, total::text, street, city, state, zip, country, notes, "
         "tracking_number, status_changed_at")


def noted(insert, entity):
    return (f"WITH made AS ({insert} RETURNING *), noted AS (INSERT INTO sales.outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, user_id, created_at) "
            f"SELECT gen_random_uuid(), tenant_id, 'bench.raw', '{entity}', id, seq, version, to_jsonb(made), created_by, now() FROM made) SELECT * FROM made")


def page(columns, table, where):
    return f"SELECT {columns} FROM sales.{table} WHERE tenant_id = $1::uuid AND {where} = $2 AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 20"


SQL = {
    "list_deals": page(DEAL, "deal", "stage_slug"),
    "post_deals": noted("INSERT INTO sales.deal (id, seq, tenant_id, title, value, stage_id, source, expected_close, description, created_by, updated_by) "
                        "SELECT gen_random_uuid(), nextval('bench_seq'), $1::uuid, $2, $3::numeric, $4::uuid, 'website', date '2030-12-31', 'Annual software license renewal', $5::uuid, $5::uuid", "deal"),
    "list_orders": page(ORDER, "orders", "status"),
    "post_orders": noted("INSERT INTO sales.orders (id, seq, tenant_id, items, notes, created_by, updated_by, account_id) "
                         "SELECT gen_random_uuid(), nextval('bench_seq'), $1::uuid, $2::jsonb, $3, $4::uuid, $4::uuid, $5::uuid", "order"),
}
RAW_CONNECTIONS = {"list_deals": 8, "post_deals": 16, "list_orders": 8, "post_orders": 16}
GOALS = [("list_deals", "128", 0.40), ("post_deals", "128", 0.65), ("list_orders", "128", 0.40), ("post_orders", "128", 0.65)]
STAGES = ("lead", "qualified", "proposal", "negotiation")
STATUSES = ("pending", "confirmed", "processing")


def call(gateway, method, path, token, body=None):
    r = urllib.request.Request(f"http://{gateway}{path}", json.dumps(body).encode() if body else None, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}, method=method)
    return json.load(urllib.request.urlopen(r, timeout=30))


def seed(stack, gateway, tenants, rows, say):
    """Past the triggers: a deal and an order of the same shape as theirs, many times."""
    n = rows // len(tenants)
    say(f"  writing {n * len(tenants):,} deals and orders")
    for t in tenants:
        stages = call(gateway, "GET", "/v1/pipeline-stages", t["token"])["items"]
        t["stage"] = next(s["id"] for s in stages if s["slug"] == "lead")
        t["product"] = call(gateway, "PUT", "/v1/products/external/bench", t["token"], {"name": f"{t['mark']}Product", "price": 19.99, "stockQuantity": 1000000000})["id"]
        t["account"] = stack.psql(f"SELECT id FROM customers.account WHERE tenant_id = '{t['id']}' LIMIT 1").strip()
        item = json.dumps([{"product": {"id": t["product"], "seq": 1, "name": f"{t['mark']}Product"}, "quantity": 2, "unit_price": 19.99, "name": f"{t['mark']}Product", "total": 39.98}])
        times = "timestamptz '2024-01-01' + n * interval '1 minute'"
        stack.psql(f"""
SET session_replication_role = replica;
INSERT INTO sales.deal (tenant_id, id, seq, created_at, updated_at, created_by, updated_by, title, description, value, stage_id, stage_slug, status, probability, expected_close, owner_id, source)
SELECT '{t["id"]}', gen_random_uuid(), n, {times}, now(), '{t["user"]}', '{t["user"]}', '{t["mark"]}Deal ' || n, 'Annual license, number ' || n, n % 90000 + 0.50, s.id, s.slug, s.kind, s.probability,
    date '2030-01-01' + n % 300, '{t["user"]}', (ARRAY['website', 'referral', 'cold_call'])[1 + n % 3]
FROM generate_series(1, {n}) n JOIN sales.stage s ON s.tenant_id = '{t["id"]}' AND s.position = n % 4;
INSERT INTO sales.orders (tenant_id, id, seq, created_at, updated_at, created_by, updated_by, number, account_id, items, status, total, city, country, notes)
SELECT '{t["id"]}', gen_random_uuid(), n, {times}, now(), '{t["user"]}', '{t["user"]}', 'OLD-' || n, '{t["account"]}', '{item}', (ARRAY['pending', 'confirmed', 'processing'])[1 + n % 3], 39.98, 'Berlin', 'DE', 'No. ' || n
FROM generate_series(1, {n}) n;
INSERT INTO sales.seq_block (tenant_id, kind, next) SELECT '{t["id"]}', kind, {n + 1} FROM unnest(ARRAY['deal', 'order']) kind ON CONFLICT (tenant_id, kind) DO UPDATE SET next = EXCLUDED.next""")
    stack.psql("VACUUM ANALYZE sales.deal, sales.orders")


def workloads(tenants, raw, http):
    """Adds to both: name → lines."""
    for name in SQL:
        raw[name], http[name] = [], []
    for t in tenants:
        for stage in STAGES:
            raw["list_deals"].append((t["id"], stage))
            http["list_deals"].append(("200", f'"title":"{t["mark"]}', "GET", f"/api/v1/sales?limit=20&stage={stage}&sort=createdAt&order=desc", t["token"]))
        for status in STATUSES:
            raw["list_orders"].append((t["id"], status))
            http["list_orders"].append(("200", f'"{t["mark"]}Product"', "GET", f"/~elevate/api/v1/orders?limit=20&status={status}", t["token"]))
        for n in range(200):
            raw["post_deals"].append((t["id"], f"{t['mark']}New {n}", f"{n}.50", t["stage"], t["user"]))
            http["post_deals"].append(("201", f'"title":"{t["mark"]}New', "POST", "/api/v1/sales", t["token"], json.dumps({
                "title": f"{t['mark']}New {n}", "value": n + 0.5, "stage": "lead", "source": "website", "expectedCloseDate": "2030-12-31", "description": "Annual software license renewal"})))
            raw["post_orders"].append((t["id"], json.dumps([{"product": {"id": t["product"]}, "quantity": 2}]), f"No. {n}", t["user"], t["account"]))
            http["post_orders"].append(("201", f'"{t["mark"]}Product"', "POST", "/~elevate/api/v1/orders", t["token"], json.dumps({"customer_id": t["account"], "items": [{"product_id": t["product"], "quantity": 2}], "notes": f"No. {n}"})))
