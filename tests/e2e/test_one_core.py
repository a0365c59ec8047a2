"""What is written through one face is read through the other four; what a face does not name stays."""

import pytest

from conftest import wait_until, Tenant


def number(pid):
    return int(pid.split("_")[1])


def test_a_lead_made_in_any_face_reads_in_every_face(fresh):
    made = {
        "saas": fresh.saas.post("/leads", json={"firstName": "John", "lastName": "Smith Jr.", "source": "Website", "status": "Qualified"}).json(),
        "system": fresh.system.post("/crm/leads/", json={"first_name": "Jane", "last_name": "Doe", "lead_source": "Referral"}).json(),
        "mvp": fresh.mvp.post("/leads", json={"name": "John Smith Jr.", "source": "api", "value": 5000, "status": "qualified"}).json(),
    }
    seqs = {face: (lead["id"] if face == "system" else number(lead["id"])) for face, lead in made.items()}
    assert sorted(seqs.values()) == [1, 2, 3]
    b, c, d = (fresh.saas.get(f"/leads/lead_{seqs['mvp']}").json(), fresh.system.get(f"/crm/leads/{seqs['mvp']}/").json(), fresh.mvp.get(f"/leads/{made['mvp']['id']}").json())
    assert (b["firstName"], b["lastName"], b["source"], b["status"]) == ("John", "Smith Jr.", "Api", "Qualified")
    assert (c["id"], c["first_name"], c["last_name"], c["status"]) == (seqs["mvp"], "John", "Smith Jr.", "Qualified")
    assert (d["name"], d["source"], d["value"], d["status"]) == ("John Smith Jr.", "api", 5000, "qualified")
    d = fresh.mvp.get(f"/leads/lead_{seqs['system']}").json()
    assert (d["name"], d["source"], d["status"], d["value"]) == ("Jane Doe", "referral", "new", None)


def test_either_key_of_an_entity_is_accepted(fresh):
    customer = fresh.elevate.post("/customers", json={"name": "Jane Doe", "company": "Tech Solutions Inc"}).json()
    account = fresh.system.get("/crm/accounts/").json()["results"][0]
    for key in (customer["id"], account["id"], f"account_{account['id']}"):
        assert fresh.backend.get(f"/customers/{key}").json()["data"]["id"] == customer["id"]
        assert fresh.system.get(f"/crm/accounts/{key}/").json()["id"] == account["id"]
        assert fresh.saas.get(f"/companies/{key}").json()["id"] == f"company_{account['id']}"
    assert fresh.saas.get(f"/companies/company_{account['id']}").json()["id"] == f"company_{account['id']}"


def test_a_customer_is_an_account_is_a_company(fresh):
    a = fresh.backend.post("/customers", json={
        "companyName": "TechCorp", "contactName": "Alice Johnson", "email": "alice@techcorp.com", "address": "123 Tech Street", "city": "San Francisco",
        "country": "USA", "industry": "Technology", "size": "enterprise", "notes": "Key client", "customFields": {"tier": 1, "price": 12.50}}).json()["data"]
    e = fresh.elevate.get(f"/customers/{a['id']}").json()
    assert (e["name"], e["company"], e["email"]) == ("Alice Johnson", "TechCorp", "alice@techcorp.com")
    assert e["address"] == {"street": "123 Tech Street", "city": "San Francisco", "state": None, "zip": None, "country": "USA"}
    assert (e["rating"], e["total_orders"], e["total_value"]) == (None, 0, 0.00)
    assert a["customFields"] == {"tier": 1, "price": 12.50}
    c = fresh.system.get("/crm/accounts/").json()["results"][0]
    assert (c["name"], c["industry"], c["account_type"], c["territory"]) == ("TechCorp", "Technology", None, None)
    # a partial update in E changes what it names and nothing else
    r = fresh.elevate.put(f"/customers/{a['id']}", json={"name": "Alice Smith", "rating": 4.5, "address": {"zip": "94105"}})
    assert r.status_code == 200, r.text
    after = fresh.backend.get(f"/customers/{a['id']}").json()["data"]
    assert after["contactName"] == "Alice Smith" and after["address"] == "123 Tech Street"
    unchanged = set(a) - {"contactName", "updatedAt"}
    assert {k: a[k] for k in unchanged} == {k: after[k] for k in unchanged}
    assert fresh.elevate.get(f"/customers/{a['id']}").json()["rating"] == 4.5


def test_elevate_lists_are_smaller_than_details(fresh):
    made = fresh.elevate.post("/customers", json={"name": "J", "tags": ["vip", "Enterprise"], "notes": "n"}).json()
    assert sorted(made["tags"], key=str.lower) == ["Enterprise", "vip"] and made["notes"] == "n"
    item = fresh.elevate.get("/customers").json()["items"][0]
    assert not {"tags", "notes", "address"} & set(item)
    assert item["id"] == made["id"]


