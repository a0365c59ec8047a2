"""What the kernel knows: processes, who holds a port, memory. And pid files that a recycled pid does not fool."""

import http.client
import os
import pathlib
import signal
import time
import urllib.parse

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat_fields(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def start_ticks(pid):
    """When pid was started, or None when it is not there (a zombie is not there)."""
    f = stat_fields(pid)
    return int(f[19]) if f and f[0] not in ("Z", "X") else None


def uptime_s(pid):
    ticks = start_ticks(pid)
    if ticks is None:
        return None
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - ticks / TICK


def rss_mb(pid):
    f = stat_fields(pid)
    return round(int(f[21]) * PAGE / 1e6, 1) if f else None


def write_pid(path, pid):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(f"{pid} {start_ticks(pid) or 0}\n")
    part.rename(path)


def read_pid(path):
    """The pid in a file of ours if that very process is still there."""
    try:
        pid, started = map(int, path.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if start_ticks(pid) == started else None


def is_alive(pid):
    return start_ticks(pid) is not None


def stop(pid, sig, seconds):
    """Sends sig and waits; kills after that. True when it went by itself."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return True
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


def listeners():
    """{port: inode} of every TCP listener of this machine."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = pathlib.Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            f = line.split()
            if f[3] == "0A":
                found[int(f[1].rsplit(":", 1)[1], 16)] = f[9]
    return found


def holder(inode):
    """(pid, command) of who has the socket open; None when that is not ours to see."""
    for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(fd) == f"socket:[{inode}]":
                pid = int(fd.parts[2])
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return pid, command[:100]
        except OSError:
            continue
    return None


def http_get(url, timeout=1.0):
    """(status, body) or (0, reason)."""
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
    try:
        c.request("GET", u.path or "/")
        r = c.getresponse()
        return r.status, r.read(65536).decode(errors="replace")
    except (OSError, http.client.HTTPException) as e:
        return 0, str(e)
    finally:
        c.close()
