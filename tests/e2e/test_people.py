"""An administrator runs the staff: users, roles, permissions, invitations, passwords, sessions."""

import base64
import email
import email.policy
import os
import pathlib
import re

import pytest
import requests

from conftest import BASE, PASSWORD, Face, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTBOX = pathlib.Path(os.environ.get("CRM_RUN_DIR") or ROOT / ".run") / "outbox"


def mails_to(address):
    found = []
    for path in sorted(OUTBOX.glob("*.eml")):
        m = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if m["To"].strip("<>") == address:
            found.append(m)
    return found


def token_mailed(address, count=1):
    if not OUTBOX.is_dir():
        pytest.skip("the stack's mail folder is not here")
    wait_until(lambda: len(mails_to(address)) >= count, 5)
    text = mails_to(address)[-1].get_content()
    return re.search(r"token=(\S+)", text).group(1)


def login(address, password=PASSWORD):
    return requests.post(BASE["backend"] + "/auth/login", json={"email": address, "password": password}, timeout=20)


class Staff:
    """Somebody whom the administrator made."""

    def __init__(self, tenant, role, unique):
        self.email = f"{role}-{unique}@example.com"
        r = tenant.backend.post("/users", json={"name": f"{role.title()} Person", "email": self.email, "role": role, "password": PASSWORD})
        assert r.status_code == 201, r.text
        self.id = r.json()["data"]["id"]
        self.user = r.json()["data"]
        data = login(self.email).json()["data"]
        self.token, self.refresh = data["token"], data["refreshToken"]
        for name in BASE:
            setattr(self, name, Face(name, self.token))


@pytest.fixture
def agent(fresh, unique):
    return Staff(fresh, "agent", unique)


@pytest.fixture
def manager(fresh, unique):
    return Staff(fresh, "manager", unique)


def admin_id(tenant):
    return tenant.backend.get("/auth/profile").json()["data"]["id"]


def test_create_read_update_delete(fresh, unique):
    r = fresh.backend.post("/users", json={"name": "John Doe", "email": f"John-{unique}@company.com", "role": "agent", "password": PASSWORD, "avatar": "https://example.com/a.png", "permissions": ["read", "write"]})
    assert r.status_code == 201, r.text
    u = r.json()["data"]
    assert (u["name"], u["email"], u["role"], u["status"], u["avatar"]) == ("John Doe", f"john-{unique}@company.com", "agent", "active", "https://example.com/a.png")
    assert {"read", "write"} <= set(u["permissions"]) and "password" not in r.text.lower()
    assert fresh.backend.get(f"/users/{u['id']}").json()["data"] == u
    assert login(u["email"]).json()["data"]["user"]["id"] == u["id"]
    r = fresh.backend.put(f"/users/{u['id']}", json={"name": "Jane Roe", "role": "manager"})
    assert r.status_code == 200 and (r.json()["data"]["name"], r.json()["data"]["role"], r.json()["data"]["email"]) == ("Jane Roe", "manager", u["email"]), r.text
    session = login(u["email"]).json()["data"]
    assert fresh.backend.delete(f"/users/{u['id']}").status_code == 200
    assert fresh.backend.get(f"/users/{u['id']}").status_code == 404
    assert login(u["email"]).status_code == 401
    wait_until(lambda: Face("backend", session["token"]).get("/customers").status_code == 401, 1.5)
    assert requests.post(BASE["backend"] + "/auth/refresh", json={"refreshToken": session["refreshToken"]}, timeout=20).status_code == 401
    assert u["id"] not in {x["id"] for x in fresh.backend.get("/users").json()["data"]}
    back = fresh.backend.post("/users", json={"name": "John Again", "email": u["email"], "role": "agent", "password": PASSWORD + "x"})
    assert back.status_code == 201 and back.json()["data"]["id"] == u["id"], back.text
    assert login(u["email"]).status_code == 401 and login(u["email"], PASSWORD + "x").status_code == 200


def test_bad_input(fresh, other, unique):
    post = lambda **kw: fresh.backend.post("/users", json={"name": "N", "email": f"bad-{unique}@example.com", "role": "agent", "password": PASSWORD, **kw})
    for kw in ({"email": None}, {"email": "nonsense"}, {"password": "short"}, {"role": "emperor"}, {"name": None}, {"name": "x" * 201}, {"permissions": ["fly"]}, {"email": 7}):
        r = post(**kw)
        assert r.status_code == 422 and r.json()["errors"], (kw, r.status_code, r.text)
    assert post(email=fresh.email).status_code == 409
    assert post(email=other.email).status_code == 409
    assert fresh.backend.get(f"/users/{admin_id(other)}").status_code == 404
    for method in ("put", "delete"):
        assert getattr(fresh.backend, method)(f"/users/{admin_id(other)}", **({"json": {"name": "X"}} if method == "put" else {})).status_code == 404


