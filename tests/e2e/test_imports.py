"""Imports: a table becomes records by a job, row by row as a POST would; and is taken back."""

import datetime
import io
import json
import time
import uuid

import openpyxl
import pytest

from conftest import wait_until
import faults
from faults import psql
from test_exports import PAYLOADS, export, rows_of_csv
from test_people import Staff, admin_id

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def send(face, path, data, name="leads.csv", headers=None, **params):
    if isinstance(data, str):
        data = data.encode()
    return face.post(path, files={"file": (name, data, "text/csv")}, params=params, headers=headers)


def over(tenant, job_id, seconds=60):
    def ended():
        j = tenant.native.get(f"/jobs/{job_id}").json()
        return j["state"] in ("done", "failed", "cancelled") and j

    return wait_until(ended, seconds)


def results(tenant, job_id, **params):
    r = tenant.native.get(f"/jobs/{job_id}/results", params={"pageSize": 100, **params})
    assert r.status_code == 200, r.text
    return r.json()["items"]


def run(tenant, data, path="/leads/import", seconds=60, **params):
    r = send(tenant.native, path, data, **params)
    assert r.status_code == 202, r.text
    return over(tenant, r.json()["jobId"], seconds)


def lead(tenant, **filters):
    items = tenant.native.get("/leads", params={"pageSize": 100}).json()["items"]
    return [i for i in items if all(i[k] == v for k, v in filters.items())]


def test_the_documents_call(fresh):
    data = "Company Name,Contact Name,E-Mail,City,tags\r\nImport AG,Ann,ann@imp.example,Bonn,\"VIP, Key\"\r\n,,broken,,\r\n"
    r = send(fresh.backend, "/customers/import", data, mapping=json.dumps({"E-Mail": "email"}))
    assert r.status_code == 202, r.text
    body = r.json()
    assert body["success"] is True and body["data"]["rows"] == 2 and body["data"]["dryRun"] is False
    assert {c["column"]: c["field"] for c in body["data"]["columns"]} == {
        "Company Name": "companyName", "Contact Name": "contactName", "E-Mail": "email", "City": "city", "tags": "tags"}
    job = over(fresh, body["data"]["jobId"])
    assert (job["state"], job["created"], job["failed"], job["percent"]) == ("done", 1, 1, 100) and job["rate"] > 0
    made = fresh.backend.get("/customers", params={"search": "Import AG"}).json()["data"][0]
    assert made["contactName"] == "Ann" and made["city"] == "Bonn" and sorted(t["name"] for t in made["tags"]) == ["Key", "VIP"] and made["status"] == "active"
    failed = [i for i in results(fresh, job["id"]) if i["state"] == "failed"]
    assert failed[0]["row"] == 3 and {p["field"] for p in failed[0]["problems"]} == {"companyName", "email"}
    text = fresh.native.get(f"/jobs/{job['id']}/results/file", params={"format": "csv", "state": "failed"}).text
    assert text.splitlines()[0].startswith("index,entityId,state") and "companyName" in text and text.count("\n") == 2


def test_columns_are_recognised_or_suggested(tenant):
    data = "FULL name;e-mail adress;Compnay;value;internal\nAnn;a@x.example;C;1,5;x\n"
    r = send(tenant.native, "/leads/import", data, dryRun="true", mapping=json.dumps({"internal": None, "FULL name": "name"}))
    assert r.status_code == 202, r.text
    columns = {c["column"]: (c["member"], c["suggestion"]) for c in r.json()["columns"]}
    assert columns["FULL name"] == ("name", None) and columns["value"] == ("value", None) and columns["internal"][0] is None
    assert columns["e-mail adress"] == (None, "email") and columns["Compnay"] == (None, "company")
    job = over(tenant, r.json()["jobId"])
    assert job["dryRun"] is True and job["failed"] == 1
    assert results(tenant, job["id"])[0]["field"] == "value"


def test_a_dry_run_writes_nothing(fresh):
    before = psql("SELECT count(*) FROM customers.outbox WHERE entity = 'lead'")
    job = run(fresh, "name,email\nAnn,dry@x.example\nBob,DRY@x.example\nEve,no\n", dryRun="true")
    assert (job["created"], job["skipped"], job["failed"]) == (1, 1, 1)
    assert fresh.native.get("/leads").json()["items"] == []
    assert psql("SELECT count(*) FROM customers.outbox WHERE entity = 'lead'") == before
    assert [i["action"] for i in results(fresh, job["id"])] == ["created", "skipped", None]
    assert fresh.native.post(f"/jobs/{job['id']}/revert").status_code == 409


