"""The five documents held against what runs: every JSON block printed in them, and every route they name.

A block of a request is sent as it is printed (ids and credentials put in); a block of a response is held against the answer: the same
members with the same JSON types, nothing more than EXTRA lists, and what was written is what is read.
"""

import base64
import copy
import json
import re
import uuid

import pytest
import requests

import documents
from conftest import AT_5000, BASE, PASSWORD, Face, Tenant

DOCUMENTS = ("backend", "saas", "system", "mvp", "elevate")
TABLE = [line.split() for line in (documents.ROOT / "tests" / "e2e" / "documented_routes.txt").read_text().splitlines() if line and not line.startswith("#")]
BLOCKS = {(d, heading, n): value for d in DOCUMENTS for heading, n, value in documents.json_blocks(d)}

# Members that we print and a document does not.
EXTRA = {
    "backend": {"message", "errors", "meta", "status", "preferences", "createdAt"},
    "saas": {"jobTitle", "value", "notes", "assignedTo", "customFields", "updatedAt", "phone", "company", "source", "createdAt", "createdBy", "tenantId",
             "hasNextPage", "hasPreviousPage"},
    "system": {"custom_fields", "updated_at", "description"},
    "mvp": set(),
    "elevate": {"last_contact"},
}


# -- comparing

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def kind(value):
    if value is None or isinstance(value, bool):
        return str(value is None and "null" or "boolean")
    return {int: "number", float: "number", str: "string", list: "list", dict: "object"}[type(value)]


def form(text):
    """What must be the same about two texts: times are times, ids are ids of the same style."""
    if TIME.match(text):
        return "time"
    if re.match(r"[a-z]+_\d+$", text):
        return text.split("_")[0]
    return "uuid" if text == "uuid" or (re.match(r"(user|tenant|tag|customer)-id$", text)) else None


def differences(document, wanted, got, at="$"):
    """Where got has not the shape of wanted."""
    if wanted is None:
        return []
    if kind(wanted) != kind(got):
        return [f"{at}: {kind(got)} instead of {kind(wanted)}"]
    if isinstance(wanted, dict):
        if at.split(".")[-1] == "attributes":
            return []
        out = [f"{at}.{k}: missing" for k in wanted if k not in got]
        if wanted:
            out += [f"{at}.{k}: not in the document" for k in got if k not in wanted and k not in EXTRA[document] and at.split(".")[-1] not in FREE]
        for k in wanted:
            if k in got:
                out += differences(document, wanted[k], got[k], f"{at}.{k}")
        return out
    if isinstance(wanted, list) and wanted:
        if not got:
            return [f"{at}: empty"]
        return [d for i, item in enumerate(got) for d in differences(document, wanted[0], item, f"{at}[{i}]")]
    if isinstance(wanted, str) and form(wanted):
        style = form(got)
        ok = UUID.match(got) if form(wanted) == "uuid" else style == form(wanted)
        return [] if ok else [f"{at}: {got!r} is not of the form of {wanted!r}"]
    return []


FREE = {"custom_fields", "customFields", "settings", "preferences", "attributes"}  # objects whose members are the user's


def written(sent, got, at="$"):
    """What was sent and is not what is read, where both have the member."""
    return [f"{at}.{k}: {got[k]!r} instead of {v!r}" for k, v in sent.items() if k in got and kind(v) == kind(got[k]) and kind(v) != "object"
            and (sorted(v) != sorted(got[k]) if kind(v) == "list" and v and kind(got[k][0] if got[k] else "") == "string" else kind(v) != "list" and v != got[k])]


def answer(document, block, response, status=200, sent=None, item=None):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("application/json"), response.headers
    body = response.json()
    wrong = differences(document, block, body)
    if sent is not None:
        wrong += written(sent, item(body) if item else body)
    assert not wrong, "\n".join(wrong) + "\n" + response.text


# -- the world of each document: its own tenant, with what the printed requests refer to


class World:
    def __init__(self):
        self.tenant = Tenant()
        self.email = self.tenant.email
        self.cache = {}

    def once(self, key, make):
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def known(self, sent):
        """Credentials of the document for ours."""
        return {**sent, **({"email": self.email, "password": PASSWORD} if "password" in sent else {})}

    def new(self, sent):
        return {**sent, "email": f"doc-{uuid.uuid4().hex[:12]}@example.com"}


@pytest.fixture(scope="module")
def worlds(stack):
    return {d: World() for d in DOCUMENTS}


def block(document, heading, n=0):
    return copy.deepcopy(BLOCKS[document, heading, n])


GOLDEN = {}


def golden(document, *keys):
    """Declares the case for blocks (heading, n) or heading of a document."""
    def take(case):
        for key in keys:
            heading, n = key if isinstance(key, tuple) else (key, 0)
            assert (document, heading, n) in BLOCKS, (document, heading, n)
            assert (document, heading, n) not in GOLDEN
            GOLDEN[document, heading, n] = case
        return case
    return take


# -- backend (000)


def backend_login(w):
    sent = {**w.known(block("backend", "POST /auth/login")), "tenantId": w.once("uuid", lambda: w.tenant.backend.get("/auth/profile").json()["data"]["tenantId"])}
    return requests.post(BASE["backend"] + "/auth/login", json=sent, timeout=20)


def backend_customer(w):
    def make():
        w.tenant.backend.put("/auth/profile", json={"avatar": "https://example.com/a.png"})
        tags = [w.tenant.backend.post("/customers/tags", json={"name": n, "color": "#f59e0b"}).json()["data"]["id"] for n in ("VIP", "Key")]
        sent = {**block("backend", "POST /customers"), "tags": tags, "assignedTo": w.tenant.backend.get("/auth/profile").json()["data"]["id"]}
        return sent, w.tenant.backend.post("/customers", json=sent)
    return w.once("customer", make)


@golden("backend", "POST /auth/login", ("POST /auth/login", 1), "POST /auth/refresh", ("POST /auth/refresh", 1), "POST /auth/logout")
def backend_sessions(w):
    backend_customer(w)
    first = backend_login(w)
    wanted = block("backend", "POST /auth/login", 1)
    answer("backend", wanted, first)
    token = first.json()["data"]["refreshToken"]
    answer("backend", block("backend", "POST /auth/refresh", 1), requests.post(BASE["backend"] + "/auth/refresh", json={**block("backend", "POST /auth/refresh"), "refreshToken": token}, timeout=20))
    r = Face("backend", first.json()["data"]["token"]).post("/auth/logout", json={**block("backend", "POST /auth/logout"), "refreshToken": token})
    assert r.status_code == 200 and r.json()["success"] is True, r.text


