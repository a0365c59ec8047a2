"""./crm events tail and ./crm dlq: the event log of the PostgreSQL bus, seen and mended by an operator."""

import json
import re
import time

from . import database
from .config import ConfigError

# one line of JSON per record; the payload stays binary: what people look for travels in the headers
COLUMNS = """json_build_object('xid', r.xid::text, 'position', r.position, 'topic', r.topic, 'id', r.event_id, 'key', r.key, 'at', r.at,
 'bytes', octet_length(r.value), 'headers', r.headers)"""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WAIT_S = 0.25


def need(cfg, bus):
    if bus == "kafka":
        raise ConfigError("this reads the PostgreSQL bus; with Kafka use kcat -b 127.0.0.1:%d -t crm.customers.v1 (dead letters: <topic>.dlq)" % cfg.ports["KAFKA"])
    if not database.is_ready(cfg):
        raise ConfigError("PostgreSQL is not running: ./crm start")


def query(cfg, sql, **variables):
    """Rows of the statement, each one JSON value. Variables are quoted by psql (:'name')."""
    args = [a for name, value in variables.items() for a in ("-v", f"{name}={value}")]
    r = database.psql_script(cfg, sql, *args)
    if r.returncode:
        raise ConfigError("PostgreSQL refused: " + r.stdout.strip().splitlines()[-1])
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def uuid_of(text):
    if not UUID.fullmatch(text.lower()):
        raise ConfigError(f"{text} is no id")
    return text.lower()


# -- events


def line(record, screen):
    h = record["headers"]
    return f"{h.get('ce_time', record['at']):<28}{screen.paint('36', h.get('ce_type', '?')):<40} {h.get('ce_subject', '-'):<37} tenant {h.get('tenant', '-')} actor {h.get('actor', '-')}"


def tail(cfg, args, screen, bus):
    """New records as they come, or with --from those of the last 7 days too; ends with Ctrl-C or after -n records."""
    need(cfg, bus)
    where = "true"
    if args.tenant:
        where += " AND r.headers->>'tenant' = :'tenant'"
    if args.type:
        where += " AND r.headers->>'ce_type' LIKE replace(replace(replace(:'type', '\\', '\\\\'), '_', '\\_'), '*', '%')"
    variables = {"tenant": uuid_of(args.tenant) if args.tenant else "", "type": args.type or ""}
    if args.since:
        place = query(cfg, "SELECT json_build_object('xid', coalesce(min(xid)::text, pg_snapshot_xmin(pg_current_snapshot())::text)) FROM bus.record WHERE at >= :'since'::timestamptz", since=args.since)
        at = (str(int(place[0]["xid"]) - 1), 2**62)
    else:
        place = query(cfg, "SELECT json_build_object('xid', pg_snapshot_xmin(pg_current_snapshot())::text)")
        at = (str(int(place[0]["xid"]) - 1), 2**62)
    shown = 0
    while not args.lines or shown < args.lines:
        # below the oldest running transaction, so that one that commits late is not passed over
        rows = query(cfg, f"SELECT {COLUMNS} FROM bus.record r WHERE (r.xid, r.position) > (:'xid'::xid8, :'position'::bigint)"
                     f" AND r.xid < pg_snapshot_xmin(pg_current_snapshot()) AND {where} ORDER BY r.xid, r.position LIMIT 500", xid=at[0], position=at[1], **variables)
        for row in rows[:args.lines - shown if args.lines else None]:
            print(json.dumps(row) if screen.as_json else line(row, screen), flush=True)
            shown += 1
        if rows:
            at = (rows[-1]["xid"], rows[-1]["position"])
        elif not args.lines or shown < args.lines:
            time.sleep(WAIT_S)
    return 0


# -- dead letters


def letters(cfg, event_id=None):
    where = "AND r.event_id = :'id'::uuid" if event_id else ""
    return query(cfg, f"SELECT {COLUMNS} FROM bus.record r WHERE r.topic LIKE '%.dlq' {where} ORDER BY r.xid, r.position LIMIT 1000", id=event_id or "")


def one(cfg, event_id):
    rows = letters(cfg, uuid_of(event_id))
    if not rows:
        raise ConfigError(f"there is no dead letter {event_id}: ./crm dlq list")
    return rows


def dlq(cfg, args, screen, bus):
    need(cfg, bus)
    if args.action == "list":
        rows = letters(cfg)
        screen.result(rows)
        for r in rows:
            h = r["headers"]
            screen.say(f"{r['id']}  {h.get('dlq_topic', '?'):<20} for {h.get('dlq_consumer', '?'):<10} {h.get('ce_type', '?'):<32} {h.get('dlq_reason', '')}")
        if not rows:
            screen.say("There are no dead letters.")
        return 0
    if not args.id:
        raise ConfigError(f"./crm dlq {args.action} needs the id of a dead letter: ./crm dlq list")
    if args.action == "show":
        rows = one(cfg, args.id)
        screen.result(rows)
        for r in rows:
            screen.say(json.dumps(r, indent=1))
        return 0
    return redrive(cfg, args, screen)


# the inbox row goes, the record comes again at the end of its topic, and the dead letter goes: all or nothing
REDRIVE = """BEGIN;
DELETE FROM :"schema".inbox WHERE consumer = :'consumer' AND event_id = :'id'::uuid;
INSERT INTO bus.record (topic, key, event_id, headers, value) SELECT :'topic', r.key, r.event_id,
 r.headers - 'dlq_reason' - 'dlq_consumer' - 'dlq_topic' - 'dlq_position_major' - 'dlq_position_minor' - 'dlq_tries', r.value
 FROM bus.record r WHERE r.topic = :'dead' AND r.xid = :'xid'::xid8 AND r.position = :'position'::bigint;
DELETE FROM bus.record WHERE topic = :'dead' AND xid = :'xid'::xid8 AND position = :'position'::bigint;
NOTIFY bus_record;
COMMIT;
"""


def redrive(cfg, args, screen):
    rows = letters(cfg) if args.id == "all" else one(cfg, args.id)
    for r in rows:
        h = r["headers"]
        consumer = h.get("dlq_consumer", "")
        if not re.fullmatch("[a-z_]+", consumer) or not h.get("dlq_topic"):
            raise ConfigError(f"dead letter {r['id']} does not say whose it is")
        # a consumer's inbox is in the schema of its service, which has its name
        query(cfg, REDRIVE, schema=consumer, consumer=consumer, id=r["id"], topic=h["dlq_topic"], dead=r["topic"], xid=r["xid"], position=r["position"])
        screen.good(f"{r['id']} is in {h['dlq_topic']} again")
    screen.result({"redriven": [r["id"] for r in rows]})
    return 0
