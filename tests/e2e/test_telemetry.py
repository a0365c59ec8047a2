"""Traces, metrics and logs of every program, on a stack of its own with a collector: service by signal, and one trace as a tree."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import uuid

import pytest
import requests

from canary import Client, found, leave
from conftest import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from collector import Collector  # noqa: E402

pytestmark = pytest.mark.slow
PORTS = {"gateway": 9100, "svc-auth": 9101, "svc-customers": 9102, "svc-audit": 9103, "svc-sales": 9104}
ALL_PORTS = [5000, 8000, 7101, 7102, 7103, 7104, *PORTS.values()]
SAMPLED, NOT_SAMPLED = "01", "00"


def free_offset():
    for offset in range(6000, 7500, 37):
        try:
            for p in ALL_PORTS:
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", p + offset))
            return offset
        except OSError:
            continue
    raise AssertionError("no free ports")


class Stack:
    def __init__(self, run, collector):
        self.run, self.offset = run, free_offset()
        self.env = {**os.environ, "CRM_RUN_DIR": str(run), "CRM_PORT_OFFSET": str(self.offset), "CRM_NO_SEED": "1", "RATE_LIMIT_SCALE": "1000", "NO_COLOR": "1", "CRM_BUS": "postgres",
                    "LOG_LEVEL": "debug", "LOG_FORMAT": "json", "ACCESS_LOG": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100",
                    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test", "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=k%2C1"}
        self.base = f"http://127.0.0.1:{5000 + self.offset}"

    def crm(self, *words):
        r = subprocess.run([ROOT / "crm", *words], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout

    def psql(self, sql):
        at = next((self.run / "sock").glob(".s.PGSQL.*[0-9]"))
        return subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", f"host={at.parent} port={at.name.split('.')[-1]} dbname=crm user=postgres", "-c", sql],
                              check=True, capture_output=True, text=True).stdout

    def log(self, program):
        return (self.run / "log" / f"{program}.log").read_bytes()

    def lines(self, program):
        return [json.loads(line) for line in self.log(program).splitlines() if line.startswith(b"{")]

    def metrics(self, program):
        return requests.get(f"http://127.0.0.1:{PORTS[program] + self.offset}/metrics", timeout=5).text

    def number(self, program, name):
        m = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(program), re.M)
        return float(m[1]) if m else 0.0


@pytest.fixture(scope="module")
def collector():
    with Collector() as c:
        yield c


@pytest.fixture(scope="module")
def own(collector, tmp_path_factory):
    s = Stack(tmp_path_factory.mktemp("telemetry") / "run", collector)
    s.crm("start")
    try:
        yield s
    finally:
        reports = [p.read_text(errors="replace")[:3000] for p in (s.run / "log").glob("sanitizer.*")]
        s.crm("reset", "--yes")
        assert reports == []


@pytest.fixture(scope="module")
def client(own):
    c = Client(requests.Session(), own.base)
    r = c.call("saas", "POST", "/auth/register", json={"email": f"t-{uuid.uuid4().hex}@example.com", "password": "Correct-horse-7", "tenantName": "Traced", "firstName": "T", "lastName": "R"})
    assert r.status_code == 201, r.text
    c.token = r.json()["token"]
    return c


def new_trace():
    return uuid.uuid4().hex


def parent_of(trace, flags=SAMPLED, span="b7ad6b7169203331"):
    return {"traceparent": f"00-{trace}-{span}-{flags}"}


def lead():
    return {"firstName": "A", "lastName": "B", "email": f"{uuid.uuid4().hex}@example.com", "company": "C"}


class Trace:
    """Spans that arrived, by what they are."""

    def __init__(self, spans):
        self.spans = {s["span"]: s for s in spans}

    def one(self, service, name, under=None, **attributes):
        fits = [s for s in self.spans.values() if (s["service"], s["name"]) == (service, name) and (not under or s["parent"] == under["span"])
                and all(s["attributes"].get(k.replace("__", ".")) == v for k, v in attributes.items())]
        assert len(fits) == 1, f"{len(fits)} of {service}: {name} under {under and under['name']}; there are " + ", ".join(sorted(f"{s['service']}: {s['name']}" for s in self.spans.values()))
        return fits[0]

    def children(self, span):
        return [s for s in self.spans.values() if s["parent"] == span["span"]]


def arrived(collector, trace, name, service):
    """The trace once this span is there (and what was sent with it)."""
    wait_until(lambda: any((s["service"], s["name"]) == (service, name) for s in collector.of(trace)), 15)
    time.sleep(0.5)
    return Trace(collector.of(trace))


@pytest.fixture(scope="module")
def written(own, client, collector):
    """A lead is made: the trace from its POST to its audit row, and the ids of it. Alone: what the registration left for the audit log is there."""
    seen = []

    def is_quiet():
        m = re.search(r'^crm_consumer_events_total\{[^}]*consumer="audit"[^}]*\} (\d+)$', own.metrics("svc-audit"), re.M)
        seen.append(int(m[1]) if m else 0)
        return len(seen) > 4 and seen[-1] == seen[-5] > 0
    wait_until(is_quiet, 15, 0.25)
    trace, request = new_trace(), f"req-{uuid.uuid4().hex}"
    r = client.call("saas", "POST", "/leads", json=lead(), headers={**parent_of(trace), "X-Request-Id": request})
    assert r.status_code == 201, r.text
    wait_until(lambda: len([s for s in collector.of(trace) if s["kind"] == "consumer"]) >= 4, 15)
    time.sleep(0.5)
    return {"trace": trace, "request": request, "spans": Trace(collector.of(trace))}


def test_from_http_to_the_audit_row(written):
    t = written["spans"]
    http = t.one("gateway", "POST /api/leads")
    assert (http["kind"], http["parent"], http["error"]) == ("server", "b7ad6b7169203331", False)
    a = http["attributes"]
    assert (a["http.request.method"], a["http.route"], a["http.response.status_code"], a["crm.dialect"]) == ("POST", "/api/leads", 201, "saas")
    assert a["crm.request.id"] == written["request"] and re.fullmatch(r"[0-9a-f-]{36}", a["crm.tenant.id"])
    hop = t.one("gateway", "Leads.Create", http)
    assert hop["kind"] == "client" and hop["attributes"]["crm.instance"].startswith("tcp://") and hop["attributes"]["crm.status"] == "OK"
    service = t.one("svc-customers", "Leads.Create", hop)
    assert service["kind"] == "server" and service["attributes"]["crm.tenant.id"] == a["crm.tenant.id"]
    sql = t.one("svc-customers", "INSERT lead", service)
    assert sql["kind"] == "client" and sql["attributes"]["crm.db.rows"] == 1 and sql["attributes"]["crm.db.wait_us"] >= 0
    sent = t.one("svc-customers", "send crm.customers.v1", service)
    assert sent["kind"] == "producer" and sent["attributes"]["crm.event.type"] == "customers.lead.created" and sent["attributes"]["crm.outbox.wait_us"] > 0
    done = t.one("svc-audit", "process crm.customers.v1", sent, messaging__consumer__group__name="audit")
    assert done["kind"] == "consumer" and done["attributes"]["messaging.message.id"] == sent["attributes"]["messaging.message.id"]
    row = t.one("svc-audit", "INSERT entry", done)
    assert row["attributes"]["crm.db.rows"] == 1
    assert http["start_ns"] <= hop["start_ns"] <= service["start_ns"] <= sql["start_ns"] <= sent["start_ns"] <= done["start_ns"] <= row["start_ns"]
    assert http["end_ns"] >= hop["end_ns"] >= service["end_ns"] >= sql["end_ns"] and done["end_ns"] >= row["end_ns"]
    t.one("svc-audit", "COMMIT", done)
    t.one("svc-sales", "process crm.customers.v1", sent, messaging__consumer__group__name="sales")


def test_nobody_is_without_parent(written):
    """All that is not the client's own span has a parent that arrived."""
    spans = written["spans"].spans
    assert {s["parent"] for s in spans.values()} - set(spans) == {"b7ad6b7169203331"}


