"""The feed: order, resumption, what each caller may see, long poll and stream, a thousand that wait."""

import base64
import json
import os
import selectors
import socket
import subprocess
import threading
import time
import uuid

import pytest
import requests

import faults
from conftest import AT_5000, HOST, OFFSET, Face, wait_until
from documents import ROOT

pytestmark = [pytest.mark.bus]
# well formed, but of no event: behind the end of every feed
FAR = base64.urlsafe_b64encode(b"\x01" + (10**12).to_bytes(8, "big") + b"mark").decode().rstrip("=")


def in_order(bus, seen, wanted):
    """The PostgreSQL bus keeps the order of a service's events, Kafka that of each entity's."""
    return sorted(seen) == sorted(wanted) if bus == "kafka" else seen == wanted


@pytest.fixture(scope="module")
def bus(stack):
    return faults.status()["bus"]


def lead(tenant, name):
    r = tenant.saas.post("/leads", json={"firstName": name, "lastName": "Feed"})
    assert r.status_code == 201, r.text
    return r.json()["id"]


def page(face, **params):
    r = face.get("/events", params=params)
    assert r.status_code == 200, r.text
    return r.json()


def account(tenant):
    r = tenant.system.post("/crm/accounts/", json={"name": "Acme " + uuid.uuid4().hex[:6]})
    assert r.status_code == 201, r.text


def now(face):
    """The end of the feed, once what the registration made is in it."""
    wait_until(lambda: page(face, types="auth.user.registered")["items"], 15)
    return page(face, after="now")["cursor"]


def all_since(face, cursor, n, **params):
    """The first n events behind the cursor, page by page."""
    out = []
    end = time.monotonic() + 15
    while len(out) < n and time.monotonic() < end:
        got = page(face, after=cursor, wait="5s", **params)
        out += got["items"]
        cursor = got["cursor"]
    return out, cursor


class Stream:
    """A client of text/event-stream on a socket of its own."""

    def __init__(self, token, query="", last=None, port=5000 + OFFSET):
        self.s = socket.create_connection((HOST, port), timeout=20)
        extra = f"Last-Event-ID: {last}\r\n" if last else ""
        self.s.sendall(f"GET /v1/events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n{extra}\r\n".encode())
        self.f = self.s.makefile("rb")
        self.status = int(self.f.readline().split()[1])
        self.headers = {}
        while (line := self.f.readline().strip()):
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self.text = b""

    def _chunk(self):
        n = int(self.f.readline() or b"0", 16)
        data = self.f.read(n)
        self.f.readline()
        return data

    def next(self):
        """{field: value} of the next event that has data; None at the end of the stream."""
        while True:
            block, separator, rest = self.text.partition(b"\n\n")
            if not separator:
                data = self._chunk()
                if not data:
                    return None
                self.text += data
                continue
            self.text = rest
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
            if "data" in fields:
                return fields

    def close(self):
        self.f.close()
        self.s.close()


def test_events_come_in_order_and_a_cursor_goes_on(fresh, bus):
    start = now(fresh.native)
    names = [f"L{i}" for i in range(7)]
    ids = [lead(fresh, n) for n in names]
    fresh.saas.put(f"/leads/{ids[0]}", json={"firstName": "Changed"})
    fresh.saas.delete(f"/leads/{ids[1]}")
    events, end = all_since(fresh.native, start, 9, limit=2, types="customers.lead.*")
    assert in_order(bus, [e["type"].rsplit(".", 1)[1] for e in events], ["created"] * 7 + ["updated", "deleted"])
    by_entity = {}
    for e in events:
        by_entity.setdefault(e["subject"], []).append((e["type"].rsplit(".", 1)[1], e["data"]["entity"] and e["data"]["entity"]["given"]))
    assert in_order(bus, list(by_entity.values()), [[("created", "L0"), ("updated", "Changed")], [("created", "L1"), ("deleted", None)], *[[("created", n)] for n in names[2:]]])
    updated = next(e for e in events if e["type"].endswith(".updated"))
    assert "given" in updated["data"]["changed"] and "family" not in updated["data"]["changed"]
    assert len({e["id"] for e in events}) == 9 and all(e["specversion"] == "1.0" and e["source"] == "/svc-customers" for e in events)
    assert page(fresh.native, after=end)["items"] == []
    # every event's own cursor goes on behind it
    again, _ = all_since(fresh.native, events[3]["cursor"], 5, types="customers.lead.*")
    assert [e["id"] for e in again] == [e["id"] for e in events[4:]]
    # without one: everything, from the registration on
    first = page(fresh.native, limit=1)["items"][0]
    assert first["type"] == "auth.user.registered"