@pytest.mark.parametrize("how, names", [("skip", ["Old"]), ("update", ["New"]), ("create", ["New", "Old"])])
def test_duplicates(fresh, how, names):
    assert fresh.saas.post("/leads", json={"firstName": "Old", "lastName": "One", "email": "Dup@x.example"}).status_code == 201
    job = run(fresh, "name,email\nNew,dup@x.example\n", duplicates=how)
    assert job["state"] == "done" and job["done"] == 1
    assert sorted(i["firstName"] for i in fresh.native.get("/leads").json()["items"]) == names


def test_external_ids(fresh):
    first = run(fresh, "externalId,name,email\nE1,One,same@x.example\nE2,Two,same@x.example\n")
    assert first["created"] == 2
    again = run(fresh, "externalId,name\nE1,One again\nE3,Three\n", duplicates="update")
    assert (again["updated"], again["created"]) == (1, 1)
    assert lead(fresh, externalId="E1")[0]["name"] == "One again" and lead(fresh, externalId="E1")[0]["email"] == "same@x.example"
    by_mail = run(fresh, "externalId,name,email\nE9,Nine,same@x.example\n", match="email")
    assert by_mail["skipped"] == 1


def test_rows_are_checked_like_posts(fresh, tenant):
    data = f"name,owner,value,email\nMine,{admin_id(fresh)},5.10,\nForeign,{admin_id(tenant)},1,\nNobody,{uuid.uuid4()},1,\nOdd,x,1,\nNegative,,-1,\nLong,,,{'a' * 250}@x.example\n"
    job = run(fresh, data)
    assert (job["created"], job["failed"]) == (1, 5)
    assert lead(fresh, name="Mine")[0]["value"] == 5.10
    assert [(i["row"], i["field"], i["code"]) for i in results(fresh, job["id"], state="failed")] == [
        (3, "owner", "VALIDATION_ERROR"), (4, "owner", "VALIDATION_ERROR"), (5, "owner", "VALIDATION_ERROR"), (6, "value", "VALIDATION_ERROR"), (7, "email", "VALIDATION_ERROR")]


def test_each_row_has_its_event_and_the_import_one(fresh):
    job = run(fresh, "name\nEvent One\nEvent Two\n")
    ids = {i["entityId"] for i in results(fresh, job["id"])}

    def seen():
        events = fresh.native.get("/events", params={"limit": 500}).json()["items"]
        types = [e["type"] for e in events]
        return types.count("customers.lead.created") == 2 and "customers.job.finished" in types and "customers.lead.imported" in types and events

    events = wait_until(seen, 10)
    assert {e["subject"] for e in events if e["type"] == "customers.lead.created"} == ids


def book(*rows):
    b = openpyxl.Workbook()
    for r in rows:
        b.active.append(r)
    out = io.BytesIO()
    b.save(out)
    return out.getvalue()


def test_workbooks(fresh):
    data = book(["Name", "email", "value", "Phone"], ["Ann Lee", "book@x.example", 12.5, 15550123456], [None, None, None, None], ["Bob", None, "x", None])
    job = run(fresh, data)
    assert (job["created"], job["failed"]) == (1, 1)
    ann = lead(fresh, name="Ann Lee")[0]
    assert ann["value"] == 12.5 and ann["phone"] == "15550123456"
    assert results(fresh, job["id"], state="failed")[0]["row"] == 4


@pytest.mark.parametrize("data, field, words", [
    (b"", "file", "empty"), (b"name\n", "file", "no rows"), (b"a,b\n1,2\n", "file", "no column that is known"), (b"PK\x03\x04 not a book at all", "file", "is no xlsx workbook"),
    (b"\xff\xfen\0a\0m\0e\0", "file", "UTF-16"), (b'name\n"open', "file", "quotation"), (b"name\n" + b"x" * 70000, "file", "bytes in a cell"),
    (b",".join([b"name"] * 300) + b"\nx\n", "file", "columns"),
])
def test_what_is_no_table_is_refused(tenant, data, field, words):
    r = send(tenant.native, "/leads/import", data)
    assert r.status_code == 422, r.text
    assert words in r.text and field in r.text


