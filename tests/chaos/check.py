"""What must be true afterwards: every acknowledged write once in its table, in the audit log and in the counting consumer."""

import collections
import json
import re

MARK = re.compile(r"[CU]q[0-9a-f]+w\d+n\d+q")
# entity: table, columns that hold the mark of a create, and of an update
TABLES = {
    "lead": ("customers.lead", ["display"], ["notes", "company"]), "contact": ("customers.contact", ["display"], ["notes", "title"]),
    "account": ("customers.account", ["name", "contact_name"], ["notes"]), "territory": ("customers.territory", ["name"], ["description"]),
    "tag": ("customers.tag", ["name"], []), "api_key": ("auth.api_key", ["name"], []), "deal": ("sales.deal", ["title"], ["description"]),
}


def schemas(psql):
    """Of the services: those that have an outbox."""
    return [r[0] for r in psql("SELECT nspname FROM pg_namespace WHERE to_regclass(quote_ident(nspname) || '.outbox_position') IS NOT NULL ORDER BY 1")]


class Facts:
    """Everything that was found, read once. counting: there is a counting consumer."""

    def __init__(self, psql, counting=True):
        self.psql = psql
        self.rows = collections.defaultdict(list)  # mark of creation → (id, version, deleted, mark of the last update)
        for entity, (table, made, changed) in TABLES.items():
            self.read_table(entity, table, made, changed)
        self.events, self.deletes = collections.defaultdict(list), collections.defaultdict(list)
        self.audit = collections.Counter(r[0] for r in psql("SELECT id FROM audit.entry"))
        self.outbox = []
        # the log has personal fields sealed, so what an event was about is read in the outbox; how often it is in the log, in the log
        for s in schemas(psql):
            for ident, kind, of, before, after in psql(
                    f"SELECT event_id, type, coalesce(entity_id::text, ''), coalesce(before::text, ''), coalesce(after::text, '') FROM {s}.outbox"):
                self.outbox.append(ident)
                for mark in set(MARK.findall(after)) - set(MARK.findall(before)):
                    self.events[mark] += [ident] * self.audit[ident]
                if kind.endswith(".deleted"):
                    self.deletes[of] += [ident] * self.audit[ident]
        self.counted = collections.Counter(r[0] for r in psql("SELECT event_id FROM counting.effect")) if counting else None

    def read_table(self, entity, table, made, changed):
        columns = " || ' ' || ".join(f"coalesce({c}, '')" for c in made)
        last = " || ' ' || ".join(f"coalesce({c}, '')" for c in changed) or "''"
        has_deleted = self.psql(f"SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'deleted_at'")[0][0] == "1"
        for ident, version, deleted, of, mark in self.psql(
                f"SELECT id, version, {'deleted_at IS NOT NULL' if has_deleted else 'false'}, {columns}, {last} FROM {table}"):
            found, latest = MARK.search(of), MARK.search(mark)
            if found:
                self.rows[found.group()].append((ident, int(version), deleted == "t", latest.group() if latest else None))


def in_table(facts, op, applied):
    """How often the write is in its table, as far as a table can say."""
    rows = facts.rows.get(op["of"], [])
    if op["op"] == "create":
        return len(rows)
    if len(rows) != 1:
        return 0
    _, version, deleted, _ = rows[0]
    if op["op"] == "delete":
        return int(deleted)
    # an update may have been followed by others: the version counts them all
    return int(version == 1 + applied[op["of"]] and bool(facts.events.get(op["key"])))


def in_audit(facts, op):
    if op["op"] != "delete":
        return facts.events.get(op["key"], [])
    rows = facts.rows.get(op["of"], [])
    return facts.deletes.get(rows[0][0], []) if len(rows) == 1 else []


def judge(ops, facts):
    """(lost, doubled, odd): lists of sentences."""
    lost, doubled, odd = [], [], []
    applied, latest = collections.Counter(), {}
    for op in ops:
        if op["op"] != "create":
            applied[op["of"]] += bool(in_audit(facts, op))
        if op["op"] == "update" and op["outcome"] == "ok":
            latest[op["of"]] = op["key"]
    order = {op["key"]: i for i, op in enumerate(ops)}
    for op in ops:
        events = in_audit(facts, op)
        seen = {"its table": in_table(facts, op, applied), "the audit log": len(events)}
        if facts.counted is not None:
            seen["the counting consumer"] = sum(facts.counted.get(e, 0) for e in events)
        for where, n in seen.items():
            if n > 1:
                doubled.append(f"{op['op']} {op['key']} ({op['outcome']}) is {n} times in {where}")
            if n == 0 and op["outcome"] == "ok":
                lost.append(f"{op['op']} {op['key']} of {op['of']} was acknowledged and is not in {where}")
            if n and op["outcome"] == "refused":
                odd.append(f"{op['op']} {op['key']} was refused ({op['status']}) and is in {where}")
        if len(set(n > 0 for n in seen.values())) > 1 and op["outcome"] == "unknown":
            odd.append(f"{op['op']} {op['key']} of {op['of']} is here and not there: {seen}")
    for of, key in latest.items():
        row = facts.rows.get(of, [(None, 0, False, None)])[0]
        # what stands there is the last acknowledged change, or one that came later or whose outcome nobody knew
        if row[3] != key and (row[3] is None or (order.get(row[3], -1) < order[key] and ops[order[row[3]]]["outcome"] == "ok")):
            lost.append(f"the row of {of} says {row[3]}, the last acknowledged change is {key}")
    return lost, doubled, odd


def every_event(facts):
    """Every committed event, those of logins included: once in the audit log, once in the counting consumer."""
    lost, doubled = [], []
    known = set(facts.outbox)
    for where, counted in (("the audit log", facts.audit), ("the counting consumer", facts.counted)):
        if counted is None:
            continue
        lost += [f"event {e} is not in {where}" for e in known - set(counted)]
        doubled += [f"event {e} is {n} times in {where}" for e, n in counted.items() if n > 1]
        lost += [f"{where} has event {e}, which no outbox knows" for e in set(counted) - known]
    return lost, doubled


def order(psql):
    """Per service no hole in the stream's numbers; per entity its versions in order as they arrived (R4)."""
    odd = []
    for source, n, least, most in psql("SELECT source, count(DISTINCT stream_seq), min(stream_seq), max(stream_seq) FROM counting.effect GROUP BY source"):
        if (int(least), int(most)) != (1, int(n)):
            odd.append(f"{source}: {n} numbers from {least} to {most}: there is a hole or a number was given twice")
    bad = psql("SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY source, entity_id ORDER BY place) AS before FROM counting.effect"
               " WHERE entity_id IS NOT NULL AND version > 0) v WHERE version < before")[0][0]
    if bad != "0":
        odd.append(f"{bad} events came after a later one of the same entity")
    return odd


def read_journal(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]
