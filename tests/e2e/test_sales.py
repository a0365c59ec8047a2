"""Deals, figures, stock and orders: what must add up, adds up."""

import collections
import concurrent.futures
import datetime
import decimal

import pytest
import requests
from conftest import AT_5000, BASE, wait_until

D = decimal.Decimal


def deals_of(tenant):
    out, cursor = [], ""
    while True:
        r = tenant.system.get("/deals/deals/?page_size=100&ordering=created_at" + cursor)
        assert r.status_code == 200, r.text
        out += r.json()["results"]
        link = r.headers.get("Link", "")
        if 'rel="next"' not in link or len(r.json()["results"]) < 100:
            return out
        cursor = "&cursor=" + link.split("cursor=")[1].split(">")[0].split("&")[0]


def ok(r, status=200):
    assert r.status_code == status, r.text
    return r.json()


# -- stages and deals


def test_a_deal_goes_through_the_pipeline(fresh):
    deal = ok(fresh.saas.post("/deals", json={"title": "One", "value": 1000}), 201)
    assert (deal["stage"], deal["status"], deal["probability"]) == ("Lead", "Open", 10)
    path = "/deals/" + deal["id"]
    assert ok(fresh.saas.put(path, json={"stage": "Proposal"}))["probability"] == 50
    assert ok(fresh.saas.put(path, json={"stage": "Negotiation", "probability": 60}))["probability"] == 60
    assert ok(fresh.saas.put(path, json={"title": "Two"}))["probability"] == 60, "what is not written stays"
    won = ok(fresh.saas.put(path, json={"stage": "Closed Won"}))
    assert (won["status"], won["probability"], won["closedDate"]) == ("Won", 100, datetime.date.today().isoformat())
    refused = fresh.saas.put(path, json={"stage": "Lead"})
    assert refused.status_code == 409 and "deals.reopen" in refused.text
    back = ok(fresh.native.post(f"/deals/{deal['id']}/reopen", json={"stage": "negotiation", "note": "they called"}))
    assert (back["stage"], back["status"], back["closedOn"]) == ("negotiation", "open", None)
    history = ok(fresh.native.get(f"/deals/{deal['id']}/history"))["changes"]
    assert [c["to"]["name"] for c in history] == ["Negotiation", "Closed Won", "Negotiation", "Proposal", "Lead"]
    assert history[0]["note"] == "they called" and history[-1]["from"] is None


def test_reopening_needs_its_permission(fresh):
    role = {"name": "seller", "permissions": ["deals.read", "deals.write"]}
    ok(fresh.backend.post("/users/roles", json=role), 201)
    key = ok(fresh.native.post("/api-keys", json={"name": "k", "scope": ["deals.read", "deals.write"]}), 201)["key"]
    deal = ok(fresh.saas.post("/deals", json={"title": "One", "stage": "Closed Lost"}), 201)
    r = requests.post(BASE["native"] + f"/deals/{deal['id']}/reopen", json={}, headers={"Authorization": "Bearer " + key}, timeout=10)
    assert r.status_code == 403, r.text
    assert requests.get(BASE["saas"] + "/deals/" + deal["id"], headers={"Authorization": "Bearer " + key}, timeout=10).json()["status"] == "Lost"


def test_stages_keep_the_pipeline_whole(fresh):
    made = ok(fresh.native.post("/pipeline-stages", json={"name": "Legal Review", "probability": 80}), 201)
    assert (made["slug"], made["position"], made["kind"]) == ("legal_review", 6, "open")
    deal = ok(fresh.backend.post("/sales", json={"title": "x", "stage": "legal_review"}), 201)["data"]
    assert deal["probability"] == 80
    path = "/pipeline-stages/" + made["id"]
    assert fresh.native.delete(path).status_code == 409
    assert fresh.native.patch(path, json={"slug": "other"}).status_code == 422
    ok(fresh.backend.patch(f"/sales/{deal['id']}/stage", json={"stage": "lead"}))
    assert fresh.native.delete(path).status_code == 204
    won = next(s for s in ok(fresh.native.get("/pipeline-stages"))["items"] if s["kind"] == "won")
    assert fresh.native.delete("/pipeline-stages/" + won["id"]).status_code == 409
    assert fresh.backend.post("/sales", json={"title": "x", "stage": "legal_review"}).status_code == 422


