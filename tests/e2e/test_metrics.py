"""What the programs tell of themselves: well-formed, documented, and bounded whatever clients send."""

import importlib.machinery
import importlib.util
import pathlib
import re
import socket
import subprocess
import uuid

import pytest
import requests

from conftest import AT_5000, HOST, OFFSET, Tenant, wait_until
from faults import ROOT, Gateway, port

loader = importlib.machinery.SourceFileLoader("tools_metrics", str(ROOT / "tools/metrics"))
tools = importlib.util.module_from_spec(importlib.util.spec_from_loader("tools_metrics", loader))
loader.exec_module(tools)

PROGRAMS = {"gateway": "ADMIN", "svc-auth": "AUTH_ADMIN", "svc-customers": "CUSTOMERS_ADMIN", "svc-sales": "SALES_ADMIN", "svc-audit": "AUDIT_ADMIN"}
PROMTOOL = next((p for p in (ROOT / "build/vendor/promtool/promtool", pathlib.Path("/usr/bin/promtool")) if p.exists()), None)


def text_of(program):
    return tools.fetch(f"http://127.0.0.1:{port(PROGRAMS[program])}")


def numbers(program):
    return {name + ("{" + labels + "}" if labels else ""): value for f in tools.parse(text_of(program)).values() for name, labels, value in f["series"]}


def total(program, name, *parts):
    return sum(v for k, v in numbers(program).items() if k.startswith(name) and all(p in k for p in parts))


@pytest.fixture(scope="module")
def used(stack):
    """Something has gone through every program: reads, a write and its repeat, a refusal, a verification."""
    t = Tenant()
    key = {"Idempotency-Key": uuid.uuid4().hex}
    lead = {"firstName": "Ada", "lastName": "L", "email": f"{uuid.uuid4().hex}@example.com", "company": "X", "source": "website"}
    assert [t.saas.post("/leads", json=lead, headers=key).status_code for _ in range(2)] == [201, 201]
    assert t.saas.post("/leads", json={**lead, "company": "Y"}, headers=key).status_code >= 400
    for path in ("/leads", "/leads/x"):
        t.saas.get(path)
    requests.get(AT_5000 + "/api/leads", timeout=5)
    assert t.native.get("/deals").status_code == 200
    assert t.backend.post("/audit/logs/verify-integrity").status_code == 200
    return t


@pytest.mark.parametrize("program", PROGRAMS)
def test_promtool_has_nothing_to_say(used, program):
    assert PROMTOOL, "no promtool: deploy/local/install-deps test"
    r = subprocess.run([PROMTOOL, "check", "metrics"], input=text_of(program), capture_output=True, text=True, timeout=30)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_every_metric_is_documented_and_every_documented_one_is_printed(used):
    findings = wait_until(lambda: (f := list(tools.compare(tools.gather(map(text_of, PROGRAMS)), tools.documented()))) or ["none"], 5)
    assert findings == ["none"]


def test_a_metric_without_head_is_found():
    with pytest.raises(tools.Malformed):
        tools.parse("a_total 1\n")
    with pytest.raises(tools.Malformed):
        tools.parse("# HELP a_total x\n# TYPE a_total counter\na_total 1\n# HELP b x\n# TYPE b gauge\na_total 2\n")
    assert tools.parse('# HELP a x\n# TYPE a gauge\na{b="c,d=\\"e\\"",f="g"} 1\n')["a"]["labels"] == {"b", "f"}


