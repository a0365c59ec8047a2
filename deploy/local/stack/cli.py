"""The commands of ./crm and what they print."""

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time

from . import audit, bus, database, demo, doctor, doctor_remote, keys, logs, proc, redis, replay, supervisor
from .config import Config, ConfigError

READY_S = 60


class Screen:
    def __init__(self, as_json):
        self.as_json = as_json
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def say(self, text=""):
        if not self.as_json:
            print(text, flush=True)

    def good(self, text):
        self.say(self.paint("32", "✓ ") + text)

    def warn(self, text):
        self.say(self.paint("33", "! ") + text)

    def bad(self, text):
        print(self.paint("31", "✗ ") + text, file=sys.stderr, flush=True)

    def result(self, value):
        if self.as_json:
            print(json.dumps(value, indent=1))


def read_state(cfg):
    try:
        return json.loads(cfg.state.read_text())
    except (OSError, ValueError):
        return None


def know_counters(cfg):
    """Of what runs, the supervisor knows how limits are counted."""
    cfg.counters = (read_state(cfg) or {}).get("counters") or cfg.counters


def bus_in_use(cfg):
    return (read_state(cfg) or {}).get("bus") or "postgres"


def tail(path, n=12):
    try:
        with open(path, "rb") as f:
            f.seek(max(0, path.stat().st_size - 65536))
            return f.read().decode(errors="replace").splitlines()[-n:]
    except OSError:
        return []


def readiness(cfg):
    """{program: (ready, why not)}"""
    out = {}
    for name in cfg.programs():
        status, body = proc.http_get(cfg.admin_url(name) + "/readyz")
        out[name] = (status == 200, "" if status == 200 else (body.strip()[:200] or f"HTTP {status}"))
    return out


# -- start


def check_built(cfg):
    missing = [n for n in cfg.programs() if not os.access(cfg.bin / n, os.X_OK)]
    if missing:
        raise ConfigError(f"not built: {', '.join(missing)} (looked in {cfg.bin}). Run `make build` first, or `make run`, which does both.")


def check_ports(cfg, bus):
    held = proc.listeners()
    clashes = [(n, p, w) for n, p, w in cfg.used_ports(bus) if p in held]
    if not clashes:
        return
    lines = []
    for name, port, what in clashes:
        who = proc.holder(held[port])
        by = f"{who[1]} (pid {who[0]})" if who else "a process of another user"
        lines.append(f"port {port} ({what}) is held by {by}")
    first = clashes[0]
    lines.append(f"Stop it, or choose other ports: CRM_PORT_{first[0]}={first[1] + 1} for this one, CRM_PORT_OFFSET=10000 for all, in the environment or in {cfg.run}/env.")
    raise ConfigError("\n  ".join(lines))


def prepare(cfg, bus):
    check_built(cfg)
    supervisor.stop_orphans(cfg)
    check_ports(cfg, bus)
    for folder in (cfg.run, cfg.log, cfg.pids):
        folder.mkdir(parents=True, exist_ok=True)
    cfg.make_secrets()
    if database.initialise(cfg):
        return "a private PostgreSQL cluster was made"
    return ""


def explain(cfg, screen, names):
    for name in names:
        lines = tail(cfg.log / f"{name}.log")
        screen.bad(f"the last lines of {cfg.log / (name + '.log')}:")
        for line in lines or ["(empty)"]:
            print("    " + logs.pretty(line), file=sys.stderr)


def start_failed(cfg, screen, state):
    screen.bad("it does not start: " + (state or {}).get("message", "the supervisor ended"))
    message = (state or {}).get("message", "")
    named = [p.stem for p in cfg.log.glob("*.log") if str(p) in message]
    explain(cfg, screen, named or ["supervisor"])
    print("  what to check next: ./crm doctor", file=sys.stderr)
    return 1


def not_ready(cfg, screen, failing):
    for name, why in failing.items():
        screen.bad(f"{name} is not ready: {why}")
    explain(cfg, screen, failing)
    print("  Everything else is left running: ./crm status, ./crm logs, ./crm stop. Check ./crm doctor.", file=sys.stderr)
    return 1


def wait_started(cfg, screen, process):
    """Shows the supervisor's steps until it runs. The state, or None when it failed."""
    shown = 0
    end = time.monotonic() + 300
    while time.monotonic() < end:
        state = read_state(cfg) or {"phase": "starting", "steps": []}
        for step in state["steps"][shown:]:
            screen.good(step)
        shown = len(state["steps"])
        if state["phase"] == "running":
            return state
        if state["phase"] in ("failed", "stopping", "stopped") or process.poll() is not None:
            break
        time.sleep(0.05)
    return None


