"""Records by the id that another system has for them: created once, changed after that, whatever comes at the same time."""

import concurrent.futures
import csv
import io

import pytest
import requests
from conftest import BASE

ENTITIES = {  # path: (what makes one, what changes it)
    "accounts": ({"name": "Acme", "email": "a@example.com"}, {"name": "Acme 2"}),
    "contacts": ({"name": "Ada Lovelace", "email": "ada@example.com"}, {"name": "Ada King"}),
    "leads": ({"name": "Alan Turing", "source": "web"}, {"name": "A. Turing"}),
    "territories": ({"name": "North", "description": "cold"}, {"name": "Far North"}),
    "deals": ({"title": "Big", "value": 10.50}, {"title": "Bigger"}),
    "product-categories": ({"name": "Chairs", "description": "to sit"}, {"name": "Stools"}),
    "products": ({"name": "Chair", "price": 9.99}, {"name": "Stool"}),
}


def ok(r, status=200):
    assert r.status_code == status, r.text
    return r.json()


def by_external(tenant, path, external):
    return ok(tenant.native.get(f"/{path}", params={"externalId": external}))["items"]


@pytest.mark.parametrize("path", ENTITIES)
def test_created_then_changed(tenant, other, path, unique):
    first, then = ENTITIES[path]
    url = f"/{path}/external/{unique}"
    made = ok(tenant.native.put(url, json=first), 201)
    assert made["externalId"] == unique
    changed = ok(tenant.native.put(url, json=then))
    assert changed["id"] == made["id"] and changed["updatedAt"] != made["updatedAt"]
    for member, value in first.items():  # what is not sent stays; names may have parts
        assert changed[member] == then.get(member, value), member
    assert [x["id"] for x in by_external(tenant, path, unique)] == [made["id"]]
    assert by_external(tenant, path, unique + "x") == []
    assert by_external(other, path, unique) == []
    theirs = ok(other.native.put(url, json=first), 201)
    assert theirs["id"] != made["id"]
    unknown = tenant.native.put(url, json={**first, "nothing": 1})
    assert unknown.status_code == 422 and unknown.json()["errors"][0]["field"] == "nothing"
    assert tenant.native.put(url, json={}).status_code == 422, "what is required is required every time"
    long = tenant.native.put(f"/{path}/external/" + "x" * 201, json=first)
    assert long.status_code == 422 and long.json()["errors"][0]["field"] == "externalId", long.text
    assert requests.put(BASE["native"] + url, json=first, timeout=10).status_code == 401


def test_the_path_wins_over_the_body_and_odd_ids_are_texts(tenant, unique):
    made = ok(tenant.native.put(f"/deals/external/{unique}", json={"title": "x", "externalId": "other"}), 201)
    assert made["externalId"] == unique
    odd = f"{unique} 'ü\" %"
    assert ok(tenant.native.put("/deals/external/" + requests.utils.quote(odd), json={"title": "y"}), 201)["externalId"] == odd


@pytest.mark.parametrize("path", ENTITIES)
def test_what_is_there_already_is_given_a_name(fresh, path, unique):
    first = ok(fresh.native.put(f"/{path}/external/{unique}", json=ENTITIES[path][0] | ({"name": unique} if path == "product-categories" else {})), 201)
    name = f"/{path}/{first['id']}/external-id"
    assert ok(fresh.native.put(name, json={"externalId": unique + "b"}))["externalId"] == unique + "b"
    assert ok(fresh.native.put(f"/{path}/external/{unique}b", json=ENTITIES[path][1]))["id"] == first["id"]
    second = ok(fresh.native.put(f"/{path}/external/{unique}", json=ENTITIES[path][0] | ({"name": unique + "c"} if path == "product-categories" else {})), 201)
    taken = fresh.native.put(f"/{path}/{second['id']}/external-id", json={"externalId": unique + "b"})
    assert taken.status_code == 409 and taken.json()["errors"][0]["field"] == "externalId", taken.text
    assert ok(fresh.native.put(name, json={"externalId": None}))["externalId"] is None
    assert ok(fresh.native.put(f"/{path}/{second['id']}/external-id", json={"externalId": unique + "b"}))["id"] == second["id"]


def test_32_at_once_make_one(fresh, unique):
    send = lambda i: fresh.native.put(f"/deals/external/{unique}", json={"title": f"Deal {i}"})
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(send, range(32)))
    assert sorted(r.status_code for r in answers) == [200] * 31 + [201], [r.text for r in answers if r.status_code > 201]
    assert len({r.json()["id"] for r in answers}) == 1
    assert len(by_external(fresh, "deals", unique)) == 1
    types = [e["type"] for e in ok(fresh.native.get("/events", params={"types": "sales.deal.*", "limit": 100, "wait": "3s"}))["items"]]
    for _ in range(20):
        if len(types) == 32:
            break
        types = [e["type"] for e in ok(fresh.native.get("/events", params={"types": "sales.deal.*", "limit": 100, "wait": "1s"}))["items"]]
    assert types == ["sales.deal.created"] + ["sales.deal.updated"] * 31


