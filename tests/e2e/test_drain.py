"""SIGTERM with a delay: not ready at once, everybody served on and sent elsewhere, then the end. Gateways and a service of the tests' own."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

import faults
from conftest import HOST, Tenant, wait_until
from faults import ROOT, Call, Gateway, Load, free_port, port, run_dir

DELAY, DRAIN = 2, 4
PATH = "/api/v1/customers?limit=1"


@pytest.fixture(scope="module")
def tenant(stack):
    return Tenant()


def readiness(admin):
    r = requests.get(f"http://127.0.0.1:{admin}/readyz", timeout=2)
    return r.status_code, r.json()["checks"].get("reason")


def health(program, *args, **env):
    return subprocess.run([bin_dir() / program, "health", *args], env={**os.environ, **env}, capture_output=True, text=True, timeout=10)


def bin_dir():
    return pathlib.Path(os.environ.get("CRM_BIN_DIR") or ROOT / "build" / os.environ.get("CRM_VARIANT", "release") / "bin")


class Keeper:
    """A client that keeps its connection until it is told to close it; notes what it was told."""

    def __init__(self, at_port, token):
        self.call, self.told, self.connections = Call(at_port, token), [], 0

    def __call__(self):
        self.connections += self.call.conn is None or self.call.conn.sock is None
        r = self.call("GET", PATH)
        self.told.append((time.monotonic(), r.getheader("Connection")))
        return r.status


def test_a_gateway_serves_on_while_it_leaves(tenant, tmp_path):
    with Gateway(tmp_path, DRAIN_DELAY_SECONDS=DELAY, DRAIN_SECONDS=DRAIN) as g:
        clients = []

        def client():
            clients.append(Keeper(g.port, tenant.token))
            return clients[-1]
        idle, begun = Call(g.port, tenant.token), socket.create_connection((HOST, g.port), 10)
        assert idle("GET", PATH).status == 200
        with Load(client, threads=6, pause=0.001) as load:
            time.sleep(0.5)
            told = time.monotonic()
            g.process.send_signal(signal.SIGTERM)
            wait_until(lambda: readiness(g.admin) == (503, "draining"), 0.3, 0.005)
            r = health("gateway", ADMIN_LISTEN=f"127.0.0.1:{g.admin}")
            assert r.returncode == 1 and "503: draining" in r.stderr
            assert health("gateway", "--live", ADMIN_LISTEN=f"127.0.0.1:{g.admin}").returncode == 0
            time.sleep(max(0.0, told + DELAY - 0.3 - time.monotonic()))
            # nobody has been sent away from the door, and who was idle is still served
            assert idle("GET", PATH).getheader("Connection") == "close"
            begun.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthor".encode())
        assert time.monotonic() < told + DELAY, "the machine is too slow for this test"
        assert not load.failed(), load.failed()[:3]
        assert len(load.since(told)) > 100
        for c in clients:
            before, after = [w for at, w in c.told if at < told], [w for at, w in c.told if at > told + 0.1]
            assert set(before) == {None} and set(after) == {"close"}, (c.told[0], c.told[-1])
            assert c.connections >= len(after)  # each took a new one, and it was accepted
        # the end of the delay: nobody gets in, what has begun is answered
        time.sleep(max(0.0, told + DELAY + 0.3 - time.monotonic()))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, g.port), 2)
        begun.sendall(f"ization: Bearer {tenant.token}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(begun)
        answer.begin()
        assert answer.status == 200 and answer.getheader("Connection") == "close" and json.loads(answer.read())["success"]
        begun.close()
        assert g.process.wait(DRAIN + 2) == 0
        took = time.monotonic() - told
        assert DELAY <= took < DELAY + DRAIN, took
        drained = [json.loads(line) for line in g.log().splitlines() if line.startswith("{")]
        assert [e["event"] for e in drained if e["event"] in ("DRAIN", "STOPPED")] == ["DRAIN", "DRAIN", "STOPPED"], drained


def test_feeds_end_with_the_delay(tenant, tmp_path):
    with Gateway(tmp_path, DRAIN_DELAY_SECONDS=DELAY, DRAIN_SECONDS=DRAIN) as g:
        at, who = f"http://127.0.0.1:{g.port}/v1/events", {"Authorization": f"Bearer {tenant.token}"}
        stream = requests.get(at, headers={**who, "Accept": "text/event-stream"}, stream=True, timeout=20)
        assert stream.status_code == 200
        ends, now = {}, requests.get(at, params={"after": "now"}, headers=who, timeout=5).json()["cursor"]

        def read():
            # a stream that were cut off would raise here
            ends["bytes"] = sum(len(part) for part in stream.iter_content(1024))
            ends["at"] = time.monotonic()

        def poll():
            ends["poll"] = requests.get(at, params={"after": now, "wait": "25s"}, headers=who, timeout=30).status_code, time.monotonic()
        threads = [threading.Thread(target=f) for f in (read, poll)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        told = time.monotonic()
        g.process.send_signal(signal.SIGTERM)
        for t in threads:
            t.join(DELAY + DRAIN)
        assert g.process.wait(DRAIN + 2) == 0
        assert DELAY - 0.1 < ends["at"] - told < DELAY + 1, ends["at"] - told
        status, when = ends["poll"]
        assert status == 200 and DELAY - 0.1 < when - told < DELAY + 1, ends


def test_a_second_signal_ends_the_delay(tenant, tmp_path):
    with Gateway(tmp_path, DRAIN_DELAY_SECONDS=100) as g:
        g.process.send_signal(signal.SIGTERM)
        wait_until(lambda: readiness(g.admin)[0] == 503, 1, 0.01)
        time.sleep(0.5)
        assert g.process.poll() is None
        g.process.send_signal(signal.SIGTERM)
        assert g.process.wait(3) == 0


def test_without_a_delay_it_ends_at_once(tenant, tmp_path):
    with Gateway(tmp_path) as g:
        began = time.monotonic()
        g.process.send_signal(signal.SIGTERM)
        assert g.process.wait(2) == 0 and time.monotonic() - began < 1


# -- services


class Service:
    """A second instance of a service of the stack: its database, its bus, ports of its own."""

    def __init__(self, tmp, name, **settings):
        self.name, self.port, self.admin = name, free_port(), free_port()
        self.log_path = pathlib.Path(tmp) / f"{name}-{self.port}.log"
        environ = pathlib.Path(f"/proc/{faults.pid_of(name)}/environ").read_text().split("\0")
        self.env = {**dict(row.split("=", 1) for row in environ if row), "LISTEN_URL": f"tcp://127.0.0.1:{self.port}", "ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
                    "LOG_FORMAT": "json", **{k: str(v) for k, v in settings.items()}}

    def __enter__(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([bin_dir() / self.name], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        wait_until(lambda: self.process.poll() is not None or health(self.name, ADMIN_LISTEN=self.env["ADMIN_LISTEN"]).returncode == 0, 20)
        assert self.process.poll() is None, self.log_path.read_text()[-2000:]
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def log(self):
        return [json.loads(line) for line in self.log_path.read_text(errors="replace").splitlines() if line.startswith("{")]


def behind(*customers):
    return " ".join([f"auth=tcp://127.0.0.1:{port('AUTH')}", "customers=" + ",".join(f"tcp://127.0.0.1:{s.port}" for s in customers), f"audit=tcp://127.0.0.1:{port('AUDIT')}"])


def load_on(g, tenant):
    return Load(lambda: Keeper(g.port, tenant.token), threads=6, pause=0.001)


def test_a_service_serves_on_while_it_leaves(tenant, tmp_path):
    """Alone: callers have nobody else, and all they ask for in the delay is answered."""
    with Service(tmp_path, "svc-customers", DRAIN_DELAY_SECONDS=DELAY, DRAIN_SECONDS=DRAIN) as s, Gateway(tmp_path, SERVICES=behind(s)) as g:
        with load_on(g, tenant) as load:
            time.sleep(0.5)
            told = time.monotonic()
            s.process.send_signal(signal.SIGTERM)
            wait_until(lambda: readiness(s.admin) == (503, "draining"), 0.3, 0.005)
            time.sleep(max(0.0, told + DELAY - 0.3 - time.monotonic()))
        assert not load.failed(), load.failed()[:3]
        assert len(load.since(told + 0.2)) > 100
        assert s.process.wait(DELAY + DRAIN + 2) == 0
        took = time.monotonic() - told
        assert DELAY <= took < DELAY + DRAIN, took
        assert [e["event"] for e in s.log() if e["event"] in ("SERVICE-DRAIN", "SERVICE-STOP")] == ["SERVICE-DRAIN", "SERVICE-DRAIN", "SERVICE-STOP"]


def test_one_of_two_instances_leaves_unnoticed(tenant, tmp_path):
    with Service(tmp_path, "svc-customers", DRAIN_DELAY_SECONDS=DELAY) as a, Service(tmp_path, "svc-customers") as b, Gateway(tmp_path, SERVICES=behind(a, b)) as g:
        with load_on(g, tenant) as load:
            time.sleep(0.5)
            a.process.send_signal(signal.SIGTERM)
            # callers hear of it by their health calls, and leave it alone well before it ends
            time.sleep(1.0)
            served = [faults.metrics(a.admin)["crm_rpc_calls_total"] for _ in range(2) if not time.sleep(0.4)]
            assert a.process.wait(DELAY + 10) == 0
            time.sleep(0.5)
        assert not load.failed(), load.failed()[:3]
        assert served[0] == served[1], "calls went to an instance that had said that it leaves"


def test_a_service_that_is_not_ready_has_no_delay(tenant, tmp_path):
    """It has never been sent anybody: an empty folder of migrations of its own would do, a database that is away does as well."""
    s = Service(tmp_path, "svc-customers", DRAIN_DELAY_SECONDS=100, DATABASE_URL=f"host={run_dir() / 'nowhere'} user=nobody dbname=crm")
    with open(s.log_path, "ab") as log:
        s.process = subprocess.Popen([bin_dir() / s.name], env=s.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
    try:
        wait_until(lambda: health(s.name, "--live", ADMIN_LISTEN=s.env["ADMIN_LISTEN"]).returncode == 0, 10)
        r = health(s.name, ADMIN_LISTEN=s.env["ADMIN_LISTEN"])
        assert r.returncode == 1 and "no database connection" in r.stderr
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(5) == 0
    finally:
        s.__exit__()


# -- settings


def test_a_secret_may_be_in_a_file(tenant, tmp_path):
    env = Service(tmp_path, "svc-customers").env
    path = tmp_path / "url"
    path.write_text(env["DATABASE_URL"] + "\n")
    with Service(tmp_path, "svc-customers", DATABASE_URL="", DATABASE_URL_FILE=path) as s:
        assert readiness(s.admin)[0] == 200
    r = subprocess.run([bin_dir() / "svc-customers"], env={**env, "DATABASE_URL_FILE": str(path)}, capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "DATABASE_URL_FILE are both given" in r.stderr and env["DATABASE_URL"] not in r.stderr
