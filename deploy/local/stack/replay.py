"""./crm replay: events of the last 7 days again, from the outboxes of the services to the bus and so to its consumers.

A relay's position goes back and the relay goes on from there, so what comes again comes in its order, and new events behind it. Every
consumer knows by its inbox what it has done already: only what it lacks has an effect.
"""

import os
import re
import signal
import time

from . import bus, database, proc
from .config import SERVICES, ConfigError

CONSUMERS = {"audit": "audit", "feed": "audit"}  # name: schema of its inbox
WAIT_S = 600

# the last row in front of what is to come again, and how many rows come
PLACE = """WITH first AS (SELECT xid, id FROM :"schema".outbox WHERE {where} ORDER BY xid, id LIMIT 1),
 old AS (SELECT xid, id, stream_seq FROM :"schema".outbox_position)
SELECT json_build_object('xid', f.xid::text, 'id', f.id - 1, 'old_xid', old.xid::text, 'old_id', old.id,
 'events', (SELECT count(*) FROM :"schema".outbox o WHERE (o.xid, o.id) >= (f.xid, f.id) AND (o.xid, o.id) <= (old.xid, old.id)))
 FROM first f, old WHERE (f.xid, f.id) <= (old.xid, old.id)"""

# numbers of the stream (stream_seq) stay what they were
BACK = """WITH moved AS (UPDATE :"schema".outbox_position p SET xid = :'xid'::xid8, id = :'id'::bigint, updated_at = now(), stream_seq = p.stream_seq -
 (SELECT count(*) FROM :"schema".outbox o WHERE (o.xid, o.id) > (:'xid'::xid8, :'id'::bigint) AND (o.xid, o.id) <= (p.xid, p.id)) RETURNING 1)
SELECT json_build_object('moved', (SELECT count(*) FROM moved));
SELECT json_build_object('ended', count(pg_terminate_backend(pid))) FROM pg_stat_activity WHERE application_name = 'crm-relay' AND usename = :'schema' || '_relay'"""

REACHED = """SELECT json_build_object('there', (xid, id) >= (:'xid'::xid8, :'id'::bigint)) FROM :"schema".outbox_position"""

LACKS = """SELECT json_build_object('lacks', count(*)) FROM :"schema".outbox o WHERE (o.xid, o.id) > (:'xid'::xid8, :'id'::bigint)
 AND NOT EXISTS (SELECT FROM :"of".inbox i WHERE i.consumer = :'consumer' AND i.event_id = o.event_id)"""


def places(cfg, since):
    """{schema: where its relay goes back to}; since: a time, or service:xid/id of an outbox row."""
    position = re.fullmatch(r"([a-z_]+):(\d+)/(\d+)", since)
    if position and position[1] not in SERVICES:
        raise ConfigError(f"there is no service {position[1]}; there are: {', '.join(SERVICES)}")
    found = {}
    for schema in [position[1]] if position else SERVICES:
        if position:
            rows = bus.query(cfg, PLACE.format(where="(xid, id) >= (:'at_xid'::xid8, :'at_id'::bigint)"), schema=schema, at_xid=position[2], at_id=position[3])
        else:
            rows = bus.query(cfg, PLACE.format(where="created_at >= to_timestamp(:'us'::bigint / 1000000.0)"), schema=schema, us=bus.microseconds(since))
        if rows:
            found[schema] = rows[0]
    return found


def lacks(cfg, found, consumer):
    return sum(bus.query(cfg, LACKS, schema=s, xid=p["xid"], id=p["id"], of=CONSUMERS[consumer], consumer=consumer)[0]["lacks"] for s, p in found.items())


def wait(what, check, screen):
    end = time.monotonic() + WAIT_S
    while not check():
        if time.monotonic() > end:
            raise ConfigError(f"{what}: not done after {WAIT_S} s; ./crm doctor and ./crm logs say why. It goes on by itself")
        time.sleep(0.2)


def forget_broker(cfg, screen):
    """A consumer that was running while its broker was replaced remembers places of the old one."""
    pid = proc.read_pid(cfg.pids / "svc-audit")
    if pid:
        os.kill(pid, signal.SIGKILL)
        screen.good("svc-audit starts again, so that its consumers begin where the broker says")


def run(cfg, args, screen, bus_name):
    if not database.is_ready(cfg):
        raise ConfigError("PostgreSQL is not running: ./crm start")
    if args.to != "bus" and args.to not in CONSUMERS:
        raise ConfigError(f"--to is bus or a consumer: {', '.join(CONSUMERS)}")
    found = places(cfg, args.since)
    total = sum(p["events"] for p in found.values())
    if not total:
        screen.say("There is nothing since then: outboxes keep 7 days.")
        screen.result({"events": 0})
        return 0
    consumers = list(CONSUMERS) if args.to == "bus" else [args.to]
    before = {c: lacks(cfg, found, c) for c in consumers}
    if bus_name == "kafka" and args.to == "bus":
        forget_broker(cfg, screen)
    for schema, p in found.items():
        bus.query(cfg, BACK, schema=schema, xid=p["xid"], id=p["id"])
        screen.good(f"svc-{schema}: {p['events']} events come again")
    for schema, p in found.items():
        wait(f"svc-{schema}", lambda s=schema, p=p: bus.query(cfg, REACHED, schema=s, xid=p["old_xid"], id=p["old_id"])[0]["there"], screen)
    screen.good(f"{total} events are on the bus")
    for c in consumers:
        wait(c, lambda c=c: lacks(cfg, found, c) == 0, screen)
        screen.good(f"{c}: lacked {before[c]} of them, lacks none now")
    screen.result({"events": total, "lacked": before})
    return 0
