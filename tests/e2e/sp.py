"""The hop by hand: NNG's REQ protocol on a plain socket, and envelopes that a test can sign, forge or age."""

import hashlib
import hmac
import os
import socket
import struct
import time

import faults

REQ, REP = 0x30, 0x31


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """One field of a message: text, bytes, a varint, or ("fixed64", n)."""
    if isinstance(value, tuple):
        return varint(number << 3 | 1) + struct.pack("<Q", value[1])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data):
    """[(number, value)] of a message; fixed-size fields as bytes."""
    out, at = [], 0

    def read():
        nonlocal at
        n = shift = 0
        while True:
            b = data[at]
            at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n
    while at < len(data):
        key = read()
        kind = key & 7
        if kind == 0:
            out.append((key >> 3, read()))
            continue
        n = read() if kind == 2 else 8 if kind == 1 else 4
        out.append((key >> 3, data[at:at + n]))
        at += n
    return out


def key():
    return bytes.fromhex((faults.run_dir() / "secrets/envelope.key").read_text().strip())


def call(rpc, payload=b"", principal=b"", deadline_s=5.0, call_id=0):
    """A Call of a CallBatch."""
    body = field(1, call_id) + field(2, rpc) + field(3, ("fixed64", int((time.time() + deadline_s) * 1e6)))
    if principal:
        body += field(4, principal)
    return field(1, body + field(15, payload))


def batch(*calls, client=None, sequence=1):
    client = client or int.from_bytes(os.urandom(8), "little") | 1
    return b"".join(calls) + field(2, ("fixed64", client)) + field(3, ("fixed64", sequence))


def sign(body, with_key=None):
    return hmac.new(with_key or key(), b"Q" + body, hashlib.sha256).digest() + body


class Connection:
    """As a REQ socket of NNG over TCP."""

    def __init__(self, port, protocol=REQ):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.s.settimeout(5)
        self.s.sendall(b"\x00SP\x00" + struct.pack(">HH", protocol, 0))
        self.greeting = self._read(8)
        self.request = 0x80000000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def _read(self, n):
        data = b""
        while len(data) < n:
            chunk = self.s.recv(n - len(data))
            if not chunk:
                raise ConnectionError("the peer closed")
            data += chunk
        return data

    def send(self, message):
        self.request += 1
        data = struct.pack(">I", self.request) + message
        self.s.sendall(struct.pack(">Q", len(data)) + data)

    def ask(self, message):
        """(MAC, ReplyBatch) of the answer."""
        self.send(message)
        n, = struct.unpack(">Q", self._read(8))
        data = self._read(n)
        assert data[:4] == struct.pack(">I", self.request)
        return data[4:36], data[36:]


def statuses(reply_batch):
    """The status code of each Reply; 0 is OK."""
    out = []
    for number, reply in fields(reply_batch):
        if number == 1:
            status = dict(fields(reply)).get(2)
            out.append(dict(fields(status)).get(1, 0) if status is not None else 0)
    return out
