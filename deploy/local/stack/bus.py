"""./crm events tail and ./crm dlq: the event log of either bus, seen and mended by an operator."""

import datetime
import fnmatch
import json
import re
import subprocess
import time

from . import database
from .config import ConfigError

# one line of JSON per record; the payload stays binary: what people look for travels in the headers
COLUMNS = """json_build_object('xid', r.xid::text, 'position', r.position, 'topic', r.topic, 'id', r.event_id, 'key', r.key, 'at', r.at,
 'bytes', octet_length(r.value), 'headers', r.headers)"""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WAIT_S = 0.25


def need(cfg):
    if not database.is_ready(cfg):
        raise ConfigError("PostgreSQL is not running: ./crm start")


def kafka(cfg, *args):
    """tools/crm-bus, started: a line of JSON per record on its stdout."""
    tool = cfg.bin / "crm-bus"
    if not tool.exists():
        raise ConfigError(f"{tool} is not built: make build")
    return subprocess.Popen([str(tool), cfg.bus_url("kafka"), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kafka_rows(cfg, *args):
    p = kafka(cfg, *args)
    out, err = p.communicate(timeout=120)
    if p.returncode:
        raise ConfigError("Kafka: " + (err.strip().splitlines() or ["no answer"])[-1])
    return [json.loads(line) for line in out.splitlines()]


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


def microseconds(text):
    """Of an ISO time, or a date; without a zone it is UTC."""
    try:
        at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(f"{text} is no time: 2024-01-15T10:30:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)).timestamp() * 1e6)


def show(row, screen):
    print(json.dumps(row) if screen.as_json else line(row, screen), flush=True)


def tail_kafka(cfg, args, screen):
    tenant = uuid_of(args.tenant) if args.tenant else None
    p = kafka(cfg, "read", *(["--from", microseconds(args.since)] if args.since else ["--new"]), "crm.*")
    shown = 0
    try:
        for text in p.stdout:
            row = json.loads(text)
            h = row["headers"]
            if (tenant and h.get("tenant") != tenant) or (args.type and not fnmatch.fnmatchcase(h.get("ce_type", ""), args.type)):
                continue
            show(row, screen)
            shown += 1
            if args.lines and shown >= args.lines:
                return 0
        raise ConfigError("Kafka: " + (p.stderr.read().strip().splitlines() or ["the connection ended"])[-1])
    finally:
        p.kill()
        p.wait()


def tail(cfg, args, screen, bus):
    """New records as they come, or with --from those of the last 7 days too; ends with Ctrl-C or after -n records."""
    if bus == "kafka":
        return tail_kafka(cfg, args, screen)
    need(cfg)
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
            show(row, screen)
            shown += 1
        if rows:
            at = (rows[-1]["xid"], rows[-1]["position"])
        elif not args.lines or shown < args.lines:
            time.sleep(WAIT_S)
    return 0


# -- dead letters


def letters_kafka(cfg):
    """A log only grows: what was put back is noted behind it, and hidden here."""
    rows = kafka_rows(cfg, "read", "--end", "*.dlq")
    back = {(r["topic"], r["headers"]["dlq_redriven"]) for r in rows if "dlq_redriven" in r["headers"]}
    return [r for r in rows if "dlq_redriven" not in r["headers"] and (r["topic"], f"{r['xid']}/{r['position']}") not in back]


def letters(cfg, bus, event_id=None):
    if bus == "kafka":
        return [r for r in letters_kafka(cfg) if event_id in (None, r["id"])]
    where = "AND r.event_id = :'id'::uuid" if event_id else ""
    return query(cfg, f"SELECT {COLUMNS} FROM bus.record r WHERE r.topic LIKE '%.dlq' {where} ORDER BY r.xid, r.position LIMIT 1000", id=event_id or "")


def one(cfg, bus, event_id):
    rows = letters(cfg, bus, uuid_of(event_id))
    if not rows:
        raise ConfigError(f"there is no dead letter {event_id}: ./crm dlq list")
    return rows


def dlq(cfg, args, screen, bus):
    need(cfg)
    if args.action == "list":
        rows = letters(cfg, bus)
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
        rows = one(cfg, bus, args.id)
        screen.result(rows)
        for r in rows:
            screen.say(json.dumps(r, indent=1))
        return 0
    return redrive(cfg, args, screen, bus)


# consumers keep their inbox in the schema of the service that they are part of
SCHEMA_OF = {"feed": "audit"}

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


FORGET = """DELETE FROM :"schema".inbox WHERE consumer = :'consumer' AND event_id = :'id'::uuid;"""


def redrive(cfg, args, screen, bus):
    rows = letters(cfg, bus) if args.id == "all" else one(cfg, bus, args.id)
    for r in rows:
        h = r["headers"]
        consumer = h.get("dlq_consumer", "")
        if not re.fullmatch("[a-z_]+", consumer) or not h.get("dlq_topic"):
            raise ConfigError(f"dead letter {r['id']} does not say whose it is")
        schema = SCHEMA_OF.get(consumer, consumer)
        if bus == "kafka":
            query(cfg, FORGET, schema=schema, consumer=consumer, id=r["id"])
            kafka_rows(cfg, "redrive", r["topic"], r["xid"], r["position"])
        else:
            query(cfg, REDRIVE, schema=schema, consumer=consumer, id=r["id"], topic=h["dlq_topic"], dead=r["topic"], xid=r["xid"], position=r["position"])
        screen.good(f"{r['id']} is in {h['dlq_topic']} again")
    screen.result({"redriven": [r["id"] for r in rows]})
    return 0
