"""HTTPS at the gateway's own door."""

import concurrent.futures
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
import requests

from conftest import Tenant, wait_until
from faults import Gateway


def make_certificate(folder, name):
    """Self-signed, for localhost; written beside and renamed, as a renewal does."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{key}.new", "-out", f"{cert}.new"], check=True, capture_output=True)
    os.rename(f"{key}.new", key)
    os.rename(f"{cert}.new", cert)
    return cert, key


@pytest.fixture(scope="module")
def secure(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = make_certificate(folder, "first")
    with Gateway(folder, TLS_CERT_FILE=cert, TLS_KEY_FILE=key) as g:
        g.folder, g.cert = folder, cert
        yield g


@pytest.fixture(scope="module")
def someone(stack):
    return Tenant()


def url(g, path):
    return f"https://127.0.0.1:{g.port}{path}"


def bearer(tenant):
    return {"Authorization": f"Bearer {tenant.token}"}


def session_of(g):
    session = requests.Session()
    # the environment may name other authorities
    session.trust_env, session.verify = False, str(g.cert)
    return session


def peer_name(g):
    context = ssl.create_default_context(cafile=g.cert)
    with socket.create_connection(("127.0.0.1", g.port), timeout=5) as s, context.wrap_socket(s, server_hostname="localhost") as t:
        return dict(x[0] for x in t.getpeercert()["subject"])["commonName"]


def test_requests_and_curl_work_over_https(secure, someone):
    session = session_of(secure)
    made = session.post(url(secure, "/api/leads"), json={"firstName": "Over", "lastName": "Tls"}, headers=bearer(someone), timeout=10)
    assert made.status_code == 201
    assert session.get(url(secure, "/api/leads"), headers=bearer(someone), timeout=10).json()["totalCount"] >= 1
    out = subprocess.run(["curl", "-sS", "--cacert", secure.cert, "-H", f"Authorization: Bearer {someone.token}", url(secure, "/api/leads")], capture_output=True, text=True, timeout=20)
    assert out.returncode == 0 and '"totalCount"' in out.stdout, out.stderr


def test_links_say_https(secure, someone):
    headers = {**bearer(someone), "X-CRM-Dialect": "system"}
    for i in range(2):
        requests.post(url(secure, "/api/crm/leads/"), json={"first_name": "L", "last_name": f"N{i}", "email": f"l{i}@example.com"}, headers=headers, verify=secure.cert, timeout=10)
    r = requests.get(url(secure, "/api/crm/leads/?page_size=1"), headers=headers, verify=secure.cert, timeout=10)
    assert r.json()["next"].startswith(f"https://127.0.0.1:{secure.port}/"), r.text


@pytest.mark.parametrize("option, works", [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_only_tls_1_2_and_newer(secure, option, works):
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", option, "-cipher", "DEFAULT@SECLEVEL=0", "-brief"], input=b"", capture_output=True, timeout=15)
    assert (b"CONNECTION ESTABLISHED" in r.stderr) == works, r.stderr.decode()


def test_weak_ciphers_are_refused(secure):
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-tls1_2", "-cipher", "AES128-SHA:AES256-SHA:NULL:@SECLEVEL=0", "-brief"],
                       input=b"", capture_output=True, timeout=15)
    assert b"CONNECTION ESTABLISHED" not in r.stderr


def test_plain_http_is_refused_and_harms_nobody(secure, someone):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 600, b"\x16\x03\x01\xff\xff" + b"A" * 4000):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as s:
            s.settimeout(8)
            s.sendall(data)
            got = b""
            try:
                while chunk := s.recv(4096):
                    got += chunk
            except ConnectionResetError:
                pass
            # an alert of TLS at most, and the end
            assert len(got) < 100 and b"200" not in got, got
    assert requests.get(url(secure, "/api/leads"), headers=bearer(someone), verify=secure.cert, timeout=10).status_code == 200


def test_a_connection_is_kept(secure, someone):
    context = ssl.create_default_context(cafile=secure.cert)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as s, context.wrap_socket(s, server_hostname="localhost") as t:
        t.settimeout(10)
        for _ in range(30):
            t.sendall(f"GET /api/leads?pageSize=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {someone.token}\r\n\r\n".encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += t.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(next(h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")).split(b":")[1])
            while len(body) < length:
                body += t.recv(65536)


def test_large_bodies_pass(secure, someone):
    text = "x" * 600000
    made = requests.post(url(secure, "/api/leads"), json={"firstName": "Large", "lastName": "Body", "unknownText": text}, headers=bearer(someone), verify=secure.cert, timeout=20)
    assert made.status_code == 201, made.text[:300]
    r = requests.post(url(secure, "/api/leads"), data=b"x" * (3 << 20), headers={**bearer(someone), "Content-Type": "application/json"}, verify=secure.cert, timeout=20)
    assert r.status_code == 413
    big = requests.get(url(secure, "/openapi/saas.json"), verify=secure.cert, timeout=20)
    assert big.status_code == 200 and big.json()["paths"]


def test_twenty_at_once(secure, someone):
    def ask(_):
        return requests.get(url(secure, "/api/leads"), headers=bearer(someone), verify=secure.cert, timeout=20).status_code
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(100))) == {200}


def test_a_new_certificate_is_taken_on_sighup_and_a_broken_one_is_not(secure, someone):
    session = session_of(secure)
    assert session.get(url(secure, "/api/leads"), headers=bearer(someone), timeout=10).status_code == 200
    assert peer_name(secure) == "first"
    make_certificate(secure.folder, "second")
    secure.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "certificate loaded again" in secure.log(), 5)
    assert peer_name(secure) == "second"
    # a connection made before goes on
    assert session.get(url(secure, "/api/leads"), headers=bearer(someone), timeout=10).status_code == 200
    key = secure.folder / "key.pem"
    good = key.read_bytes()
    refused = secure.log().count("RELOAD-REFUSED")
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    secure.process.send_signal(signal.SIGHUP)
    line = wait_until(lambda: next((row for row in secure.log().splitlines() if "RELOAD-REFUSED" in row), None), 5)
    time.sleep(5)
    assert secure.log().count("RELOAD-REFUSED") == refused + 1, "a change is tried once"
    assert "key.pem" in line and "the old certificate stays" in line, line
    key.write_bytes(good)
    assert peer_name(secure) == "second"


def test_a_renewed_certificate_is_taken_by_itself(secure, someone):
    """As a kubelet does it: the files are links whose folder is exchanged, and nobody sends a signal."""
    for generation in ("third", "fourth"):
        folder, loaded = secure.folder / generation, secure.log().count("certificate loaded again")
        folder.mkdir()
        make_certificate(folder, generation)
        for name in ("cert.pem", "key.pem"):
            link = secure.folder / f"{name}.link"
            link.symlink_to(folder / name)
            os.rename(link, secure.folder / name)
        wait_until(lambda: secure.log().count("certificate loaded again") > loaded, 10)
        assert peer_name(secure) == generation
        assert requests.get(url(secure, "/api/leads"), headers=bearer(someone), verify=secure.cert, timeout=10).status_code == 200


def test_a_client_that_says_nothing_is_let_go(secure):
    with socket.create_connection(("127.0.0.1", secure.port), timeout=5) as s:
        s.settimeout(8)
        assert s.recv(1) == b""