def test_versions_and_keys_count(fresh, unique):
    url = f"/products/external/{unique}"
    assert fresh.native.put(url, json={"name": "x"}, headers={"If-Match": '"native-1"'}).status_code == 412, "there is none yet"
    made = fresh.native.put(url, json={"name": "x"}, headers={"Idempotency-Key": unique})
    again = fresh.native.put(url, json={"name": "x"}, headers={"Idempotency-Key": unique})
    assert (made.status_code, again.status_code) == (201, 201) and made.json() == again.json(), again.text
    assert again.headers["Idempotency-Replayed"] == "true"
    assert fresh.native.put(url, json={"name": "y"}, headers={"Idempotency-Key": unique}).status_code == 422
    assert fresh.native.put(url, json={"name": "y"}, headers={"If-Match": made.headers["ETag"]}).status_code == 200
    assert fresh.native.put(url, json={"name": "z"}, headers={"If-Match": made.headers["ETag"]}).status_code == 412
    assert [p["name"] for p in by_external(fresh, "products", unique)] == ["y"]


def test_a_deleted_one_gives_its_id_back(fresh, unique):
    made = ok(fresh.native.put(f"/leads/external/{unique}", json={"name": "One"}), 201)
    assert fresh.mvp.delete(f"/leads/{made['id']}").status_code == 204
    assert ok(fresh.native.put(f"/leads/external/{unique}", json={"name": "Two"}), 201)["id"] != made["id"]


def test_an_upsert_needs_the_permission_to_write(fresh, unique):
    key = ok(fresh.native.post("/api-keys", json={"name": "k", "scope": ["deals.read"]}), 201)["key"]
    head = {"Authorization": "Bearer " + key}
    assert requests.put(BASE["native"] + f"/deals/external/{unique}", json={"title": "x"}, headers=head, timeout=10).status_code == 403
    for path in ("deals", "products", "orders", "contacts", "leads"):
        assert requests.get(BASE["native"] + f"/{path}/export", headers=head, timeout=10).status_code == 403, path


@pytest.mark.parametrize("path", ["contacts", "leads", "deals", "products", "orders"])
def test_exports_are_the_list(fresh, path):
    if path == "orders":
        product = ok(fresh.native.put("/products/external/p", json={"name": "P", "price": 2.50, "stockQuantity": 10}), 201)
        for _ in range(3):
            ok(fresh.elevate.post("/orders", json={"customer_id": ok(fresh.elevate.post("/customers", json={"name": "C"}), 201)["id"],
                                                   "items": [{"product_id": product["id"], "quantity": 1}]}), 201)
    else:
        for i in range(3):
            ok(fresh.native.put(f"/{path}/external/e{i}", json=ENTITIES[path][0] | ({"name": f"=N{i}"} if path != "deals" else {"title": f"=N{i}"})), 201)
    for fmt in ("csv", "json"):
        r = fresh.native.get(f"/{path}/export", params={"format": fmt})
        assert r.status_code == 200, r.text
        rows = list(csv.DictReader(io.StringIO(r.content.decode(), newline=""))) if fmt == "csv" else r.json()
        assert {x["id"] for x in rows} == {x["id"] for x in ok(fresh.native.get(f"/{path}"))["items"]} and len(rows) == 3
    assert fresh.native.get(f"/{path}/export", params={"format": "xlsx"}).content[:2] == b"PK"


def test_sales_are_exported_with_the_filters_of_their_list(fresh):
    for i in range(4):
        ok(fresh.native.put(f"/deals/external/s{i}", json={"title": f"Sale {i}", "value": i, "source": "web" if i % 2 else "mail"}), 201)
    r = fresh.backend.get("/sales/export", params={"format": "csv", "source": "web", "minValue": 2})
    assert r.status_code == 200, r.text
    rows = list(csv.DictReader(io.StringIO(r.content.decode(), newline="")))
    assert [x["title"] for x in rows] == ["Sale 3"]
    assert len(fresh.backend.get("/sales/export", params={"format": "json"}).json()) == 4
    assert fresh.backend.get("/sales/export", params={"format": "xlsx"}).content[:2] == b"PK"
    assert fresh.backend.get("/sales/export", params={"format": "exe"}).status_code == 422