def test_lines_make_the_value(fresh):
    product = ok(fresh.elevate.post("/products", json={"name": "Seat", "price": 19.99}), 201)
    deal = ok(fresh.backend.post("/sales", json={"title": "x", "value": 1, "products": [{"productId": product["id"], "quantity": 3}, {"name": "Setup", "unitPrice": 100.10, "discount": 15}]}), 201)["data"]
    assert [p["total"] for p in deal["products"]] == [59.97, 85.09] and deal["value"] == 145.06 and deal["products"][0]["name"] == "Seat"
    path = "/sales/" + deal["id"]
    assert ok(fresh.backend.put(path, json={"value": 5}))["data"]["value"] == 145.06
    assert ok(fresh.backend.put(path, json={"products": [], "value": 5}))["data"]["value"] == 5
    wrong = fresh.backend.post("/sales", json={"title": "x", "products": [{"name": "ok"}, {"productId": "00000000-0000-7000-8000-000000000000"}]})
    assert wrong.status_code == 422 and wrong.json()["errors"][0]["field"] == "products.1.productId", wrong.text
    assert fresh.backend.post("/sales", json={"title": "x", "products": [{"name": "n"}] * 201}).status_code == 422


def test_money_keeps_its_digits(fresh):
    text = '{"title":"x","value":123456789012345678.12}'
    made = requests.post(BASE["backend"] + "/sales", data=text, headers={"Content-Type": "application/json", "Authorization": "Bearer " + fresh.token}, timeout=10)
    assert '"value":123456789012345678.12,' in made.text, made.text
    pipeline = fresh.backend.get("/sales/pipeline").text
    assert '"totalValue":123456789012345678.12,' in pipeline


@pytest.fixture(scope="module")
def crowd(tenant):
    """A few dozen deals in all stages, of two owners, closed in two months."""
    stages = ["Lead", "Qualified", "Proposal", "Negotiation"]
    month = datetime.date.today().replace(day=15)
    for i in range(36):
        body = {"title": f"Deal {i}", "value": f"{i * 37 % 11}.{i:02d}", "stage": stages[i % 4], "source": ["Website", "Referral", None][i % 3],
                "expectedCloseDate": (month + datetime.timedelta(days=31 * (i % 5))).isoformat() if i % 7 else None}
        if i % 6 == 5:
            body["probability"] = 33
        deal = ok(tenant.saas.post("/deals", json=body), 201)
        if i % 9 == 1:
            ok(tenant.system.post(f"/deals/deals/{deal['id'].split('_')[1]}/mark-won/", json={}))
        if i % 9 == 4:
            ok(tenant.system.post(f"/deals/deals/{deal['id'].split('_')[1]}/mark-lost/", json={}))
        if i % 4 == 0:
            ok(tenant.saas.put("/deals/" + deal["id"], json={"stage": "Qualified" if i % 9 not in (1, 4) else None, "notes": "moved"}))
    return tenant


def cents(x):
    return D(x).quantize(D("0.01"), decimal.ROUND_HALF_UP)


def exact(response):
    return requests.models.complexjson.loads(response.text, parse_float=D, parse_int=D)


def all_deals(tenant):
    return exact(tenant.saas.get("/deals?pageSize=100&sortBy=createdAt"))["items"]


def test_the_pipeline_is_what_a_recount_gives(crowd):
    deals, got = all_deals(crowd), exact(crowd.backend.get("/sales/pipeline"))["data"]
    by = collections.defaultdict(list)
    for d in deals:
        by[d["stage"]].append(d)
    assert [s["name"] for s in got["stages"]] == ["Lead", "Qualified", "Proposal", "Negotiation", "Closed Won", "Closed Lost"]
    for s in got["stages"]:
        mine = by[s["name"]]
        assert s["count"] == len(mine) and s["value"] == sum(d["value"] for d in mine), s
        assert s["weightedValue"] == cents(sum(d["value"] * d["probability"] / 100 for d in mine)), s
    open_ = [d for d in deals if d["status"] == "Open"]
    assert got["totalCount"] == len(open_) and got["totalValue"] == sum(d["value"] for d in open_)


