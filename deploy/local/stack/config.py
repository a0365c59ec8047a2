"""Where everything is and what each process is told: paths, ports, secrets and the environment of every program."""

import hashlib
import os
import pathlib
import secrets

ROOT = pathlib.Path(__file__).resolve().parents[3]
SERVICES = ["auth", "customers", "sales", "audit"]

# name, default, what it is for; CRM_PORT_<NAME> overrides, CRM_PORT_OFFSET shifts all
PORTS = [
    ("API", 5000, "gateway: backend, saas, system"),
    ("API2", 8000, "gateway: elevate, mvp"),
    ("ADMIN", 9100, "gateway: health and metrics"),
    ("AUTH", 7101, "svc-auth"),
    ("AUTH_ADMIN", 9101, "svc-auth: health and metrics"),
    ("CUSTOMERS", 7102, "svc-customers"),
    ("CUSTOMERS_ADMIN", 9102, "svc-customers: health and metrics"),
    ("AUDIT", 7103, "svc-audit"),
    ("AUDIT_ADMIN", 9103, "svc-audit: health and metrics"),
    ("SALES", 7104, "svc-sales"),
    ("SALES_ADMIN", 9104, "svc-sales: health and metrics"),
    ("KAFKA", 19092, "Kafka broker (only with --bus kafka)"),
    ("REDIS", 16379, "Redis (only with --counters redis)"),
]
# PostgreSQL listens on a socket in a private folder only, so this is no port of the machine's
PG_PORT = 55432
# what the user may set from outside, with our defaults; everything else in the table below is ours
OPEN_SETTINGS = {"LOG_FORMAT": "json", "LOG_LEVEL": "info", "RATE_LIMIT_SCALE": "1"}

FILE_SETTINGS = {"COUNTERS_URL", "MAIL_URL"}  # may be given as <NAME>_FILE instead


class ConfigError(Exception):
    """Something that the user has to change; the text says what and how."""


