#!/usr/bin/env python3
"""Asks the gateway at a Service's address whether the field that tests/contract adds to a lead is served, written and documented.

usage: tests/k8s/probe.py ADDRESS served|absent     exit status 1 when it is not so within 20 s
"""

import json
import sys
import time
import urllib.error
import urllib.request

HOST, WANTED = sys.argv[1], sys.argv[2]
API, API2 = f"http://{HOST}:5000", f"http://{HOST}:8000"


def call(method, url, body=None, token=None):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method), timeout=10) as r:
            return r.status, json.loads(r.read() or b"null")
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read() or b"null")


def document():
    return '"nickName"' in json.dumps(call("GET", f"{API}/openapi/saas.json")[1])


def seen(token):
    """What one face writes the other reads; nothing of it where the field is not known."""
    status, lead = call("POST", f"{API}/api/leads", {"firstName": "Robert", "lastName": "Roe", "nickName": "Bob"}, token)
    read = call("GET", f"{API2}/api/leads/{lead['id']}", None, token)[1] if status == 201 else {}
    return status, lead.get("nickName"), read.get("nick"), document()


def main():
    email = f"probe-{time.time_ns()}@example.com"
    status, session = call("POST", f"{API}/api/auth/register", {"email": email, "password": "Probe-pass-77", "tenantName": "Probe", "firstName": "Ada", "lastName": "Roe"})
    if status != 201:
        sys.exit(f"probe: no tenant: {status} {session}")
    wanted = (201, "Bob", "Bob", True) if WANTED == "served" else (201, None, None, False)
    began = time.monotonic()
    # every gateway pod learns it by itself: ten answers in a row, over new connections
    row = 0
    while row < 10:
        row = row + 1 if seen(session["token"]) == wanted else 0
        if time.monotonic() - began > 20:
            sys.exit(f"probe: not {WANTED}: {seen(session['token'])}")
    print(f"the field is {WANTED}: POST in saas, GET in mvp, /openapi/saas.json, ten times in a row after {time.monotonic() - began:.1f} s")


main()
