"""Bad input, generated from OpenAPI and the dialects: every body of every route × {missing, null, wrong type, too long, not UTF-8, another
tenant's id, unknown member}. What the contract calls invalid is refused with 4xx in the dialect's shape and named; nothing is 5xx."""

import json
import urllib.parse
import uuid

import pytest

import routes
from conftest import PASSWORD, Tenant
from test_errors import FACES, shape_of
from test_type_confusion import Wire, operations, plausible, resolve

BAD = (400, 404, 409, 422)
STRICT = {"native"}
LEFT_ALONE = {"Auth.Logout"}
WRONG = {"integer": ['"x"', "{}", "[1]", "true"], "number": ['"x"', "{}", "[1]", "true"], "boolean": ['"maybe"', "{}", "[true]", "7"],
         "array": ['"x"', "{}", "7"], "object": ['"x"', "[]", "7", "true"], "string": ["{}", "[]", "true", "7"]}
PRIVILEGED = {"tenantId": "tenant_1", "tenant_id": 1, "tenant": "00000000-0000-0000-0000-000000000001", "isAdmin": True, "is_admin": True, "is_superuser": True,
              "permissions_low": -1, "deletedAt": "1999-01-01T00:00:00Z", "deleted_at": "1999-01-01T00:00:00Z", "version": 4711, "createdBy": "user_4711",
              "created_by": 4711, "seq": 4711, "__proto__": {"role": "admin"}}


class Bodies:
    """One operation's body: its members by name with their schemas, and a text that would be taken."""

    def __init__(self, document, operation, email):
        content = operation["requestBody"]["content"]
        self.json = content.get("application/json")
        schema = resolve(document, self.json["schema"]) if self.json else {}
        self.items = schema.get("type") == "array"
        for part in schema.get("allOf", schema.get("oneOf", schema.get("anyOf", []))):
            schema = {**schema, **resolve(document, part)}
        self.fields = {n: resolve(document, s) for n, s in schema.get("properties", {}).items()}
        self.required = [n for n in schema.get("required", []) if n in self.fields]
        self.base = {n: plausible(document, n, self.fields[n]) for n in self.required}
        for n in self.base:
            if "assword" in n:
                self.base[n] = json.dumps(PASSWORD)
            if operation_is_login(operation) and "mail" in n:  # a good login is not an attempt that counts against the address
                self.base[n] = json.dumps(email)

    def text(self, **change):
        members = {**self.base, **change}
        return "{" + ",".join(f"{json.dumps(n)}:{v}" for n, v in members.items() if v is not None) + "}"


def operation_is_login(operation):
    return operation["path"].rstrip("/").endswith("/login")


def kind_of(schema):
    kind = schema.get("type")
    kinds = [k for k in (kind if isinstance(kind, list) else [kind]) if k != "null"]
    return kinds[0] if len(kinds) == 1 and not ({"oneOf", "anyOf", "allOf"} & set(schema)) else None


def longest(schema):
    return schema.get("maxLength") if kind_of(schema) == "string" else None


def cases(document, route, operation, theirs, email):
    """(what is wrong, the member, body bytes, must it be refused)."""
    b = Bodies(document, {**operation, "path": route.path}, email)
    if not b.json or b.items:
        return
    refs = routes.references(route.face).get(route.body, {})
    for n in b.required:
        yield "missing", n, b.text(**{n: None}), True
        yield "null", n, b.text(**{n: "null"}), True
    for n, schema in b.fields.items():
        if schema.get("readOnly"):
            continue
        if n not in b.required:
            yield "null", n, b.text(**{n: "null"}), False
        for value in WRONG.get(kind_of(schema), []):
            if value == "7" and n in refs:
                continue  # an id may be a number in every dialect
            yield "wrong type", n, b.text(**{n: value}), True
        if longest(schema):
            yield "too long", n, b.text(**{n: json.dumps("x" * (longest(schema) + 1))}), True
        if kind_of(schema) == "string":
            yield "not UTF-8", n, b.text(**{n: '"a?b"'}).encode().replace(b"a?b", b"a\xffb"), True
    for n, kind in refs.items():
        if kind in theirs and n in b.fields:
            many = kind_of(b.fields[n]) == "array"
            yield "another tenant's id", n, b.text(**{n: json.dumps([theirs[kind]] if many else theirs[kind])}), True
    yield "unknown member", "nobodyKnowsThis", b.text(nobodyKnowsThis="1"), route.face in STRICT


def queries(operation):
    """(what, the parameter, its value in the URL, must it be refused)."""
    for q in operation.get("parameters", []):
        if q.get("in") != "query":
            continue
        schema = q.get("schema", {})
        for value in {"integer": ["abc", "1.5", "%00"], "boolean": ["maybe"]}.get(kind_of(schema), []):
            yield "wrong type", q["name"], value, True
        if "enum" in schema:
            yield "wrong type", q["name"], "nobodyKnowsThis", True
        yield "too long", q["name"], "x" * 3000, False
        yield "not UTF-8", q["name"], "a%ffb", False
        yield "null", q["name"], "", False


def ids_of(tenant):
    return {
        "lead": tenant.saas.post("/leads", json={"firstName": "Bad", "lastName": "Input"}).json()["id"],
        "contact": tenant.saas.post("/contacts", json={"firstName": "Bad", "lastName": "Input"}).json()["id"],
        "account": tenant.backend.post("/customers", json={"companyName": "Bad Input"}).json()["data"]["id"],
        "territory": tenant.system.post("/territories/territories/", json={"name": "Bad Input"}).json()["id"],
        "user": tenant.backend.get("/auth/profile").json()["data"]["id"],
        "tenant": tenant.session["tenantId"],
    }


