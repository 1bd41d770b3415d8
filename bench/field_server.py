"""The field simulator where there is no C compiler: the same layout and behaviour as field.c, an order slower."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

from field import REGISTERS, expected

_counts: dict[int, int] = {}
_answers = 0
_first_ms = 0
_LIMITS = {3: REGISTERS, 4: 8}


def _registers(unit: int, start: int, count: int) -> bytes:
    global _answers, _first_ms  # noqa: PLW0603 - one simulator per process
    ms = time.monotonic_ns() // 1_000_000
    if start <= 2 and start + count >= 4:
        _counts[unit] = _counts.get(unit, 0) + 1
    n = _counts.get(unit, 0)
    _first_ms = _first_ms or ms
    _answers += 1
    values = expected(unit, n)
    floats, shorts = [values[f"f{k}"] for k in range(4)], [int(values[f"s{j}"]) for j in range(8)]
    return struct.pack(">II4f8h", ms & 0xFFFFFFFF, n, *floats, *shorts)


def answer(request: bytes) -> bytes:
    """The reply ADU to one request ADU."""
    transaction, _, _, unit, function, start, count = struct.unpack_from(">HHHBBHH", request)
    limit = _LIMITS.get(function, 0)
    if not count or start + count > limit:
        return struct.pack(">HHHBBB", transaction, 0, 3, unit, function | 0x80, 2 if limit else 1)
    held = _registers(unit, start, count) if function == 3 else struct.pack(">QQ", _answers, _first_ms)
    part = held[2 * start : 2 * (start + count)]
    return struct.pack(">HHHBBB", transaction, 0, 3 + len(part), unit, function, len(part)) + part


def _serve(buffer: bytearray) -> bytes:
    replies = []
    while len(buffer) >= 12:
        size = 6 + int.from_bytes(buffer[4:6], "big")
        if len(buffer) < size:
            break
        replies.append(answer(bytes(buffer[:size])))
        del buffer[:size]
    return b"".join(replies)


def main() -> None:
    poller = select.epoll()
    listeners, clients = {}, {}
    for _ in range(int(sys.argv[1])):
        s = socket.create_server(("127.0.0.1", 0))
        listeners[s.fileno()] = s
        poller.register(s, select.EPOLLIN)
    print("ports", *(s.getsockname()[1] for s in listeners.values()), flush=True)
    poller.register(sys.stdin, select.EPOLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == sys.stdin.fileno():
                return
            if fd in listeners:
                s, _ = listeners[fd].accept()
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[s.fileno()] = (s, bytearray())
                poller.register(s, select.EPOLLIN)
                continue
            s, buffer = clients[fd]
            try:
                data = s.recv(65536)
                buffer += data
                s.sendall(_serve(buffer))
            except OSError:
                data = b""
            if not data:
                poller.unregister(fd)
                clients.pop(fd)[0].close()


if __name__ == "__main__":
    main()