def test_a_change_of_role_is_in_force_within_a_second(fresh, agent):
    assert agent.backend.post("/users", json={"name": "X", "email": "x@example.com"}).status_code == 403
    assert fresh.backend.put(f"/users/{agent.id}", json={"role": "manager"}).status_code == 200
    wait_until(lambda: agent.backend.get("/users/roles").status_code == 200, 1.5)
    assert fresh.backend.put(f"/users/{agent.id}", json={"role": "agent"}).status_code == 200
    wait_until(lambda: agent.backend.get("/users/roles").status_code == 403, 1.5)


def test_deactivation_is_in_force_within_a_second(fresh, agent):
    r = fresh.backend.patch(f"/users/{agent.id}/status", json={"status": "inactive"})
    assert r.status_code == 200 and r.json()["data"]["status"] == "inactive", r.text
    wait_until(lambda: agent.backend.get("/customers").status_code == 401, 1.5)
    assert login(agent.email).status_code == 401
    assert fresh.backend.patch(f"/users/{agent.id}/status").json()["data"]["status"] == "active", "without a body it is the other one"
    assert login(agent.email).status_code == 200
    assert agent.backend.get("/customers").status_code == 401, "an old token does not come back to life"


def test_the_last_administrator_stays(fresh, unique):
    me = admin_id(fresh)
    for r in (fresh.backend.put(f"/users/{me}", json={"role": "agent"}), fresh.backend.patch(f"/users/{me}/status", json={"status": "inactive"}),
              fresh.backend.delete(f"/users/{me}"), fresh.backend.put(f"/users/{me}/permissions", json={"permissions": ["customers.read"]}),
              fresh.backend.post("/users/bulk-update", json={"ids": [me], "updates": {"role": "user"}})):
        assert r.status_code == 409, r.text
    second = Staff(fresh, "admin", unique)
    assert second.backend.put(f"/users/{me}", json={"role": "agent"}).status_code == 200
    assert second.backend.delete(f"/users/{second.id}").status_code == 409


def test_nobody_gives_or_touches_more_than_they_have(fresh, manager, unique):
    assert manager.backend.post("/users", json={"name": "B", "email": f"b-{unique}@example.com", "role": "admin"}).status_code == 403
    made = manager.backend.post("/users", json={"name": "B", "email": f"b-{unique}@example.com", "role": "agent", "password": PASSWORD})
    assert made.status_code == 201, made.text
    them = made.json()["data"]["id"]
    assert manager.backend.put(f"/users/{them}", json={"role": "admin"}).status_code == 403
    assert manager.backend.put(f"/users/{them}/permissions", json={"permissions": ["tenants.delete"]}).status_code == 403
    assert manager.backend.delete(f"/users/{them}").status_code == 403
    me = admin_id(fresh)
    for r in (manager.backend.put(f"/users/{me}", json={"name": "Mallory"}), manager.backend.post(f"/users/{me}/reset-password"),
              manager.backend.patch(f"/users/{me}/status", json={"status": "inactive"}), manager.backend.post("/users/invitations", json={"email": f"i-{unique}@example.com", "role": "admin"})):
        assert r.status_code == 403, r.text
    assert manager.backend.post("/users/roles", json={"name": "Mine", "permissions": ["customers.read"]}).status_code == 403


def test_permissions_of_one_user(fresh, agent):
    at = f"/users/{agent.id}/permissions"
    p = fresh.backend.get(at).json()["data"]
    assert p["role"] == "agent" and "customers.write" in p["permissions"] and "customers.delete" not in p["permissions"] and p["granted"] == p["denied"] == []
    r = fresh.backend.put(at, json={"permissions": ["read", "customers.delete"]})
    assert r.status_code == 200, r.text
    p = r.json()["data"]
    assert p["granted"] == ["customers.delete"] and "leads.write" in p["denied"] and "customers.delete" in p["permissions"] and "leads.write" not in p["permissions"]
    wait_until(lambda: agent.backend.post("/customers", json={"companyName": "X"}).status_code == 403, 1.5)
    assert fresh.backend.put(at, json={"permissions": p["permissions"]}).json()["data"]["permissions"] == p["permissions"], "what is read can be written back"
    assert fresh.backend.put(at, json={"permissions": ["fly"]}).status_code == 422
    assert fresh.backend.put(at, json={"permissions": ["read", "write"]}).json()["data"]["denied"] == []


