"""The HTTP edge of the real gateway: hostile bytes, slow clients, many clients, and the rarer parts of HTTP/1.1."""

import json
import os
import re
import resource
import selectors
import socket
import subprocess
import time

import pytest
import requests

from conftest import AT_5000, HOST, OFFSET, Tenant, wait_until
from faults import ROOT, Call, Gateway, metrics, p99, reads

PORT = 5000 + OFFSET


@pytest.fixture(scope="module")
def someone(stack):
    return Tenant()


@pytest.fixture
def own(stack, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    with Gateway(tmp_path) as g:
        yield g
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port=PORT, seconds=10):
    s = socket.create_connection((HOST, port), timeout=seconds)
    s.settimeout(seconds)
    return s


def read_to_end(s):
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


class Reader:
    """Replies one by one from a connection."""

    def __init__(self, s):
        self.s, self.rest = s, b""

    def reply(self, head_only=False):
        while b"\r\n\r\n" not in self.rest:
            chunk = self.s.recv(65536)
            assert chunk, f"the connection ended: {self.rest[:200]}"
            self.rest += chunk
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        headers = {k.strip().lower().decode(): v.strip().decode() for k, v in (line.split(b":", 1) for line in head.split(b"\r\n")[1:])}
        n = 0 if head_only or status < 200 or status in (204, 304) else int(headers["content-length"])
        while len(self.rest) < n:
            self.rest += self.s.recv(65536)
        body, self.rest = self.rest[:n], self.rest[n:]
        return status, headers, body


