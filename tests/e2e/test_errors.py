"""Errors in each document's shape, for what clients do wrong and for what we do."""

import json
import socket

import pytest
import requests

from conftest import AT_5000, AT_8000, BASE, HOST, OFFSET, PASSWORD


def shape_of(face, body):
    """The error's code, message and fields as the face's document prints them; fails on any other shape."""
    if face == "backend":
        assert body["success"] is False and isinstance(body["errors"], list) and body["errors"]
        return body["errors"][0]["code"], body["message"], {e.get("field") for e in body["errors"] if e.get("field")}
    if face == "native":
        assert {"type", "title", "status", "detail"} <= set(body)
        return body["title"], body["detail"], {e["field"] for e in body["errors"]}
    error = body["error"]
    if face == "system":
        assert set(error) == {"type", "message", "timestamp", "status_code", "details"} and isinstance(error["details"], dict)
        return error["type"], error["message"], set(error["details"])
    assert set(error) == {"code", "message", "details"}
    if face == "saas":
        assert {"timestamp", "path", "traceId"} <= set(body)
    if face == "mvp":
        assert error["details"] is None or {"field", "reason"} <= set(error["details"])
        return error["code"], error["message"], {error["details"]["field"]} if error["details"] else set()
    assert isinstance(error["details"], list)
    return error["code"], error["message"], {v["field"] for v in error["details"]}


LISTS = {"backend": "/customers", "saas": "/leads", "system": "/crm/leads/", "mvp": "/leads", "elevate": "/customers", "native": "/api-keys"}
FACES = list(LISTS)


@pytest.mark.parametrize("face", FACES)
def test_no_token_and_bad_token(tenant, face):
    for token in ("", "Bearer nonsense", "Bearer a.b.c", "Basic dXNlcjpwYXNz", "Bearer " + tenant.token[:-4] + "AAAA", "Bearer " + "x" * 5000):
        r = requests.get(BASE[face] + LISTS[face], headers={"Authorization": token} if token else {}, timeout=20)
        assert r.status_code == 401, (token[:20], r.status_code, r.text)
        shape_of(face, r.json())
        assert r.headers["X-CRM-Dialect"] == face and r.headers["X-Request-Id"]


@pytest.mark.parametrize("face", FACES)
def test_unknown_path_and_wrong_method(tenant, face):
    f = getattr(tenant, face)
    r = f.get(LISTS[face].rstrip("/") + "/a/b/c/d" + ("/" if face == "system" else ""))
    assert r.status_code == 404
    shape_of(face, r.json())
    r = f.call("DELETE", LISTS[face])
    assert r.status_code == 405 and "GET" in r.headers["Allow"]
    shape_of(face, r.json())


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("body", ["{", "[]", '"x"', '{"a":1,"a":2}', '{"a":"\\ud800"}', "nope", '{"a":1}x', "[" * 5000])
def test_malformed_json(tenant, face, body):
    f = getattr(tenant, face)
    r = f.post(LISTS[face], data=body, headers={"Content-Type": "application/json"})
    assert r.status_code in (400, 422), r.text
    shape_of(face, r.json())


@pytest.mark.parametrize("face", FACES)
def test_media_type(tenant, face):
    r = getattr(tenant, face).post(LISTS[face], data="<a/>", headers={"Content-Type": "application/xml"})
    assert r.status_code == 415
    shape_of(face, r.json())


@pytest.mark.parametrize("face", FACES)
def test_too_large(tenant, face):
    r = getattr(tenant, face).post(LISTS[face], data=b'{"a":"' + b"x" * (2 << 20) + b'"}', headers={"Content-Type": "application/json"})
    assert r.status_code == 413
    shape_of(face, r.json())
    r = getattr(tenant, face).get(LISTS[face], headers={"X-Large": "x" * 20000})
    assert r.status_code == 431
    shape_of(face, r.json())


def test_validation_names_every_field_in_the_faces_words(tenant):
    cases = {
        "backend": ("/customers", {"email": "nope", "companyName": 7}, {"email", "companyName"}, 422),
        "saas": ("/leads", {"email": "nope", "firstName": "x" * 101}, {"email", "firstName", "lastName"}, 422),
        "system": ("/crm/leads/", {"email": "nope", "territory": "north"}, {"first_name", "last_name", "email", "territory"}, 400),
        "elevate": ("/customers", {"rating": 9, "email": "x"}, {"name", "email", "rating"}, 422),
    }
    for face, (path, body, fields, status) in cases.items():
        r = getattr(tenant, face).post(path, json=body)
        assert r.status_code == status, (face, r.text)
        assert shape_of(face, r.json())[2] == fields, (face, r.text)
    r = tenant.mvp.post("/leads", json={"name": "X", "email": "nope"})
    assert r.json()["error"] == {"code": "VALIDATION_ERROR", "message": r.json()["error"]["message"], "details": {"field": "email", "reason": "Invalid email format"}}


def test_native_refuses_unknown_members(tenant):
    r = tenant.native.post("/api-keys", json={"name": "k", "colour": "red"})
    assert r.status_code == 422 and r.headers["Content-Type"].startswith("application/problem+json")
    assert shape_of("native", r.json())[2] == {"colour"}
    r = tenant.saas.post("/leads", json={"firstName": "A", "lastName": "B", "colour": "red"})
    assert r.status_code == 201 and r.headers["X-Unknown-Fields"] == "colour"


@pytest.mark.parametrize("key", ["0", "-1", "9007199254740993", "99999999999999999999999", "lead_", "lead_x", "contact_1", "%00", "..%2f..", "%F0%28", "null", "1e3", "0x10",
    "00000000-0000-0000-0000-000000000000", "' OR 1=1 --", "a" * 3000])