def test_types_choose(fresh):
    start = now(fresh.native)
    lead(fresh, "A")
    account(fresh)
    events, _ = all_since(fresh.native, start, 2)
    assert {e["type"].split(".")[1] for e in events} == {"lead", "account"}
    for types, wanted in (("customers.lead.created", {"lead"}), ("customers.account.*", {"account"}), ("customers.lead.*,customers.account.*", {"lead", "account"}),
                          ("customers_lead.*", set())):
        assert {e["type"].split(".")[1] for e in page(fresh.native, after=start, types=types)["items"]} == wanted, types


def test_entities_are_shown_in_the_dialect_that_is_asked_for(fresh):
    start = now(fresh.native)
    made = fresh.saas.post("/leads", json={"firstName": "Dia", "lastName": "Lect"}).json()
    for dialect, path in (("saas", "/leads/"), ("mvp", "/leads/")):
        events, _ = all_since(fresh.native, start, 1, dialect=dialect, types="customers.lead.*")
        shown = events[0]["data"]["entity"]
        read = getattr(fresh, dialect).get(path + str(made["id"])).json()
        read = read.get("data", read.get("lead", read))
        assert shown["id"] == read["id"] and set(shown) <= set(read), (dialect, shown, read)
    native = page(fresh.native, after=start, types="customers.lead.*")["items"][0]["data"]["entity"]
    assert uuid.UUID(native["id"]) and native["given"] == "Dia"


def test_what_is_asked_wrongly_is_refused(tenant):
    for params, status in (({"after": "nonsense"}, 422), ({"wait": "31s"}, 422), ({"wait": "soon"}, 422), ({"dialect": "klingon"}, 422), ({"types": "A B"}, 422),
                           ({"types": "*.created"}, 422), ({"limit": 0}, 422), ({"limit": 501}, 422), ({"limit": "x"}, 422), ({"after": "A" * 65}, 422),
                           ({"types": ",".join(["a.b"] * 51)}, 422), ({"after": FAR}, 410)):
        r = tenant.native.get("/events", params=params)
        assert r.status_code == status, (params, r.text)
    r = tenant.native.get("/events", headers={"Last-Event-ID": "nonsense"})
    assert r.status_code == 422
    assert "after=now" in tenant.native.get("/events", params={"after": FAR}).json()["detail"]
    assert requests.get(AT_5000 + "/v1/events", timeout=5).status_code == 401
    assert tenant.native.post("/events", json={}).status_code == 405


def test_nobody_sees_another_tenants_events(fresh, other):
    start, begin = now(other.native), now(fresh.native)
    lead(fresh, "Secret")
    mine, cursor = all_since(fresh.native, begin, 1)
    assert page(other.native, after=start, wait="1s")["items"] == []
    # a cursor of another tenant names an event that is not there, or a place behind the end
    r = other.native.get("/events", params={"after": cursor})
    assert r.status_code == 410 or all(e["tenantid"] != mine[0]["tenantid"] for e in r.json()["items"])


def key_of(tenant, *scope):
    r = tenant.native.post("/api-keys", json={"name": "feed " + uuid.uuid4().hex[:6], "scope": list(scope)})
    assert r.status_code == 201, r.text
    return r.json()


def test_each_entitys_own_permission_applies(fresh):
    start = now(fresh.native)
    lead(fresh, "Seen")
    account(fresh)
    everything, _ = all_since(fresh.native, start, 2)
    assert {e["type"].split(".")[1] for e in everything} == {"lead", "account"}
    leads = Face("native", key_of(fresh, "events.read", "leads.read")["key"])
    seen = page(leads)["items"]
    assert seen and {e["type"].split(".")[1] for e in seen} == {"lead"}
    # what no method reads (logins) is for who may read the audit log
    assert page(Face("native", key_of(fresh, "events.read")["key"]))["items"] == []
    auditor = page(Face("native", key_of(fresh, "events.read", "audit.read")["key"]))["items"]
    assert not any(".lead." in e["type"] for e in auditor)
    assert Face("native", key_of(fresh, "leads.read")["key"]).get("/events").status_code == 403