def test_tags_are_ids_objects_and_names(fresh):
    vip = fresh.backend.post("/customers/tags", json={"name": "VIP", "color": "#f59e0b"}).json()["data"]
    a = fresh.backend.post("/customers", json={"companyName": "Tagged", "tags": [vip["id"]]}).json()["data"]
    assert a["tags"] == [vip]
    assert fresh.elevate.get(f"/customers/{a['id']}").json()["tags"] == ["VIP"]
    fresh.elevate.put(f"/customers/{a['id']}", json={"tags": ["vip", "new one"]})
    tags = fresh.backend.get(f"/customers/{a['id']}").json()["data"]["tags"]
    assert {t["name"] for t in tags} == {"VIP", "new one"} and vip["id"] in {t["id"] for t in tags}
    assert fresh.backend.get("/customers", params={"tags": vip["id"]}).json()["meta"]["total"] == 1
    contact = fresh.mvp.post("/contacts", json={"name": "Bob Wilson", "position": "CEO", "tags": ["founder", "vip"]}).json()
    assert sorted(contact["tags"], key=str.lower) == ["founder", "VIP"]
    assert fresh.mvp.get("/contacts", params={"tags": "founder,other"}).json()["total"] == 1
    assert fresh.backend.post("/customers/tags", json={"name": "vip"}).status_code == 409
    r = fresh.backend.post("/customers", json={"companyName": "X", "tags": ["0190aaaa-0000-7000-8000-000000000000"]})
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "tags"


def test_put_replaces_in_system_and_patch_does_not(fresh):
    made = fresh.system.post("/crm/accounts/", json={"name": "Acme", "industry": "Technology", "phone": "+1-555-0100"}).json()
    path = f"/crm/accounts/{made['id']}/"
    patched = fresh.system.patch(path, json={"phone": "+1-555-0199"}).json()
    assert (patched["industry"], patched["phone"]) == ("Technology", "+1-555-0199")
    replaced = fresh.system.put(path, json={"name": "Acme Two"}).json()
    assert (replaced["name"], replaced["industry"], replaced["phone"]) == ("Acme Two", None, None)
    r = fresh.system.put(path, json={"industry": "x"})
    assert r.status_code == 400 and r.json()["error"]["details"] == {"name": ["This field is required."]}
    cleared = fresh.backend.put(f"/customers/{made['id']}", json={"industry": None, "notes": "kept"}).json()["data"]
    assert cleared["industry"] is None and cleared["notes"] == "kept" and cleared["companyName"] == "Acme Two"


def test_null_is_absent_on_create_and_clears_on_update(fresh):
    lead = fresh.saas.post("/leads", json={"firstName": "A", "lastName": "B", "email": None, "status": None}).json()
    assert lead["email"] is None and lead["status"] == "New"
    fresh.saas.put(f"/leads/{lead['id']}", json={"phone": "+1 555 0100"})
    assert fresh.saas.get(f"/leads/{lead['id']}").json()["phone"] == "+1 555 0100"
    fresh.saas.put(f"/leads/{lead['id']}", json={"phone": None})
    assert fresh.saas.get(f"/leads/{lead['id']}").json()["phone"] is None


@pytest.mark.parametrize("written, read", [
    ({"name": "John Smith Jr."}, ("John", "Smith Jr.")), ({"name": "Prince"}, ("Prince", None)), ({"name": "  Mary   Ann Lee "}, ("Mary", "Ann Lee"))])
def test_a_single_name_is_kept_and_split(tenant, written, read):
    d = tenant.mvp.post("/leads", json=written).json()
    b = tenant.saas.get(f"/leads/{d['id']}").json()
    assert (b["firstName"], b["lastName"]) == read


def test_parts_make_the_name_and_one_part_keeps_the_other(tenant):
    b = tenant.saas.post("/leads", json={"firstName": "Grace", "lastName": "Hopper"}).json()
    assert tenant.mvp.get(f"/leads/{b['id']}").json()["name"] == "Grace Hopper"
    tenant.saas.put(f"/leads/{b['id']}", json={"lastName": "Murray"})
    assert tenant.mvp.get(f"/leads/{b['id']}").json()["name"] == "Grace Murray"


