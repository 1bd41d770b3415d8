"""The ledger: a subscriber outside every system under test, a process that writes all that arrives to a file.

    python ledger.py PORT FILE SESSION

Subscribes to everything (`#`, QoS 1) at the broker on loopback and appends a record per message: arrival in ns of
CLOCK_MONOTONIC, whether the broker had sent it before, topic, payload. With a SESSION that is not empty the broker
keeps for it what arrives while it is away. It decodes nothing, so it costs the machine little while a window runs.
Prints "ready" after the first SUBACK; comes back by itself, within 10 ms, when the broker was away. Ends when stdin
closes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEAD = struct.Struct("<Q?HI")
_SUBSCRIBE = b"\x82\x06\x00\x01\x00\x01#\x01"


class Record(NamedTuple):
    """One message: arrival in ms of CLOCK_MONOTONIC. `again`: the broker had sent it to the ledger before."""

    arrival: float
    topic: str
    payload: bytes
    again: bool = False


def records(file: Path, start: int = 0) -> Iterator[Record]:
    """All whole records of a ledger file, in order of arrival; `start` is where to begin, a sum of `length`."""
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read()
    at = 0
    while at + HEAD.size <= len(data):
        ns, again, topic, payload = HEAD.unpack_from(data, at)
        at += HEAD.size
        if at + topic + payload > len(data):
            return
        yield Record(ns / 1e6, data[at : at + topic].decode(), data[at + topic : at + topic + payload], again)
        at += topic + payload


def length(record: Record) -> int:
    """Bytes of the record in the file."""
    return HEAD.size + len(record.topic.encode()) + len(record.payload)


def _connect(session: str) -> bytes:
    """CONNECT of MQTT 3.1.1 with no keep-alive."""
    name = (session or "ledger").encode()
    body = b"\x00\x04MQTT\x04" + (b"\x00" if session else b"\x02") + b"\x00\x00" + len(name).to_bytes(2) + name
    return b"\x10" + bytes([len(body)]) + body


def _packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Takes whole MQTT packets out of the buffer: (first byte, body)."""
    at = 0
    while True:
        size, shift, head = 0, 0, at + 1
        while head < len(buffer):
            size |= (buffer[head] & 0x7F) << shift
            shift += 7
            head += 1
            if not buffer[head - 1] & 0x80:
                break
        else:
            break
        if head + size > len(buffer):
            break
        yield buffer[at], bytes(buffer[head : head + size])
        at = head + size
    del buffer[:at]


def _listen(s: socket.socket, session: str, out: int) -> bool:
    """Writes records until the broker goes (True) or stdin closes (False)."""
    buffer = bytearray()
    s.sendall(_connect(session))
    while True:
        if sys.stdin in select.select([s, sys.stdin], [], [])[0]:
            return False
        data = s.recv(262144)
        now = time.monotonic_ns()
        if not data:
            return True
        buffer += data
        written, acks = [], []
        for kind, body in _packets(buffer):
            if kind >> 4 == 2:
                s.sendall(_SUBSCRIBE)
            elif kind >> 4 == 9:
                print("ready", flush=True)
            elif kind >> 4 == 3:
                topic = 2 + int.from_bytes(body[:2], "big")
                start = topic
                if kind & 6:
                    start += 2
                    acks.append(b"\x40\x02" + body[topic:start])
                head = HEAD.pack(now, bool(kind & 8), topic - 2, len(body) - start)
                written += [head, body[2:topic], body[start:]]
        if acks:
            s.sendall(b"".join(acks))
        if written:
            os.write(out, b"".join(written))


def main() -> None:
    port, file, session = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    again = True
    while again and not select.select([sys.stdin], [], [], 0.01)[0]:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            again = _listen(s, session, out)


if __name__ == "__main__":
    main()
