"""What the steps of the cluster test share: commands against the cluster, waiting, and the load with its windows."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "k8s"
CLUSTER = str(HERE / "cluster")
NAMESPACE = "crm"
BEGAN = time.monotonic()


class Failed(Exception):
    pass


def say(text):
    s = int(time.monotonic() - BEGAN)
    print(f"[{s // 60:2d}:{s % 60:02d}] {text}", flush=True)


def sh(*argv, timeout=300, env=None, give=None, check=True, log=None, cwd=None):
    """Output of a command as text; what it said is in the error when it fails. log: a file that keeps it all."""
    r = subprocess.run([str(a) for a in argv], cwd=cwd or ROOT, env={**os.environ, **(env or {})}, input=give, capture_output=True, text=True, timeout=timeout,
                       **({} if give is not None else {"stdin": subprocess.DEVNULL}))
    if log:
        (OUT / log).write_text(r.stdout + r.stderr)
    if check and r.returncode:
        raise Failed(f"`{' '.join(map(str, argv[:9]))}` ended with {r.returncode}:\n{(r.stdout + r.stderr)[-3000:]}")
    return r.stdout if check else r


def kubectl(*args, **kw):
    return sh(CLUSTER, "kubectl", "-n", NAMESPACE, *args, **kw)


def helm(*args, **kw):
    return sh(CLUSTER, "helm", "-n", NAMESPACE, *args, **kw)


def inside(*args, **kw):
    """Where Service addresses are reachable."""
    return sh(CLUSTER, "exec", *args, **kw)


def get(*args):
    return json.loads(kubectl("get", *args, "-o", "json"))


def pods(selector=None):
    """{name: pod} of those that are not on their way out."""
    rows = get("pods", *(["-l", selector] if selector else []))["items"]
    return {p["metadata"]["name"]: p for p in rows if not p["metadata"].get("deletionTimestamp")}


def of(chart):
    return f"app.kubernetes.io/name={chart}"


def wait_until(what, check, seconds=60, every=0.3):
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)


def rolled_out(*names, seconds=180):
    for name in names:
        kubectl("rollout", "status", f"deploy/{name}", f"--timeout={seconds}s", timeout=seconds + 10)


class Load:
    """tests/k8s/load.py under way, and what became of its requests in a stretch of time."""

    def __init__(self, host):
        self.out = OUT / "load"
        subprocess.run(["rm", "-rf", self.out], check=True)
        self.out.mkdir(parents=True)
        self.log = open(self.out / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen([CLUSTER, "exec", sys.executable, str(HERE / "load.py"), "--host", host, "--out", str(self.out)],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT)
        if self.process.stdout.readline().strip() != "ready":
            raise Failed(f"the load did not start: {(self.out / 'log').read_text()[-2000:]}")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            said = self.process.communicate(timeout=90)[0].strip()
        except subprocess.TimeoutExpired as e:
            self.process.kill()
            raise Failed("the load does not end") from e
        if self.process.returncode:
            raise Failed(f"the load ended with {self.process.returncode}: {said}")
        return said

    def alive(self):
        return self.process.poll() is None

    def tries(self, since, until):
        rows = []
        for line in open(self.out / "tries.jsonl", encoding="utf-8"):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that is being written
            if since <= row["at"] < until:
                rows.append(row)
        return rows


def failed(row):
    """A keyed write that is sent again while the first sending still runs may be told so (409)."""
    return row["status"] is None or not (200 <= row["status"] < 300 or row["status"] == 409)


def tally(rows):
    """{sent, failed, window_s: between the first and the last that failed, kinds}"""
    bad = [r for r in rows if failed(r)]
    times = [r["at"] for r in bad]
    kinds = collections.Counter(str(r["status"] or r["error"].split("(")[0]) for r in bad)
    return {"sent": len(rows), "failed": len(bad), "window_s": round(max(times) - min(times), 2) if bad else 0.0, "kinds": dict(kinds)}
