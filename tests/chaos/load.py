"""Mixed writes over all dialects, each with a mark of its own; every outcome is on the disk before it counts."""

import http.client
import json
import os
import queue
import random
import threading
import time

PASSWORD = "Chaos-pass-7"
REFUSED = (400, 401, 403, 404, 409, 413, 415, 422, 428, 429)
RESEND_S = 40


class Journal:
    """One line per outcome, synced in groups: note() returns when the line is durable."""

    def __init__(self, path):
        self.file = open(path, "wb", buffering=0)
        self.lines = queue.SimpleQueue()
        self.count = 0
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def note(self, **what):
        done = threading.Event()
        self.lines.put(((json.dumps(what) + "\n").encode(), done))
        done.wait()

    def _write(self):
        while True:
            group = [self.lines.get()]
            while not self.lines.empty() and len(group) < 200:
                group.append(self.lines.get())
            self.file.write(b"".join(line for line, _ in group))
            os.fsync(self.file.fileno())
            self.count += len(group)
            for _, done in group:
                done.set()


# dialect, port, entity, path, body of a create (M: mark), body of an update (M) or None; all ids come back as "id"
KINDS = [
    ("backend", "API", "account", "/api/v1/customers", {"companyName": "M", "contactName": "Kay Oss", "email": "kay@example.com"}, ("PUT", {"notes": "M"})),
    ("backend", "API", "tag", "/api/v1/customers/tags", {"name": "M"}, None),
    ("saas", "API", "lead", "/api/leads", {"firstName": "M", "lastName": "Chaos"}, ("PUT", {"notes": "M"})),
    ("saas", "API", "contact", "/api/contacts", {"firstName": "M", "lastName": "Chaos"}, ("PUT", {"notes": "M"})),
    ("saas", "API", "account", "/api/companies", {"name": "M"}, ("PUT", {"notes": "M"})),
    ("saas", "API", "deal", "/api/deals", {"title": "M", "value": 1000}, ("PUT", {"description": "M"})),
    ("system", "API", "lead", "/api/crm/leads/", {"first_name": "M", "last_name": "Chaos"}, ("PATCH", {"company_name": "M"})),
    ("system", "API", "contact", "/api/crm/contacts/", {"first_name": "M", "last_name": "Chaos"}, ("PATCH", {"title": "M"})),
    ("system", "API", "territory", "/api/territories/territories/", {"name": "M"}, ("PATCH", {"description": "M"})),
    ("mvp", "API2", "lead", "/api/leads", {"name": "M"}, ("PUT", {"notes": "M"})),
    ("mvp", "API2", "contact", "/api/contacts", {"name": "M"}, ("PUT", {"notes": "M"})),
    ("elevate", "API2", "account", "/api/v1/customers", {"name": "M", "company": "Chaos", "email": "kay@example.com"}, ("PUT", {"notes": "M"})),
]
NATIVE = ("native", "API", "api_key", "/v1/api-keys", {"name": "M", "scope": ["leads.read"]}, None)


def filled(body, mark):
    return {k: mark if v == "M" else v for k, v in body.items()}


class Client:
    """Connections to both listeners, kept alive; a status, or None when nobody knows. observe(method, path, status, began, error) hears of each try."""

    def __init__(self, ports, token, host="127.0.0.1", observe=None):
        self.ports, self.token, self.host, self.observe, self.conns = ports, token, host, observe, {}

    def __call__(self, port, method, path, body=None, key=None, timeout=12):
        began = time.time()
        status, reply, error = self.send(port, method, path, body, key, timeout)
        if self.observe:
            self.observe(method, path, status, began, error)
        return status, reply

    def forget(self):
        """The next requests open new connections."""
        for conn in self.conns.values():
            conn.close()
        self.conns.clear()

    def send(self, port, method, path, body, key, timeout):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        conn = self.conns.get(port)
        try:
            if conn is None:
                conn = self.conns[port] = http.client.HTTPConnection(self.host, self.ports[port], timeout=timeout)
            conn.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = conn.getresponse()
            return reply.status, reply.read(), None
        except (OSError, http.client.HTTPException) as e:
            if conn:
                conn.close()
            self.conns.pop(port, None)
            return None, b"", repr(e)


