"""Kills and stops of the stack's own processes, by number, in a random order that its seed repeats."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time


class Counter:
    """The counting consumer; it is one of those that die, and this starts it again."""

    def __init__(self, argv, log):
        self.argv, self.log, self.process = argv, log, None

    def start(self):
        with open(self.log, "ab") as f:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f)

    def look(self):
        if self.process.poll() is not None:
            self.start()

    def stop(self):
        self.process.kill()
        self.process.wait()


def children(pid):
    out = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text[text.rindex(")") + 2:].split()[1]) == pid:
            out.append(int(stat.parent.name))
    return out


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


class Faults:
    def __init__(self, run_dir, bus, counter, seed, say):
        self.state_path, self.counter, self.say = run_dir / "state.json", counter, say
        self.random = random.Random(f"{seed}/faults")
        services = [r["name"] for r in json.loads(self.state_path.read_text())["processes"] if r["name"].startswith("svc-")]
        self.targets = ["gateway", *services, "svc-customers", "postgres", "counter"] + (["kafka"] if bus == "kafka" else [])
        self.deck, self.done = [], {}

    def pid_of(self, name):
        if name == "counter":
            return self.counter.process.pid if self.counter.process.poll() is None else None
        try:
            rows = json.loads(self.state_path.read_text())["processes"]
        except (OSError, ValueError):
            return None
        return next((r["pid"] for r in rows if r["name"] == name and r["state"] == "running"), None)

    def next_target(self):
        if not self.deck:
            self.deck = self.targets[:]
            self.random.shuffle(self.deck)
        return self.deck.pop()

    def note(self, name, how):
        self.done[f"{name} {how}"] = self.done.get(f"{name} {how}", 0) + 1

    def hold(self, name, pid):
        """SIGSTOP for up to 3 s. PostgreSQL: the postmaster and all its backends."""
        group = [pid, *(children(pid) if name == "postgres" else [])]
        stopped = [p for p in group if send(p, signal.SIGSTOP)]
        try:
            time.sleep(self.random.uniform(0.3, 3.0))
        finally:
            for p in stopped:
                send(p, signal.SIGCONT)

    def strike(self):
        """One fault; False when its target was not there."""
        name = self.next_target()
        pid = self.pid_of(name)
        if not pid:
            return False
        if self.random.random() < 0.35:
            self.note(name, "SIGSTOP")
            self.hold(name, pid)
        elif name == "postgres":
            self.note(name, "immediate stop")
            return send(pid, signal.SIGQUIT)
        else:
            self.note(name, "kill -9")
            return send(pid, signal.SIGKILL)
        return True

    def total(self):
        return sum(self.done.values())