def test_it_prints_as_a_tree(written, tmp_path):
    path = tmp_path / "spans"
    path.write_text("".join(json.dumps(s) + "\n" for s in written["spans"].spans.values()))
    out = subprocess.run([ROOT / "tools/trace-tree", path], capture_output=True, text=True, check=True).stdout.splitlines()
    depth = {}
    for line in out[2:]:
        m = re.match(r"\s*[\d.]+\s+[\d.]+  ( *)(\S+: .+?)  ", line)
        depth.setdefault(m[2].strip(), len(m[1]) // 2)
    assert (depth["gateway: POST /api/leads"], depth["gateway: Leads.Create"], depth["svc-customers: Leads.Create"], depth["svc-customers: INSERT lead"]) == (0, 1, 2, 3)
    assert depth["svc-customers: send crm.customers.v1"] == 3 and depth["svc-audit: INSERT entry"] == 5


@pytest.mark.parametrize("program", PORTS)
@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_every_program_gives_every_signal(own, written, collector, program, signal):
    if signal == "traces":
        mine = [s for s in collector.spans if s["service"] == program]
        assert mine and all(s["resource"]["deployment.environment.name"] == "test" and s["resource"]["service.version"] and s["resource"]["service.instance.id"] for s in mine)
        assert any(s["trace"] == written["trace"] for s in mine)
    elif signal == "metrics":
        text = own.metrics(program)
        assert f'program="{program}"' in text
        assert own.number(program, "crm_trace_spans_total") > 0 and own.number(program, 'crm_trace_exports_total{result="ok"}') > 0
        assert own.number(program, 'crm_trace_dropped_total{reason="queue_full"}') == 0
    else:
        lines = own.lines(program)
        assert lines and all({"timestamp", "level", "service", "version", "event", "msg"} <= set(line) and line["service"] == program for line in lines)
        about = [line for line in lines if line.get("trace_id") == written["trace"]]
        assert about, f"no line of {program} is about the trace"
        spans = set(written["spans"].spans)
        for line in about:
            assert line["span_id"] in spans and line["request_id"] == written["request"] and re.fullmatch(r"[0-9a-f-]{36}", line["tenant_id"]), line


def test_access_log(own, client, written):
    line = next(line for line in own.lines("gateway") if line["event"] == "HTTP-REQUEST" and line.get("request_id") == written["request"])
    assert (line["method"], line["route"], line["status"], line["dialect"], line["level"]) == ("POST", "/api/leads", 201, "saas", "info")
    assert 0 < line["duration_ms"] < 10000 and line["bytes"] > 100


def test_headers_that_the_collector_wants(collector, written):
    assert all(h.get("x-collector-key") == "k,1" for h in collector.headers)
    assert collector.errors == []


def test_a_trace_without_parent_is_begun(own, client, collector):
    request = f"req-{uuid.uuid4().hex}"
    assert client.call("saas", "GET", "/leads", headers={"X-Request-Id": request}).status_code == 200
    root = wait_until(lambda: next((s for s in list(collector.spans) if s["attributes"].get("crm.request.id") == request and s["service"] == "gateway"), None), 10)
    assert root["parent"] is None and root["name"] == "GET /api/leads"


def test_what_is_not_sampled_is_not_sent(own, client, collector):
    trace, after = new_trace(), new_trace()
    assert client.call("saas", "POST", "/leads", json=lead(), headers=parent_of(trace, NOT_SAMPLED)).status_code == 201
    assert client.call("saas", "POST", "/leads", json=lead(), headers=parent_of(after)).status_code == 201
    arrived(collector, after, "INSERT entry", "svc-audit")
    assert collector.of(trace) == []
    assert own.psql(f"SELECT count(*) FROM customers.outbox WHERE traceparent LIKE '00-{trace}-%-00'").strip() == "1"


def test_malformed_parents_are_not_continued(own, client, collector):
    for bad in ("00-zz", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-" + "A" * 32 + "-b7ad6b7169203331-01"):
        request = f"req-{uuid.uuid4().hex}"
        assert client.call("saas", "GET", "/leads", headers={"traceparent": bad, "X-Request-Id": request}).status_code == 200
        root = wait_until(lambda: next((s for s in list(collector.spans) if s["attributes"].get("crm.request.id") == request and s["service"] == "gateway"), None), 10)
        assert root["parent"] is None and root["trace"] != bad[3:35]


def test_the_outbox_row_carries_the_services_span(own, written):
    service = written["spans"].one("svc-customers", "Leads.Create")
    assert own.psql(f"SELECT traceparent FROM customers.outbox WHERE traceparent LIKE '00-{written['trace']}-%'").strip() == f"00-{written['trace']}-{service['span']}-01"


def test_an_error_is_told(own, client, collector):
    trace = new_trace()
    assert client.call("saas", "GET", "/leads/lead_999999", headers=parent_of(trace)).status_code == 404
    t = arrived(collector, trace, "GET /api/leads/{id}", "gateway")
    http = t.one("gateway", "GET /api/leads/{id}")
    assert http["attributes"]["http.response.status_code"] == 404 and not http["error"]  # the client's, not ours
    own.crm("restart", "svc-sales")


def test_postgres_sees_the_trace(own, client, collector):
    """The log of slow statements, with every statement slow: a sampled one leads to its span, the others say nothing."""
    own.psql("ALTER SYSTEM SET log_min_duration_statement = 0")
    own.psql("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: own.psql("SHOW log_min_duration_statement").strip() == "0")
        made, quiet = new_trace(), new_trace()
        r = client.call("saas", "POST", "/leads", json=lead(), headers=parent_of(made))
        assert r.status_code == 201
        read = new_trace()
        assert client.call("saas", "GET", f"/leads/{r.json()['id']}", headers=parent_of(read)).status_code == 200
        assert client.call("saas", "GET", f"/leads/{r.json()['id']}", headers=parent_of(quiet, NOT_SAMPLED)).status_code == 200
        signed_in = new_trace()
        client.call("saas", "POST", "/auth/login", json={"email": "nobody@example.com", "password": "Correct-horse-7"}, headers=parent_of(signed_in))
        t = arrived(collector, made, "INSERT entry", "svc-audit")
        t.spans |= arrived(collector, read, "SELECT lead", "svc-customers").spans | arrived(collector, signed_in, "BEGIN", "svc-auth").spans
    finally:
        own.psql("ALTER SYSTEM RESET log_min_duration_statement")
        own.psql("SELECT pg_reload_conf()")
    said = {m[1].decode(): m[0] for m in re.finditer(rb"[^\n]*traceparent='00-[0-9a-f]{32}-([0-9a-f]{16})-01'", own.log("postgres"))}
    for service, name in (("svc-customers", "INSERT lead"), ("svc-audit", "INSERT entry"), ("svc-customers", "SELECT lead"), ("svc-auth", "BEGIN")):
        spans = [s for s in t.spans.values() if (s["service"], s["name"]) == (service, name)]
        assert spans and any(s["span"] in said for s in spans), f"PostgreSQL does not name {service}: {name}"
    assert quiet.encode() not in own.log("postgres")


def test_calls_that_go_together_keep_spans_of_their_own(own, client, collector):
    """Reads of one tenant may share a statement; each trace has its own span of it all the same."""
    import concurrent.futures
    made = client.call("saas", "POST", "/leads", json=lead()).json()["id"]
    traces = [new_trace() for _ in range(48)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda t: requests.get(f"{own.base}/~saas/api/leads/{made}", headers={"Authorization": f"Bearer {client.token}", **parent_of(t)}, timeout=20).status_code, traces))
    assert codes == [200] * 48
    for trace in traces:
        t = arrived(collector, trace, "GET /api/leads/{id}", "gateway") if trace == traces[0] else Trace(collector.of(trace))
        call = t.one("svc-customers", "Leads.Get")
        assert t.one("svc-customers", "SELECT lead", call)["attributes"]["crm.db.rows"] == 1


def test_a_collector_that_is_away_harms_nobody(own, client, collector):
    """503 for a while: requests go on, the batch is sent again when it says, nothing is lost that found room."""
    trace, refused = new_trace(), []

    def busy(spans):
        refused.append(time.monotonic())
        return 503, {"Retry-After": "1"}, b"{}"

    collector.answer = busy
    try:
        assert client.call("saas", "GET", "/leads", headers=parent_of(trace)).status_code == 200
        wait_until(lambda: len(refused) >= 3, 10)
        began = time.monotonic()
        assert client.call("saas", "GET", "/leads", headers=parent_of(trace)).status_code == 200
        assert time.monotonic() - began < 2
    finally:
        collector.answer = lambda spans: 200
    wait_until(lambda: len([s for s in collector.of(trace) if s["name"] == "GET /api/leads"]) == 2, 20)
    assert own.number("gateway", 'crm_trace_exports_total{result="busy"}') >= 1
    assert own.number("gateway", 'crm_trace_dropped_total{reason="queue_full"}') == 0


def test_no_log_and_no_span_names_a_person(own, collector):
    """At level debug, with an access log."""
    people = leave(Client(requests.Session(), own.base))
    wait_until(lambda: any(s["name"] == "POST /api/v1/privacy/export" or s["attributes"].get("http.route", "").endswith("/privacy/export") for s in list(collector.spans)), 15)
    time.sleep(1)
    for program in PORTS:
        assert found(people, own.log(program)) == [], program
    assert found(people, json.dumps(collector.spans).encode()) == []
    assert found(people, people[0].email.encode()) == [people[0].email]  # it can find


def test_the_end_sends_the_rest(own, client, collector):
    """SIGTERM: what was recorded a moment ago still arrives. Last, as the gateway ends."""
    trace = new_trace()
    assert client.call("saas", "GET", "/leads", headers=parent_of(trace)).status_code == 200
    own.crm("stop")
    assert any(s["name"] == "GET /api/leads" for s in collector.of(trace))
    assert any(s["service"] == "svc-customers" for s in collector.of(trace))