def test_odd_requests(tenant):
    assert send(tenant.native, "/leads/import", "name\nx\n", duplicates="whatever").status_code == 422
    assert send(tenant.native, "/leads/import", "name\nx\n", match="phone").status_code == 422
    r = send(tenant.native, "/leads/import", "name\nx\n", mapping="[]")
    assert r.status_code == 422 and "mapping" in r.text
    r = send(tenant.native, "/leads/import", "name\nx\n", mapping='{"nowhere":"name"}')
    assert r.status_code == 422 and "nowhere" in r.text
    r = send(tenant.native, "/leads/import", "name\nx\n", mapping='{"name":"createdAt"}')
    assert r.status_code == 422
    assert tenant.native.post("/leads/import", json={"name": "x"}).status_code == 415


def test_an_import_is_taken_back(fresh):
    assert run(fresh, "externalId,name,company\nR1,Before,Was\n")["created"] == 1
    job = run(fresh, "externalId,name,company\nR1,After,Is\nR2,Made,\nR3,Touched,\n", duplicates="update")
    touched = lead(fresh, externalId="R3")[0]
    assert fresh.saas.put(f"/leads/{touched['id']}", json={"firstName": "Seen", "lastName": "By", "email": "s@x.example"}).status_code == 200
    r = fresh.native.post(f"/jobs/{job['id']}/revert")
    assert r.status_code == 202 and r.json()["reverts"] == job["id"], r.text
    back = over(fresh, r.json()["id"])
    assert (back["state"], back["done"], back["failed"]) == ("done", 2, 1)
    left = {i["externalId"]: i for i in fresh.native.get("/leads").json()["items"]}
    assert left["R1"]["name"] == "Before" and left["R1"]["company"] == "Was" and "R2" not in left and left["R3"]["firstName"] == "Seen"
    failed = results(fresh, back["id"], state="failed")
    assert failed[0]["entityId"] == touched["id"] and failed[0]["code"] == "CONFLICT"
    assert fresh.native.post(f"/jobs/{job['id']}/revert").status_code == 409


def test_rights_and_walls(fresh, tenant, unique):
    role = fresh.native.post("/roles", json={"title": "Reader", "permissions": ["leads.read", "jobs.read"]}).json()["name"]
    viewer, agent = Staff(fresh, role, unique), Staff(fresh, "agent", unique)
    assert send(viewer.native, "/leads/import", "name\nx\n").status_code == 403
    job = run(fresh, "name\nWall\n")
    assert tenant.native.get(f"/jobs/{job['id']}").status_code == 404
    assert tenant.native.post(f"/jobs/{job['id']}/revert").status_code == 404
    assert viewer.native.post(f"/jobs/{job['id']}/revert").status_code == 403
    assert results(tenant, job["id"]) == []
    assert send(agent.native, "/leads/import", "name\nBy agent\n").status_code == 202
    wait_until(lambda: lead(fresh, name="By agent"), 10)


def test_a_key_makes_it_one_import(fresh):
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = send(fresh.native, "/leads/import", "name\nOnce\n", headers=headers)
    again = send(fresh.native, "/leads/import", "name\nOnce\n", headers=headers)
    other = send(fresh.native, "/leads/import", "name\nTwice\n", headers=headers)
    assert first.status_code == again.status_code == 202 and first.json() == again.json()
    assert other.status_code == 422
    over(fresh, first.json()["jobId"])
    assert len(lead(fresh, name="Once")) == 1 and not lead(fresh, name="Twice")


@pytest.mark.parametrize("fmt", ["csv", "xlsx"])
def test_an_export_comes_back_as_it_was(fresh, fmt):
    """Apostrophes that guard spreadsheets from formulas are ours, not the customers'."""
    from conftest import Tenant

    for i, p in enumerate(PAYLOADS):
        assert fresh.backend.post("/customers", json={"companyName": p, "contactName": f"n{i}", "notes": "x" + p, "city": p, "tags": ["VIP"]}).status_code == 201
    data = export(fresh, "customers", fmt).content
    other = Tenant()
    r = send(other.backend, "/customers/import", data, name="customers." + fmt)
    assert r.status_code == 202, r.text
    job = over(other, r.json()["data"]["jobId"])
    assert job["created"] == len(PAYLOADS), results(other, job["id"], state="failed")[:3]
    columns = ("companyName", "contactName", "city", "notes")

    def all_of(t):
        rows = rows_of_csv(export(t, "customers", "csv"))
        return sorted([row[rows[0].index(c)] for c in columns] for row in rows[1:])

    assert all_of(other) == all_of(fresh)


