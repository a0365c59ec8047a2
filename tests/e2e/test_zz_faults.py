"""Processes hang, die and come back: what clients see meanwhile, and what is left afterwards."""

import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid

import pytest

import faults
from conftest import BASE, OFFSET, PASSWORD, Face, Tenant, wait_until
from faults import NOISE_S, Call, Gateway, Load, p99, reads
from test_errors import LISTS, shape_of

pytestmark = [pytest.mark.faults, pytest.mark.slow]
API = 5000 + OFFSET
HUNG_S = 2.0        # a hung service's routes answer within this
BACK_S = 1.5        # a service that goes on is used again within this
DOWN_S = 2.0        # a killed service's routes fail for no longer than this
FACES = ["backend", "saas", "system", "mvp", "elevate"]


@pytest.fixture(scope="module", autouse=True)
def guesses_forgotten(stack):
    """The tests before have guessed many passwords from this address; svc-auth remembers them as long as it runs."""
    faults.stack_info()
    pid = faults.pid_of("svc-auth")
    faults.crm("restart", "svc-auth")
    wait_until(lambda: faults.state("svc-auth")["pid"] not in (None, pid) and faults.is_ready("svc-auth"), 20)


@pytest.fixture(autouse=True)
def healthy(stack):
    """Each test finds a healthy stack and leaves one."""
    faults.wait_healthy()
    yield
    faults.wait_healthy()


def login(tenant):
    return {"email": tenant.email, "username": tenant.email, "password": PASSWORD}


def routes_of(service, tenant):
    """[(face, method, path, body)]: every face that has the service."""
    if service == "customers":
        return [(f, "GET", LISTS[f], None) for f in FACES]
    if service == "audit":
        return [("backend", "GET", "/audit/logs", None)]
    return [("backend", "GET", "/auth/profile", None), ("saas", "GET", "/users", None), ("system", "GET", "/core/profile/", None),
            ("mvp", "POST", "/auth/login", login(tenant)), ("elevate", "POST", "/auth/login", login(tenant))]


# a route that does not need the service
ELSEWHERE = {"auth": "/api/leads", "customers": "/api/v1/auth/profile", "audit": "/api/leads"}


def timed(tenant, face, method, path, body):
    began = time.monotonic()
    r = Face(face, tenant.token).call(method, path, json=body)
    return r, time.monotonic() - began


def must_be_unavailable(face, r, seconds, most):
    assert r.status_code in (503, 504), (face, r.status_code, r.text)
    assert seconds <= most + NOISE_S, (face, seconds)
    assert int(r.headers["Retry-After"]) >= 1, (face, dict(r.headers))
    assert r.headers["X-CRM-Dialect"] == face
    shape_of(face, r.json())


@pytest.mark.parametrize("service", faults.SERVICES)
def test_a_hung_service_fails_alone_and_comes_back(fresh, service):
    routes = routes_of(service, fresh)
    for face, method, path, body in routes:
        r, _ = timed(fresh, face, method, path, body)
        assert r.status_code == 200, (face, r.text)
    fresh.saas.post("/leads", json={"firstName": "Seen", "lastName": "Before"})
    with reads(API, ELSEWHERE[service], fresh.token) as load:
        wait_until(lambda: len(load.rows) > 150, 10)
        calm = p99(load.rows)
        with faults.stopped(f"svc-{service}"):
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(5) as pool:
                answers = list(pool.map(lambda route: (route[0], *timed(fresh, *route)), routes))
            for face, r, seconds in answers:
                must_be_unavailable(face, r, seconds, HUNG_S)
            wait_until(lambda: 0 in faults.instance_health(faults.port("ADMIN")).values(), HUNG_S)
            # from now on nobody waits
            for route in routes:
                must_be_unavailable(route[0], *timed(fresh, *route), 0.1)
            wait_until(lambda: len(load.since(began)) > 150, 10)
            hung = load.since(began)
        back = time.monotonic()
        wait_until(lambda: all(timed(fresh, *route)[0].status_code == 200 for route in routes), BACK_S + NOISE_S)
        assert time.monotonic() - back <= BACK_S + NOISE_S
    assert not load.failed(), load.failed()[:5]
    assert p99(hung) <= 1.5 * calm + 0.05, (calm, p99(hung))


