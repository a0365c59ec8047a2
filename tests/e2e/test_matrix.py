"""Every route × every kind of caller. What must be answered is worked out from the permissions in proto/ and the definitions of the roles
(routes.py), never from what is answered (S1, S8)."""

import http.client
import json
import re
import time
import uuid

import pytest
import requests

import routes
from conftest import BASE, HOST, OFFSET, PASSWORD, Tenant
from test_errors import shape_of

ROUTES = list(routes.routes())
# own rules of a method, beyond its permission: docs/auth.md
ALSO = {"Territories.AssignAccounts": {"customers.write"}}
NOBODY = "00000000-0000-0000-0000-000000000001"  # 403 must come before 404, and 404 where 403 must not come
ENDS_SESSIONS = {"Auth.Logout", "Auth.EndSessions"}


class Caller:
    def __init__(self, name, held, token=None, headers=None, stranger=False):
        self.name, self.held, self.token, self.headers, self.stranger = name, held, token, headers or {}, stranger
        self.again = None  # logs in again


def expected(route, caller):
    """The status that must come, or None: anything but 401 and 403."""
    if route.is_public():
        return "public"
    if caller.held is None:
        return 401
    if caller.stranger:
        return 403
    if not route.allows(caller.held):
        return 403
    if not route.needs - routes.NO_PERMISSION:
        return "any"  # whoever is logged in; the method's own rules decide
    return None


class Wire:
    def __init__(self):
        self.connection = http.client.HTTPConnection(HOST, 5000 + OFFSET, timeout=20)

    def send(self, route, caller):
        headers = {"X-CRM-Dialect": route.face, **caller.headers}
        if caller.token:
            headers["Authorization"] = f"Bearer {caller.token}"
        body = None
        if route.method in ("POST", "PUT", "PATCH"):
            headers["Content-Type"] = "application/json"
            body = b"{}"
        self.connection.request(route.method, re.sub(r"\{[^}]+\}", NOBODY, route.path), body, headers)
        r = self.connection.getresponse()
        return r.status, r.read()


def login(email):
    r = requests.post(BASE["saas"] + "/auth/login", json={"email": email, "password": PASSWORD}, timeout=20)
    assert r.status_code == 200, r.text
    return r.json()["token"]


def person(tenant, role):
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    r = tenant.backend.post("/users", json={"email": email, "name": "Ma Trix", "role": role, "password": PASSWORD})
    assert r.status_code == 201, r.text
    return email


@pytest.fixture(scope="module")
def callers(stack):
    tenant, other = Tenant(), Tenant()
    held = routes.roles()
    role = tenant.native.post("/roles", json={"title": "Nothing", "permissions": []}).json()["name"]
    scoped = tenant.native.post("/roles", json={"title": "Own leads", "permissions": ["leads.read"], "rowScopes": {"leads": "own"}}).json()["name"]
    key = tenant.native.post("/api-keys", json={"name": "poor", "scope": ["tags.read"]}).json()["key"]
    them = [Caller("no token", None), Caller("admin", held["admin"], tenant.token)]
    them[1].again = lambda: login(tenant.email)
    for name, of, permissions in (("manager", "manager", held["manager"]), ("agent", "agent", held["agent"]), ("custom role with nothing", role, set()),
                                  ("role limited to own rows", scoped, {"leads.read"})):
        email = person(tenant, of)
        c = Caller(name, permissions, login(email))
        c.again = lambda email=email: login(email)
        them.append(c)
    them.append(Caller("API key without scope", {"tags.read"}, key))
    them.append(Caller("other tenant's admin", held["admin"], other.token, {"X-Tenant-ID": tenant.session["tenantId"]}, stranger=True))
    return them


def wrong(route, caller, status, body):
    """Why the answer is not the expected one; None when it is."""
    want = expected(route, caller)
    if want == "public":
        return "5xx" if status >= 500 else None
    if want == "any":
        return f"{status}, want neither 401 nor 5xx" if status == 401 or status >= 500 else None
    if want is None:
        missing = ALSO.get(route.rpc, set()) - caller.held
        if status == 403 and missing:
            return None
        return f"{status}, want neither 401, 403 nor 5xx" if status in (401, 403) or status >= 500 else None
    if status != want:
        return f"{status}, want {want}"
    try:
        shape_of(route.face, json.loads(body))
    except (AssertionError, KeyError, TypeError, ValueError):
        return f"{status} in another shape"
    return None


def test_every_route_for_every_caller(callers, capsys):
    wire, bad, counts, started = Wire(), [], {}, time.monotonic()
    last = [r for r in ROUTES if r.rpc in ENDS_SESSIONS]
    for caller in callers:
        for route in [r for r in ROUTES if r not in last] + last:
            status, body = wire.send(route, caller)
            why = wrong(route, caller, status, body)
            if why:
                bad.append(f"{caller.name}: {route}: {why}: {body[:200]!r}")
            want = expected(route, caller)
            counts.setdefault(caller.name, {}).setdefault(str(want), 0)
            counts[caller.name][str(want)] += 1
            if route.rpc in ENDS_SESSIONS and caller.again:
                caller.token = caller.again()
    with capsys.disabled():
        print(f"\nmatrix: {len(ROUTES)} routes × {len(callers)} callers = {len(ROUTES) * len(callers)} in {time.monotonic() - started:.1f} s")
        for name, by in counts.items():
            print(f"  {name:26} " + ", ".join(f"{ {'None': 'allowed', 'any': 'logged in', 'public': 'public'}.get(k, k)}: {n}" for k, n in sorted(by.items())))
    assert not bad, f"{len(bad)} wrong:\n" + "\n".join(bad[:40])


def test_the_matrix_has_every_served_route(stack):
    """OpenAPI, the rows of the dialects and documented_routes.txt name the same routes."""
    for face in routes.FACES:
        document = requests.get(BASE["saas"].replace("/api", f"/openapi/{face}.json"), timeout=10).json()
        published = {(m.upper(), p) for p, item in document["paths"].items() for m in item if m in ("get", "post", "put", "patch", "delete")}
        rows = {(r.method, r.path) for r in ROUTES if r.face == face}
        assert published == rows, published ^ rows


def test_every_method_says_who_may(stack):
    of_rpc = routes.permissions()
    assert all(of_rpc.get(r.rpc) not in (None, "INTERNAL") for r in ROUTES)
    assert set(of_rpc.values()) - routes.NO_PERMISSION <= routes.every_permission()
