"""Many customers at once: in one call, and by a job that a crash does not stop or double."""

import concurrent.futures
import uuid

import faults
import pytest
from conftest import wait_until
from test_row_scopes import SALES, Person, role_of

NOBODY = "019a0000-0000-7000-8000-00000000dead"


def ok(r, status=200):
    assert r.status_code == status, r.text
    return r.json()["data"]


def refused(r, field):
    assert r.status_code in (400, 422), r.text
    assert any(e.get("field") == field for e in r.json()["errors"]), r.text


def customers(face, n, **more):
    return [ok(face.post("/customers", json={"companyName": f"Bulk {i}", "status": "active", **more}), 201)["id"] for i in range(n)]


def tag_names(face, customer):
    return [t["name"] for t in ok(face.get(f"/customers/{customer}"))["tags"]]


def test_update_by_ids_gives_each_its_result(fresh):
    a, b = customers(fresh.backend, 2)
    out = ok(fresh.backend.post("/customers/bulk/update", json={"ids": [a, NOBODY, b], "updates": {"industry": "Energy", "notes": None}}))
    assert (out["total"], out["succeeded"], out["failed"]) == (3, 2, 1)
    assert [r["index"] for r in out["results"]] == [0, 1, 2]
    assert [r["error"] and r["error"]["code"] for r in out["results"]] == [None, "NOT_FOUND", None]
    assert all(ok(fresh.backend.get(f"/customers/{c}"))["industry"] == "Energy" for c in (a, b))


def test_update_by_filter_meets_those_and_no_others(fresh):
    face = fresh.backend
    customers(face, 3, industry="Steel")
    other = customers(face, 1, industry="Wood")[0]
    out = ok(face.post("/customers/bulk/update", json={"filter": {"industry": "Steel"}, "updates": {"status": "inactive"}}))
    assert (out["total"], out["succeeded"]) == (3, 3)
    assert ok(face.get(f"/customers/{other}"))["status"] == "active"
    assert face.get("/customers?status=inactive").json()["meta"]["total"] == 3
    assert ok(face.post("/customers/bulk/update", json={"filter": {"search": "no such thing"}, "updates": {"status": "x"}}))["total"] == 0


@pytest.mark.parametrize("body,field", [
    ({"updates": {"status": "x"}}, "ids"),
    ({"ids": [], "updates": {"status": "x"}}, "ids"),
    ({"ids": "all", "updates": {"status": "x"}}, "ids"),
    ({"ids": ["what"], "updates": {"status": "x"}}, "ids.0"),
    ({"filter": {}, "updates": {"status": "x"}}, "filter"),
    ({"filter": {"colour": "red"}, "updates": {"status": "x"}}, "filter.colour"),
    ({"filter": {"status": ""}, "updates": {"status": "x"}}, "filter.status"),
    ({"filter": {"status": {"not": "x"}}, "updates": {"status": "x"}}, "filter.status"),
    ({"ids": [NOBODY], "filter": {"status": "x"}, "updates": {"status": "x"}}, "filter"),
    ({"ids": [NOBODY]}, "updates"),
    ({"ids": [NOBODY], "updates": {}}, "updates"),
    ({"ids": [NOBODY], "updates": {"email": "no address"}}, "updates.email"),
    ({"ids": [NOBODY], "updates": {"companyName": None}}, "updates.companyName"),
    ({"ids": [NOBODY] * 10001, "updates": {"status": "x"}}, "ids"),
])
def test_bad_input_is_refused_by_name(tenant, body, field):
    refused(tenant.backend.post("/customers/bulk/update", json=body), field)


def test_a_blank_search_is_no_filter(tenant):
    kept = customers(tenant.backend, 1)[0]
    assert tenant.backend.post("/customers/bulk/delete", json={"filter": {"search": "   "}}).status_code in (400, 422)
    ok(tenant.backend.get(f"/customers/{kept}"))


