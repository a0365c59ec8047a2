"""The second factor as a client meets it: a login in every dialect, wrong tries, recovery, a company that asks for it."""

import base64
import hashlib
import hmac
import re
import struct
import time

import pytest
import requests

from conftest import BASE, PASSWORD, Face, Tenant, wait_until
from test_errors import shape_of
from test_people import Staff, token_mailed

FACES = ["backend", "saas", "system", "mvp", "elevate"]


def code_of(secret, steps=0):
    """What an authenticator app shows (RFC 6238), written again from the RFC and not taken from the product."""
    mac = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30 + steps), hashlib.sha1).digest()
    at = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[at:at + 4])[0] & 0x7fffffff) % 10**6:06}"


def wrong_of(secret):
    good = {code_of(secret, i) for i in range(-3, 4)}
    return next(c for c in (f"{n:06}" for n in range(100)) if c not in good)


def protect(token, password=PASSWORD):
    """The person's secret and recovery codes. Begins early in a step, so that "the code of now" stays one."""
    native = Face("native", token)
    while time.time() % 30 > 26:
        time.sleep(0.2)
    r = native.post("/auth/mfa/enrol", json={"password": password})
    assert r.status_code == 201, r.text
    secret, uri = r.json()["secret"], r.json()["uri"]
    assert re.fullmatch(r"[A-Z2-7]{32}", secret) and uri.startswith("otpauth://totp/") and secret in uri
    r = native.post("/auth/mfa/confirm", json={"code": code_of(secret)})
    assert r.status_code == 200 and len(set(r.json()["recoveryCodes"])) == 10, r.text
    return secret, r.json()["recoveryCodes"]


def login(face, email, password=PASSWORD):
    return requests.post(BASE[face] + "/auth/login" + ("/" if face == "system" else ""), json={"email": email, "password": password}, timeout=20)


def answer(face, challenge, code):
    return requests.post(BASE[face] + "/auth/login/mfa" + ("/" if face == "system" else ""), json={"challenge": challenge, "code": code}, timeout=20)


def challenge_in(face, r, status=401, code="MFA_REQUIRED"):
    """The challenge, after the answer was seen to be an error as this dialect prints errors, with nothing that looks like a token."""
    body = r.json()
    assert r.status_code == status, r.text
    extra = body.get("data") if face == "backend" else body
    flag = {"MFA_REQUIRED": ("mfaRequired", "mfa_required"), "MFA_ENROLMENT_REQUIRED": ("mfaEnrolmentRequired", "mfa_enrolment_required")}[code]
    assert extra[flag[face in ("system", "elevate")]] is True
    assert 0 < extra["expires_in" if face in ("system", "elevate") else "expiresIn"] <= 300
    got, message, fields = shape_of(face, body)
    assert got.replace("_", "").lower() == code.replace("_", "").lower() and message and not fields
    assert "eyJ" not in r.text and not re.search(r"token\"|refresh|\"access", r.text, re.I)
    return extra["challenge"]


def token_in(face, r):
    assert r.status_code == 200, r.text
    body = r.json()
    return {"backend": lambda: body["data"]["token"], "saas": lambda: body["token"], "mvp": lambda: body["token"], "system": lambda: body["access"],
            "elevate": lambda: body["access_token"]}[face]()


@pytest.mark.parametrize("face", FACES)
def test_a_login_asks_for_a_code_in_the_shape_of_its_dialect(fresh, face):
    plain = login(face, fresh.email)
    secret, recovery = protect(fresh.token)
    challenge = challenge_in(face, login(face, fresh.email))
    r = answer(face, challenge, wrong_of(secret))
    assert r.status_code == 401 and "wrong" in shape_of(face, r.json())[1]
    good = answer(face, challenge, code_of(secret, 1))
    token = token_in(face, good)
    assert set(good.json()) == set(plain.json()), "the answer is that of a login without a second factor"
    assert Face("backend", token).get("/auth/profile").json()["data"]["email"] == fresh.email
    assert answer(face, challenge, code_of(secret, 1)).status_code == 401
    challenge = challenge_in(face, login(face, fresh.email))
    assert answer(face, challenge, code_of(secret, 1)).status_code == 401, "a code works once"
    token_in(face, answer(face, challenge, recovery[0]))
    shape_of(face, answer(face, "nonsense", "000000").json())


