"""All of the audit document: statistics, compliance, security events, retention, alerts, export."""

import csv
import io
import json
import re
import uuid

import pytest
import requests

from conftest import BASE, wait_until

pytestmark = pytest.mark.bus


def fail_login(tenant, n=1):
    for _ in range(n):
        r = requests.post(BASE["backend"] + "/auth/login", json={"email": tenant.email, "password": "not-it-at-all"}, timeout=20)
        assert r.status_code == 401


def make_keys(tenant, n=1):
    """Security events that do not slow the logins of this address down."""
    for i in range(n):
        r = tenant.native.post("/api-keys", json={"name": f"key {i}"})
        assert r.status_code == 201, r.text


def events(tenant, **params):
    r = tenant.backend.get("/audit/logs/security-events", params=params)
    assert r.status_code == 200, r.text
    return r.json()["data"]


def lead(tenant, last="Smith"):
    r = tenant.saas.post("/leads", json={"firstName": "A", "lastName": last})
    assert r.status_code == 201
    return r.json()


def audited(tenant, n, **params):
    wait_until(lambda: tenant.backend.get("/audit/logs", params=params).json()["meta"]["total"] >= n, 5.0)


def test_stats_count_what_happened(fresh):
    made = lead(fresh)
    fresh.saas.delete(f"/leads/{made['id']}")
    audited(fresh, 2, resource="lead")
    s = fresh.backend.get("/audit/logs/stats").json()["data"]
    total = fresh.backend.get("/audit/logs").json()["meta"]["total"]
    assert s["total"] == total and s["uniqueUsers"] == 1
    assert {"value": "lead", "count": 2} in s["byResource"] and {"value": "deleted", "count": 1} in s["byAction"]
    assert s["byUser"][0]["user"]["email"] == fresh.email
    assert sum(d["count"] for d in s["byDay"]) == total and s["byDialect"] == [{"value": "saas", "count": total}]
    old = fresh.backend.get("/audit/logs/stats", params={"dateFrom": "2001-01-01", "dateTo": "2001-12-31"}).json()["data"]
    assert old["total"] == 0 and old["byDay"] == [] and old["dateFrom"] == "2001-01-01T00:00:00Z"
    assert fresh.backend.get("/audit/logs/stats", params={"dateFrom": "yesterday"}).status_code == 422


def test_failed_logins_are_security_events_that_can_be_resolved_once(fresh, other):
    fail_login(fresh)
    found = wait_until(lambda: events(fresh, type="login_failed"))[0]
    assert found["severity"] == "low" and found["status"] == "open" and found["resolved"] is False and found["user"]["email"] == fresh.email
    assert fresh.backend.get(f"/audit/logs/{found['auditLogId']}").json()["data"]["event"] == "auth.user.login_failed"
    path = f"/audit/logs/security-events/{found['id']}/resolve"
    assert other.backend.post(path, json={}).status_code == 404
    r = fresh.backend.post(path, json={"resolution": "It was me"})
    assert r.status_code == 200, r.text
    done = r.json()["data"]
    assert done["resolved"] is True and done["resolution"] == "It was me" and done["resolvedBy"]["email"] == fresh.email and done["resolvedAt"]
    assert fresh.backend.post(path, json={}).status_code == 409
    assert events(fresh, status="resolved")[0]["id"] == found["id"] and events(fresh, status="open", type="login_failed") == []
    assert fresh.backend.post(f"/audit/logs/security-events/{uuid.uuid4()}/resolve", json={}).status_code == 404
    audited(fresh, 1, action="resolved")
    assert other.backend.get("/audit/logs/security-events", params={"type": "login_failed"}).json()["data"] == []


def test_an_alert_fires_once_per_window(fresh):
    r = fresh.backend.post("/audit/logs/alerts", json={"name": "Guessing", "event": "auth.api_key.created", "threshold": 3, "windowSeconds": 3600, "severity": "high"})
    assert r.status_code == 201, r.text
    rule = r.json()["data"]
    assert rule["threshold"] == 3 and rule["windowSeconds"] == 3600 and rule["isActive"] is True
    audited(fresh, 1, action="created", resource="alert_rule")
    make_keys(fresh, 2)
    wait_until(lambda: len(events(fresh, type="api_key")) == 2)
    assert events(fresh, type="alert") == []
    make_keys(fresh, 3)
    wait_until(lambda: len(events(fresh, type="api_key")) == 5)
    alerts = events(fresh, type="alert")
    assert len(alerts) == 1 and alerts[0]["severity"] == "high" and alerts[0]["alertRuleId"] == rule["id"] and "Guessing" in alerts[0]["description"]


