"""The process that stays: starts everything in order, restarts what dies, writes state.json, stops everything in order."""

import ctypes
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

from . import database, proc, redis
from .config import ROOT, ConfigError, number

BACKOFF_FIRST, BACKOFF_MOST = 0.2, 10.0
STEADY_S = 30           # who ran so long starts over with the shortest back-off
LOG_MOST = 20 << 20     # bytes of a log; one predecessor of the same size is kept
DRAIN_S = 20
READY_POSTGRES_S = 60


def grace_s():
    """How long a process may take to end: what it was told to wait and to finish, and some."""
    return DRAIN_S + number("DRAIN_DELAY_SECONDS", 0) + number("DRAIN_SECONDS", 0)


class Managed:
    """One process of ours."""

    stop_signal = signal.SIGTERM

    def __init__(self, cfg, name, argv, env=None, **spawn):
        self.cfg, self.name, self.argv, self.env, self.spawn = cfg, name, argv, env, spawn
        self.popen = None
        self.restarts = 0
        self.backoff = BACKOFF_FIRST
        self.next_start = 0.0
        self.started = None
        self.last_exit = None
        self.wanted = False

    def log_path(self):
        return self.cfg.log / f"{self.name}.log"

    def start(self):
        self.wanted = True
        with open(self.log_path(), "ab") as log:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, **{"cwd": ROOT, **self.spawn})
        self.started = time.time()
        proc.write_pid(self.cfg.pids / self.name, self.popen.pid)

    def pid(self):
        return self.popen.pid if self.popen and self.popen.returncode is None else None

    def poll(self):
        """True while it runs."""
        if self.popen is None:
            return False
        code = self.popen.poll()
        if code is not None:
            self.last_exit = f"signal {-code}" if code < 0 else f"exit {code}"
        return code is None

    def look(self, now):
        """Restarts it when it is time to. True when something changed."""
        if not self.wanted or self.poll():
            return False
        if self.next_start == 0.0:
            if time.time() - (self.started or 0) > STEADY_S:
                self.backoff = BACKOFF_FIRST
            if self.was_asked_to_end():
                self.next_start = now
                return True
            self.next_start = now + self.backoff
            self.backoff = min(self.backoff * 2, BACKOFF_MOST)
            return True
        if now < self.next_start:
            return False
        self.next_start = 0.0
        self.restarts += 1
        self.start()
        return True

    def was_asked_to_end(self):
        """A good end after a while is a restart that somebody wants, not a crash."""
        return self.last_exit == "exit 0" and time.time() - (self.started or 0) > 1

    def ask_to_stop(self):
        self.wanted = False
        pid = self.pid()
        if pid:
            os.kill(pid, self.stop_signal)

    def wait_stopped(self, seconds):
        try:
            if self.popen:
                self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        (self.cfg.pids / self.name).unlink(missing_ok=True)

    def state(self):
        running = self.poll()
        word = "running" if running else "restarting" if self.wanted else "stopped"
        return {"name": self.name, "state": word, "pid": self.pid() if running else None, "restarts": self.restarts, "started": self.started, "last_exit": self.last_exit}


class Postgres(Managed):
    stop_signal = signal.SIGINT  # fast: ends sessions, writes a checkpoint


