"""Services believe signed envelopes only, and nobody outside this machine reaches what is inside."""

import base64
import hmac
import json
import os
import socket
import time

import pytest

import faults
import sp
from conftest import Tenant

BAD_REQUEST, PERMISSION_DENIED, UNAUTHENTICATED, DEADLINE_EXCEEDED = 1, 6, 3, 19
CALLS = {"auth": "Users.List", "customers": "Leads.List", "audit": "AuditLogs.List"}
LIST = sp.field(4, 5)


@pytest.fixture(scope="module")
def someone(stack):
    t = Tenant()
    t.saas.post("/leads", json={"firstName": "Secret", "lastName": "Lead"})
    return t


@pytest.fixture(params=list(CALLS))
def service(request):
    return request.param


def principal(tenant, permissions=None):
    claims = json.loads(base64.urlsafe_b64decode(tenant.token.split(".")[1] + "=="))
    low, high = (int(x, 16) for x in claims["perm"].split(".")) if permissions is None else (permissions, 0)
    return (sp.field(1, claims["tid"]) + sp.field(2, claims["tsq"]) + sp.field(3, claims["sub"]) + sp.field(4, claims["usq"]) + sp.field(5, claims["role"])
            + sp.field(6, ("fixed64", low)) + sp.field(7, ("fixed64", high)))


def connect(service):
    return sp.Connection(faults.port(service.upper()))


def counters(service):
    m = faults.metrics(faults.port(f"{service.upper()}_ADMIN"))
    return m["crm_rpc_refused_total"], m["crm_rpc_expired_total"]


def must_be_empty(answer, request):
    """A refusal says nothing, but is signed, so that an honest caller knows who spoke."""
    mac, body = answer
    assert body == b""
    assert hmac.compare_digest(mac, hmac.new(sp.key(), b"R" + request[:32].ljust(32, b"\0") + body, "sha256").digest())


def test_a_signed_call_is_answered(service, someone):
    with connect(service) as c:
        assert c.greeting == b"\x00SP\x00\x00\x31\x00\x00"
        mac, body = c.ask(sp.sign(sp.batch(sp.call(CALLS[service], LIST, principal(someone)))))
        assert sp.statuses(body) == [0]


def test_forged_messages_are_refused(service, someone):
    good = sp.batch(sp.call(CALLS[service], LIST, principal(someone)))
    signed = sp.sign(good)
    forged = [
        b"", b"x", b"\x00" * 31, b"\x00" * 32 + good, os.urandom(32) + good,
        sp.sign(good, b"\x00" * 32), sp.sign(good, os.urandom(32)),
        bytes([signed[0] ^ 1]) + signed[1:], signed[:-1] + bytes([signed[-1] ^ 1]), signed + b"\x00", signed[:-1],
        hmac.new(sp.key(), good, "sha256").digest() + good,
        hmac.new(sp.key(), b"R" + good, "sha256").digest() + good,
    ]
    before = counters(service)[0]
    with connect(service) as c:
        for message in forged:
            mac, body = c.ask(message)
            assert body == b"" and b"Secret" not in mac + body, message[:40]
        assert counters(service)[0] == before + len(forged)
        # and the service serves on
        assert sp.statuses(c.ask(sp.sign(sp.batch(sp.call(CALLS[service], LIST, principal(someone)))))[1]) == [0]


def test_a_copy_of_a_message_is_refused(service, someone):
    message = sp.sign(sp.batch(sp.call(CALLS[service], LIST, principal(someone))))
    with connect(service) as c, connect(service) as thief:
        assert sp.statuses(c.ask(message)[1]) == [0]
        must_be_empty(c.ask(message), message)
        must_be_empty(thief.ask(message), message)


def test_malformed_batches_are_refused_whole(service, someone):
    call = sp.call(CALLS[service], LIST, principal(someone))
    with connect(service) as c:
        for body in (b"", b"\xff" * 40, sp.batch(*[call] * 65), call, sp.batch(call)[:-1], sp.batch(sp.field(1, b"\xff\xff")), sp.batch(call, sequence=0)):
            assert c.ask(sp.sign(body))[1] == b""


def test_late_and_endless_deadlines_are_refused(service, someone):
    before = counters(service)[1]
    with connect(service) as c:
        late = [sp.call(CALLS[service], LIST, principal(someone), deadline_s=s) for s in (0, -1, -3600)]
        assert sp.statuses(c.ask(sp.sign(sp.batch(*late)))[1]) == [DEADLINE_EXCEEDED] * 3
        assert counters(service)[1] == before + 3
        assert sp.statuses(c.ask(sp.sign(sp.batch(sp.call(CALLS[service], LIST, principal(someone), deadline_s=3600))))[1]) == [BAD_REQUEST]


def test_permissions_are_checked_again_inside(service, someone):
    with connect(service) as c:
        for who in (b"", principal(someone, permissions=0)):
            status, = sp.statuses(c.ask(sp.sign(sp.batch(sp.call(CALLS[service], LIST, who))))[1])
            assert status in (UNAUTHENTICATED, PERMISSION_DENIED), status


def test_oversize_messages_and_foreign_protocols_end_the_connection(service, someone):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10, b"\x16\x03\x01" + b"\x00" * 200, b"\x00SP\x00\x00\x10\x00\x00" + b"\x00" * 64, b"\x00SP\x00\x00\x30\x00\x00" + b"\xff" * 8):
        with socket.create_connection(("127.0.0.1", faults.port(service.upper())), timeout=5) as s:
            s.settimeout(5)
            s.sendall(data)
            out = b""
            try:
                while chunk := s.recv(4096):
                    out += chunk
            except ConnectionResetError:
                pass
            assert len(out) <= 8, out
    with connect(service) as c:
        assert sp.statuses(c.ask(sp.sign(sp.batch(sp.call(CALLS[service], LIST, principal(someone)))))[1]) == [0]


def test_silent_strangers_do_not_keep_others_out(someone):
    strangers = [sp.Connection(faults.port("CUSTOMERS")) for _ in range(150)]
    for c in strangers:
        c.send(b"\x00" * 40)
    began = time.monotonic()
    assert someone.saas.get("/leads").status_code == 200 and time.monotonic() - began < 1
    for c in strangers:
        c.s.close()
    assert someone.saas.get("/leads").status_code == 200


def test_everything_listens_on_loopback_only(stack):
    ours = {p["pid"] for p in faults.status()["processes"]}
    assert None not in ours
    inodes = set()
    for pid in ours:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{table}").read().splitlines()[1:]:
            row = line.split()
            if row[3] == "0A" and row[9] in inodes:
                address, _, hex_port = row[1].partition(":")
                found.add(int(hex_port, 16))
                assert address in ("0100007F", "00000000000000000000000001000000"), f"port {int(hex_port, 16)} listens on {address}"
    ports = faults.stack_info()["ports"]
    assert {p for name, p in ports.items() if name not in ("KAFKA", "REDIS")} <= found
