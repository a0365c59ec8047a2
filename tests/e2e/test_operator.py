"""What an operator does at the command line: the audit log is verified, events are watched, dead letters are seen and redriven."""

import json
import os
import pathlib
import subprocess
import uuid

import pytest

from conftest import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN_DIR = pathlib.Path(os.environ.get("CRM_RUN_DIR") or ROOT / ".run")

pytestmark = [pytest.mark.bus]


def crm(*args, ok=True):
    r = subprocess.run([str(ROOT / "crm"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert not ok or r.returncode == 0, r.stdout + r.stderr
    return r


@pytest.fixture(scope="module")
def postgres_bus(stack):
    state = json.loads((RUN_DIR / "state.json").read_text())
    if state["bus"] != "postgres":
        pytest.skip("these commands read the PostgreSQL bus")
    return state


def sql(text):
    import sys
    sys.path.insert(0, str(ROOT / "deploy" / "local"))
    from stack import database
    from stack.config import Config
    r = database.psql(Config(), "-c", text)
    assert r.returncode == 0, r.stdout
    return r.stdout.strip()


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


def test_events_are_shown(fresh, postgres_bus):
    fresh.saas.post("/leads", json={"firstName": "T", "lastName": "Tailed"})
    tenant = fresh.backend.get("/auth/profile").json()["data"]["tenantId"]
    r = crm("events", "tail", "--tenant", tenant, "--type", "customers.lead.*", "--from", "2020-01-01", "-n", "1", "-o", "json")
    record = json.loads(r.stdout)
    assert record["headers"]["ce_type"] == "customers.lead.created" and record["headers"]["tenant"] == tenant and record["topic"] == "crm.customers.v1"
    assert crm("events", "tail", "--tenant", "' OR true", ok=False).returncode == 2


def test_a_dead_letter_is_listed_shown_and_redriven(postgres_bus):
    event = str(uuid.uuid4())
    sql(f"INSERT INTO bus.record (topic, key, event_id, value) VALUES ('crm.customers.v1', 'x', '{event}', '\\x00'); NOTIFY bus_record")
    mine = lambda: [r for r in json.loads(crm("dlq", "list", "-o", "json").stdout) if r["id"] == event]
    letter = wait_until(mine, 20)[0]
    assert letter["headers"]["dlq_reason"] == "the record is no event" and letter["headers"]["dlq_consumer"] == "audit" and letter["topic"] == "crm.customers.v1.dlq"
    assert event in crm("dlq", "show", event).stdout
    crm("dlq", "redrive", event)
    # it is no better the second time, and it is there once
    again = wait_until(lambda: [r for r in mine() if r["position"] != letter["position"]], 20)
    assert len(again) == 1 and again[0]["headers"]["dlq_topic"] == "crm.customers.v1"
    assert crm("dlq", "show", str(uuid.uuid4()), ok=False).returncode == 2
    sql(f"DELETE FROM bus.record WHERE event_id = '{event}'")