@golden("backend", "GET /auth/profile", "PUT /auth/profile", "GET /auth/permissions")
def backend_profile(w):
    sent = {**block("backend", "PUT /auth/profile"), "avatar": "https://example.com/b.png"}
    backend_login(w)
    assert written(sent, w.tenant.backend.put("/auth/profile", json=sent).json()["data"]) == []
    answer("backend", block("backend", "GET /auth/profile"), w.tenant.backend.get("/auth/profile"), sent=sent, item=lambda b: b["data"])
    answer("backend", block("backend", "GET /auth/permissions"), w.tenant.backend.get("/auth/permissions"))


@golden("backend", "GET /customers", "POST /customers", "Standard Response Format")
def backend_customers(w):
    wanted = block("backend", "GET /customers")
    sent, made = backend_customer(w)
    answer("backend", {"success": True, "data": wanted["data"][0]}, made, 201, sent, lambda b: b["data"])
    listed = w.tenant.backend.get("/customers")
    answer("backend", wanted, listed, sent=sent, item=lambda b: b["data"][0])
    answer("backend", {"success": True, "data": wanted["data"][0]}, w.tenant.backend.get("/customers/" + made.json()["data"]["id"]))
    standard = block("backend", "Standard Response Format")
    assert set(listed.json()) == set(standard) and set(listed.json()["meta"]) == set(standard["meta"])
    assert listed.json()["message"] == standard["message"] and listed.json()["errors"] == []


@golden("backend", "Standard Error Response")
def backend_error(w):
    r = requests.post(BASE["backend"] + "/auth/login", json={"password": "x"}, timeout=20)
    assert r.status_code == 422 and r.json() == block("backend", "Standard Error Response"), r.text


# -- saas (001)


