"""Idempotency-Key: one execution for any number of sends (R2)."""

import concurrent.futures
import json

import pytest

import faults
import routes


def test_parallel_and_later_sends_run_once(fresh, unique):
    send = lambda body=None: fresh.saas.post("/leads", json=body or {"firstName": "One", "lastName": "Time"}, headers={"Idempotency-Key": unique})
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: send(), range(32)))
    answers += [send() for _ in range(5)]
    assert {r.status_code for r in answers} <= {201, 409}, {r.text for r in answers}
    ids = {r.json()["id"] for r in answers if r.status_code == 201}
    assert len(ids) == 1 and fresh.saas.get("/leads").json()["totalCount"] == 1
    assert answers[-1].headers["Idempotency-Replayed"] == "true" and answers[-1].status_code == 201
    other = send({"firstName": "Another", "lastName": "Body"})
    assert other.status_code == 422 and other.json()["error"]["code"] == "IDEMPOTENCY_MISMATCH"


def test_keys_belong_to_a_tenant(fresh, other, unique):
    for t in (fresh, other):
        r = t.mvp.post("/contacts", json={"name": "Same Key"}, headers={"Idempotency-Key": f'"{unique}"'})
        assert r.status_code == 201 and "Idempotency-Replayed" not in r.headers


def test_a_refused_request_does_not_use_the_key_up(fresh, unique):
    h = {"Idempotency-Key": unique}
    assert fresh.mvp.post("/leads", json={"name": ""}, headers=h).status_code == 422
    assert fresh.mvp.post("/leads", json={"name": "Now right"}, headers=h).status_code == 201


def test_update_and_delete_replay_too(fresh, unique):
    lead = fresh.mvp.post("/leads", json={"name": "Idem"}).json()
    for _ in range(2):
        assert fresh.mvp.put(f"/leads/{lead['id']}", json={"notes": "n"}, headers={"Idempotency-Key": unique + "u"}).status_code == 200
        assert fresh.mvp.delete(f"/leads/{lead['id']}", headers={"Idempotency-Key": unique + "d"}).status_code == 204


# -- every entity: a new one without a row here fails test_every_create_is_tried

CREATES = {  # rpc: (face, path, what makes one, what makes another); {customer} and {product} are there
    "Accounts.Create": ("backend", "/customers", {"companyName": "Once AG"}, {"companyName": "Twice AG"}),
    "AlertRules.Create": ("backend", "/audit/logs/alerts", {"name": "Once", "action": "deleted", "threshold": 5, "windowSeconds": 60},
                          {"name": "Twice", "action": "deleted", "threshold": 5, "windowSeconds": 60}),
    "ApiKeys.Create": ("native", "/api-keys", {"name": "once", "scope": ["customers.read"]}, {"name": "twice", "scope": ["customers.read"]}),
    "Categories.Create": ("system", "/products/categories/", {"name": "Chairs"}, {"name": "Stools"}),
    "Contacts.Create": ("saas", "/contacts", {"firstName": "Once", "lastName": "Only"}, {"firstName": "Twice", "lastName": "Only"}),
    "Deals.Create": ("saas", "/deals", {"title": "Once"}, {"title": "Twice"}),
    "Invitations.Create": ("backend", "/users/invitations", {"email": "once@example.com", "role": "agent"}, {"email": "twice@example.com", "role": "agent"}),
    "Leads.Create": ("mvp", "/leads", {"name": "Once Only"}, {"name": "Twice Only"}),
    "LegalHolds.Create": ("native", "/audit/legal-holds", {"name": "once"}, {"name": "twice"}),
    "Notes.Create": ("backend", "/customers/{customer}/notes", {"content": "once"}, {"content": "twice"}),
    "Orders.Create": ("elevate", "/orders", {"customer_id": "{customer}", "items": [{"product_id": "{product}", "quantity": 1}]},
                      {"customer_id": "{customer}", "items": [{"product_id": "{product}", "quantity": 2}]}),
    "Products.Create": ("elevate", "/products", {"name": "Watch"}, {"name": "Clock"}),
    "Roles.Create": ("native", "/roles", {"title": "once", "permissions": ["customers.read"]}, {"title": "twice", "permissions": ["customers.read"]}),
    "Settings.Create": ("system", "/system-config/settings/", {"key": "once", "value": "1"}, {"key": "twice", "value": "1"}),
    "Stages.Create": ("native", "/pipeline-stages", {"name": "Once", "slug": "once"}, {"name": "Twice", "slug": "twice"}),
    "Tags.Create": ("backend", "/customers/tags", {"name": "once"}, {"name": "twice"}),
    "Tenants.Create": ("system", "/core/companies/", {"name": "Once AG"}, {"name": "Twice AG"}),
    "Territories.Create": ("system", "/territories/territories/", {"name": "North"}, {"name": "South"}),
    "Users.Create": ("backend", "/users", {"email": "once-{unique}@example.com", "password": "Str0ng!Passw0rd", "name": "Once Only"},
                     {"email": "twice-{unique}@example.com", "password": "Str0ng!Passw0rd", "name": "Twice Only"}),
}


