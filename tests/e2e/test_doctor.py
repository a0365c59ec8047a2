"""crm doctor --url: right about a stack that is well, about several that are not, and it only looks."""

import contextlib
import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from conftest import AT_5000, HOST, OFFSET, Tenant
from faults import ROOT, Gateway, free_port, metrics, port
from test_tls import make_certificate

sys.path.insert(0, str(ROOT / "deploy/local"))
from stack import doctor_remote  # noqa: E402

ADMINS = ["ADMIN", "AUTH_ADMIN", "CUSTOMERS_ADMIN", "SALES_ADMIN", "AUDIT_ADMIN"]


def doctor(url, *more, **env):
    """(exit status, rows)"""
    r = subprocess.run([sys.executable, ROOT / "crm", "doctor", "--url", url, *more, "-o", "json"], capture_output=True, text=True, timeout=120, env={**os.environ, **env})
    assert r.stdout, r.stderr
    report = json.loads(r.stdout)
    assert report["ok"] == (r.returncode == 0)
    return r.returncode, report["checks"]


def of(rows, result):
    return [r for r in rows if r["result"] == result]


def named(rows, word):
    found = [r for r in rows if word in r["check"]]
    assert found, (word, [r["check"] for r in rows])
    return found


class Between(http.server.BaseHTTPRequestHandler):
    """A proxy that remembers methods and may spoil answers."""
    protocol_version = "HTTP/1.1"
    seen, spoil = [], staticmethod(lambda path, status, headers, body: (status, headers, body))

    def handle_any(self):
        type(self).seen.append((self.command, self.path))
        c = http.client.HTTPConnection(HOST, 5000 + OFFSET, timeout=20)
        c.request(self.command, self.path, headers=dict(self.headers))
        r = c.getresponse()
        headers = [(k, v) for k, v in r.getheaders() if k.lower() not in ("content-length", "connection")]
        status, headers, body = type(self).spoil(self.path, r.status, headers, r.read())
        c.close()
        self.send_response_only(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def between(spoil=None):
    handler = type("Handler", (Between,), {"seen": [], **({"spoil": staticmethod(spoil)} if spoil else {})})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def someone(stack):
    return Tenant()


def test_a_stack_that_is_well(someone):
    admins = [x for name in ADMINS for x in ("--admin", f"http://127.0.0.1:{port(name)}")]
    code, rows = doctor(AT_5000, *admins, CRM_TOKEN=someone.token)
    assert code == 0 and of(rows, "bad") == []
    # what other tests did to the stack may show, as a warning: ejections, dead letters
    assert all(r["section"] == "Programs" or "rate limit" in r["check"] for r in of(rows, "warn")), of(rows, "warn")
    assert {r["section"] for r in rows} == {"Address", "Dialects", "Headers", "Pages", "Programs"}
    assert len([r for r in rows if "OpenAPI document" in r["check"]]) == 6 and len([r for r in rows if "routes read with the token" in r["check"]]) == 6
    assert {r["check"].split()[0] for r in rows if " is ready" in r["check"]} == {"gateway", "svc-auth", "svc-customers", "svc-sales", "svc-audit"}


def test_it_only_looks(someone):
    with between() as (url, seen):
        code, rows = doctor(url, CRM_TOKEN=someone.token)
    assert code == 0 and len(seen) > 20
    assert {m for m, _ in seen} <= {"GET", "HEAD", "OPTIONS"}
    with pytest.raises(AssertionError):
        doctor_remote.Site(AT_5000).ask("/api/leads", "POST")


def test_the_token_is_for_reading_only_when_it_was_given(stack):
    with between() as (url, _):
        code, rows = doctor(url)
    assert code == 0 and not [r for r in rows if "with the token" in r["check"]]
    code, rows = doctor(AT_5000, CRM_TOKEN="not.a.token")
    assert code == 1 and all("401" in r["why"] for r in named(rows, "routes read with the token"))


def test_nobody_there_and_somebody_else(stack):
    code, rows = doctor(f"127.0.0.1:{free_port()}")
    assert code == 1 and "refused" in named(rows, "accepts connections")[0]["why"].lower()
    code, rows = doctor(f"http://127.0.0.1:{port('ADMIN')}")
    assert code == 1 and named(rows, "start page")[0]["result"] == "bad"
    code, rows = doctor("http://no-such-host.invalid")
    assert code == 1 and named(rows, "has an address")[0]["result"] == "bad"
    code, rows = doctor(AT_5000, "--admin", AT_5000)
    assert code == 1 and named(rows, "is an admin port")[0]["result"] == "bad"
    for url in ("ftp://x", "http://user:secret@x", "http://x:99999999"):
        r = subprocess.run([sys.executable, ROOT / "crm", "doctor", "--url", url], capture_output=True, text=True, timeout=20)
        assert r.returncode == 2 and "secret" not in r.stderr


def test_a_gateway_whose_service_is_dead(someone, tmp_path):
    services = " ".join(f"{s}=tcp://127.0.0.1:{free_port() if s == 'customers' else port(s.upper())}" for s in ("auth", "customers", "sales", "audit"))
    with Gateway(tmp_path, SERVICES=services) as g:
        time.sleep(2)
        code, rows = doctor(f"http://127.0.0.1:{g.port}", "--admin", f"http://127.0.0.1:{g.admin}", CRM_TOKEN=someone.token)
    assert code == 1
    away = named(rows, "routes read with the token")
    assert any(r["result"] == "bad" and "503" in r["why"] for r in away), away
    none = named(rows, "every service has an instance in use")[0]
    assert none["result"] == "bad" and 'upstream="customers"' in none["why"]
    instances = named(rows, "every instance of every service")[0]
    assert instances["result"] == "warn" and 'upstream="customers"' in instances["why"] and "auth" not in instances["why"]


def test_tls(stack, tmp_path):
    cert, key = make_certificate(tmp_path, "doctor")
    with Gateway(tmp_path, TLS_CERT_FILE=cert, TLS_KEY_FILE=key) as g:
        url = f"https://localhost:{g.port}"
        code, rows = doctor(url)
        assert code == 1 and "self" in named(rows, "certificate is valid")[0]["why"]
        code, rows = doctor(url, SSL_CERT_FILE=str(cert))
        assert code == 0 and named(rows, "certificate is valid")[0]["result"] == "ok"
        assert named(rows, "certificate ends in 2 days")[0]["result"] == "warn" and named(rows, "TLSv1.3")[0]["result"] == "ok"
        assert named(rows, "Strict-Transport-Security")[0]["result"] == "warn"
        code, rows = doctor(f"http://localhost:{g.port}")
        assert code == 1
        assert 1.9 * 86400 < metrics(g.admin)["crm_gateway_certificate_expiry_timestamp_seconds"] - time.time() < 2.1 * 86400


@pytest.mark.parametrize("what, spoil, check, result", [
    ("an error page of its own", lambda p, s, h, b: (s, [("Content-Type", "text/html")], b"<h1>Unauthorized</h1>") if s == 401 else (s, h, b), "an error looks as documented", "bad"),
    ("no headers of ours", lambda p, s, h, b: (s, [x for x in h if not x[0].lower().startswith(("x-", "ratelimit", "cache-"))], b), "answers are not kept by caches", "bad"),
    ("a second CORS", lambda p, s, h, b: (s, [x for x in h if not x[0].startswith("Access-Control")] + [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true")], b), "CORS headers fit together", "bad"),
    ("a login page", lambda p, s, h, b: (302, [("Location", "https://login.example")], b""), "start page", "bad"),
    ("another document", lambda p, s, h, b: (s, h, b'{"openapi":"2.0"}') if p == "/openapi/mvp.json" else (s, h, b), "mvp: OpenAPI document", "bad"),
    ("a clock that is wrong", lambda p, s, h, b: (s, [x for x in h if x[0] != "Date"] + [("Date", "Mon, 01 Jan 2024 00:00:00 GMT")], b), "clock:", "warn"),
    ("a server that boasts", lambda p, s, h, b: (s, h + [("Server", "nginx/1.18.0")], b), "no version of a server", "warn"),
], ids=lambda x: x.replace(" ", "-") if isinstance(x, str) and " " in x else "")
def test_a_proxy_that_spoils(stack, what, spoil, check, result):
    with between(spoil) as (url, _):
        code, rows = doctor(url)
    assert named(rows, check)[0]["result"] == result and code == (1 if result == "bad" else 0)