def read_env_file(path):
    """NAME=value lines; what the real environment says wins."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, eq, value = line.partition("=")
        if not eq or not name.strip().replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"{path}:{number}: expected NAME=value")
        os.environ.setdefault(name.strip(), value.strip().strip("\"'"))


def number(name, fallback):
    text = os.environ.get(name, "")
    if not text:
        return fallback
    if not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"{name}={text}: expected a number up to 65535")
    return int(text)


class Config:
    def __init__(self):
        self.run = pathlib.Path(os.environ.get("CRM_RUN_DIR") or ROOT / ".run").absolute()
        read_env_file(self.run / "env")
        offset = number("CRM_PORT_OFFSET", 0)
        self.ports = {name: number(f"CRM_PORT_{name}", default + offset) for name, default, _ in PORTS}
        for name, port in self.ports.items():
            if not 0 < port < 65535:
                raise ConfigError(f"port {name} would be {port}: choose another CRM_PORT_{name} or CRM_PORT_OFFSET")
        self.variant = os.environ.get("CRM_VARIANT", "release")
        self.bin = pathlib.Path(os.environ.get("CRM_BIN_DIR") or ROOT / "build" / self.variant / "bin")
        self.log = self.run / "log"
        self.pids = self.run / "pid"
        self.state = self.run / "state.json"
        self.pg = self.run / "pg"
        self.sock = self.run / "sock"
        self.kafka = self.run / "kafka"
        self.secrets = self.run / "secrets"
        self.checkpoints = self.run / "audit-checkpoints.jsonl"
        self.redis = self.run / "redis"
        self.counters = os.environ.get("CRM_COUNTERS") or "memory"
        if self.counters not in ("memory", "redis"):
            raise ConfigError(f"CRM_COUNTERS={self.counters}: there are memory and redis")
        self.pg_bin = pathlib.Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))

    def programs(self):
        return [f"svc-{s}" for s in SERVICES] + ["gateway"]

    def admin_url(self, name):
        port = self.ports["ADMIN"] if name == "gateway" else self.ports[name.removeprefix("svc-").upper() + "_ADMIN"]
        return f"http://127.0.0.1:{port}"

    def used_ports(self, bus):
        for name, _, what in PORTS:
            if (name != "KAFKA" or bus == "kafka") and (name != "REDIS" or self.counters == "redis"):
                yield name, self.ports[name], what

    def socket_dir(self):
        """The folder of PostgreSQL's socket as clients see it; socket paths have room for 107 bytes only."""
        if len(str(self.sock)) + len(f"/.s.PGSQL.{PG_PORT}.lock") < 107:
            return self.sock
        return pathlib.Path("/tmp") / ("crm-sock-" + hashlib.sha256(str(self.run).encode()).hexdigest()[:12])

    def database(self, role):
        return f"host={self.socket_dir()} port={PG_PORT} dbname=crm user={role}"

    def bus_url(self, bus):
        return f"kafka://127.0.0.1:{self.ports['KAFKA']}" if bus == "kafka" else self.database("bus_app")

    def counters_url(self):
        """What a user set wins: a Redis of their own needs none of ours."""
        if os.environ.get("COUNTERS_URL"):
            return os.environ["COUNTERS_URL"]
        if self.counters == "memory":
            return "memory:"
        return f"redis://:{(self.secrets / 'redis.password').read_text().strip()}@127.0.0.1:{self.ports['REDIS']}/0"

    def make_secrets(self):
        """Keys of this installation, made once. Readable by their owner only."""
        self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("envelope.key", "key-encryption.key", "audit-signing.key", "audit-master.key", "redis.password"):
            path = self.secrets / name
            if path.exists():
                continue
            part = path.with_suffix(".part")
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
                f.write(secrets.token_hex(32) + "\n")
                f.flush()
                os.fsync(f.fileno())
            part.rename(path)

    def environment(self, name, bus):
        table = self._gateway() if name == "gateway" else self._service(name.removeprefix("svc-"), bus)
        for setting, fallback in OPEN_SETTINGS.items():
            table[setting] = os.environ.get(setting, fallback)
        if name in ("gateway", "svc-auth"):
            table["COUNTERS_URL"] = self.counters_url()
        table["ENVELOPE_KEY_FILE"] = str(self.secrets / "envelope.key")
        table["DESCRIPTOR_DIR"] = str(ROOT / "build/gen/descriptors")
        if self.variant == "asan":
            table["ASAN_OPTIONS"] = f"log_path={self.log}/sanitizer.{name}:exitcode=99"
            table["UBSAN_OPTIONS"] = "print_stacktrace=1"
        for setting in list(table):
            # a secret may be in a file: the user's wins over what is open to them, ours over the rest
            if os.environ.get(setting + "_FILE") and setting + "_FILE" not in table:
                table[setting if setting in FILE_SETTINGS else setting + "_FILE"] = ""
        return {**os.environ, **table}

    def _service(self, service, bus):
        upper = service.upper()
        table = {
            "DATABASE_URL": self.database(f"{service}_app"),
            "OWNER_DATABASE_URL": self.database(f"{service}_owner"),
            "RELAY_DATABASE_URL": self.database(f"{service}_relay"),
            "LISTEN_URL": f"tcp://127.0.0.1:{self.ports[upper]}",
            "ADMIN_LISTEN": f"127.0.0.1:{self.ports[upper + '_ADMIN']}",
            "BUS_URL": self.bus_url(bus),
            "SCHEMA_DIR": str(ROOT / f"svc-{service}" / "schema"),
            "COMMON_SCHEMA_DIR": str(ROOT / "lib/db/schema"),
            "DIALECT_DIR": str(ROOT / "build/gen/fragments" / service),
        }
        if service in ("auth", "audit"):
            table["MAIL_URL"] = os.environ.get("MAIL_URL") or f"folder:{self.run / 'outbox'}"
            table["MAIL_TEMPLATE_DIR"] = str(ROOT / f"svc-{service}/mail")
        if service in ("auth", "customers", "sales"):
            table["BLOB_URL"] = os.environ.get("BLOB_URL") or f"file:{self.run / 'blobs'}"
        if service == "auth":
            table["KEY_ENCRYPTION_KEY_FILE"] = str(self.secrets / "key-encryption.key")
            table["COMMON_PASSWORDS_FILE"] = str(ROOT / "svc-auth/passwords/common.txt")
        if service == "audit":
            table["BUS_OWNER_DATABASE_URL"] = self.database("bus_owner")
            table["BUS_SCHEMA_DIR"] = str(ROOT / "lib/events/schema/bus")
            table["AUDIT_SIGNING_KEY_FILE"] = str(self.secrets / "audit-signing.key")
            table["SERVICES"] = " ".join(f"{s}=tcp://127.0.0.1:{self.ports[s.upper()]}" for s in SERVICES if s != "audit")
            table["AUDIT_MASTER_KEY_FILE"] = str(self.secrets / "audit-master.key")
            table["AUDIT_CHECKPOINT_FILE"] = str(self.checkpoints)
        return table

    def _gateway(self):
        p = self.ports
        return {
            "LISTEN": f"127.0.0.1:{p['API']}=backend,saas,system 127.0.0.1:{p['API2']}=elevate,mvp",
            "SERVICES": " ".join(f"{s}=tcp://127.0.0.1:{p[s.upper()]}" for s in SERVICES),
            "ADMIN_LISTEN": f"127.0.0.1:{p['ADMIN']}",
            "BLOB_URL": os.environ.get("BLOB_URL") or f"file:{self.run / 'blobs'}",
            "EXPORT_DIR": str(self.run),
            "DIALECT_DIR": str(ROOT / "build/gen/dialects"),
            "DOCS_DIR": str(ROOT / "build/vendor/swagger-ui-dist"),
        }