def test_roles_of_the_company(fresh, other, agent):
    names = {r["id"] for r in fresh.backend.get("/users/roles").json()["data"]}
    assert names == {"admin", "manager", "agent", "user"}
    made = fresh.backend.post("/users/roles", json={"name": "Sales Lead", "description": "Leads only", "permissions": ["leads.read", "users.read"]})
    assert made.status_code == 201, made.text
    role = made.json()["data"]
    assert (role["id"], role["name"], role["permissions"], role["builtIn"]) == ("sales_lead", "Sales Lead", ["leads.read", "users.read"], False)
    assert fresh.backend.post("/users/roles", json={"name": "sales lead"}).status_code == 409
    assert fresh.backend.post("/users/roles", json={"name": "Admin"}).status_code == 409
    assert fresh.backend.post("/users/roles", json={"permissions": []}).status_code == 422
    assert fresh.backend.post("/users/roles", json={"name": "Bad", "permissions": ["fly"]}).status_code == 422
    assert fresh.backend.put(f"/users/{agent.id}", json={"role": "sales_lead"}).status_code == 200
    wait_until(lambda: agent.backend.get("/customers").status_code == 403, 1.5)
    assert agent.saas.get("/leads").status_code == 200
    assert agent.saas.post("/leads", json={"firstName": "A", "lastName": "B"}).status_code == 403
    r = fresh.backend.put("/users/roles/sales_lead", json={"permissions": ["leads.read", "leads.write"]})
    assert r.status_code == 200 and r.json()["data"]["name"] == "Sales Lead" and r.json()["data"]["userCount"] == 1, r.text
    wait_until(lambda: agent.saas.post("/leads", json={"firstName": "A", "lastName": "B"}).status_code == 201, 1.5)
    assert other.backend.put("/users/roles/sales_lead", json={"name": "X"}).status_code == 404
    assert fresh.backend.delete("/users/roles/sales_lead").status_code == 409, "somebody has it"
    assert fresh.backend.put(f"/users/{agent.id}", json={"role": "user"}).status_code == 200
    assert fresh.backend.delete("/users/roles/sales_lead").status_code == 200
    assert fresh.backend.delete("/users/roles/sales_lead").status_code == 404
    assert fresh.backend.delete("/users/roles/admin").status_code == 409
    catalogue = fresh.backend.get("/users/permissions").json()["data"]
    assert {"id": "customers.read", "name": "customers.read", "resource": "customers", "action": "read"} in catalogue


def test_stats_bulk_and_activity(fresh, agent, unique):
    second = Staff(fresh, "user", unique + "b")
    r = fresh.backend.post("/users/bulk-update", json={"ids": [agent.id, second.id], "updates": {"role": "manager"}})
    assert r.status_code == 200 and r.json()["data"] == {"updated": 2}, r.text
    stats = fresh.backend.get("/users/stats").json()["data"]
    assert (stats["total"], stats["active"], stats["inactive"]) == (3, 3, 0) and {"role": "manager", "count": 2} in stats["byRole"]
    r = fresh.backend.post("/users/bulk-update", json={"ids": [agent.id, admin_id(fresh)], "updates": {"status": "inactive"}})
    assert r.status_code == 409 and fresh.backend.get(f"/users/{agent.id}").json()["data"]["status"] == "active", "all or none"
    assert fresh.backend.post("/users/bulk-update", json={"ids": [], "updates": {"role": "user"}}).status_code == 422
    rows = wait_until(lambda: [x for x in fresh.backend.get(f"/users/{admin_id(fresh)}/activity", params={"limit": 100}).json()["data"] if x["event"] == "auth.user.role_changed"], 5)
    assert {x["resourceId"] for x in rows} == {agent.id, second.id}
    assert all(x["userId"] == agent.id for x in fresh.backend.get(f"/users/{agent.id}/activity").json()["data"])


