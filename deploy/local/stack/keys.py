"""./crm keys: the keys that sign access tokens, seen and rotated by an operator. `svc-auth keys` does it; in a pod there is nothing else."""

import json
import subprocess

from . import database
from .config import ConfigError


def keys(cfg, bus, *args):
    """What `svc-auth keys` prints."""
    r = subprocess.run([str(cfg.bin / "svc-auth"), "keys", *args], env=cfg.environment("svc-auth", bus), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    if r.returncode:
        raise ConfigError(r.stderr.strip().splitlines()[-1] if r.stderr.strip() else f"svc-auth keys ended with {r.returncode}")
    return r.stdout.strip()


def run(cfg, args, screen, bus):
    if not database.is_ready(cfg):
        raise ConfigError("PostgreSQL is not running: ./crm start")
    if args.action == "rotate":
        screen.good(keys(cfg, bus, "rotate"))
    screen.result([json.loads(line) for line in keys(cfg, bus, "list", "-o", "json").splitlines()])
    screen.say(keys(cfg, bus, "list"))
    return 0