def test_a_long_poll_is_woken(fresh):
    start = now(fresh.native)
    began = time.monotonic()
    assert page(fresh.native, after=start, wait="1s") == {"items": [], "cursor": start}
    assert 0.9 < time.monotonic() - began < 5
    got = {}
    waiter = threading.Thread(target=lambda: got.update(page(Face("native", fresh.token), after=start, wait="20s"), at=time.monotonic()))
    waiter.start()
    time.sleep(0.5)
    lead(fresh, "Wake")
    made = time.monotonic()
    waiter.join(20)
    assert [e["data"]["entity"]["given"] for e in got["items"]] == ["Wake"]
    assert got["at"] - made < 2


def test_a_stream_is_resumed_by_last_event_id(fresh):
    s = Stream(fresh.token, "?after=now&types=customers.lead.*")
    assert s.status == 200 and s.headers["content-type"] == "text/event-stream" and s.headers["cache-control"] == "no-store"
    time.sleep(0.3)
    events = []
    for i in range(3):
        lead(fresh, f"S{i}")
        events.append(s.next())
    assert [json.loads(e["data"])["data"]["entity"]["given"] for e in events] == ["S0", "S1", "S2"]
    assert all(e["event"] == "customers.lead.created" for e in events)
    s.close()
    lead(fresh, "S3")
    s = Stream(fresh.token, "?types=customers.lead.*", last=events[1]["id"])
    assert [json.loads(s.next()["data"])["data"]["entity"]["given"] for _ in range(2)] == ["S2", "S3"]
    s.close()


def test_a_revoked_key_ends_its_stream(fresh):
    key = key_of(fresh, "events.read", "leads.read")
    s = Stream(key["key"], "?after=now")
    assert s.status == 200
    time.sleep(0.5)
    assert fresh.native.delete(f"/api-keys/{key['id']}").status_code == 204
    revoked = time.monotonic()
    assert s.next() is None
    assert time.monotonic() - revoked < 3
    s.close()
    assert Stream(key["key"]).status == 401


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def test_a_thousand_wait_at_little_cost_and_all_are_told(fresh):
    """At most 50 MB in the gateway; no thread, no call, no connection to PostgreSQL for each; one wake-up for all."""
    gateway = faults.pid_of("gateway")
    postgres_before = len(os.listdir(f"/proc/{faults.pid_of('svc-audit')}/task"))
    threads, before = len(os.listdir(f"/proc/{gateway}/task")), rss_kb(gateway)
    token = fresh.token
    ask = f"GET /v1/events?after=now&types=customers.lead.* HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    socks = []
    try:
        for _ in range(1000):
            s = socket.create_connection((HOST, 5000 + OFFSET), timeout=20)
            s.sendall(ask)
            socks.append(s)
        numbers = lambda: faults.metrics(faults.port("ADMIN"))
        wait_until(lambda: numbers()["crm_gateway_feed_clients"] >= 1000, 30)
        time.sleep(1.5)
        calls = numbers()["crm_rpc_client_in_flight" + next(k for k in numbers() if k.startswith("crm_rpc_client_in_flight{upstream=\"audit"))[len("crm_rpc_client_in_flight"):]]
        cost = (rss_kb(gateway) - before) / 1024
        assert cost <= 50 or os.environ.get("CRM_VARIANT") == "asan", f"{cost:.1f} MB"
        assert calls < 20 and len(os.listdir(f"/proc/{gateway}/task")) == threads
        assert len(os.listdir(f"/proc/{faults.pid_of('svc-audit')}/task")) == postgres_before
        # the next of this tenant is told to come later; another tenant's is not concerned
        r = fresh.native.get("/events", params={"after": "now", "wait": "1s"})
        assert r.status_code == 429 and int(r.headers["Retry-After"]) > 0
        assert fresh.native.get("/events", params={"after": "now"}).status_code == 200
        audit_calls = lambda: next(v for k, v in numbers().items() if k.startswith('crm_rpc_client_calls_total{upstream="audit'))
        time.sleep(1.1)
        calls_before = audit_calls()
        lead(fresh, "ToAll")
        made = time.monotonic()
        left = set(range(1000))
        with selectors.DefaultSelector() as sel:
            for i, s in enumerate(socks):
                s.setblocking(False)
                sel.register(s, selectors.EVENT_READ, [i, b""])
            while left and time.monotonic() - made < 20:
                for key, _ in sel.select(1):
                    key.data[1] += key.fileobj.recv(65536)
                    if b"customers.lead.created" in key.data[1]:
                        left.discard(key.data[0])
        took = time.monotonic() - made
        assert not left, f"{len(left)} were not told"
        time.sleep(1.1)
        reads = audit_calls() - calls_before
        print(f"1,000 streams: {cost:.1f} MB in the gateway, all told {took:.2f} s after the write, {reads:.0f} calls to svc-audit meanwhile")
        assert reads < 300
    finally:
        for s in socks:
            s.close()
    wait_until(lambda: faults.metrics(faults.port("ADMIN"))["crm_gateway_feed_clients"] == 0, 20)