def test_invitation_from_mail_to_work(fresh, unique):
    address = f"new-{unique}@example.com"
    made = fresh.backend.post("/users/invitations", json={"email": address, "role": "agent", "name": "New Person"})
    assert made.status_code == 201, made.text
    at = f"/users/invitations/{made.json()['data']['id']}"
    assert [x["email"] for x in fresh.backend.get("/users/invitations").json()["data"]] == [address]
    assert fresh.backend.post("/users/invitations", json={"email": address}).status_code == 409
    first = token_mailed(address)
    assert fresh.backend.post(at + "/resend").status_code == 200
    second = token_mailed(address, 2)
    accept = lambda token, password=PASSWORD: requests.post(BASE["native"] + "/invitations/accept", json={"token": token, "password": password}, timeout=20)
    assert accept(first).status_code == 422, "the first link is dead"
    r = accept(second)
    assert r.status_code == 201 and r.json()["user"]["email"] == address and r.json()["user"]["role"] == "agent", r.text
    assert Face("backend", r.json()["token"]).get("/customers").status_code == 200
    assert accept(second).status_code == 422
    assert login(address).json()["data"]["user"]["name"] == "New Person"
    assert fresh.backend.get("/users/invitations").json()["data"] == []
    assert fresh.backend.post("/users/invitations", json={"email": address}).status_code == 409, "a member already"


def test_invited_people_keep_their_account(fresh, other):
    made = fresh.backend.post("/users/invitations", json={"email": other.email, "role": "manager"})
    assert made.status_code == 201, made.text
    token = token_mailed(other.email)
    accept = lambda password: requests.post(BASE["native"] + "/invitations/accept", json={"token": token, "password": password}, timeout=20)
    assert accept("not my password").status_code == 401
    r = accept(PASSWORD)
    assert r.status_code == 201 and r.json()["user"]["role"] == "manager", r.text
    them = r.json()["user"]["id"]
    assert {t["name"] for t in other.system.get("/core/companies/").json()["results"]} >= {"Acme " + fresh.email[6:12]}
    r = fresh.backend.put(f"/users/{them}", json={"email": "taken@over.example"})
    assert r.status_code == 422, "an administrator cannot take over an account of two companies"
    assert fresh.backend.put(f"/users/{them}", json={"role": "agent"}).status_code == 200
    assert fresh.backend.delete(f"/users/{them}").status_code == 200
    assert login(other.email).status_code == 200, "they still belong to the other company"


def test_cancelled_invitation(fresh, unique):
    address = f"gone-{unique}@example.com"
    id = fresh.backend.post("/users/invitations", json={"email": address}).json()["data"]["id"]
    token = token_mailed(address)
    assert fresh.backend.delete(f"/users/invitations/{id}").status_code == 200
    assert fresh.backend.delete(f"/users/invitations/{id}").status_code == 404
    assert requests.post(BASE["native"] + "/invitations/accept", json={"token": token, "password": PASSWORD}, timeout=20).status_code == 422


def test_forgotten_password(fresh):
    ask = lambda address: requests.post(BASE["native"] + "/auth/password/forgot", json={"email": address}, timeout=20)
    assert ask(fresh.email).status_code == ask("nobody-" + fresh.email).status_code == 204
    token = token_mailed(fresh.email)
    reset = lambda password: requests.post(BASE["native"] + "/auth/password/reset", json={"token": token, "newPassword": password}, timeout=20)
    assert reset("short").status_code == 422
    assert reset("another good one").status_code == 204
    assert reset("yet another one").status_code == 422, "used up"
    wait_until(lambda: fresh.backend.get("/auth/profile").status_code == 401, 1.5)
    assert login(fresh.email).status_code == 401 and login(fresh.email, "another good one").status_code == 200


def test_administrator_resets_a_password_without_learning_it(fresh, agent):
    r = fresh.backend.post(f"/users/{agent.id}/reset-password")
    assert r.status_code == 200 and r.json()["data"] is None, r.text
    wait_until(lambda: agent.backend.get("/customers").status_code == 401, 1.5)
    token = token_mailed(agent.email)
    assert requests.post(BASE["native"] + "/auth/password/reset", json={"token": token, "newPassword": "chosen by myself"}, timeout=20).status_code == 204
    assert login(agent.email, "chosen by myself").status_code == 200


def test_user_without_password_chooses_one(fresh, unique):
    address = f"later-{unique}@example.com"
    assert fresh.backend.post("/users", json={"name": "Later", "email": address, "role": "user"}).status_code == 201
    assert login(address).status_code == 401
    token = token_mailed(address)
    assert requests.post(BASE["native"] + "/auth/password/reset", json={"token": token, "newPassword": "chosen by myself"}, timeout=20).status_code == 204
    assert login(address, "chosen by myself").status_code == 200


