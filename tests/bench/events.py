"""The way of events, measured: commit to audit row, a backlog through the relay, the audit chain's check, and what consumers cost writers."""

import http.client
import json
import os
import signal
import statistics
import threading
import time

BACKLOG = 100000
RATE, LATENCY_S = 500, 20
VERIFY_ROWS = 1000000
GOALS = {"postgres": 100, "kafka": 250}
BODY = json.dumps({"companyName": "Event", "contactName": "Alice Johnson", "email": "event@example.com", "phone": "+1-555-0123", "address": "1 Street", "city": "Berlin",
                   "country": "Germany", "industry": "Technology", "size": "small", "status": "active", "notes": "Key client"})


def wait(check, seconds):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise SystemExit(f"bench: not within {seconds} s: {check.__name__}")
        time.sleep(0.1)


def number(stack, sql):
    return float(stack.psql(sql).strip() or 0)


def behind(stack):
    return number(stack, "SELECT count(*) FROM (SELECT FROM customers.outbox o, customers.outbox_position p WHERE (o.xid, o.id) > (p.xid, p.id) LIMIT 1) w")


def unaudited(stack, since):
    return number(stack, f"SELECT count(*) FROM customers.outbox o WHERE o.created_at >= '{since}' AND NOT EXISTS"
                         " (SELECT FROM audit.entry e WHERE e.tenant_id = o.tenant_id AND e.id = o.event_id)")


def settle(stack):
    def everything_is_carried():
        return not behind(stack)
    wait(everything_is_carried, 120)


class Paced(threading.Thread):
    """Writes at fixed moments, whatever the answers take."""

    def __init__(self, gateway, token, moments):
        super().__init__()
        self.gateway, self.moments, self.errors = gateway, moments, 0
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def run(self):
        conn = http.client.HTTPConnection(self.gateway, timeout=10)
        for at in self.moments:
            time.sleep(max(0.0, at - time.monotonic()))
            conn.request("POST", "/api/v1/customers", BODY, self.headers)
            r = conn.getresponse()
            r.read()
            self.errors += r.status != 201