def test_tokens_work_while_auth_hangs_even_those_never_seen(fresh):
    second = fresh.saas.post("/auth/login", json=login(fresh)).json()["token"]
    with faults.stopped("svc-auth"):
        # without traffic only the probes find out: half a second until the next, one of silence, half a second until it is judged
        wait_until(lambda: 0 in faults.instance_health(faults.port("ADMIN")).values(), HUNG_S + 1)
        for token in (fresh.token, second):
            for face in FACES:
                assert Face(face, token).get(LISTS[face]).status_code == 200, face
        assert Face("saas", token[:-6] + "AAAAAA").get("/leads").status_code == 401


def test_a_write_to_a_hung_service_says_that_it_is_unknown(fresh, unique):
    key = {"Idempotency-Key": unique}
    lead = {"firstName": "Un", "lastName": "Known"}
    with faults.stopped("svc-customers"):
        began = time.monotonic()
        r = fresh.saas.post("/leads", json=lead, headers=key)
        must_be_unavailable("saas", r, time.monotonic() - began, HUNG_S)
    wait_until(lambda: fresh.saas.post("/leads", json=lead, headers=key).status_code == 201, 3)
    assert fresh.saas.get("/leads").json()["totalCount"] == 1


@pytest.mark.parametrize("service", faults.SERVICES)
def test_a_killed_service_is_back_soon(fresh, service):
    face, method, path, body = routes_of(service, fresh)[0]
    name = f"svc-{service}"
    restarts = faults.state(name)["restarts"]
    with reads(API, BASE[face].partition(str(API))[2] + path, fresh.token) as load, reads(API, ELSEWHERE[service], fresh.token, threads=1) as others:
        wait_until(lambda: len(load.rows) > 50, 10)
        began = time.monotonic()
        pid = faults.kill(name)
        wait_until(lambda: faults.state(name)["pid"] not in (None, pid), 15)
        wait_until(lambda: faults.is_ready(name), 10)
        wait_until(lambda: load.since(began)[-10:] and all(r[2] == 200 for r in load.since(time.monotonic() - 0.5)) and time.monotonic() - began > 2, 10)
    assert {r[2] for r in load.failed()} <= {503, 504}, load.failed()[:5]
    assert load.error_window() <= DOWN_S, load.error_window()
    assert max(r[1] for r in load.rows) <= HUNG_S + NOISE_S
    assert not others.failed(), others.failed()[:5]
    assert faults.state(name)["restarts"] == restarts + 1 and faults.state(name)["last_exit"] == "signal 9"
    row = next(p for p in faults.status()["processes"] if p["name"] == name)
    assert row["restarts"] == restarts + 1 and row["state"] == "running" and row["ready"] is True


@pytest.mark.parametrize("service", faults.SERVICES)
def test_a_restart_fails_no_read(fresh, service):
    face, method, path, body = routes_of(service, fresh)[0]
    name = f"svc-{service}"
    with reads(API, BASE[face].partition(str(API))[2] + path, fresh.token) as load:
        wait_until(lambda: len(load.rows) > 50, 10)
        began, pid = time.monotonic(), faults.pid_of(name)
        assert faults.crm("restart", name).returncode == 0
        wait_until(lambda: faults.state(name)["pid"] not in (None, pid), 15)
        wait_until(lambda: faults.is_ready(name), 10)
        wait_until(lambda: len(load.since(began)) > 100, 10)
    assert faults.state(name)["last_exit"] == "exit 0"
    assert not load.failed(), (len(load.failed()), load.error_window(), load.failed()[:3])


# -- nothing lost, nothing doubled


class Writer:
    """Creates leads through one face, each with a key of its own, and sends again until it knows what became of it."""

    def __init__(self, token):
        self.call = Call(API, token)
        self.acknowledged = {}
        self.statuses = set()

    def create(self, name, seconds=30):
        end = time.monotonic() + seconds
        while True:
            try:
                r = self.call("POST", "/api/leads", {"firstName": name, "lastName": "Fault"}, {"Idempotency-Key": name})
                self.statuses.add(r.status)
                if r.status == 201:
                    self.acknowledged[name] = r.body
                    return
            except (OSError, faults.http.client.HTTPException) as e:
                self.statuses.add(type(e).__name__)
            assert time.monotonic() < end, (name, self.statuses)
            time.sleep(0.05)


