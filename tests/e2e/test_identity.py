"""Logins in five shapes, refresh policies, logout, tenants, keys."""

import base64
import concurrent.futures
import json

import pytest
import requests

from conftest import BASE, PASSWORD, Face, Tenant, wait_until


def login(face, tenant, **more):
    r = requests.post(BASE[face] + "/auth/login" + ("/" if face == "system" else ""), json={"email": tenant.email, "password": PASSWORD, **more}, timeout=20)
    assert r.status_code == 200, r.text
    return r.json()


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_five_logins_one_person(tenant):
    a, b, c, d, e = (login(f, tenant) for f in ("backend", "saas", "system", "mvp", "elevate"))
    assert set(b) == {"token", "refreshToken", "expiresIn", "tenantId", "userId"} and b["expiresIn"] == 3600
    assert set(c) == {"access", "refresh", "user"} and c["user"] == {"id": 1, "email": tenant.email, "first_name": "Ada", "last_name": "Lovelace"}
    assert set(d) == {"token", "user"} and d["user"] == {"id": "user_1", "email": tenant.email, "name": "Ada Lovelace"}
    assert set(e) == {"access_token", "refresh_token", "token_type", "user"} and set(e["user"]) == {"id", "email", "full_name", "company_id"}
    data = a["data"]
    assert a["success"] is True and data["user"]["role"] == "admin" and data["user"]["tenantId"] == data["tenant"]["id"] == e["user"]["company_id"]
    assert {"read", "write", "delete", "manage_customers"} <= set(data["user"]["permissions"])
    for token in (data["token"], b["token"], c["access"], d["token"], e["access_token"]):
        assert Face("saas", token).get("/leads").status_code == 200
    said = claims(b["token"])
    assert said["nameid"] == b["userId"] and said["tenantid"] == b["tenantId"] and said["exp"] - said["iat"] == 3600
    assert claims(d["token"])["exp"] - claims(d["token"])["iat"] > 3600


def test_form_login_and_json_login_are_the_same(tenant):
    r = requests.post(BASE["system"] + "/auth/login/", {"email": tenant.email, "password": PASSWORD}, timeout=20)
    assert r.status_code == 200 and set(r.json()) == {"access", "refresh", "user"}


def test_registration_in_three_shapes(unique):
    r = requests.post(BASE["system"] + "/auth/register/", json={"email": f"c-{unique}@example.com", "first_name": "Jane", "last_name": "Smith", "password": "password123", "password2": "password123", "company_name": "New Company"}, timeout=20)
    assert r.status_code == 201, r.text
    r = requests.post(BASE["elevate"] + "/auth/register", json={"email": f"e-{unique}@example.com", "password": "securePassword123", "full_name": "John Doe", "company_name": "ACME", "company_size": "small", "industry": "technology"}, timeout=20)
    assert r.status_code == 201 and r.json()["user"]["full_name"] == "John Doe", r.text
    profile = Face("system", r.json()["access_token"]).get("/core/profile/").json()
    assert (profile["first_name"], profile["last_name"], profile["companies"][0]["name"], profile["companies"][0]["role"]) == ("John", "Doe", "ACME", "admin")
    r = requests.post(BASE["saas"] + "/auth/register", json={"email": f"E-{unique}@Example.com", "password": "Admin@123", "tenantName": "x"}, timeout=20)
    assert r.status_code == 409 and r.json()["error"]["code"] == "DUPLICATE"
    r = requests.post(BASE["system"] + "/auth/register/", json={"email": "x", "password": "short", "password2": "other"}, timeout=20)
    assert r.status_code == 400 and {"email", "password"} <= set(r.json()["error"]["details"])


def test_saas_refresh_rotates_and_reuse_kills_the_family(fresh):
    first = login("saas", fresh)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": first["refreshToken"]}, timeout=20), range(20)))
    assert {r.status_code for r in answers} == {200}
    assert len({r.json()["refreshToken"] for r in answers}) == 1 and answers[0].json()["refreshToken"] != first["refreshToken"]
    assert set(answers[0].json()) == {"token", "refreshToken", "expiresIn"}
    assert requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": "invented"}, timeout=20).status_code == 401


