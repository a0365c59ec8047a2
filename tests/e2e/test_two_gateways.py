"""What somebody may do changes on every gateway, on every of its threads, within a second (S4's other half; docs/auth.md, Changes)."""

import time

import pytest
import requests

from conftest import AT_5000, Tenant
from faults import Gateway
from test_row_scopes import SALES, Person, lead, role_of

SECONDS = 1.0
AGAIN = 12  # connections of their own after the change was seen: every thread of a gateway has to know


@pytest.fixture(scope="module")
def gateways(stack, tmp_path_factory):
    with Gateway(tmp_path_factory.mktemp("second")) as g:
        yield [AT_5000 + "/api", g.at("saas")]


@pytest.fixture(scope="module")
def times(stack):
    seen = {}
    yield seen
    print("\nin force on two gateways after: " + ", ".join(f"{k}: {v * 1000:.0f} ms" for k, v in seen.items()))


def ask(at, token, path="/leads"):
    return requests.get(at + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)


def in_force(times, what, gateways, change, check):
    """change() is done; from then on check(gateway) has to become true everywhere within SECONDS, and stay so."""
    assert change().status_code < 300, what
    began = time.monotonic()
    for at in gateways:
        while not check(at):
            assert time.monotonic() - began < SECONDS, f"{what}: not on {at} within {SECONDS} s"
            time.sleep(0.01)
    times[what] = time.monotonic() - began
    time.sleep(max(0.0, SECONDS - times[what]))
    for at in gateways * AGAIN:
        assert check(at), f"{what}: not on every thread of {at}"


def test_every_kind_of_change_is_in_force_everywhere(gateways, times):
    t = Tenant()
    role = role_of(t, {})
    who = Person(t, role)
    mine = lead(who, "mine")
    theirs = lead(t, "theirs")
    key = t.native.post("/api-keys", json={"name": "k", "scope": ["leads.read"]}).json()
    for at in gateways:
        assert ask(at, who.token).status_code == 200 and ask(at, key["key"]).status_code == 200

    def status(code, path="/leads", token=None):
        return lambda at: ask(at, token or who.token, path).status_code == code

    def change_role(**body):
        return lambda: t.native.patch(f"/roles/{role}", json=body)

    in_force(times, "role loses a permission", gateways, change_role(permissions=["contacts.read"]), status(403))
    in_force(times, "role gets it back", gateways, change_role(permissions=SALES), status(200))
    in_force(times, "role limited to own rows", gateways, change_role(rowScopes={"leads": "own"}), status(404, f"/leads/{theirs}"))
    assert all(ask(at, who.token, f"/leads/{mine}").status_code == 200 for at in gateways)
    in_force(times, "limit taken away", gateways, change_role(rowScopes={}), status(200, f"/leads/{theirs}"))
    in_force(times, "permission taken from the member", gateways, lambda: t.backend.put(f"/users/{who.id}/permissions", json={"permissions": ["contacts.read"]}),
             status(403))
    in_force(times, "other role", gateways, lambda: t.backend.put(f"/users/{who.id}", json={"role": "agent"}), status(200))
    in_force(times, "deactivated", gateways, lambda: t.backend.patch(f"/users/{who.id}/status", json={"status": "inactive"}), status(401))
    who2 = Person(t, "agent")
    in_force(times, "member deleted", gateways, lambda: t.backend.delete(f"/users/{who2.id}"), status(401, token=who2.token))
    in_force(times, "API key revoked", gateways, lambda: t.native.delete(f"/api-keys/{key['id']}"), status(401, token=key["key"]))
    who3 = Person(t, "agent")
    in_force(times, "logged out", gateways, lambda: who3.backend.post("/auth/logout", json={}), status(401, token=who3.token))
