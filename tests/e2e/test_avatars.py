"""Pictures of people: uploaded, checked by content, served harmlessly, replaced, deleted; memory stays bounded."""

import os
import pathlib
import re
import socket
import struct
import threading
import time
import zlib

import pytest
import requests

from conftest import AT_5000, BASE, wait_until
from test_people import Staff

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = pathlib.Path(os.environ.get("CRM_RUN_DIR") or ROOT / ".run")
BLOBS = RUN / "blobs"


def png(width=3, height=2, extra=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\1\2\3" * min(width, 100) for _ in range(min(height, 100)))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            (chunk(b"tEXt", b"k\0" + os.urandom(extra)) if extra else b"") + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def gif(width=3, height=2):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"


def jpeg(width=3, height=2, app=20):
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", app + 2) + b"J" * app + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3" + b"\1" * 9 + b"\xff\xd9"


def webp(width=3, height=2):
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3] + b"\0" * 8
    return b"RIFF" + struct.pack("<I", len(body)) + body


PICTURES = {"image/png": png(), "image/gif": gif(), "image/jpeg": jpeg(), "image/webp": webp()}


def upload(face, user, data, name="me.png", kind="image/png", part="avatar"):
    return face.post(f"/users/{user}/avatar", files={part: (name, data, kind)})


def url_of(face, user):
    return face.get(f"/users/{user}").json()["data"]["avatar"]


def fetch(face, url, **headers):
    return requests.get(url, headers={"Authorization": f"Bearer {face.token}", **headers}, timeout=20)


