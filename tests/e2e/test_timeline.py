"""Notes of a customer, and the timeline that is made from the events of all services."""

from conftest import wait_until


def ok(r, status=200):
    assert r.status_code == status, r.text
    return r.json()


def test_notes_come_newest_first(fresh, other):
    c = ok(fresh.backend.post("/customers", json={"companyName": "TechCorp"}), 201)["data"]
    path = f"/customers/{c['id']}/notes"
    for text in ("first", "second"):
        made = ok(fresh.backend.post(path, json={"content": text, "type": "Call"}), 201)["data"]
        assert made["customerId"] == c["id"] and made["author"]["email"] == fresh.email and made["type"] == "call"
    listed = ok(fresh.backend.get(path))
    assert [n["content"] for n in listed["data"]] == ["second", "first"] and listed["meta"]["total"] == 2
    assert fresh.backend.post(path, json={}).status_code == 422
    assert fresh.backend.post(path, json={"content": "x" * 10001}).status_code == 422
    assert other.backend.get(path).json()["data"] == [] and other.backend.post(path, json={"content": "x"}).status_code in (404, 422)
    assert fresh.native.patch(f"/notes/{made['id']}", json={"pinned": True}).json()["pinned"] is True
    assert fresh.native.delete(f"/notes/{made['id']}").status_code == 204
    assert [n["content"] for n in ok(fresh.backend.get(path))["data"]] == ["first"]


def test_the_timeline_tells_what_happened_to_a_customer_and_around_it(fresh):
    c = ok(fresh.backend.post("/customers", json={"companyName": "TechCorp"}), 201)["data"]
    another = ok(fresh.backend.post("/customers", json={"companyName": "Else"}), 201)["data"]
    ok(fresh.backend.put(f"/customers/{c['id']}", json={"industry": "Tech"}))
    ok(fresh.backend.post(f"/customers/{c['id']}/notes", json={"content": "called them"}), 201)
    deal = ok(fresh.backend.post("/sales", json={"title": "Licence", "customerId": c["id"]}), 201)["data"]
    ok(fresh.backend.patch(f"/sales/{deal['id']}/stage", json={"stage": "closed_won"}))
    ok(fresh.backend.delete(f"/sales/{deal['id']}"))
    ok(fresh.backend.post("/sales", json={"title": "Other", "customerId": another["id"]}), 201)
    p = ok(fresh.elevate.post("/products", json={"name": "Seat", "price": 5, "stock_quantity": 5}), 201)
    ok(fresh.elevate.post("/orders", json={"customer_id": c["id"], "items": [{"product_id": p["id"], "quantity": 1}]}), 201)

    def types():
        return sorted(e["type"] for e in ok(fresh.backend.get(f"/customers/{c['id']}/activity"))["data"])

    wanted = ["customers.account.created", "customers.account.updated", "customers.note.created", "sales.deal.created", "sales.deal.deleted", "sales.deal.stage_changed", "sales.order.created"]
    wait_until(lambda: types() == wanted)
    rows = ok(fresh.backend.get(f"/customers/{c['id']}/activity"))["data"]
    assert [r["createdAt"] for r in rows] == sorted((r["createdAt"] for r in rows), reverse=True)
    assert {r["title"] for r in rows if r["resource"] == "sale"} == {"Licence"} and all(r["user"]["email"] == fresh.email for r in rows)
    only = ok(fresh.backend.get(f"/customers/{c['id']}/activity?type=sale&limit=2"))
    assert len(only["data"]) == 2 and only["meta"]["total"] == 3
