"""Rules for passwords in every dialect, and what logins cost."""

import concurrent.futures
import os
import time
import uuid

import pytest
import requests

from conftest import BASE, PASSWORD, Tenant
from test_errors import shape_of
from test_people import Staff, login, token_mailed

COMMON = ["password1", "PASSWORD1", "iloveyou1", "1q2w3e4r5t", "Superman1"]
LONG = "x" * 1024
REGISTER = {
    "saas": lambda e, p: {"email": e, "password": p, "tenantName": "A", "companyName": "A", "firstName": "A", "lastName": "B"},
    "system": lambda e, p: {"email": e, "password": p, "password2": p, "first_name": "A", "last_name": "B"},
    "elevate": lambda e, p: {"email": e, "password": p, "full_name": "A B", "company_name": "A"},
}


def register(face, password):
    path = "/auth/register" + ("/" if face == "system" else "")
    return requests.post(BASE[face] + path, json=REGISTER[face](f"pw-{uuid.uuid4().hex}@example.com", password), timeout=20)


@pytest.mark.parametrize("face", list(REGISTER))
def test_what_may_be_chosen(stack, face):
    for bad in [*COMMON, "short", "1234567", "", "é" * 7, LONG + "x", "😀" * 257]:
        r = register(face, bad)
        assert r.status_code in (400, 422) and "password" in shape_of(face, r.json())[2], (bad[:20], r.text)
    for good in ["é" * 8, "        8", "correct horse", "😀" * 256, LONG, "password123", "Admin@123", "securePassword123", "securepassword", "secure-password"]:
        assert register(face, good).status_code == 201, good[:20]


def test_the_rules_hold_wherever_a_password_is_chosen(fresh, unique):
    bad = "password1"
    r = fresh.native.post("/auth/password", json={"currentPassword": PASSWORD, "newPassword": bad})
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "newPassword" and r.json()["errors"][0]["rule"] == "common", r.text
    r = fresh.backend.post("/users", json={"name": "A", "email": f"c-{unique}@example.com", "role": "agent", "password": bad})
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "password"
    r = fresh.system.post("/system-config/users/", json={"email": f"c-{unique}@example.com", "role": "agent", "password": bad})
    assert r.status_code == 400 and "password" in r.json()["error"]["details"]
    someone = f"i-{unique}@example.com"
    assert fresh.backend.post("/users/invitations", json={"email": someone, "role": "agent"}).status_code == 201
    token = token_mailed(someone)
    r = requests.post(BASE["native"] + "/invitations/accept", json={"token": token, "password": bad}, timeout=20)
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "password"
    r = requests.post(BASE["native"] + "/invitations/accept", json={"token": token, "password": PASSWORD}, timeout=20)
    assert r.status_code == 201, "a refused password does not use the invitation up"
    assert requests.post(BASE["native"] + "/auth/password/forgot", json={"email": fresh.email}, timeout=20).status_code == 204
    token = token_mailed(fresh.email)
    r = requests.post(BASE["native"] + "/auth/password/reset", json={"token": token, "newPassword": bad}, timeout=20)
    assert r.status_code == 422 and r.json()["errors"][0]["field"] == "newPassword"
    assert requests.post(BASE["native"] + "/auth/password/reset", json={"token": token, "newPassword": "another-word-8"}, timeout=20).status_code == 204


def test_logins_that_find_no_room_are_told_when_to_come_again(stack):
    with concurrent.futures.ThreadPoolExecutor(90) as pool:
        answers = list(pool.map(lambda _: register("saas", PASSWORD), range(90)))
    codes = {r.status_code for r in answers}
    assert {201, 503} <= codes <= {201, 503, 504}, codes  # 504: a busy machine, whoever waited longer than they wanted to
    for r in answers:
        if r.status_code == 503:
            assert int(r.headers["Retry-After"]) >= 1
            shape_of("saas", r.json())


def test_ten_logins_a_second(stack):
    """p99 <= 500 ms, on a machine that has nothing else to do."""
    people = [Tenant().email for _ in range(20)]

    def one(i):
        time.sleep(max(0, begin + i / 10 - time.monotonic()))
        start = time.monotonic()
        done = login(people[i % len(people)]).status_code == 200
        return time.monotonic() - start if done else 60

    for _ in range(3):
        begin = time.monotonic() + 0.2
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            took = sorted(pool.map(one, range(200)))
        print(f"  200 logins at 10/s: median {took[100] * 1000:.0f} ms, p99 {took[197] * 1000:.0f} ms, load {os.getloadavg()[0]:.1f}")
        if took[197] <= 0.5:
            return
    if os.getloadavg()[0] > 2 * len(os.sched_getaffinity(0)):
        pytest.skip("the machine is busy with something else")
    pytest.fail(f"p99 {took[197]:.3f} s")
