"""A broker that wants TLS and a password is reached by what BUS_URL says, and by nothing less."""

import json
import os
import subprocess
import uuid

import pytest

from conftest import OFFSET, wait_until
from documents import ROOT

TOOL = ROOT / "build" / os.environ.get("CRM_VARIANT", "release") / "bin" / "crm-bus"
PORT = 19192 + OFFSET
pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kafka")
    run = lambda *args: subprocess.run([str(ROOT / "deploy/local/kafka"), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
    r = run("secure", folder, PORT)
    try:
        assert r.returncode == 0, r.stdout + (folder / "log").read_text()[-2000:]
        yield folder
    finally:
        run("stop", folder)


def url(broker, **settings):
    given = {"partitions": 3, "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "crm", "sasl.password.file": broker / "password",
             "ssl.ca.location": str(broker / "ca.pem").replace("/", "%2F"), **settings}
    return f"kafka://127.0.0.1:{PORT}?" + "&".join(f"{k}={v}" for k, v in given.items() if v is not None)


def tool(*args, data=b""):
    return subprocess.run([str(TOOL), *map(str, args)], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150)


def test_records_go_there_and_come_back(broker):
    topic, event = "crm.secure-" + uuid.uuid4().hex[:8], str(uuid.uuid4())

    def publish():  # the broker answers its port before it is ready
        return tool(url(broker), "publish", topic, "key", event, data=b"value").returncode == 0
    wait_until(publish, 60, 1)
    rows = [json.loads(line) for line in tool(url(broker), "read", "--end", topic).stdout.splitlines()]
    assert {(r["id"], r["key"], r["bytes"]) for r in rows} == {(event, "key", 5)}
    password = (broker / "password").read_text().strip()
    assert tool(url(broker, **{"sasl.password.file": None, "sasl.password": password}), "read", "--end", topic).returncode == 0
    # as many partitions as the URL says
    ask = [x for k, v in (s.split("=", 1) for s in url(broker).split("?")[1].split("&")[1:]) if k != "sasl.password.file" for x in ("-X", f"{k}={v.replace('%2F', '/')}")]
    meta = subprocess.run(["kcat", "-b", f"127.0.0.1:{PORT}", *ask, "-X", f"sasl.password={password}", "-L", "-J", "-t", topic], stdout=subprocess.PIPE, timeout=60)
    assert len(json.loads(meta.stdout)["topics"][0]["partitions"]) == 3


def test_less_does_not_do(broker):
    for settings in ({"sasl.password.file": None, "sasl.password": "wrong"}, {"ssl.ca.location": None}, {"security.protocol": "PLAINTEXT"}):
        r = tool(url(broker, **settings), "read", "--end", "crm.*")
        assert r.returncode != 0 and b"does not answer" in r.stderr, (settings, r.stderr[-300:])


@pytest.mark.parametrize("query, word", [
    ("enable.idempotence=false", b"enable.idempotence"), ("acks=0", b"acks"), ("sasl.nonsense=1", b"sasl.nonsense"), ("sasl.password.file=/nowhere", b"/nowhere"),
    ("partitions=0", b"partitions"), ("security.protocol", b"security.protocol"),
])
def test_what_cannot_be_is_said_at_the_start(query, word):
    r = tool(f"kafka://127.0.0.1:9?{query}", "read", "--end", "x")
    assert r.returncode not in (0, 2) and (word in r.stderr or query.startswith("sasl.password.file") and b"cannot be read" in r.stderr), r.stderr
