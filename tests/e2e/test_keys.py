"""Signing keys are rotated by command while requests go on; nobody is refused for it."""

import base64
import json
import time

import pytest
import requests

from conftest import BASE, PASSWORD, Tenant, wait_until
from faults import Call, Load, crm, port, psql

pytestmark = [pytest.mark.slow]
NOBODY = "00000000-0000-0000-0000-000000000000"


def keys():
    return {k["state"]: k["kid"] for k in json.loads(crm("keys", "list", "-o", "json").stdout)}


def kid_of(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def login(tenant):
    r = requests.post(BASE["backend"] + "/auth/login", json={"email": tenant.email, "password": PASSWORD}, timeout=20)
    assert r.status_code == 200, r.text
    return r.json()["data"]["token"]


def age(state, column, seconds):
    """The waiting is left out: published two minutes, retired a day."""
    psql(f"UPDATE auth.signing_key SET {column} = {column} - interval '{seconds} seconds' WHERE state = '{state}'")


def events():
    return {t: int(n) for t, n in psql(f"SELECT type, count(*) FROM audit.entry WHERE tenant_id = '{NOBODY}' GROUP BY type")}


def rotate():
    """The kid that signs afterwards."""
    before = keys()
    r = crm("keys", "rotate")
    assert r.returncode == 0, r.stderr
    published = keys()
    assert published["current"] == before["current"] and published["next"] != before["current"]
    assert crm("keys", "rotate").returncode != 0, "one at a time"
    time.sleep(1)  # what two minutes are for: gateways hear of it within a second
    age("next", "created_at", 125)
    wait_until(lambda: keys().get("current") == published["next"], 20, 0.3)
    return published["next"]


class Fresh:
    """Logs in again and again: new tokens, by the newest key."""

    def __init__(self, tenant):
        self.tenant, self.call, self.kids = tenant, Call(port("API")), set()

    def __call__(self):
        token = login(self.tenant)
        self.kids.add(kid_of(token))
        return self.call("GET", "/api/v1/customers?limit=1", headers={"Authorization": f"Bearer {token}"}).status


def test_three_rotations_refuse_nobody(stack):
    age("old", "retired_at", 86700)  # of an earlier run
    wait_until(lambda: set(keys()) == {"current"}, 20, 0.3)
    time.sleep(2)  # what that told is in the log
    tenant, told = Tenant(), events()
    old = keys()["current"]
    assert kid_of(tenant.token) == old
    fresh = Fresh(tenant)

    def reader():
        call = Call(port("API"), tenant.token)
        return lambda: call("GET", "/api/v1/customers?limit=1").status
    with Load(reader, threads=6, pause=0.002) as hammered, Load(lambda: fresh, threads=1, pause=0.05) as logins:
        kids = [rotate() for _ in range(3)]
        wait_until(lambda: kid_of(login(tenant)) == kids[-1], 20)
    assert not hammered.failed() and not logins.failed(), (hammered.failed()[:3], logins.failed()[:3])
    assert len(hammered.rows) > 500 and len(logins.rows) > 20
    assert len({old, *kids}) == 4 and fresh.kids <= {old, *kids} and kids[-1] in fresh.kids | {kid_of(login(tenant))}
    # the first key still verifies what it has signed
    assert tenant.backend.get("/customers", params={"limit": 1}).status_code == 200
    # … until nothing of it can be alive
    latest = login(tenant)
    age("old", "retired_at", 86700)
    wait_until(lambda: set(keys()) == {"current"}, 20, 0.3)
    wait_until(lambda: tenant.backend.get("/customers", params={"limit": 1}).status_code == 401, 5)
    assert requests.get(BASE["backend"] + "/customers?limit=1", headers={"Authorization": f"Bearer {latest}"}, timeout=20).status_code == 200
    # each step is in the audit log of the installation itself
    wait_until(lambda: {t: n - told.get(t, 0) for t, n in events().items()} == {"auth.key.published": 3, "auth.key.rotated": 3, "auth.key.retired": 3}, 10, 0.3)
    assert psql(f"SELECT after->>'kid' FROM audit.entry WHERE tenant_id = '{NOBODY}' AND type = 'auth.key.rotated' ORDER BY seq DESC LIMIT 3") == [[k] for k in reversed(kids)]