def test_the_numbers_are_about_what_happened(used):
    before = {p: numbers(p) for p in PROGRAMS}
    rise = lambda p, name, *parts: total(p, name, *parts) - sum(v for k, v in before[p].items() if k.startswith(name) and all(x in k for x in parts))
    for _ in range(5):
        assert used.saas.get("/leads").status_code == 200
    key = {"Idempotency-Key": uuid.uuid4().hex}
    for _ in range(3):
        used.saas.post("/leads", json={"firstName": "B", "lastName": "L", "email": f"{key['Idempotency-Key']}@example.com"}, headers=key)
    assert used.backend.post("/audit/logs/verify-integrity").status_code == 200
    assert rise("gateway", "crm_gateway_request_duration_seconds_count", 'dialect="saas"', 'class="read"', 'outcome="ok"') == 5
    assert rise("gateway", "http_server_request_duration_seconds_count", 'http_route="/api/leads"', 'http_request_method="GET"', 'dialect="saas"') == 5
    assert rise("svc-customers", "crm_idempotency_repeats_total", 'outcome="replayed"') == 2
    assert rise("svc-audit", "crm_audit_verifications_total", 'result="valid"') == 1
    assert rise("svc-customers", "crm_db_wait_seconds_count", 'kind="read"') >= 1
    assert rise("svc-customers", "crm_db_segment_statements_count") >= 1
    assert rise("svc-customers", "crm_rpc_server_batch_calls_sum") >= 8
    wait_until(lambda: rise("gateway", "crm_gateway_token_cache_total", 'result="hit"') >= 5, 3)
    wait_until(lambda: rise("svc-audit", "crm_consumer_events_total", 'consumer="feed"') >= 1, 5)
    newest = max(int(p.name[:3]) for p in (ROOT / "svc-customers/schema").glob("*.sql"))
    now = numbers("svc-customers")
    assert now["crm_schema_version"] == now["crm_schema_version_known"] == newest
    build = next(k for k in now if k.startswith("crm_build_info"))
    assert all(re.search(rf'{label}="[^"]+"', build) for label in ("version", "revision", "compiler"))
    assert 0 < now["process_open_fds"] < now["process_max_fds"] and all(numbers(p)["crm_ready"] == 1 for p in PROGRAMS)


def test_a_refusal_is_counted_by_its_policy(used, tmp_path):
    with Gateway(tmp_path, RATE_LIMIT_SCALE=1) as g:
        answers = [requests.post(g.at("elevate") + "/auth/login", json={"email": f"{uuid.uuid4().hex}@example.com", "password": "wrong"}, timeout=20).status_code for _ in range(8)]
        refused = answers.count(429)
        series = tools.parse(tools.fetch(f"http://127.0.0.1:{g.admin}"))["crm_gateway_rate_limited_total"]["series"]
        assert refused >= 3 and sum(v for _, labels, v in series if 'dialect="elevate"' in labels) == refused
        assert all(re.fullmatch(r'dialect="\w+",policy="[\w-]+"', labels) for _, labels, _ in series)


def series_of(program):
    return {(name, labels) for f in tools.parse(text_of(program)).values() for name, labels, _ in f["series"]}


def raw(method, target, **headers):
    """A request that no client library would send."""
    head = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in {"Host": "x", "Connection": "close", **headers}.items())
    with socket.create_connection((HOST, 5000 + OFFSET), timeout=10) as s:
        s.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
        while s.recv(65536):
            pass


def hammer(n, token):
    for i in range(n):
        word = uuid.uuid4().hex
        raw(f"M{word[:6].upper()}", "/api/leads")
        raw("GET", f"/api/leads/{word}", Authorization=f"Bearer {token}")
        raw("GET", f"/{word}/{word}")
        raw("GET", f"/~{word}/api/leads")
        raw("GET", "/api/leads", Host=f"{word}.example.com", X_CRM_Dialect=word, X_Forwarded_For=f"203.0.113.{i % 250}")
        raw("GET", "/api/leads", Authorization=f"Bearer {word}.{word}.{word}", X_Request_Id=word, User_Agent=word)
        raw("GET", f"/api/leads?{word}={word}", Origin=f"https://{word}.example")


def test_nothing_that_clients_choose_makes_a_series(used):
    """Methods, paths, hosts, tokens, addresses, tenants: the second round of the same kinds of nonsense adds none."""
    def round_(n):
        hammer(n, used.token)
        for _ in range(2):
            t = Tenant()
            assert t.saas.get("/leads").status_code == 200
            assert t.backend.post("/audit/logs/verify-integrity").status_code == 200
    round_(3)
    wait_until(lambda: numbers("gateway")["crm_gateway_connections"] < 50, 5)
    before = {p: series_of(p) for p in PROGRAMS}
    round_(25)
    for p in PROGRAMS:
        # a status that happens to come for the first time is one of a closed set all the same
        new = {s for s in series_of(p) - before[p] if not re.search(r'^(crm_rpc_server_|http_server_request_|crm_gateway_request_)', s[0])}
        assert not new, (p, new)
        grown = len(series_of(p)) - len(before[p])
        assert grown <= 17 * 4, (p, grown, series_of(p) - before[p])
    text = text_of("gateway")
    assert 'http_request_method="OTHER"' in text and "203.0.113" not in text and "example.com" not in text