def test_deals_and_products(fresh):
    """Jobs of sales are under /v1/sales/jobs."""
    def done(r):
        assert r.status_code == 202, r.text
        job = r.json()["jobId"]
        return wait_until(lambda: (j := fresh.native.get(f"/sales/jobs/{job}").json())["state"] in ("done", "failed") and j, 30)

    first = done(send(fresh.native, "/products/import", "externalId,name,sku,price,stockQuantity\nP1,Lamp,L-1,9.90,5\nP2,Desk,L-1,199,0\nP3,Chair,C-1,-1,0\n"))
    assert (first["created"], first["failed"]) == (1, 2), first
    rows = fresh.native.get(f"/sales/jobs/{first['id']}/results").json()["items"]
    assert [(i["row"], i["field"]) for i in rows if i["state"] == "failed"] == [(3, "sku"), (4, "price")]
    deals = done(send(fresh.native, "/deals/import", book(["External ID", "title", "value", "stage", "expectedCloseOn"], ["D1", "Big one", 1000.5, "proposal", datetime.date(2027, 3, 31)],
                                                          ["D2", "Odd one", 1, "no such stage", None])))
    assert deals["created"] == 1, deals
    d = fresh.native.get("/deals").json()["items"][0]
    assert (d["externalId"], d["value"], d["stage"], d["expectedCloseOn"], d["status"]) == ("D1", 1000.5, "proposal", "2027-03-31", "open")
    again = done(send(fresh.native, "/deals/import", "externalId,title\nD1,Bigger one\n", duplicates="update"))
    assert again["updated"] == 1 and fresh.native.get("/deals").json()["items"][0]["title"] == "Bigger one"
    r = fresh.native.post(f"/sales/jobs/{again['id']}/revert")
    assert r.status_code == 202, r.text
    wait_until(lambda: fresh.native.get("/deals").json()["items"][0]["title"] == "Big one", 10)


@pytest.mark.faults
def test_a_killed_service_goes_on_without_doubles(fresh):
    word = uuid.uuid4().hex
    data = "name,email\n" + "".join(f"Kill {i},{word}{i}@x.example\n" for i in range(6000))
    r = send(fresh.native, "/leads/import", data)
    assert r.status_code == 202, r.text
    job = r.json()["jobId"]
    for least in (0, 2000):
        wait_until(lambda n=least: fresh.native.get(f"/jobs/{job}").json()["done"] > n, 20, 0.005)
        faults.kill("svc-customers")
        [[row]] = faults.psql(f"SELECT state || ' ' || done FROM customers.job WHERE id = '{job}'")
        state, done = row.split()
        assert state == "running" and least < int(done) < 6000
        wait_until(lambda: fresh.native.get(f"/jobs/{job}").status_code == 200, 30)
    ended = over(fresh, job)
    assert (ended["state"], ended["created"], ended["failed"]) == ("done", 6000, 0), ended
    [[row]] = faults.psql(f"SELECT count(*) || ' ' || count(DISTINCT email) FROM customers.lead WHERE email LIKE '{word}%'")
    assert row == "6000 6000"
    entries = (f"SELECT count(*) || ' ' || count(DISTINCT resource_id) FROM audit.entry WHERE type = 'customers.lead.created'"
               f" AND tenant_id = (SELECT tenant_id FROM customers.lead WHERE email = '{word}0@x.example')")
    wait_until(lambda: faults.psql(entries) == [["6000 6000"]], 30)


def test_ten_thousand_rows(fresh):
    data = "name,email,company\n" + "".join(f"Bulk {i},bulk{i}@x.example,Firm {i % 50}\n" for i in range(10000)) + "Last,bulk1@x.example,\n"
    began = time.monotonic()
    job = run(fresh, data, seconds=180)
    assert (job["created"], job["skipped"], job["failed"]) == (10000, 1, 0)
    assert fresh.native.get("/leads", params={"pageSize": 1}).json()["total"] == 10000
    assert psql("SELECT reltuples >= 10000 FROM pg_class WHERE oid = 'customers.lead'::regclass") == [["t"]], "plans know how large the table is"
    print(f"10,001 rows in {time.monotonic() - began:.1f} s, {job['rate']} a second")