def own_id(tenant):
    return tenant.backend.get("/auth/profile").json()["data"]["id"]


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_comes_back_as_it_was_and_can_do_nothing(fresh, kind):
    me = own_id(fresh)
    r = upload(fresh.backend, me, PICTURES[kind], name='../../x";\r\n.svg', kind="text/html")
    assert r.status_code == 200, r.text
    url = r.json()["data"]["avatar"]
    assert url.startswith(f"{AT_5000}/v1/users/{me}/avatar?v=") and url_of(fresh.backend, me) == url
    r = fetch(fresh.backend, url)
    assert (r.status_code, r.content, r.headers["Content-Type"]) == (200, PICTURES[kind], kind)
    assert r.headers["X-Content-Type-Options"] == "nosniff"
    assert r.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert re.fullmatch(r'inline; filename="avatar\.(png|jpg|gif|webp)"', r.headers["Content-Disposition"])
    assert r.headers["Cache-Control"] == "private, no-cache"
    again = fetch(fresh.backend, url, **{"If-None-Match": r.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = requests.head(url, headers={"Authorization": f"Bearer {fresh.token}"}, timeout=20)
    assert (head.status_code, head.headers["ETag"]) == (200, r.headers["ETag"])


def test_every_face_shows_the_url(fresh):
    me = own_id(fresh)
    url = upload(fresh.backend, me, png()).json()["data"]["avatar"]
    assert fresh.backend.get("/auth/profile").json()["data"]["avatar"] == url
    assert [u["avatar"] for u in fresh.backend.get("/users").json()["data"] if u["id"] == me] == [url]
    # a client that sends the profile back changes nothing
    assert fresh.backend.put("/auth/profile", json={"name": "Ada", "avatar": url}).status_code == 200
    assert fetch(fresh.backend, url).status_code == 200


BAD = {
    "text": b"hello, world",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html behind a png's name": b"\x89PNG<html><script>alert(1)</script>",
    "png without a header chunk": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    "png of 0 pixels": png(0, 5),
    "png that is a bomb": png(30000, 30000),
    "png that is long": png(8193, 1),
    "png of too many pixels": png(5001, 5001),
    "gif that is a bomb": gif(65535, 65535),
    "jpeg that is a bomb": jpeg(65500, 65500),
    "webp that is a bomb": webp(1 << 24, 1 << 24),
    "jpeg without a frame": b"\xff\xd8\xff\xe0\0\x04JJ\xff\xd9" + b"\0" * 50,
    "jpeg whose segments lead nowhere": b"\xff\xd8\xff\xe0\xff\xff" + b"\0" * 50,
    "bmp": b"BM" + b"\0" * 60,
    "one byte": b"\xff",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_picture_is_refused_and_not_kept(tenant, what):
    me = own_id(tenant)
    r = upload(tenant.backend, me, BAD[what])
    assert r.status_code == 422, r.text
    assert "avatar" in r.text and url_of(tenant.backend, me) is None


def test_malformed_forms_are_4xx(tenant):
    me = own_id(tenant)
    path = f"/users/{me}/avatar"
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="avatar"; filename="x.png"\r\n\r\n'
    cases = [
        (dict(json={"avatar": "x"}), 415),
        (dict(data=b"", headers=form), 422),
        (dict(data=b"--b--\r\n", headers=form), 422),
        (dict(data=png(), headers={"Content-Type": "multipart/form-data"}), 415),
        (dict(data=part + png(), headers=form), 400),
        (dict(data=part + b"\r\n--b--\r\n", headers=form), 422),
        (dict(data=b"nonsense", headers=form), 400),
        (dict(data=part + png() + b"\r\n" + part + png() + b"\r\n--b--\r\n", headers=form), 422),
        (dict(files={"other": ("x.png", png(), "image/png")}), 422),
        (dict(data=b'--b\r\nContent-Disposition: form-data; name="avatar"\r\n\r\nno file\r\n--b--\r\n', headers=form), 422),
    ]
    for kw, status in cases:
        r = tenant.backend.post(path, **kw)
        assert r.status_code == status, (kw, r.status_code, r.text)
        assert r.json()["success"] is False
    assert tenant.backend.post("/users/nobody/avatar", files={"avatar": ("x.png", png(), "image/png")}).status_code in (404, 422)
    # a form for a route that takes none is refused, not read
    assert tenant.saas.post("/leads", files={"x": ("x", b"x" * 3000000, "text/plain")}).status_code == 415


def test_five_megabytes_are_the_limit(tenant):
    me = own_id(tenant)
    most = png(extra=(5 << 20) - len(png()) - 14)
    assert len(most) == 5 << 20
    r = upload(tenant.backend, me, most)
    assert r.status_code == 200, r.text
    assert fetch(tenant.backend, r.json()["data"]["avatar"]).content == most
    assert upload(tenant.backend, me, most + b"x").status_code == 413
    assert fetch(tenant.backend, url_of(tenant.backend, me)).content == most

    def pieces():  # chunked: its length is not known before
        yield b'--b\r\nContent-Disposition: form-data; name="avatar"; filename="x.png"\r\n\r\n' + png()
        for _ in range(60):
            yield b"x" * 100000
        yield b"\r\n--b--\r\n"

    try:
        r = tenant.backend.post(f"/users/{me}/avatar", data=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert r.status_code == 413
    except requests.ConnectionError:
        pass  # it went on writing after it was refused
    assert tenant.backend.delete(f"/users/{me}/avatar").status_code in (404, 405)
    assert tenant.native.delete(f"/users/{me}/avatar").status_code == 204


def test_own_or_with_permission_and_never_across_tenants(fresh, other, unique):
    agent, colleague = Staff(fresh, "agent", unique), Staff(fresh, "agent", "b" + unique)
    url = upload(agent.backend, agent.id, png()).json()["data"]["avatar"]
    assert upload(agent.backend, colleague.id, png()).status_code == 403
    assert upload(agent.backend, own_id(fresh), png()).status_code == 403
    assert agent.native.delete(f"/users/{colleague.id}/avatar").status_code == 403
    assert upload(fresh.backend, colleague.id, gif()).status_code == 200
    assert fetch(colleague.backend, url).content == png()
    assert fetch(other.backend, url).status_code == 404
    assert upload(other.backend, agent.id, png()).status_code == 404
    assert other.native.delete(f"/users/{agent.id}/avatar").status_code == 404
    assert requests.get(url, timeout=20).status_code == 401
    assert requests.post(BASE["backend"] + f"/users/{agent.id}/avatar", files={"avatar": ("x", png())}, timeout=20).status_code == 401
    assert fetch(agent.backend, url).content == png()


def blob_file(url):
    if not BLOBS.is_dir():
        pytest.skip("the stack's blobs are not in a folder here")
    return next(iter(BLOBS.glob(f"*/avatar/{url.rsplit('=', 1)[1]}")), None)


def test_the_old_blob_is_removed(fresh):
    me = own_id(fresh)
    first = upload(fresh.backend, me, png()).json()["data"]["avatar"]
    assert blob_file(first)
    second = upload(fresh.backend, me, gif()).json()["data"]["avatar"]
    assert second != first and blob_file(second)
    wait_until(lambda: not blob_file(first), 5)
    assert fresh.backend.put("/auth/profile", json={"name": "Ada", "avatar": "https://example.com/a.png"}).status_code == 200
    wait_until(lambda: not blob_file(second), 5)
    assert fetch(fresh.backend, second).status_code == 404
    third = upload(fresh.backend, me, webp()).json()["data"]["avatar"]
    assert fresh.native.delete(f"/users/{me}/avatar").status_code == 204
    wait_until(lambda: not blob_file(third), 5)
    assert url_of(fresh.backend, me) is None
    assert fresh.native.delete(f"/users/{me}/avatar").status_code == 404
    tenant_dir = blob_file(upload(fresh.backend, me, png()).json()["data"]["avatar"]).parent
    assert upload(fresh.backend, me, b"no picture").status_code == 422
    wait_until(lambda: len(list(tenant_dir.iterdir())) == 1, 5)


def test_it_is_in_the_audit_log(fresh):
    me = own_id(fresh)
    upload(fresh.backend, me, png())
    rows = wait_until(lambda: [e for e in fresh.backend.get("/audit/logs", params={"resource": "user"}).json()["data"] if "avatar" in str(e)], 10)
    assert rows


def gateway_memory():
    pids = [p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()]
    for p in pids:
        try:
            env = (p / "environ").read_bytes()
            if (p / "exe").resolve().name == "gateway" and (str(RUN / "blobs").encode() in env or str(RUN).encode() in env):
                return int(re.search(r"VmRSS:\s+(\d+)", (p / "status").read_text()).group(1)) * 1024
        except (OSError, AttributeError):
            continue
    pytest.skip("the gateway's process is not here")


def test_slow_uploads_hold_little_memory(tenant):
    """Twelve clients that send 4 MB each and stop before the end."""
    me = own_id(tenant)
    body = png(extra=4 << 20)
    before = gateway_memory()
    head = (f"POST /api/v1/users/{me}/avatar HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.token}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body) + 1000}\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="avatar"; filename="x.png"\r\n\r\n').encode()
    host, port = AT_5000.removeprefix("http://").split(":")
    socks = [socket.create_connection((host, int(port))) for _ in range(12)]
    threads = [threading.Thread(target=s.sendall, args=(head + body,)) for s in socks]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    time.sleep(0.5)
    more = gateway_memory() - before
    for s in socks:
        s.close()
    print(f"12 uploads of 4 MB under way: {more / 1e6:.1f} MB more in the gateway")
    if "asan" not in os.environ.get("CRM_VARIANT", ""):
        assert more < 16e6
    assert upload(tenant.backend, me, png()).status_code == 200  # those that were cut off hold nothing
