"""Settings of a company (/api/system-config/settings/): typed, some secret, PUT is not PATCH."""

import pytest

from conftest import Tenant, wait_until
from test_people import Staff

AT = "/system-config/settings/"
MEMBERS = {"id", "key", "value", "type", "is_secret", "description", "is_known", "created_at", "updated_at"}


def make(tenant, **members):
    r = tenant.system.post(AT, json=members)
    assert r.status_code == 201, r.text
    assert set(r.json()) == MEMBERS and r.headers["Location"].endswith(f"{AT}{r.json()['id']}/")
    return r.json()


def test_the_whole_life_of_a_setting(fresh):
    s = make(fresh, key="mail.footer", value="Kind regards", description="Under every mail")
    at = f"{AT}{s['id']}/"
    assert (s["key"], s["value"], s["type"], s["is_secret"], s["is_known"]) == ("mail.footer", "Kind regards", "string", False, False)
    assert fresh.system.get(at).json() == s
    listed = fresh.system.get(AT).json()
    assert listed["count"] == 2 and [x["key"] for x in listed["results"]] == ["security.mfa_required", "mail.footer"]
    assert [x["key"] for x in fresh.system.get(AT + "?key=mail.footer").json()["results"]] == ["mail.footer"]
    assert [x["key"] for x in fresh.system.get(AT + "?search=FOOT&ordering=-key").json()["results"]] == ["mail.footer"]
    assert fresh.system.patch(at, json={"value": "Yours"}).json()["description"] == "Under every mail"
    put = fresh.system.put(at, json={"key": "mail.footer", "value": "Bye"}).json()
    assert (put["value"], put["description"], put["type"]) == ("Bye", None, "string"), "what PUT lacks is cleared"
    r = fresh.system.put(at, json={"value": "Bye"})
    assert r.status_code == 400 and "key" in r.json()["error"]["details"]
    r = fresh.system.put(at, json={"key": "mail.footer"})
    assert r.status_code == 400 and "value" in r.json()["error"]["details"]
    assert fresh.system.delete(at).status_code == 204
    assert fresh.system.get(at).status_code == 404


@pytest.mark.parametrize("kind,good,bad", [
    ("string", ["", "a", "😀"], [1, True, {}, ["a"]]),
    ("integer", [0, -5, 9223372036854775807], ["5", 1.5, True, 9223372036854775808]),
    ("decimal", [1, 1.25], ["1.25", True, []]),
    ("boolean", [True, False], [0, 1, "true", None]),
    ("json", [{"a": [1, None]}, [], 5, "x", True], [None]),
])
def test_values_are_of_the_declared_type(fresh, kind, good, bad):
    for i, value in enumerate(good):
        s = make(fresh, key=f"{kind}.{i}", value=value, type=kind)
        assert s["value"] == value and type(s["value"]) is type(value)
        for wrong in bad:
            r = fresh.system.patch(f"{AT}{s['id']}/", json={"value": wrong})
            assert r.status_code == 400 and "value" in r.json()["error"]["details"], (kind, wrong, r.text)
        assert fresh.system.get(f"{AT}{s['id']}/").json()["value"] == value


def test_bad_input_is_refused(fresh):
    for body in ({}, {"key": "a"}, {"value": 1}, {"key": "", "value": "x"}, {"key": "Has Space", "value": "x"}, {"key": "x" * 101, "value": "x"}, {"key": 5, "value": "x"},
                 {"key": "a", "value": "x", "type": "emperor"}, {"key": "a", "value": "x", "is_secret": "maybe"}, {"key": "a", "value": "x" * 16001}, {"key": "security.mfa_required", "value": True}):
        r = fresh.system.post(AT, json=body)
        assert r.status_code in (400, 409) and r.json()["error"]["details"], (body, r.text)
    r = fresh.system.post(AT, data='{"key":"big","type":"json","value":[1e999999]}', headers={"Content-Type": "application/json"})
    assert r.status_code == 400, r.text
    for path in ("0/", "999999/", "nonsense/"):
        assert fresh.system.get(AT + path).status_code == 404


def test_a_secret_is_written_and_never_read_back(fresh):
    word = "hush-" + fresh.email[6:18]
    s = make(fresh, key="smtp.password", value=word, is_secret=True)
    at = f"{AT}{s['id']}/"
    assert s["value"] is None and s["is_secret"] is True
    for r in (fresh.system.get(at), fresh.system.get(AT), fresh.system.patch(at, json={"description": "of the relay"}), fresh.system.patch(at, json={"value": word + "2"})):
        assert r.status_code == 200 and word not in r.text, r.text
    r = fresh.system.patch(at, json={"is_secret": False})
    assert r.status_code == 400 and "value" in r.json()["error"]["details"]
    wait_until(lambda: "auth.setting.updated" in fresh.backend.get("/audit/logs?limit=50").text, 5)
    assert word not in fresh.backend.get("/audit/logs?limit=100").text
    assert fresh.system.patch(at, json={"is_secret": False, "value": "plain"}).json()["value"] == "plain"


def test_what_the_product_knows_cannot_go_away(fresh):
    s = fresh.system.get(AT + "1/").json()
    assert (s["key"], s["value"], s["type"], s["is_known"]) == ("security.mfa_required", False, "boolean", True)
    for body in ({"value": "yes"}, {"type": "string"}, {"key": "other"}, {"is_secret": True}):
        assert fresh.system.patch(AT + "1/", json=body).status_code == 400, body
    assert fresh.system.delete(AT + "1/").status_code == 204
    assert fresh.system.get(AT + "1/").json()["value"] is False


def test_who_may(fresh, unique):
    s = make(fresh, key="colour", value="red")
    at = f"{AT}{s['id']}/"
    manager, agent, stranger = Staff(fresh, "manager", unique), Staff(fresh, "agent", unique), Tenant()
    assert manager.system.get(at).status_code == 200 and agent.system.get(at).status_code == 403 and stranger.system.get(at).status_code == 404
    for who, status in ((manager, 403), (agent, 403), (stranger, 404)):
        assert who.system.patch(at, json={"value": "blue"}).status_code == status
        assert who.system.put(at, json={"key": "colour", "value": "blue"}).status_code == status
        assert who.system.delete(at).status_code == status
    assert stranger.system.get(AT).json()["count"] == 1
    assert fresh.system.get(at).json()["value"] == "red"


def test_versions_and_idempotency(fresh):
    head = {"Idempotency-Key": "settings-" + fresh.email[6:18]}
    a, b = (fresh.system.post(AT, json={"key": "once", "value": "x"}, headers=head) for _ in range(2))
    assert a.status_code == b.status_code == 201 and a.json() == b.json()
    at = f"{AT}{a.json()['id']}/"
    tag = fresh.system.get(at).headers["ETag"]
    assert fresh.system.patch(at, json={"value": "y"}, headers={"If-Match": tag}).status_code == 200
    assert fresh.system.patch(at, json={"value": "z"}, headers={"If-Match": tag}).status_code == 412