def latency(stack, gateway, tenants, bus, say):
    settle(stack)
    since = stack.psql("SELECT now()").strip()
    start, n = time.monotonic() + 0.2, 16
    writers = [Paced(gateway, tenants[i % len(tenants)]["token"], [start + k / RATE for k in range(i, RATE * LATENCY_S, n)]) for i in range(n)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    took = time.monotonic() - start

    def everything_is_in_the_audit_log():
        return not unaudited(stack, since)
    wait(everything_is_in_the_audit_log, 60)
    count, p50, p99, worst = (float(x) for x in stack.psql(
        "SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), max(ms) FROM (SELECT 1000 * extract(epoch FROM"
        " pg_xact_commit_timestamp(e.xmin) - pg_xact_commit_timestamp(o.xmin)) AS ms FROM customers.outbox o JOIN audit.entry e ON e.tenant_id = o.tenant_id AND e.id = o.event_id"
        f" WHERE o.created_at >= '{since}') t").split("|"))
    row = {"writes": int(count), "rate": round(count / took), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(worst, 1), "errors": sum(w.errors for w in writers)}
    say(f"  events  {bus}: commit to audit row at {row['rate']} writes/s: p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms, max {row['max_ms']} ms, errors {row['errors']}"
        f"  goal {GOALS[bus]} ms {'reached' if p99 <= GOALS[bus] else 'NOT reached'}")
    return row


def backlog(stack, tenants, bus, say):
    """One transaction makes it, so it is there at one moment. The consumer stands still first, then catches up."""
    settle(stack)
    os.kill(stack.pids["svc-audit"], signal.SIGSTOP)
    try:
        marks = ", ".join(f"'{t['id']}'" for t in tenants)
        stack.psql(f"""INSERT INTO customers.outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, user_id, request_id, dialect)
SELECT gen_random_uuid(), (ARRAY[{marks}]::uuid[])[1 + n % {len(tenants)}], 'customers.account.created', 'account', gen_random_uuid(), n, 1, a.row, gen_random_uuid(), 'backlog', '002'
FROM generate_series(1, {BACKLOG}) n, (SELECT to_jsonb(account) AS row FROM customers.account LIMIT 1) a""")
        settle(stack)
        seconds = number(stack, "SELECT extract(epoch FROM p.updated_at - pg_xact_commit_timestamp((SELECT xmin FROM customers.outbox WHERE request_id = 'backlog' LIMIT 1)))"
                                " FROM customers.outbox_position p")
    finally:
        os.kill(stack.pids["svc-audit"], signal.SIGCONT)
    began = time.monotonic()
    before = number(stack, "SELECT count(*) FROM audit.entry WHERE request_id = 'backlog'")

    def the_backlog_is_in_the_audit_log():
        return number(stack, "SELECT count(*) FROM audit.entry WHERE request_id = 'backlog'") >= BACKLOG
    wait(the_backlog_is_in_the_audit_log, 300)
    drained = time.monotonic() - began
    row = {"relay_per_s": round(BACKLOG / seconds), "audit_per_s": round((BACKLOG - before) / drained)}
    say(f"  events  {bus}: relay {row['relay_per_s']:,} events/s from a backlog of {BACKLOG:,}  goal 10,000 {'reached' if row['relay_per_s'] >= 10000 else 'NOT reached'};"
        f" audit log takes {row['audit_per_s']:,} entries/s")
    return row


# A chain as the service writes it, in one statement: the bytes that do not change from entry to entry are made once. Field numbers: svc-audit/chain.h.
FILL = """
SET search_path = audit, extensions;
DROP INDEX IF EXISTS entry_search;
CREATE FUNCTION pg_temp.field(number int, value bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT CASE WHEN number < 16 THEN set_byte('\\x00', 0, number * 8 + 2) ELSE set_byte('\\x0001', 0, number * 8 + 2) END || CASE WHEN length(value) < 128 THEN set_byte('\\x00', 0, length(value))
        ELSE set_byte(set_byte('\\x0000', 0, 128 + length(value) % 128), 1, length(value) / 128) END || value $$;
CREATE FUNCTION pg_temp.fill(tenant uuid, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bytea := decode(repeat('00', 32), 'hex'); bytes bytea; id uuid;
    after text := '{"id":"01920000-0000-7000-8000-0000000000aa","city":"Berlin","name":"Company","email":"somebody@example.com","phone":"+1-555-0123","status":"active","country":"Germany"}';
    rest bytea; prefix bytea; previous text;
BEGIN
    rest := pg_temp.field(3, 'customers.account.created') || pg_temp.field(4, 'created') || pg_temp.field(5, 'account') || pg_temp.field(13, 'bench')
        || pg_temp.field(14, '002') || pg_temp.field(15, 'name') || pg_temp.field(15, 'email') || pg_temp.field(17, convert_to(after, 'UTF8'));
    prefix := '\\x00'::bytea || 'crm-audit-v1'::bytea || uuid_send(tenant);
    FOR i IN 1..n LOOP
        id := gen_random_uuid();
        -- 2: the time, one microsecond after 1970
        bytes := '\\x0a10'::bytea || uuid_send(id) || '\\x1001'::bytea || rest;
        previous := encode(last, 'hex');
        last := sha256(prefix || int8send(i) || last || bytes);
        INSERT INTO entry (tenant_id, seq, id, created_at, type, action, resource, request_id, dialect, changed, after, hash, previous_hash, canonical)
        VALUES (tenant, i, id, '1970-01-01 00:00:00.000001+00', 'customers.account.created', 'created', 'account', 'bench', '002', '{name,email}', after::json,
            encode(last, 'hex'), previous, bytes);
    END LOOP;
    UPDATE chain SET seq = n, hash = encode(last, 'hex') WHERE tenant_id = tenant;
END $$;
"""


def verify(stack, gateway, tenant, say, rows=VERIFY_ROWS):
    def the_audit_log_is_at_rest():
        return not unaudited(stack, "-infinity")
    wait(the_audit_log_is_at_rest, 300)
    say(f"  events  filling one chain to {rows:,} entries")
    stack.psql(FILL + f"INSERT INTO chain (tenant_id) VALUES ('{tenant['id']}') ON CONFLICT DO NOTHING;"
               f"ALTER TABLE entry DISABLE TRIGGER append_only; DELETE FROM entry WHERE tenant_id = '{tenant['id']}'; ALTER TABLE entry ENABLE TRIGGER append_only;"
               "ALTER TABLE chain DISABLE TRIGGER moves_on;"
               f"SELECT pg_temp.fill('{tenant['id']}', {rows}); ALTER TABLE chain ENABLE TRIGGER moves_on;")
    stack.psql("VACUUM ANALYZE audit.entry")
    times, report = [], {}
    for _ in range(3):
        conn = http.client.HTTPConnection(gateway, timeout=60)
        began = time.monotonic()
        conn.request("POST", "/api/v1/audit/logs/verify-integrity", "{}", {"Authorization": f"Bearer {tenant['token']}", "Content-Type": "application/json"})
        report = json.loads(conn.getresponse().read())
        times.append(time.monotonic() - began)
    data = report.get("data") or {}
    good = data.get("valid", data.get("isValid")) is True
    if not good:
        raise SystemExit(f"bench: the chain does not verify: {report}")
    seconds = statistics.median(times)
    row = {"rows": rows, "seconds": round(seconds, 2), "per_s": round(rows / seconds)}
    say(f"  events  verify {rows:,} entries in {row['seconds']} s: {row['per_s']:,} entries/s  goal 200,000 {'reached' if row['per_s'] >= 200000 else 'NOT reached'}")
    return row


def cost_of_consumers(stack, bench, gateway, posts, bus, say, seconds=5, pairs=4):
    """POST with all consumers running against none: in turn, so that a noisy moment hits both; the share is the median of the pairs."""
    with_them, without = [], []
    for _ in range(pairs):
        settle(stack)
        with_them.append(bench("http", gateway, 32, seconds, posts)["rps"])
        os.kill(stack.pids["svc-audit"], signal.SIGSTOP)
        try:
            without.append(bench("http", gateway, 32, seconds, posts)["rps"])
        finally:
            os.kill(stack.pids["svc-audit"], signal.SIGCONT)
    share = statistics.median(a / b for a, b in zip(with_them, without))
    row = {"with": round(statistics.mean(with_them)), "without": round(statistics.mean(without)), "share": round(share, 3)}
    say(f"  events  {bus}: POST {row['with']}/s with all consumers, {row['without']}/s with none: {share:.2f}  goal 0.90 {'reached' if share >= 0.9 else 'NOT reached'}")
    return row


def measure(stack, gateway, tenants, bench, posts, bus, say, rows):
    out = {"latency": latency(stack, gateway, tenants, bus, say), "backlog": backlog(stack, tenants, bus, say)}
    if bus == "postgres":
        out["post"] = cost_of_consumers(stack, bench, gateway, posts, bus, say)
        out["verify"] = verify(stack, gateway, tenants[-1], say, rows)
    return out
