"""A service with two instances behind one host name is replaced under load, and the envelope key with it; nobody notices (R7; docs/rpc.md)."""

import os
import pathlib
import secrets
import signal
import subprocess
import time

import pytest
import requests

import faults
from conftest import wait_until
from faults import ROOT, Call, Gateway, Load, free_port
from test_zz_faults import must_be_there_once

NAME = "customers.test"


class Instance:
    """A svc-customers of the test's own, at an address of its own: as the stack's, before the same database."""

    def __init__(self, tmp, address, port, **settings):
        self.address, self.admin, self.log = address, free_port(), pathlib.Path(tmp) / f"{address}.log"
        pid = faults.pid_of("svc-customers")
        env = dict(e.split("=", 1) for e in pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in e)
        exe = os.readlink(f"/proc/{pid}/exe")
        env |= {"LISTEN_URL": f"tcp://{address}:{port}", "ADMIN_LISTEN": f"127.0.0.1:{self.admin}", "LOG_FORMAT": "json", **{k: str(v) for k, v in settings.items()}}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([exe], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            wait_until(self.is_ready, 20)
        except AssertionError:
            self.process.kill()
            raise AssertionError(self.log.read_text()) from None

    def is_ready(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.admin}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def calls(self):
        return faults.metrics(self.admin)["crm_rpc_calls_total"]

    def end(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()[-2000:]


class Fleet:
    """What a headless Service does: a name with the addresses of those that are ready and were not told to end."""

    def __init__(self, tmp, **settings):
        self.tmp, self.settings, self.port = pathlib.Path(tmp), settings, free_port()
        self.hosts, self.there, self.all = self.tmp / "hosts", [], []
        self.next = 2

    def publish(self):
        part = self.tmp / "hosts.part"
        part.write_text("".join(f"{i.address} {NAME}\n" for i in self.there))
        part.rename(self.hosts)

    def add(self, address=None):
        if address is None:
            address, self.next = f"127.0.0.{self.next}", self.next + 1
        one = Instance(self.tmp, address, self.port, **self.settings)
        self.all.append(one)
        self.there.append(one)
        self.publish()
        return one

    def remove(self, one):
        """The address goes and SIGTERM comes, at about the same time."""
        self.there.remove(one)
        self.publish()
        one.end()

    def kill_all(self):
        for one in self.all:
            one.process.kill()
            one.process.wait()

    def gateway(self, **settings):
        services = " ".join(f"{s}=tcp://127.0.0.1:{faults.port(s.upper())}" for s in ("auth", "audit"))
        return Gateway(self.tmp, SERVICES=f"{services} customers=tcp://{NAME}:{self.port}", SERVICE_HOSTS_FILE=self.hosts, THREADS=2, **settings)


class Traffic:
    """Reads and writes without a pause and without sending anything twice: every answer that is not as it should be counts."""

    def __init__(self, port, token):
        self.names = []
        self.reads = Load(lambda: self.reader(port, token), 2)
        self.writes = Load(lambda: self.writer(port, token), 2)

    @staticmethod
    def reader(port, token):
        call = Call(port, token)
        return lambda: call("GET", "/api/leads").status

    def writer(self, port, token):
        call = Call(port, token)

        def create():
            name = secrets.token_hex(6)
            r = call("POST", "/api/leads", {"firstName": name, "lastName": "Fault"})
            if r.status == 201:
                self.names.append(name)
            return r.status
        return create

    def __enter__(self):
        self.reads.__enter__()
        self.writes.__enter__()
        return self

    def __exit__(self, *what):
        self.reads.__exit__(*what)
        self.writes.__exit__(*what)

    def must_be_clean(self, tenant, at_least):
        bad = [r[2] for r in self.reads.rows if r[2] != 200] + [r[2] for r in self.writes.rows if r[2] != 201]
        print(f"\n{len(self.reads.rows)} reads, {len(self.writes.rows)} writes, {len(bad)} failed; slowest {max(r[1] for r in self.reads.rows + self.writes.rows) * 1000:.0f} ms")
        assert not bad, bad
        assert len(self.reads.rows) > at_least and len(self.writes.rows) > at_least
        must_be_there_once(tenant, self.names)


def in_use(gateway):
    """Addresses that the gateway calls customers at."""
    rows = [k for k, v in faults.instance_health(gateway.admin).items() if v == 1 and 'upstream="customers"' in k]
    return sorted(k.split("tcp://")[1].split(":")[0] for k in rows)


@pytest.fixture
def fleet(stack, tmp_path, request):
    f = Fleet(tmp_path, **getattr(request, "param", {}))
    yield f
    f.kill_all()


@pytest.mark.parametrize("fleet", [{"DRAIN_DELAY_SECONDS": 2}, {"DRAIN_DELAY_SECONDS": 0}], indirect=True, ids=["delay", "at-once"])
def test_a_rolling_restart_fails_no_request(fresh, fleet):
    old = [fleet.add(), fleet.add()]
    with fleet.gateway() as g, Traffic(g.port, fresh.token) as traffic:
        wait_until(lambda: in_use(g) == ["127.0.0.2", "127.0.0.3"], 5)
        time.sleep(1)
        assert all(i.calls() > 10 for i in old), "both are in use"
        for one in old:
            new = fleet.add()
            wait_until(lambda: new.address in in_use(g), 5)
            fleet.remove(one)
        wait_until(lambda: in_use(g) == ["127.0.0.4", "127.0.0.5"], 10)
        assert all(i.calls() > 10 for i in fleet.there)
        time.sleep(1)
    traffic.must_be_clean(fresh, 100)
    assert faults.metrics(fleet.there[0].admin)["crm_rpc_refused_total"] == 0


@pytest.mark.parametrize("fleet", [{"DRAIN_DELAY_SECONDS": 1}], indirect=True)
def test_instances_come_back_at_their_addresses_and_resolution_may_fail_meanwhile(fresh, fleet):
    fleet.add(), fleet.add()
    with fleet.gateway() as g, Traffic(g.port, fresh.token) as traffic:
        wait_until(lambda: len(in_use(g)) == 2, 5)
        for one in list(fleet.there):
            fleet.remove(one)
            time.sleep(0.5)
            fleet.add(one.address)
            wait_until(lambda: len(in_use(g)) == 2, 10)
        fleet.hosts.unlink()
        wait_until(lambda: faults.metrics(g.admin)["crm_rpc_names_failing"] == 1, 5)
        time.sleep(3)
        assert len(in_use(g)) == 2, "what was known stays in use"
        fleet.publish()
        wait_until(lambda: faults.metrics(g.admin)["crm_rpc_names_failing"] == 0, 5)
    traffic.must_be_clean(fresh, 100)
    assert g.log().count('"RPC-NAME"') < 30 and "cannot be looked up" in g.log()


@pytest.mark.parametrize("fleet", [{"DRAIN_DELAY_SECONDS": 1}], indirect=True)
def test_one_that_is_killed_costs_a_second_at_most(fresh, fleet):
    one, _ = fleet.add(), fleet.add()
    with fleet.gateway() as g:
        wait_until(lambda: len(in_use(g)) == 2, 5)
        with faults.reads(g.port, "/api/leads", fresh.token) as load:
            time.sleep(1)
            one.process.send_signal(signal.SIGKILL)
            time.sleep(3)
        assert load.error_window() < 1.0, load.failed()[:5]
        assert in_use(g) == ["127.0.0.3"]


def test_the_envelope_key_is_replaced_and_fails_no_request(fresh, fleet):
    """The whole stack's: gateways, all services, those that call others."""
    path = faults.run_dir() / "secrets/envelope.key"
    before = path.read_text()
    old, new = before.split()[0], secrets.token_hex(32)
    programs = [faults.port("ADMIN"), *(faults.port(s.upper() + "_ADMIN") for s in faults.SERVICES)]

    def put(*keys):
        part = path.with_suffix(".part")
        part.touch(0o600)
        part.write_text("".join(k + "\n" for k in keys))
        os.chown(part, path.stat().st_uid, path.stat().st_gid)
        part.rename(path)

    def accepted(n):
        wait_until(lambda: all(faults.metrics(p)["crm_envelope_keys"] == n for p in programs), 5)

    try:
        with Traffic(faults.port("API"), fresh.token) as traffic:
            time.sleep(0.5)
            put(old, new)
            accepted(2)
            put(new, old)
            time.sleep(2)
            put(new)
            accepted(1)
            time.sleep(0.5)
        traffic.must_be_clean(fresh, 100)
        put(secrets.token_hex(16))
        time.sleep(1.5)
        assert fresh.saas.get("/leads").status_code == 200, "a broken file changes nothing"
    finally:
        put(new, old)
        time.sleep(2)
        put(old, new)
        time.sleep(2)
        path.write_text(before)
        accepted(1)