def test_the_forecast_is_what_a_recount_gives(crowd):
    deals, got = all_deals(crowd), exact(crowd.backend.get("/sales/forecasting"))["data"]
    assert len(got["months"]) == 6
    for m in got["months"]:
        due = [d for d in deals if d["status"] == "Open" and (d["expectedCloseDate"] or "").startswith(m["month"])]
        won = [d for d in deals if d["status"] == "Won" and d["closedDate"].startswith(m["month"])]
        assert m["count"] == len(due) and m["bestCase"] == sum(d["value"] for d in due) and m["closed"] == sum(d["value"] for d in won), m
        assert m["weighted"] == cents(sum(d["value"] * d["probability"] / 100 for d in due)), m
    assert got["withoutDate"] == sum(d["status"] == "Open" and not d["expectedCloseDate"] for d in deals) > 0
    assert len(exact(crowd.backend.get("/sales/forecasting?dateFrom=2026-01-01&dateTo=2026-03-31"))["data"]["months"]) == 3


def test_leaderboard_and_analytics_are_what_a_recount_gives(crowd):
    deals = all_deals(crowd)
    won, lost = [d for d in deals if d["status"] == "Won"], [d for d in deals if d["status"] == "Lost"]
    (leader,) = exact(crowd.backend.get("/sales/leaderboard"))["data"]["leaders"]
    rate = (D(100) * len(won) / (len(won) + len(lost))).quantize(D("0.1"), decimal.ROUND_HALF_UP)
    assert (leader["rank"], leader["wonCount"], leader["wonValue"], leader["lostCount"], leader["winRate"]) == (1, len(won), sum(d["value"] for d in won), len(lost), rate)
    assert leader["user"]["email"] == crowd.email
    got = exact(crowd.backend.get("/sales/analytics"))["data"]
    assert (got["created"], got["won"], got["lost"], got["wonValue"], got["winRate"], got["averageCycleDays"]) == (len(deals), len(won), len(lost), sum(d["value"] for d in won), rate, 0)
    assert got["averageDealValue"] == cents(sum(d["value"] for d in won) / len(won))
    for g in got["bySource"]:
        mine = [d for d in deals if (d["source"] or "").lower() == (g["source"] or "")]
        assert (g["count"], g["value"], g["wonCount"]) == (len(mine), sum(d["value"] for d in mine), sum(d["status"] == "Won" for d in mine)), g
    histories = [[c["to"]["name"] for c in reversed(ok(crowd.native.get(f"/deals/{d['id']}/history"))["changes"])] for d in deals]
    order = {"Lead": 0, "Qualified": 1, "Proposal": 2, "Negotiation": 3, "Closed Won": 9, "Closed Lost": -1}
    for s in got["conversionByStage"]:
        entered = [h[h.index(s["name"]):] for h in histories if s["name"] in h]
        assert s["entered"] == len(entered) and s["movedOn"] == sum(any(order[x] > order[s["name"]] for x in h[1:]) for h in entered), s


FIGURES = ("pipeline", "pipelineRow", "forecast", "forecastMonth", "salesAnalytics", "stageConversion", "bySource", "byOwner", "leader")


def test_each_figure_is_defined_in_a_sentence(stack):
    schemas = ok(requests.get(f"{AT_5000}/openapi/backend.json", timeout=10))["components"]["schemas"]
    figures = [(name, member, of) for name in FIGURES for member, of in schemas[name]["properties"].items() if {"integer", "number"} & set([of["type"]] if isinstance(of["type"], str) else of["type"])]
    assert len(figures) > 30 and not [(name, member) for name, member, of in figures if not of.get("description")]


# -- stock