def test_refresh_and_keys_ask_for_nothing(fresh):
    key = fresh.native.post("/api-keys", json={"name": "robot"}).json()["key"]
    before = fresh.session["refreshToken"]
    other = login("saas", fresh.email).json()
    protect(fresh.token)
    assert Face("saas", key).get("/leads").status_code == 200
    assert requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": before}, timeout=20).status_code == 200
    wait_until(lambda: Face("saas", other["token"]).get("/leads").status_code == 401, 2)
    assert requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": other["refreshToken"]}, timeout=20).status_code == 401
    assert Face("native", key).get("/auth/mfa").status_code == 403


def test_the_sixth_wrong_try_locks(fresh):
    secret, recovery = protect(fresh.token)
    bad = wrong_of(secret)
    challenge = challenge_in("saas", login("saas", fresh.email))
    for _ in range(5):
        assert answer("saas", challenge, bad).status_code == 401
    challenge = challenge_in("saas", login("saas", fresh.email))
    for code in (bad, code_of(secret, 1), recovery[0]):
        r = answer("saas", challenge, code)
        assert r.status_code == 429 and 0 < int(r.headers["Retry-After"]) <= 901, r.text
    someone = Tenant()
    other, _ = protect(someone.token)
    token_in("saas", answer("saas", challenge_in("saas", login("saas", someone.email)), code_of(other, 1)))


def test_what_is_mine_to_see_and_to_disable(fresh):
    assert fresh.native.get("/auth/mfa").json() == {"enabled": False, "enabledAt": None, "recoveryCodesLeft": 0, "requiredBy": []}
    assert fresh.native.post("/auth/mfa/enrol", json={"password": "not my password"}).status_code == 422
    assert fresh.native.post("/auth/mfa/enrol", json={}).status_code == 422
    assert fresh.native.post("/auth/mfa/confirm", json={"code": "123456"}).status_code == 409
    secret, recovery = protect(fresh.token)
    state = fresh.native.get("/auth/mfa").json()
    assert state["enabled"] is True and state["recoveryCodesLeft"] == 10 and state["enabledAt"]
    assert fresh.native.post("/auth/mfa/enrol", json={"password": PASSWORD}).status_code == 409
    renewed = fresh.native.post("/auth/mfa/recovery-codes", json={"password": PASSWORD}).json()["recoveryCodes"]
    assert len(renewed) == 10 and not set(renewed) & set(recovery)
    assert fresh.native.post("/auth/mfa/disable", json={}).status_code == 422
    assert fresh.native.post("/auth/mfa/disable", json={"code": recovery[0]}).status_code == 422
    assert fresh.native.post("/auth/mfa/disable", json={"code": renewed[0]}).status_code == 204
    assert login("saas", fresh.email).status_code == 200


def setting(tenant, key="security.mfa_required"):
    return next(s for s in tenant.system.get("/system-config/settings/").json()["results"] if s["key"] == key)


def demand(tenant, value=True):
    return tenant.system.patch(f"/system-config/settings/{setting(tenant)['id']}/", json={"value": value})


@pytest.mark.parametrize("face", FACES)
def test_a_company_asks_for_it(fresh, unique, face):
    agent = Staff(fresh, "agent", unique)
    r = demand(fresh)
    assert r.status_code == 409 and "yourself" in r.json()["error"]["message"], r.text
    protect(fresh.token)
    assert demand(fresh).json()["value"] is True
    wait_until(lambda: agent.backend.get("/customers").status_code == 401, 2)
    r = login(face, agent.email)
    assert "/v1/auth/login/mfa/enrol" in r.text
    challenge = challenge_in(face, r, 403, "MFA_ENROLMENT_REQUIRED")
    assert answer(face, challenge, "000000").status_code == 401
    r = requests.post(BASE["native"] + "/auth/login/mfa/enrol", json={"challenge": challenge}, timeout=20)
    assert r.status_code == 201, r.text
    while time.time() % 30 > 27:
        time.sleep(0.2)
    secret = r.json()["secret"]
    r = requests.post(BASE["native"] + "/auth/login/mfa/confirm", json={"challenge": challenge, "code": code_of(secret)}, timeout=20)
    assert r.status_code == 200 and len(r.json()["recoveryCodes"]) == 10, r.text
    token = token_in(face, answer(face, challenge_in(face, login(face, agent.email)), code_of(secret, 1)))
    r = Face("native", token).post("/auth/mfa/disable", json={"password": PASSWORD})
    assert r.status_code == 409 and "second factor" in r.json()["detail"]
    assert Face("native", token).get("/auth/mfa").json()["requiredBy"]


