"""Personal data that can be recognised: entered everywhere where people are named, rightly and wrongly, then looked for where it must not be."""

import random
import uuid

FACES = {"backend": "/api/v1", "saas": "/api", "system": "/api", "mvp": "/api", "elevate": "/api/v1", "native": "/v1"}


class Client:
    """One tenant at any gateway, in any dialect by its prefix."""

    def __init__(self, http, base):
        self.http, self.base, self.token = http, base, None

    def call(self, face, method, path, **kw):
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **kw.pop("headers", {})}
        return self.http.request(method, f"{self.base}/~{face}{FACES[face]}{path}", headers=headers, timeout=20, **kw)


class Person:
    def __init__(self):
        word = uuid.uuid4().hex[:10]
        self.given, self.family, self.email = f"Given{word}", f"Family{word}", f"mail{word}@canary.example"
        self.phone = "+49 171 " + "".join(random.choice("0123456789") for _ in range(9))
        self.company = f"Firm{word}"

    @property
    def marks(self):
        return [self.given, self.family, self.email, self.email.replace("@", "%40"), self.phone, self.phone.replace(" ", ""), self.phone.replace(" ", "").lstrip("+"), self.company]


def leave(client, password="Correct-horse-7"):
    """Registers a tenant and names people in every way; returns them. Not all is accepted, which is as well."""
    admin, people = Person(), []
    r = client.call("saas", "POST", "/auth/register", json={"email": admin.email, "password": password, "tenantName": admin.company, "companyName": admin.company,
                                                          "firstName": admin.given, "lastName": admin.family})
    assert r.status_code == 201, r.text
    client.token = r.json()["token"]
    people.append(admin)

    def somebody():
        people.append(Person())
        return people[-1]

    def lead(p):
        return {"firstName": p.given, "lastName": p.family, "email": p.email, "phone": p.phone, "company": p.company, "source": "website"}

    p = somebody()
    made = client.call("saas", "POST", "/leads", json=lead(p))
    assert made.status_code == 201, made.text
    client.call("saas", "PUT", f"/leads/{made.json()['id']}", json={**lead(somebody()), "status": "Contacted"})
    client.call("saas", "GET", f"/leads?search={p.email.replace('@', '%40')}")
    client.call("saas", "GET", f"/leads/{p.email}")
    client.call("saas", "POST", "/leads", json={**lead(p), "email": p.family + " is no address"})
    client.call("saas", "POST", "/leads", data=f'{{"firstName": "{p.given}", "email": ')
    client.call("saas", "POST", "/leads", json={p.email: p.phone, **lead(p)})
    p = somebody()
    assert client.call("backend", "POST", "/customers", json={"companyName": p.company, "contactName": f"{p.given} {p.family}", "email": p.email, "phone": p.phone}).status_code == 201
    p = somebody()
    assert client.call("system", "POST", "/crm/contacts/", json={"first_name": p.given, "last_name": p.family, "email": p.email, "phone": p.phone}).status_code == 201
    p = somebody()
    assert client.call("mvp", "POST", "/leads", json={"name": f"{p.given} {p.family}", "email": p.email, "phone": p.phone, "source": "api"}).status_code == 201
    p = somebody()
    assert client.call("elevate", "POST", "/customers", json={"name": f"{p.given} {p.family}", "company": p.company, "email": p.email, "phone": p.phone}).status_code == 201
    p = somebody()
    client.call("backend", "POST", "/users", json={"email": p.email, "firstName": p.given, "lastName": p.family, "role": "agent", "password": password})
    p = somebody()
    client.call("backend", "POST", "/auth/login", json={"email": p.email, "password": password})
    for _ in range(7):  # until it is locked
        client.call("backend", "POST", "/auth/login", json={"email": admin.email, "password": "wrong-" + p.family})
    client.call("saas", "POST", "/auth/forgot-password", json={"email": admin.email})
    client.call("native", "POST", "/privacy/export", json={"email": people[1].email})
    return people


def found(people, text):
    """The marks of people that stand in the bytes of a log."""
    return sorted(mark for p in people for mark in p.marks if mark.encode() in text)
