"""The demo tenant: a login and a few entities, made through the gateway like any client makes them."""

import json
import urllib.error
import urllib.request

EMAIL, PASSWORD, TENANT = "admin@demo.example", "Demo@1234", "Demo"

TERRITORIES = [("North", "Hamburg, Bremen, Kiel"), ("South", "Munich, Stuttgart"), ("West", "Cologne, Frankfurt")]
ACCOUNTS = [
    ("Nordlicht Logistics", "Logistics", "info@nordlicht.example", "+49 40 5550100"),
    ("Alpenblick Software", "Technology", "hello@alpenblick.example", "+49 89 5550101"),
    ("Rheinwerk Foods", "Food", "kontakt@rheinwerk.example", "+49 221 5550102"),
]
LEADS = [
    ("Clara", "Winter", "clara.winter@example.com", "Winter Interiors", "Website"),
    ("Jonas", "Berg", "jonas.berg@example.com", "Berg Outdoor", "Referral"),
    ("Amira", "Saleh", "amira.saleh@example.com", "Saleh Consulting", "Event"),
    ("Pavel", "Novak", "pavel.novak@example.com", "Novak Machines", "Website"),
    ("Mei", "Lin", "mei.lin@example.com", "Lin Design", "Cold Call"),
]


class SeedError(Exception):
    pass


class Client:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        self.token = None

    def post(self, path, body):
        """(status, parsed body)"""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        r = urllib.request.Request(self.base + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(r, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as e:
            return e.code, e.read(2000).decode(errors="replace")
        except (OSError, ValueError) as e:
            raise SeedError(f"POST {path}: {e}") from None

    def must(self, path, body):
        status, reply = self.post(path, body)
        if status not in (200, 201):
            raise SeedError(f"POST {path} answered {status}: {str(reply)[:300]}")
        return reply


def login(client):
    status, reply = client.post("/~saas/api/auth/login", {"email": EMAIL, "password": PASSWORD})
    if status != 200:
        return False
    client.token = reply["token"]
    return True


def seed(port):
    """Makes the demo tenant. False when it was there before."""
    c = Client(port)
    if login(c):
        return False
    c.must("/~saas/api/auth/register", {"email": EMAIL, "password": PASSWORD, "tenantName": TENANT, "companyName": "Demo GmbH", "firstName": "Dana", "lastName": "Demo"})
    if not login(c):
        raise SeedError("the demo tenant is registered but cannot log in")
    for name, description in TERRITORIES:
        c.must("/~system/api/territories/territories/", {"name": name, "description": description, "is_active": True})
    for name, industry, email, phone in ACCOUNTS:
        c.must("/~system/api/crm/accounts/", {"name": name, "industry": industry, "email": email, "phone": phone})
    for first, last, email, company, source in LEADS:
        c.must("/~saas/api/leads", {"firstName": first, "lastName": last, "email": email, "company": company, "source": source, "status": "New"})
    return True


def block(cfg):
    """What one reads after the start, aligned."""
    api, api2, admin = (f"http://localhost:{cfg.ports[n]}" for n in ("API", "API2", "ADMIN"))
    rows = [
        ("API backend", f"{api}/api/v1", "documents: /openapi/backend.json"),
        ("API saas", f"{api}/api", "/openapi/saas.json"),
        ("API system", f"{api}/api/", "/openapi/system.json"),
        ("API elevate", f"{api2}/api/v1", "/openapi/elevate.json"),
        ("API mvp", f"{api2}/api", "/openapi/mvp.json"),
        ("API native", f"{api}/v1", "/openapi/native.json"),
        ("Explorer", f"{api}/docs", "all of them"),
        ("Admin", f"{admin}/readyz", "/livez /metrics /version"),
        ("Logs", str(cfg.log), "./crm logs -f"),
        ("Demo login", EMAIL, PASSWORD),
    ]
    wide = max(len(r[1]) for r in rows)
    return [f"  {name:<12} {value:<{wide}}  {note}".rstrip() for name, value, note in rows]


def curl(cfg):
    api = f"http://localhost:{cfg.ports['API']}"
    body = json.dumps({"email": EMAIL, "password": PASSWORD}, separators=(",", ":"))
    return (
        f"TOKEN=$(curl -s {api}/api/auth/login -H 'Content-Type: application/json' -d '{body}' | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n"
        f"curl -s {api}/api/leads -H \"Authorization: Bearer $TOKEN\""
    )