def write_through(tenant, names, threads, meanwhile, pause=0.0):
    """Creates all names while meanwhile() does its worst; returns what the writers saw."""
    queue, lock = list(names), threading.Lock()
    writers = [Writer(tenant.token) for _ in range(threads)]

    def run(writer):
        while True:
            with lock:
                if not queue:
                    return
                name = queue.pop()
            writer.create(name)
            time.sleep(pause)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(run, w) for w in writers]
        meanwhile()
        for j in jobs:
            j.result(120)
    return set().union(*(w.statuses for w in writers)), [n for w in writers for n in w.acknowledged]


def must_be_there_once(tenant, names):
    """Every name is one lead, and each lead's creation one entry of the audit log."""
    tenant_id = faults.psql(f"select distinct tenant_id from customers.lead where given = '{names[0]}'")[0][0]
    rows = faults.psql(f"select given, id from customers.lead where tenant_id = '{tenant_id}' and family = 'Fault'")
    assert sorted(r[0] for r in rows) == sorted(names), "a lead is missing or there twice"
    keys = faults.psql(f"select key, count(*) from customers.idempotency where tenant_id = '{tenant_id}' group by key having count(*) > 1")
    assert not keys
    made = f"select resource_id from audit.entry where tenant_id = '{tenant_id}' and resource = 'lead' and action = 'created'"
    wait_until(lambda: len(faults.psql(made)) >= len(names), 15, 0.2)
    assert sorted(r[0] for r in faults.psql(made)) == sorted(r[1] for r in rows), "the audit log has one twice or not at all"
    assert tenant.saas.get("/leads").json()["totalCount"] == len(names)
    report = tenant.backend.post("/audit/logs/verify-integrity").json()["data"]
    assert report.get("valid", report.get("isValid")) is True, report


def names(n):
    word = uuid.uuid4().hex[:8]
    return [f"{word}{i}" for i in range(n)]


@pytest.mark.parametrize("name", ["svc-customers", "svc-audit"])
def test_writes_survive_a_restart(fresh, name):
    wanted = names(150)

    def restart():
        for _ in range(2):
            pid = faults.pid_of(name)
            faults.crm("restart", name)
            wait_until(lambda: faults.state(name)["pid"] not in (None, pid) and faults.is_ready(name), 20)
    statuses, made = write_through(fresh, wanted, 4, restart, 0.02)
    assert sorted(made) == sorted(wanted) and statuses <= {201, 503, 504, 409}, statuses
    must_be_there_once(fresh, wanted)


def test_kills_during_parallel_creates_lose_and_double_nothing(fresh):
    wanted = names(200)
    rng = random.Random(7)

    def kill():
        for _ in range(4):
            pid = faults.kill("svc-customers")
            wait_until(lambda: faults.state("svc-customers")["pid"] not in (None, pid) and faults.is_ready("svc-customers"), 20)
            time.sleep(rng.uniform(0.05, 0.4))
    statuses, made = write_through(fresh, wanted, 20, kill, 0.1)
    assert sorted(made) == sorted(wanted) and statuses <= {201, 503, 504, 409}, statuses
    must_be_there_once(fresh, wanted)


