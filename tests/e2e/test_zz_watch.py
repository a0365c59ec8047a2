"""A gateway that ends hands on what it has counted. Restarts the stack's gateway, so it runs late."""

import os
import pathlib
import subprocess
import time

import pytest
import requests

from conftest import BASE, wait_until

pytestmark = [pytest.mark.bus, pytest.mark.faults]
CRM = pathlib.Path(__file__).resolve().parents[2] / "crm"
RUN = pathlib.Path(os.environ.get("CRM_RUN_DIR") or CRM.parent / ".run")


def counts(tenant):
    rows = tenant.backend.get("/audit/logs", params={"search": "audit.access.token_refused"}).json()["data"]
    return [r["after"]["count"] for r in rows]


@pytest.mark.skipif(not (RUN / "supervisor.pid").exists(), reason="the stack was not started by ./crm")
def test_nothing_is_lost_when_the_gateway_ends(fresh):
    wait_until(lambda: fresh.backend.get("/audit/logs").json()["meta"]["total"] > 0)
    header, payload, signature = fresh.token.split(".")
    forged = {"Authorization": f"Bearer {header}.{payload}.{signature[::-1]}"}
    time.sleep((63 - time.time() % 60) % 60 if time.time() % 60 > 45 else 0)  # all within one minute
    for _ in range(30):
        assert requests.get(BASE["saas"] + "/leads", headers=forged, timeout=20).status_code == 401
    wait_until(lambda: counts(fresh), 8.0)
    for _ in range(20):
        assert requests.get(BASE["saas"] + "/leads", headers=forged, timeout=20).status_code == 401
    before = sum(int(n) for n in counts(fresh))
    assert before < 50, "the rest of the minute waits"
    assert subprocess.run([str(CRM), "restart", "gateway"], stdout=subprocess.DEVNULL, timeout=60).returncode == 0

    def all_of_them():
        try:
            return sum(int(n) for n in counts(fresh)) == 50
        except (requests.ConnectionError, KeyError, ValueError):
            return False

    wait_until(all_of_them, 20.0, 0.2)
    assert len(counts(fresh)) == 2
