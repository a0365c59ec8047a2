#!/usr/bin/env python3
"""Constant load on a Service address: reads and writes through all dialects, over kept and over new connections.

usage: tests/k8s/load.py --host ADDRESS --out FOLDER [--threads N] [--pause S]

Runs until SIGTERM. FOLDER/journal.jsonl: a line per write, synced before it counts (tests/chaos/load.py); FOLDER/tries.jsonl: a line
per HTTP request with the time it began. Prints "ready" when all tenants are there.
"""

import argparse
import json
import pathlib
import queue
import signal
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

from load import Journal, Load, Worker  # noqa: E402


class Tries:
    """What became of each request, written by a thread of its own."""

    def __init__(self, path):
        self.lines = queue.SimpleQueue()
        self.file = open(path, "w", buffering=1, encoding="utf-8")
        threading.Thread(target=self._write, daemon=True).start()

    def __call__(self, method, path, status, began, error):
        self.lines.put({"at": began, "method": method, "path": path, "status": status, "error": error, "thread": threading.current_thread().name})

    def _write(self):
        while True:
            self.file.write(json.dumps(self.lines.get()) + "\n")


class Mixed(Worker):
    """Every second request is a read; every fifth begins with new connections."""

    def read(self):
        kind, ident, _ = self.random.choice(self.mine)
        path = self.path_of(kind, ident) if self.random.random() < 0.6 else kind[3]
        self.client(kind[1], "GET", path)

    def run(self):
        while not self.load.stop.is_set():
            if self.random.random() < 0.2:
                self.client.forget()
            x = self.random.random()
            if self.mine and x < 0.5:
                self.read()
            elif len(self.mine) > 5 and x < 0.55:
                self.delete()
            elif self.mine and x < 0.75:
                self.update()
            else:
                self.create()
            self.load.stop.wait(self.load.pause)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--host", required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--threads", type=int, default=10)
    p.add_argument("--pause", type=float, default=0.05, help="seconds between two requests of a thread")
    args = p.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    args.out.mkdir(parents=True, exist_ok=True)
    Load.worker = Mixed
    load = Load({"API": 5000, "API2": 8000}, Journal(args.out / "journal.jsonl"), 6, args.threads, args.pause, host=args.host, observe=Tries(args.out / "tries.jsonl"))
    load.start()
    print("ready", flush=True)
    stop.wait()
    hung = load.end()
    print(f"{load.journal.count} writes, {hung} threads never came back", flush=True)
    return 1 if hung else 0


sys.exit(main())