def test_an_alert_of_another_condition_stays_silent(fresh):
    assert fresh.backend.post("/audit/logs/alerts", json={"name": "Deletions", "resource": "leads", "action": "deleted", "threshold": 1}).status_code == 201
    audited(fresh, 1, resource="alert_rule")
    made = lead(fresh)
    audited(fresh, 1, resource="lead")
    assert events(fresh, type="alert") == []
    fresh.saas.delete(f"/leads/{made['id']}")
    wait_until(lambda: len(events(fresh, type="alert")) == 1)


@pytest.mark.parametrize("body,field", [
    ({"event": "x"}, "name"), ({"name": "x"}, None), ({"name": "x", "event": "x", "threshold": 0}, "threshold"),
    ({"name": "x", "event": "x", "windowSeconds": 1}, "windowSeconds"), ({"name": "x", "event": "x", "severity": "awful"}, "severity"),
])
def test_a_wrong_alert_rule_is_refused(tenant, body, field):
    r = tenant.backend.post("/audit/logs/alerts", json=body)
    assert r.status_code == 422, r.text
    assert field is None or field in [e["field"] for e in r.json()["errors"]]


def test_retention_policies_apply_with_legal_hold(fresh):
    rows = wait_until(lambda: fresh.backend.get("/audit/logs/retention-policies").json()["data"])  # made with the first entry
    assert {r["type"] for r in rows} == {"audit_log", "security_events"} and all(r["retentionDays"] > 0 and r["legalHold"] is False for r in rows)
    log = next(r for r in rows if r["type"] == "audit_log")
    path = f"/audit/logs/retention-policies/{log['id']}/apply"
    r = fresh.backend.post(path)
    assert r.status_code == 200, r.text
    done = r.json()["data"]
    assert done["removed"] == 0 and done["hasMore"] is False and done["cutSequence"] is None and done["policy"]["lastAppliedAt"]
    assert fresh.native.patch(f"/audit/retention-policies/{log['id']}", json={"legalHold": True}).status_code == 200
    r = fresh.backend.post(path)
    assert r.status_code == 409 and "legal hold" in r.json()["message"].lower()
    assert fresh.native.patch(f"/audit/retention-policies/{log['id']}", json={"legalHold": False, "keepDays": 1}).json()["keepDays"] == 1
    assert fresh.native.patch(f"/audit/retention-policies/{log['id']}", json={"keepDays": 0}).status_code == 422
    assert fresh.backend.post(path).json()["data"]["removed"] == 0
    wait_until(lambda: len(events(fresh, type="retention")) >= 3)
    assert fresh.backend.post(f"/audit/logs/retention-policies/{uuid.uuid4()}/apply").status_code == 404


def test_compliance_report(fresh):
    lead(fresh)
    make_keys(fresh)
    audited(fresh, 1, resource="api_key")
    r = fresh.backend.get("/audit/logs/compliance")
    assert r.status_code == 200, r.text
    report = r.json()["data"]
    assert report["created"] >= 1 and report["failedLogins"] == 0 and report["securityEventsOpen"] >= 1
    assert {"value": "low", "count": 1} in report["securityEventsBySeverity"]
    assert len(report["retentionPolicies"]) == 2 and report["retentionPolicies"][0]["retentionDays"] > 0
    assert report["firstSequence"] == 1 and report["lastSequence"] >= report["entries"] and len(report["headHash"]) == 64


@pytest.mark.parametrize("method,path", [
    ("GET", "/audit/logs/stats"), ("GET", "/audit/logs/compliance"), ("GET", "/audit/logs/security-events"), ("GET", "/audit/logs/retention-policies"),
    ("POST", "/audit/logs/alerts"), ("POST", f"/audit/logs/retention-policies/{uuid.uuid4()}/apply"),
    ("POST", f"/audit/logs/security-events/{uuid.uuid4()}/resolve"),
])
def test_nobody_reads_it_without_a_token(stack, method, path):
    assert requests.request(method, BASE["backend"] + path, json={}, timeout=20).status_code == 401


