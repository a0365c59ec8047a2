"""OpenAPI, explorer, operations endpoints."""

import json

import pytest
import requests

from conftest import AT_5000, HOST, OFFSET
from documents import ROOT

FACES = ["backend", "saas", "system", "mvp", "elevate", "native"]


def walk(node, refs):
    if isinstance(node, dict):
        if "$ref" in node:
            refs.append(node["$ref"])
        for v in node.values():
            walk(v, refs)
    elif isinstance(node, list):
        for v in node:
            walk(v, refs)


@pytest.mark.parametrize("face", FACES)
def test_openapi_is_complete_and_consistent(stack, face):
    d = requests.get(f"{AT_5000}/openapi/{face}.json", timeout=10).json()
    assert d["openapi"].startswith("3.1") and d["info"]["title"] and d["paths"]
    refs = []
    walk(d, refs)
    for ref in refs:
        node = d
        for part in ref.lstrip("#/").split("/"):
            assert part in node, ref
            node = node[part]
    ids = [op["operationId"] for p in d["paths"].values() for m, op in p.items() if m in ("get", "post", "put", "patch", "delete")]
    assert len(ids) == len(set(ids))
    for path, methods in d["paths"].items():
        for method, op in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                assert op["responses"] and any(code.startswith("2") for code in op["responses"]), (path, method)
                declared = {p["name"] for p in op.get("parameters", []) if p["in"] == "path"}
                assert declared == {s[1:-1] for s in path.split("/") if s.startswith("{")}, (path, method)


def test_explorer_is_served_locally(stack):
    page = requests.get(AT_5000 + "/docs", timeout=10)
    assert page.status_code == 200 and "text/html" in page.headers["Content-Type"]
    assert "https://" not in page.text.replace("https://petstore", "https://"), "nothing is loaded from elsewhere"
    for face in FACES:
        assert f"/openapi/{face}.json" in page.text or f"/openapi/{face}.json" in requests.get(AT_5000 + "/docs/start.js", timeout=10).text
    bundle = requests.get(AT_5000 + "/docs/swagger-ui-bundle.js", timeout=10)
    assert bundle.status_code == 200 and "javascript" in bundle.headers["Content-Type"] and len(bundle.content) > 500000


def test_admin_port(stack):
    at = f"http://{HOST}:{9100 + OFFSET}"
    for path in ("/livez", "/readyz", "/version"):
        assert requests.get(at + path, timeout=5).status_code == 200, path
    metrics = requests.get(at + "/metrics", timeout=5).text
    assert "http_server_request_duration_seconds_bucket" in metrics and "crm_build_info" in metrics
    assert requests.get(AT_5000 + "/metrics", timeout=5).status_code == 404, "operations are not on the public port"
