"""Wrong types, absurd numbers and hostile texts in every field, query parameter and path of every documented route."""

import http.client
import itertools
import json
import time
import urllib.parse

import pytest

from conftest import HOST, OFFSET, Tenant
from test_errors import FACES, shape_of

SECONDS = 3.0  # per face; what is left out differs from run to run no more than the speed of the machine
# as JSON text, because Python would not print some of these
VALUES = [
    "null", "true", "false", "0", "-0", "-1", "1.5", "1e400", "-1e400", "1e-400", "1E2", "9223372036854775807", "9223372036854775808", "1" + "0" * 400,
    "0." + "1" * 400, '""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\u0001\\u001f\\u007f"', '"\\ud83d\\ude00 \\u0645\\u0631\\u062d\\u0628\\u0627 \\u202e"',
    '"' + "x" * 10000 + '"', '"' + "😀" * 1500 + '"', '"\\ufffe\\uffff"', '"2024-02-30"', '"0000-00-00T00:00:00Z"', '"999999-12-31T23:59:60Z"',
    '"9223372036854775808"', '"00000000-0000-0000-0000-000000000000"', '"\'; DROP TABLE lead; --"', '"%_\\\\"', '"{\\"a\\":1}"', "[]", "{}", "[null]",
    "[[[[]]]]", '["a","a"]', '[1,"x",null,{}]', '{"a":{"b":[{}]}}', '{"id":null}', '{"id":"1"}', '{"id":[]}', '[{"id":{}}]', '{"":""}', '{"\\u0000":1}',
    "[" * 40 + "]" * 40, '{"$gt":""}',
]
BODIES = VALUES + ["", "{", "nul", '{"a":1,"a":2}', "[" * 200 + "]" * 200, "[" + "{}," * 200 + "{}]", '"\\ud800"', '{"a":"\\ud800"}']
QUERIES = [
    "", "-1", "0", "1.5", "1e400", "9223372036854775808", "99999999999999999999999", "true", "null", "%00", "a%00b", "%ff", "%F0%9F%98%80", "%25", "_",
    "'%22%5C", "x" * 3000, ",", ",,a", "-", "a,b,c", "createdAt", "-id,id", "2024-13-01", "[]", "{%22a%22:1}", "%E2%80%AE", "+", "../..",
]
PATHS = ["0", "-1", "1.5", "00000000-0000-0000-0000-000000000000", "9223372036854775808", "%00", "%ff", "%F0%9F%98%80", "x" * 300, "%2e%2e", "'", "lead_0", "%20"]


class Wire:
    """One kept connection; what matters here is how many requests fit into a second."""

    def __init__(self, face, token):
        self.face, self.token = face, token
        self.connection = http.client.HTTPConnection(HOST, 5000 + OFFSET, timeout=20)

    def send(self, method, path, body=None, kind="application/json"):
        headers = {"Authorization": f"Bearer {self.token}", "X-CRM-Dialect": self.face}
        if body is not None:
            headers["Content-Type"] = kind
        self.connection.request(method, path, body.encode() if isinstance(body, str) else body, headers)
        r = self.connection.getresponse()
        return r.status, r.getheader("Content-Type") or "", r.read()


def resolve(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def properties(document, operation):
    """Names of what the operation's body may hold, and what else it must hold to get far."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = resolve(document, next(iter(content.values()))["schema"]) if content else {}
    if schema.get("type") == "array":
        schema = resolve(document, schema["items"])
    for part in schema.get("allOf", schema.get("oneOf", schema.get("anyOf", []))):
        schema = {**schema, **resolve(document, part)}
    return schema.get("properties", {}), schema.get("required", [])


def plausible(document, name, schema):
    """A value that this field would take."""
    schema = resolve(document, schema)
    if "enum" in schema:
        return json.dumps(schema["enum"][0])
    if "mail" in name.lower():
        return f'"{time.monotonic_ns()}@example.com"'
    if "format" in schema and schema["format"].startswith("date"):
        return '"2024-05-06T07:08:09Z"'
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    return {"integer": "1", "number": "1", "boolean": "true", "array": "[]", "object": "{}"}.get(kind, '"Plausible-1"')


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete") and not path.rstrip("/").endswith("/logout"):
                yield method.upper(), path, operation


def at(path, value="00000000-0000-0000-0000-000000000001"):
    while "{" in path:
        path = path[: path.index("{")] + value + path[path.index("}") + 1 :]
    return path


def requests_of(document, method, path, operation):
    """Everything for one operation, the broadest first."""
    if "requestBody" in operation:
        fields, required = properties(document, operation)
        base = {name: plausible(document, name, fields[name]) for name in required if name in fields}
        for text in BODIES:
            yield method, at(path), text
        for value in VALUES:
            yield method, at(path), "{" + ",".join(f"{json.dumps(name)}:{value}" for name in fields) + "}"
        for i, name in enumerate(fields):
            for j in range(len(VALUES)):
                value = VALUES[(i * 7 + j) % len(VALUES)]
                yield method, at(path), "{" + ",".join(f"{json.dumps(n)}:{v}" for n, v in {**base, name: value}.items()) + "}"
    for name in [p["name"] for p in operation.get("parameters", []) if p.get("in") == "query"] if method == "GET" else []:
        for value in QUERIES:
            yield method, f"{at(path)}?{urllib.parse.quote(name)}={value}", None
        yield method, f"{at(path)}?{urllib.parse.quote(name)}=1&{urllib.parse.quote(name)}=2", None
    for value in PATHS if "{" in path else []:
        yield method, at(path, value), "{}" if "requestBody" in operation else None


def interleaved(generators):
    """One of each in turn, so that running out of time leaves out the tail of all rather than all of some."""
    generators = list(generators)
    while generators:
        alive = []
        for g in generators:
            item = next(g, None)
            if item is not None:
                alive.append(g)
                yield item
        generators = alive


def check(face, request, answer):
    status, kind, body = answer
    told = f"{request[0]} {request[1][:200]} {(request[2] or '')[:300]} -> {status} {body[:300]!r}"
    assert status < 500, told
    if status >= 400:
        assert "json" in kind, told
        try:
            shape_of(face, json.loads(body))
        except (AssertionError, KeyError, TypeError) as e:
            raise AssertionError(told) from e
    elif body and "json" in kind:
        json.loads(body)


@pytest.mark.parametrize("face", FACES)
def test_no_input_is_our_failure(stack, face):
    tenant = Tenant()
    wire = Wire(face, tenant.token)
    document = json.loads(wire.send("GET", f"/openapi/{face}.json")[2])
    end, sent, answered = time.monotonic() + SECONDS, 0, set()
    for request in itertools.chain(interleaved(requests_of(document, *o) for o in operations(document))):
        answer = wire.send(*request)
        check(face, request, answer)
        sent += 1
        answered.add(answer[0])
        if time.monotonic() > end:
            break
    assert sent > 100 and {200, 404} & answered and {400, 422} & answered, (sent, answered)
    assert wire.send("GET", at(next(p for m, p, o in operations(document) if m == "GET" and "{" not in p)))[0] < 500
