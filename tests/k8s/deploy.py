"""The installation under test: images, stores, secrets, values, releases, and the changes that need to know of them."""

import base64
import collections
import json
import os
import re
import secrets
import subprocess
import sys
import time

from changes import SERVICES, rollback, upgrade
from common import CLUSTER, HERE, NAMESPACE, OUT, ROOT, Failed, get, helm, inside, kubectl, of, pods, rolled_out, say, sh, wait_until

PROGRAMS = ("gateway", *SERVICES)
STORES = ("postgres", "kafka", "redis")
COLLECTOR = "http://10.99.0.1:4318"  # node 1, where tests/collector.py runs
SUPERUSER = secrets.token_hex(16)
processes = []


# -- images

def build(*targets, tag="test", cwd=ROOT, env=None):
    r = subprocess.run(["tests/images/build", "--tag", tag, *targets], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1500)
    (OUT / f"build-{tag}.log").write_text(r.stdout + r.stderr)
    if r.returncode:
        raise Failed(f"tests/images/build {' '.join(targets)} ended with {r.returncode}:\n{(r.stdout + r.stderr)[-2000:]}")
    return r.stdout


def images():
    began = time.monotonic()
    build(*PROGRAMS, *STORES)
    say(f"  {len(PROGRAMS) + len(STORES)} images built in {time.monotonic() - began:.0f} s")


def load_images():
    began = time.monotonic()
    sh(CLUSTER, "load", *(f"localhost/crm-{n}:test" for n in PROGRAMS), timeout=600)
    sh(CLUSTER, "load", *(f"localhost/crm-{n}:test" for n in STORES), env={"NODES": "1"}, timeout=600)
    say(f"  given to the nodes in {time.monotonic() - began:.0f} s")


# -- what the charts expect to be there

def psql(sql):
    """Rows of text, as the superuser."""
    out = inside("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", f"host={postgres_address()} dbname=crm user=postgres", "-c", sql,
                 env={"PGPASSWORD": SUPERUSER}, timeout=120)
    return [line.split("\x1f") for line in out.splitlines()]


def answers():
    try:
        return psql("SELECT 1")
    except Failed:
        return False


def postgres_address():
    if not hasattr(postgres_address, "ip"):
        postgres_address.ip = get("svc", "postgres")["spec"]["clusterIP"]
    return postgres_address.ip


def secret(name, **data):
    kubectl("apply", "-f", "-", give=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}))


def make_secrets(*args):
    return sh("deploy/helm/make-secrets", "--namespace", NAMESPACE, *args, env={"KUBECTL": f"{CLUSTER} kubectl"})


