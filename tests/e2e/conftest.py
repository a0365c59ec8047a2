"""A running stack, five faces of one fresh tenant, and small clients for each."""

import itertools
import os
import time
import uuid

import pytest
import requests

OFFSET = int(os.environ.get("CRM_PORT_OFFSET", "0"))
HOST = os.environ.get("CRM_HOST", "127.0.0.1")
AT_5000 = f"http://{HOST}:{5000 + OFFSET}"
AT_8000 = f"http://{HOST}:{8000 + OFFSET}"
BASE = {
    "backend": AT_5000 + "/api/v1",
    "saas": AT_5000 + "/api",
    "system": AT_5000 + "/api",
    "mvp": AT_8000 + "/api",
    "elevate": AT_8000 + "/api/v1",
    "native": AT_5000 + "/v1",
}
PASSWORD = "Correct-horse-7"


def wait_until(check, seconds=5.0, every=0.05):
    """The first true result of check(); fails when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < end, f"not within {seconds} s: {check}"
        time.sleep(every)


class Face:
    """One dialect as its document's client sees it."""

    def __init__(self, name, token=None):
        self.name = name
        self.token = token
        self.http = requests.Session()

    def call(self, method, path, **kw):
        headers = dict(kw.pop("headers", {}) or {})
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        return self.http.request(method, BASE[self.name] + path, headers=headers, timeout=20, **kw)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, **kw):
        return self.call("POST", path, **kw)

    def put(self, path, **kw):
        return self.call("PUT", path, **kw)

    def patch(self, path, **kw):
        return self.call("PATCH", path, **kw)

    def delete(self, path, **kw):
        return self.call("DELETE", path, **kw)


class Tenant:
    """A freshly registered company with one administrator, seen through every face."""

    def __init__(self, email=None):
        self.email = email or f"admin-{uuid.uuid4().hex[:12]}@example.com"
        self.password = PASSWORD
        r = requests.post(
            BASE["saas"] + "/auth/register",
            json={"email": self.email, "password": self.password, "tenantName": "Acme " + self.email[6:12], "companyName": "Acme Corp",
                  "firstName": "Ada", "lastName": "Lovelace"},
            timeout=20,
        )
        assert r.status_code == 201, r.text
        self.session = r.json()
        self.token = self.session["token"]
        for name in BASE:
            setattr(self, name, Face(name, self.token))


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack():
    try:
        requests.get(AT_5000 + "/api/core/health/", timeout=5)
    except requests.ConnectionError:
        pytest.exit(f"no stack at {AT_5000}: start one with `make run`, or run `make test`", returncode=2)


@pytest.fixture(scope="module")
def tenant(stack):
    return Tenant()


@pytest.fixture(scope="module")
def other(stack):
    return Tenant()


@pytest.fixture
def fresh(stack):
    return Tenant()


@pytest.fixture
def unique():
    """A word that nobody has used before."""
    return f"u{next(_numbers)}{uuid.uuid4().hex[:10]}"
