"""./crm keys: the keys that sign access tokens, seen and rotated by an operator."""

import json
import subprocess

from . import database
from .config import ConfigError

LIST = """SELECT json_build_object('kid', kid, 'state', state, 'created', created_at, 'age_s', extract(epoch FROM now() - created_at)::int,
 'retired', retired_at, 'gone_in_s', extract(epoch FROM retired_at + interval '86700 seconds' - now())::int) FROM auth.signing_key ORDER BY created_at DESC"""


def listed(cfg):
    r = database.psql(cfg, "-c", LIST)
    if r.returncode:
        raise ConfigError("PostgreSQL refused: " + r.stdout.strip())
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def show(rows, screen):
    screen.result(rows)
    words = {"next": "published, does not sign yet", "current": "signs", "old": "verifies what it has signed"}
    for k in rows:
        more = f"; forgotten in {k['gone_in_s'] / 3600:.1f} h" if k["gone_in_s"] is not None else ""
        screen.say(f"{k['kid']}  {k['state']:<8} made {k['created'][:19]}  {words[k['state']]}{more}")
    return 0


def run(cfg, args, screen, bus):
    if not database.is_ready(cfg):
        raise ConfigError("PostgreSQL is not running: ./crm start")
    if args.action == "rotate":
        r = subprocess.run([str(cfg.bin / "svc-auth"), "rotate-keys"], env=cfg.environment("svc-auth", bus), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
        if r.returncode:
            raise ConfigError(r.stderr.strip().splitlines()[-1] if r.stderr.strip() else f"svc-auth rotate-keys ended with {r.returncode}")
        screen.good(r.stdout.strip())
    return show(listed(cfg), screen)
