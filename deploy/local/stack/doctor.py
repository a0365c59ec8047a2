"""crm doctor: one line per thing that can be wrong, with what to do about it."""

import os
import shutil
import stat

from . import database, proc, redis, supervisor
from .config import ROOT, SERVICES

OK, WARN, BAD = "ok", "warn", "bad"


def check_ports(cfg, bus, running):
    held = proc.listeners()
    for name, port, what in cfg.used_ports(bus):
        if running:
            yield f"{port} {what}", OK if port in held else BAD, "nobody listens", f"./crm logs; is the process restarting? (./crm status)"
            continue
        who = proc.holder(held[port]) if port in held else None
        yield f"{port} {what}", BAD if port in held else OK, f"held by {who[1]} (pid {who[0]})" if who else "held by a process of another user", f"stop it, or set CRM_PORT_{name} or CRM_PORT_OFFSET in {cfg.run}/env"


def check_database(cfg, bus, running):
    yield "PostgreSQL programs", OK if (cfg.pg_bin / "postgres").exists() else BAD, f"{cfg.pg_bin} has none", "deploy/local/install-deps run"
    if not running:
        return
    up = database.is_ready(cfg)
    yield "answers on its socket", OK if up else BAD, f"{cfg.socket_dir()} is silent", f"./crm logs postgres"
    if not up:
        return
    r = database.psql(cfg, "-c", "SELECT count(*) * 100 / current_setting('max_connections')::int FROM pg_stat_activity")
    share = int(r.stdout.strip() or 0) if r.returncode == 0 else 100
    yield f"connections in use: {share} %", OK if share < 80 else WARN, "close to max_connections", f"raise max_connections in {cfg.pg}/conf.d/"
    r = database.psql(cfg, "-c", "SELECT count(*) FROM pg_roles WHERE rolname ~ '_(app|relay)$' AND (rolsuper OR rolbypassrls)")
    yield "service roles cannot bypass row-level security", OK if r.stdout.strip() == "0" else BAD, "one can", "delete .run/bootstrap.sha256 and start again"


def check_migrations(cfg, bus, running):
    if not running:
        return
    for service in SERVICES:
        status, body = proc.http_get(cfg.admin_url(f"svc-{service}") + "/readyz", 2)
        yield f"svc-{service} accepts its schema", OK if status == 200 else BAD, body.strip()[:160] or f"HTTP {status}", f"./crm logs svc-{service}; restart to migrate"


def check_bus(cfg, bus, running):
    if not running:
        return
    if bus == "kafka":
        yield "Kafka answers", OK if cfg.ports["KAFKA"] in proc.listeners() else BAD, "nobody listens", "./crm logs kafka"
        return
    r = database.psql(cfg, "-c", "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'bus'")
    yield "PostgreSQL log has its tables", OK if r.returncode == 0 and r.stdout.strip() not in ("", "0") else BAD, "schema bus is empty", "./crm logs svc-audit"


def check_counters(cfg, bus, running):
    if not running or cfg.counters != "redis":
        return
    yield "Redis answers", OK if redis.is_ready(cfg) else BAD, "it does not", "./crm logs redis; until it does, each process counts limits alone"
    for name in ("gateway", "svc-auth"):
        yield f"{name} counts limits in Redis", OK if redis.shared(cfg, name) else WARN, "it counts alone", f"./crm logs {name} (COUNTERS-AWAY says why)"


def check_disk(cfg, bus, running):
    cfg.run.mkdir(parents=True, exist_ok=True)
    use = shutil.disk_usage(cfg.run)
    free = use.free >> 20
    yield f"{free} MB free under {cfg.run}", OK if free > 1024 else WARN if free > 200 else BAD, "less than 1 GB", "make room; PostgreSQL stops when the disk is full"
    logs = sum(f.stat().st_size for f in cfg.log.glob("*")) >> 20 if cfg.log.exists() else 0
    yield f"logs: {logs} MB", OK if logs < 500 else WARN, "large", f"rm {cfg.log}/*.1"


def check_secrets(cfg, bus, running):
    if not cfg.secrets.exists():
        return
    for path in [cfg.secrets, *sorted(cfg.secrets.iterdir())]:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        yield f"{path.relative_to(cfg.run)} is for its owner only", OK if not mode & 0o077 else BAD, f"mode is {mode:04o}", f"chmod go-rwx {path}"


def newest(folder, pattern):
    return max((f.stat().st_mtime for f in folder.glob(pattern)), default=0)


def check_build(cfg, bus, running):
    for name in cfg.programs():
        yield f"{name} is built", OK if (cfg.bin / name).exists() else BAD, f"{cfg.bin / name} is missing", "make build"
    for what, source, pattern, made in (("descriptors", "proto", "*.proto", "descriptors"), ("dialects", "gateway/dialects", "*.textproto", "dialects")):
        fresh = 0 < newest(ROOT / source, pattern) <= newest(ROOT / "build/gen" / made, "*.pb")
        yield f"{what} are as new as {source}/", OK if fresh else WARN, "older than their source", "make build"
    yield "explorer for /docs", OK if (ROOT / "build/vendor/swagger-ui-dist/swagger-ui-bundle.js").exists() else WARN, "not fetched", "deploy/local/install-deps run"


SECTIONS = [
    ("Build", check_build), ("Ports", check_ports), ("Database", check_database), ("Migrations", check_migrations),
    ("Bus", check_bus), ("Counters", check_counters), ("Disk", check_disk), ("Secrets", check_secrets),
]


def examine(cfg, bus):
    """[{section, check, result, why, fix}]"""
    running = supervisor.alive(cfg) is not None
    rows = []
    for section, checks in SECTIONS:
        for check, result, why, fix in checks(cfg, bus, running):
            row = {"section": section, "check": check, "result": result}
            if result != OK:
                row.update(why=why, fix=fix)
            rows.append(row)
    return rows