def wait_ready(cfg, screen):
    """{} when all are ready; else what is not, and why."""
    done = set()
    end = time.monotonic() + READY_S
    while True:
        now = readiness(cfg)
        for name, (ready, _) in now.items():
            if ready and name not in done:
                done.add(name)
                screen.good(f"{name} is ready")
        failing = {n: why for n, (ready, why) in now.items() if not ready}
        if not failing:
            return {}
        restarts = {p["name"]: p["restarts"] for p in (read_state(cfg) or {"processes": []})["processes"]}
        hopeless = {n: f"it ends again and again ({restarts[n]} restarts)" for n in failing if restarts.get(n, 0) >= 5}
        if hopeless:
            return hopeless
        if time.monotonic() > end:
            return failing
        time.sleep(0.1)


def seed_demo(cfg, screen):
    stamp = cfg.run / "seeded"
    if stamp.exists() or os.environ.get("CRM_NO_SEED"):
        return
    try:
        made = demo.seed(cfg.ports["API"])
    except demo.SeedError as e:
        screen.warn(f"the demo tenant could not be made: {e}. Try again with ./crm seed")
        return
    stamp.write_text("demo\n")
    if made:
        screen.good("the demo tenant has a login, territories, accounts and leads")


def print_block(cfg, screen, bus):
    screen.say()
    for line in demo.block(cfg):
        screen.say(line)
    screen.say()
    screen.say("  To try it, paste:")
    screen.say(demo.curl(cfg))
    screen.say()
    screen.say(f"  Bus: {bus}. It listens on this machine only. ./crm status | logs | doctor | stop")
    screen.result({"running": True, "bus": bus, "ports": cfg.ports, "login": {"email": demo.EMAIL, "password": demo.PASSWORD}, "run_dir": str(cfg.run)})


def start(cfg, args, screen):
    state = read_state(cfg)
    if supervisor.alive(cfg):
        bus = (state or {}).get("bus", "postgres")
        screen.good("it is already running")
        if args.bus and args.bus != bus:
            screen.warn(f"it runs on the {bus} bus; to change: ./crm stop && ./crm start --bus {args.bus}")
        counters = (state or {}).get("counters") or "memory"
        if args.counters and args.counters != counters:
            screen.warn(f"limits are counted in {counters}; to change: ./crm stop && ./crm start --counters {args.counters}")
        failing = {n: why for n, (ready, why) in readiness(cfg).items() if not ready}
        for name, why in failing.items():
            screen.warn(f"{name} is not ready: {why}")
        print_block(cfg, screen, bus)
        return 1 if failing else 0
    bus = args.bus or "postgres"
    if args.counters:
        cfg.counters = os.environ["CRM_COUNTERS"] = args.counters
    began = time.monotonic()
    screen.say("Starting")
    note = prepare(cfg, bus)
    if note:
        screen.good(note)
    process = supervisor.launch(cfg, bus)
    if not wait_started(cfg, screen, process):
        return start_failed(cfg, screen, read_state(cfg))
    failing = wait_ready(cfg, screen)
    if failing:
        return not_ready(cfg, screen, failing)
    seed_demo(cfg, screen)
    screen.good(f"running after {time.monotonic() - began:.1f} s")
    print_block(cfg, screen, bus)
    return 0


# -- the other commands


def stop(cfg, args, screen):
    pid = supervisor.alive(cfg)
    if not pid and not supervisor.orphans(cfg):
        screen.say("It is not running.")
        return 0
    if pid:
        screen.say("Stopping: requests under way are answered first")
        if not proc.stop(pid, signal.SIGTERM, 90):
            screen.warn("the supervisor did not end in time and was killed")
    supervisor.stop_orphans(cfg)
    screen.good("stopped; data stays in " + str(cfg.run))
    return 0


def status_rows(cfg):
    state = read_state(cfg) or {"processes": [], "bus": None, "phase": "stopped"}
    running = supervisor.alive(cfg) is not None
    ready = readiness(cfg) if running else {}
    rows = []
    for p in state["processes"]:
        pid = p["pid"] if p["pid"] and proc.is_alive(p["pid"]) else None
        word = p["state"] if running else "running" if pid else "stopped"
        up = proc.uptime_s(pid) if pid else None
        is_ready = ready.get(p["name"], (None, ""))
        if p["name"] == "postgres" and pid:
            is_ready = (database.is_ready(cfg), "")
        if p["name"] == "redis" and pid:
            is_ready = (redis.is_ready(cfg), "it does not answer")
        rows.append({
            "name": p["name"], "state": word, "pid": pid, "restarts": p["restarts"], "uptime_s": round(up, 1) if up is not None else None,
            "rss_mb": proc.rss_mb(pid) if pid else None, "ready": is_ready[0], "why": is_ready[1], "last_exit": p["last_exit"],
        })
    return running, state, rows