def stores():
    if NAMESPACE not in sh(CLUSTER, "kubectl", "get", "ns", "-o", "name"):
        sh(CLUSTER, "kubectl", "create", "namespace", NAMESPACE)
        # the strictest of Kubernetes' own profiles refuses what is not as the charts say
        sh(CLUSTER, "kubectl", "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    redis = secrets.token_hex(16)
    secret("postgres-superuser", password=SUPERUSER)
    secret("redis-password", password=redis)
    secret("crm-counters", url=f"redis://default:{redis}@redis:6379")
    make_secrets("--apply", "--postgres", "host=postgres dbname=crm sslmode=disable")
    kubectl("apply", "-f", HERE / "stores.yaml")
    rolled_out(*STORES)
    wait_until("PostgreSQL answers at its service's address", answers, 30)  # nodes hear of a ready pod a little later
    inside("psql", "-Xq", "-v", "ON_ERROR_STOP=1", f"host={postgres_address()} dbname=crm user=postgres", env={"PGPASSWORD": SUPERUSER}, give=make_secrets("--sql"))
    collector()


def collector():
    """Of traces, in node 1's network."""
    out = OUT / "spans.jsonl"
    processes.append(subprocess.Popen([CLUSTER, "exec", sys.executable, str(ROOT / "tests" / "collector.py"), "--host", "10.99.0.1", "--port", "4318", "--out", str(out)],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL))


# -- releases

def values():
    """The file of the umbrella: what is shared, under global.crm."""
    return HERE / "values.yaml"


def releases():
    """A release per chart, as docs/kubernetes.md says: the same pods, from then on upgraded by their teams."""
    began, before = time.monotonic(), containers(PROGRAMS)
    for name in PROGRAMS:
        sh("../../deploy/helm/take-over", name, "--namespace", NAMESPACE, cwd=OUT, env={"HELM": f"{CLUSTER} helm", "KUBECTL": f"{CLUSTER} kubectl"}, timeout=120)
    if containers(PROGRAMS) != before:
        raise Failed(f"take-over restarted pods: {before} → {containers(PROGRAMS)}")
    say(f"  five releases of their own, the same pods, in {time.monotonic() - began:.0f} s")


def uninstall():
    for name in (*PROGRAMS, "crm"):
        helm("uninstall", name, "--wait", "--cascade", "foreground", "--timeout", "2m")
    left = kubectl("get", "all,cm,sa,pdb,netpol", "-l", "app.kubernetes.io/part-of=crm", "-o", "name").split()
    if left:
        raise Failed(f"helm uninstall left {left}")
    say("  helm uninstall left nothing")


def containers(names):
    """Pods and restarts of some programs."""
    return {n: [(p, [c["restartCount"] for c in v["status"]["containerStatuses"]]) for p, v in sorted(pods(of(n)).items())] for n in names}


# -- a service's team ships a field

def probe(wanted):
    say("  " + inside(sys.executable, HERE / "probe.py", get("svc", "gateway")["spec"]["clusterIP"], wanted, timeout=60).strip())


def next_release(t):
    """An optional field more: one image and its dialects; the other pods are those that were there."""
    sh("tests/contract", "--build-only", timeout=300)
    tree = ROOT / "build" / "contract"
    build("svc-customers", tag="next", cwd=tree, env={"VERSION": "next", "SOURCE_DATE_EPOCH": str(int(time.time()) + 3600)})
    sh(CLUSTER, "load", "localhost/crm-svc-customers:next", timeout=120)
    dialects = OUT / "dialects.yaml"
    dialects.write_text(sh(tree / "tools" / "fragments", "customers"))
    others = [n for n in PROGRAMS if n != "svc-customers"]
    before = containers(others)
    own = OUT / "svc-customers-values.yaml"
    probe("absent")
    t.during("svc-customers: a field more (helm upgrade)", upgrade("svc-customers", [own, dialects], "--set", "image.tag=next"))
    probe("served")
    t.during("svc-customers: back (helm rollback)", rollback("svc-customers"))
    probe("absent")
    if containers(others) != before:
        raise Failed(f"other pods changed: {before} → {containers(others)}")
    say("  the other pods are those that were there, none restarted")


# -- keys

def envelope(lines):
    data = base64.b64encode(("\n".join(lines) + "\n").encode()).decode()
    kubectl("patch", "secret", "crm-envelope", "-p", json.dumps({"data": {"envelope.key": data}}))


def metrics(selector="app.kubernetes.io/part-of=crm"):
    """{pod: what the program in it says on its admin port}"""
    found = {}
    for pod, p in pods(selector).items():
        port = next((x["containerPort"] for c in p["spec"]["containers"] for x in c.get("ports", []) if x["name"] == "admin"), None)
        if port and p["status"].get("phase") == "Running":
            found[pod] = inside("curl", "-sS", "-m", "3", f"http://{p['status']['podIP']}:{port}/metrics")
    return found


def keys_known(lines):
    """Every program has this file, in this order: it is looked at in the pods, since a Secret arrives in each at its own time (docs/operations.md)."""
    for pod, p in pods("app.kubernetes.io/part-of=crm").items():
        path = next((e["value"] for c in p["spec"]["containers"] for e in c.get("env", []) if e["name"] == "ENVELOPE_KEY_FILE"), None)
        if path and kubectl("exec", pod, "--", "cat", path).split() != lines:
            return False
    return all(re.search(rf"^crm_envelope_keys {len(lines)}$", text, re.M) for text in metrics().values())


def rotate_envelope_key():
    old = base64.b64decode(get("secret", "crm-envelope")["data"]["envelope.key"]).decode().split()
    new = secrets.token_hex(32)
    for lines in ([*old, new], [new, *old], [new]):
        envelope(lines)
        wait_until(f"all programs have {len(lines)} keys", lambda lines=lines: keys_known(lines), 120, 1)
        time.sleep(2)  # programs look every half second and believe what two looks agree on


def rotate_signing_key():
    say("  " + kubectl("exec", "deploy/svc-auth", "--", "svc-auth", "keys", "rotate").strip().splitlines()[-1])


# -- what is seen

def trace():
    """One write from HTTP to the audit log, as a tree: the one with the most spans of those that reach svc-audit."""
    spans = collections.defaultdict(list)
    for line in (OUT / "spans.jsonl").read_text().splitlines():
        span = json.loads(line)
        spans[span["trace"]].append(span)
    whole = {t: rows for t, rows in spans.items() if len(rows) < 60 and any(r["name"].startswith("POST /") for r in rows) and any(r["service"] == "svc-audit" for r in rows)}
    if not whole:
        raise Failed(f"none of {len(spans)} traces leads from HTTP to svc-audit")
    out = sh("tools/trace-tree", "--trace", max(whole, key=lambda t: len(whole[t])), OUT / "spans.jsonl")
    print(out, flush=True)
    return out


def look():
    """What whoever is on call would look at first."""
    for args in (["get", "pods", "-o", "wide"], ["get", "events", "--sort-by=.lastTimestamp"]):
        print(sh(CLUSTER, "kubectl", "-n", NAMESPACE, *args, check=False).stdout[-4000:], flush=True)
    for name in PROGRAMS:
        r = sh(CLUSTER, "kubectl", "-n", NAMESPACE, "logs", "-l", of(name), "--tail=8", "--prefix", check=False)
        print(r.stdout[-3000:], flush=True)


def end():
    for p in processes:
        p.terminate()
    for p in processes:
        p.wait(10)
