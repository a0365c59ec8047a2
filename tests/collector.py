#!/usr/bin/env python3
"""A collector of traces for tests: takes OTLP/HTTP JSON at /v1/traces and writes a line of JSON per span.

usage: tests/collector.py --port N [--host ADDRESS] [--out FILE]      (no --out: standard output)

What is not as OTLP wants it (docs/specification.md of opentelemetry-proto) is answered with 400 and counted at GET /stats. A line:
{"service", "trace", "span", "parent", "name", "kind", "start_ns", "end_ns", "error", "attributes": {…}, "links": […], "resource": {…}}
"""

import argparse
import http.server
import json
import re
import sys
import threading

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


def must(condition, what):
    if not condition:
        raise ValueError(what)


def attributes(rows):
    out = {}
    for row in rows:
        must(set(row) == {"key", "value"} and len(row["value"]) == 1, f"an attribute must have a key and one value: {row}")
        (kind, value), = row["value"].items()
        must(kind in ("stringValue", "intValue", "boolValue", "doubleValue"), f"{kind} is no kind of value")
        if kind == "intValue":
            must(isinstance(value, str) and re.fullmatch(r"-?\d+", value), "64-bit numbers are decimal strings")
            value = int(value)
        must(not isinstance(value, str) or kind == "stringValue", f"{kind} must not be a string")
        must(row["key"] not in out, f"{row['key']} stands there twice")
        out[row["key"]] = value
    return out


def an_id(text, digits, what):
    must(isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) and set(text) != {"0"}, f"{what} must be {digits} hex digits, not {text!r}")
    return text


def a_time(text, what):
    must(isinstance(text, str) and re.fullmatch(r"\d{16,20}", text), f"{what} must be nanoseconds as a decimal string")
    return int(text)


def read_span(span, resource):
    start, end = a_time(span["startTimeUnixNano"], "startTimeUnixNano"), a_time(span["endTimeUnixNano"], "endTimeUnixNano")
    must(start <= end, "a span ends before it begins")
    must(span["kind"] in KINDS, "kind must be a number from 1 to 5")
    must(span["name"], "a span must have a name")
    must(span.get("status", {}).get("code", 0) in (0, 1, 2), "status.code must be 0, 1 or 2")
    return {
        "service": resource["service.name"],
        "trace": an_id(span["traceId"], 32, "traceId"),
        "span": an_id(span["spanId"], 16, "spanId"),
        "parent": an_id(span["parentSpanId"], 16, "parentSpanId") if "parentSpanId" in span else None,
        "name": span["name"],
        "kind": KINDS[span["kind"]],
        "start_ns": start,
        "end_ns": end,
        "error": span.get("status", {}).get("code") == 2,
        "attributes": attributes(span.get("attributes", [])),
        "links": [{"trace": an_id(link["traceId"], 32, "traceId"), "span": an_id(link["spanId"], 16, "spanId")} for link in span.get("links", [])],
        "resource": resource,
    }


def read_request(body):
    spans = []
    for of_resource in json.loads(body)["resourceSpans"]:
        resource = attributes(of_resource["resource"]["attributes"])
        must("service.name" in resource, "a resource must say service.name")
        for of_scope in of_resource["scopeSpans"]:
            must(of_scope["scope"]["name"], "a scope must have a name")
            spans += [read_span(s, resource) for s in of_scope["spans"]]
    return spans


class Collector:
    """Takes spans until it is left; answer(spans) may say something else than 200: a status, or (status, headers, body)."""

    def __init__(self, port=0, host="127.0.0.1", out=None, keep=True):
        self.spans, self.errors, self.requests, self.headers, self.out, self.keep = [], [], 0, [], out, keep
        self.answer = lambda spans: 200
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body=b"{}", headers=None):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                with outer.lock:
                    self.reply(200, json.dumps({"requests": outer.requests, "errors": outer.errors[-20:]}).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, text = outer.take(self.path, dict(self.headers), body)
                self.reply(status, text, headers)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass  # a client that hangs up is no news

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}"

    def take(self, path, headers, body):
        with self.lock:
            self.requests += 1
            self.headers.append(headers)
        if path in ("/v1/metrics", "/v1/logs"):
            return 200, {}, b"{}"
        try:
            must(path == "/v1/traces", f"nothing is taken at {path}")
            must(headers.get("Content-Type") == "application/json", "Content-Type must be application/json")
            spans = read_request(body)
        except (ValueError, KeyError, TypeError) as e:
            with self.lock:
                self.errors.append(f"{type(e).__name__}: {e}")
            return 400, {}, json.dumps({"message": str(e)}).encode()
        answer = self.answer(spans)
        status, more, text = answer if isinstance(answer, tuple) else (answer, {}, b"{}")
        if status == 200:
            with self.lock:
                if self.keep:
                    self.spans += spans
                if self.out:
                    self.out.write("".join(json.dumps(s) + "\n" for s in spans))
                    self.out.flush()
        return status, more, text

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def of(self, trace):
        with self.lock:
            return [s for s in self.spans if s["trace"] == trace]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4318)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--out")
    args = parser.parse_args()
    with open(args.out, "a") if args.out else sys.stdout as out:
        c = Collector(args.port, args.host, out, keep=False)
        print(f"collector at {c.url}", file=sys.stderr, flush=True)
        try:
            c.server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
