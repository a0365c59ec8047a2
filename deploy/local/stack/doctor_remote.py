"""crm doctor --url: a stack that runs elsewhere, seen through its public address and, where given, admin ports. It only looks: GET, HEAD, OPTIONS."""

import datetime
import email.utils
import getpass
import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import statistics
import time
import urllib.parse
import uuid

from .config import ConfigError
from .doctor import BAD, OK, WARN

METHODS = {"GET", "HEAD", "OPTIONS"}
DIALECTS = ["backend", "saas", "system", "mvp", "elevate"]
TIMEOUT_S = 10
BODY_MAX = 16 << 20
SLOW_MS, SKEW_S, CERTIFICATE_DAYS = 500, 2, 14
ROUTES_MAX = 12 # of a dialect, with a token
ORIGIN = "https://doctor.invalid"


class Silent(Exception):
    """No answer; the text says why."""


class Answer:
    def __init__(self, status, headers, body, took_s):
        self.status, self.headers, self.body, self.took_s = status, headers, body, took_s
        self.text = body.decode(errors="replace")

    def json(self):
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    def header(self, name):
        return self.headers.get(name) or ""


class Site:
    """One origin. Certificates are checked; a redirect is an answer."""

    def __init__(self, url, token=None):
        if "://" not in url:
            url = "http://" + url
        u = urllib.parse.urlsplit(url)
        try:
            self.port = u.port or (443 if u.scheme == "https" else 80)
        except ValueError:
            raise ConfigError(f"{url}: that is no port") from None
        if u.scheme not in ("http", "https") or not u.hostname:
            raise ConfigError(f"{url}: expected http://host[:port] or https://host[:port]")
        if u.username or u.query or u.fragment:
            raise ConfigError(f"{u.scheme}://{u.hostname}: neither credentials nor a query belong into the address")
        self.scheme, self.host, self.base, self.token = u.scheme, u.hostname, u.path.rstrip("/"), token
        self.url = f"{u.scheme}://{u.netloc}{self.base}"

    def connect(self):
        if self.scheme == "http":
            return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE")))

    def ask(self, path, method="GET", signed=False, **headers):
        assert method in METHODS, "the doctor only looks"
        sent = {"User-Agent": "crm-doctor", "Accept": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if signed:
            sent["Authorization"] = f"Bearer {self.token}"
        c, began = self.connect(), time.monotonic()
        try:
            c.request(method, self.base + path, headers=sent)
            r = c.getresponse()
            body = r.read(BODY_MAX)
            return Answer(r.status, r.headers, body, time.monotonic() - began)
        except (OSError, http.client.HTTPException) as e:
            raise Silent(str(e) or type(e).__name__) from None
        finally:
            c.close()


def judge(good, else_=BAD):
    return OK if good else else_


# -- the address


def check_tls(site):
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    try:
        with socket.create_connection((site.host, site.port), TIMEOUT_S) as raw, context.wrap_socket(raw, server_hostname=site.host) as s:
            end, version = ssl.cert_time_to_seconds(s.getpeercert()["notAfter"]), s.version()
    except ssl.SSLCertVerificationError as e:
        yield "certificate is valid", BAD, e.verify_message, "renew it, or send the whole chain; SSL_CERT_FILE names an authority of your own"
        return
    except OSError as e:
        yield "speaks TLS", BAD, str(e), "is it http:// ?"
        return
    days = (end - time.time()) / 86400
    yield "certificate is valid", OK, "", ""
    yield f"certificate ends in {days:.0f} days", judge(days > CERTIFICATE_DAYS, WARN), "soon", "docs/runbooks/CrmCertificateExpires.md"
    yield f"{version}", judge(version in ("TLSv1.2", "TLSv1.3"), WARN), "old", "allow TLS 1.2 and 1.3 only"


def is_private(host):
    try:
        return all(ipaddress.ip_address(a[4][0].split("%")[0]).is_private for a in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False


def check_address(site, seen):
    try:
        addresses = sorted({a[4][0] for a in socket.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)})
    except OSError as e:
        yield f"{site.host} has an address", BAD, str(e), "check the name and your DNS"
        return
    yield f"{site.host} is {', '.join(addresses)}", OK, "", ""
    for a in addresses:
        try:
            socket.create_connection((a, site.port), TIMEOUT_S).close()
            yield f"{a} port {site.port} accepts connections", OK, "", ""
        except OSError as e:
            yield f"{a} port {site.port} accepts connections", BAD, str(e), "is it the right port? does a firewall or NetworkPolicy let you in?"
            return
    if site.scheme == "https":
        yield from check_tls(site)
    elif not is_private(site.host):
        yield "speaks TLS", WARN, "http:// over a public network: passwords and tokens can be read on the way", "TLS at the ingress or in the gateway (TLS_CERT_FILE)"
    yield from check_start(site, seen)


def check_start(site, seen):
    try:
        r = site.ask("/")
    except Silent as e:
        yield "answers HTTP", BAD, str(e), "is it the gateway's port, and is a gateway behind the ingress?"
        return
    start = r.json() if r.status == 200 else None
    ours = isinstance(start, dict) and start.get("name") == "crm" and isinstance(start.get("dialects"), list)
    yield "its start page is that of the CRM", judge(ours), f"HTTP {r.status}: {r.text[:80]!r}", "is it the right host and path? a redirect's target would be in Location"
    if not ours:
        return
    seen["start"] = start
    yield f"version {start.get('version')}", OK, "", ""
    yield from check_pace(site, r)


def check_pace(site, first):
    """Latency of answers that need nobody but the gateway, and its clock."""
    times = []
    for _ in range(5):
        try:
            times.append(site.ask("/openapi.json").took_s * 1000)
        except Silent as e:
            yield "answers each time", BAD, str(e), "connections break; what is between here and there?"
            return
    middle = statistics.median(times)
    yield f"answers within {middle:.0f} ms (connection included; half of {len(times)})", judge(middle < SLOW_MS, WARN), "slow", "far away, or busy: dashboards of deploy/grafana"
    date = email.utils.parsedate_to_datetime(first.header("Date")) if first.header("Date") else None
    if not date:
        yield "tells its time", WARN, "no Date header", "a proxy removes it"
        return
    # the header is cut to whole seconds
    skew = (datetime.datetime.now(datetime.timezone.utc) - date).total_seconds() - statistics.median(times) / 2000 - 0.5
    yield f"clock: {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} this machine", judge(abs(skew) <= SKEW_S, WARN), "the hop's deadlines and tokens are wall clock", "NTP on the nodes (or here)"


# -- dialects


def resolve(document, node):
    while isinstance(node, dict) and "$ref" in node:
        at = document
        for part in node["$ref"].lstrip("#/").split("/"):
            at = at.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(at, dict) else {}
        node = at
    return node if isinstance(node, dict) else {}


def example_route(document):
    """The first list or the like that wants a token, takes no id, and its 401: (path, schema of the error)."""
    for path, methods in document.get("paths", {}).items():
        get = methods.get("get", {})
        refusal = resolve(document, get.get("responses", {}).get("401"))
        if refusal and "{" not in path and get.get("security") != []:
            content = next(iter(refusal.get("content", {}).values()), {})
            return path, resolve(document, content.get("schema"))
    return None, {}


def readable(document):
    """A route of each tag that can be read without knowing anything: {tag: path}. Not the feed: it waits."""
    found = {}
    for path, methods in document.get("paths", {}).items():
        get = methods.get("get", {})
        needs = any(resolve(document, p).get("required") for p in get.get("parameters", []) + methods.get("parameters", []))
        if get and "{" not in path and not needs and "export" not in path and not path.rstrip("/").endswith("/events"):
            found.setdefault(next(iter(get.get("tags", [])), ""), path)
    return dict(list(found.items())[:ROUTES_MAX])


def read_all(site, row, document):
    """Every part of the dialect, and so every service behind it."""
    routes, bad = readable(document), []
    began = time.monotonic()
    for path in routes.values():
        r = site.ask(prefix_of(row) + path, signed=True)
        if r.status not in (200, 403): # 403: this token may not; the answer is the product's all the same
            bad.append(f"{path} {r.status}")
    took = (time.monotonic() - began) * 1000 / max(1, len(routes))
    yield f"{row.get('name')}: {len(routes)} routes read with the token, {took:.0f} ms each", judge(not bad), ", ".join(bad), \
        "401: the token is not valid here; 503: a service is away (docs/runbooks/CrmServiceWithoutInstance.md)"


def fits(document, schema, value):
    """Why value is not what schema says, one level deep and for its required members below; '' when it is."""
    if not isinstance(value, dict):
        return "it is no JSON object"
    lacks = [k for k in schema.get("required", []) if k not in value]
    if lacks:
        return f"it lacks {', '.join(lacks)}"
    known = schema.get("properties", {})
    strange = [k for k in value if known and k not in known]
    return f"{', '.join(strange)} is not in the document" if strange else ""


def prefix_of(row):
    """The dialect's path before its routes; host and port are those that the doctor was given."""
    return urllib.parse.urlsplit(row.get("server", "")).path


def check_dialect(site, row, seen):
    name = row.get("name")
    r = site.ask(f"/openapi/{name}.json")
    document = r.json() if r.status == 200 else None
    good = isinstance(document, dict) and str(document.get("openapi", "")).startswith("3.1") and document.get("paths") and document.get("info", {}).get("title")
    yield f"{name}: OpenAPI document with {len(document['paths']) if good else 0} paths", judge(good), f"HTTP {r.status}: {r.text[:60]!r}", "./crm logs gateway"
    if not good:
        return
    path, schema = example_route(document)
    if not path:
        return
    refused = site.ask(prefix_of(row) + path, Origin=ORIGIN, X_Request_Id=seen["request_id"])
    seen.setdefault("refused", refused)
    yield f"{name}: GET {path} wants a token", judge(refused.status == 401), f"HTTP {refused.status}", "nothing may be read without one; is it another program's path?"
    why = fits(document, schema, refused.json())
    yield f"{name}: an error looks as documented", judge(refused.status == 401 and not why), why or f"HTTP {refused.status}", "a proxy answers in the gateway's place?"
    if site.token:
        seen.setdefault("read", site.ask(prefix_of(row) + path, signed=True))
        yield from read_all(site, row, document)


def check_dialects(site, seen):
    rows = seen.get("start", {}).get("dialects", [])
    missing = [d for d in DIALECTS if d not in {r.get("name") for r in rows}]
    if not rows:
        return
    yield f"{len(rows)} dialects are served", judge(not missing, WARN), f"not {', '.join(missing)}", "DIALECT_DIR of the gateway; LISTEN"
    for row in rows:
        try:
            yield from check_dialect(site, row, seen)
        except Silent as e:
            yield f"{row.get('name')}: answers", BAD, str(e), "./crm logs gateway"
    r = site.ask("/api/" + uuid.uuid4().hex)
    yield "what does not exist is 404, in JSON", judge(r.status == 404 and r.json() is not None), f"HTTP {r.status}: {r.text[:60]!r}", "a proxy answers in the gateway's place?"


# -- headers and pages


def check_headers(site, seen):
    r = seen.get("refused")
    if r is None:
        return
    yield "X-Request-Id comes back", judge(r.header("X-Request-Id") == seen["request_id"], WARN), r.header("X-Request-Id") or "none", "a proxy makes its own: then logs and answers have different ids"
    yield "answers are not kept by caches", judge("no-store" in r.header("Cache-Control")), r.header("Cache-Control") or "no Cache-Control", "a proxy changes it"
    yield "X-Content-Type-Options: nosniff", judge(r.header("X-Content-Type-Options") == "nosniff", WARN), "it is not there", "a proxy removes it"
    yield "WWW-Authenticate on 401", judge(bool(r.header("WWW-Authenticate")), WARN), "it is not there", "a proxy removes it"
    limited = r if r.header("RateLimit-Policy") else seen.get("read", r)
    yield f"rate limit: {limited.header('RateLimit-Policy') or 'none'}", judge(limited.header("RateLimit-Policy") and limited.header("X-RateLimit-Limit"), WARN), \
        "no limit is told", "RATE_LIMIT_SCALE is 0, or a proxy removes the headers"
    if site.scheme == "https":
        yield "Strict-Transport-Security", judge(bool(r.header("Strict-Transport-Security")), WARN), "it is not there", "set it where TLS ends"
    server = r.header("Server")
    yield "tells no version of a server", judge(not re.search(r"\d", server), WARN), f"Server: {server}", "server_tokens off, or the like"
    p = site.ask("/api/leads", "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="GET", Access_Control_Request_Headers="authorization")
    allowed = p.header("Access-Control-Allow-Origin")
    yield f"a preflight is answered ({'any origin' if allowed == '*' else 'this origin' if allowed else 'only origins of a list'})", judge(p.status in (200, 204)), f"HTTP {p.status}", "a proxy must let OPTIONS through"
    consistent = not allowed or (allowed in ("*", ORIGIN) and p.header("Access-Control-Allow-Methods") and not (allowed == "*" and p.header("Access-Control-Allow-Credentials") == "true"))
    yield "CORS headers fit together", judge(consistent), f"Allow-Origin {allowed}, Allow-Methods {p.header('Access-Control-Allow-Methods') or 'none'}", "a proxy adds its own: one of the two is enough"


def check_pages(site, seen):
    if "start" not in seen:
        return
    r = site.ask("/docs", Accept="text/html")
    yield "/docs is a page", judge(r.status == 200 and "text/html" in r.header("Content-Type"), WARN), f"HTTP {r.status}", "does the ingress pass /docs on?"
    yield "/docs has the explorer", judge("swagger-ui" in r.text, WARN), "links only", "DOCS_DIR of the gateway"
    yield "/docs says what a page may load", judge(bool(r.header("Content-Security-Policy")), WARN), "no Content-Security-Policy", "a proxy removes it"
    r = site.ask("/asyncapi.json")
    yield "/asyncapi.json", judge(r.status == 200 and str((r.json() or {}).get("asyncapi", "")).startswith("3."), WARN), f"HTTP {r.status}", "no dialect has the feed"


# -- admin ports


SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$')


def samples(text):
    """[(name, labels as written, value)]"""
    return [(m[1], m[2] or "", float(m[3])) for m in map(SAMPLE.match, text.splitlines()) if m]


def each(rows, name, bad, what, why, fix, grade=WARN):
    """One line for all series of a metric: OK, or which are bad. Nothing when the program has none."""
    mine = [(labels, v) for n, labels, v in rows if n == name]
    wrong = [f"{labels or name} {v:g}" for labels, v in mine if bad(v)]
    if mine:
        yield what, judge(not wrong, grade), f"{why}: {'; '.join(wrong[:4])}", fix


def check_numbers(rows):
    yield from each(rows, "crm_rpc_client_instances", lambda v: v == 0, "every service has an instance in use", "none", "docs/runbooks/CrmServiceWithoutInstance.md", BAD)
    yield from each(rows, "crm_rpc_client_instance_up", lambda v: v != 1, "every instance of every service is in use", "out of use", "docs/runbooks/CrmInstanceEjected.md")
    yield from each(rows, "crm_relay_lag_seconds", lambda v: v > 10, "the outbox is published", "seconds that its oldest row waits", "docs/runbooks/CrmOutboxLag.md")
    yield from each(rows, "crm_consumer_healthy", lambda v: v != 1, "consumers get on", "does not", "docs/runbooks/CrmConsumerStuck.md")
    yield from each(rows, "crm_consumer_lag_seconds", lambda v: v > 30, "consumers are not behind", "seconds behind", "docs/runbooks/CrmConsumerLag.md")
    yield from each(rows, "crm_consumer_dead_letters_total", lambda v: v > 0, "no dead letters since it started", "given up", "docs/runbooks/CrmDeadLetters.md")
    yield from each(rows, "crm_audit_unsigned_seconds", lambda v: v > 300, "the audit log has its checkpoints", "seconds without one", "docs/runbooks/CrmAuditUnsigned.md")
    yield from each(rows, "crm_counters_shared", lambda v: v != 1, "limits are counted in Redis", "counted alone", "docs/runbooks/CrmCountersNotShared.md")
    yield from each(rows, "crm_mail_oldest_seconds", lambda v: v > 900, "mail is sent", "seconds that the oldest waits", "docs/runbooks/CrmMailStuck.md")
    yield from each(rows, "crm_contract_refused_total", lambda v: v > 0, "contracts of services were taken", "refused", "docs/runbooks/CrmContractRefused.md")
    value = {n: v for n, labels, v in rows if not labels}
    if "crm_db_connections_wanted" in value:
        yield f"{value['crm_db_connections']:.0f} of {value['crm_db_connections_wanted']:.0f} connections to PostgreSQL", judge(value["crm_db_connections"] == value["crm_db_connections_wanted"], WARN), "some are lost", "docs/runbooks/CrmDatabaseConnectionsLost.md"
    if "crm_schema_version_known" in value:
        yield f"schema is at {value['crm_schema_version']:.0f}", judge(value["crm_schema_version"] >= value["crm_schema_version_known"]), f"this program knows {value['crm_schema_version_known']:.0f}", "run the service's `migrate`"
    if "process_max_fds" in value:
        yield "file descriptors are left", judge(value["process_open_fds"] < 0.8 * value["process_max_fds"], WARN), f"{value['process_open_fds']:.0f} of {value['process_max_fds']:.0f} are in use", "docs/runbooks/CrmFileDescriptors.md"
    free = {labels: v for n, labels, v in rows if n == "crm_disk_free_bytes"}
    full = [f"{labels} {100 * free[labels] / v:.0f} %" for n, labels, v in rows if n == "crm_disk_size_bytes" and labels in free and free[labels] < 0.1 * v]
    if free:
        yield "there is room on its disks", judge(not full, WARN), f"free: {'; '.join(full)}", "docs/runbooks/CrmDiskFilling.md"


def check_program(admin, seen):
    about = admin.ask("/version")
    name = (about.json() or {}).get("name") if about.status == 200 else None
    if not name:
        yield f"{admin.url} is an admin port", BAD, f"HTTP {about.status}: {about.text[:60]!r}", "9100 of the gateway, 9101-9104 of the services"
        return
    seen.setdefault("programs", {})[name] = version = (about.json() or {}).get("version")
    yield f"{name} at {admin.url}, version {version}", OK, "", ""
    ready = admin.ask("/readyz")
    checks = (ready.json() or {}).get("checks", {})
    yield f"{name} is ready", judge(ready.status == 200), checks.get("reason") or ready.text.strip()[:200] or f"HTTP {ready.status}", "docs/runbooks/CrmNotReady.md"
    for service, c in (checks.get("contracts") or {}).items():
        if isinstance(c, dict):
            yield f"{name}: contract of {service} {c.get('version')}, from the {'service' if c.get('source') == 'service' else 'gateway itself'}", OK, "", ""
    metrics = admin.ask("/metrics")
    yield from ((f"{name}: {what}", result, why, fix) for what, result, why, fix in check_numbers(samples(metrics.text)))


def check_programs(admins, seen):
    for admin in admins:
        try:
            yield from check_program(admin, seen)
        except Silent as e:
            yield f"{admin.url} answers", BAD, str(e), "kubectl port-forward deploy/<program> <port>; the admin port is never public"
    versions = {*seen.get("programs", {}).values(), *([seen["start"]["version"]] if "start" in seen else [])}
    if seen.get("programs"):
        yield f"all are of one version ({', '.join(sorted(map(str, versions)))})", judge(len(versions) == 1, WARN), "they differ", "right in the middle of an upgrade; otherwise finish it"


def token_of(given):
    """--token TEXT, --token - asks for it, else CRM_TOKEN. There is no login here: it would be a POST and leave a session."""
    return getpass.getpass("Access token: ") if given == "-" else given or os.environ.get("CRM_TOKEN") or None


def examine(url, admins, token):
    """[{section, check, result, why, fix}], as of doctor.examine."""
    site, ports = Site(url, token_of(token)), [Site(a) for a in admins]
    seen = {"request_id": f"doctor-{uuid.uuid4().hex}"}
    sections = [("Address", lambda: check_address(site, seen)), ("Dialects", lambda: check_dialects(site, seen)), ("Headers", lambda: check_headers(site, seen)),
                ("Pages", lambda: check_pages(site, seen)), ("Programs", lambda: check_programs(ports, seen))]
    rows = []
    for section, checks in sections:
        try:
            for check, result, why, fix in checks():
                rows.append({"section": section, "check": check, "result": result, **({"why": why, "fix": fix} if result != OK else {})})
        except Silent as e:
            rows.append({"section": section, "check": "answers", "result": BAD, "why": str(e), "fix": "it did a moment ago: look at what is between here and there"})
    return rows
