"""./crm audit: the log's chains, checked against signed checkpoints that are outside the database."""

import subprocess

from . import database
from .config import ConfigError

# tab-separated, in the order of tenant and number; a cut stands before the entries behind it
DUMP = """COPY (SELECT kind, tenant_id, seq, hash, a, b FROM (
 SELECT 'cut' AS kind, tenant_id, seq, hash, signed_us::text AS a, signature AS b FROM (SELECT DISTINCT ON (tenant_id) * FROM audit.chain_cut ORDER BY tenant_id, seq DESC) c
 UNION ALL SELECT 'entry', tenant_id, seq, hash, previous_hash, encode(canonical, 'hex') FROM audit.entry) d ORDER BY tenant_id, seq) TO STDOUT"""


def program(cfg):
    return str(cfg.bin / "svc-audit")


def public_key(cfg):
    r = subprocess.run([program(cfg), "public-key", str(cfg.secrets / "audit-signing.key")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        raise ConfigError("the signing key cannot be read: " + r.stdout.strip())
    return r.stdout.strip()


def dump(cfg, path):
    """The whole log into a file that `verify --dump` checks anywhere."""
    with open(path, "wb") as f:
        r = subprocess.run(database.psql_argv(cfg) + ["-c", DUMP], stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.PIPE, text=True)
    if r.returncode:
        raise ConfigError("the log cannot be read: " + r.stderr.strip())


def run(cfg, args, screen):
    if args.action == "public-key":
        print(args.public_key or public_key(cfg))
        return 0
    if args.action == "dump":
        if not args.dump:
            raise ConfigError("./crm audit dump needs --dump FILE")
        dump(cfg, args.dump)
        screen.good(f"the log is in {args.dump}; check it with ./crm audit verify --dump {args.dump}")
        return 0
    argv = [program(cfg), "verify", "--public-key", args.public_key or public_key(cfg), "--checkpoints", args.checkpoints or str(cfg.checkpoints)]
    argv += ["--dump", args.dump] if args.dump else ["--database", cfg.database("postgres")]
    r = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    lines = r.stdout.splitlines()
    screen.result({"valid": r.returncode == 0, "lines": lines})
    for line in lines:
        screen.say(line)
    return r.returncode
