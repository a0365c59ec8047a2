"""After everything: no log of the run holds a secret."""

import re
import time
import uuid

import pytest
import requests

import faults
from canary import Client, found, leave
from conftest import AT_5000, BASE, PASSWORD, Face, Tenant

pytestmark = pytest.mark.faults

FORMS = {
    "a token": re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}"),
    "an API key": re.compile(rb"crm_[A-Za-z0-9_-]{24,}"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a password hash": re.compile(rb"\$argon2"),
    "an Authorization header": re.compile(rb"[Bb]earer [A-Za-z0-9._-]{20,}"),
}


def logs():
    found = [p for p in faults.run_dir().joinpath("log").glob("*.log*") if p.stat().st_size]
    assert {"gateway.log", "svc-auth.log", "svc-customers.log", "svc-audit.log"} <= {p.name for p in found}
    return {p.name: p.read_bytes() for p in found}


def test_no_log_holds_what_is_secret(stack):
    """Secrets of this test by value, those of all tests before it by form."""
    password = "Pass-" + uuid.uuid4().hex
    t = Tenant()
    secrets = [PASSWORD, password, t.token]
    session = t.session
    secrets += [session["refreshToken"]]
    key = t.native.post("/api-keys", json={"name": "leak"})
    assert key.status_code == 201, key.text
    secrets += [v for v in key.json().values() if isinstance(v, str) and v.startswith("crm_") and len(v) > 20]
    assert len(secrets) >= 5
    # wrong in every way that might be worth a line
    for face in ("backend", "saas", "system", "mvp", "elevate"):
        path = "/auth/login" + ("/" if face == "system" else "")
        requests.post(BASE[face] + path, json={"email": t.email, "password": password}, timeout=20)
        requests.post(BASE[face] + path, data=f'{{"email":"{t.email}","password":"{password}"', headers={"Content-Type": "application/json"}, timeout=20)
        Face(face, session["token"] + "x").get("/leads")
        Face(face, secrets[-1] + "x").get("/leads?token=" + session["token"])
    requests.post(BASE["saas"] + "/auth/refresh", json={"refreshToken": session["refreshToken"] + "x"}, timeout=20)
    requests.post(BASE["saas"] + "/auth/register", json={"email": t.email, "password": password, "tenantName": "Twice"}, timeout=20)
    secrets += [path.read_text().strip() for path in faults.run_dir().joinpath("secrets").glob("*.key")]
    for name, text in logs().items():
        for secret in secrets:
            assert secret.encode() not in text, f"{name} holds {secret[:6]}…"
        for what, form in FORMS.items():
            assert not form.search(text), f"{name} holds {what}"


def test_no_log_names_a_person(stack):
    """Of this test by value, at the stack's own level; test_telemetry.py does the same at debug."""
    people = leave(Client(requests.Session(), AT_5000))
    time.sleep(1)  # consumers and mail
    for name, text in logs().items():
        assert found(people, text) == [], name


def test_no_process_shows_a_secret_in_its_arguments(stack):
    for p in faults.status()["processes"]:
        line = open(f"/proc/{p['pid']}/cmdline", "rb").read()
        for path in faults.run_dir().joinpath("secrets").glob("*.key"):
            assert path.read_text().strip().encode() not in line


def test_secrets_belong_to_their_owner(stack):
    folder = faults.run_dir() / "secrets"
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