@pytest.mark.parametrize("face, path, member, access", [("backend", "/auth/refresh", "refreshToken", "token"), ("system", "/auth/refresh/", "refresh", "access"), ("elevate", "/auth/refresh", "refresh_token", "access_token")])
def test_other_refreshes_slide(fresh, face, path, member, access):
    session = login(face, fresh)
    refresh = session["data"][member] if face == "backend" else session[member]
    for _ in range(3):
        r = requests.post(BASE[face] + path, json={member: refresh}, timeout=20)
        assert r.status_code == 200, r.text
        body = r.json()["data"] if face == "backend" else r.json()
        assert member not in body
        assert Face("saas", body[access]).get("/leads").status_code == 200


def test_logout_by_refresh_token_and_by_access_token(fresh):
    a = login("backend", fresh)["data"]
    r = Face("backend", a["token"]).post("/auth/logout", json={"refreshToken": a["refreshToken"]})
    assert r.status_code == 200 and r.json()["success"] is True
    assert requests.post(BASE["backend"] + "/auth/refresh", json={"refreshToken": a["refreshToken"]}, timeout=20).status_code == 401
    wait_until(lambda: Face("backend", a["token"]).get("/auth/profile").status_code == 401, 1.5)
    e = login("elevate", fresh)
    r = Face("elevate", e["access_token"]).post("/auth/logout")
    assert r.status_code == 200 and r.json() == {"message": "Successfully logged out"}
    wait_until(lambda: Face("elevate", e["access_token"]).get("/customers").status_code == 401, 1.5)
    assert fresh.elevate.get("/customers").status_code == 200, "another session of the same person goes on"


def test_profile(fresh):
    r = fresh.backend.put("/auth/profile", json={"name": "Countess Lovelace", "preferences": {"theme": "dark"}})
    assert r.status_code == 200, r.text
    p = fresh.backend.get("/auth/profile").json()["data"]
    assert p["name"] == "Countess Lovelace" and p["preferences"] == {"theme": "dark"} and p["email"] == fresh.email
    assert "read" in fresh.backend.get("/auth/permissions").json()["data"]
    r = fresh.backend.put("/auth/profile", json={"role": "owner", "email": "x@y.example"})
    assert r.status_code == 200 and fresh.backend.get("/auth/profile").json()["data"]["email"] == fresh.email


def test_users_in_three_faces(tenant):
    b = tenant.saas.get("/users").json()
    assert b["totalCount"] == 1 and b["items"][0]["role"] == "Admin" and b["items"][0]["id"] == "user_1"
    c = tenant.system.get("/system-config/users/").json()
    assert c["count"] == 1 and c["results"][0]["email"] == tenant.email and c["results"][0]["is_active"] is True
    a = tenant.backend.get("/users", params={"search": tenant.email}).json()
    assert a["meta"]["total"] == 1
    assert tenant.backend.get(f"/users/{a['data'][0]['id']}").json()["data"]["email"] == tenant.email


def test_companies_are_tenants_and_the_tenant_header_switches(fresh, other):
    made = fresh.system.post("/core/companies/", json={"name": "Second Company"})
    assert made.status_code == 201, made.text
    listed = fresh.system.get("/core/companies/").json()
    assert {r["name"] for r in listed["results"]} >= {"Second Company"} and listed["count"] == 2
    fresh.saas.post("/leads", json={"firstName": "In", "lastName": "First"})
    switch = {"X-Tenant-ID": str(made.json()["id"])}
    assert fresh.saas.get("/leads", headers=switch).json()["totalCount"] == 0
    assert fresh.saas.get("/leads").json()["totalCount"] == 1
    foreign = other.session["tenantId"]
    for value in (foreign, "0190aaaa-0000-7000-8000-000000000000", "garbage"):
        assert fresh.saas.get("/leads", headers={"X-Tenant-ID": value}).status_code == 403
    assert fresh.system.get(f"/core/companies/{foreign.split('_')[1]}/").status_code == 404


def test_api_keys_work_and_end_within_a_second(fresh):
    made = fresh.native.post("/api-keys", json={"name": "ci", "scope": ["leads.read"]})
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    assert Face("mvp", key).get("/leads").status_code == 200
    assert Face("mvp", key).post("/leads", json={"name": "X"}).status_code == 403
    listed = fresh.native.get("/api-keys").json()
    assert listed["items"][0]["name"] == "ci" and "key" not in listed["items"][0]
    assert Face("mvp", key[:-1] + ("a" if key[-1] != "a" else "b")).get("/leads").status_code == 401
    assert fresh.native.delete(f"/api-keys/{made.json()['id']}").status_code == 204
    wait_until(lambda: Face("mvp", key).get("/leads").status_code == 401, 1.5)