def test_no_id_is_a_500_and_none_finds_anything(tenant, key):
    for face, path in (("saas", "/leads/"), ("mvp", "/leads/"), ("backend", "/customers/"), ("elevate", "/customers/")):
        r = requests.get(BASE[face] + path + key, headers={"Authorization": f"Bearer {tenant.token}"}, timeout=20)
        assert r.status_code in (400, 404), (face, key[:20], r.status_code, r.text)
        shape_of(face, r.json())


def test_privileged_members_change_nothing(tenant, other):
    made = tenant.saas.post("/leads", json={"firstName": "A", "lastName": "B", "id": "lead_999", "tenantId": other.session["tenantId"], "createdBy": "user_77", "createdAt": "2001-01-01T00:00:00Z"}).json()
    assert made["tenantId"] == tenant.session["tenantId"] and made["id"] != "lead_999" and not made["createdAt"].startswith("2001")
    after = tenant.saas.put(f"/leads/{made['id']}", json={"tenantId": other.session["tenantId"], "createdBy": "user_77"}).json()
    assert (after["tenantId"], after["createdBy"]) == (made["tenantId"], made["createdBy"])


def test_optimistic_concurrency(tenant):
    lead = tenant.mvp.post("/leads", json={"name": "Etag"})
    path, tag = f"/leads/{lead.json()['id']}", lead.headers["ETag"]
    assert lead.headers["Location"].endswith(path)
    assert tenant.mvp.get(path).headers["ETag"] == tag
    assert tenant.mvp.get(path, headers={"If-None-Match": tag}).status_code == 304
    ok = tenant.mvp.put(path, json={"notes": "one"}, headers={"If-Match": tag})
    assert ok.status_code == 200 and ok.headers["ETag"] != tag
    r = tenant.mvp.put(path, json={"notes": "two"}, headers={"If-Match": tag})
    assert r.status_code == 412 and shape_of("mvp", r.json())[0] == "PRECONDITION_FAILED"
    assert tenant.mvp.get(path).json()["notes"] == "one"
    assert tenant.mvp.delete(path, headers={"If-Match": tag}).status_code == 412
    assert tenant.mvp.delete(path).status_code == 204
    assert tenant.mvp.get(path).status_code == tenant.mvp.delete(path).status_code == tenant.mvp.put(path, json={"notes": "x"}).status_code == 404


def test_cors_preflight_and_errors(tenant):
    r = requests.options(BASE["saas"] + "/leads", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}, timeout=20)
    assert r.status_code in (200, 204) and r.headers["Access-Control-Allow-Origin"] in ("*", "https://app.example")
    assert "POST" in r.headers["Access-Control-Allow-Methods"] and "authorization" in r.headers["Access-Control-Allow-Headers"].lower()
    r = requests.get(BASE["saas"] + "/leads", headers={"Origin": "https://app.example"}, timeout=20)
    assert r.status_code == 401 and r.headers["Access-Control-Allow-Origin"] in ("*", "https://app.example")
    for name in ("X-RateLimit-Reset", "Retry-After", "ETag", "Location", "Link", "X-Request-Id"):
        assert name.lower() in r.headers["Access-Control-Expose-Headers"].lower()


def test_dialect_by_prefix_header_and_host(tenant):
    for at in (AT_5000, AT_8000):
        for name, path, member in (("saas", "/api/leads", "items"), ("mvp", "/api/leads", "leads"), ("system", "/api/crm/leads/", "results"), ("elevate", "/api/v1/customers", "items")):
            auth = {"Authorization": f"Bearer {tenant.token}"}
            assert member in requests.get(f"{at}/~{name}{path}", headers=auth, timeout=20).json()
            assert member in requests.get(at + path, headers={**auth, "X-CRM-Dialect": name}, timeout=20).json()
    r = requests.get(AT_5000 + "/api/leads", headers={"Host": "crm-backend-api.fly.dev", "Authorization": f"Bearer {tenant.token}"}, timeout=20)
    assert "leads" in r.json() and r.headers["X-CRM-Dialect"] == "mvp"
    assert requests.get(AT_5000 + "/api/leads", headers={"X-CRM-Dialect": "klingon"}, timeout=20).status_code == 400


def raw(port, data):
    with socket.create_connection((HOST, port), timeout=5) as s:
        s.settimeout(5)
        s.sendall(data)
        out = b""
        try:
            while True:
                chunk = s.recv(65536)
                if not chunk:
                    break
                out += chunk
        except socket.timeout:
            pass
        return out


@pytest.mark.parametrize("port, face", [(5000, "saas"), (8000, "mvp")])
def test_parser_errors_have_a_dialects_shape(stack, port, face):
    out = raw(port + OFFSET, b"GET /api/leads HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"onnection: close" in head
    json.loads(body)
    assert raw(port + OFFSET, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300).startswith(b"HTTP/1.1 400")


def test_rate_headers_are_there(tenant):
    r = tenant.saas.get("/leads")
    assert int(r.headers["X-RateLimit-Limit"]) > 0 and int(r.headers["X-RateLimit-Remaining"]) >= 0
    assert int(r.headers["X-RateLimit-Reset"]) > 1700000000
    assert "RateLimit-Policy" in r.headers and "RateLimit" in r.headers


@pytest.mark.parametrize("face", ["backend", "saas", "system", "mvp", "elevate"])
def test_wrong_password_and_unknown_user_look_alike(tenant, face):
    path = "/auth/login" + ("/" if face == "system" else "")
    answers = []
    for email in (tenant.email, "nobody@nowhere.example"):
        r = requests.post(BASE[face] + path, json={"email": email, "password": "wrong-" + PASSWORD}, timeout=20)
        assert r.status_code == 401, r.text
        answers.append(shape_of(face, r.json()))
    assert answers[0] == answers[1]