def test_conversions_survive_kills_of_both_services(fresh):
    """An account, a contact and a deal for each lead, whoever dies between the steps."""
    leads = [fresh.system.post("/crm/leads/", json={"first_name": "A", "last_name": name, "company_name": f"{name} AG"}).json()["id"] for name in names(40)]
    left = list(leads)

    def convert():
        while left:
            r = fresh.system.post(f"/crm/leads/{left[0]}/convert/", json={})
            assert r.status_code in (200, 409, 503, 504), r.text
            if r.status_code in (200, 409):  # 409: it was done by the request whose answer was lost
                left.pop(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        work = pool.submit(convert)
        for name in ("svc-sales", "svc-customers", "svc-sales"):
            pid = faults.kill(name)
            wait_until(lambda: faults.state(name)["pid"] not in (None, pid) and faults.is_ready(name), 20)
        work.result(60)
    assert not left

    def found(path):
        return fresh.system.get(path, params={"page_size": 100}).json()["count"]
    wait_until(lambda: found("/deals/deals/") >= len(leads), 20)
    assert [found(p) for p in ("/crm/accounts/", "/crm/contacts/", "/deals/deals/")] == [len(leads)] * 3
    deals = fresh.system.get("/deals/deals/", params={"page_size": 100}).json()["results"]
    assert len({d["account"]["id"] for d in deals}) == len({d["contact"]["id"] for d in deals}) == len(leads), "each has its own"


def test_kills_of_audit_and_relay_double_no_entry(fresh):
    wanted = names(150)

    def kill():
        for name in ("svc-audit", "svc-customers", "svc-audit"):
            pid = faults.kill(name)
            wait_until(lambda: faults.state(name)["pid"] not in (None, pid) and faults.is_ready(name), 20)
    statuses, made = write_through(fresh, wanted, 4, kill, 0.05)
    assert sorted(made) == sorted(wanted)
    must_be_there_once(fresh, wanted)


@pytest.mark.parametrize("how", ["immediate", "killed"])
def test_the_database_ends_at_once_and_comes_back(fresh, how):
    wanted = names(200)

    def crash():
        time.sleep(0.3)
        pid = faults.kill("postgres", signal.SIGQUIT if how == "immediate" else signal.SIGKILL)
        wait_until(lambda: faults.state("postgres")["pid"] not in (None, pid), 20)
        wait_until(lambda: all(faults.is_ready(f"svc-{s}") for s in faults.SERVICES), 30)
    with reads(API, "/api/leads", fresh.token, threads=1) as load, reads(API, "/api/v1/audit/logs", fresh.token, threads=1) as audit, \
            reads(API, "/api/v1/auth/profile", fresh.token, threads=1) as auth:
        statuses, made = write_through(fresh, wanted, 6, crash, 0.03)
        wait_until(lambda: all(lo.rows[-1][2] == 200 for lo in (load, audit, auth)), 10)
    for lo in (load, audit, auth):
        assert {r[2] for r in lo.failed()} <= {503, 504}, lo.failed()[:5]
    assert sorted(made) == sorted(wanted) and statuses <= {201, 503, 504, 409}, statuses
    must_be_there_once(fresh, wanted)


def test_logins_wait_for_nobody_after_the_database_was_away(fresh):
    pid = faults.kill("postgres", signal.SIGQUIT)
    wait_until(lambda: faults.state("postgres")["pid"] not in (None, pid), 20)
    r = wait_until(lambda: (a := fresh.saas.post("/auth/login", json=login(fresh))).status_code in (200, 503, 504) and a.status_code == 200 and a, 15)
    assert Face("saas", r.json()["token"]).get("/leads").status_code == 200


# -- who starts them again


def test_a_storm_of_signals_does_not_stop_the_supervisor(stack):
    """Many children that end at once: each is a signal, and one that comes while another is looked at must not be waited for."""
    pid = int((faults.run_dir() / "supervisor.pid").read_text().split()[0])
    before = faults.state("svc-sales")
    for _ in range(300_000):
        os.kill(pid, signal.SIGCHLD)
    faults.kill("svc-sales")
    wait_until(lambda: faults.state("svc-sales")["restarts"] > before["restarts"] and faults.is_ready("svc-sales"), 20)


# -- the gateway


def test_a_killed_gateway_is_back_soon(fresh):
    restarts = faults.state("gateway")["restarts"]
    with reads(API, "/api/leads", fresh.token) as load:
        wait_until(lambda: len(load.rows) > 50, 10)
        pid = faults.kill("gateway")
        wait_until(lambda: faults.state("gateway")["pid"] not in (None, pid), 15)
        wait_until(lambda: faults.is_ready("gateway"), 10)
        began = time.monotonic()
        wait_until(lambda: len(load.since(began)) > 50, 10)
    assert load.error_window() <= DOWN_S, load.error_window()
    assert 500 not in {r[2] for r in load.rows}
    assert faults.state("gateway")["restarts"] == restarts + 1
    # a token made before is good, one that was revoked before stays dead
    token = fresh.saas.post("/auth/login", json=login(fresh)).json()["token"]
    assert Face("backend", token).post("/auth/logout").status_code == 200
    pid = faults.kill("gateway")
    wait_until(lambda: faults.state("gateway")["pid"] not in (None, pid) and faults.is_ready("gateway"), 15)
    assert Face("saas", token).get("/leads").status_code == 401
    assert fresh.saas.get("/leads").status_code == 200


@pytest.fixture
def dialects(tmp_path):
    """Textual dialects to change, and a folder of compiled ones: compile(name) puts one there as the build does."""
    source, built = tmp_path / "source", tmp_path / "dialects"
    shutil.copytree(faults.ROOT / "gateway/dialects", source)
    shutil.copytree(faults.ROOT / "build/gen/dialects", built)

    def compile_one(name, change):
        text = change((source / f"{name}.textproto").read_text())
        (source / f"{name}.textproto").write_text(text)
        out = subprocess.run(["protoc", "-I", str(faults.ROOT / "proto"), "--encode=crm.dialect.Dialect", "dialect.proto"], input=text.encode(), capture_output=True)
        assert out.returncode == 0, out.stderr
        (built / f"{name}.pb").write_bytes(out.stdout)
    return built, compile_one


def test_a_reload_takes_effect_and_drops_nothing(fresh, dialects, tmp_path):
    built, compile_one = dialects
    with Gateway(tmp_path, DIALECT_DIR=built) as g, reads(g.port, "/api/leads", fresh.token, threads=4, pause=0) as load:
        wait_until(lambda: len(load.rows) > 100, 10)
        # the gateway's own part of a dialect; routes are as their services say (tests/contract)
        compile_one("saas", lambda text: text.replace('code: "INVALID_TOKEN"', 'code: "NO_TOKEN"', 1))
        call = Call(g.port)
        assert b'"INVALID_TOKEN"' in call("GET", "/api/users").body
        g.process.send_signal(signal.SIGHUP)
        wait_until(lambda: b'"NO_TOKEN"' in call("GET", "/api/users").body, 5)
        for _ in range(20):
            g.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        wait_until(lambda: g.log().count("dialects loaded again") >= 2, 5)
        seen = len(load.rows)
        wait_until(lambda: len(load.rows) > seen + 100, 10)
    assert not load.failed(), load.failed()[:5]


def test_a_reload_of_a_broken_dialect_changes_nothing_and_says_why(fresh, dialects, tmp_path):
    built, compile_one = dialects
    with Gateway(tmp_path, DIALECT_DIR=built) as g, reads(g.port, "/api/leads", fresh.token, threads=2) as load:
        call = Call(g.port, fresh.token)
        for n, change in enumerate((lambda t: t.replace('rpc: "Users.List"', 'rpc: "Users.Nonsense"', 1), None)):
            before = g.log().count("RELOAD-REFUSED")
            if change:
                compile_one("saas", change)
            else:
                (built / "saas.pb").write_bytes(b"\xff\xfe nonsense")
            g.process.send_signal(signal.SIGHUP)
            wait_until(lambda: g.log().count("RELOAD-REFUSED") > before, 5)
            line = [row for row in g.log().splitlines() if "RELOAD-REFUSED" in row][-1]
            assert "saas" in line and "the old dialects stay" in line, line
            assert n or "Users.Nonsense" in line, line
            assert call("GET", "/api/users").status == 200
    assert not load.failed(), load.failed()[:5]


def test_a_gateway_that_ends_answers_what_it_has(fresh, tmp_path):
    with Gateway(tmp_path) as g:
        with reads(g.port, "/api/leads", fresh.token, threads=3, pause=0) as load:
            wait_until(lambda: len(load.rows) > 100, 10)
            g.process.terminate()
            assert g.process.wait(12) == 0
    # refused or closed between two requests, never cut off inside an answer nor answered with an error
    assert {r[2] for r in load.failed()} <= {"ConnectionRefusedError", "RemoteDisconnected", "ConnectionResetError"}, {r[2] for r in load.failed()}


def test_afterwards_everything_is_as_it_was(fresh):
    for name in [*(f"svc-{s}" for s in faults.SERVICES), "gateway", "postgres"]:
        assert faults.state(name)["state"] == "running"
    for face in FACES:
        assert getattr(fresh, face).get(LISTS[face]).status_code == 200