def register(client, number):
    body = {"email": f"chaos{number}-{time.time_ns()}@example.com", "password": PASSWORD, "tenantName": f"Chaos {number}", "firstName": "Kay", "lastName": "Oss"}
    status, reply = client("API", "POST", "/api/auth/register", body)
    if status != 201:
        raise SystemExit(f"chaos: a tenant cannot be made: {status} {reply[:200]}")
    return json.loads(reply)["token"]


class Worker(threading.Thread):
    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.number = load, number
        self.random = random.Random(f"{load.seed}/{number}")
        self.client = load.client(load.tokens[number % len(load.tokens)])
        self.mine = []  # (kind, id, mark of its creation)
        self.n = 0

    def mark(self, letter):
        self.n += 1
        return f"{letter}q{self.load.run}w{self.number}n{self.n}q"

    def send(self, port, method, path, body, key):
        """(ok | refused | unknown, reply). With a key it is sent again until the outcome is known."""
        end, again = time.monotonic() + RESEND_S, False
        while True:
            status, reply = self.client(port, method, path, body, key)
            if status and 200 <= status < 300:
                return "ok", status, reply
            # 409: the first sending still runs
            if status in REFUSED and not (key and again and status == 409):
                return "refused", status, reply
            if not key or time.monotonic() > end:
                return "unknown", status, reply
            again = True
            time.sleep(0.1)

    def do(self, op, port, method, path, body, mark, of, entity):
        key = mark if self.random.random() < 0.5 else None
        outcome, status, reply = self.send(port, method, path, body, key)
        self.load.journal.note(op=op, key=mark, of=of, entity=entity, outcome=outcome, status=status, keyed=bool(key), **({"why": reply[:300].decode(errors="replace")} if outcome == "refused" else {}))
        return reply if outcome == "ok" else None

    def create(self):
        kind = NATIVE if self.random.random() < 0.005 else self.random.choice(KINDS)
        mark = self.mark("C")
        reply = self.do("create", kind[1], "POST", kind[3], filled(kind[4], mark), mark, mark, kind[2])
        if reply and kind[5]:
            body = json.loads(reply)
            self.mine.append((kind, (body.get("data") or body)["id"], mark))

    def path_of(self, kind, ident):
        return f"{kind[3]}{ident}/" if kind[3].endswith("/") else f"{kind[3]}/{ident}"

    def update(self):
        kind, ident, of = self.random.choice(self.mine)
        mark = self.mark("U")
        self.do("update", kind[1], kind[5][0], self.path_of(kind, ident), filled(kind[5][1], mark), mark, of, kind[2])

    def delete(self):
        kind, ident, of = self.mine.pop(self.random.randrange(len(self.mine)))
        self.do("delete", kind[1], "DELETE", self.path_of(kind, ident), None, self.mark("D"), of, kind[2])

    def run(self):
        while not self.load.stop.is_set():
            x = self.random.random()
            if len(self.mine) > 5 and x < 0.1:
                self.delete()
            elif self.mine and x < 0.5:
                self.update()
            else:
                self.create()
            self.load.stop.wait(self.load.pause)


class Load:
    worker = Worker

    def __init__(self, ports, journal, seed, threads, pause, tenants=6, host="127.0.0.1", observe=None):
        self.ports, self.journal, self.seed, self.pause, self.host, self.observe = ports, journal, seed, pause, host, observe
        self.run = f"{time.time_ns() // 1000000:x}"
        self.stop = threading.Event()
        self.tokens = [register(self.client(""), i) for i in range(tenants)]
        self.workers = [self.worker(self, i) for i in range(threads)]

    def client(self, token):
        return Client(self.ports, token, self.host, self.observe)

    def start(self):
        for w in self.workers:
            w.start()

    def end(self):
        self.stop.set()
        for w in self.workers:
            w.join(RESEND_S + 20)
        return sum(w.is_alive() for w in self.workers)