def test_territory_is_written_as_a_number_and_read_as_an_object(fresh):
    t = fresh.system.post("/territories/territories/", json={"name": "North Territory", "description": "North", "is_active": True}).json()
    a = fresh.system.post("/crm/accounts/", json={"name": "New Company", "account_type": "Prospect", "industry": "Healthcare", "phone": "+1-555-987-6543",
        "email": "info@newcompany.com", "website": "https://newcompany.com", "territory": t["id"], "custom_fields": {"annual_revenue": 1000000, "employee_count": 50}})
    assert a.status_code == 201, a.text
    a = a.json()
    assert a["territory"] == {"id": t["id"], "name": "North Territory"} and a["account_type"] == "Prospect"
    b = fresh.system.post("/crm/accounts/", json={"name": "Other"}).json()
    r = fresh.system.post(f"/territories/territories/{t['id']}/assign-accounts/", json={"account_ids": [a["id"], b["id"]]})
    assert r.status_code == 200, r.text
    assert fresh.system.get("/crm/accounts/", params={"territory": t["id"]}).json()["count"] == 2
    r = fresh.system.post(f"/territories/territories/{t['id']}/assign-accounts/", json={"account_ids": [a["id"], 999999]})
    assert r.status_code == 400 and "account_ids" in r.json()["error"]["details"]
    r = fresh.system.post("/crm/accounts/", json={"name": "X", "territory": 987654})
    assert r.status_code == 400 and list(r.json()["error"]["details"]) == ["territory"], r.text
    assert fresh.system.get("/crm/accounts/").json()["count"] == 2


def test_lead_conversion(fresh):
    lead = fresh.system.post("/crm/leads/", json={"first_name": "Lead", "last_name": "Prospect", "email": "lead@prospect.com", "company_name": "Prospect Company"}).json()
    r = fresh.system.post(f"/crm/leads/{lead['id']}/convert/", json={})
    assert r.status_code == 200, r.text
    done = r.json()
    assert done["status"] == "Converted" and done["account"]["name"] == "Prospect Company" and done["contact"]["name"] == "Lead Prospect"
    assert fresh.system.get(f"/crm/contacts/{done['contact']['id']}/").json()["account"] == done["account"]
    assert fresh.system.post(f"/crm/leads/{lead['id']}/convert/", json={}).status_code == 409
    second = fresh.system.post("/crm/leads/", json={"first_name": "Second", "last_name": "Lead"}).json()
    wait_until(lambda: fresh.system.get("/deals/deals/1/").status_code == 200)  # the first lead's deal, made by its event
    r = fresh.system.post(f"/crm/leads/{second['id']}/convert/", json={"account_id": done["account"]["id"], "contact_id": done["contact"]["id"], "deal_id": 1})
    assert r.json()["account"] == done["account"], r.text
    third = fresh.system.post("/crm/leads/", json={"first_name": "Third", "last_name": "Lead"}).json()
    r = fresh.system.post(f"/crm/leads/{third['id']}/convert/", json={"account_id": 999999})
    assert r.status_code == 400 and list(r.json()["error"]["details"]) == ["account_id"], r.text
    assert fresh.system.get(f"/crm/leads/{third['id']}/").json()["status"] == "New"


def test_money_keeps_its_digits(tenant):
    for text in ("299.99", "50000.00", "0.1", "12345678901234.56", "5000"):
        r = tenant.mvp.post("/leads", data='{"name":"M","value":%s}' % text, headers={"Content-Type": "application/json"})
        assert r.status_code == 201, r.text
        assert f'"value":{text},' in r.text, r.text


def test_customer_statistics(fresh):
    for status, industry in (("active", "Tech"), ("active", "Health"), ("inactive", "Tech")):
        fresh.backend.post("/customers", json={"companyName": "C", "status": status, "industry": industry})
    s = fresh.backend.get("/customers/stats").json()["data"]
    assert (s["total"], s["active"], s["inactive"], s["newThisMonth"]) == (3, 2, 1, 3)
    assert {r["value"]: r["count"] for r in s["byIndustry"]} == {"Tech": 2, "Health": 1}


def test_bulk_gives_each_item_its_result(fresh):
    r = fresh.saas.post("/leads/bulk", json={"leads": [{"firstName": "A", "lastName": "Good"}, {"firstName": "B", "lastName": "Bad", "email": "nope"}, {"firstName": "C", "lastName": "Good"}]})
    assert r.status_code == 200, r.text
    body = r.json()
    assert (body["created"], body["failed"]) == (2, 1) and [x["index"] for x in body["results"]] == [0, 1, 2]
    bad = body["results"][1]
    assert bad["lead"] is None and bad["error"]["details"][0]["field"] == "email", bad
    assert body["results"][2]["lead"]["id"].startswith("lead_") and body["results"][2]["error"] is None
    assert fresh.saas.get("/leads").json()["totalCount"] == 2


def test_bulk_without_what_every_lead_needs_is_refused_whole(fresh):
    r = fresh.saas.post("/leads/bulk", json={"leads": [{"firstName": "A", "lastName": "Good"}, {"lastName": "Only"}]})
    assert r.status_code == 422 and r.json()["error"]["details"][0]["field"] == "leads.1.firstName", r.text
    assert fresh.saas.get("/leads").json()["totalCount"] == 0