@pytest.mark.faults
def test_a_drain_tells_everybody_to_come_again_and_nothing_is_missed(fresh):
    start = now(fresh.native)
    s = Stream(fresh.token, f"?after={start}")
    poll = {}
    waiter = threading.Thread(target=lambda: poll.update(page(Face("native", fresh.token), after=start, wait="25s")))
    waiter.start()
    time.sleep(0.7)
    faults.crm("restart", "gateway")
    assert s.next() is None, "a stream ends whole, by its last chunk"
    waiter.join(10)
    assert poll == {"items": [], "cursor": start}
    s.close()
    faults.wait_healthy()
    lead(fresh, "After")
    events, _ = all_since(fresh.native, poll["cursor"], 1)
    assert events[0]["data"]["entity"]["given"] == "After"


@pytest.mark.faults
def test_a_stream_outlives_the_service_behind_it(fresh, bus):
    s = Stream(fresh.token, "?after=now&types=customers.lead.*")
    time.sleep(0.5)
    faults.kill("svc-audit")
    names = [f"K{i}" for i in range(5)]
    for n in names:
        lead(fresh, n)
    assert in_order(bus, [json.loads(s.next()["data"])["data"]["entity"]["given"] for _ in names], names)
    s.close()
    faults.wait_healthy()


# -- the document


def test_asyncapi_is_valid_and_tells_of_every_event(fresh, tmp_path):
    text = requests.get(AT_5000 + "/asyncapi.json", timeout=10).text
    document = json.loads(text)
    events = set(document["channels"]["feed"]["messages"])
    assert {"customers.lead.created", "auth.user.registered", "audit.log.exported"} <= events
    assert {c for c in document["channels"] if c.startswith("crm.")} == {"crm.auth.v1", "crm.customers.v1", "crm.sales.v1", "crm.audit.v1"}
    assert "given" in document["components"]["schemas"]["entity.lead"]["properties"]
    (tmp_path / "asyncapi.json").write_text(text)
    parser = ROOT / "build/vendor/@asyncapi/parser/browser/index.js"
    assert parser.exists(), "deploy/local/install-deps test"
    check = ["node", str(ROOT / "tests/e2e/clients/asyncapi-check.cjs"), str(parser)]
    r = subprocess.run([*check, str(tmp_path / "asyncapi.json")], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr[-2000:]
    # the checker does see what is wrong
    document["channels"]["feed"]["messages"]["customers.lead.created"]["$ref"] = "#/components/messages/nothing"
    (tmp_path / "broken.json").write_text(json.dumps(document))
    assert subprocess.run([*check, str(tmp_path / "broken.json")], capture_output=True, timeout=120).returncode == 1
    # what the feed sends is what the document says
    start = now(fresh.native)
    lead(fresh, "Described")
    event = all_since(fresh.native, start, 1)[0][0]
    described = document["components"]["schemas"]
    assert set(event) <= set(described["event"]["properties"]) and set(described["event"]["required"]) <= set(event)
    assert set(event["data"]["entity"]) <= set(described["entity.lead"]["properties"])