def test_a_guest_from_another_company_is_asked_too(fresh, other):
    """Memberships by invitation; the session is that of their own company, entered with X-Tenant-ID."""
    guest = Tenant()
    protect(fresh.token)
    assert demand(fresh).status_code == 200
    assert fresh.backend.post("/users/invitations", json={"email": guest.email, "role": "agent"}).status_code == 201
    r = requests.post(BASE["native"] + "/invitations/accept", json={"token": token_mailed(guest.email), "password": PASSWORD}, timeout=20)
    challenge_in("native", r, 403, "MFA_ENROLMENT_REQUIRED")
    tenant = fresh.backend.get("/auth/profile").json()["data"]["tenants"][0]["id"] if "tenants" in fresh.backend.get("/auth/profile").json()["data"] else fresh.session["tenantId"]
    r = guest.backend.get("/customers", headers={"X-Tenant-ID": str(tenant)})
    assert r.status_code == 403 and "second factor" in r.json()["message"], r.text
    protect(guest.token)
    wait_until(lambda: guest.backend.get("/customers", headers={"X-Tenant-ID": str(tenant)}).status_code == 200, 5)


def test_accepting_with_an_account_that_has_one_gives_no_session_without_it(fresh):
    guest = Tenant()
    secret, _ = protect(guest.token)
    assert fresh.backend.post("/users/invitations", json={"email": guest.email, "role": "agent"}).status_code == 201
    r = requests.post(BASE["native"] + "/invitations/accept", json={"token": token_mailed(guest.email), "password": PASSWORD}, timeout=20)
    challenge = challenge_in("native", r)
    r = answer("native", challenge, code_of(secret, 1))
    assert r.status_code == 200 and r.json()["user"]["email"] == guest.email, r.text


def test_an_administrator_helps_who_lost_it(fresh, unique):
    agent = Staff(fresh, "agent", unique)
    protect(agent.token)
    assert agent.native.delete(f"/users/{agent.id}/mfa").status_code == 403
    assert fresh.native.delete(f"/users/{agent.id}/mfa").status_code == 204
    me = fresh.backend.get("/auth/profile").json()["data"]["id"]
    assert fresh.native.delete(f"/users/{me}/mfa").status_code == 403
    assert login("saas", agent.email).status_code == 200
    assert Tenant().native.delete(f"/users/{agent.id}/mfa").status_code == 404


def test_it_is_in_the_audit_log_without_secrets(fresh):
    secret, recovery = protect(fresh.token)
    token_in("saas", answer("saas", challenge_in("saas", login("saas", fresh.email)), recovery[3]))
    seen = lambda: {"auth.mfa.enabled", "auth.mfa.recovery_used"} <= set(re.findall(r"auth\.mfa\.\w+", fresh.backend.get("/audit/logs?limit=50").text))
    wait_until(seen, 5)
    text = fresh.backend.get("/audit/logs?limit=100").text
    assert secret not in text and recovery[3] not in text


def test_openapi_shows_what_a_login_may_answer(stack):
    for face in FACES:
        document = requests.get(BASE["saas"].replace("/api", "") + f"/openapi/{face}.json", timeout=10).json()
        path = next(p for p in document["paths"] if p.rstrip("/").endswith("/auth/login"))
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "401", "403"} <= set(responses) and "challenge" in str(responses["401"]), face