def test_delete_counts_and_never_reaches_another_company(fresh, other):
    theirs = customers(other.backend, 1)[0]
    mine = customers(fresh.backend, 3)
    out = ok(fresh.backend.post("/customers/bulk/delete", json={"ids": [*mine, theirs]}))
    assert (out["succeeded"], out["failed"]) == (3, 1)
    ok(other.backend.get(f"/customers/{theirs}"))
    assert fresh.backend.get("/customers").json()["meta"]["total"] == 0
    assert ok(fresh.backend.post("/customers/bulk/delete", json={"ids": mine}))["failed"] == 3


def test_assign_and_tag(fresh):
    face = fresh.backend
    ids = customers(face, 2)
    me = ok(face.get("/auth/profile"))["id"]
    assert ok(face.post("/customers/bulk/assign", json={"ids": ids, "assignedTo": me}))["succeeded"] == 2
    assert ok(face.get(f"/customers/{ids[0]}"))["assignedTo"] == me
    refused(face.post("/customers/bulk/assign", json={"ids": ids, "assignedTo": NOBODY}), "assignedTo")
    refused(face.post("/customers/bulk/assign", json={"ids": ids}), "assignedTo")
    for mode, tags, left in [("add", ["a", "b"], ["a", "b"]), ("add", ["B", "c"], ["a", "b", "c"]), ("remove", ["a", "zz"], ["b", "c"]), ("replace", ["d"], ["d"])]:
        assert ok(face.post("/customers/bulk/tag", json={"ids": ids, "tags": tags, "mode": mode}))["succeeded"] == 2
        assert tag_names(face, ids[1]) == left
    assert sorted(t["name"] for t in ok(face.get("/customers/tags"))) == ["a", "b", "c", "d"], "removing makes no tag"
    refused(face.post("/customers/bulk/tag", json={"ids": ids, "tags": ["x"], "mode": "upsert"}), "mode")
    assert ok(face.post("/customers/bulk/tag", json={"ids": ids[:1], "tags": [f"t{i}" for i in range(50)], "mode": "add"}))["failed"] == 1


def test_the_same_key_does_it_once(fresh):
    ids = customers(fresh.backend, 1)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"ids": ids, "updates": {"size": "huge"}}
    first = fresh.backend.post("/customers/bulk/update", json=body, headers=headers)
    again = fresh.backend.post("/customers/bulk/update", json=body, headers=headers)
    assert ok(first) == ok(again) and again.headers.get("Idempotency-Replayed") == "true"
    wait_until(lambda: history(fresh, ids[0]) == ["customers.account.created", "customers.account.updated"])


def history(tenant, customer):
    return sorted(e["type"] for e in ok(tenant.backend.get(f"/customers/{customer}/activity?limit=100")))


# -- as a job


def many(tenant, n, industry="Mass"):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda i: ok(tenant.backend.post("/customers", json={"companyName": f"M{i}", "industry": industry}), 201)["id"], range(n)))


def job_of(tenant, job):
    r = tenant.native.get(f"/jobs/{job}")
    assert r.status_code == 200, r.text
    return r.json()


def finished(tenant, job, seconds=60):
    return wait_until(lambda: (j := job_of(tenant, job))["state"] not in ("queued", "running") and j, seconds, 0.1)


