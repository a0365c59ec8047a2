"""What is done to a loaded installation, and what its clients noticed of it."""

import json
import subprocess
import time

from common import CLUSTER, NAMESPACE, Failed, kubectl, helm, of, pods, rolled_out, say, tally, wait_until

SERVICES = ("svc-auth", "svc-customers", "svc-sales", "svc-audit")
SETTLE_S = 3.0  # after a change: what it broke late belongs to it


def restart(name):
    def change():
        kubectl("rollout", "restart", f"deploy/{name}")
        rolled_out(name)
    return change


def steady(name, replicas):
    """Every replica is ready and none is on its way."""
    d = json.loads(kubectl("get", "deploy", name, "-o", "json"))["status"]
    return d.get("readyReplicas", 0) == d.get("replicas", 0) == d.get("updatedReplicas", 0) == replicas and len(pods(of(name))) == replicas


def kill(name):
    """The pod is gone at once, without a word (SIGKILL)."""
    def change():
        victim = sorted(pods(of(name)))[0]
        replicas = len(pods(of(name)))
        kubectl("delete", "pod", victim, "--grace-period=0", "--force", "--wait=false")
        wait_until(f"{name} has its pods again", lambda: victim not in pods(of(name)) and steady(name, replicas), 90)
    return change


def scale(name, n):
    def change():
        before = len(pods(of(name)))
        for replicas in (n, before):
            kubectl("scale", f"deploy/{name}", f"--replicas={replicas}")
            wait_until(f"{name} has {replicas} pods", lambda: steady(name, replicas), 90)
    return change


def drain_node(node):
    def change():
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s", timeout=200)
        for name in (*SERVICES, "gateway"):
            wait_until(f"{name} is whole again", lambda name=name: steady(name, 2), 90)
        kubectl("uncordon", node)
    return change


def upgrade(name, values, *args):
    """Of one chart alone; what else runs is not touched."""
    def change():
        helm("upgrade", name, f"deploy/helm/{name}", *(x for v in values for x in ("-f", v)), *args, "--wait", "--timeout", "3m")
        rolled_out(name)
    return change


def rollback(name):
    def change():
        helm("rollback", name, "--wait", "--timeout", "3m")
        rolled_out(name)
    return change


def restart_postgres():
    """The server ends in its container and is started again by the kubelet; its data stays."""
    before = json.loads(kubectl("get", "pods", "-l", "app=postgres", "-o", "json"))["items"][0]["status"]["containerStatuses"][0]["restartCount"]
    subprocess.run([CLUSTER, "kubectl", "-n", NAMESPACE, "exec", "deploy/postgres", "--", "sh", "-c", "kill -INT 1"], capture_output=True, text=True, timeout=60)

    def again():
        status = json.loads(kubectl("get", "pods", "-l", "app=postgres", "-o", "json"))["items"][0]["status"]["containerStatuses"][0]
        return status["restartCount"] > before and status["ready"]
    wait_until("PostgreSQL runs again", again, 60)


class Table:
    """One row per change: requests sent while it went on, those that failed, and for how long."""

    def __init__(self, load):
        self.load, self.rows = load, []

    def during(self, what, change, planned=True, window_s=None):
        """planned: not one request may fail. window_s: failures may lie that far apart at most."""
        began = time.time()
        change()
        took = time.time() - began
        time.sleep(SETTLE_S)
        if not self.load.alive():
            raise Failed("the load ended by itself")
        row = {"what": what, "planned": planned, "took_s": round(took, 1), "allowed_window_s": window_s, **tally(self.load.tries(began, time.time()))}
        row["good"] = row["failed"] == 0 if planned else window_s is None or row["window_s"] <= window_s
        self.rows.append(row)
        say(f"  {what:44} {row['took_s']:6.1f} s  {row['sent']:6d} requests  {row['failed']:4d} failed" + (f" within {row['window_s']} s {row['kinds']}" if row["failed"] else "")
            + ("" if row["good"] else "   NOT GOOD"))

    def print(self):
        say("| change | seconds | requests | failed | window |")
        say("|---|---|---|---|---|")
        for r in self.rows:
            say(f"| {r['what']} | {r['took_s']} | {r['sent']} | {r['failed']} | {r['window_s'] if r['failed'] else '-'} |")
        return [r["what"] for r in self.rows if not r["good"]]