class Kafka(Managed):
    """deploy/local/kafka starts it in the background and leaves its pid in a file."""

    def __init__(self, cfg):
        super().__init__(cfg, "kafka", [str(ROOT / "deploy/local/kafka"), "start", str(cfg.kafka), str(cfg.ports["KAFKA"])])
        self.broker = None

    def log_path(self):
        return self.cfg.log / "kafka-start.log"

    def start(self):
        self.broker = None
        (self.cfg.kafka / "pid").unlink(missing_ok=True)
        super().start()

    def broker_alive(self):
        """The broker's parent is gone, so it is ours to reap (see adopt_orphans)."""
        try:
            return os.waitpid(self.broker, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return proc.is_alive(self.broker)

    def poll(self):
        code = self.popen.poll() if self.popen else 1
        if code is None:
            return True
        if self.broker is None and code == 0:
            self.broker = int((self.cfg.kafka / "pid").read_text())
            proc.write_pid(self.cfg.pids / "kafka", self.broker)
        self.last_exit = f"exit {code}" if code else "ended"
        return self.broker is not None and self.broker_alive()

    def is_up(self):
        return self.broker is not None and self.poll()

    def pid(self):
        return self.broker or super().pid()

    def ask_to_stop(self):
        self.wanted = False
        if self.popen and self.popen.poll() is None:
            self.popen.wait(DRAIN_S)
        if self.poll():
            os.kill(self.broker, self.stop_signal)

    def wait_stopped(self, seconds):
        end = time.monotonic() + seconds
        while self.broker and self.broker_alive():
            if time.monotonic() > end:
                os.kill(self.broker, signal.SIGKILL)
            time.sleep(0.05)
        for path in (self.cfg.kafka / "pid", self.cfg.pids / "kafka"):
            path.unlink(missing_ok=True)


def adopt_orphans():
    """Children of children that end become ours, so that they can be reaped (prctl PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)


class Wake:
    """Waits until a signal comes. Not a threading.Event: a handler that sets one waits for ever when it interrupted who holds its lock."""

    def __init__(self):
        self.reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait(self, seconds):
        if select.select([self.reader], [], [], seconds)[0]:
            os.read(self.reader, 4096)  # more of them wake once more


class Supervisor:
    def __init__(self, cfg, bus):
        self.cfg, self.bus = cfg, bus
        self.phase, self.message = "starting", ""
        self.steps = []
        self.stopping = False
        self.wake = Wake()
        self.written = None
        self.postgres = Postgres(cfg, "postgres", database.command(cfg), cwd="/", **database.spawn_args())
        self.kafka = Kafka(cfg) if bus == "kafka" else None
        self.redis = Managed(cfg, "redis", redis.command(cfg)) if cfg.counters == "redis" else None
        self.services = [Managed(cfg, name, [str(cfg.bin / name)], cfg.environment(name, bus)) for name in cfg.programs()]

    def everything(self):
        return [self.postgres, *(m for m in (self.kafka, self.redis) if m), *self.services]

    def write_state(self):
        """state.json: whole or not at all, and only when it says something new."""
        state = {
            "phase": self.phase, "message": self.message, "steps": self.steps, "bus": self.bus, "counters": self.cfg.counters, "variant": self.cfg.variant,
            "supervisor": os.getpid(), "processes": [m.state() for m in self.everything()],
        }
        text = json.dumps(state, indent=1)
        if text == self.written:
            return
        part = self.cfg.state.with_suffix(".part")
        part.write_text(text)
        part.rename(self.cfg.state)
        self.written = text

    def step(self, text):
        self.steps.append(text)
        self.write_state()

    def wait(self, what, check, managed, seconds):
        end = time.monotonic() + seconds
        while not check():
            if self.stopping:
                raise ConfigError("it was told to stop")
            if not managed.poll() and managed.last_exit:
                raise ConfigError(f"{what} ended at once ({managed.last_exit}); see {managed.log_path()}")
            if time.monotonic() > end:
                raise ConfigError(f"{what} is not ready after {seconds} s; see {managed.log_path()}")
            time.sleep(0.03)

    def start_database(self):
        self.postgres.start()
        self.wait("PostgreSQL", lambda: database.is_ready(self.cfg), self.postgres, READY_POSTGRES_S)
        database.bootstrap(self.cfg)
        self.step("PostgreSQL answers")

    def migrate(self):
        """Each service its own schema, side by side."""
        runs = []
        for m in self.services:
            if m.name != "gateway":
                with open(m.log_path(), "ab") as log:
                    runs.append((m, subprocess.Popen([*m.argv, "migrate"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=m.env, cwd=ROOT)))
        for m, p in runs:
            try:
                code = p.wait(120)
            except subprocess.TimeoutExpired:
                p.kill()
                code = "none in 120 s"
            if code != 0:
                raise ConfigError(f"`{m.name} migrate` failed (exit {code}); see {m.log_path()}")
        self.step("schemas are up to date")

    def start_all(self):
        self.start_database()
        if self.kafka:
            self.kafka.start()
            self.wait("Kafka", self.kafka.is_up, self.kafka, 90)
            self.step("Kafka answers")
        if self.redis:
            self.redis.start()
            self.wait("Redis", lambda: redis.is_ready(self.cfg), self.redis, 15)
            self.step("Redis answers")
        self.migrate()
        for m in self.services:
            m.start()
        self.phase = "running"
        self.step("services and gateway are started")

    def rotate(self):
        for path in self.cfg.log.glob("*.log"):
            if path.stat().st_size > LOG_MOST:
                # writers append, so the file can be emptied under them
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    def watch(self):
        rotate_at = 0.0
        while not self.stopping:
            # a child that ends wakes us (SIGCHLD); the clock is needed for restarts that wait and for the logs only
            self.wake.wait(0.1 if any(m.next_start for m in self.everything()) else 1)
            now = time.monotonic()
            for m in self.everything():
                m.look(now)
            self.write_state()
            if now > rotate_at:
                self.rotate()
                rotate_at = now + 5

    def stop_all(self):
        """The door first, the database last; the services between them side by side."""
        self.phase = "stopping" if self.phase != "failed" else self.phase
        gateway, services = self.services[-1], self.services[:-1]
        for m in self.everything():
            m.wanted = False
        self.write_state()
        for group in ([gateway], services, [m for m in (self.kafka, self.redis) if m], [self.postgres]):
            for m in group:
                m.ask_to_stop()
            for m in group:
                m.wait_stopped(grace_s())
            self.write_state()

    def told_to_stop(self, *_):
        self.stopping = True

    def run(self):
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, self.told_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # its number is in Wake's pipe
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        proc.write_pid(self.cfg.run / "supervisor.pid", os.getpid())
        code = 0
        try:
            self.start_all()
            self.watch()
        except (ConfigError, OSError) as e:
            self.phase, self.message, code = "failed", str(e), 1
            self.write_state()
        self.stop_all()
        if code == 0:
            self.phase = "stopped"
        self.write_state()
        (self.cfg.run / "supervisor.pid").unlink(missing_ok=True)
        return code


def launch(cfg, bus):
    """Starts the supervisor in a session of its own; returns its process."""
    log = open(cfg.log / "supervisor.log", "ab")
    argv = ["python3", str(ROOT / "crm"), "_supervise", bus]
    env = {**os.environ, "CRM_RUN_DIR": str(cfg.run)}
    cfg.state.unlink(missing_ok=True)
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=ROOT, start_new_session=True)
    log.close()
    return p


def alive(cfg):
    return proc.read_pid(cfg.run / "supervisor.pid")


def orphans(cfg):
    """What a killed supervisor left behind, the gateway first and the database last."""
    order = ["gateway"] + [n for n in cfg.programs() if n != "gateway"] + ["kafka", "redis", "postgres"]
    found = [(n, proc.read_pid(cfg.pids / n)) for n in order]
    return [(n, pid) for n, pid in found if pid]


def stop_orphans(cfg):
    for name, pid in orphans(cfg):
        proc.stop(pid, signal.SIGINT if name == "postgres" else signal.SIGTERM, grace_s())
        pathlib.Path(cfg.pids / name).unlink(missing_ok=True)
