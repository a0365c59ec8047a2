"""What an operator does at the command line: the audit log is verified, events are watched, dead letters are seen and redriven."""

import json
import os
import pathlib
import shutil
import subprocess
import uuid

import pytest

from conftest import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN_DIR = pathlib.Path(os.environ.get("CRM_RUN_DIR") or ROOT / ".run")

pytestmark = [pytest.mark.bus]


def crm(*args, ok=True):
    r = subprocess.run([str(ROOT / "crm"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=150)
    assert not ok or r.returncode == 0, r.stdout + r.stderr
    return r


@pytest.fixture(scope="module")
def bus(stack):
    return json.loads((RUN_DIR / "state.json").read_text())["bus"]


def config():
    import sys
    sys.path.insert(0, str(ROOT / "deploy" / "local"))
    from stack.config import Config
    return Config()


def sql(text):
    cfg = config()
    from stack import database
    r = database.psql(cfg, "-At", "-c", text)
    assert r.returncode == 0, r.stdout
    return r.stdout.strip()


def kafka(*args, data=b""):
    cfg = config()
    r = subprocess.run([str(cfg.bin / "crm-bus"), cfg.bus_url("kafka"), *map(str, args)], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert r.returncode == 0, r.stderr
    return [json.loads(line) for line in r.stdout.splitlines()]


def test_audit_verifies_in_the_database_and_as_a_dump(fresh, tmp_path):
    fresh.saas.post("/leads", json={"firstName": "V", "lastName": "Verified"})
    wait_until(lambda: fresh.backend.get("/audit/logs", params={"resource": "lead"}).json()["meta"]["total"] == 1)
    r = crm("audit", "verify", "-o", "json")
    assert json.loads(r.stdout)["valid"] is True
    dump = tmp_path / "log.dump"
    crm("audit", "dump", "--dump", str(dump))
    assert "OK" in crm("audit", "verify", "--dump", str(dump)).stdout
    lines = dump.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("entry"))
    fields = lines[at].split("\t")
    fields[5] = ("1" if fields[5][0] == "0" else "0") + fields[5][1:]
    lines[at] = "\t".join(fields)
    dump.write_text("\n".join(lines) + "\n")
    r = crm("audit", "verify", "--dump", str(dump), ok=False)
    assert r.returncode == 1 and "does not match the entry's bytes" in r.stdout
    assert crm("audit", "verify", "--dump", str(tmp_path / "none"), ok=False).returncode == 2


def test_events_are_shown(fresh, bus):
    fresh.saas.post("/leads", json={"firstName": "T", "lastName": "Tailed"})
    tenant = fresh.backend.get("/auth/profile").json()["data"]["tenantId"]
    wait_until(lambda: fresh.backend.get("/audit/logs", params={"resource": "lead"}).json()["meta"]["total"] == 1)
    r = crm("events", "tail", "--tenant", tenant, "--type", "customers.lead.*", "--from", "2020-01-01", "-n", "1", "-o", "json")
    record = json.loads(r.stdout)
    assert record["headers"]["ce_type"] == "customers.lead.created" and record["headers"]["tenant"] == tenant and record["topic"] == "crm.customers.v1"
    assert crm("events", "tail", "--tenant", "' OR true", ok=False).returncode == 2


def test_a_dead_letter_is_listed_shown_and_redriven(bus):
    event = str(uuid.uuid4())
    if bus == "kafka":
        kafka("publish", "crm.customers.v1", "x", event, data=b"\x00")
    else:
        sql(f"INSERT INTO bus.record (topic, key, event_id, value) VALUES ('crm.customers.v1', 'x', '{event}', '\\x00'); NOTIFY bus_record")
    mine = lambda: [r for r in json.loads(crm("dlq", "list", "-o", "json").stdout) if r["id"] == event]
    letters = wait_until(lambda: len(mine()) == 4 and mine(), 20)  # of the four consumers
    assert {r["headers"]["dlq_consumer"] for r in letters} == {"audit", "customers", "feed", "sales"}
    assert all(r["headers"]["dlq_reason"] == "the record is no event" and r["topic"] == "crm.customers.v1.dlq" for r in letters)
    assert event in crm("dlq", "show", event).stdout
    crm("dlq", "redrive", event)
    # it is no better the second time, and what was put back is not listed again
    places = {(r["xid"], r["position"]) for r in letters}
    again = wait_until(lambda: len([r for r in mine() if (r["xid"], r["position"]) not in places]) >= 4 and mine(), 30)
    assert not places & {(r["xid"], r["position"]) for r in again} and all(r["headers"]["dlq_topic"] == "crm.customers.v1" for r in again)
    assert crm("dlq", "show", str(uuid.uuid4()), ok=False).returncode == 2
    if bus != "kafka":
        sql(f"DELETE FROM bus.record WHERE event_id = '{event}'")


# -- replay


def tenant_of(fresh):
    return fresh.backend.get("/auth/profile").json()["data"]["tenantId"]


def changes(fresh, n):
    """Leads, each changed twice."""
    for i in range(n):
        made = fresh.saas.post("/leads", json={"firstName": f"R{i}", "lastName": "Replay"}).json()["id"]
        for k in range(2):
            assert fresh.saas.put(f"/leads/{made}", json={"firstName": f"R{i}-{k}"}).status_code == 200


def outbox(tenant):
    """[(event id, version)] in their order, of the leads."""
    rows = sql(f"SELECT event_id || ' ' || version FROM customers.outbox WHERE tenant_id = '{tenant}' AND entity = 'lead' ORDER BY xid, id")
    return [tuple(line.split()) for line in rows.splitlines()]


def in_feed(fresh):
    out, cursor = [], None
    while True:
        page = fresh.native.get("/events", params={"types": "customers.lead.*", "limit": 500, **({"after": cursor} if cursor else {})}).json()
        if not page["items"]:
            return out
        out += [(e["id"], str(e["entityversion"])) for e in page["items"]]
        cursor = page["cursor"]


def test_a_consumer_that_lost_something_is_refilled(fresh, bus):
    tenant = tenant_of(fresh)
    changes(fresh, 10)
    wait_until(lambda: len(in_feed(fresh)) == 30, 20)
    since = sql("SELECT to_char(now() AT TIME ZONE 'UTC' - interval '1 hour', 'YYYY-MM-DD\"T\"HH24:MI:SS')")
    audit = lambda: sql(f"SELECT count(*) FROM audit.entry WHERE tenant_id = '{tenant}'")
    entries = audit()
    # as after a restore of the consumer's tables from yesterday: events and the memory of them are gone
    sql(f"WITH lost AS (DELETE FROM audit.feed WHERE tenant_id = '{tenant}' AND position > 5 RETURNING event_id) DELETE FROM audit.inbox i USING lost l"
        " WHERE i.consumer = 'feed' AND i.event_id = l.event_id")
    sql(f"UPDATE audit.feed_head SET position = 5 WHERE tenant_id = '{tenant}'")
    before = outbox(tenant)
    assert len(in_feed(fresh)) < 30
    told = json.loads(crm("replay", "--from", since, "--to", "feed", "-o", "json").stdout)
    assert told["lacked"]["feed"] >= 25
    refilled = in_feed(fresh)
    # Kafka keeps the order of each entity, and so the refill; the PostgreSQL bus that of all
    assert (sorted(refilled) == sorted(before) if bus == "kafka" else refilled == before) and len(before) == 30
    assert audit() == entries, "who had them all has none twice"
    told = json.loads(crm("replay", "--from", since, "--to", "feed", "-o", "json").stdout)
    assert told["lacked"] == {"feed": 0} and in_feed(fresh) == refilled
    for args in (("--from", "yesterday", "--to", "feed"), ("--from", since, "--to", "nobody"), ("--from", "nobody:1/1", "--to", "feed")):
        assert crm("replay", *args, ok=False).returncode == 2


def records(bus):
    """{key: [version]} of the leads' records, and their ids, as the bus has them."""
    if bus == "kafka":
        rows = [r for r in kafka("read", "--end", "crm.customers.v1") if r["headers"].get("ce_type", "").startswith("customers.lead.")]
        rows.sort(key=lambda r: (r["xid"], r["position"]))
        return [(r["key"], r["id"]) for r in rows]
    rows = sql("SELECT key || ' ' || event_id FROM bus.record WHERE topic = 'crm.customers.v1' AND headers->>'ce_type' LIKE 'customers.lead.%' ORDER BY xid, position")
    return [tuple(line.split()) for line in rows.splitlines()]


@pytest.mark.faults
def test_an_emptied_broker_is_filled_again(fresh, bus):
    tenant = tenant_of(fresh)
    changes(fresh, 20)
    wait_until(lambda: len(in_feed(fresh)) == 60, 20)
    everything = sql("SELECT count(DISTINCT event_id) FROM customers.outbox WHERE entity = 'lead'")
    if bus == "kafka":
        crm("stop")
        shutil.rmtree(RUN_DIR / "kafka")
        crm("start", "--bus", "kafka")
    else:
        sql("DELETE FROM bus.record")
    changes(fresh, 1)  # what is new comes as well, behind or in front
    crm("replay", "--from", "2020-01-01", "--to", "bus")
    wait_until(lambda: len(in_feed(fresh)) == 63, 20)
    on_bus, wanted = records(bus), outbox(tenant)
    assert len({event for _, event in on_bus}) == int(everything) + 3
    # the last time that each event is on the bus stands in the order of its entity
    last = {event: n for n, (_, event) in enumerate(on_bus)}
    keys = {event: key for key, event in on_bus}
    by_key = {}
    for event, version in wanted:
        by_key.setdefault(keys[event], []).append((last[event], int(version)))
    assert len(by_key) == 21 and all(seen == sorted(seen) and [v for _, v in seen] == [1, 2, 3] for seen in by_key.values())
    assert sorted(in_feed(fresh)) == sorted(wanted), "each once"
