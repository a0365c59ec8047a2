"""Lists: filters, search, sort, pages, cursors, totals that are right at once."""

import concurrent.futures
import time

import pytest

from conftest import Tenant


@pytest.fixture(scope="module")
def many(stack):
    t = Tenant()
    rows = [{"firstName": f"N{i:03}", "lastName": f"Row{i % 7}", "email": f"row{i}@{'alpha' if i % 2 else 'beta'}.example",
             "source": ["Website", "Referral", "Social"][i % 3], "status": ["New", "Contacted"][i % 2], "company": f"Company {i % 5}"} for i in range(90)]
    r = t.saas.post("/leads/bulk", json={"leads": rows})
    assert r.json()["created"] == 90, r.text
    return t


def test_saas_page(many):
    p = many.saas.get("/leads", params={"page": 2, "pageSize": 50, "sortBy": "createdAt", "sortOrder": "desc"}).json()
    assert (len(p["items"]), p["totalCount"], p["page"], p["pageSize"], p["totalPages"], p["hasNextPage"], p["hasPreviousPage"]) == (40, 90, 2, 50, 2, False, True)
    assert len(many.saas.get("/leads", params={"pageSize": 1000}).json()["items"]) == 90
    p = many.saas.get("/leads", params={"page": 99}).json()
    assert p["items"] == [] and p["totalCount"] == 90 and p["hasNextPage"] is False


def test_system_links_keep_the_other_parameters(many):
    p = many.system.get("/crm/leads/", params={"page_size": 20, "page": 2, "status": "New", "ordering": "-created_at"}).json()
    assert p["count"] == 45 and p["previous"] is not None
    assert p["next"].startswith("http://") and "/api/crm/leads/?" in p["next"] and "page=3" in p["next"] and "status=New" in p["next"] and "ordering=-created_at" in p["next"]
    seen, url = [], None
    page = many.system.get("/crm/leads/", params={"page_size": 20}).json()
    while True:
        seen += [r["id"] for r in page["results"]]
        if page["next"] is None:
            break
        page = many.system.http.get(page["next"], headers={"Authorization": f"Bearer {many.token}"}).json()
    assert len(seen) == len(set(seen)) == 90


def test_mvp_limit_and_offset(many):
    p = many.mvp.get("/leads", params={"limit": 10, "offset": 85}).json()
    assert (len(p["leads"]), p["total"], p["pagination"]) == (5, 90, {"limit": 10, "offset": 85, "hasMore": False})
    assert many.mvp.get("/leads").json()["pagination"] == {"limit": 50, "offset": 0, "hasMore": True}
    assert many.mvp.get("/leads", params={"status": "contacted", "source": "website"}).json()["total"] == 15


def test_filters_in_each_faces_words(many):
    assert many.saas.get("/leads", params={"status": "Contacted"}).json()["totalCount"] == 45
    assert many.system.get("/crm/leads/", params={"lead_source": "Website"}).json()["count"] == 30
    assert many.system.get("/crm/leads/", params={"created_after": "2000-01-01", "created_before": "2000-12-31"}).json()["count"] == 0
    assert many.system.get("/crm/leads/", params={"created_after": "2020-01-01", "created_before": "2199-12-31"}).json()["count"] == 90


def test_search(many):
    assert many.system.get("/crm/leads/", params={"search": "ALPHA"}).json()["count"] == 45
    assert many.saas.get("/leads", params={"search": "row17@"}).json()["totalCount"] == 1
    assert many.saas.get("/leads", params={"search": "100%_"}).json()["totalCount"] == 0
    assert many.saas.get("/leads", params={"search": "Company 3", "status": "New"}).json()["totalCount"] == 9


def test_sort_orders_the_rows(many):
    names = [r["firstName"] for r in many.saas.get("/leads", params={"sortBy": "firstName", "sortOrder": "desc", "pageSize": 100}).json()["items"]]
    assert names == sorted(names, reverse=True)
    ids = [r["id"] for r in many.system.get("/crm/leads/", params={"ordering": "company_name,-id", "page_size": 100}).json()["results"]]
    assert len(ids) == 90


def test_unknown_sort_field_is_a_clear_error(many):
    r = many.saas.get("/leads", params={"sortBy": "nonsense"})
    assert r.status_code == 422 and r.json()["error"]["details"][0]["field"] == "sortBy", r.text


@pytest.mark.parametrize("face, path, params, field", [
    ("saas", "/leads", {"page": "0"}, "page"), ("saas", "/leads", {"pageSize": "abc"}, "pageSize"), ("mvp", "/leads", {"offset": "-1"}, "offset"),
    ("system", "/crm/leads/", {"page": "99999999999999999999"}, "page"), ("system", "/crm/leads/", {"created_after": "yesterday"}, "created_after"),
    ("backend", "/customers", {"order": "sideways"}, "order"), ("elevate", "/customers", {"cursor": "garbage"}, "cursor")])
def test_bad_parameters_name_the_parameter(many, face, path, params, field):
    r = getattr(many, face).get(path, params=params)
    assert r.status_code in (400, 422) and field in r.text, r.text


def test_cursor_walks_everything_once(many):
    url, seen = "/leads?pageSize=7&sortBy=company&sortOrder=desc", []
    while url:
        r = many.saas.get(url)
        assert r.status_code == 200, r.text
        seen += [x["id"] for x in r.json()["items"]]
        link = r.links.get("next")
        url = link["url"].split("/api", 1)[1] if link else None
    assert len(seen) == len(set(seen)) == 90


def test_the_total_has_ones_own_writes_at_once(fresh):
    for i in range(1, 6):
        fresh.saas.post("/leads", json={"firstName": "T", "lastName": str(i), "status": "New"})
        assert fresh.saas.get("/leads").json()["totalCount"] == i
        assert fresh.saas.get("/leads", params={"status": "New"}).json()["totalCount"] == i
    first = fresh.saas.get("/leads").json()["items"][0]["id"]
    fresh.saas.put(f"/leads/{first}", json={"status": "Contacted"})
    assert fresh.saas.get("/leads", params={"status": "New"}).json()["totalCount"] == 4
    fresh.saas.delete(f"/leads/{first}")
    assert fresh.saas.get("/leads").json()["totalCount"] == 4


def test_totals_under_parallel_writes_end_right(fresh):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: fresh.mvp.post("/leads", json={"name": f"P {i}"}).status_code, range(64)))
        list(pool.map(lambda i: fresh.mvp.get("/leads").status_code, range(16)))
    assert done == [201] * 64
    time.sleep(1.1)
    assert fresh.mvp.get("/leads").json()["total"] == 64
