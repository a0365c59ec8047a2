"""Control over the stack's processes, gateways of a test's own, and load that notes every answer."""

import contextlib
import functools
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from conftest import HOST, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = ["auth", "customers", "audit"]
# what a busy machine may add to any one request
NOISE_S = 0.15


def crm(*args):
    return subprocess.run([sys.executable, ROOT / "crm", *args], capture_output=True, text=True, timeout=60)


def status():
    return json.loads(crm("status", "-o", "json").stdout)


@functools.lru_cache
def stack_info():
    """What does not change while the stack runs: ports and folders."""
    s = status()
    if not s["running"]:
        pytest.skip("the stack was not started by ./crm, so its processes cannot be touched")
    return s


def run_dir():
    return pathlib.Path(stack_info()["run_dir"])


def port(name):
    return stack_info()["ports"][name]


def state(name):
    """The supervisor's word about one process; a file, so cheap."""
    rows = json.loads((run_dir() / "state.json").read_text())["processes"]
    return next(r for r in rows if r["name"] == name)


def pid_of(name):
    return wait_until(lambda: state(name)["pid"], 15)


def is_ready(program):
    name = "ADMIN" if program == "gateway" else program.removeprefix("svc-").upper() + "_ADMIN"
    try:
        return requests.get(f"http://127.0.0.1:{port(name)}/readyz", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def wait_healthy(seconds=30):
    """Everything runs and every gateway thread reaches every service again."""
    wait_until(lambda: all(is_ready(p) for p in [*(f"svc-{s}" for s in SERVICES), "gateway"]), seconds)
    wait_until(lambda: all(v == 1 for v in instance_health(port("ADMIN")).values()), seconds)


def metrics(admin_port):
    """{name{labels}: value}"""
    text = requests.get(f"http://127.0.0.1:{admin_port}/metrics", timeout=5).text
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def instance_health(admin_port):
    return {k: v for k, v in metrics(admin_port).items() if k.startswith("crm_rpc_client_instance_up")}


@contextlib.contextmanager
def stopped(name):
    """The process hangs (SIGSTOP) until the block ends."""
    pid = pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def kill(name, sig=signal.SIGKILL):
    pid = pid_of(name)
    os.kill(pid, sig)
    return pid


class Call:
    """One connection, kept alive; opened anew after an error."""

    def __init__(self, at_port, token=None, host=HOST):
        self.port, self.host, self.conn = at_port, host, None
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method, path, body=None, headers=None, timeout=10):
        if self.conn is None:
            self.conn = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = json.dumps(body) if body is not None else None
            self.conn.request(method, path, data, {**self.headers, **({"Content-Type": "application/json"} if data else {}), **(headers or {})})
            r = self.conn.getresponse()
            r.body = r.read()
            return r
        except (OSError, http.client.HTTPException):
            self.conn.close()
            self.conn = None
            raise


class Load:
    """Threads that do one thing again and again; each answer is noted as (began, seconds, status or exception's name)."""

    def __init__(self, make, threads=2, pause=0.01):
        self.make, self.pause = make, pause
        self.rows, self.stop = [], threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        do = self.make()
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                result = do()
            except (OSError, http.client.HTTPException) as e:
                result = type(e).__name__
            self.rows.append((began, time.monotonic() - began, result))
            self.stop.wait(self.pause)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join(30)

    def since(self, at):
        return [r for r in list(self.rows) if r[0] >= at]

    def failed(self):
        return [r for r in list(self.rows) if r[2] != 200]

    def error_window(self):
        """Seconds from the begin of the first failed request to the begin of the last one."""
        bad = self.failed()
        return bad[-1][0] - bad[0][0] if bad else 0.0


def reads(at_port, path, token, threads=2, pause=0.01):
    def make():
        call = Call(at_port, token)
        return lambda: call("GET", path).status
    return Load(make, threads, pause)


def p99(rows):
    times = sorted(r[1] for r in rows)
    assert times, "nothing was measured"
    return times[min(len(times) - 1, int(len(times) * 0.99))]


# -- a gateway of the test's own


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    """A second gateway before the services of the stack, with settings of its own. tmp is an empty folder."""

    def __init__(self, tmp, **settings):
        self.log_path = pathlib.Path(tmp) / "gateway.log"
        self.port, self.port2, self.admin = free_port(), free_port(), free_port()
        variant = os.environ.get("CRM_VARIANT", "release")
        self.bin = pathlib.Path(os.environ.get("CRM_BIN_DIR") or ROOT / "build" / variant / "bin") / "gateway"
        self.env = {
            **os.environ,
            "LISTEN": f"127.0.0.1:{self.port}=backend,saas,system 127.0.0.1:{self.port2}=elevate,mvp",
            "SERVICES": " ".join(f"{s}=tcp://127.0.0.1:{port(s.upper())}" for s in SERVICES),
            "ADMIN_LISTEN": f"127.0.0.1:{self.admin}", "ENVELOPE_KEY_FILE": str(run_dir() / "secrets/envelope.key"),
            "DESCRIPTOR_DIR": str(ROOT / "build/gen/descriptors"), "DIALECT_DIR": str(ROOT / "build/gen/dialects"),
            "RATE_LIMIT_SCALE": "1000", "LOG_FORMAT": "json", "ASAN_OPTIONS": "exitcode=99", **{k: str(v) for k, v in settings.items()},
        }

    def __enter__(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.bin], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            wait_until(self.is_ready, 20)
        except AssertionError:
            self.process.kill()
            raise AssertionError(self.log()) from None
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not end") from None
        assert code == 0, (code, self.log()[-2000:])

    def is_ready(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.admin}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return self.process.poll() is not None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def at(self, face):
        first = {"backend": "/api/v1", "saas": "/api", "system": "/api"}
        second = {"mvp": "/api", "elevate": "/api/v1"}
        return f"http://127.0.0.1:{self.port}{first[face]}" if face in first else f"http://127.0.0.1:{self.port2}{second[face]}"


# -- the database, as its owner


def psql(sql):
    argv = ["/usr/lib/postgresql/15/bin/psql", "-X", "-q", "-A", "-t", "-h", str(run_dir() / "sock"), "-p", "55432", "-U", "postgres", "-d", "crm", "-c", sql]
    r = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    return [line.split("|") for line in r.stdout.splitlines()]