def human(seconds):
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.0f}s"


def status(cfg, args, screen):
    know_counters(cfg)
    running, state, rows = status_rows(cfg)
    screen.result({"running": running, "phase": state["phase"], "bus": state["bus"], "counters": state.get("counters"), "ports": cfg.ports, "run_dir": str(cfg.run), "processes": rows})
    all_ready = running and all(r["state"] == "running" and r["ready"] is not False for r in rows)
    if screen.as_json:
        return 0 if all_ready else 3
    if not running:
        left = [r["name"] for r in rows if r["pid"]]
        screen.say("It is not running." + (f" Left behind: {', '.join(left)}; ./crm stop ends them." if left else " ./crm start starts it."))
        return 3
    screen.say(f"{'process':<15}{'state':<12}{'pid':>8}{'restarts':>10}{'uptime':>9}{'rss MB':>9}  ready")
    for r in rows:
        ready = {True: "yes", False: "no: " + r["why"], None: "-"}[r["ready"]]
        line = f"{r['name']:<15}{r['state']:<12}{r['pid'] or '-':>8}{r['restarts']:>10}{human(r['uptime_s']):>9}{r['rss_mb'] or '-':>9}  {ready}"
        screen.say(line if r["state"] == "running" and r["ready"] is not False else screen.paint("33", line))
    screen.say(f"bus: {state['bus']}; limits counted in {state.get('counters')}; API http://localhost:{cfg.ports['API']} and :{cfg.ports['API2']}; run folder {cfg.run}")
    return 0 if all_ready else 3


def restart(cfg, args, screen):
    rows = {p["name"]: p for p in (read_state(cfg) or {"processes": []})["processes"]}
    if not supervisor.alive(cfg) or args.process not in rows or not rows[args.process]["pid"]:
        raise ConfigError(f"{args.process} is not running; there are: {', '.join(rows) or 'none'}")
    os.kill(rows[args.process]["pid"], signal.SIGINT if args.process == "postgres" else signal.SIGTERM)
    screen.good(f"{args.process} was told to end; the supervisor starts it again")
    return 0


def run_doctor(cfg, args, screen):
    if args.admin and not args.url:
        raise ConfigError("--admin goes with --url; without both it is this machine's installation")
    if args.url:
        rows = doctor_remote.examine(args.url, args.admin, args.token)
    else:
        know_counters(cfg)
        rows = doctor.examine(cfg, bus_in_use(cfg))
    bad = sum(r["result"] == doctor.BAD for r in rows)
    screen.result({"ok": bad == 0, "checks": rows})
    section = None
    for r in rows:
        if r["section"] != section:
            section = r["section"]
            screen.say(screen.paint("1", f"[{section}]"))
        mark = {doctor.OK: screen.paint("32", "ok  "), doctor.WARN: screen.paint("33", "warn"), doctor.BAD: screen.paint("31", "BAD ")}[r["result"]]
        screen.say(f"  {mark} {r['check']}" + (f": {r['why']}\n         fix: {r['fix']}" if "why" in r else ""))
    return 1 if bad else 0


def seed(cfg, args, screen):
    if not supervisor.alive(cfg):
        raise ConfigError("it is not running; ./crm start seeds by itself")
    try:
        made = demo.seed(cfg.ports["API"])
    except demo.SeedError as e:
        raise ConfigError(str(e)) from None
    (cfg.run / "seeded").write_text("demo\n")
    screen.good("the demo tenant was made" if made else "the demo tenant is there")
    screen.result({"made": made, "email": demo.EMAIL, "password": demo.PASSWORD})
    return 0


def reset(cfg, args, screen):
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError("this deletes all data; say --yes")
        if input(f"Delete all data in {cfg.run}? [y/N] ").strip().lower() != "y":
            return 1
    if cfg.run.exists():
        stop(cfg, args, screen)
        database.remove(cfg)
    for path in (cfg.kafka, cfg.redis, cfg.log, cfg.pids, cfg.secrets):
        shutil.rmtree(path, ignore_errors=True)
    for path in (cfg.state, cfg.run / "seeded", cfg.run / "supervisor.pid", cfg.checkpoints):
        path.unlink(missing_ok=True)
    screen.good("all data is gone; ./crm start makes a new installation")
    return 0


def show_logs(cfg, args, screen):
    return logs.show(cfg, args.process, args.follow, args.lines, screen.as_json)


