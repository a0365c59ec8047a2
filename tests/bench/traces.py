"""What a recorded trace costs: the same requests in turn, not recorded and recorded, by the flag that the client sends; CPU per request.

Two stacks with a collector: with TRACE_SQL_COMMENT, where a traced statement is parsed and planned anew, and without. The rate is one that
the collector, which is Python and not counted, keeps up with; what was dropped all the same is said.
"""

import pathlib
import re
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATES = {"get": 600, "post": 100}
SLICES = 3
TRACE = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920%04x-%s"


def with_flag(path, flag):
    out = pathlib.Path(f"{path}-{flag}")
    with open(out, "w") as f:
        for n, line in enumerate(pathlib.Path(path).read_text().splitlines()):
            fields = line.split("\t")
            f.write("\t".join(fields + [""] * (6 - len(fields)) + [TRACE % (n % 65536, flag)]) + "\n")
    return str(out)


def counted(name, offset):
    """Of all programs."""
    total = 0
    for port in (9100, 9101, 9102, 9103, 9104):
        with urllib.request.urlopen(f"http://127.0.0.1:{port + offset}/metrics", timeout=5) as r:
            total += sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", r.read().decode(), re.M))
    return round(total)


def compare(stack, bench, gateway, files, seconds, rate):
    cpu, n = {"00": 0.0, "01": 0.0}, {"00": 0, "01": 0}
    p50 = {"00": [], "01": []}
    for _ in range(SLICES):
        for flag in ("00", "01"):
            before = stack.cpu()
            r = bench("pace", gateway, 32, max(2, seconds // SLICES), files[flag], rate)
            time.sleep(1)  # what follows a write belongs to it
            cpu[flag] += sum(v - before.get(k, 0) for k, v in stack.cpu().items())
            n[flag] += r["requests"]
            p50[flag].append(r["p50_ms"])
            if r["errors"]:
                sys.exit(f"traces: {r['first_error']}")
    us = {flag: cpu[flag] * 1e6 / max(1, n[flag]) for flag in cpu}
    return {"cpu_us": round(us["00"], 1), "traced_cpu_us": round(us["01"], 1), "ratio": round(us["01"] / us["00"], 3), "p50_ms": round(sorted(p50["00"])[1], 2),
            "traced_p50_ms": round(sorted(p50["01"])[1], 2)}


def measure(Stack, env, seed, workloads, bench, gateway, args, say):
    offset, result = int(env["CRM_PORT_OFFSET"]), {}
    collector = subprocess.Popen([sys.executable, str(ROOT / "tests/collector.py"), "--port", str(4318 + offset), "--out", "/dev/null"], stderr=subprocess.DEVNULL)
    try:
        for comment in ("true", "false"):
            env.update(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{4318 + offset}", OTEL_BSP_SCHEDULE_DELAY="200", TRACE_SQL_COMMENT=comment, OTEL_TRACES_SAMPLER="parentbased_always_off")
            stack = Stack()
            try:
                _, http = workloads(seed(stack, args.rows), args.rows, False)
                for name, rate in RATES.items():
                    row = compare(stack, bench, gateway, {flag: with_flag(http[name], flag) for flag in ("00", "01")}, args.seconds, rate)
                    result[f"{name}, {'with' if comment == 'true' else 'without'} comment"] = row
                    say(f"  traces  {name} {'with' if comment == 'true' else 'without'} SQL comment: {row['cpu_us']:.0f} µs of CPU not recorded, {row['traced_cpu_us']:.0f} µs recorded: "
                        f"× {row['ratio']:.2f}; p50 {row['p50_ms']:.2f} and {row['traced_p50_ms']:.2f} ms")
                say(f"  traces  spans {counted('crm_trace_spans_total', offset)}, dropped {counted('crm_trace_dropped_total', offset)}")
            finally:
                stack.stop()
    finally:
        collector.kill()
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_BSP_SCHEDULE_DELAY", "TRACE_SQL_COMMENT", "OTEL_TRACES_SAMPLER"):
            env.pop(name, None)
    return result