def test_more_than_500_are_done_by_a_job(fresh, other):
    ids = many(fresh, 620)
    r = fresh.backend.post("/customers/bulk/update", json={"ids": [NOBODY, *ids], "updates": {"size": "big"}})
    out = ok(r, 202)
    assert out["total"] == 621
    job = finished(fresh, out["jobId"])
    assert (job["state"], job["done"], job["failed"], job["percent"]) == ("done", 620, 1, 100)
    assert job["rate"] > 0 and job["kind"] == "Accounts.BulkUpdate"
    failed = fresh.native.get(f"/jobs/{out['jobId']}/results?state=failed").json()["items"]
    assert [(f["index"], f["code"], f["entityId"]) for f in failed] == [(0, "NOT_FOUND", NOBODY)]
    page = fresh.native.get(f"/jobs/{out['jobId']}/results?pageSize=100").json()
    assert [i["index"] for i in page["items"]] == list(range(100)) and page["cursor"]
    assert fresh.backend.get("/customers?size=big").json()["meta"]["total"] == 620
    assert [j["id"] for j in fresh.native.get("/jobs").json()["items"]] == [out["jobId"]]
    assert fresh.native.post(f"/jobs/{out['jobId']}/cancel").status_code == 409
    assert other.native.get(f"/jobs/{out['jobId']}").status_code == 404
    assert other.native.get(f"/jobs/{out['jobId']}/results").json()["items"] == []
    assert other.native.post(f"/jobs/{out['jobId']}/cancel").status_code == 404


def test_what_is_cancelled_goes_no_further(fresh):
    ids = many(fresh, 1200, "Stop")
    out = ok(fresh.backend.post("/customers/bulk/update", json={"ids": ids + [NOBODY] * 8800, "updates": {"size": "new"}}), 202)
    r = fresh.native.post(f"/jobs/{out['jobId']}/cancel")
    assert r.status_code == 200 and r.json()["state"] == "cancelled", r.text
    job = job_of(fresh, out["jobId"])
    assert job["done"] + job["failed"] < 10000 and job["finishedAt"]
    assert fresh.backend.get("/customers?size=new").json()["meta"]["total"] == job["done"]
    waiting = fresh.native.get(f"/jobs/{out['jobId']}/results?state=waiting").json()["items"]
    assert waiting, "the rest was not begun"


def test_a_limited_member_changes_own_rows_alone(fresh):
    role = role_of(fresh, {"customers": "own"}, [*SALES, "jobs.read"])
    seller = Person(fresh, role)
    theirs = customers(fresh.backend, 2, industry="Shared")
    own = customers(seller.backend, 1, industry="Shared")
    out = ok(seller.backend.post("/customers/bulk/update", json={"ids": [*theirs, *own], "updates": {"size": "mine"}}))
    assert [r["error"] and r["error"]["code"] for r in out["results"]] == ["NOT_FOUND", "NOT_FOUND", None]
    assert ok(seller.backend.post("/customers/bulk/update", json={"filter": {"industry": "Shared"}, "updates": {"size": "mine"}}))["total"] == 1
    job = ok(seller.backend.post("/customers/bulk/delete", json={"ids": theirs + own + [NOBODY] * 600}), 202)["jobId"]
    assert finished(seller, job)["done"] == 1
    assert all(ok(fresh.backend.get(f"/customers/{c}"))["size"] is None for c in theirs)


def test_who_may_not_is_refused(fresh):
    reader = Person(fresh, role_of(fresh, {}, ["customers.read"]))
    for what, more in [("update", {"updates": {"size": "x"}}), ("delete", {}), ("assign", {"assignedTo": NOBODY}), ("tag", {"tags": ["x"]})]:
        assert reader.backend.post(f"/customers/bulk/{what}", json={"ids": [NOBODY], **more}).status_code == 403
    assert reader.native.get("/jobs").status_code == 403


@pytest.mark.faults
def test_a_killed_service_goes_on_without_doubles(fresh):
    ids = many(fresh, 3000, "Crash")
    out = ok(fresh.backend.post("/customers/bulk/update", json={"filter": {"industry": "Crash"}, "updates": {"size": "after"}}), 202)
    wait_until(lambda: job_of(fresh, out["jobId"])["done"] > 0, 20, 0.005)
    faults.kill("svc-customers")
    [[row]] = faults.psql(f"SELECT state || ' ' || done FROM customers.job WHERE id = '{out['jobId']}'")
    state, done = row.split()
    assert state == "running" and 0 < int(done) < 3000
    wait_until(lambda: fresh.native.get(f"/jobs/{out['jobId']}").status_code == 200, 30)
    job = finished(fresh, out["jobId"])
    assert (job["state"], job["done"], job["failed"]) == ("done", 3000, 0), job
    assert fresh.backend.get("/customers?size=after").json()["meta"]["total"] == 3000
    # one more version each: nothing was done twice, nothing left out
    for c in ids[::97]:
        wait_until(lambda c=c: history(fresh, c) == ["customers.account.created", "customers.account.updated"], 30)