def supervise(cfg, args, screen):
    return supervisor.Supervisor(cfg, args.bus).run()


def parser():
    p = argparse.ArgumentParser(prog="crm", description="Starts, watches and stops the product on this machine.", epilog="Ports and folders: docs/operations.md")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", choices=["text", "json"], default="text")
    sub = p.add_subparsers(dest="command", metavar="command")

    def command(name, what, run):
        c = sub.add_parser(name, parents=[common], help=what, description=what)
        c.set_defaults(run=run)
        return c

    c = command("start", "start everything and return when it is ready", start)
    c.add_argument("--bus", choices=["postgres", "kafka"])
    c.add_argument("--counters", choices=["memory", "redis"], help="where limits are counted")
    command("stop", "answer what is under way and stop; data stays", stop)
    command("status", "each process: state, restarts, memory, readiness", status)
    command("restart", "end one process; the supervisor starts it again", restart).add_argument("process")
    c = command("logs", "show logs, of all or of one process", show_logs)
    c.add_argument("process", nargs="?")
    c.add_argument("-f", "--follow", action="store_true")
    c.add_argument("-n", "--lines", type=int, default=20)
    c = command("doctor", "check what can be wrong and say how to mend it", run_doctor)
    c.add_argument("--url", metavar="http[s]://HOST[:PORT]", help="a stack that runs elsewhere, by its public address; it is only looked at")
    c.add_argument("--admin", metavar="URL", action="append", default=[], help="with --url: an admin port, of a port-forward for instance; may be given several times")
    c.add_argument("--token", metavar="TOKEN", help="with --url: read one route of each dialect with it; - asks for it; default: CRM_TOKEN")
    command("seed", "make the demo tenant", seed)
    c = command("audit", "check the audit log against its signed checkpoints, or dump it", audit.run)
    c.add_argument("action", choices=["verify", "dump", "public-key"])
    c.add_argument("--dump", metavar="FILE", help="verify: check this dump instead of the database; dump: where to")
    c.add_argument("--checkpoints", metavar="FILE", help="signed checkpoints; default: those of this installation")
    c.add_argument("--public-key", metavar="HEX", help="default: of this installation's signing key")
    c = command("keys", "the keys that sign access tokens: list, rotate", lambda cfg, a, s: keys.run(cfg, a, s, bus_in_use(cfg)))
    c.add_argument("action", choices=["list", "rotate"])
    c = command("events", "show events as they happen", lambda cfg, a, s: bus.tail(cfg, a, s, bus_in_use(cfg)))
    c.add_argument("action", choices=["tail"])
    c.add_argument("--tenant", metavar="ID")
    c.add_argument("--type", metavar="TYPE", help="customers.lead.created; * stands for any text")
    c.add_argument("--from", dest="since", metavar="TIME", help="begin there, at most 7 days back; default: now")
    c.add_argument("-n", "--lines", type=int, default=0, help="end after so many")
    c = command("dlq", "dead letters: list, show, redrive", lambda cfg, a, s: bus.dlq(cfg, a, s, bus_in_use(cfg)))
    c.add_argument("action", choices=["list", "show", "redrive"])
    c.add_argument("id", nargs="?", help="of the event; redrive also takes `all`")
    c = command("replay", "publish events of the last 7 days again: for a consumer that lacks some, or an emptied broker", lambda cfg, a, s: replay.run(cfg, a, s, bus_in_use(cfg)))
    c.add_argument("--from", dest="since", metavar="TIME|POSITION", required=True, help="2024-01-15T10:30:00Z, or service:xid/id of an outbox row")
    c.add_argument("--to", metavar="CONSUMER", required=True, help="audit or feed: waits until it has all; bus: an emptied broker")
    command("reset", "stop and delete all data", reset).add_argument("--yes", action="store_true")
    c = sub.add_parser("_supervise", parents=[common])
    c.add_argument("bus")
    c.set_defaults(run=supervise)
    return p


def locked(cfg, run):
    """One of start, stop and reset at a time."""
    cfg.run.mkdir(parents=True, exist_ok=True)
    with open(cfg.run / "lock", "w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("another ./crm start, stop or reset is at work") from None
        return run()


def main(argv):
    p = parser()
    if not argv or argv[0] == "help":
        p.print_help()
        return 0 if argv else 2
    args = p.parse_args(argv)
    screen = Screen(args.output == "json")
    try:
        cfg = Config()
        if args.command in ("start", "stop", "reset"):
            return locked(cfg, lambda: args.run(cfg, args, screen))
        return args.run(cfg, args, screen)
    except ConfigError as e:
        screen.bad(str(e))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
