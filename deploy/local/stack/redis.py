"""The private Redis of `./crm start --counters redis`: on loopback, with a password, in memory only."""

import os
import shutil
import socket

from . import proc
from .config import ConfigError


def command(cfg):
    """What it knows is worth a window of a few minutes at most, so nothing is written to disk."""
    program = shutil.which("redis-server")
    if not program:
        raise ConfigError("redis-server is missing: COUNTERS=redis deploy/local/install-deps run")
    cfg.redis.mkdir(parents=True, exist_ok=True)
    conf = cfg.redis / "redis.conf"
    lines = [
        "bind 127.0.0.1", f"port {cfg.ports['REDIS']}", f"dir {cfg.redis}", 'save ""', "appendonly no", "maxmemory 64mb", "maxmemory-policy volatile-ttl",
        f"requirepass {(cfg.secrets / 'redis.password').read_text().strip()}",
    ]
    with os.fdopen(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write("\n".join(lines) + "\n")
    return [program, str(conf)]


def is_ready(cfg):
    """It takes the password and answers."""
    password = (cfg.secrets / "redis.password").read_text().strip()
    try:
        with socket.create_connection(("127.0.0.1", cfg.ports["REDIS"]), 1) as s:
            s.settimeout(1)
            s.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                piece = s.recv(100)
                if not piece:
                    return False
                answer += piece
            return answer.startswith(b"+OK\r\n+PONG")
    except OSError:
        return False


def shared(cfg, name):
    """Does this program count in Redis now? None: it cannot be asked."""
    status, body = proc.http_get(cfg.admin_url(name) + "/metrics", 2)
    rows = [line.split() for line in body.splitlines() if line.startswith("crm_counters_shared ")]
    return rows[0][1] == "1" if status == 200 and rows else None
