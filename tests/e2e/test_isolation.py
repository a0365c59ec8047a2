"""Generated from OpenAPI: every route with another tenant's ids (S1). Who may call what at all: test_matrix.py."""

import re

import pytest
import requests

from conftest import AT_5000, AT_8000, Tenant
from faults import psql

AT = {"backend": AT_5000, "saas": AT_5000, "system": AT_5000, "mvp": AT_8000, "elevate": AT_8000, "native": AT_5000}


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


def sent(method, path, body):
    """What a route wants: nothing, a file, or JSON."""
    if method == "GET":
        return {}
    return {"files": {"avatar": ("x.png", PICTURE, "image/png")}} if path.endswith("/avatar") else {"json": body}


PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\0\0\0\0"


def test_there_are_routes(stack):
    assert len(ROUTES) > 60, ROUTES


@pytest.mark.parametrize("face, method, path", [r for r in ROUTES if "{" in r[2]], ids=lambda v: str(v))
def test_no_route_reaches_another_tenant(victim, other, face, method, path):
    r = requests.request(method, AT[face] + fill(path, victim.ids), headers={"Authorization": f"Bearer {other.token}"},
                         timeout=20, **sent(method, path, {"name": "Taken over", "firstName": "Taken", "lastName": "Over", "account_ids": []}))
    assert r.status_code in (404, 400, 403, 422) or (r.status_code == 200 and "Canary-4711" not in r.text and ("audit" in path or path.endswith(("/movements", "/notes", "/activity", "/results", "/results/file")))), (r.status_code, r.text)
    assert "Canary-4711" not in r.text


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


def test_every_tenant_table_is_behind_its_wall(stack):
    """All schemas: row-level security, forced, with a policy; no role of a service may step around it or owns what it reads (S1)."""
    before_a_tenant_is_known = {("auth", "session"), ("auth", "mfa_challenge")}  # docs/auth.md, Data
    bare = psql("SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid"
                " WHERE n.nspname IN ('auth', 'customers', 'sales', 'audit') AND c.relkind IN ('r', 'p') AND a.attname = 'tenant_id' AND NOT a.attisdropped"
                " AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive))")
    assert {tuple(row) for row in bare} <= before_a_tenant_is_known, bare
    assert not psql("SELECT rolname FROM pg_roles WHERE rolname ~ '_(app|relay|owner)$' AND (rolsuper OR rolbypassrls OR rolcreaterole)")
    assert not psql("SELECT c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname ~ '_(app|relay)$'")
    limited = psql("SELECT relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid WHERE p.polname = 'scope' AND NOT p.polpermissive ORDER BY 1")
    assert {("account",), ("contact",), ("lead",)} <= {tuple(r) for r in limited}, limited
