"""Generated from OpenAPI: every route without a token, with another tenant's token, with a key without scope (S1, S8)."""

import re

import pytest
import requests

from conftest import AT_5000, AT_8000, Face, Tenant

AT = {"backend": AT_5000, "saas": AT_5000, "system": AT_5000, "mvp": AT_8000, "elevate": AT_8000, "native": AT_5000}
PUBLIC = re.compile(r"/auth/(login|register|refresh)/?$|/auth/password/(forgot|reset)$|/invitations/accept$|/core/health/$")


def routes():
    for face, at in AT.items():
        try:
            document = requests.get(f"{at}/openapi/{face}.json", timeout=10).json()
        except requests.RequestException:
            return
        for path, methods in document["paths"].items():
            for method in methods:
                if method in ("get", "post", "put", "patch", "delete"):
                    yield face, method.upper(), path


ROUTES = list(routes())


@pytest.fixture(scope="module")
def victim(stack):
    t = Tenant()
    t.ids = {
        "lead": t.saas.post("/leads", json={"firstName": "Victim", "lastName": "Canary-4711"}).json()["id"],
        "contact": t.saas.post("/contacts", json={"firstName": "Victim", "lastName": "Canary-4711"}).json()["id"],
        "account": t.backend.post("/customers", json={"companyName": "Canary-4711"}).json()["data"]["id"],
        "territory": t.system.post("/territories/territories/", json={"name": "Canary-4711"}).json()["id"],
        "company": t.session["tenantId"],
        "user": t.backend.get("/auth/profile").json()["data"]["id"],
    }
    return t


def fill(path, ids):
    key = ("lead" if "lead" in path else "contact" if "contact" in path else "territory" if "territor" in path else "company" if "core/companies" in path
           else "user" if "user" in path else "account")
    return re.sub(r"\{[^}]+\}", lambda m: "lead" if m.group(0) == "{resource}" else str(ids[key]), path)


def test_there_are_routes(stack):
    assert len(ROUTES) > 60, ROUTES


@pytest.mark.parametrize("face, method, path", ROUTES, ids=lambda v: str(v))
def test_no_route_answers_without_a_token(victim, face, method, path):
    r = requests.request(method, AT[face] + fill(path, victim.ids), json={} if method != "GET" else None, timeout=20)
    if PUBLIC.search(path):
        assert r.status_code != 500
    else:
        assert r.status_code == 401, r.text


@pytest.mark.parametrize("face, method, path", [r for r in ROUTES if "{" in r[2]], ids=lambda v: str(v))
def test_no_route_reaches_another_tenant(victim, other, face, method, path):
    r = requests.request(method, AT[face] + fill(path, victim.ids), headers={"Authorization": f"Bearer {other.token}"},
                         json={"name": "Taken over", "firstName": "Taken", "lastName": "Over", "account_ids": []} if method != "GET" else None, timeout=20)
    assert r.status_code in (404, 400, 403, 422) or (r.status_code == 200 and "Canary-4711" not in r.text and ("audit" in path or path.endswith("/movements"))), (r.status_code, r.text)
    assert "Canary-4711" not in r.text


@pytest.mark.parametrize("face, method, path", ROUTES, ids=lambda v: str(v))
def test_a_key_without_scope_is_refused(victim, face, method, path):
    if not hasattr(victim, "poor"):
        made = victim.native.post("/api-keys", json={"name": "poor", "scope": ["tags.read"]})
        assert made.status_code == 201, made.text
        victim.poor = made.json()["key"]
    allowed = PUBLIC.search(path) or re.search(r"/auth/|/core/|customers/tags$", path)
    r = requests.request(method, AT[face] + fill(path, victim.ids), headers={"Authorization": f"Bearer {victim.poor}"}, json={} if method != "GET" else None, timeout=20)
    if not allowed:
        assert r.status_code == 403, r.text
    assert r.status_code < 500


def test_nothing_of_the_victim_changed(victim):
    assert victim.saas.get(f"/leads/{victim.ids['lead']}").json()["lastName"] == "Canary-4711"
    assert victim.backend.get(f"/customers/{victim.ids['account']}").json()["data"]["companyName"] == "Canary-4711"


def test_references_into_another_tenant_do_not_exist(victim, other):
    their_account = int(victim.system.get("/crm/accounts/").json()["results"][0]["id"])
    r = other.system.post("/crm/contacts/", json={"first_name": "A", "last_name": "B", "account": victim.ids["account"]})
    assert r.status_code == 400, r.text
    r = other.backend.post("/customers", json={"companyName": "x", "assignedTo": victim.ids["user"]})
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "assignedTo", r.text
    assert their_account > 0