# -- the same rows for the others, in the native API

OTHERS = {"contacts": "company,title,notes", "leads": "company,title,notes", "deals": "source,description", "products": "description"}


def native(r, status=200):
    assert r.status_code == status, r.text
    return r.json()


def make(fresh, what, n):
    """Records with external ids "0", "1", …: the native API creates by upsert."""
    name = {"deals": "title"}.get(what, "name")
    return [native(fresh.native.put(f"/{what}/external/{i}", json={name: f"Many {i}"}), 201)["id"] for i in range(n)]


@pytest.mark.parametrize("what", OTHERS)
def test_others_are_changed_and_deleted_alike(fresh, tenant, what):
    a, b, c = make(fresh, what, 3)
    member = OTHERS[what].split(",")[0]
    out = native(fresh.native.post(f"/{what}/bulk/update", json={"ids": [a, NOBODY, b], "updates": {member: "alike"}}))
    assert (out["total"], out["succeeded"], out["failed"]) == (3, 2, 1)
    assert [r["error"] and r["error"]["code"] for r in out["results"]] == [None, "NOT_FOUND", None]
    now = {i["id"]: i[member] for i in native(fresh.native.get(f"/{what}"))["items"]}
    assert (now[a], now[b]) == ("alike", "alike") and now[c] != "alike"
    assert native(tenant.native.post(f"/{what}/bulk/delete", json={"ids": [a, b]}))["succeeded"] == 0
    assert native(fresh.native.post(f"/{what}/bulk/delete", json={"filter": {"search": "Many 0"}}))["succeeded"] == 1
    assert {i["id"] for i in native(fresh.native.get(f"/{what}"))["items"]} == {b, c}
    r = fresh.native.post(f"/{what}/bulk/delete", json={"filter": {}})
    assert r.status_code in (400, 422), r.text


def test_contacts_are_tagged(fresh):
    a, b = make(fresh, "contacts", 2)
    native(fresh.native.post("/contacts/bulk/update", json={"ids": [a, b], "updates": {"tags": ["one", "two"]}}))
    native(fresh.native.post("/contacts/bulk/update", json={"ids": [a], "updates": {"tags": ["one"]}, "mode": "remove"}))
    tags = {i["id"]: sorted(i["tags"]) for i in native(fresh.native.get("/contacts"))["items"]}
    assert tags == {a: ["two"], b: ["one", "two"]}


def test_a_job_of_sales_and_what_a_row_refuses(fresh):
    ids = make(fresh, "products", 3)
    assert native(fresh.native.post("/products/bulk/update", json={"ids": ids[:1], "updates": {"sku": "S-1"}}))["succeeded"] == 1
    out = native(fresh.native.post("/products/bulk/update", json={"ids": ids[1:], "updates": {"sku": "S-1"}}))
    assert out["succeeded"] == 0 and out["results"][0]["error"]["details"][0]["field"] == "sku"
    job = native(fresh.native.post("/products/bulk/update", json={"ids": ids + [NOBODY] * 600, "updates": {"description": "by a job"}}), 202)["jobId"]
    done = wait_until(lambda: (j := native(fresh.native.get(f"/sales/jobs/{job}")))["state"] == "done" and j, 30)
    assert (done["done"], done["failed"], done["kind"]) == (3, 600, "Products.BulkUpdate")
    assert {i["description"] for i in native(fresh.native.get("/products"))["items"]} == {"by a job"}
    assert fresh.native.get(f"/jobs/{job}").status_code == 404
