"""crm logs: the last lines of the logs, and the new ones as they come."""

import json
import time

from .config import ConfigError


def pretty(line):
    """A JSON line of our programs as one line to read; anything else as it is."""
    try:
        d = json.loads(line)
        text = f"{d['timestamp'][11:23]} {d['level']:<5} {d['event']}: {d['msg']}"
    except (ValueError, KeyError, TypeError):
        return line
    ids = [f"{k.removesuffix('_id')}={d[k]}" for k in ("request_id", "tenant_id", "trace_id") if d.get(k)]
    return text + ("  " + " ".join(ids) if ids else "")


class Tail:
    def __init__(self, path, lines):
        self.path, self.name = path, path.stem
        self.at = 0
        self.rest = b""
        size = path.stat().st_size if path.exists() else 0
        self.at = max(0, size - 200 * max(lines, 1) * 2)
        self.first = lines

    def read(self):
        """New whole lines."""
        try:
            with open(self.path, "rb") as f:
                if f.seek(0, 2) < self.at:
                    self.at, self.rest = 0, b""
                f.seek(self.at)
                data = f.read(1 << 20)
                self.at = f.tell()
        except OSError:
            return []
        *whole, self.rest = (self.rest + data).split(b"\n")
        lines = [w.decode(errors="replace") for w in whole]
        if self.first is not None:
            lines, self.first = (lines[-self.first:] if self.first else []), None
        return lines


def show(cfg, process, follow, lines, raw):
    paths = sorted(cfg.log.glob("*.log")) if cfg.log.exists() else []
    if process:
        paths = [p for p in paths if p.stem in (process, f"svc-{process}")]
    if not paths:
        have = ", ".join(sorted(p.stem for p in cfg.log.glob("*.log"))) if cfg.log.exists() else ""
        raise ConfigError(f"no log of {process or 'anything'} in {cfg.log}" + (f"; there are: {have}" if have else ""))
    tails = [Tail(p, lines) for p in paths]
    wide = max(len(t.name) for t in tails)
    while True:
        for t in tails:
            for line in t.read():
                print(line if raw else f"{t.name:<{wide}}  {pretty(line)}", flush=follow)
        if not follow:
            return 0
        time.sleep(0.2)