def path_of(route, ids):
    """With ids of our own, so that the body is what is wrong. Where writing could lock the tenant out, with one that does not exist."""
    path = route.path
    while "{" in path:
        word = path[:path.index("{")]
        kind = next((k for k in ("lead", "contact", "territor") if k in word), "account" if "customer" in word or "account" in word else None)
        value = str(ids[{"territor": "territory"}.get(kind, kind)]) if kind else str(uuid.UUID(int=1))
        path = word + value + path[path.index("}") + 1:]
    return path


@pytest.fixture(scope="module")
def strangers_ids(stack):
    """Numbers that our own tenants never reach: a number of theirs must not be one of ours by chance."""
    tenant = Tenant()
    for _ in range(40):
        ids = ids_of(tenant)
    return ids


@pytest.fixture(scope="module")
def told(stack):
    """How many of each kind were sent, over all faces; printed at the end."""
    counts = {}
    yield counts
    print("\nbad input: " + ", ".join(f"{k}: {n}" for k, n in sorted(counts.items())) + f"; together {sum(counts.values())}")


def judged(face, what, name, must, answer):
    """Why the answer is wrong; None when it is right."""
    status, kind, body = answer
    if status >= 500:
        return "our failure"
    if status >= 400:
        try:
            fields = shape_of(face, json.loads(body))[2]
        except (AssertionError, KeyError, TypeError, ValueError):
            return "not in the dialect's shape"
        if status == 429:
            return "rate limit"
        if must and what in ("missing", "wrong type", "too long") and status in (400, 422) and not any(f.split(".")[0].split("[")[0] == name for f in fields):
            return f"the member is not named, but {fields}"
        return None
    return "was taken" if must else None


@pytest.mark.parametrize("face", FACES)
def test_what_the_contract_calls_invalid_is_refused(stack, strangers_ids, told, face):
    tenant = Tenant()
    ids, wire, bad, sent = ids_of(tenant), Wire(face, tenant.token), [], 0
    document = json.loads(wire.send("GET", f"/openapi/{face}.json")[2])
    declared = {(r.method, r.path): r for r in routes.routes() if r.face == face and r.body and r.rpc not in LEFT_ALONE}
    reached = set()
    for method, path, operation in operations(document):
        for what, name, value, must in queries(operation) if method == "GET" else []:
            at = path.replace("{resource}", "lead")
            answer = wire.send(method, f"{at}?{urllib.parse.quote(name)}={value}" if "{" not in at else at)
            why = judged(face, "query", name, must and "{" not in at, answer)
            sent += 1
            told["query: " + what] = told.get("query: " + what, 0) + 1
            if why:
                bad.append(f"{face} {method} {path}: {what} ?{name}={value[:40]}: {why}: -> {answer[0]} {answer[2][:220]!r}")
        route = declared.get((method, path))
        if not route or "requestBody" not in operation:
            continue
        for what, name, body, must in cases(document, route, operation, strangers_ids, tenant.email):
            answer = wire.send(method, path_of(route, ids), body)
            why = judged(face, what, name, must, answer)
            sent += 1
            reached.add((method, path))
            told[what] = told.get(what, 0) + 1
            if why:
                bad.append(f"{route}: {what} `{name}`: {why}: {body[:160]!r} -> {answer[0]} {answer[2][:220]!r}")
    assert not bad, f"{len(bad)} of {sent}:\n" + "\n".join(bad[:60])
    assert len(reached) >= len(declared) * 0.9, set(declared) - reached


def flattened(value):
    if isinstance(value, dict):
        for k, v in value.items():
            yield from ((k + "." + n if n else k, x) for n, x in flattened(v))
    elif isinstance(value, list):
        for v in value:
            yield from flattened(v)
    else:
        yield "", value


@pytest.mark.parametrize("face", FACES)
def test_privileged_members_change_nothing_on_any_route(stack, strangers_ids, face):
    """Members that only the service may set, with values that nothing else has: no answer and no row shows one (S8)."""
    tenant = Tenant()
    ids, wire, bad, sent, taken = ids_of(tenant), Wire(face, tenant.token), [], 0, 0
    document = json.loads(wire.send("GET", f"/openapi/{face}.json")[2])
    declared = {(r.method, r.path): r for r in routes.routes() if r.face == face and r.body}
    before = tenant.backend.get("/auth/profile").json()["data"]
    sentinels = {"4711", "user_4711", "1999-01-01"}
    for method, path, operation in operations(document):
        route = declared.get((method, path))
        if not route or "requestBody" not in operation:
            continue
        b = Bodies(document, {**operation, "path": route.path}, tenant.email)
        if not b.json or b.items:
            continue
        writable = {n for n, schema in b.fields.items() if not schema.get("readOnly")}
        status, _, body = wire.send(method, path_of(route, ids), b.text(**{n: json.dumps(v) for n, v in PRIVILEGED.items() if n not in writable}))
        sent += 1
        if status >= 500 or (status < 300 and face in STRICT):
            bad.append(f"{route} -> {status}")
        if status < 300 and body:
            taken += 1
            shown = [str(v) for _, v in flattened(json.loads(body))]
            if any(v in sentinels or v.startswith("1999-01-01") for v in shown):
                bad.append(f"{route} took effect: {body[:300]!r}")
    assert sent >= 5 and (taken or face in STRICT) and not bad, (sent, taken, "\n".join(bad[:40]))
    me = tenant.backend.get("/auth/profile").json()["data"]
    assert (me["role"], me["tenantId"], me["id"]) == (before["role"], before["tenantId"], before["id"]), me