@golden("saas", "Obtaining Access Token", ("Obtaining Access Token", 1), "Refreshing Access Token", ("Refreshing Access Token", 1), "Tenant Identification")
def saas_sessions(w):
    r = requests.post(BASE["saas"] + "/auth/login", json=w.known(block("saas", "Obtaining Access Token")), timeout=20)
    answer("saas", block("saas", "Obtaining Access Token", 1), r)
    again = requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": r.json()["refreshToken"]}, timeout=20)
    answer("saas", block("saas", "Refreshing Access Token", 1), again)
    part = again.json()["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    wanted = block("saas", "Tenant Identification")
    assert {k: form(claims[k]) for k in ("nameid", "tenantid")} == {k: form(wanted[k]) for k in ("nameid", "tenantid")} and isinstance(claims["role"], str)


@golden("saas", "Standard Request", "Standard Success Response", "List Response (Paginated)", "Response")
def saas_leads(w):
    sent = block("saas", "Standard Request")
    made = w.tenant.saas.post("/leads", json=sent)
    answer("saas", block("saas", "Standard Success Response"), made, 201, sent)
    w.tenant.saas.post("/leads", json={"firstName": "Jane", "lastName": "Smith", "email": "jane.smith@example.com", "status": "Qualified"})
    listed = w.tenant.saas.get("/leads")
    wanted = block("saas", "List Response (Paginated)")
    answer("saas", wanted, listed)
    assert {i["email"]: (i["firstName"], i["status"]) for i in listed.json()["items"]} == {i["email"]: (i["firstName"], i["status"]) for i in wanted["items"]}
    answer("saas", {**block("saas", "Response"), "items": wanted["items"]}, w.tenant.saas.get("/leads?page=1&pageSize=50&sortBy=createdAt&sortOrder=desc"))


@golden("saas", "Error Response Format")
def saas_error(w):
    wanted = block("saas", "Error Response Format")
    r = w.tenant.saas.post("/leads", json={**block("saas", "Standard Request"), "email": "nope"})
    assert r.status_code == 422 and r.json()["error"] == wanted["error"] and r.json()["path"] == wanted["path"], r.text
    assert set(r.json()) == set(wanted) and TIME.match(r.json()["timestamp"])


# -- system (002)


@golden("system", "Login", ("Login", 1), "Refresh Token", "Register", "User Profile")
def system_sessions(w):
    sent = w.new(block("system", "Register"))
    r = requests.post(BASE["system"] + "/auth/register/", json=sent, timeout=20)
    answer("system", block("system", "Login", 1), r, 201, sent, lambda b: b["user"])
    login = requests.post(BASE["system"] + "/auth/login/", json={**block("system", "Login"), "email": sent["email"], "password": sent["password"]}, timeout=20)
    answer("system", block("system", "Login", 1), login)
    refreshed = requests.post(BASE["system"] + "/auth/refresh/", json={**block("system", "Refresh Token"), "refresh": login.json()["refresh"]}, timeout=20)
    assert refreshed.status_code == 200 and set(refreshed.json()) == {"access"}
    profile = Face("system", refreshed.json()["access"]).get("/core/profile/")
    answer("system", block("system", "User Profile"), profile, sent=sent)
    assert profile.json()["companies"] == [{"id": profile.json()["companies"][0]["id"], "name": sent["company_name"], "role": "admin"}]


@golden("system", "Health Check")
def system_health(w):
    r = requests.get(BASE["system"] + "/core/health/", timeout=20)
    answer("system", block("system", "Health Check"), r)
    assert r.json()["status"] == "healthy"


def system_territory(w):
    return w.once("territory", lambda: w.tenant.system.post("/territories/territories/", json=block("system", "Create Territory")))


def system_account(w):
    def make():
        sent = {**block("system", "Create Account"), "territory": system_territory(w).json()["id"]}
        return sent, w.tenant.system.post("/crm/accounts/", json=sent)
    return w.once("account", make)


def system_contact(w):
    def make():
        sent = {**block("system", "Create Contact"), "account": system_account(w)[1].json()["id"]}
        return sent, w.tenant.system.post("/crm/contacts/", json=sent)
    return w.once("contact", make)


@golden("system", "List Territories", "Create Territory", "Assign Accounts to Territory")
def system_territories(w):
    wanted, sent, made = block("system", "List Territories"), block("system", "Create Territory"), system_territory(w)
    answer("system", wanted["results"][0], made, 201, sent)
    answer("system", wanted, w.tenant.system.get("/territories/territories/"), sent=sent, item=lambda b: b["results"][0])
    ids = [system_account(w)[1].json()["id"]] + [w.tenant.system.post("/crm/accounts/", json={"name": n}).json()["id"] for n in ("Two", "Three")]
    r = w.tenant.system.post(f"/territories/territories/{made.json()['id']}/assign-accounts/", json={**block("system", "Assign Accounts to Territory"), "account_ids": ids})
    assert r.status_code == 200, r.text
    assert all(w.tenant.system.get(f"/crm/accounts/{i}/").json()["territory"] == {"id": made.json()["id"], "name": sent["name"]} for i in ids)


@golden("system", "List Accounts", "Create Account", "📄 Pagination")
def system_accounts(w):
    wanted = block("system", "List Accounts")
    sent, made = system_account(w)
    item = wanted["results"][0]
    answer("system", item, made, 201, {k: v for k, v in sent.items() if k != "territory"})
    assert made.json()["custom_fields"] == sent["custom_fields"] and made.json()["territory"] == {"id": sent["territory"], "name": "New Territory"}
    for path in ("?search=newcompany", "?search=5559876543", "?account_type=Prospect&industry=Healthcare", f"?territory={sent['territory']}&search=New Company",
                 "?created_after=2024-01-01&created_before=2199-12-31&search=New Company", "?ordering=name&search=New Company", "?ordering=-created_at&search=New Company"):
        answer("system", {**wanted, "next": None}, w.tenant.system.get("/crm/accounts/" + path))
    for i in range(5):
        w.tenant.system.post("/crm/accounts/", json={**sent, "name": f"Page {i}"})
    page = w.tenant.system.get("/crm/accounts/?page=2&page_size=2&search=Page")
    answer("system", {**block("system", "📄 Pagination"), "results": [item]}, page)
    for name, number in (("next", 3), ("previous", 1)):
        assert page.json()[name].startswith(BASE["system"] + "/crm/accounts/?") and re.search(rf"[?&]page={number}(&|$)", page.json()[name]), page.json()[name]


@golden("system", "List Contacts", "Create Contact")
def system_contacts(w):
    wanted = block("system", "List Contacts")
    sent, made = system_contact(w)
    answer("system", wanted["results"][0], made, 201, {k: v for k, v in sent.items() if k != "account"})
    assert made.json()["account"] == {"id": sent["account"], "name": "New Company"}
    for path in ("", "?search=Jane Smith", "?search=jane.smith@", "?search=5559876543", f"?account={sent['account']}", "?title=CTO"):
        answer("system", wanted, w.tenant.system.get("/crm/contacts/" + path))


@golden("system", "List Leads", "Convert Lead")
def system_leads(w):
    wanted = block("system", "List Leads")
    sent = {k: v for k, v in wanted["results"][0].items() if k not in ("id", "created_at", "updated_at")}
    made = w.tenant.system.post("/crm/leads/", json={**sent, "territory": system_territory(w).json()["id"]})
    answer("system", wanted["results"][0], made, 201, {k: v for k, v in sent.items() if k != "territory"})
    for path in ("", "?search=lead@prospect", "?search=Prospect Company", "?lead_source=Website&status=New"):
        answer("system", wanted, w.tenant.system.get("/crm/leads/" + path))
    deal = w.tenant.system.post("/deals/deals/", json={"name": "Of a lead", "amount": 5, "expected_close_date": "2024-04-01", "contact": system_contact(w)[1].json()["id"], "account": system_account(w)[1].json()["id"]}).json()["id"]
    r = w.tenant.system.post(f"/crm/leads/{made.json()['id']}/convert/", json={**block("system", "Convert Lead"), "deal_id": deal, "account_id": system_account(w)[1].json()["id"], "contact_id": system_contact(w)[1].json()["id"]})
    assert r.status_code == 200 and r.json()["status"] == "Converted", r.text


@golden("system", "Error Response Format")
def system_error(w):
    wanted = block("system", "Error Response Format")["error"]
    r = w.tenant.system.post("/crm/accounts/", json={})
    got = r.json()["error"]
    assert r.status_code == wanted["status_code"] and TIME.match(got["timestamp"])
    assert {**got, "timestamp": 0} == {**wanted, "timestamp": 0, "details": {"name": wanted["details"]["field_name"]}}, r.text


# -- mvp (003)


@golden("mvp", "Login", ("Login", 1))
def mvp_login(w):
    answer("mvp", block("mvp", "Login", 1), requests.post(BASE["mvp"] + "/auth/login", json=w.known(block("mvp", "Login")), timeout=20))


@golden("mvp", "Get All Leads", "Create Lead", "Update Lead")
def mvp_leads(w):
    wanted, sent = block("mvp", "Get All Leads"), block("mvp", "Create Lead")
    made = w.tenant.mvp.post("/leads", json=sent)
    answer("mvp", wanted["leads"][0], made, 201, sent)
    for path in ("", "?status=new&source=referral", "?limit=1&offset=0"):
        answer("mvp", wanted, w.tenant.mvp.get("/leads" + path), sent=sent, item=lambda b: b["leads"][0])
    change = block("mvp", "Update Lead")
    answer("mvp", wanted["leads"][0], w.tenant.mvp.put(f"/leads/{made.json()['id']}", json=change), sent={**sent, **change})
    answer("mvp", wanted["leads"][0], w.tenant.mvp.get(f"/leads/{made.json()['id']}"), sent={**sent, **change})
    assert w.tenant.mvp.delete(f"/leads/{made.json()['id']}").status_code == 204


@golden("mvp", "Get All Contacts", "Create Contact")
def mvp_contacts(w):
    wanted, sent = block("mvp", "Get All Contacts"), block("mvp", "Create Contact")
    full = {k: v for k, v in wanted["contacts"][0].items() if k not in ("id", "createdAt")}
    made = w.tenant.mvp.post("/contacts", json=sent)
    assert made.status_code == 201 and written(sent, made.json()) == [], made.text
    answer("mvp", wanted["contacts"][0], w.tenant.mvp.post("/contacts", json=full), 201, full)
    w.tenant.mvp.delete(f"/contacts/{made.json()['id']}")
    for path in ("", "?search=alice", "?search=Innovation", "?tags=technical,none", "?sort=name&order=asc", "?sort=company&order=desc", "?sort=createdAt"):
        answer("mvp", wanted, w.tenant.mvp.get("/contacts" + path), sent=full, item=lambda b: b["contacts"][0])


@golden("mvp", "Error Handling")
def mvp_error(w):
    r = w.tenant.mvp.post("/leads", json={**block("mvp", "Create Lead"), "email": "nope"})
    assert r.status_code == 422 and r.json() == block("mvp", "Error Handling"), r.text


# -- elevate (004)


@golden("elevate", "POST /api/v1/auth/register", ("POST /api/v1/auth/register", 1), "POST /api/v1/auth/login", ("POST /api/v1/auth/login", 1), "POST /api/v1/auth/refresh",
        ("POST /api/v1/auth/refresh", 1), "POST /api/v1/auth/logout")
def elevate_sessions(w):
    sent = w.new(block("elevate", "POST /api/v1/auth/register"))
    made = requests.post(BASE["elevate"] + "/auth/register", json=sent, timeout=20)
    answer("elevate", block("elevate", "POST /api/v1/auth/register", 1), made, 201, sent, lambda b: b["user"])
    login = requests.post(BASE["elevate"] + "/auth/login", json={**block("elevate", "POST /api/v1/auth/login"), "email": sent["email"]}, timeout=20)
    answer("elevate", block("elevate", "POST /api/v1/auth/login", 1), login)
    refreshed = requests.post(BASE["elevate"] + "/auth/refresh", json={"refresh_token": login.json()["refresh_token"]}, timeout=20)
    answer("elevate", block("elevate", "POST /api/v1/auth/refresh", 1), refreshed)
    out = Face("elevate", refreshed.json()["access_token"]).post("/auth/logout")
    assert out.status_code == 200 and out.json() == block("elevate", "POST /api/v1/auth/logout")


@golden("elevate", "GET /api/v1/customers", "POST /api/v1/customers", ("POST /api/v1/customers", 1), "GET /api/v1/customers/{customer_id}", "PUT /api/v1/customers/{customer_id}",
        "DELETE /api/v1/customers/{customer_id}")
def elevate_customers(w):
    sent = block("elevate", "POST /api/v1/customers")
    made = w.tenant.elevate.post("/customers", json=sent)
    answer("elevate", block("elevate", "POST /api/v1/customers", 1), made, 201, sent)
    assert made.json()["address"] == sent["address"] and made.json()["rating"] is None and '"total_value":0.00' in made.text and made.json()["total_orders"] == 0
    path = f"/customers/{made.json()['id']}"
    change = block("elevate", "PUT /api/v1/customers/{customer_id}")
    detail = {**block("elevate", "GET /api/v1/customers/{customer_id}"), "last_contact": None}
    answer("elevate", detail, w.tenant.elevate.put(path, json=change), sent={**sent, **change})
    answer("elevate", detail, w.tenant.elevate.get(path), sent={**sent, **change})
    wanted = block("elevate", "GET /api/v1/customers")
    wanted["items"][0]["last_contact"] = None
    for query in ("", "?search=John Smith", "?search=jane@", "?status=active", "?sort=name&order=asc", "?sort=email", "?sort=created_at&order=desc", "?page=1&limit=1"):
        listed = w.tenant.elevate.get("/customers" + query)
        answer("elevate", wanted, listed, sent=change, item=lambda b: {k: v for k, v in b["items"][0].items() if k != "notes"})
    r = w.tenant.elevate.delete(path)
    assert r.status_code == 200 and r.json() == block("elevate", "DELETE /api/v1/customers/{customer_id}")


@golden("elevate", "Error Handling")
def elevate_error(w):
    r = w.tenant.elevate.post("/customers", json={**block("elevate", "POST /api/v1/customers"), "email": "nope"})
    assert r.status_code == 422 and r.json() == block("elevate", "Error Handling"), r.text


@golden("backend", "POST /sales")
def backend_sales(w):
    customer = w.tenant.backend.post("/customers", json={"companyName": "TechCorp Solutions"}).json()["data"]
    product = w.tenant.elevate.post("/products", json={"name": "Licence", "price": 50000}).json()
    me = w.tenant.backend.get("/auth/profile").json()["data"]["id"]
    sent = {**block("backend", "POST /sales"), "customerId": customer["id"], "assignedTo": me}
    sent["products"][0]["productId"] = product["id"]
    made = w.tenant.backend.post("/sales", json=sent)
    assert made.status_code == 201, made.text
    assert not written(sent, made.json()["data"]) and made.json()["data"]["products"] == [{**sent["products"][0], "name": "Licence", "discount": None, "total": 50000}]
    assert made.json()["data"]["customer"] == {"id": customer["id"], "name": customer["companyName"]}
    path = "/sales/" + made.json()["data"]["id"]
    assert w.tenant.backend.get(path).json()["data"] == made.json()["data"]
    assert w.tenant.backend.put(path, json={"title": "Renewed"}).json()["data"]["title"] == "Renewed"
    assert w.tenant.backend.patch(path + "/stage", json={"stage": "proposal"}).json()["data"]["stage"] == "proposal"
    assert w.tenant.backend.delete(path).status_code == 200 and w.tenant.backend.get(path).status_code == 404


@golden("system", "List Deals", "Create Deal", "Change Deal Stage", "Mark Deal Won", "Mark Deal Lost", "List Pipeline Stages")
def system_deals(w):
    stages = w.tenant.system.get("/deals/pipeline-stages/")
    answer("system", block("system", "List Pipeline Stages"), stages)
    assert stages.json()["count"] == 6 and [s["order"] for s in stages.json()["results"]] == list(range(6))
    account, contact = system_account(w)[1].json(), system_contact(w)[1].json()
    sent = {**block("system", "Create Deal"), "account": account["id"], "contact": contact["id"]}
    made = w.tenant.system.post("/deals/deals/", json=sent)
    wanted = block("system", "List Deals")
    item = wanted["results"][0]
    answer("system", item, made, 201, {k: v for k, v in sent.items() if k not in ("account", "contact", "stage")})
    assert '"amount":25000.00' in made.text.replace(" ", "") and made.json()["account"]["name"] == account["name"] and made.json()["stage"] == {"id": 1, "name": "Lead"}
    path = f"/deals/deals/{made.json()['id']}/"
    me = made.json()["owner"]["id"]
    for query in ("", "?search=new deal", f"?stage=1&status=Open&account={account['id']}&owner={me}&page=1&page_size=5", "?ordering=-amount"):
        answer("system", {**wanted, "next": None}, w.tenant.system.get("/deals/deals/" + query))
    moved = w.tenant.system.post(path + "change-stage/", json=block("system", "Change Deal Stage"))
    assert moved.status_code == 200 and moved.json()["stage"]["id"] == 2, moved.text
    won = w.tenant.system.post(path + "mark-won/", json=block("system", "Mark Deal Won"))
    assert won.json()["status"] == "Won" and won.json()["close_date"] == "2024-01-15" and won.json()["stage"]["name"] == "Closed Won", won.text
    lost = w.tenant.system.post("/deals/deals/", json=sent).json()
    lost = w.tenant.system.post(f"/deals/deals/{lost['id']}/mark-lost/", json=block("system", "Mark Deal Lost"))
    assert lost.json()["status"] == "Lost" and lost.json()["probability"] == 0, lost.text
    assert w.tenant.system.put(path, json={"amount": 1}).json()["error"]["details"] == {"name": ["This field is required."]}


@golden("system", "List Products", "Create Product", "List Product Categories")
def system_products(w):
    category = w.tenant.system.post("/products/categories/", json={"name": "Software", "description": "Software products and services"})
    answer("system", block("system", "List Product Categories")["results"][0], category, 201)
    answer("system", block("system", "List Product Categories"), w.tenant.system.get("/products/categories/"))
    sent = {**block("system", "Create Product"), "category": category.json()["id"]}
    made = w.tenant.system.post("/products/products/", json=sent)
    wanted = block("system", "List Products")
    answer("system", wanted["results"][0], made, 201, {k: v for k, v in sent.items() if k != "category"})
    assert made.json()["custom_fields"] == sent["custom_fields"] and made.json()["category"] == {"id": sent["category"], "name": "Software"}
    for query in ("", "?search=PROD-0", "?search=product description", f"?category={sent['category']}&is_active=true"):
        answer("system", wanted, w.tenant.system.get("/products/products/" + query))
    assert w.tenant.system.get("/products/products/?is_active=false").json()["count"] == 0


@golden("elevate", "GET /api/v1/products", "POST /api/v1/products", "POST /api/v1/products/{product_id}/stock")
def elevate_products(w):
    sent, wanted = block("elevate", "POST /api/v1/products"), block("elevate", "GET /api/v1/products")
    made = w.tenant.elevate.post("/products", json={**sent, "images": wanted["items"][0]["images"]})
    answer("elevate", wanted["items"][0], made, 201, sent)
    assert made.json()["attributes"] == sent["attributes"] and '"price":399.99' in made.text and '"cost":200.00' in made.text
    for query in ("", "?search=watch", "?search=SW-0", "?category=Electronics&status=active&low_stock=false", "?sort=stock&order=desc", "?sort=price", "?sort=sku", "?page=1&limit=1"):
        answer("elevate", {**wanted, "has_next": False}, w.tenant.elevate.get("/products" + query), sent=sent, item=lambda b: b["items"][0])
    path = f"/products/{made.json()['id']}"
    stocked = w.tenant.elevate.post(path + "/stock", json=block("elevate", "POST /api/v1/products/{product_id}/stock"))
    answer("elevate", wanted["items"][0], stocked)
    assert stocked.json()["stock_quantity"] == 35 and stocked.json()["cost"] == round((25 * 200 + 10 * 150) / 35, 4)
    assert w.tenant.elevate.put(path, json={"price": 350}).json()["price"] == 350
    assert w.tenant.elevate.delete(path).json() == {"message": "Product deleted successfully"}
    assert w.tenant.elevate.post("/products", json=sent).status_code == 201, "the SKU of a deleted product can be used again"


@golden("elevate", "POST /api/v1/orders", "PUT /api/v1/orders/{order_id}/status")
def elevate_orders(w):
    customer = w.tenant.elevate.post("/customers", json={"name": "Jane"}).json()
    product = w.tenant.elevate.post("/products", json={"name": "Headphones", "sku": "WH-9", "price": 299.99, "stock_quantity": 5}).json()
    sent = {**block("elevate", "POST /api/v1/orders"), "customer_id": customer["id"]}
    sent["items"][0]["product_id"] = product["id"]
    made = w.tenant.elevate.post("/orders", json=sent)
    assert made.status_code == 201, made.text
    assert made.json()["total"] == 599.98 and made.json()["status"] == "pending" and made.json()["shipping_address"] == sent["shipping_address"]
    assert w.tenant.elevate.get(f"/orders/{made.json()['id']}").json() == made.json()
    for query in ("", "?status=pending", f"?customer_id={customer['id']}&date_from=2024-01-01&date_to=2199-01-01", "?page=1&limit=1"):
        assert [o["id"] for o in w.tenant.elevate.get("/orders" + query).json()["items"]] == [made.json()["id"]], query
    path = f"/orders/{made.json()['id']}/status"
    assert w.tenant.elevate.put(path, json={"status": "confirmed"}).status_code == 200
    change = block("elevate", "PUT /api/v1/orders/{order_id}/status")
    shipped = w.tenant.elevate.put(path, json=change)
    assert shipped.status_code == 200 and not written(change, shipped.json()), shipped.text


# -- what belongs to later slices

LATER = {
    "backend": ["POST /tickets", "POST /contracts", "POST /users", "GET /dashboard/metrics", "POST /notifications"],
    "saas": [],
    "system": ["List Activities", "Create Activity", "List Tasks",
               "Create Task", "Complete Task", "List Events", "Create Event", "Dashboard Data"],
    "mvp": ["Get Conversations", "Get Messages for Lead", "Send Message", "Get All Agents", "Create Agent", "Execute Agent", "Dashboard Stats", "AI Performance", "Get All Integrations",
            "Connect Integration", "Get User Notifications", "Get User Achievements", "New Lead", "New Message", "Agent Status Update", "Metrics Update", "Webhook Payload"],
    "elevate": ["GET /api/v1/analytics/dashboard", "GET /api/v1/analytics/inventory", "Webhook Payload Format"],
}

CASES = list({case.__name__: (document, case) for (document, _, _), case in GOLDEN.items()}.items())


@pytest.mark.parametrize("name, document, case", [(n, d, c) for n, (d, c) in CASES], ids=[n for n, _ in CASES])
def test_golden(worlds, name, document, case):
    case(worlds[document])


def test_every_block_is_a_case_or_later(capsys):
    later = {k for k in BLOCKS if k[1] in LATER[k[0]]}
    unknown = [(d, h) for d in LATER for h in LATER[d] if not any(k[:2] == (d, h) for k in BLOCKS)]
    assert not unknown, f"no such heading: {unknown}"
    assert set(BLOCKS) - later - set(GOLDEN) == set(), "blocks without a case"
    assert later & set(GOLDEN) == set()
    with capsys.disabled():
        print(f"\n  {len(GOLDEN)} of {len(BLOCKS)} printed JSON blocks are golden cases, {len(later)} belong to later slices")


# -- routes


def served(document):
    paths = requests.get(f"{AT_5000}/openapi/{document}.json", timeout=10).json()["paths"]
    return {(method.upper(), documents.normal(path)) for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_table_names_every_documented_route(document):
    table = [(m, p) for d, _, m, p in TABLE if d == document]
    assert len(table) == len(set(table))
    assert set(table) == set(documents.routes(document))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_the_table_says_is_served_is_served(stack, document, capsys):
    table = {(m, p): state for d, state, m, p in TABLE if d == document}
    have = served(document)
    missing = sorted(r for r, state in table.items() if state == "served" and r not in have)
    early = sorted(r for r, state in table.items() if state == "later" and r in have)
    assert not missing, f"documented, of this slice and not served: {missing}"
    assert not early, f"served by now, still called later in documented_routes.txt: {early}"
    for method, path in sorted(r for r, state in table.items() if state == "served"):
        r = requests.request(method, BASE[document].split("/api")[0] + path.replace("{}", "1"), headers={"X-CRM-Dialect": document}, timeout=20)
        assert r.status_code in (200, 401, 400, 422), (method, path, r.status_code, r.text)
    with capsys.disabled():
        states = list(table.values())
        print(f"\n  {document}: {states.count('served')} of {len(states)} documented routes are served, {states.count('later')} come later")


def test_every_documented_origin_has_its_dialect(stack):
    for face, path in (("backend", "/customers"), ("saas", "/leads"), ("system", "/crm/accounts/"), ("mvp", "/leads"), ("elevate", "/customers")):
        assert requests.get(BASE[face] + path, timeout=20).headers["X-CRM-Dialect"] == face


# -- what the documents say in words


def test_lists_order_by_every_documented_member(worlds):
    t = worlds["system"].tenant
    for path, item in (("/crm/accounts/", block("system", "List Accounts")), ("/crm/contacts/", block("system", "List Contacts")), ("/crm/leads/", block("system", "List Leads")),
                       ("/territories/territories/", block("system", "List Territories"))):
        for member in (k for k, v in item["results"][0].items() if not isinstance(v, dict)):
            for sign in ("", "-"):
                r = t.system.get(path, params={"ordering": sign + member})
                assert r.status_code == 200, (path, member, r.text)
        assert t.system.get(path, params={"ordering": "nonsense"}).json()["error"]["details"].keys() == {"ordering"}
    for face, path, words in (("mvp", "/contacts", ("name", "company", "createdAt")), ("elevate", "/customers", ("name", "email", "created_at"))):
        f = getattr(worlds[face].tenant, face)
        for name in ("Bea", "Abe", "Cleo"):
            f.post(path, json={"name": name, "company": f"{name} & Co", "email": f"{name.lower()}@example.com"})
        for word in words:
            for order in ("asc", "desc"):
                body = f.get(path, params={"sort": word, "order": order, "search": "& Co"}).json()
                names = [i["name"] for i in body["contacts" if face == "mvp" else "items"]]
                right = ["Bea", "Abe", "Cleo"] if word.startswith("created") else ["Abe", "Bea", "Cleo"]
                assert names == (right if order == "asc" else right[::-1]), (face, word, order)


def test_lists_of_values_come_in_every_usual_form(fresh):
    ids = [fresh.backend.post("/customers/tags", json={"name": n}).json()["data"]["id"] for n in ("one", "two", "three")]
    for n, tag in enumerate(ids):
        fresh.backend.post("/customers", json={"companyName": f"C{n}", "tags": [tag]})
    for query in (f"tags={ids[0]}&tags={ids[1]}", f"tags[]={ids[0]}&tags[]={ids[1]}", f"tags%5B%5D={ids[0]}&tags%5B%5D={ids[1]}", f"tags={ids[0]},{ids[1]}",
                  f"tags[0]={ids[0]}&tags[1]={ids[1]}"):
        assert fresh.backend.get("/customers?" + query).json()["meta"]["total"] == 2, query
    account = fresh.system.get("/crm/accounts/").json()["results"]
    territory = fresh.system.post("/territories/territories/", data={"name": "Form", "is_active": "true"}).json()
    for name in ("account_ids", "account_ids[]"):
        r = fresh.system.post(f"/territories/territories/{territory['id']}/assign-accounts/", data=[(name, a["id"]) for a in account])
        assert r.status_code == 200 and r.json()["assigned"] == 3, r.text


def test_filters_of_customers(fresh):
    me = fresh.backend.get("/auth/profile").json()["data"]["id"]
    fresh.backend.post("/customers", json={**block("backend", "POST /customers"), "tags": [], "assignedTo": me})
    for query, total in (("industry=Technology", 1), ("industry=Health", 0), ("size=enterprise", 1), ("size=small", 0), (f"assignedTo={me}", 1), (f"assignedTo={uuid.uuid4()}", 0),
                         ("status=active", 1), ("status=inactive", 0), ("search=alice", 1), ("search=5550123", 1), ("search=%2B1-555", 1), ("sort=companyName&order=desc", 1)):
        r = fresh.backend.get("/customers?" + query)
        assert r.status_code == 200 and r.json()["meta"]["total"] == total, (query, r.text)
    for assignee in (str(uuid.uuid4()), "user-id", 99):
        r = fresh.backend.post("/customers", json={"companyName": "X", "assignedTo": assignee})
        assert r.status_code == 422 and [e["field"] for e in r.json()["errors"]] == ["assignedTo"], r.text
        assert r.json()["errors"][0]["message"].startswith("Assigned to "), r.text


@pytest.mark.parametrize("face, path, message", [("backend", "/customers", "Validation failed"), ("saas", "/leads", None), ("system", "/crm/leads/", "Validation failed"),
                                                ("mvp", "/leads", "Invalid request data"), ("elevate", "/customers", "Invalid input data")])
def test_empty_bodies(worlds, face, path, message):
    f = getattr(worlds[face].tenant, face)
    for kw in ({}, {"json": {}}, {"data": "{}", "headers": {"Content-Type": "application/json"}}):
        r = f.post(path, **kw)
        assert r.status_code == (400 if face == "system" else 422), r.text
        said = r.json()["message"] if face == "backend" else r.json()["error"]["message"]
        assert said == (message or "First name is required")
    assert f.post(path, data="null", headers={"Content-Type": "application/json"}).status_code == 400


@pytest.mark.parametrize("source, status", [("Website", "New"), ("Trade Show 2024", "On Hold"), ("api", "advertising")])
def test_unknown_words_stay_open(fresh, source, status):
    lead = fresh.saas.post("/leads", json={"firstName": "A", "lastName": "B", "source": source, "status": status}).json()
    assert (lead["source"], lead["status"]) == (source.title(), status.title())
    assert fresh.mvp.get("/leads", params={"source": source, "status": status}).json()["total"] == 1
    assert fresh.mvp.get("/leads").json()["leads"][0]["source"] == source.lower().replace(" ", "_")


def test_tenants_by_each_form_of_their_id(fresh):
    login = requests.post(BASE["backend"] + "/auth/login", json={"email": fresh.email, "password": PASSWORD}, timeout=20).json()["data"]
    pid = fresh.session["tenantId"]
    for value in (login["tenant"]["id"], pid.split("_")[1], pid):
        assert fresh.saas.get("/leads", headers={"X-Tenant-ID": value}).status_code == 200, value
    second = fresh.system.post("/core/companies/", json={"name": "Second"}).json()["id"]
    for face in ("backend",):
        r = requests.post(BASE[face] + "/auth/login", json={"email": fresh.email, "password": PASSWORD, "tenantId": second}, timeout=20).json()["data"]
        assert r["tenant"]["name"] == "Second" and r["user"]["tenantId"] == r["tenant"]["id"] != login["tenant"]["id"]
    refused = requests.post(BASE["backend"] + "/auth/login", json={"email": fresh.email, "password": PASSWORD, "tenantId": str(uuid.uuid4())}, timeout=20)
    assert refused.status_code == 401


def test_links_believe_no_stranger(fresh):
    for i in range(2):
        fresh.system.post("/crm/accounts/", json={"name": f"A{i}"})
    got = fresh.system.get("/crm/accounts/?page_size=1", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}).json()["next"]
    assert got.startswith(BASE["system"] + "/crm/accounts/?"), got


def test_head_and_options(worlds):
    for face, path in (("backend", "/customers"), ("saas", "/leads"), ("system", "/crm/accounts/"), ("mvp", "/leads"), ("elevate", "/customers")):
        f = getattr(worlds[face].tenant, face)
        head = f.call("HEAD", path)
        assert head.status_code == 200 and head.content == b"" and int(head.headers["Content-Length"]) > 0
        options = f.call("OPTIONS", path)
        assert options.status_code == 204 and {"GET", "HEAD", "POST"} <= set(options.headers["Allow"].split(", "))


# -- OpenAPI says what the documents say

RESPONSES = {
    "backend": [("POST /auth/login", 1, "post /api/v1/auth/login"), ("POST /auth/refresh", 1, "post /api/v1/auth/refresh"), ("GET /auth/profile", 0, "get /api/v1/auth/profile"),
                ("GET /auth/permissions", 0, "get /api/v1/auth/permissions"), ("GET /customers", 0, "get /api/v1/customers")],
    "saas": [("Obtaining Access Token", 1, "post /api/auth/login"), ("Refreshing Access Token", 1, "post /api/auth/refresh"), ("Standard Success Response", 0, "post /api/leads"),
             ("List Response (Paginated)", 0, "get /api/leads"), ("Response", 0, "get /api/leads")],
    "system": [("Login", 1, "post /api/auth/login/"), ("Health Check", 0, "get /api/core/health/"), ("User Profile", 0, "get /api/core/profile/"), ("List Accounts", 0, "get /api/crm/accounts/"),
               ("List Contacts", 0, "get /api/crm/contacts/"), ("List Leads", 0, "get /api/crm/leads/"), ("List Territories", 0, "get /api/territories/territories/")],
    "mvp": [("Login", 1, "post /api/auth/login"), ("Get All Leads", 0, "get /api/leads"), ("Get All Contacts", 0, "get /api/contacts")],
    "elevate": [("POST /api/v1/auth/register", 1, "post /api/v1/auth/register"), ("POST /api/v1/auth/login", 1, "post /api/v1/auth/login"), ("GET /api/v1/customers", 0, "get /api/v1/customers"),
                ("POST /api/v1/customers", 1, "post /api/v1/customers"), ("GET /api/v1/customers/{customer_id}", 0, "get /api/v1/customers/{customer_id}"),
                ("DELETE /api/v1/customers/{customer_id}", 0, "delete /api/v1/customers/{customer_id}")],
}
REQUESTS = {
    "backend": [("POST /auth/login", "post /api/v1/auth/login"), ("PUT /auth/profile", "put /api/v1/auth/profile"), ("POST /customers", "post /api/v1/customers"), ("POST /auth/logout", "post /api/v1/auth/logout")],
    "saas": [("Obtaining Access Token", "post /api/auth/login"), ("Standard Request", "post /api/leads"), ("Refreshing Access Token", "post /api/auth/refresh")],
    "system": [("Register", "post /api/auth/register/"), ("Create Account", "post /api/crm/accounts/"), ("Create Contact", "post /api/crm/contacts/"), ("Convert Lead", "post /api/crm/leads/{id}/convert/"),
               ("Create Territory", "post /api/territories/territories/"), ("Assign Accounts to Territory", "post /api/territories/territories/{id}/assign-accounts/")],
    "mvp": [("Create Lead", "post /api/leads"), ("Update Lead", "put /api/leads/{id}"), ("Create Contact", "post /api/contacts")],
    "elevate": [("POST /api/v1/auth/register", "post /api/v1/auth/register"), ("POST /api/v1/customers", "post /api/v1/customers"), ("PUT /api/v1/customers/{customer_id}", "put /api/v1/customers/{customer_id}")],
}
ERRORS = {"backend": "Standard Error Response", "saas": "Error Response Format", "system": "Error Response Format", "mvp": "Error Handling", "elevate": "Error Handling"}
STATUSES = {"backend": {200, 201, 400, 401, 403, 404, 409, 422, 429, 500, 503}, "saas": {200, 201, 204, 400, 401, 403, 404, 409, 422, 429, 500},
            "system": {200, 201, 204, 400, 401, 403, 404, 409, 500, 503}, "mvp": {200, 201, 400, 401, 403, 404, 422, 500}, "elevate": {200, 201, 400, 401, 403, 404, 422, 429, 500}}


def lacks(spec, schema, value, at="$"):
    """Members of a printed value that a schema does not have."""
    while "$ref" in schema or "oneOf" in schema:
        if "oneOf" in schema:
            schema = next(s for s in schema["oneOf"] if s.get("type") != "null")
            continue
        node = spec
        for part in schema["$ref"].lstrip("#/").split("/"):
            node = node[part]
        schema = node
    if isinstance(value, list):
        return [x for v in value[:1] for x in lacks(spec, schema.get("items", {}), v, at + "[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    return [f"{at}.{k}" for k in value if k not in schema["properties"]] + [x for k, v in value.items() if k in schema["properties"] for x in lacks(spec, schema["properties"][k], v, f"{at}.{k}")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_openapi_has_every_documented_member_and_status(stack, document):
    spec = requests.get(f"{AT_5000}/openapi/{document}.json", timeout=10).json()
    wrong, statuses = [], set()
    for heading, n, route in RESPONSES[document]:
        method, path = route.split()
        op = spec["paths"][path][method]
        good = next(r for s, r in op["responses"].items() if s.startswith("2"))
        wrong += [(route, x) for x in lacks(spec, good["content"]["application/json"]["schema"], block(document, heading, n))]
    for heading, route in REQUESTS[document]:
        method, path = route.split()
        content = spec["paths"][path][method]["requestBody"]["content"]["application/json"]
        wrong += [(route, x) for x in lacks(spec, content["schema"], block(document, heading))]
        wrong += [(route, "example", k) for k, v in content.get("example", {}).items() if k != "avatar" and block(document, heading).get(k) != v]
    wrong += lacks(spec, spec["components"]["schemas"]["Error"], block(document, ERRORS[document]))
    assert not wrong
    for methods in spec["paths"].values():
        for op in methods.values():
            statuses |= {int(s) for s in op["responses"]}
    assert STATUSES[document] <= statuses, STATUSES[document] - statuses


PARAMETERS = {
    "backend": {"get /api/v1/customers": "page limit search status industry size assignedTo tags sort order", "get /api/v1/customers/search": "q status industry size assignedTo tags sort order page limit",
                "get /api/v1/audit/logs": "page limit action resource userId dateFrom dateTo search"},
    "saas": {"get /api/leads": "page pageSize sortBy sortOrder", "get /api/contacts": "page pageSize sortBy sortOrder", "get /api/companies": "page pageSize sortBy sortOrder"},
    "system": {"get /api/crm/accounts/": "search account_type industry territory page page_size created_after created_before ordering", "get /api/crm/contacts/": "search account title page page_size ordering",
               "get /api/crm/leads/": "search lead_source status territory page page_size ordering", "get /api/territories/territories/": "search is_active page page_size ordering",
               "get /api/core/companies/": "page page_size", "get /api/system-config/users/": "page page_size ordering"},
    "mvp": {"get /api/leads": "status source limit offset", "get /api/contacts": "search tags sort order"},
    "elevate": {"get /api/v1/customers": "page limit search status sort order"},
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_openapi_has_every_documented_parameter(stack, document):
    spec = requests.get(f"{AT_5000}/openapi/{document}.json", timeout=10).json()
    for route, words in PARAMETERS[document].items():
        method, path = route.split()
        have = {p["name"]: p for p in spec["paths"][path][method]["parameters"]}
        assert set(words.split()) <= set(have), (route, set(words.split()) - set(have))
        assert "X-Tenant-ID" in have
        assert all(p.get("description") for name, p in have.items() if name in ("page", "limit", "search", "sort", "order", "ordering", "pageSize", "page_size", "offset"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_openapi_requires_members_for_creation_only(stack, document):
    spec = requests.get(f"{AT_5000}/openapi/{document}.json", timeout=10).json()
    for path, methods in spec["paths"].items():
        for method in ("put", "patch"):
            if method not in methods or (document == "system" and method == "put" and "profile" not in path):
                continue
            if path.endswith(("/stage", "/status")):  # actions: they say what they need
                continue
            name = methods[method]["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            assert "required" not in spec["components"]["schemas"][name], (method, path, name)


def test_duplicates_are_named(fresh):
    """A client that shows the message alone says what is taken."""
    fresh.backend.post("/customers/tags", json={"name": "VIP"})
    r = fresh.backend.post("/customers/tags", json={"name": "vip"})
    assert r.status_code == 409 and r.json()["message"] == "Name is already in use" and r.json()["errors"][0] == {"code": "DUPLICATE", "message": "Name is already in use", "field": "name"}
    r = requests.post(BASE["saas"] + "/auth/register", json={"email": fresh.email, "password": "Admin@123", "tenantName": "x"}, timeout=20)
    assert r.status_code == 409 and r.json()["error"]["code"] == "DUPLICATE" and r.json()["error"]["message"] == "Email is already registered"