def test_every_create_is_tried():
    assert {r.rpc for r in routes.routes() if r.rpc.endswith(".Create")} == set(CREATES)


def filled(value, names):
    if isinstance(value, dict):
        return {k: filled(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, names) for v in value]
    return value.format(**names) if isinstance(value, str) else value


@pytest.mark.parametrize("rpc", CREATES)
def test_each_entity_is_made_once(fresh, unique, rpc):
    face, path, *bodies = CREATES[rpc]
    names = {"unique": unique}
    if "{" in path or "{" in json.dumps(bodies):
        names["customer"] = fresh.elevate.post("/customers", json={"name": "Jane"}).json()["id"]
        names["product"] = fresh.elevate.post("/products", json={"name": "Lamp", "price": 1, "stock_quantity": 9}).json()["id"]
    path, first, second = filled(path, names), *filled(bodies, names)
    send = lambda body: getattr(fresh, face).post(path, json=body, headers={"Idempotency-Key": unique})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(first), range(8)))
    answers.append(send(first))
    made = [r for r in answers if r.status_code == 201]
    assert len(made) + sum(r.status_code == 409 for r in answers) == 9, {r.text for r in answers}
    bodies = [{k: v for k, v in r.json().items() if k != "key"} for r in made]  # an API key's secret is shown once and not kept
    assert all(b == bodies[0] for b in bodies) and sum("Idempotency-Replayed" not in r.headers for r in made) == 1
    assert answers[-1].status_code == 201 and answers[-1].headers["Idempotency-Replayed"] == "true"
    assert send(second).status_code == 422


def test_a_mail_is_sent_again_once(fresh, unique):
    made = fresh.backend.post("/users/invitations", json={"email": f"{unique}@example.com", "role": "agent"}).json()["data"]
    for _ in range(3):
        r = fresh.backend.post(f"/users/invitations/{made['id']}/resend", headers={"Idempotency-Key": unique})
        assert r.status_code == 200, r.text
    assert faults.psql(f"SELECT sent FROM auth.invitation WHERE email = '{unique}@example.com'") == [["2"]]
    for _ in range(2):
        assert fresh.backend.delete(f"/users/invitations/{made['id']}", headers={"Idempotency-Key": unique + "d"}).status_code in (200, 204)


def test_a_status_is_turned_once(fresh, unique):
    user = fresh.backend.post("/users", json={"email": f"{unique}@example.com", "password": "Str0ng!Passw0rd", "name": "On Off"}).json()["data"]
    for _ in range(3):
        r = fresh.backend.patch(f"/users/{user['id']}/status", headers={"Idempotency-Key": unique})
        assert r.status_code == 200 and r.json()["data"]["status"] == "inactive", r.text