def test_export_csv_holds_every_row_in_order_and_no_formula(fresh):
    n = 350
    r = fresh.saas.post("/leads/bulk", json={"leads": [{"firstName": f"E{i}", "lastName": "=HYPERLINK(1)"} for i in range(n)]})
    assert r.status_code in (200, 201)
    audited(fresh, n, resource="lead")
    r = fresh.backend.get("/audit/export", params={"resource": "leads", "sort": "sequence", "order": "asc"}, headers={"User-Agent": "=cmd()"})
    assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/csv")
    assert re.fullmatch(r'attachment; filename="audit-logs-\d{4}-\d\d-\d\d\.csv"', r.headers["Content-Disposition"]) and r.headers["Transfer-Encoding"] == "chunked"
    rows = list(csv.DictReader(io.StringIO(r.content.decode(), newline="")))
    assert len(rows) == n and [int(x["sequence"]) for x in rows] == sorted(int(x["sequence"]) for x in rows)
    assert all(x["action"] == "created" and x["resource"] == "lead" and json.loads(x["after"])["given"].startswith("E") for x in rows)
    assert json.loads(rows[0]["user"])["email"] == fresh.email and len(rows[0]["hash"]) == 64
    # the export itself is in the log, and what the client called itself is no formula
    audited(fresh, 1, action="exported")
    assert events(fresh, type="export")
    rows = list(csv.DictReader(io.StringIO(fresh.backend.get("/audit/export", params={"action": "exported"}).text, newline="")))
    assert rows[0]["userAgent"] == "'=cmd()"


def test_export_json_equals_the_list(fresh):
    for i in range(3):
        lead(fresh, f'Quote " comma, line\n{i}')
    audited(fresh, 3, resource="lead")
    r = fresh.backend.get("/audit/export", params={"format": "json", "resource": "lead"})
    assert re.fullmatch(r'attachment; filename="audit-logs-\d{4}-\d\d-\d\d\.json"', r.headers["Content-Disposition"])
    assert r.json() == fresh.backend.get("/audit/logs", params={"resource": "lead"}).json()["data"]
    table = list(csv.DictReader(io.StringIO(fresh.backend.get("/audit/export", params={"resource": "lead"}).content.decode(), newline="")))
    assert [json.loads(x["after"]) for x in table] == [x["after"] for x in r.json()]
    assert fresh.backend.get("/audit/export", params={"format": "json", "resource": "nothing-like-it"}).json() == []


def test_export_refuses_what_it_does_not_know(fresh, other):
    assert fresh.backend.get("/audit/export", params={"format": "exe"}).status_code == 422
    assert fresh.backend.get("/audit/export", params={"dateFrom": "soon"}).status_code == 422
    assert requests.get(BASE["backend"] + "/audit/export", timeout=20).status_code == 401
    r = fresh.backend.call("HEAD", "/audit/export")
    assert r.status_code == 200 and r.content == b""
    made = lead(fresh)
    audited(fresh, 1, resource="lead")
    assert made["id"] not in other.backend.get("/audit/export", params={"resource": "lead"}).text


def test_a_slow_reader_of_an_export_holds_nobody_up(fresh):
    r = fresh.saas.post("/leads/bulk", json={"leads": [{"firstName": f"S{i}", "lastName": "x" * 90} for i in range(1000)]})
    assert r.status_code in (200, 201)
    audited(fresh, 1000, resource="lead")
    with fresh.backend.call("GET", "/audit/export", params={"resource": "lead"}, stream=True) as slow:
        assert slow.status_code == 200
        chunks = slow.iter_content(4096)
        first = next(chunks)
        assert first.startswith(b"id,action")
        for _ in range(5):
            assert fresh.backend.get("/audit/logs", params={"limit": 1}).status_code == 200
        rest = b"".join(chunks)
        assert (first + rest).count(b"\r\n") == 1001
    # one that goes away in the middle
    with fresh.backend.call("GET", "/audit/export", params={"resource": "lead"}, stream=True) as gone:
        next(gone.iter_content(10))
    assert fresh.backend.get("/audit/logs", params={"limit": 1}).status_code == 200