def test_stock_is_the_sum_of_its_movements(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "sku": "W1", "price": 10, "cost": 4, "stock_quantity": 10, "reorder_level": 5}), 201)
    path = f"/products/{p['id']}"
    for kind, n, left in (("restock", 10, 20), ("sale", 3, 17), ("damage", 2, 15), ("return", 1, 16), ("adjustment", -4, 12), ("adjustment", 1, 13)):
        assert ok(fresh.elevate.post(path + "/stock", json={"adjustment": n, "type": kind}))["stock_quantity"] == left
    refused = fresh.elevate.post(path + "/stock", json={"adjustment": 14, "type": "sale"})
    assert refused.status_code == 409 and "Only 13" in refused.text
    assert fresh.elevate.post(path + "/stock", json={"adjustment": 0}).status_code == 422
    assert fresh.elevate.post(path + "/stock", json={"adjustment": 1, "type": "theft"}).status_code == 422
    assert ok(fresh.elevate.put(path, json={"stock_quantity": 7}))["stock_quantity"] == 7
    moves = ok(fresh.native.get(f"/products/{p['id']}/movements"))["items"]
    assert sum(m["quantity"] for m in moves) == 7 and [m["balance"] for m in moves] == [7, 13, 12, 16, 15, 17, 20, 10]
    assert ok(fresh.elevate.post(path + "/stock", json={"adjustment": 3, "type": "restock", "cost_per_unit": 14}))["cost"] == 7


def events(tenant, kind):
    return [e for e in ok(tenant.backend.get("/audit/logs?limit=100"))["data"] if e["event"] == kind]


def test_low_stock_is_told_once_per_crossing(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "stock_quantity": 10, "reorder_level": 5}), 201)
    for n in (-4, -1, -1, 5, -6, 1):
        ok(fresh.elevate.post(f"/products/{p['id']}/stock", json={"adjustment": n}))
    wait_until(lambda: len(events(fresh, "sales.product.stock_changed")) == 6)
    assert len(events(fresh, "sales.product.stock_low")) == 2
    low = ok(fresh.elevate.get("/products?low_stock=true"))["items"]
    assert [x["id"] for x in low] == [p["id"]] and not ok(fresh.elevate.get("/products?low_stock=false"))["items"]


def test_categories_are_a_tree_and_go_by_name_too(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "category": "Electronics"}), 201)
    q = ok(fresh.elevate.post("/products", json={"name": "Phone", "category": "electronics"}), 201)
    assert p["category"] == q["category"] == "Electronics"
    (c,) = ok(fresh.system.get("/products/categories/"))["results"]
    child = ok(fresh.system.post("/products/categories/", json={"name": "Phones", "parent_category": c["id"]}), 201)
    assert child["parent_category"] == {"id": c["id"], "name": "Electronics"}
    assert fresh.system.patch(f"/products/categories/{c['id']}/", json={"parent_category": child["id"]}).status_code == 400
    assert ok(fresh.system.patch(f"/products/categories/{c['id']}/", json={"name": "Gadgets"}))["name"] == "Gadgets"
    assert ok(fresh.elevate.get(f"/products/{p['id']}"))["category"] == "Gadgets"
    assert len(ok(fresh.elevate.get("/products?category=Gadgets"))["items"]) == 2
    assert fresh.system.delete(f"/products/categories/{c['id']}/").status_code == 409
    assert fresh.system.post("/products/categories/", json={"name": "PHONES"}).status_code == 409


# -- orders


def order(tenant, product, n, customer=None):
    return tenant.elevate.post("/orders", json={"customer_id": customer or ok(tenant.elevate.post("/customers", json={"name": "Jane"}), 201)["id"],
                                                "items": [{"product_id": product, "quantity": n}]})


def test_the_last_ten_go_to_ten(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "price": 10.01, "stock_quantity": 10}), 201)
    customer = ok(fresh.elevate.post("/customers", json={"name": "Jane"}), 201)["id"]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        got = list(pool.map(lambda _: order(fresh, p["id"], 1, customer), range(64)))
    assert collections.Counter(r.status_code for r in got) == {201: 10, 409: 54}, [r.text for r in got if r.status_code not in (201, 409)][:3]
    assert all("Only 0" in r.text for r in got if r.status_code == 409)
    assert ok(fresh.elevate.get(f"/products/{p['id']}"))["stock_quantity"] == 0
    assert sorted(r.json()["order_number"] for r in got if r.status_code == 201) == [f"ORD-{i:06d}" for i in range(1, 11)], "numbers have no gaps"


