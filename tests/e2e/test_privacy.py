"""Subject export and erasure (S12): what is kept of a person can be had, and is gone afterwards from everywhere, while the log still verifies."""

import glob
import os
import pathlib
import shutil
import subprocess
import uuid

import pytest
import requests

from conftest import BASE, wait_until

pytestmark = pytest.mark.bus
RUN = pathlib.Path(os.environ.get("CRM_RUN_DIR") or pathlib.Path(__file__).resolve().parents[2] / ".run")
PG_DUMP = os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin") + "/pg_dump"


class Canary:
    """A person whose every datum is a word that nobody else has."""

    def __init__(self):
        word = "zq" + uuid.uuid4().hex[:10]
        self.email = f"{word}@canary.example"
        self.given, self.family = f"Given{word}", f"Family{word}"
        self.phone = "+49" + str(uuid.uuid4().int)[:11]
        self.note, self.custom = f"note-{word}", f"custom-{word}"
        self.words = [word, self.phone[1:]]

    def lead(self):
        return {"firstName": self.given, "lastName": self.family, "email": self.email, "phone": self.phone, "notes": self.note,
                "customFields": {"nickname": self.custom}}


def dump():
    if not (RUN / "sock").is_dir() or not shutil.which(PG_DUMP):
        pytest.skip("the stack's database cannot be dumped from here")
    r = subprocess.run([PG_DUMP, "-h", str(RUN / "sock"), "-p", "55432", "-U", "postgres", "crm"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 0, r.stderr
    return r.stdout.lower()


def hits(data, canary):
    """In clear and as bytea prints it."""
    return sum(data.count(w.lower().encode()) + data.count(w.encode().hex().encode()) + data.count(w.lower().encode().hex().encode()) for w in canary.words)


def logs():
    return b"".join(pathlib.Path(p).read_bytes() for p in glob.glob(str(RUN / "log" / "*"))).lower()


def known(tenant, resource, n):
    return wait_until(lambda: (lambda j: j if j["meta"]["total"] >= n else None)(tenant.backend.get("/audit/logs", params={"resource": resource}).json()), 8.0)["data"]


def populate(tenant, canary):
    made = {}
    r = tenant.saas.post("/leads", json=canary.lead(), headers={"Idempotency-Key": uuid.uuid4().hex})
    assert r.status_code == 201, r.text
    made["lead"] = r.json()["id"]
    assert tenant.saas.put(f"/leads/{made['lead']}", json={**canary.lead(), "notes": canary.note + " again"}).status_code == 200
    r = tenant.saas.post("/contacts", json=canary.lead())
    assert r.status_code == 201, r.text
    made["contact"] = r.json()["id"]
    return made


def test_a_person_is_exported_and_erased_everywhere(fresh, other):
    canary = Canary()
    made = populate(fresh, canary)
    entries = known(fresh, "lead", 2) and known(fresh, "contact", 1)
    text = str(fresh.backend.get("/audit/logs", params={"resource": "lead"}).json())
    assert canary.email in text and canary.note in text and canary.custom in text, "who may read the log reads it in clear"
    assert entries
    # the log itself has it sealed; the live row, the outbox and the bus have it
    assert hits(dump(), canary) > 0
    assert other.native.post("/privacy/export", json={"email": canary.email}).json()["subjects"] == []

    r = fresh.native.post("/privacy/export", json={"email": canary.email})
    assert r.status_code == 200, r.text
    out = r.json()
    assert {s["entity"] for s in out["subjects"]} == {"lead", "contact"} and out["hasMore"] is False
    document = out["document"]
    assert {s["data"]["email"] for s in document["subjects"]} == {canary.email}
    assert len([e for e in document["entries"] if e["entity"] == "lead"]) == 2 and canary.custom in str(document["entries"])

    r = fresh.native.post("/privacy/erase", json={"email": canary.email})
    assert r.status_code == 200, r.text
    assert {s["entity"] for s in r.json()["subjects"]} == {"lead", "contact"}
    wait_until(lambda: fresh.backend.get("/audit/logs", params={"search": "audit.privacy.erased"}).json()["meta"]["total"] == 1, 8.0)
    assert hits(dump(), canary) == 0, [line for line in dump().split(b"\n") if any(w.lower().encode() in line or w.encode().hex().encode() in line for w in canary.words)][:3]
    assert hits(logs(), canary) == 0
    lead = fresh.saas.get(f"/leads/{made['lead']}").json()
    assert canary.words[0] not in str(lead) and lead["email"] is None
    for face, path in (("saas", "/leads"), ("saas", "/contacts"), ("backend", "/audit/logs")):
        found = getattr(fresh, face).get(path, params={"search": canary.words[0]})
        assert found.status_code == 200 and canary.words[0] not in str(found.json().get("data")), found.text
    shown = str(fresh.backend.get("/audit/logs", params={"resource": "lead"}).json())
    assert canary.words[0] not in shown and "[erased]" in shown
    assert fresh.backend.post("/audit/logs/verify-integrity").json()["data"]["valid"] is True
    events = fresh.backend.get("/audit/logs/security-events", params={"type": "privacy"}).json()["data"]
    assert len(events) == 2 and canary.words[0] not in str(events)

    # again: by mail address there is nobody; by id nothing is left to do
    again = fresh.native.post("/privacy/erase", json={"email": canary.email})
    assert again.status_code == 200 and again.json()["subjects"] == []
    lead_id = next(s["id"] for s in r.json()["subjects"] if s["entity"] == "lead")
    assert fresh.native.post("/privacy/erase", json={"entity": "lead", "id": lead_id}).status_code == 200
    assert fresh.backend.get("/audit/logs", params={"search": "audit.privacy.erased"}).json()["meta"]["total"] == 1
    # what is written about them later is not kept either
    assert fresh.saas.put(f"/leads/{made['lead']}", json={"firstName": "New", "lastName": "Person" + canary.words[0]}).status_code == 200
    wait_until(lambda: len(known(fresh, "lead", 4)) >= 4)
    assert canary.words[0] not in str(fresh.backend.get("/audit/logs", params={"resource": "lead"}).json())


def test_notes_orders_timeline_and_feed_forget_too(fresh):
    canary = Canary()
    account = fresh.elevate.post("/customers", json={"name": canary.given, "email": canary.email}).json()["id"]
    assert fresh.backend.post(f"/customers/{account}/notes", json={"content": canary.note}).status_code == 201
    product = fresh.elevate.post("/products", json={"name": "Seat", "price": 5, "stock_quantity": 5}).json()["id"]
    r = fresh.elevate.post("/orders", json={"customer_id": account, "items": [{"product_id": product, "quantity": 1}], "shipping_address": {"street": canary.family, "city": "Berlin"}})
    assert r.status_code == 201, r.text
    wait_until(lambda: len(fresh.backend.get(f"/customers/{account}/activity").json()["data"]) >= 3)
    wait_until(lambda: canary.family in fresh.native.get("/events?limit=100").text)
    assert hits(dump(), canary) > 0
    r = fresh.native.post("/privacy/erase", json={"email": canary.email})
    assert r.status_code == 200 and {s["entity"] for s in r.json()["subjects"]} == {"account", "note", "order"}, r.text
    wait_until(lambda: hits(dump(), canary) == 0, 10.0, 1.0)
    order = fresh.elevate.get("/orders").json()["items"][0]
    assert order["total"] == 5 and order["shipping_address"] == {"street": None, "city": "Berlin", "state": None, "zip": None, "country": None}
    assert canary.words[0] not in fresh.native.get("/events?limit=100").text
    assert fresh.backend.post("/audit/logs/verify-integrity").json()["data"]["valid"] is True


def test_a_user_is_erased(fresh):
    canary = Canary()
    r = fresh.backend.post("/users", json={"email": canary.email, "name": f"{canary.given} {canary.family}", "role": "user"})
    assert r.status_code == 201, r.text
    known(fresh, "user", 2)
    assert canary.email in str(fresh.backend.get("/audit/logs", params={"resource": "user"}).json())
    r = fresh.native.post("/privacy/erase", json={"email": canary.email})
    assert r.status_code == 200 and [s["entity"] for s in r.json()["subjects"]] == ["user"], r.text
    wait_until(lambda: fresh.backend.get("/audit/logs", params={"search": "audit.privacy.erased"}).json()["meta"]["total"] == 1, 8.0)
    wait_until(lambda: hits(dump(), canary) == 0, 8.0, 1.0)
    assert hits(logs(), canary) == 0
    assert fresh.backend.post("/audit/logs/verify-integrity").json()["data"]["valid"] is True
    assert canary.email not in str(fresh.backend.get("/users").json())


def test_the_last_administrator_is_not_erased(fresh):
    known(fresh, "user", 1)
    for _ in range(2):
        assert fresh.native.post("/privacy/erase", json={"email": fresh.email}).status_code == 409
    entry = fresh.backend.get("/audit/logs", params={"resource": "user"}).json()
    assert "[erased]" not in str(entry)
    assert fresh.native.post("/privacy/erase", json={"email": "nobody@example.com"}).json()["subjects"] == []


def test_a_legal_hold_stops_an_erasure(fresh):
    canary = Canary()
    made = populate(fresh, canary)
    known(fresh, "lead", 2)
    r = fresh.native.post("/audit/legal-holds", json={"name": "Case 7", "resource": "lead"})
    assert r.status_code == 201, r.text
    assert fresh.native.get("/audit/legal-holds").json()["items"][0]["name"] == "Case 7"
    assert fresh.native.post("/audit/legal-holds", json={"name": "x", "resourceId": str(uuid.uuid4())}).status_code == 422
    refused = fresh.native.post("/privacy/erase", json={"email": canary.email})
    assert refused.status_code == 409 and "hold" in refused.text
    assert fresh.saas.get(f"/leads/{made['lead']}").json()["email"] == canary.email
    assert fresh.native.delete(f"/audit/legal-holds/{r.json()['id']}").status_code == 204
    assert fresh.native.post("/privacy/erase", json={"email": canary.email}).status_code == 200


@pytest.mark.parametrize("body", [{}, {"email": "x"}, {"entity": "lead"}, {"id": str(uuid.uuid4())}, {"entity": "tag", "id": str(uuid.uuid4())}, {"entity": "lead", "id": "7"},
                                  {"email": "a@example.com", "entity": "lead", "id": str(uuid.uuid4())}])
def test_what_is_asked_must_be_clear(tenant, body):
    for verb in ("export", "erase"):
        r = tenant.native.post(f"/privacy/{verb}", json=body)
        assert r.status_code in (400, 422), r.text


def test_permissions(fresh, other):
    r = fresh.native.post("/api-keys", json={"name": "narrow", "scope": ["leads.read", "leads.write"]})
    key = {"Authorization": f"Bearer {r.json()['key']}"}
    for verb in ("export", "erase"):
        assert requests.post(BASE["native"] + f"/privacy/{verb}", json={"email": "a@example.com"}, headers=key, timeout=20).status_code == 403
        assert requests.post(BASE["native"] + f"/privacy/{verb}", json={"email": "a@example.com"}, timeout=20).status_code == 401
    canary = Canary()
    made = populate(fresh, canary)
    known(fresh, "lead", 2)
    assert other.native.post("/privacy/erase", json={"email": canary.email}).json()["subjects"] == []
    assert fresh.saas.get(f"/leads/{made['lead']}").json()["email"] == canary.email