def request(someone, method, path, body=b"", *headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {someone.token}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# -- request smuggling


def vectors():
    """(name, status, handled, bytes) of tests/vectors/requests.h, as the compiler reads them."""
    program = """
#include <stdio.h>
static void put(const char *name, int status, int handled, const unsigned char *p, unsigned long n)
{ printf("%s %d %d ", name, status, handled); while (n--) printf("%02x", *p++); puts(""); }
#define VECTOR(name, status, handled, bytes) put(#name, status, handled, (const unsigned char *)(bytes), sizeof(bytes) - 1);
int main(void) {
#include "tests/vectors/requests.h"
return 0; }
"""
    folder = ROOT / "build" / "test-run"
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / "print-vectors"
    subprocess.run(["gcc", "-w", "-I", ROOT, "-x", "c", "-", "-o", tool], input=program.encode(), check=True)
    for line in subprocess.run([tool], capture_output=True, text=True, check=True).stdout.splitlines():
        name, status, handled, data = line.split(" ")
        yield name, int(status), int(handled), bytes.fromhex(data)


CANARY = "/api/core/health/"
VECTORS = list(vectors())


def test_there_are_enough_vectors():
    assert sum(status >= 400 for _, status, _, _ in VECTORS) >= 45


def canaries():
    return sum(v for k, v in metrics(9100 + OFFSET).items() if k.startswith("http_server_request_duration_seconds_count") and CANARY in k)


@pytest.mark.parametrize("name, status, handled, data", VECTORS, ids=[v[0] for v in VECTORS])
def test_vector(stack, name, status, handled, data):
    before = canaries()
    with connect() as s:
        try:
            s.sendall(data.replace(b"/smuggled", CANARY.encode()))
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.shutdown(socket.SHUT_WR)
        out = read_to_end(s)
    statuses = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", out)]
    if status >= 400:
        assert statuses == [status], out[:500]
        assert b"connection: close" in out.lower()
        json.loads(out.partition(b"\r\n\r\n")[2])
    else:
        refused = name == "good_then_bad"
        # /x is no route of ours, so what is handled is answered 404 or the like
        assert len(statuses) == handled + refused and all(s < 500 and s != 400 for s in statuses[:handled]), out[:500]
    assert canaries() == before, "the smuggled request was handled"


# -- slow and many


@pytest.mark.slow
def test_slow_heads_are_cut_and_harm_nobody(someone, own):
    with reads(own.port, "/api/leads", someone.token) as load:
        wait_until(lambda: len(load.rows) > 300, 15)
        calm = p99(load.rows)
        poll, began = selectors.DefaultSelector(), time.monotonic()
        for _ in range(500):
            s = connect(own.port)
            s.sendall(b"GET /api/leads HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            poll.register(s, selectors.EVENT_READ, time.monotonic())
        opened = time.monotonic()
        ends, replies, dribble = [], [], opened
        while poll.get_map() and time.monotonic() - began < 20:
            for key, _ in poll.select(0.2):
                got = key.fileobj.recv(4096)
                if got:
                    replies.append(got)
                    continue
                ends.append(time.monotonic() - key.data)
                poll.unregister(key.fileobj)
                key.fileobj.close()
            if time.monotonic() - dribble > 1:
                dribble = time.monotonic()
                for key in list(poll.get_map().values()):
                    try:
                        key.fileobj.send(b"a")
                    except OSError:
                        pass
        during = load.since(opened)
    assert len(ends) == 500 and 9 <= min(ends) and max(ends) <= 14, (len(ends), min(ends, default=0), max(ends, default=0))
    assert len(replies) >= 400 and all(r.startswith(b"HTTP/1.1 408") for r in replies), replies[:1]
    assert not load.failed(), load.failed()[:3]
    assert p99(during) <= 2 * calm + 0.05, (calm, p99(during))


@pytest.mark.slow
def test_a_slow_body_is_cut(someone, own):
    began = time.monotonic()
    with connect(own.port, 20) as s:
        s.sendall(request(someone, "POST", "/api/leads", b'{"firstName":', "Content-Type: application/json", "Content-Length: 40"))
        status, headers, _ = Reader(s).reply()
    assert status == 408 and headers["connection"].lower() == "close" and 9 <= time.monotonic() - began <= 12


@pytest.mark.slow
def test_two_thousand_kept_connections(someone, own):
    before = metrics(own.admin)["process_resident_memory_bytes"]
    held = []
    try:
        for _ in range(2000):
            held.append(connect(own.port))
        ask = request(someone, "GET", "/api/leads?pageSize=1")
        for turn in range(2):
            for at in range(0, 2000, 100):
                for s in held[at:at + 100]:
                    s.sendall(ask)
                assert {Reader(s).reply()[0] for s in held[at:at + 100]} == {200}
        # the threads tell their numbers now and then
        now = wait_until(lambda: (m := metrics(own.admin))["crm_gateway_connections"] >= 2000 and m, 5)
        # what a connection costs while it waits; the sanitizers' own memory aside
        if os.environ.get("CRM_VARIANT") != "asan":
            assert (now["process_resident_memory_bytes"] - before) / 2000 < 16384
    finally:
        for s in held:
            s.close()
    wait_until(lambda: metrics(own.admin)["crm_gateway_connections"] < 10, 10)


# -- the rarer parts of HTTP/1.1


def test_a_hundred_pipelined_requests_are_answered_in_order(someone):
    with connect() as s:
        s.sendall(b"".join(request(someone, "GET", f"/api/leads?pageSize={1 + i % 90}", b"", f"X-Request-Id: pipe-{i}") for i in range(100)))
        reader = Reader(s)
        for i in range(100):
            status, headers, body = reader.reply()
            assert status == 200 and headers["x-request-id"] == f"pipe-{i}" and json.loads(body)["pageSize"] == 1 + i % 90


def test_100_continue(someone):
    body = json.dumps({"firstName": "Expect", "lastName": "Continue"}).encode()
    with connect() as s:
        s.sendall(request(someone, "POST", "/api/leads", b"", "Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        reader = Reader(s)
        assert reader.reply()[0] == 100
        s.sendall(body)
        assert reader.reply()[0] == 201
    # a body that will be refused is not asked for
    with connect() as s:
        s.sendall(request(someone, "POST", "/api/leads", b"", "Content-Type: application/json", "Content-Length: 50000000", "Expect: 100-continue"))
        assert Reader(s).reply()[0] == 413


def test_a_chunked_body_creates(someone):
    body = json.dumps({"firstName": "Chunked", "lastName": "Läad €"}, ensure_ascii=False).encode()
    pieces = b"".join(b"1\r\n" + body[i:i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\nX-Trailer: t\r\n\r\n"
    with connect() as s:
        s.sendall(request(someone, "POST", "/api/leads", b"", "Content-Type: application/json", "Transfer-Encoding: chunked"))
        for i in range(0, len(pieces), 7):
            s.sendall(pieces[i:i + 7])
        reader = Reader(s)
        status, _, made = reader.reply()
        assert status == 201 and json.loads(made)["lastName"] == "Läad €"
        s.sendall(request(someone, "GET", f"/api/leads/{json.loads(made)['id']}"))
        assert reader.reply()[0] == 200


def test_head_is_get_without_a_body(someone):
    with connect() as s:
        reader = Reader(s)
        s.sendall(request(someone, "GET", "/api/leads"))
        status, headers, body = reader.reply()
        s.sendall(request(someone, "HEAD", "/api/leads") + request(someone, "GET", "/api/leads"))
        assert reader.reply(head_only=True)[0] == status == 200
        again = reader.reply()
        assert again[0] == 200 and len(again[2]) == len(body) == int(headers["content-length"])
    r = requests.head(f"{AT_5000}/api/leads", headers={"Authorization": f"Bearer {someone.token}"}, timeout=10)
    assert r.headers["Content-Length"] == headers["content-length"] and r.headers["Content-Type"].startswith("application/json")


def test_http_1_0_and_connection_close(someone):
    for data in (f"GET /api/leads HTTP/1.0\r\nAuthorization: Bearer {someone.token}\r\n\r\n".encode(), request(someone, "GET", "/api/leads", b"", "Connection: close")):
        with connect() as s:
            s.sendall(data)
            out = read_to_end(s)
            assert out.startswith(b"HTTP/1.1 200") and b"connection: close" in out.lower()


def test_a_client_that_leaves_in_the_middle_creates_nothing(fresh):
    body = b'{"firstName":"Half","lastName":"Way"}'
    head = request(fresh, "POST", "/api/leads", b"", "Content-Type: application/json", f"Content-Length: {len(body)}")
    whole = head + body
    for cut in (5, len(head) - 2, len(head), len(head) + 10, len(whole) - 1):
        for how in ("close", "reset"):
            with connect() as s:
                s.sendall(whole[:cut])
                if how == "reset":
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    assert fresh.saas.get("/leads").json()["totalCount"] == 0
    # who has sent all and does not stay for the answer gets what he asked for
    with connect() as s:
        s.sendall(whole)
    wait_until(lambda: fresh.saas.get("/leads").json()["totalCount"] == 1, 5)


def test_clients_that_read_nothing_do_not_stop_others(someone):
    idle = []
    for _ in range(20):
        s = connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.setblocking(False)
        try:
            for _ in range(90):
                s.send(request(someone, "GET", "/openapi/saas.json"))
        except BlockingIOError:
            pass
        idle.append(s)
    call = Call(PORT, someone.token)
    began = time.monotonic()
    assert {call("GET", "/api/leads").status for _ in range(50)} == {200}
    assert time.monotonic() - began < 5
    for s in idle:
        s.close()


def test_every_documented_limit_answers_itself(someone):
    cases = [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(101)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431),
        (b"POST /api/leads HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413),
    ]
    for data, status in cases:
        with connect() as s:
            s.sendall(data)
            got, headers, body = Reader(s).reply()
            assert got == status and headers["connection"].lower() == "close"
            json.loads(body)