def test_orders_go_their_way_and_give_stock_back(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "price": 10, "stock_quantity": 10}), 201)

    def stock():
        return ok(fresh.elevate.get(f"/products/{p['id']}"))["stock_quantity"]

    def go(o, status, **more):
        return fresh.elevate.put(f"/orders/{o['id']}/status", json={"status": status, **more})

    o = ok(order(fresh, p["id"], 4), 201)
    assert stock() == 6 and o["total"] == 40
    refused = go(o, "delivered")
    assert refused.status_code == 409 and "can become confirmed, processing, cancelled" in refused.text
    assert go(o, "nonsense").status_code == 422
    for s in ("confirmed", "processing"):
        ok(go(o, s))
    assert go(o, "shipped").status_code == 422
    ok(go(o, "shipped", tracking_number="T1"))
    ok(go(o, "delivered"))
    assert stock() == 6
    ok(go(o, "returned"))
    assert stock() == 10
    assert "nothing else" in go(o, "pending").text
    o = ok(order(fresh, p["id"], 10), 201)
    ok(go(o, "cancelled"))
    assert stock() == 10
    assert order(fresh, "00000000-0000-7000-8000-000000000000", 1).json()["error"]["details"][0]["field"] == "items.0.product_id"
    ok(fresh.elevate.put(f"/products/{p['id']}", json={"status": "discontinued"}))
    assert order(fresh, p["id"], 1).status_code == 422


def test_an_order_is_made_once(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "price": 10, "stock_quantity": 10}), 201)
    c = ok(fresh.elevate.post("/customers", json={"name": "Jane"}), 201)["id"]
    body = {"customer_id": c, "items": [{"product_id": p["id"], "quantity": 3}]}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: fresh.elevate.post("/orders", json=body, headers={"Idempotency-Key": "one"}), range(8)))
    assert {r.json().get("order_number") for r in got if r.status_code == 201} == {"ORD-000001"}
    assert ok(fresh.elevate.get(f"/products/{p['id']}"))["stock_quantity"] == 7


def test_an_order_that_another_system_sends_again_is_the_same(fresh, other, unique):
    p = ok(fresh.native.put("/products/external/p1", json={"name": "Watch", "price": 10, "stockQuantity": 10}), 201)
    account, second = (ok(fresh.native.put(f"/accounts/external/{x}", json={"name": x}), 201)["id"] for x in "ab")
    url, body = f"/orders/external/{unique}", {"account": account, "items": [{"product": p["id"], "quantity": 3}], "shippingAddress": {"city": "Bonn"}}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: fresh.native.put(url, json=body), range(8)))
    assert collections.Counter(r.status_code for r in got) == {201: 1, 200: 7}, {r.text for r in got}
    made = got[0].json()
    assert (made["externalId"], made["number"], made["total"], made["status"], made["shippingAddress"]["city"]) == (unique, "ORD-000001", 30, "pending", "Bonn")
    assert made["items"][0]["name"] == "Watch" and made["items"][0]["unitPrice"] == 10

    def stock():
        return ok(fresh.elevate.get(f"/products/{p['id']}"))["stock_quantity"]

    assert stock() == 7, "taken once"
    changed = ok(fresh.native.put(url, json={**body, "items": [{"product": p["id"], "quantity": 3, "unitPrice": 10}], "notes": "by the door"}))
    assert (changed["id"], changed["notes"], changed["total"]) == (made["id"], "by the door", 30)
    for no, field in (({"items": [{"product": p["id"], "quantity": 4}]}, "items"), ({"items": [{"product": p["id"], "quantity": 3, "unitPrice": 9}]}, "items"),
                      ({"items": body["items"] * 2}, "items"), ({"account": second}, "account")):
        refused = fresh.native.put(url, json={**body, **no})
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == field, refused.text
    assert stock() == 7
    ok(fresh.elevate.put(f"/orders/{made['id']}/status", json={"status": "cancelled"}))
    assert ok(fresh.native.put(url, json=body))["status"] == "cancelled" and stock() == 10
    assert [o["id"] for o in ok(fresh.native.get("/orders", params={"externalId": unique}))["items"]] == [made["id"]]
    named = ok(fresh.native.put(f"/orders/{made['id']}/external-id", json={"externalId": unique + "b"}))
    assert named["externalId"] == unique + "b"
    assert other.native.put(f"/orders/{made['id']}/external-id", json={"externalId": "theirs"}).status_code == 404
    assert other.native.put(url, json=body).status_code == 422, "products of another company do not exist"