def test_password_change_ends_other_sessions(fresh):
    elsewhere = login(fresh.email).json()["data"]["token"]
    change = lambda old, new: fresh.native.post("/auth/password", json={"currentPassword": old, "newPassword": new})
    assert change("wrong password", "a new password").status_code == 422
    assert change(PASSWORD, "a new password").status_code == 204
    wait_until(lambda: Face("backend", elsewhere).get("/auth/profile").status_code == 401, 1.5)
    assert fresh.backend.get("/auth/profile").status_code == 200
    assert login(fresh.email).status_code == 401 and login(fresh.email, "a new password").status_code == 200


def test_my_sessions(fresh, other):
    elsewhere = login(fresh.email).json()["data"]["token"]
    rows = fresh.native.get("/auth/sessions").json()["items"]
    assert len(rows) == 2 and sorted(x["current"] for x in rows) == [False, True] and rows[0]["ip"]
    theirs = next(x["id"] for x in rows if not x["current"])
    assert other.native.delete(f"/auth/sessions/{theirs}").status_code == 404
    assert fresh.native.delete(f"/auth/sessions/{theirs}").status_code == 204
    wait_until(lambda: Face("backend", elsewhere).get("/auth/profile").status_code == 401, 1.5)
    key = Face("native", fresh.native.post("/api-keys", json={"name": "ci", "scope": ["leads.read"]}).json()["key"])
    assert key.get("/auth/sessions").status_code == key.delete("/auth/sessions").status_code == 403
    third = login(fresh.email).json()["data"]["token"]
    assert fresh.native.delete("/auth/sessions").status_code == 204
    wait_until(lambda: Face("backend", third).get("/auth/profile").status_code == 401, 1.5)
    assert len(fresh.native.get("/auth/sessions").json()["items"]) == 1


def test_explain(fresh, agent):
    ask = lambda face, **q: face.native.get("/auth/explain", params=q)
    r = ask(agent, action="customers.update").json()
    assert (r["allowed"], r["permission"], r["rule"], r["role"]) == (True, "customers.write", "role", "agent") and "admin" in r["roles"]
    assert ask(agent, action="customers.delete").json()["rule"] == "none"
    fresh.backend.put(f"/users/{agent.id}/permissions", json={"permissions": ["customers.read", "customers.delete"]})
    assert ask(fresh, action="customers.delete", user=agent.id).json()["rule"] == "granted"
    assert ask(fresh, action="customers.write", user=agent.id).json()["rule"] == "denied"
    assert ask(fresh, action="fly.high").status_code == 422


def test_system_users_put_is_not_patch(fresh, unique):
    address = f"s-{unique}@example.com"
    r = fresh.system.post("/system-config/users/", json={"email": address, "first_name": "Ann", "last_name": "Lee", "role": "agent", "password": PASSWORD})
    assert r.status_code == 201 and r.json()["is_active"] is True and r.json()["first_name"] == "Ann", r.text
    at = f"/system-config/users/{r.json()['id']}/"
    r = fresh.system.patch(at, json={"last_name": "Ray"})
    assert r.status_code == 200 and (r.json()["first_name"], r.json()["last_name"], r.json()["role"]) == ("Ann", "Ray", "agent"), r.text
    r = fresh.system.put(at, json={"last_name": "Only"})
    assert r.status_code == 400 and {"email", "role"} <= set(r.json()["error"]["details"]), r.text
    r = fresh.system.put(at, json={"email": address, "role": "agent", "last_name": "Only", "is_active": False})
    assert r.status_code == 200 and (r.json()["last_name"], r.json()["is_active"]) == ("Only", False), r.text
    assert login(address).status_code == 401
    assert fresh.system.delete(at).status_code == 204 and fresh.system.get(at).status_code == 404


def test_events_tell_the_story_without_secrets(fresh, agent):
    fresh.backend.put(f"/users/{agent.id}", json={"role": "manager"})
    fresh.backend.patch(f"/users/{agent.id}/status", json={"status": "inactive"})
    fresh.backend.delete(f"/users/{agent.id}")
    def told():
        rows = fresh.backend.get("/audit/logs", params={"resource": "user", "limit": 100}).json()["data"]
        return [x for x in rows if x["resourceId"] == agent.id]
    want = {"auth.user.created", "auth.user.role_changed", "auth.user.deactivated", "auth.user.deleted"}
    wait_until(lambda: want <= {x["event"] for x in told()}, 5)
    assert "argon2" not in str(told()) and PASSWORD not in str(told())
