"""The private PostgreSQL cluster: made once, reached over a socket in a folder of its own."""

import hashlib
import os
import pathlib
import pwd
import secrets
import shutil
import subprocess

from .config import PG_PORT, ROOT, ConfigError

SETTINGS = f"""
# Made by ./crm; include your own changes in conf.d/*.conf
listen_addresses = ''
port = {PG_PORT}
unix_socket_permissions = 0700
shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 64MB
max_connections = 200
wal_level = replica
max_wal_senders = 0
max_wal_size = 1GB
autovacuum_naptime = 15s
checkpoint_completion_target = 0.9
random_page_cost = 1.1
jit = off
log_min_duration_statement = 1000
log_line_prefix = '%m %u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
include_dir = 'conf.d'
"""
HBA = "local all all trust\n"


def account():
    """Whom PostgreSQL runs as, since it refuses root: (uid, gid) or None for ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        p = pwd.getpwnam("postgres")
    except KeyError:
        raise ConfigError("there is no user `postgres`: install postgresql-15 (deploy/local/install-deps run)") from None
    return p.pw_uid, p.pw_gid


def spawn_args():
    who = account()
    return {"user": who[0], "group": who[1], "extra_groups": []} if who else {}


def reachable(path):
    """Whether the account may walk to path: every folder above must let others pass."""
    who = account()
    if not who:
        return True
    for folder in path.resolve().parents:
        st = folder.stat()
        if not (st.st_mode & 0o001 or (st.st_uid == who[0] and st.st_mode & 0o100)):
            return False
    return True


def place(cfg, path, shared):
    """Makes an empty folder for the account; elsewhere, with a link from path, where the account cannot come to path."""
    who = account()
    if path.is_symlink() and not path.exists():
        path.unlink()
    if not path.exists():
        if reachable(path):
            path.mkdir(mode=0o700)
        else:
            real = shared / path.name
            real.mkdir(mode=0o700)
            path.symlink_to(real)
    real = path.resolve()
    if who:
        os.chown(real, *who)
    os.chmod(real, 0o700)


def make_folders(cfg):
    marker = cfg.run / "pg-home"
    shared = cfg.run
    if not reachable(cfg.run / "pg"):
        if marker.is_symlink() and marker.exists():
            shared = marker.resolve()
        else:
            marker.unlink(missing_ok=True)
            shared = pathlib.Path("/var/lib/crm-local") / secrets.token_hex(6)
            shared.mkdir(parents=True, mode=0o755)
            marker.symlink_to(shared)
    place(cfg, cfg.pg, shared)
    place(cfg, cfg.sock, shared)
    short = cfg.socket_dir()
    if short != cfg.sock:
        if short.is_symlink():
            short.unlink()
        short.symlink_to(cfg.sock.resolve())


def tool(cfg, name):
    path = cfg.pg_bin / name
    if not path.exists():
        raise ConfigError(f"{path} is missing: install postgresql-15 (deploy/local/install-deps run) or set PG_BIN")
    return str(path)


def run(argv, **kw):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def initialise(cfg):
    """initdb when there is no cluster yet. True when it was made now."""
    make_folders(cfg)
    if (cfg.pg / "PG_VERSION").exists():
        return False
    for stamp in ("bootstrap.sha256", "seeded"):
        (cfg.run / stamp).unlink(missing_ok=True)
    data = cfg.pg.resolve()
    for rest in data.iterdir():
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    r = run([tool(cfg, "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", str(data)], cwd="/", **spawn_args())
    if r.returncode:
        raise ConfigError("initdb failed:\n" + r.stdout)
    (data / "conf.d").mkdir()
    with open(data / "postgresql.conf", "a") as f:
        f.write(SETTINGS)
    (data / "pg_hba.conf").write_text(HBA)
    if account():
        os.chown(data / "conf.d", *account())
    return True


def command(cfg):
    sock = cfg.socket_dir() if cfg.socket_dir() != cfg.sock else cfg.sock.resolve()
    return [tool(cfg, "postgres"), "-D", str(cfg.pg.resolve()), "-k", str(sock)]


def is_ready(cfg):
    r = run([tool(cfg, "pg_isready"), "-q", "-h", str(cfg.socket_dir()), "-p", str(PG_PORT), "-U", "postgres", "-d", "postgres", "-t", "1"])
    return r.returncode == 0


def psql_argv(cfg, database="crm", user="postgres"):
    return [tool(cfg, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(cfg.socket_dir()), "-p", str(PG_PORT), "-U", user, "-d", database]


def psql(cfg, *args, database="crm", user="postgres"):
    return run([*psql_argv(cfg, database, user), *args])


def psql_script(cfg, script, *args):
    """Like psql, with the statements on standard input: only there are :'variables' replaced."""
    return subprocess.run([*psql_argv(cfg), *args], input=script + "\n;\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def bootstrap(cfg):
    """Roles, schemas and extensions; again only when the file has changed."""
    sql = ROOT / "deploy/sql/bootstrap.sql"
    stamp = cfg.run / "bootstrap.sha256"
    digest = hashlib.sha256(sql.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    r = psql(cfg, "-f", str(sql), database="postgres")
    if r.returncode:
        raise ConfigError("deploy/sql/bootstrap.sql failed:\n" + r.stdout)
    stamp.write_text(digest)


def remove(cfg):
    """Forgets the cluster and everything in it."""
    for path in (cfg.pg, cfg.sock):
        real = path.resolve()
        if real.exists():
            shutil.rmtree(real)
        path.unlink(missing_ok=True)
    home = cfg.run / "pg-home"
    if home.is_symlink():
        shutil.rmtree(home.resolve(), ignore_errors=True)
        home.unlink()
    if cfg.socket_dir() != cfg.sock:
        cfg.socket_dir().unlink(missing_ok=True)
    (cfg.run / "bootstrap.sha256").unlink(missing_ok=True)