def test_other_tenants_products_and_customers_do_not_exist(fresh, other):
    theirs = ok(other.elevate.post("/products", json={"name": "Watch", "price": 1, "stock_quantity": 9}), 201)
    customer = ok(other.elevate.post("/customers", json={"name": "Jane"}), 201)
    assert order(fresh, theirs["id"], 1).status_code == 422
    assert fresh.elevate.post("/orders", json={"customer_id": customer["id"], "items": [{"product_id": theirs["id"], "quantity": 1}]}).status_code == 422
    assert fresh.elevate.post(f"/products/{theirs['id']}/stock", json={"adjustment": 1}).status_code == 404
    assert fresh.backend.post("/sales", json={"title": "x", "customerId": customer["id"]}).status_code == 422


# -- what other services make of it


def test_a_customers_totals_follow_its_orders(fresh):
    p = ok(fresh.elevate.post("/products", json={"name": "Watch", "price": 10.25, "stock_quantity": 100}), 201)
    c = ok(fresh.elevate.post("/customers", json={"name": "Jane"}), 201)

    def totals():
        x = ok(fresh.elevate.get(f"/customers/{c['id']}"))
        return x["total_orders"], x["total_value"], bool(x["last_contact"])

    o = ok(order(fresh, p["id"], 2, c["id"]), 201)
    wait_until(lambda: totals() == (1, 20.5, True), 3)
    ok(order(fresh, p["id"], 1, c["id"]), 201)
    wait_until(lambda: totals() == (2, 30.75, True), 3)
    ok(fresh.elevate.put(f"/orders/{o['id']}/status", json={"status": "cancelled"}))
    wait_until(lambda: totals() == (1, 10.25, True), 3)


def test_a_converted_lead_has_a_deal(fresh):
    lead = ok(fresh.system.post("/crm/leads/", json={"first_name": "Jane", "last_name": "Smith", "company_name": "Prospect Inc"}), 201)
    ok(fresh.system.post(f"/crm/leads/{lead['id']}/convert/", json={}))
    (deal,) = wait_until(lambda: ok(fresh.system.get("/deals/deals/"))["results"], 3)
    assert deal["name"] == "Prospect Inc" and deal["account"]["name"] == "Prospect Inc" and deal["contact"]["name"] == "Jane Smith" and deal["stage"]["name"] == "Lead"
    other = ok(fresh.system.post("/deals/deals/", json={"name": "Mine"}), 201)
    lead = ok(fresh.system.post("/crm/leads/", json={"first_name": "Al", "last_name": "Bo"}), 201)
    converted = ok(fresh.system.post(f"/crm/leads/{lead['id']}/convert/", json={"deal_id": other["id"]}))
    assert converted["deal_id"] == other["id"]
    wait_until(lambda: (ok(fresh.system.get(f"/deals/deals/{other['id']}/"))["contact"] or {}).get("name") == "Al Bo", 3)
    lead = ok(fresh.system.post("/crm/leads/", json={"first_name": "No", "last_name": "Deal"}), 201)
    refused = fresh.system.post(f"/crm/leads/{lead['id']}/convert/", json={"deal_id": 999})
    assert refused.status_code == 400 and "deal_id" in refused.json()["error"]["details"]
    assert ok(fresh.system.get("/deals/deals/"))["count"] == 2, "no deal without a conversion, none twice"
